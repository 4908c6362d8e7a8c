"""The last 64 KiB of a stream, which its next block may refer to."""

from __future__ import annotations

from collections import deque
from typing import Final

from fletching.lz4stream.block_format import HISTORY_BYTES

__all__ = ["RecentOutput", "Window"]

# When references out of reach are dropped: seldom enough not to count for small blocks.
_RECENT_BYTES: Final = 4 * HISTORY_BYTES


class Window:
    """The last ``limit`` bytes appended, always contiguous.

    Costs one copy of what is appended (a block's input is the caller's and may change, and LZ4
    wants its dictionary in one piece) and, amortised, a third of a byte moved per byte.
    """

    __slots__ = ("_buffer", "_end", "_limit", "_view")

    def __init__(self, limit: int = HISTORY_BYTES) -> None:
        self._limit = limit
        # Four times the window: what is kept moves to the front once per three windows' worth.
        self._buffer = bytearray(4 * limit)
        self._view = memoryview(self._buffer)
        self._end = 0

    def append(self, data: memoryview | bytes) -> None:
        """Takes ``data`` as the newest bytes."""
        data = memoryview(data)[-self._limit :] if len(data) > self._limit else data
        if self._end + len(data) > len(self._buffer):
            kept = self._view[max(0, self._end - self._limit) : self._end]
            self._view[: len(kept)] = kept
            self._end = len(kept)
        self._view[self._end : self._end + len(data)] = data
        self._end += len(data)

    def view(self) -> memoryview:
        """The window, oldest byte first; valid until the next ``append``."""
        return self._view[max(0, self._end - self._limit) : self._end]


class RecentOutput:
    """References to the chunks of output that hold the last 64 KiB; nothing is copied until asked."""

    __slots__ = ("_chunks", "_length")

    def __init__(self, dictionary: bytes = b"") -> None:
        self._chunks: deque[bytes] = deque([dictionary] if dictionary else [])
        self._length = len(dictionary)

    def append(self, chunk: bytes) -> None:
        """Keeps a reference to ``chunk`` and lets go of chunks that are out of reach."""
        self._chunks.append(chunk)
        self._length += len(chunk)
        if self._length > _RECENT_BYTES:
            self._trim()

    def _trim(self) -> None:
        chunks = self._chunks
        while self._length - len(chunks[0]) >= HISTORY_BYTES:
            self._length -= len(chunks.popleft())

    def copy(self) -> RecentOutput:
        """The same history, unaffected by what is appended here later."""
        twin = RecentOutput()
        twin._chunks = deque(self._chunks)
        twin._length = self._length
        return twin

    def joined(self) -> memoryview | bytes:
        """The last 64 KiB in one piece: copied, unless one piece holds them all."""
        if len(self._chunks) == 1:
            return memoryview(self._chunks[0])[-HISTORY_BYTES:]
        return b"".join(self._chunks)[-HISTORY_BYTES:]
