"""Sections: any bytes behind their length, so that they can stand between others.

::

    u64 little-endian length | padding | bytes | padding

Without alignment there is no padding. With an alignment, that is a number of bytes which reader and
writer agree on, zeros fill up to its next multiple on both sides, counted from the section's start:
where that is a multiple of it, the bytes begin at one, and so does what follows.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

import pyarrow as pa
from typing_extensions import Buffer

from fletching.errors import (
    LimitExceededError,
    MalformedFrameError,
    TruncatedStreamError,
    UsageError,
)
from fletching.ipc.file_writer import Sink
from fletching.ipc.limits import DEFAULT_LIMITS, Limits
from fletching.ipc.message import as_view
from fletching.ipc.source import Input, Readable, check_sink, open_input, skip

__all__ = ["check_end", "read_prefixed", "read_prefixed_at", "write_prefixed"]

_U64: Final = struct.Struct("<Q")
_MAX_ALIGNMENT: Final = 1 << 20


def check_end(length: int, end: int, what: str) -> None:
    """Refuses bytes behind what was read."""
    rest = length - end
    if rest:
        raise MalformedFrameError(
            f"{rest} bytes follow {what}; the functions whose names end in _at say where it ends",
            layer="stream",
            offset=end,
            expected=0,
            actual=rest,
        )


def _padding(length: int, alignment: int) -> int:
    if not 0 < alignment <= _MAX_ALIGNMENT:
        raise UsageError(f"an alignment of {alignment} bytes is not in 1..{_MAX_ALIGNMENT}")
    return -length % alignment


def write_prefixed(sink: Sink, data: Buffer | Iterable[Buffer], *, alignment: int = 1) -> int:
    """Writes one section: its length as u64, then the bytes; returns how many were written in all.

    Args:
        sink: has ``write(buffer)`` and takes all it is given.
        data: one buffer, or several that make up the section; they are not joined.
        alignment: bytes; 64 lets arrays be used in place by every reader, if the section starts at
            a multiple of 64. To be given to the reader as well.

    Raises:
        UsageError: an alignment that is none, a sink that takes no bytes (a section goes into an open
            file, behind others), or data that is none.
    """
    check_sink(sink)
    if isinstance(data, str):
        raise UsageError("a section is made of bytes, not of text")
    try:
        buffers = [as_view(data)]  # type: ignore[arg-type]  # what is no buffer raises TypeError
    except TypeError:
        buffers = [as_view(buffer) for buffer in data]  # type: ignore[union-attr]  # an iterable then
    length = sum(map(len, buffers))
    before, after = _padding(_U64.size, alignment), _padding(length, alignment)
    sink.write(_U64.pack(length) + bytes(before))
    for buffer in buffers:
        sink.write(buffer)
    if after:
        sink.write(bytes(after))
    return _U64.size + before + length + after


def read_prefixed_at(
    source: Input, offset: int = 0, *, alignment: int = 1, limits: Limits = DEFAULT_LIMITS
) -> tuple[memoryview, int]:
    """The section at ``offset`` as a view, and where it ends, its padding included.

    Args:
        source: a buffer, a path, whose file is mapped, or an open binary file, which is read from where
            it stands and then stands behind the section.
        offset: where the section starts; the end counts from the same place.
        alignment: what it was written with.
        limits: as for `read_prefixed`.

    Raises:
        UsageError: an offset outside the data, or an alignment that is none.
        TruncatedStreamError: the data ends inside the section.
        LimitExceededError: as for `read_prefixed`.
    """
    view = open_input(source)
    if not isinstance(view, memoryview):
        if offset < 0:
            raise UsageError(f"offset {offset} is negative")
        skip(view, offset)
        section = _read_section(view, alignment, limits)
        if section is None:
            raise _truncated_section("length", offset, _U64.size, 0)
        padding = _padding(_U64.size, alignment) + _padding(len(section), alignment)
        return section, offset + _U64.size + len(section) + padding
    if not 0 <= offset <= len(view):
        raise UsageError(f"offset {offset} lies outside the data of {len(view)} bytes")
    start = offset + _U64.size + _padding(_U64.size, alignment)
    if start > len(view):
        raise _truncated_section("length", offset, start - offset, len(view) - offset)
    (length,) = _U64.unpack_from(view, offset)
    if length + _padding(length, alignment) > len(view) - start:
        raise _truncated_section("bytes", offset, length, len(view) - start)
    return view[start : start + length], start + length + _padding(length, alignment)


def read_prefixed(
    source: Input, *, alignment: int = 1, limits: Limits = DEFAULT_LIMITS
) -> memoryview | None:
    """Reads the next section of a blocking file; None if the file ends before it. Or of a buffer.

    Args:
        source: has ``read(n)``, and ``readinto`` if the bytes are to be read straight into place;
            or a buffer, or a path, that is exactly one section, of which a view is returned.
        alignment: what the section was written with.
        limits: ``max_body_bytes`` bounds a section that is read from a file.

    Raises:
        TruncatedStreamError: the source ends inside the section.
        LimitExceededError: the section is longer than the limit; nothing was allocated for it.
        MalformedFrameError: bytes follow the section in a buffer.
    """
    file = open_input(source)
    if isinstance(file, memoryview):
        section, end = read_prefixed_at(file, alignment=alignment)
        check_end(len(file), end, "the section")
        return section
    return _read_section(file, alignment, limits)


def _read_section(file: Readable, alignment: int, limits: Limits) -> memoryview | None:
    wanted = _U64.size + _padding(_U64.size, alignment)
    head = _read_exactly(file, wanted)
    if len(head) == 0:
        return None
    if len(head) < wanted:
        raise _truncated_section("length", 0, wanted, len(head))
    (length,) = _U64.unpack_from(head)
    if length > limits.max_body_bytes:
        raise LimitExceededError(
            "a section is too long", layer="section", actual=length, limit=limits.max_body_bytes
        )
    section = _read_exactly(file, length)
    padding = _padding(length, alignment)
    if len(section) < length or len(_read_exactly(file, padding)) < padding:
        raise _truncated_section("bytes", 0, length, len(section))
    return section


def _read_exactly(file: Readable, length: int) -> memoryview:
    """Reads until there are so many bytes or the file ends, into memory aligned to 64 bytes."""
    target = memoryview(pa.allocate_buffer(length)).cast("B")
    readinto = getattr(file, "readinto", None)
    received = 0
    while received < length:
        if readinto is not None:
            count = readinto(target[received:]) or 0
        else:
            chunk = file.read(length - received)
            count = len(chunk)
            # Such a file hands out its own bytes, which need not be aligned.
            target[received : received + count] = chunk
        if not count:
            break
        received += count
    return target[:received].toreadonly()


def _truncated_section(what: str, offset: int, expected: int, actual: int) -> TruncatedStreamError:
    return TruncatedStreamError(
        f"the input ends inside a section's {what}: {expected} bytes expected, {actual} present",
        layer="section",
        offset=offset,
        expected=expected,
        actual=actual,
    )
