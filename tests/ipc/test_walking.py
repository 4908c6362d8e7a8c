"""Messages and batches from paths and open files as from buffers."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.ipc.conftest import EVERYTHING, file_of, numbers, stream_of
from tests.ipc.file_shapes import SHAPES, shaped

from fletching import ipc
from fletching.errors import MalformedFrameError, TruncatedStreamError, UsageError, WireError

BATCHES = [EVERYTHING, EVERYTHING]
STREAM = stream_of(BATCHES)
FILE = file_of(BATCHES, EVERYTHING.schema)


class Pipe(io.RawIOBase):
    """An input that gives what it likes and cannot seek."""

    def __init__(self, data: bytes, step: int = 333) -> None:
        self._data = io.BytesIO(data)
        self._step = step

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        return self._data.readinto(memoryview(target)[: self._step])


class OnlyRead:
    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, count: int) -> bytes:
        return self._data.read(min(count, 777))


def inputs(tmp_path: Path, data: bytes) -> Iterator[Any]:
    path = tmp_path / "x"
    path.write_bytes(data)
    yield data
    yield path
    yield str(path)
    yield io.BytesIO(data)
    yield Pipe(data)
    yield OnlyRead(data)
    with path.open("rb") as file:
        yield file
    with pa.OSFile(str(path)) as native:
        yield native


def parts(messages: Any) -> list[tuple[Any, ...]]:
    return [(m.offset, m.prefix_length, bytes(m.metadata), bytes(m.body)) for m in messages]


def test_streams_are_walked_and_read_from_everything(tmp_path: Path) -> None:
    expected = parts(ipc.messages(STREAM))
    for source in inputs(tmp_path, STREAM):
        walk = ipc.messages(source)
        assert parts(walk) == expected
        assert (walk.position, walk.marker_length) == (len(STREAM), 8)
    for source in inputs(tmp_path, STREAM):
        assert list(ipc.read_stream(source)) == BATCHES
    for source in inputs(tmp_path, stream_of(EVERYTHING)):
        assert ipc.read_single(source) == EVERYTHING
    for source in inputs(tmp_path, STREAM):
        message = ipc.read_message(source)
        assert message is not None
        assert parts([message]) == expected[:1]


def test_streams_inside_others_are_read_from_everything(tmp_path: Path) -> None:
    data = b"junk" + STREAM + b"more" + STREAM
    for source in inputs(tmp_path, data):
        batches, end = ipc.read_stream_at(source, 4)
        assert list(batches) == BATCHES
        assert end == 4 + len(STREAM)
        if hasattr(source, "read"):
            # Not a byte more was taken.
            assert source.read(4) == b"more"
            assert list(ipc.read_stream(source)) == BATCHES
        else:
            batches, end = ipc.read_stream_at(source, end + 4)
            assert (list(batches), end) == (BATCHES, len(data))


@pytest.mark.parametrize("shape", SHAPES)
def test_files_are_walked_from_everything_that_can_seek(tmp_path: Path, shape: str) -> None:
    data = shaped(shape, [numbers(3), numbers(2)])
    expected = parts(ipc.messages(data))
    for source in inputs(tmp_path, data):
        if isinstance(source, (Pipe, OnlyRead)):
            with pytest.raises(MalformedFrameError, match="open_file reads it"):
                list(ipc.messages(source))
            continue
        assert parts(ipc.messages(source)) == expected
    cut = data[: ipc.open_file(data).footer.start]
    if shape != "arrow-js":
        assert parts(ipc.messages(io.BytesIO(cut))) == parts(ipc.messages(cut))


def test_a_file_is_walked_from_where_it_stands() -> None:
    file = io.BytesIO(b"12345678" + FILE)
    file.read(4)
    walk = ipc.messages(file, 4)
    assert [m.offset - 8 for m in walk] == [m.offset for m in ipc.messages(FILE)]


def test_reports_and_recovery_take_paths_and_files(tmp_path: Path) -> None:
    expected = ipc.inspect_bytes(FILE, verify=True)
    for source in inputs(tmp_path, FILE):
        if not isinstance(source, OnlyRead):
            assert ipc.inspect_bytes(source, verify=True) == expected
    cut = tmp_path / "cut.arrow"
    cut.write_bytes(FILE[: ipc.open_file(FILE).footer.start])
    ipc.recover(cut, tmp_path / "whole.arrow")
    assert list(ipc.open_file(tmp_path / "whole.arrow")) == BATCHES


def test_an_empty_file_is_mapped_too(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    assert list(ipc.messages(path)) == []
    assert ipc.read_message(path) is None
    for read in (ipc.read_stream, ipc.open_file):
        with pytest.raises(TruncatedStreamError):
            read(path)
    assert not ipc.inspect_bytes(path).ok
    with pytest.raises(FileNotFoundError):
        ipc.read_stream(tmp_path / "absent")


@pytest.mark.parametrize("source", [3, None, ["x"], object()])
def test_what_cannot_be_read_is_refused(source: Any) -> None:
    for read in (ipc.messages, ipc.read_stream, ipc.read_message, ipc.inspect_bytes):
        with pytest.raises(UsageError, match="give a path, a buffer or an open"):
            read(source)


def test_every_truncation_of_a_pipe_is_reported() -> None:
    data = stream_of([numbers(3), numbers(2)])
    ends = {0, len(data), *(m.end for m in ipc.messages(data))}
    for length in range(len(data)):
        walk = ipc.messages(Pipe(data[:length]))
        if length in ends:
            list(walk)
            continue
        with pytest.raises(TruncatedStreamError) as caught:
            list(walk)
        assert caught.value.offset == max(end for end in ends if end <= length)


def test_damage_in_a_file_says_where() -> None:
    data = bytearray(stream_of([numbers(3), numbers(2)]))
    second = list(ipc.messages(bytes(data)))[2].offset
    data[second + 8 : second + 12] = b"\xff" * 4
    for source in (bytes(data), io.BytesIO(data)):
        with pytest.raises(MalformedFrameError) as caught:
            list(ipc.messages(source))
        assert caught.value.offset == second + 8
    damaged = bytes(data[:second]) + b"id,name\n" * 9
    with pytest.raises(WireError) as other:
        list(ipc.messages(Pipe(damaged)))
    assert "looks like" not in str(other.value)


def test_an_offset_is_checked() -> None:
    for source in (STREAM, io.BytesIO(STREAM)):
        for read in (ipc.messages, ipc.read_stream_at):
            with pytest.raises(UsageError):
                read(source, -1)
    with pytest.raises(UsageError, match="before the offset"):
        ipc.messages(Pipe(b"abc"), 4)


# --- lazily ----------------------------------------------------------------------------------------------


def test_batches_are_read_when_they_are_asked_for() -> None:
    damaged = stream_of([numbers(3), numbers(2)])[:-40]
    reader = ipc.read_stream_at(b"junk" + damaged, 4, lazy=True)
    assert reader.schema == numbers(0).schema
    assert next(reader) == numbers(3)
    assert reader.end is None
    with pytest.raises(TruncatedStreamError):
        next(reader)


def test_the_end_is_known_once_it_is_reached() -> None:
    for source in (b"junk" + STREAM + b"more", io.BytesIO(b"junk" + STREAM + b"more")):
        with ipc.read_stream_at(source, 4, lazy=True) as reader:
            assert list(reader) == BATCHES
            assert reader.end == 4 + len(STREAM)
            assert list(reader) == []


def test_a_reader_that_was_closed_early_does_not_pretend_to_be_at_its_end() -> None:
    readers: list[Callable[[Any], Any]] = [next, list, lambda reader: reader.read_rest()]
    for read in readers:
        with ipc.read_stream_at(STREAM, lazy=True) as reader:
            if read is not list:
                next(reader)
        assert reader.end is None
        with pytest.raises(UsageError, match="closed before the end"):
            read(reader)


def test_batches_arrive_through_a_pipe_as_they_are_written() -> None:
    """The reader has the first batch while the writer waits for it."""
    read_end, write_end = os.pipe()
    seen = threading.Event()

    def batches() -> Iterator[pa.RecordBatch]:
        yield numbers(3)
        assert seen.wait(600)
        yield numbers(2)

    def write() -> None:
        with os.fdopen(write_end, "wb", buffering=0) as file:
            ipc.write_stream(batches(), file)

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(read_end, "rb", buffering=0) as file:
        reader = ipc.read_stream_at(file, lazy=True)
        assert next(reader) == numbers(3)
        seen.set()
        assert list(reader) == [numbers(2)]
    thread.join()


# --- the Arrow PyCapsule interface, and closing ---------------------------------------------------------------


def exporters() -> Iterator[Any]:
    yield ipc.read_stream(STREAM)
    yield ipc.read_stream_at(STREAM, lazy=True)
    yield ipc.open_file(FILE)
    yield ipc.open_file(io.BytesIO(FILE))


def test_what_was_read_is_an_arrow_stream() -> None:
    expected = pa.Table.from_batches(BATCHES)
    for source in exporters():
        assert pa.RecordBatchReader.from_stream(source).read_all().equals(expected)
    for source in exporters():
        assert source.to_reader().read_all().equals(expected)
    for source in exporters():
        sink = io.BytesIO()
        ipc.write_stream(source, sink)
        assert list(ipc.read_stream(sink.getvalue())) == BATCHES
    empty = ipc.read_stream(stream_of(numbers(0)))
    assert pa.RecordBatchReader.from_stream(empty).schema == numbers(0).schema


def test_files_close_as_context_managers(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    path.write_bytes(FILE)
    for memory_map in (True, False):
        with ipc.open_file(path, memory_map=memory_map) as opened:
            batch = opened[0]
        with pytest.raises(UsageError, match="closed"):
            opened[1]
        opened.close()
        assert batch == EVERYTHING  # what was read stays
    # A file that somebody else opened stays open.
    with path.open("rb") as file:
        with ipc.open_file(file) as opened:
            assert opened[1] == EVERYTHING
        assert not file.closed
    with ipc.read_stream(STREAM) as batches:
        assert len(batches) == 2
    assert len(batches) == 0


def test_streams_and_files_are_written_to_paths(tmp_path: Path) -> None:
    path = tmp_path / "x.arrows"
    assert ipc.write_stream(BATCHES, path) == len(STREAM)
    assert path.read_bytes() == STREAM
    with ipc.FileWriter(str(path), EVERYTHING.schema) as writer:
        for batch in BATCHES:
            writer.write(batch)
    assert list(ipc.open_file(path)) == BATCHES
