"""Finding streams and files among other bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fletching.errors import WireError
from fletching.ipc.limits import Limits
from fletching.ipc.message import CONTINUATION, MAGIC, Message, message_at
from fletching.ipc.metadata import MessageType

__all__ = ["find_part", "offsets_of"]

_WINDOW_BYTES: Final = 1 << 20
_MAX_CANDIDATES: Final = 20_000
"""Places tried while looking for Arrow data inside other bytes, so that the search ends soon."""


def find_part(view: memoryview, position: int, limits: Limits) -> int | None:
    """Where the next stream or file starts, at or behind a position."""
    if _starts_part(view, position, limits, legacy=True):
        return position
    for candidate in offsets_of(view, (MAGIC + b"\0\0", CONTINUATION), position + 1):
        if _starts_part(view, candidate, limits, legacy=False):
            return candidate
    return None


def offsets_of(view: memoryview, needles: tuple[bytes, ...], position: int) -> Iterator[int]:
    """Places of any of the needles, in order, up to a bound."""
    overlap = max(map(len, needles)) - 1
    tried = 0
    while position < len(view):
        # Copied window by window, since a memoryview cannot be searched.
        chunk = bytes(view[position : position + _WINDOW_BYTES + overlap])
        for offset in sorted({offset for needle in needles for offset in _offsets(chunk, needle)}):
            if offset < _WINDOW_BYTES:
                yield position + offset
                tried += 1
                if tried >= _MAX_CANDIDATES:
                    return
        position += _WINDOW_BYTES


def _offsets(chunk: bytes, needle: bytes) -> Iterator[int]:
    offset = chunk.find(needle)
    while offset >= 0:
        yield offset
        offset = chunk.find(needle, offset + 1)


def _starts_part(view: memoryview, position: int, limits: Limits, *, legacy: bool) -> bool:
    """Whether a file, or a stream whose schema message can be read, starts here."""
    if bytes(view[position : position + 8]) == MAGIC + b"\0\0":
        return True
    if not legacy and bytes(view[position : position + 4]) != CONTINUATION:
        return False
    try:
        result = message_at(view, position, len(view), limits)
    except WireError:
        return False
    return isinstance(result, Message) and result.type is MessageType.SCHEMA
