from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ipc.conftest import lies_inside, numbers, stream_of

from fletching import ipc
from fletching.errors import (
    LimitExceededError,
    MalformedFrameError,
    TruncatedStreamError,
    UsageError,
)

ALIGNMENTS = [1, 2, 8, 64, 4096]


def section_of(data: bytes, alignment: int = 1) -> bytes:
    sink = io.BytesIO()
    assert ipc.write_prefixed(sink, data, alignment=alignment) == len(sink.getvalue())
    return sink.getvalue()


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@given(lengths=st.lists(st.integers(0, 300), min_size=1, max_size=5))
def test_sections_follow_each_other_at_their_alignment(alignment: int, lengths: list[int]) -> None:
    contents = [bytes([i + 1]) * length for i, length in enumerate(lengths)]
    data = b"".join(section_of(c, alignment) for c in contents)
    file = io.BytesIO(data)
    end = 0
    for content in contents:
        assert end % alignment == 0
        section, end = ipc.read_prefixed_at(data, end, alignment=alignment)
        assert bytes(section) == content
        if content:
            assert data.index(content) % alignment == 0
        assert bytes(ipc.read_prefixed(file, alignment=alignment) or b"") == content
    assert end == len(data)
    assert ipc.read_prefixed(file, alignment=alignment) is None


def test_without_alignment_a_section_is_length_and_bytes() -> None:
    assert section_of(b"abc") == struct.pack("<Q", 3) + b"abc"
    assert section_of(b"abc", 8) == struct.pack("<Q", 3) + b"abc" + bytes(5)
    assert section_of(b"abc", 64) == struct.pack("<Q", 3) + bytes(56) + b"abc" + bytes(61)


def test_arrays_in_an_aligned_section_are_used_in_place(tmp_path: Path) -> None:
    path = tmp_path / "x.sections"
    stream = stream_of(numbers(100))
    path.write_bytes(section_of(b"header", 64) + section_of(stream, 64))
    _, end = ipc.read_prefixed_at(path, alignment=64)
    section, end = ipc.read_prefixed_at(path, end, alignment=64)
    batch = ipc.read_single(section, require_zero_copy=True)
    assert batch == numbers(100)
    assert lies_inside(batch.column(0), section)
    assert end == path.stat().st_size


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_every_truncation_is_reported(alignment: int) -> None:
    data = section_of(b"twelve bytes", alignment)
    for length in range(len(data)):
        with pytest.raises(TruncatedStreamError):
            ipc.read_prefixed_at(data[:length], alignment=alignment)
        if length:
            with pytest.raises(TruncatedStreamError):
                ipc.read_prefixed(io.BytesIO(data[:length]), alignment=alignment)
    with pytest.raises(MalformedFrameError, match="1 bytes follow"):
        ipc.read_prefixed(data + b"x", alignment=alignment)


def test_a_path_is_one_section(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(section_of(b"abc"))
    assert bytes(ipc.read_prefixed(path) or b"") == b"abc"
    with pytest.raises(TruncatedStreamError):
        ipc.read_prefixed_at(io.BytesIO())


@pytest.mark.parametrize("alignment", [0, -8, (1 << 20) + 1])
def test_what_is_no_alignment_is_refused(alignment: int) -> None:
    sink = io.BytesIO()
    with pytest.raises(UsageError, match="alignment"):
        ipc.write_prefixed(sink, b"abc", alignment=alignment)
    assert not sink.getvalue()
    with pytest.raises(UsageError, match="alignment"):
        ipc.read_prefixed(section_of(b"abc"), alignment=alignment)


def test_a_section_may_be_as_long_as_the_limit() -> None:
    file = io.BytesIO(section_of(b"12345678") * 2)
    section = ipc.read_prefixed(file, limits=ipc.Limits(max_body_bytes=8))
    assert bytes(section or b"") == b"12345678"
    with pytest.raises(LimitExceededError, match="too long"):
        ipc.read_prefixed(file, limits=ipc.Limits(max_body_bytes=7))


@pytest.mark.parametrize("length", [1 << 40, (1 << 64) - 1])
@pytest.mark.parametrize("alignment", [1, 64])
def test_a_false_length_allocates_nothing(length: int, alignment: int) -> None:
    data = struct.pack("<Q", length) + bytes(100)
    with pytest.raises(TruncatedStreamError):
        ipc.read_prefixed_at(data, alignment=alignment)
    with pytest.raises(LimitExceededError):
        ipc.read_prefixed(io.BytesIO(data), alignment=alignment)


@pytest.mark.parametrize("alignment", [1, 64])
def test_an_open_file_is_read_from_where_it_stands(alignment: int) -> None:
    outer = io.BytesIO()
    outer.write(bytes(64))
    for section in (b"first", b"", b"third" * 40):
        ipc.write_prefixed(outer, section, alignment=alignment)
    data = outer.getvalue()
    for start in (0, 64):
        file, offset = io.BytesIO(data), 64 - start
        file.seek(start)
        for expected in (b"first", b"", b"third" * 40):
            view, end = ipc.read_prefixed_at(file, offset, alignment=alignment)
            assert bytes(view) == expected
            assert end == file.tell() - start
            file.seek(start)
            offset = end
        with pytest.raises(TruncatedStreamError):
            ipc.read_prefixed_at(io.BytesIO(data), len(data), alignment=alignment)
        for beyond in (len(data) + 1, 1 << 40):
            with pytest.raises(UsageError, match="bytes before the offset"):
                ipc.read_prefixed_at(io.BytesIO(data), beyond, alignment=alignment)
        with pytest.raises(UsageError, match="offset -1 is negative"):
            ipc.read_prefixed_at(io.BytesIO(data), -1, alignment=alignment)
    with pytest.raises(LimitExceededError):
        ipc.read_prefixed_at(io.BytesIO(data[64:]), limits=ipc.Limits(max_body_bytes=4))


def test_what_lies_before_an_offset_is_passed_over_unread(tmp_path: Path) -> None:
    path, offset = tmp_path / "sparse", 5 << 30  # above every limit of a section
    with path.open("wb") as file:
        file.seek(offset)
        ipc.write_prefixed(file, b"behind")
    with path.open("rb") as file:
        section, end = ipc.read_prefixed_at(file, offset)
        assert (bytes(section), end) == (b"behind", file.tell())


def test_every_reader_takes_buffers_paths_and_open_files(tmp_path: Path) -> None:
    batch = pa.record_batch({"n": [1, 2, 3]})
    stream, section, file = io.BytesIO(), io.BytesIO(), io.BytesIO()
    ipc.write_stream(batch, stream)
    ipc.write_prefixed(section, b"abc")
    with ipc.FileWriter(file, batch.schema) as writer:
        writer.write(batch)
    readers: list[tuple[io.BytesIO, Any]] = [
        (stream, lambda source: [m.type for m in ipc.messages(source)]),
        (stream, lambda source: [ipc.read_message(source)] != [None]),
        (stream, lambda source: list(ipc.read_stream(source))),
        (stream, lambda source: list(ipc.read_stream_at(source)[0])),
        (stream, lambda source: list(ipc.read_stream_at(source, lazy=True))),
        (stream, ipc.read_single),
        (stream, ipc.read_single_at),
        (stream, lambda source: ipc.inspect_bytes(source).length),
        (section, ipc.read_prefixed),
        (section, ipc.read_prefixed_at),
        (file, lambda source: list(ipc.open_file(source))),
        (file, lambda source: ipc.recover(source, tmp_path / "recovered").batches),
    ]
    for number, (written, read) in enumerate(readers):
        data = written.getvalue()
        path = tmp_path / str(number)
        path.write_bytes(data)
        with path.open("rb") as opened:
            results = [read(each) for each in (data, path, str(path), opened, io.BytesIO(data))]
        assert all(result == results[0] for result in results), number
