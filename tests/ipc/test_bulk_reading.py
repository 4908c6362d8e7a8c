"""Reading many batches at once accepts nothing that reading them one by one does not."""

from __future__ import annotations

import decimal
import random
from typing import Any

import flatbuffers
import numpy as np
import pyarrow as pa
import pytest
from tests.folding import folded
from tests.ipc.conftest import ARRAYS, lies_inside, messages_of, numbers, stream_of

from fletching import ipc
from fletching.errors import MalformedFrameError, WireError
from fletching.ipc import bulk_reading, lowlevel
from fletching.ipc.bulk_reading import MIN_MESSAGES, read_in_bulk
from fletching.ipc.encoding import encode_record_batch_metadata, frame_metadata
from fletching.ipc.limits import DEFAULT_LIMITS

ROWS = 37


@pytest.fixture(autouse=True)
def few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams of a few messages are damaged here at every place: reading them in bulk is what is tested."""
    monkeypatch.setattr(bulk_reading, "MIN_MESSAGES", 4)


def many(array: pa.Array, count: int = 6) -> list[pa.RecordBatch]:
    """Batches of one length, as a writer makes them that cuts a table."""
    return [pa.record_batch({"n": np.arange(len(array)) + i, "x": array}) for i in range(count)]


def arrays() -> dict[str, pa.Array]:
    index = range(ROWS)
    with_nulls = [i if i % 3 else None for i in index]
    texts = [f"text {i}" if i % 5 else "" for i in index]
    return {
        "int": pa.array(index, pa.int32()),
        "nulls": pa.array(with_nulls, pa.int16()),
        "text": pa.array(texts),
        "text with nulls": pa.array([t or None for t in texts]),
        "text not ASCII": pa.array([t + "é€" for t in texts]),
        "binary": pa.array([bytes([i, 200]) for i in index]),
        "view": pa.array([t * 3 for t in texts], pa.string_view()),
        "dictionary": pa.array(texts).dictionary_encode(),
        "dictionary with nulls": pa.array([t or None for t in texts]).dictionary_encode(),
        "dictionary by bytes": pa.DictionaryArray.from_arrays(
            pa.array([i % 3 for i in index], pa.uint8()), ["a", "b", "c"]
        ),
        "list of decimals": pa.array(
            [[decimal.Decimal(i)] * (i % 4) for i in index], pa.list_(pa.decimal128(10, 2))
        ),
        "list of texts": pa.array([[f"{i}"] * 2 for i in index]),
        "list of nulls": pa.array([[None, i] for i in index], pa.list_(pa.int8())),
        "struct": pa.array([{"a": i, "b": f"{i}", "c": {"d": i}} for i in index]),
        "dates": pa.array(index, pa.int64()).cast(pa.timestamp("ms")).cast(pa.date64()),
        "bool": pa.array([i % 2 == 0 for i in index]),
        "large text": pa.array(texts, pa.large_string()),
        "run ends": pa.RunEndEncodedArray.from_arrays(pa.array([20, ROWS], pa.int32()), ["r", "s"]),
        "uuid": pa.ExtensionArray.from_storage(
            pa.uuid(), pa.array([bytes([i]) * 16 for i in index], pa.binary(16))
        ),
    }


STREAMS = {name: stream_of(many(array)) for name, array in arrays().items()}
STREAMS |= {f"all {n}": stream_of(many(a)) for n, a in ARRAYS.items() if "union" not in n}


def in_bulk(data: bytes, limits: ipc.Limits = DEFAULT_LIMITS, **options: Any) -> Any:
    schema = next(ipc.messages(data, limits=limits))
    decoder = lowlevel.BatchDecoder(schema, limits=limits, **options)
    return read_in_bulk(memoryview(data), 0, decoder, limits)


def one_by_one(data: bytes, **options: Any) -> tuple[list[pa.RecordBatch], int | None]:
    reader = ipc.read_stream_at(data, lazy=True, **options)
    return list(reader), reader.end


@folded("name", STREAMS)
@folded("option", [None, "validate_values", "trusted"])
def test_both_ways_read_the_same(name: str, option: str | None) -> None:
    data = STREAMS[name]
    options: dict[str, Any] = {} if option is None else {option: True}
    result = in_bulk(data, **options)
    assert result is not None
    expected, end = one_by_one(data, **options)
    assert result[0] == expected
    assert result[1] == end == len(data)
    for batch, other in zip(result[0], expected, strict=True):
        assert batch.schema.equals(other.schema, check_metadata=True)
    assert list(ipc.read_stream(data, **options)) == expected


def test_batches_borrow_from_the_data() -> None:
    for name in ("int", "text", "struct", "list of decimals"):
        batches, _ = in_bulk(STREAMS[name])
        assert all(lies_inside(column, STREAMS[name]) for b in batches for column in b.columns)


@pytest.mark.parametrize("name", [n for n in STREAMS if not n.startswith("all")])
def test_damage_is_judged_alike(name: str) -> None:
    chance = random.Random(name)
    intact = STREAMS[name]
    schema_end = messages_of(intact)[0].end
    accepted = 0
    for _ in range(60):
        data = bytearray(intact)
        for _ in range(chance.choice([1, 1, 2])):
            position = chance.randrange(schema_end, len(data))
            data[position] = chance.choice([0, 1, 2, 7, 127, 128, 255, data[position] ^ 1])
        damaged = bytes(data)
        result, expected = in_bulk(damaged), outcome(damaged, lazy=True)
        assert outcome(damaged, lazy=False) == expected
        if result is not None:
            accepted += 1
            assert result == expected
    assert accepted


@pytest.mark.parametrize("ours", [False, True])
def test_no_byte_of_metadata_is_overlooked(ours: bool) -> None:
    intact = alike(STREAMS["nulls"]) if ours else STREAMS["nulls"]
    message = messages_of(intact)[4]
    start = message.offset + message.prefix_length
    for position in range(start, start + len(message.metadata)):
        data = bytearray(intact)
        data[position] ^= 1
        result = in_bulk(bytes(data))
        assert result is None or result == outcome(bytes(data), lazy=True)


def outcome(data: bytes, *, lazy: bool) -> tuple[list[pa.RecordBatch], int | None] | str:
    """Batches and end, or the error in words."""
    try:
        if lazy:
            return one_by_one(data)
        batches, end = ipc.read_stream_at(data)
    except WireError as error:
        return f"{type(error).__name__}: {error}"
    return list(batches), end


def with_numbers(data: bytes, number: int, **changes: int) -> bytes:
    """The stream in which one message's metadata says something else."""
    schema, *rest = messages_of(data)
    frames = [bytes(chunk) for chunk in schema.frame()]
    for index, message in enumerate(rest):
        if index != number:
            frames += [bytes(chunk) for chunk in message.frame()]
            continue
        header = message.record_batch()
        nodes, buffers = header.nodes.copy(), header.buffers.copy()
        length = changes.get("length", header.length)
        for name, value in changes.items():
            if name != "length":
                table, row, column = name.split("_")
                (nodes if table == "node" else buffers)[int(row), int(column)] = value
        metadata = encode_record_batch_metadata(length, nodes, buffers, message.body_length)
        frames += [frame_metadata(metadata), bytes(message.body)]
    return b"".join([*frames, lowlevel.END_OF_STREAM])


def with_numbers_first(data: bytes, *, other: int = -1) -> bytes:
    """The stream with metadata whose lengths stand right before the place of what they belong to.

    Each message has a second table, which counts one null too many: that of message ``other`` is the one in use.
    """
    schema, *rest = messages_of(data)
    frames = [bytes(chunk) for chunk in schema.frame()]
    for number, message in enumerate(rest):
        header = message.record_batch()
        builder = flatbuffers.Builder(1024)
        tables = []
        for nodes in (header.nodes, header.nodes + np.array([0, 1])):
            vectors = []
            for rows in (nodes, header.buffers):
                builder.StartVector(16, len(rows), 8)
                for first, second in reversed(rows.tolist()):
                    builder.Prep(8, 16)
                    builder.PrependInt64(second)
                    builder.PrependInt64(first)
                vectors.append(builder.EndVector())
            # What is added last stands first.
            builder.StartObject(3)
            builder.PrependUOffsetTRelativeSlot(1, vectors[0], 0)
            builder.PrependUOffsetTRelativeSlot(2, vectors[1], 0)
            builder.PrependInt64Slot(0, header.length, 0)
            tables.append(builder.EndObject())
        builder.Prep(8, 0)
        builder.StartObject(4)
        builder.PrependUint8Slot(1, 3, 0)
        builder.PrependInt16Slot(0, 4, 0)
        builder.PrependUOffsetTRelativeSlot(2, tables[number == other], 0)
        builder.PrependInt64Slot(3, message.body_length, 0)
        builder.Finish(builder.EndObject())
        frames += [frame_metadata(bytes(builder.Output())), bytes(message.body)]
    return b"".join([*frames, lowlevel.END_OF_STREAM])


def test_a_message_that_differs_in_one_byte_is_of_no_known_kind() -> None:
    intact, odd = (with_numbers_first(STREAMS["nulls"], other=number) for number in (-1, 4))
    assert in_bulk(intact) == outcome(intact, lazy=True)
    message = messages_of(intact)[5]
    differ = [position for position in range(len(intact)) if intact[position] != odd[position]]
    length_at = odd.index(message.body_length.to_bytes(8, "little"), message.offset)
    assert differ == [length_at + 8]
    assert in_bulk(odd) is None
    assert isinstance(outcome(odd, lazy=False), str)


def alike(data: bytes) -> bytes:
    """The stream with all metadata in the layout of ours, so that all are of one kind."""
    for number in range(len(messages_of(data)) - 1):
        data = with_numbers(data, number)
    return data


@pytest.mark.parametrize(
    "changes",
    [
        {"length": ROWS - 1},
        {"length": -1},
        {"node_0_0": ROWS + 1},
        {"node_1_0": 0},
        {"node_1_1": -1},
        {"node_1_1": ROWS + 1},
        {"node_1_1": 11},  # one null less than there are
        {"buffer_1_1": 8 * ROWS - 1},
        {"buffer_1_0": -8},
        {"buffer_1_1": -1},
        {"buffer_1_1": 1 << 62},
        {"buffer_1_0": 1 << 62},
        {"buffer_3_0": 8},
        {"buffer_3_1": 2 * ROWS - 1},
    ],
)
def test_each_number_of_each_message_is_checked(changes: dict[str, int]) -> None:
    data = alike(STREAMS["nulls"])
    assert in_bulk(data) is not None
    for number in (1, 5):
        damaged = with_numbers(data, number, **changes)
        assert in_bulk(damaged) is None
        with pytest.raises(WireError) as caught:
            ipc.read_stream(damaged)
        message = messages_of(data)[number + 1]
        assert message.offset <= (caught.value.offset or 0) < message.end


def broken(name: str, position: int, values: bytes, number: int = 3) -> bytes:
    """The stream with other bytes in one buffer of one batch."""
    data = bytearray(STREAMS[name])
    batches = [m for m in messages_of(STREAMS[name]) if m.type is lowlevel.MessageType.RECORD_BATCH]
    message = batches[number]
    start = message.offset + message.metadata_length
    start += int(message.record_batch().buffers[position, 0])
    data[start : start + len(values)] = values
    return bytes(data)


MINUS = b"\xff\xff\xff\xff"
FAR = b"\x00\x00\x00\x7f"


@pytest.mark.parametrize(
    ("name", "position", "values"),
    [
        ("text", 3, MINUS),
        ("text", 3, b"\x05\0\0\0\x04\0\0\0"),
        ("text", 3, bytes(4 * ROWS) + FAR),
        ("text", 4, b"\xff\xfe"),
        ("text not ASCII", 3, MINUS),
        ("binary", 3, bytes(4 * ROWS) + FAR),
        ("list of decimals", 3, bytes(4 * ROWS) + FAR),
        ("list of decimals", 3, MINUS),
        ("dictionary", 3, FAR),
        ("dictionary", 3, MINUS),
        ("dictionary by bytes", 3, b"\x03"),
        ("dictionary by bytes", 3, b"\xff"),
        ("struct", 5, MINUS),
        ("text with nulls", 2, b"\xff"),
        ("nulls", 2, b"\xff"),
        ("view", 3, MINUS),
    ],
)
def test_contents_are_validated(name: str, position: int, values: bytes) -> None:
    data = broken(name, position, values)
    assert in_bulk(data) is None
    with pytest.raises(WireError):
        ipc.read_stream(data)
    assert in_bulk(data, trusted=True) is not None


def test_what_is_not_ordinary_takes_the_other_way() -> None:
    few = stream_of(many(pa.array(range(5)), 3))
    assert in_bulk(few) is None
    assert len(ipc.read_stream(few)) == 3
    for options in ({"compression": "zstd"}, {"use_legacy_format": True}):
        data = stream_of(many(pa.array(range(1000))), **options)
        assert in_bulk(data) is None
        assert len(ipc.read_stream(data)) == 6
    assert in_bulk(STREAMS["int"], require_zero_copy=True) is None
    union = stream_of(many(ARRAYS["dense_union"]))
    assert in_bulk(union) is None
    assert list(ipc.read_stream(union)) == many(ARRAYS["dense_union"])


def test_batches_of_many_lengths() -> None:
    batches = [numbers(rows) for rows in (5, 0, 3, 3, 1, 200, 3)]
    result = in_bulk(stream_of(batches))
    assert result is None or result[0] == batches
    assert list(ipc.read_stream(stream_of(batches))) == batches


def test_replaced_and_growing_dictionaries() -> None:
    def tagged(values: list[str], index: int) -> pa.RecordBatch:
        return pa.record_batch({"d": pa.DictionaryArray.from_arrays(pa.array([index]), values)})

    growing = [tagged(list("abcdef")[: i + 1], i) for i in range(6)]
    replaced = [tagged([chr(97 + i)], 0) for i in range(6)]
    for batches in (growing, replaced):
        for deltas in (False, True):
            data = stream_of(batches, emit_dictionary_deltas=deltas)
            assert list(ipc.read_stream(data)) == batches


def test_a_dictionary_behind_the_last_batch_is_looked_at() -> None:
    data = STREAMS["dictionary"]
    *_, dictionary = (m for m in messages_of(data) if m.type.name == "DICTIONARY_BATCH")
    chunk = b"".join(bytes(part) for part in dictionary.frame())
    assert in_bulk(data[:-8] + chunk) is not None
    # Of text in it that is not UTF-8 nobody would hear if only those were decoded that batches follow.
    broken = bytearray(chunk)
    broken[broken.rindex(b"text")] = 0xFF
    for end in (b"", data[-8:]):
        assert in_bulk(data[:-8] + bytes(broken) + end) is None
        with pytest.raises(WireError):
            ipc.read_stream(data[:-8] + bytes(broken) + end)


def test_short_streams_are_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_reading, "MIN_MESSAGES", MIN_MESSAGES)
    for count, expected in ((MIN_MESSAGES - 1, False), (MIN_MESSAGES + 1, True)):
        for array in (pa.array(range(5)), pa.array(["a", "b"]).dictionary_encode()):
            batches = many(array, count)
            data = stream_of(batches)
            assert (in_bulk(data) is not None) is expected
            assert list(ipc.read_stream(data)) == batches


def test_limits_hold() -> None:
    data = STREAMS["list of decimals"]
    longest = 54
    assert in_bulk(data, ipc.Limits(max_rows=longest)) is not None
    assert in_bulk(data, ipc.Limits(max_rows=longest - 1)) is None
    metadata = max(len(m.metadata) for m in messages_of(data))
    assert in_bulk(data, ipc.Limits(max_metadata_bytes=metadata)) is not None
    with pytest.raises(WireError):
        ipc.read_stream(data, limits=ipc.Limits(max_metadata_bytes=metadata - 1))


@pytest.mark.parametrize("cut", [1, 4, 8, 9, 16, 100, 300])
def test_ends_are_exact(cut: int) -> None:
    data = STREAMS["text"]
    result = in_bulk(data + b"behind")
    assert result is not None
    assert result[1] == len(data)
    with pytest.raises(MalformedFrameError, match="6 bytes follow"):
        ipc.read_stream(data + b"behind")
    without_marker = data[:-8]
    assert in_bulk(without_marker)[1] == len(without_marker)
    if cut != 8:
        assert in_bulk(data[:-cut]) is None
        with pytest.raises(WireError):
            ipc.read_stream(data[:-cut])


@pytest.mark.parametrize("odd", [None, 0, 1, 2, 3, 5, 128, 257, 258, 259, 260, 770, 771, 799])
def test_runs_of_messages_of_one_length(odd: int | None) -> None:
    """One of another length stands anywhere in a run, or a run ends with the data or inside a message."""
    batches = [numbers(200 if position == odd else 3) for position in range(800)]
    data = stream_of(batches)
    assert in_bulk(data) == (batches, len(data))
    for cut in (9, 16, 400):
        assert in_bulk(data[:-cut]) is None
        with pytest.raises(WireError):
            ipc.read_stream(data[:-cut])


def test_runs_that_are_short_by_chance() -> None:
    batches = [
        numbers(3 + 8 * ((position // run) % 2)) for run in (3, 4, 7, 2) for position in range(40)
    ]
    data = stream_of(batches)
    assert in_bulk(data) == (batches, len(data))
