"""Where a file's bytes come from: memory (mapped files too), or a Python file that is read in ranges."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Final, Protocol, TypeGuard, cast, runtime_checkable

import pyarrow as pa
from typing_extensions import Buffer

from fletching.errors import TruncatedStreamError, UsageError
from fletching.ipc.message import as_view
from fletching.types import ByteRange

__all__ = [
    "FileSource",
    "MappedSource",
    "Source",
    "check_sink",
    "merge_ranges",
    "open_input",
    "open_sink",
    "open_source",
    "skip",
]

GAP_BYTES: Final = 64 << 10
"""Ranges closer than this are read at one go: on a disk or object store the gap costs less than a request."""
WHOLE_SHARE: Final = 0.8
"""From this share of a span on it is read whole."""


@runtime_checkable
class Source(Protocol):
    """Random access to immutable bytes.

    Attributes:
        length: bytes.
        mapped: whether `view` costs no read, so that whole bodies may be asked for.
    """

    length: int
    mapped: bool

    def view(self, start: int, end: int) -> memoryview:
        """The bytes of a range that lies inside; borrowed from the source or read for the caller."""


class Readable(Protocol):
    """An open binary file, pipe or socket's; ``seek``, ``tell`` and ``readinto`` are used if it has them."""

    def read(self, count: int, /) -> bytes:
        """At most so many of the next bytes; none at the end."""


class Writable(Protocol):
    """Where bytes go; what it is given may be a view."""

    def write(self, data: Buffer, /) -> object:
        """Takes all of the buffer."""


class Seekable(Readable, Protocol):
    """An open file that may be read anywhere."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Moves to a place."""

    def tell(self) -> int:
        """The place."""


Input = str | PurePath | Buffer | Readable
"""What is read from: a path, a buffer, or an open binary file."""


def skip(file: Readable, count: int) -> None:
    """Moves a file forward: reads what it passes over only where the file cannot seek.

    Raises:
        UsageError: the file ends before.
    """
    seekable = getattr(file, "seekable", None)
    if count and seekable is not None and seekable():
        seeking = cast("Seekable", file)
        position = seeking.seek(count, 1)
        end = seeking.seek(0, 2)
        if position > end:
            raise UsageError(f"the file ends {position - end} bytes before the offset")
        seeking.seek(position)
        return
    while count:
        chunk = file.read(min(count, 1 << 20))
        if not chunk:
            raise UsageError(f"the file ends {count} bytes before the offset")
        count -= len(chunk)


class MappedSource:
    """Bytes in memory, or mapped into it."""

    mapped = True

    def __init__(self, data: Buffer) -> None:
        self._view = as_view(data)
        self.length = len(self._view)

    def view(self, start: int, end: int) -> memoryview:
        """A view; copies nothing."""
        return self._view[start:end]


class FileSource:
    """A seekable binary file, read in exactly the ranges asked for.

    Blocking. Not thread-safe, as the file has one position. Each range is read into memory of its
    own that starts at a multiple of 64.
    """

    mapped = False

    def __init__(self, file: Seekable) -> None:
        """Finds the length by seeking to the end."""
        self.file = file
        self.length = int(file.seek(0, 2))

    def view(self, start: int, end: int) -> memoryview:
        """Reads a range.

        Raises:
            TruncatedStreamError: the file became shorter.
        """
        target = memoryview(pa.allocate_buffer(end - start)).cast("B")
        self.file.seek(start)
        readinto = getattr(self.file, "readinto", None)
        received = 0
        while received < len(target):
            if readinto is not None:
                count = readinto(target[received:]) or 0
            else:
                chunk = self.file.read(len(target) - received)
                count = len(chunk)
                # A file without readinto hands out its own bytes; the arrays need aligned ones.
                target[received : received + count] = chunk
            if not count:
                raise TruncatedStreamError(
                    "the file ended inside a range",
                    layer="file",
                    offset=start + received,
                    expected=end - start,
                    actual=received,
                )
            received += count
        return target.toreadonly()


class _ClosedSource:
    """What a file that was closed reads from."""

    length = 0
    mapped = True

    def view(self, start: int, end: int) -> memoryview:  # noqa: ARG002 - as of every source
        """Refuses."""
        raise UsageError("the file is closed")


CLOSED: Final = _ClosedSource()


def is_path(source: object) -> TypeGuard[str | PurePath]:
    """Whether something names a file rather than being one."""
    return isinstance(source, str) or hasattr(source, "__fspath__")


def open_input(source: Input) -> memoryview | Readable:
    """What is to be read: a view of a buffer or of the mapped file at a path, or an open file.

    Raises:
        UsageError: it is none of these.
        OSError: there is no such file, or it cannot be mapped.
    """
    if is_path(source):
        return mapped_view(str(source))
    try:
        return as_view(cast("Buffer", source))
    except TypeError:
        pass
    check_binary(source)
    if hasattr(source, "read"):
        return cast("Readable", source)
    raise UsageError(
        f"cannot read a {type(source).__name__}: give a path, a buffer or an open binary file"
    )


def check_binary(file: object) -> None:
    """Refuses a file whose contents are decoded on the way.

    Raises:
        UsageError: it is one.
    """
    if isinstance(file, io.TextIOBase):
        raise UsageError("the file is open as text: open it in binary mode, 'rb' or 'wb'")


def mapped_view(path: str) -> memoryview:
    """A mapped file's bytes; the mapping lives as long as any view of it."""
    with pa.memory_map(path) as mapped:
        if not mapped.size():
            return memoryview(b"")
        return as_view(mapped.read_buffer())


@contextlib.contextmanager
def open_sink(sink: Writable | str | PurePath) -> Iterator[Writable]:
    """What is to be written to: an open file as it is, or the file at a path, closed at the end.

    Raises:
        UsageError: it is neither.
        OSError: the file cannot be made.
    """
    if is_path(sink):
        with pa.OSFile(str(sink), "wb") as file:
            yield file
    else:
        check_sink(sink)
        yield cast("Writable", sink)


def check_sink(sink: object) -> None:
    """Refuses what takes no bytes.

    Raises:
        UsageError: it has no ``write``, or is open as text.
    """
    check_binary(sink)
    if not hasattr(sink, "write"):
        raise UsageError(f"cannot write to a {type(sink).__name__}: give an open binary file")


def open_source(source: Input | Source, *, memory_map: bool = True) -> Source:
    """A source from a path, a buffer, a seekable file or something that is a source already.

    Raises:
        UsageError: it is none of these.
        OSError: there is no such file, or it cannot be mapped.
    """
    if isinstance(source, Source):
        return source
    if is_path(source):
        if memory_map:
            return MappedSource(mapped_view(str(source)))
        return FileSource(pa.OSFile(str(source)))
    check_binary(source)
    if isinstance(source, pa.NativeFile) or hasattr(source, "seek"):
        try:
            return MappedSource(cast("Buffer", source))  # an mmap is a file and a buffer
        except TypeError:
            return FileSource(cast("Seekable", source))
    try:
        return MappedSource(cast("Buffer", source))
    except TypeError:
        raise UsageError(
            f"cannot open a {type(source).__name__}: give a path, a buffer or a seekable file"
        ) from None


def merge_ranges(ranges: Sequence[ByteRange], *, gap_bytes: int = GAP_BYTES) -> list[ByteRange]:
    """The reads that cover the ranges: neighbours with small gaps become one.

    If the ranges make up `WHOLE_SHARE` of their span, the span is read at one go.

    Args:
        ranges: what is wanted, in any order.
        gap_bytes: gaps shorter than this are read along.
    """
    ordered = sorted(wanted_range for wanted_range in ranges if wanted_range.length)
    if not ordered:
        return []
    wanted = sum(wanted_range.length for wanted_range in ordered)
    span = ByteRange(ordered[0].start, max(wanted_range.end for wanted_range in ordered))
    if wanted >= WHOLE_SHARE * span.length:
        return [span]
    merged = [ordered[0]]
    for wanted_range in ordered[1:]:
        last = merged[-1]
        if wanted_range.start - last.end < gap_bytes:
            merged[-1] = ByteRange(last.start, max(last.end, wanted_range.end))
        else:
            merged.append(wanted_range)
    return merged
