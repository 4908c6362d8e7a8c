"""Where a file's bytes come from: paths, buffers, files of many kinds; each gives the ranges asked for."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.errors import TruncatedStreamError, UsageError
from fletching.ipc.source import (
    CLOSED,
    FileSource,
    MappedSource,
    Source,
    merge_ranges,
    open_input,
    open_sink,
    open_source,
)
from fletching.types import ByteRange

DATA = bytes(range(256)) * 300


class Dribble(io.RawIOBase):
    """Gives little at a time; without ``readinto`` if so asked."""

    def __init__(self, data: bytes, *, reads: bool) -> None:
        self._file = io.BytesIO(data)
        if reads:
            self.readinto = None  # type: ignore[assignment, method-assign]

    def seek(self, *where: int) -> int:
        return self._file.seek(*where)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(min(size, 7))

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto(memoryview(buffer)[:11])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


@pytest.mark.parametrize(
    "kind", ["path", "unmapped", "text", "bytes", "numpy", "mmap", "file", "slow", "reads"]
)
def test_every_source_gives_the_same_bytes(path: Path, kind: str) -> None:
    import numpy as np

    given: Any = {
        "path": path, "unmapped": path, "text": str(path), "bytes": DATA,
        "numpy": np.frombuffer(DATA, "<i4"), "mmap": pa.memory_map(str(path)),
        "file": io.BytesIO(DATA), "slow": Dribble(DATA, reads=False), "reads": Dribble(DATA, reads=True),
    }[kind]  # fmt: skip
    source = open_source(given, memory_map=kind != "unmapped")
    assert source.length == len(DATA)
    assert source.mapped is (kind in {"path", "text", "bytes", "numpy"})
    for start, end in ((0, 0), (5, 300), (len(DATA) - 3, len(DATA))):
        view = source.view(start, end)
        assert bytes(view) == DATA[start:end]
        if kind != "numpy":
            assert view.readonly
    assert open_source(source) is source


def test_a_file_that_became_shorter(path: Path) -> None:
    with path.open("r+b") as file:
        source = FileSource(file)
        file.truncate(100)
        assert bytes(source.view(90, 100)) == DATA[90:100]
        with pytest.raises(TruncatedStreamError) as caught:
            source.view(90, 110)
    assert (caught.value.offset, caught.value.expected, caught.value.actual) == (100, 20, 10)


def test_values_read_from_a_file_are_aligned(path: Path) -> None:
    with path.open("rb") as file:
        view = FileSource(file).view(3, 203)
        assert pa.py_buffer(view).address % 64 == 0


def test_what_is_no_source(tmp_path: Path) -> None:
    others: list[Any] = [5, object(), None]
    for other in others:
        with pytest.raises(UsageError, match="path, a buffer"):
            open_source(other)
        with pytest.raises(UsageError, match="path, a buffer"):
            open_input(other)
    with pytest.raises(FileNotFoundError):
        open_source(tmp_path / "none")
    with pytest.raises(UsageError, match="closed"):
        CLOSED.view(0, 1)
    assert isinstance(CLOSED, Source)


def test_inputs_and_sinks(path: Path, tmp_path: Path) -> None:
    assert bytes(cast("memoryview", open_input(path))) == DATA
    assert bytes(cast("memoryview", open_input(bytearray(b"abc")))) == b"abc"
    file = io.BytesIO()
    assert open_input(file) is file
    (tmp_path / "empty").touch()
    assert bytes(cast("memoryview", open_input(tmp_path / "empty"))) == b""
    with open_sink(tmp_path / "out") as sink:
        sink.write(b"made")
    assert (tmp_path / "out").read_bytes() == b"made"
    with open_sink(file) as sink:
        assert sink is file
    assert not file.closed
    for other in (5, None, io.StringIO()):
        with pytest.raises(UsageError), open_sink(cast("Any", other)):
            pass


@pytest.mark.parametrize(
    ("ranges", "merged"),
    [
        ([], []),
        ([(5, 5)], []),
        ([(0, 10)], [(0, 10)]),
        ([(20, 30), (0, 10)], [(0, 10), (20, 30)]),
        ([(0, 10), (14, 20)], [(0, 20)]),
        ([(0, 10), (15, 20), (100, 101)], [(0, 10), (15, 20), (100, 101)]),
        ([(0, 50), (5, 10), (200, 201)], [(0, 50), (200, 201)]),
        ([(0, 40), (50, 90)], [(0, 90)]),  # so much of it that all is read
    ],
)
def test_ranges_near_to_each_other_are_one(
    ranges: list[tuple[int, int]], merged: list[tuple[int, int]]
) -> None:
    result = merge_ranges([ByteRange(*each) for each in ranges], gap_bytes=5)
    assert result == [ByteRange(*each) for each in merged]


@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 60)), max_size=12), st.integers(0, 40)
)
def test_every_byte_that_is_wanted_is_in_one_range(pairs: list[tuple[int, int]], gap: int) -> None:
    ranges = [ByteRange(start, start + length) for start, length in pairs]
    result = merge_ranges(ranges, gap_bytes=gap)
    assert all(here.end <= other.start for here, other in itertools.pairwise(result))
    for wanted in ranges:
        if wanted.length:
            (_,) = [
                each for each in result if each.start <= wanted.start and wanted.end <= each.end
            ]


def test_memory_is_borrowed() -> None:
    data = bytearray(b"abc")
    view = MappedSource(data).view(0, 2)
    data[0] = ord("x")
    assert view[0] == ord("x")
