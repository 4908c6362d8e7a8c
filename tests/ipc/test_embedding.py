from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nanoarrow
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ipc.conftest import EVERYTHING, file_of, lies_inside, numbers, stream_of

from fletching import ipc
from fletching.errors import (
    InvalidDataError,
    LimitExceededError,
    MalformedFrameError,
    TruncatedStreamError,
    UsageError,
    ZeroCopyError,
)
from fletching.ipc import lowlevel


def written(batches: Any, **options: Any) -> bytes:
    sink = io.BytesIO()
    count = ipc.write_stream(batches, sink, **options)
    assert count == len(sink.getvalue())
    return sink.getvalue()


@pytest.mark.parametrize(
    "source",
    [
        numbers(3),
        [numbers(3)],
        iter([numbers(3)]),
        pa.table(numbers(3)),
        pa.RecordBatchReader.from_batches(numbers(0).schema, [numbers(3)]),
        nanoarrow.ArrayStream(pa.table(numbers(3))),
    ],
    ids=["batch", "list", "iterator", "table", "reader", "capsule"],
)
def test_one_and_many_batches_are_written(source: Any) -> None:
    batches = ipc.read_stream(written(source))
    assert batches.to_table().equals(pa.table(numbers(3)))
    assert batches.num_rows == 3


def test_an_empty_iterable_needs_a_schema() -> None:
    with pytest.raises(UsageError, match="pass schema="):
        written([])
    schema = numbers(0).schema
    for data in (written([], schema=schema), written(lowlevel.Batches(schema))):
        batches = ipc.read_stream(data)
        assert batches == []
        assert batches.schema == schema
        assert pa.ipc.open_stream(data).schema == schema


def test_batches_of_another_schema_are_refused() -> None:
    with pytest.raises(UsageError, match="one schema"):
        written([numbers(1), EVERYTHING])
    with pytest.raises(UsageError, match="no record batch"):
        written([1])
    with pytest.raises(UsageError, match="no record batch"):
        written([numbers(1), 1])
    with pytest.raises(UsageError, match="not both"):
        written(numbers(1), compression="lz4", options=pa.ipc.IpcWriteOptions())


@pytest.mark.parametrize("codec", [None, "lz4", "zstd"])
def test_other_readers_read_what_is_written(codec: str | None) -> None:
    data = written([EVERYTHING, EVERYTHING.slice(1, 3)], compression=codec)
    batches = list(pa.ipc.open_stream(data))
    assert batches[0].equals(EVERYTHING)
    assert batches[1].equals(EVERYTHING.slice(1, 3))
    simple = written(numbers(100), compression=None)
    assert pa.table(nanoarrow.ArrayStream.from_readable(simple)).equals(pa.table(numbers(100)))


def test_deltas_are_written_if_asked_for() -> None:
    first, second = (
        pa.record_batch({"t": pa.DictionaryArray.from_arrays([0], d)}) for d in (["a"], ["a", "b"])
    )
    data = written([first, second], options=pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True))
    deltas = [m.dictionary_batch().is_delta for m in ipc.messages(data) if m.type == 2]
    assert deltas == [False, True]
    assert ipc.read_stream(data)[1].equals(second)


def test_bodies_are_written_from_where_they_are() -> None:
    batch = numbers(10_000)
    wanted = batch.column(0).buffers()[1].address
    seen = []

    class Sink:
        def write(self, data: Any, /) -> None:
            seen.append(pa.py_buffer(data).address)

    ipc.write_stream(batch, Sink())
    assert wanted in seen


JUNK = b"\xff\xff\xff\xff junk \x00"


@settings(deadline=None)
@given(st.binary(max_size=20), st.binary(max_size=20), st.integers(0, 3))
def test_streams_stand_between_other_bytes(before: bytes, behind: bytes, count: int) -> None:
    stream = written([numbers(5)] * count, schema=numbers(0).schema)
    data = before + stream + behind
    batches, end = ipc.read_stream_at(data, len(before))
    assert end == len(before) + len(stream)
    assert list(batches) == [numbers(5)] * count
    for batch in batches:
        assert all(lies_inside(column, data) for column in batch.columns)


def test_streams_in_a_row_are_read_in_a_row() -> None:
    chunks = [written(numbers(n)) for n in (1, 2, 3)]
    data = JUNK.join(chunks)
    offset, streams = 0, []
    while offset < len(data):
        batches, offset = ipc.read_stream_at(data, offset)
        streams.append(batches.num_rows)
        offset += len(JUNK)
    assert streams == [1, 2, 3]


def test_a_legacy_marker_belongs_to_its_stream() -> None:
    stream = stream_of(numbers(2), use_legacy_format=True)
    batches, end = ipc.read_stream_at(stream + b"\0\0\0\0")
    assert (len(batches), end) == (1, len(stream))


def test_bytes_behind_the_stream_are_not_lost_in_silence() -> None:
    data = written(numbers(2))
    with pytest.raises(MalformedFrameError, match="5 bytes follow") as caught:
        ipc.read_stream(data + b"extra")
    assert caught.value.offset == len(data)
    with pytest.raises(MalformedFrameError, match="1 bytes follow"):
        ipc.read_single(data + b"x")


def test_a_file_is_no_stream() -> None:
    with pytest.raises(MalformedFrameError, match="use open_file"):
        ipc.read_stream(file_of([numbers(1)], numbers(1).schema))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_single_means_exactly_one(count: int) -> None:
    data = written([numbers(4)] * count, schema=numbers(0).schema)
    if count == 1:
        assert ipc.read_single(data).equals(numbers(4))
        assert ipc.read_single_at(b"xx" + data + b"yy", 2) == (numbers(4), 2 + len(data))
        return
    with pytest.raises(InvalidDataError, match=f"this one has {count}") as caught:
        ipc.read_single(data)
    assert (caught.value.expected, caught.value.actual) == (1, count)


def test_nothing_is_no_stream() -> None:
    with pytest.raises(TruncatedStreamError):
        ipc.read_stream(b"")
    with pytest.raises(TruncatedStreamError):
        ipc.read_stream(lowlevel.END_OF_STREAM)
    with pytest.raises(UsageError):
        ipc.read_stream_at(b"", 1)


def test_every_truncation_is_reported() -> None:
    data = written(numbers(3))
    for length in range(len(data) - 8):
        try:
            batches, end = ipc.read_stream_at(data[:length])
        except TruncatedStreamError:
            continue
        # A stream may lack its marker; then it ends after a whole message.
        assert end == length
        assert len(batches) <= 1


def test_zero_copy_can_be_required() -> None:
    plain, packed = written(numbers(9)), written(numbers(9), compression="lz4")
    assert ipc.read_single(plain, require_zero_copy=True).equals(numbers(9))
    with pytest.raises(ZeroCopyError):
        ipc.read_single(packed, require_zero_copy=True)
    assert ipc.read_single(packed).equals(numbers(9))


# --- sections ----------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=40)))
def test_sections_round_trip(sections: list[bytes]) -> None:
    sink = io.BytesIO()
    for section in sections:
        assert ipc.write_prefixed(sink, section) == 8 + len(section)
    data = sink.getvalue()
    offset, result = 0, []
    while offset < len(data):
        view, offset = ipc.read_prefixed_at(data, offset)
        result.append(bytes(view))
    assert result == sections
    sink.seek(0)
    read = list(iter(lambda: ipc.read_prefixed(sink), None))
    assert [bytes(section) for section in read if section is not None] == sections


def test_a_section_of_several_buffers() -> None:
    sink = io.BytesIO()
    assert ipc.write_prefixed(sink, [b"ab", memoryview(b"c")]) == 11
    assert sink.getvalue() == b"\x03\0\0\0\0\0\0\0abc"
    assert bytes(ipc.read_prefixed(sink.getvalue()) or b"") == b"abc"
    with pytest.raises(MalformedFrameError):
        ipc.read_prefixed(sink.getvalue() + b"x")


def test_a_section_is_a_view() -> None:
    data = b"\x03\0\0\0\0\0\0\0abc"
    section, end = ipc.read_prefixed_at(data)
    assert section.obj is data
    assert end == len(data)


@pytest.mark.parametrize("length", range(1, 11))
def test_cut_sections_are_truncated(length: int) -> None:
    data = b"\x03\0\0\0\0\0\0\0abc"[:length]
    with pytest.raises(TruncatedStreamError):
        ipc.read_prefixed_at(data)
    with pytest.raises(TruncatedStreamError):
        ipc.read_prefixed(io.BytesIO(data))

    class Plain:
        def __init__(self) -> None:
            self.file = io.BytesIO(data)

        def read(self, count: int) -> bytes:
            return self.file.read(min(count, 2))

    with pytest.raises(TruncatedStreamError):
        ipc.read_prefixed(Plain())


def test_a_section_cannot_claim_more_than_the_limit() -> None:
    data = b"\xff" * 8 + b"abc"
    with pytest.raises(LimitExceededError):
        ipc.read_prefixed(io.BytesIO(data))
    with pytest.raises(TruncatedStreamError):
        ipc.read_prefixed_at(data)
    with pytest.raises(UsageError):
        ipc.read_prefixed_at(data, 100)


def test_batches_are_a_sequence_that_every_library_takes_as_a_stream() -> None:
    first, second = pa.record_batch({"n": [1, 2]}), pa.record_batch({"n": [3]})
    batches = ipc.read_stream(written([first, second]))
    assert batches == [first, second]
    assert batches == lowlevel.Batches(first.schema, [first, second])
    assert batches != [first]
    assert batches != lowlevel.Batches(pa.schema([("m", pa.int64())]), [first, second])
    assert batches != (first, second)
    assert (len(batches), batches[-1], batches[:1]) == (2, second, [first])
    assert list(reversed(batches)) == [second, first]
    assert pa.table(batches)["n"].to_pylist() == [1, 2, 3]
    assert pl.DataFrame(batches)["n"].to_list() == [1, 2, 3]
    assert repr(batches) == "<Batches: 2 of 3 rows, n>"
    assert pa.table(lowlevel.Batches(first.schema)).num_rows == 0
    with batches as same:
        assert same is batches
    assert len(batches) == 0
    with pytest.raises(TypeError):
        hash(batches)


def test_what_is_open_as_text_or_takes_no_bytes_is_refused_by_name(tmp_path: Path) -> None:
    text: Any = io.StringIO("x")
    reads: list[Callable[[Any], object]] = [
        *(ipc.read_stream, ipc.read_message, ipc.messages, ipc.open_file, ipc.read_prefixed),
        *(ipc.inspect_bytes, ipc.recover),
    ]
    for read in reads:
        with pytest.raises(UsageError, match="open it in binary mode"):
            read(text)
    batch = pa.record_batch({"n": [1]})
    writes: list[Callable[[Any], object]] = [
        lambda sink: ipc.write_stream([batch], sink),
        lambda sink: ipc.FileWriter(sink, batch.schema),
        lambda sink: ipc.write_prefixed(sink, b"x"),
    ]
    for write in writes:
        for sink in (5, None, b"", text):
            with pytest.raises(UsageError, match=r"binary"):
                write(sink)
    with pytest.raises(UsageError, match="open binary file"):
        writes[-1](str(tmp_path / "x"))
    with pytest.raises(UsageError, match="not of text"):
        ipc.write_prefixed(io.BytesIO(), "x")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
