"""Bodies: verbatim storage, projection, conversion, dictionaries, partitions, and hostile ones."""

from __future__ import annotations

import concurrent.futures
import io
import struct
import threading
from typing import Any

import nanoarrow
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from fletching import ipc
from fletching.engine.writing.ingest_body import Body
from fletching.engine.writing.segment_writer import CRC32C_KEY
from fletching.errors import (
    ConflictError,
    FletchingError,
    InvalidArgumentError,
    InvalidDataError,
    LimitExceededError,
    MalformedFrameError,
    SchemaModifiedError,
    StorageError,
    TruncatedStreamError,
    UsageError,
    WireError,
)
from fletching.ipc import lowlevel
from fletching.ipc.limits import Limits
from fletching.objects.local import LocalStore
from fletching.protocol.messages.admin import AddColumns, ListPartitions
from fletching.protocol.messages.requests import WriteTable

SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string())])


def rows(count: int, start: int = 0) -> Any:
    values = range(start, start + count)
    return pa.record_batch(
        [pa.array(values, pa.int64()), pa.array([f"n{v}" if v % 3 else None for v in values])],
        schema=SCHEMA,
    )


def stage(house: Any, body: bytes, partition: str = "", **options: Any) -> Any:
    session = house.session(partition)
    house.stream(session)
    result = house.send(body, session, **options)
    house.close(session)
    house.commit(session)
    return result


def objects(house: Any) -> list[bytes]:
    store = house.engine.context.store
    return [
        bytes(store.open(info.key).read(0, info.length))
        for info in sorted(store.list("tables"), key=lambda info: info.key)
    ]


def same(house: Any, expected: Any) -> None:
    got = house.read()
    assert got.schema.names == expected.schema.names
    assert got.to_pylist() == expected.to_pylist()


# --- verbatim ---


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_the_messages_are_stored_byte_for_byte(house: Any, compression: str | None) -> None:
    house.create(SCHEMA)
    body = house.stream_bytes([rows(100), rows(50, 100)], SCHEMA, compression=compression)
    stage(house, body)
    (data,) = objects(house)
    sent = [m for m in ipc.messages(body) if m.type is lowlevel.MessageType.RECORD_BATCH]
    assert len(sent) == 2
    for message in sent:
        assert b"".join(map(bytes, message.frame())) in data
    segment = visible(house)[0]
    assert segment.codecs == (compression or "")
    index = np.frombuffer(segment.batch_index, "<i8").reshape(-1, 4).tolist()
    for (offset, metadata, length, count), message in zip(index, sent, strict=True):
        assert data[offset : offset + metadata + length] == b"".join(map(bytes, message.frame()))
        assert count == message.record_batch().length


def visible(house: Any) -> list[Any]:
    from fletching.catalog.segment_rows import visible_segments

    info = house.describe()
    with house.engine.context.database.read() as connection:
        return visible_segments(connection, info.table_id, info.version)


def test_a_segment_is_a_plain_arrow_file_to_everybody(house: Any) -> None:
    house.create(SCHEMA)
    table = pa.Table.from_batches([rows(10), rows(5, 10)])
    house.append(table)
    (data,) = objects(house)
    assert pa.ipc.open_file(data).read_all().equals(table)
    assert (
        pl.read_ipc(io.BytesIO(data), use_pyarrow=False).to_arrow().to_pylist() == table.to_pylist()
    )
    stream = nanoarrow.ArrayStream.from_readable(io.BytesIO(data[8:]))
    assert pa.table(stream).to_pylist() == table.to_pylist()


def test_the_footer_proves_every_message(house: Any) -> None:
    from crc32c import crc32c

    house.create(SCHEMA)
    house.append([rows(10), rows(5, 10)])
    (data,) = objects(house)
    footer = ipc.open_file(data).custom_metadata
    marks = footer[CRC32C_KEY].decode()
    messages = list(ipc.messages(data))
    assert len(marks) == 8 * len(messages) == 24
    for number, message in enumerate(messages):
        value = 0
        for piece in message.frame():
            value = crc32c(piece, value)
        assert marks[8 * number : 8 * number + 8] == f"{value:08x}"
    assert visible(house)[0].crc32c == crc32c(data)


def test_names_match_whatever_their_case_and_the_table_keeps_its_own(house: Any) -> None:
    house.create(SCHEMA)
    house.append(rows(3).rename_columns(["ID", "Name"]))
    same(house, pa.Table.from_batches([rows(3)]))
    assert house.read().schema.names == ["id", "name"]


def test_empty_batches_are_dropped_and_an_empty_body_makes_no_segment(house: Any) -> None:
    house.create(SCHEMA)
    house.append([rows(0), rows(2), rows(0)])
    assert [m.type.label for m in ipc.messages(objects(house)[0])] == ["schema", "record batch"]
    result = stage(house, house.stream_bytes([rows(0)], SCHEMA))
    assert result.rows == 0
    assert stage(house, house.stream_bytes([], SCHEMA)).rows == 0
    assert len(objects(house)) == 1


def test_several_writes_append_in_order(house: Any) -> None:
    house.create(SCHEMA)
    session = house.session()
    house.stream(session)
    for number in range(3):
        house.write(rows(2, 2 * number), session)
    house.close(session)
    house.commit(session)
    assert house.read()["id"].to_pylist() == list(range(6))


def test_the_count_is_advice(house: Any) -> None:
    house.create(SCHEMA)
    session = house.session()
    house.stream(session)
    assert house.write(rows(4), session, count=4).warning_message == ""
    assert house.write(rows(4), session, count=0).warning_message == ""
    result = house.write(rows(4), session, count=3)
    assert "3" in result.warning_message
    assert result.rows == 4


# --- projection ---


def test_columns_in_another_order_are_moved_without_decoding(house: Any) -> None:
    house.create(SCHEMA)
    batch = rows(64)
    body = house.stream_bytes(
        [batch.select(["name", "id"])],
        pa.schema([SCHEMA.field(1), SCHEMA.field(0)]),
        compression="zstd",
    )
    stage(house, body)
    (data,) = objects(house)
    message = next(m for m in ipc.messages(body) if m.type is lowlevel.MessageType.RECORD_BATCH)
    for number in range(5):
        assert bytes(message.buffer(number)) in data
    same(house, pa.Table.from_batches([batch]))


@pytest.mark.parametrize("compression", [None, "lz4"])
def test_a_batch_of_one_partition_loses_its_partition_column_only(
    house: Any, compression: str | None
) -> None:
    house.create(SCHEMA, ["pt"])
    batch = rows(64).append_column("pt", pa.array(["a"] * 64))
    body = house.stream_bytes([batch], batch.schema, compression=compression)
    stage(house, body)
    (data,) = objects(house)
    message = next(m for m in ipc.messages(body) if m.type is lowlevel.MessageType.RECORD_BATCH)
    for number in range(5):
        assert bytes(message.buffer(number)) in data
    assert visible(house)[0].codecs == (compression or "")
    assert house.read().to_pylist() == batch.to_pylist()


def test_rows_find_their_partitions(house: Any) -> None:
    house.create(SCHEMA, ["pt", "hh"])
    generator = np.random.default_rng(7)
    table = pa.table({
        "id": pa.array(range(5000), pa.int64()),
        "name": [str(v) for v in range(5000)],
        "pt": generator.choice(["x", "y", "z w"], 5000),
        "hh": pa.array(generator.choice(["1", "2"], 5000)).dictionary_encode(),
    })  # fmt: skip
    house.append(pa.Table.from_batches(table.to_batches(max_chunksize=333)))
    page = house.engine.call(ListPartitions(table=house.table))
    assert {item.partition.values for item in page.partitions} == {
        (p, h) for p in ("x", "y", "z w") for h in "12"
    }
    assert sum(item.rows for item in page.partitions) == 5000
    got = house.read().to_pylist()
    assert sorted(got, key=lambda row: row["id"]) == table.to_pylist()
    for partition in page.partitions:
        values = [row["id"] for row in got if (row["pt"], row["hh"]) == partition.partition.values]
        assert values == sorted(values)  # the order of rows within a partition is that of the body
    # small pieces were put together
    assert sum(len(s.batch_index) // 32 for s in visible(house)) == 6


def test_integer_partitions_have_one_spelling(house: Any) -> None:
    from fletching.protocol.messages.admin import CreateTable

    house.engine.call(
        CreateTable(
            table=house.table,
            arrow_schema=lowlevel.encode_schema(SCHEMA),
            partition_columns=(("day", "bigint"),),
        )
    )
    house.append(rows(1), "day=007")
    house.append(rows(1, 1).append_column("day", pa.array([7], pa.int32())))
    page = house.engine.call(ListPartitions(table=house.table))
    assert [(str(item.partition), item.rows) for item in page.partitions] == [("day=7", 2)]


@pytest.mark.parametrize(
    "values", [[None, "a"], ["", "a"], ["a\nb", "a"], ["x" * 1025, "a"], ["'\"", "a"]]
)
def test_bad_partition_values_are_refused(house: Any, values: list[Any]) -> None:
    house.create(SCHEMA, ["pt"])
    session = house.session()
    house.stream(session)
    with pytest.raises(InvalidArgumentError, match="pt"):
        house.write(rows(2).append_column("pt", pa.array(values)), session)
    assert house.object_keys() == set()


def test_too_many_partitions(open_house: Any) -> None:
    house = open_house(max_write_partitions=3)
    house.create(SCHEMA, ["pt"])
    session = house.session()
    house.stream(session)
    with pytest.raises(LimitExceededError):
        house.write(rows(4).append_column("pt", pa.array(list("abcd"))), session)
    assert house.object_keys() == set()


# --- conversion ---


def test_a_missing_nullable_column_is_null(house: Any) -> None:
    house.create(SCHEMA)
    house.append(pa.table({"id": pa.array([1], pa.int64())}))
    assert house.read().to_pylist() == [{"id": 1, "name": None}]


def test_encodings_and_widths_are_converted(house: Any) -> None:
    house.create(SCHEMA)
    house.append(
        pa.table(
            {
                "name": pa.array(["a", None, "a"]).dictionary_encode(),
                "id": pa.array([1, 2, 3], pa.int8()),
            }
        )
    )
    house.append(
        pa.table({"id": pa.array([4], pa.uint64()), "name": pa.array(["é"], pa.large_string())})
    )
    house.append(
        pa.table({"id": pa.array([None], pa.null()), "name": pa.array(["v"], pa.string_view())})
    )
    assert house.read().to_pydict() == {
        "id": [1, 2, 3, 4, None],
        "name": ["a", None, "a", "é", "v"],
    }


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"id": pa.array(["1"]), "name": pa.array(["a"])}, "'id' is string"),
        ({"id": pa.array([1.5]), "name": pa.array(["a"])}, "'id' is double"),
        ({"id": pa.array([1]), "name": pa.array(["a"]), "x": pa.array([1])}, "x"),
        ({"id": pa.array([2**63], pa.uint64()), "name": pa.array(["a"])}, "id"),
        ({"id": pa.array([1]), "ID": pa.array([1]), "name": pa.array(["a"])}, "two columns named"),
    ],
)
def test_what_cannot_be_converted_is_refused_in_words(house: Any, columns: Any, match: str) -> None:
    house.create(SCHEMA)
    session = house.session()
    house.stream(session)
    with pytest.raises(InvalidArgumentError, match=match):
        house.write(
            pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns)), session
        )
    assert house.object_keys() == set()


def test_not_null_columns_stay_so(house: Any) -> None:
    house.create(pa.schema([pa.field("id", pa.int64(), nullable=False), ("name", pa.string())]))
    house.append(rows(3))
    session = house.session()
    house.stream(session)
    with pytest.raises(InvalidArgumentError, match="'id' has null"):
        house.write(pa.table({"id": pa.array([1, None], pa.int64()), "name": ["a", "b"]}), session)
    with pytest.raises(InvalidArgumentError, match="'id', which is not nullable"):
        house.write(pa.table({"name": ["a", "b"]}), session)


def test_not_null_holds_inside_of_columns(house: Any) -> None:
    """Whatever way the batch takes: as it is, moved, or converted."""
    must = pa.field("m", pa.int64(), nullable=False)
    house.create(pa.schema([("s", pa.struct([must])), ("l", pa.list_(must)), ("n", pa.int8())]))
    session = house.session()
    house.stream(session)
    structs = {
        "m": pa.StructArray.from_arrays([pa.array([1, None])], names=["m"]),
        "M": pa.StructArray.from_arrays([pa.array([1, None], pa.int32())], names=["M"]),
    }
    lists = pa.array([[1], [None]], pa.list_(pa.int64()))
    small = pa.array([1, 2], pa.int8())
    none = pa.nulls(2)
    for columns in (
        {"s": structs["m"], "l": none.cast(lists.type), "n": small},
        {"n": small, "l": none.cast(lists.type), "s": structs["m"]},
        {"s": structs["M"], "n": small},
        {"l": lists, "n": pa.array([1, 2])},
    ):
        with pytest.raises(InvalidArgumentError, match=r"'(s\.m|l\.element)' has null"):
            house.write(pa.table(columns), session)
    assert house.object_keys() == set()


def test_a_schema_that_moved_on(house: Any) -> None:
    house.create(SCHEMA)
    house.append(rows(1))
    added = pa.schema([("extra", pa.float64())])
    info = house.engine.call(
        AddColumns(table=house.table, arrow_schema=lowlevel.encode_schema(added))
    )
    assert info.schema_version == 2
    session = house.session()
    stream = house.stream(session)
    assert stream.schema_version == 2
    house.write(rows(1, 1), session, schema_version=1)  # still fits: the new column is null
    wrong = pa.table({"id": pa.array([1]), "extra": ["text"]})
    with pytest.raises(SchemaModifiedError) as caught:
        house.write(wrong, session, schema_version=1)
    assert caught.value.latest_schema_version == 2
    with pytest.raises(InvalidArgumentError):
        house.write(wrong, session, schema_version=2)
    house.close(session)
    house.commit(session)
    assert house.read().to_pydict() == {"id": [0, 1], "name": [None, "n1"], "extra": [None, None]}


# --- dictionaries ---


def dictionary_schema(index: Any = None) -> Any:
    return pa.schema(
        [("word", pa.dictionary(index or pa.int32(), pa.string())), ("id", pa.int64())]
    )


def words(values: list[Any], dictionary: list[str], start: int = 0) -> Any:
    positions = pa.array([None if v is None else dictionary.index(v) for v in values], pa.int32())
    return pa.record_batch(
        [
            pa.DictionaryArray.from_arrays(positions, pa.array(dictionary)),
            pa.array(range(start, start + len(values)), pa.int64()),
        ],
        schema=dictionary_schema(),
    )


def test_a_dictionary_is_stored_as_it_is_and_a_replaced_one_begins_a_segment(house: Any) -> None:
    house.create(dictionary_schema())
    batches = [
        words(["a", "b", None], ["a", "b"]),
        words(["b"], ["a", "b"], 3),
        words(["z"], ["z"], 4),
    ]
    house.append(batches)
    segments = visible(house)
    assert [s.rows for s in segments] == [4, 1]
    assert [len(s.dictionary_index) // 32 for s in segments] == [1, 1]
    same(house, pa.Table.from_batches(batches).unify_dictionaries())
    for data in objects(house):
        pa.ipc.open_file(data).read_all().validate(full=True)


def test_deltas_stay_in_their_segment(house: Any) -> None:
    house.create(dictionary_schema())
    batches = [words(["a"], ["a"]), words(["b", "a"], ["a", "b"], 1)]
    body = house.stream_bytes(batches, dictionary_schema(), emit_dictionary_deltas=True)
    assert [m.type.label for m in ipc.messages(body)].count("dictionary batch") == 2
    stage(house, body)
    assert [len(s.dictionary_index) // 32 for s in visible(house)] == [2]
    assert house.read()["word"].to_pylist() == ["a", "b", "a"]


def test_dictionaries_reach_every_partition(house: Any) -> None:
    house.create(dictionary_schema(), ["pt"])
    schema = pa.schema([*dictionary_schema(), ("pt", pa.string())])

    def part(batch: Any, name: Any) -> Any:
        names = [name] * batch.num_rows if isinstance(name, str) else name
        return pa.RecordBatch.from_arrays([*batch.columns, pa.array(names)], schema=schema)

    ab = ["a", "b"]
    batches = [
        part(words(["a"], ab), "x"),
        part(words(["b"], ab, 1), "y"),
        part(words(["a", "b", None], ab, 2), ["x", "y", "x"]),
        part(words(["q"], ["q"], 5), "x"),
        part(words(["a"], ab, 6), "y"),
    ]
    house.append(batches)
    got = sorted(house.read().to_pylist(), key=lambda row: row["id"])
    assert [(row["word"], row["pt"]) for row in got] == [
        ("a", "x"), ("b", "y"), ("a", "x"), ("b", "y"), (None, "x"), ("q", "x"), ("a", "y"),
    ]  # fmt: skip


def test_plain_values_are_encoded_for_a_dictionary_column(house: Any) -> None:
    house.create(dictionary_schema())
    house.append(pa.table({"word": ["a", None, "b", "a"], "id": pa.array(range(4), pa.int64())}))
    assert house.read()["word"].to_pylist() == ["a", None, "b", "a"]


def test_foreign_dictionary_ids_are_encoded_again(house: Any) -> None:
    schema = pa.schema(
        [("a", pa.dictionary(pa.int8(), pa.string())), ("b", pa.dictionary(pa.int8(), pa.string()))]
    )
    house.create(schema)
    batch = pa.record_batch(
        [
            pa.array(["x", "y"]).dictionary_encode().cast(schema.field(0).type),
            pa.array(["p", "q"]).dictionary_encode().cast(schema.field(1).type),
        ],
        schema=schema,
    )
    swapped = batch.select([1, 0])
    house.append(pa.Table.from_batches([swapped]))  # ids follow the order of the body's columns
    assert house.read().to_pylist() == batch.to_pylist()
    for data in objects(house):
        assert pa.ipc.open_file(data).read_all().to_pylist() == batch.to_pylist()


# --- hostile and broken bodies ---


def refuse(house: Any, body: bytes, kind: type[FletchingError] = WireError) -> FletchingError:
    session = house.session()
    house.stream(session)
    with pytest.raises(kind) as caught:
        house.send(body, session)
    assert house.object_keys() == set()
    store = house.engine.context.store
    if isinstance(store, LocalStore):
        assert list((store.root / ".staging").glob("*/[0-9]*")) == []
    return caught.value


def test_a_body_cut_anywhere_is_refused(house: Any) -> None:
    house.create(SCHEMA)
    body = house.stream_bytes([rows(3), rows(2)], SCHEMA)
    session = house.session()
    house.stream(session)
    for end in range(len(body)):
        with pytest.raises(WireError):
            house.send(body[:end], session)
    assert house.object_keys() == set()
    house.send(body, session)


def test_an_empty_body(house: Any) -> None:
    house.create(SCHEMA)
    refuse(house, b"", TruncatedStreamError)
    refuse(house, lowlevel.END_OF_STREAM, MalformedFrameError)


def test_every_flipped_byte_is_refused_or_is_a_value(house: Any) -> None:
    house.create(SCHEMA)
    body = bytearray(house.stream_bytes([rows(3)], SCHEMA))
    session = house.session()
    house.stream(session)
    stored = 0
    for position in range(len(body)):
        flipped = body.copy()
        flipped[position] ^= 0xFF
        try:
            house.send(bytes(flipped), session)
        except FletchingError:
            continue
        stored += 1
        house.stream(session)
    assert 0 < stored < len(body)


def test_a_batch_before_the_schema(house: Any) -> None:
    house.create(SCHEMA)
    body = house.stream_bytes([rows(3)], SCHEMA)
    first = next(iter(ipc.messages(body)))
    refuse(house, body[first.end :], MalformedFrameError)


def test_a_second_schema(house: Any) -> None:
    house.create(SCHEMA)
    body = house.stream_bytes([rows(3)], SCHEMA)
    first = next(iter(ipc.messages(body)))
    refuse(house, body[: first.end] + body, MalformedFrameError)


def test_offsets_that_lie(house: Any) -> None:
    house.create(SCHEMA)
    body = bytearray(house.stream_bytes([rows(8)], SCHEMA))
    message = list(ipc.messages(bytes(body)))[1]
    start, _ = message.record_batch().buffers[3].tolist()
    struct.pack_into("<i", body, message.offset + message.metadata_length + start + 4, 1 << 30)
    refuse(house, bytes(body), InvalidDataError)


def test_text_that_is_not_utf8(house: Any) -> None:
    house.create(SCHEMA)
    body = house.stream_bytes([rows(8)], SCHEMA).replace(b"n1n2", b"n\xff\xfe2")
    refuse(house, body, InvalidDataError)


def test_a_decompression_bomb(open_house: Any) -> None:
    house = open_house(write_limits=Limits(max_uncompressed_bytes=1 << 20))
    house.create(pa.schema([("id", pa.int64())]))
    zeros = pa.record_batch([pa.array(np.zeros(1 << 20, np.int64))], names=["id"])
    refuse(house, house.stream_bytes([zeros], zeros.schema, compression="zstd"), LimitExceededError)


def test_a_million_empty_batches(house: Any) -> None:
    house.create(SCHEMA)
    error = refuse(house, house.stream_bytes([rows(0)] * 1001, SCHEMA), LimitExceededError)
    assert isinstance(error, LimitExceededError)
    assert error.limit == 1000


def test_too_many_batches(open_house: Any) -> None:
    house = open_house(max_write_batches=3)
    house.create(SCHEMA)
    refuse(house, house.stream_bytes([rows(1)] * 4, SCHEMA), LimitExceededError)


def test_a_message_above_the_limit(open_house: Any) -> None:
    house = open_house(write_limits=Limits(max_body_bytes=1000))
    house.create(SCHEMA)
    refuse(house, house.stream_bytes([rows(1000)], SCHEMA), LimitExceededError)


# --- the life of an ingest ---


def test_finish_repeats_its_answer_and_nothing_else_follows(house: Any) -> None:
    house.create(SCHEMA)
    session = house.session()
    house.stream(session)
    ingest = house.engine.open_ingest(
        WriteTable(table=house.table, session_id=session, stream_id="s")
    )
    ingest.decoder.feed(house.stream_bytes([rows(3)], SCHEMA))
    ingest.accept(list(ingest.decoder))
    result = ingest.finish()
    assert ingest.finish() is result
    ingest.abort()
    assert len(house.object_keys()) == 1
    with pytest.raises(UsageError):
        ingest.accept([])


def test_abort_leaves_nothing_and_repeats(house: Any) -> None:
    house.create(SCHEMA)
    session = house.session()
    house.stream(session)
    ingest = house.engine.open_ingest(
        WriteTable(table=house.table, session_id=session, stream_id="s")
    )
    ingest.decoder.feed(house.stream_bytes([rows(3)], SCHEMA))
    ingest.accept(list(ingest.decoder))
    ingest.abort()
    ingest.abort()
    with pytest.raises(UsageError):
        ingest.finish()
    assert house.object_keys() == set()


@pytest.mark.parametrize("point", ["write.staging", "write.staged", "write.accepted"])
@pytest.mark.parametrize("fails", [False, True])
def test_abort_beside_a_running_finish_is_refused(
    house: Any, monkeypatch: pytest.MonkeyPatch, point: str, fails: bool
) -> None:
    """Whoever cancels a request may not take the objects away from a transaction that commits."""
    house.create(SCHEMA)
    session = house.session()
    house.stream(session)
    ingest = house.engine.open_ingest(
        WriteTable(table=house.table, session_id=session, stream_id="s")
    )
    ingest.decoder.feed(house.stream_bytes([rows(3)], SCHEMA))
    ingest.accept(list(ingest.decoder))
    there, go_on = threading.Event(), threading.Event()

    def reach(name: str) -> None:
        if name == point:
            there.set()
            assert go_on.wait(600)
            if fails:
                raise StorageError("the disk failed")

    monkeypatch.setattr("fletching.faultpoints.reach", reach)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        finishing = pool.submit(ingest.finish)
        assert there.wait(600)
        assert ingest.abort() is False
        assert not ingest.ended
        go_on.set()
        if fails:
            with pytest.raises(StorageError):
                finishing.result(600)
        else:
            assert finishing.result(600).rows == 3
    assert ingest.ended
    ingest.abort()
    monkeypatch.undo()
    # What failed before its commit leaves nothing; what was committed stays, whatever is raised then.
    stays = not fails or point == "write.accepted"
    assert len(house.object_keys()) == stays
    assert not [problem for checked in house.engine.verify() for problem in checked.problems]


def test_abort_waits_for_an_accept_that_runs(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    house.create(SCHEMA)
    session = house.session()
    house.stream(session)
    ingest = house.engine.open_ingest(
        WriteTable(table=house.table, session_id=session, stream_id="s")
    )
    ingest.decoder.feed(house.stream_bytes([rows(3)], SCHEMA))
    there, go_on = threading.Event(), threading.Event()
    accept = Body.accept

    def slow(body: Body, message: Any) -> int:
        there.set()
        assert go_on.wait(600)
        return accept(body, message)

    monkeypatch.setattr(Body, "accept", slow)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        accepting = pool.submit(ingest.accept, list(ingest.decoder))
        assert there.wait(600)
        aborting = pool.submit(ingest.abort)
        assert not aborting.done()
        go_on.set()
        accepting.result(600)
        assert aborting.result(600) is True
    assert house.object_keys() == set()


def test_bodies_may_come_byte_by_byte(house: Any) -> None:
    house.create(SCHEMA)
    session = house.session()
    house.stream(session)
    ingest = house.engine.open_ingest(
        WriteTable(table=house.table, session_id=session, stream_id="s")
    )
    for byte in house.stream_bytes([rows(3), rows(2, 3)], SCHEMA):
        ingest.decoder.feed(bytes([byte]))
        messages = list(ingest.decoder)
        if messages:
            ingest.accept(messages)
    assert ingest.finish().rows == 5


def test_a_stream_that_is_begun_again_takes_no_body_that_came_before(house: Any) -> None:
    house.create(SCHEMA)
    session = house.session()
    house.stream(session)
    ingest = house.engine.open_ingest(
        WriteTable(table=house.table, session_id=session, stream_id="s", stream_version=1)
    )
    ingest.decoder.feed(memoryview(house.stream_bytes([rows(2)], SCHEMA)))
    ingest.accept(list(ingest.decoder))
    house.stream(session)
    with pytest.raises(ConflictError, match="begun again while the body came in"):
        ingest.finish()
    house.send(house.stream_bytes([rows(1)], SCHEMA), session)
    house.close(session)
    house.commit(session)
    assert house.read().num_rows == 1
