"""What a schema message says before pyarrow sees it: fields, dictionary ids, byte order, limits."""

from __future__ import annotations

import pyarrow as pa
import pytest

from fletching.errors import InvalidDataError, LimitExceededError, MalformedFrameError
from fletching.ipc import Limits, messages
from fletching.ipc.message import Message
from fletching.ipc.schema_header import Endianness, read_schema, schema_header, schema_message_of

WORDS = pa.dictionary(pa.int8(), pa.string())
SCHEMA = pa.schema(
    [
        pa.field("a", pa.int64(), nullable=False, metadata={"k": "v"}),
        ("s", pa.struct([("x", pa.list_(WORDS)), ("", pa.date32())])),
        ("d", pa.dictionary(pa.int32(), pa.list_(pa.int8()))),
        ("a", pa.map_(pa.string(), pa.float64())),
    ],
    metadata={"one": "1", "two": "2"},
)


def test_fields_as_they_are_written() -> None:
    header = schema_header(schema_message_of(SCHEMA))
    assert header.endianness is Endianness.LITTLE
    assert [field.name for field in header.fields] == ["a", "s", "d", "a"]
    assert [field.nullable for field in header.fields] == [False, True, True, True]
    names = [field.name for field in header.fields[1].walk()]
    assert names == ["s", "x", "item", ""]
    assert header.custom_metadata == {b"one": b"1", b"two": b"2"}
    assert len(header.dictionary_ids) == 2
    assert len(set(header.dictionary_ids)) == 2
    inner, outer = header.dictionary_ids
    (word,) = [f for f in header.fields[1].walk() if f.dictionary_id is not None]
    assert (word.dictionary_id, header.fields[2].dictionary_id) == (inner, outer)
    assert len(header.fields[2].children) == 1  # of its values' type


def test_pyarrow_reads_the_same_schema() -> None:
    assert read_schema(schema_message_of(SCHEMA)).equals(SCHEMA, check_metadata=True)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(max_fields=9), "too many fields"),
        (Limits(max_depth=2), "too deep"),
        (Limits(max_custom_metadata_entries=1), "custom metadata"),
    ],
)
def test_limits(limits: Limits, words: str) -> None:
    message = schema_message_of(SCHEMA)
    for call in (schema_header, read_schema):
        with pytest.raises(LimitExceededError, match=words):
            call(message, limits)
        call(message, Limits(max_fields=12, max_depth=3, max_custom_metadata_entries=2))


def test_another_message_is_refused_by_name() -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, pa.schema([("a", pa.int8())])) as writer:
        writer.write_batch(pa.record_batch({"a": pa.array([1], pa.int8())}))
    batch = list(messages(sink.getvalue()))[1]
    with pytest.raises(MalformedFrameError, match="starts with a schema message") as caught:
        schema_header(batch)
    assert (caught.value.expected, caught.value.actual) == ("schema", "record batch")
    assert caught.value.offset == batch.offset


def test_every_flipped_bit_gives_a_schema_or_an_error_of_ours() -> None:
    sound = bytes(schema_message_of(pa.schema([SCHEMA.field(1)])).metadata)
    outcomes = set()
    for bit in range(0, 8 * len(sound), 3):
        damaged = bytearray(sound)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            read_schema(Message(memoryview(bytes(damaged)), memoryview(b"")))
            outcomes.add("read")
        except (MalformedFrameError, LimitExceededError, InvalidDataError) as error:
            outcomes.add(type(error).__name__)
    assert "MalformedFrameError" in outcomes


def test_large_metadata_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from fletching.ipc import schema_header as module

    monkeypatch.setattr(module, "MAX_KEPT_BYTES", 10)
    before = module._kept_header.cache_info().currsize
    assert schema_header(schema_message_of(SCHEMA)).fields[0].name == "a"
    assert module._kept_header.cache_info().currsize == before
