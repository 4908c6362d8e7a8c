"""One chunk in, one block out, each block compressed against the bytes before it.

Two ways through the ``lz4`` package give the same kind of block:

- *Linked*: ``lz4.frame`` keeps LZ4's own streaming state between calls when its blocks are linked,
  and what it emits between the frame's header and end mark is ``[4-byte length][block]``: this
  format. Its state survives from block to block, so a small block does not pay for indexing its
  history again. A block that did not shrink is stored by the frame (top bit of the length), which
  this format does not know; it is rewritten as one run of literals.
- *Rebuilt*: ``lz4.block`` with the history as its dictionary. It indexes the history anew for
  every block, which costs about as much as compressing a third of it, and finds a little less, but
  takes any history, any size and every level.

Measured at 8 KiB pages of text, over 64 KiB of history: linked 500 MB/s, rebuilt 280 MB/s.
"""

from __future__ import annotations

import enum
from typing import Any, Final

import lz4.block
import lz4.frame

from fletching.errors import LZ4StreamError, UsageError
from fletching.lz4stream.block_format import (
    HISTORY_BYTES,
    LZ4_MAX_INPUT_SIZE,
    SIZE_FIELDS,
    check_store_comp_size,
    compress_bound,
    literal_prefix,
    stored_size_limit,
)
from fletching.lz4stream.history import Window
from fletching.lz4stream.linked_frames import FRAME_CLASSES, start_compressing

__all__ = ["ChainCompressor", "Mode", "Strategy"]


_compress_chunk: Final = lz4.frame.compress_chunk
_compress_flush: Final = lz4.frame.compress_flush


class Strategy(enum.StrEnum):
    """Which earlier bytes a block may refer to: what the reader's buffers must still hold."""

    DOUBLE_BUFFER = "double_buffer"
    """Only the chunk before: for readers that decompress into two pages in turn."""
    RING_BUFFER = "ring_buffer"
    """The last 64 KiB: for readers that keep them in a ring, or in one piece."""


class Mode(enum.StrEnum):
    """How hard to look for matches."""

    DEFAULT = "default"
    FAST = "fast"
    HIGH_COMPRESSION = "high_compression"


# High compression levels that the frame would take for a fast mode.
_LEVELS_BELOW_FRAME: Final = range(1, 3)

# An initial dictionary is indexed best by the rebuilt way. It is left when the dictionary is out
# of reach, or after this many blocks: tiny blocks must not index 64 KiB each for long.
_REBUILT_BLOCKS: Final = 16


class ChainCompressor:
    """Compresses chunks of up to ``page_bytes`` into chained blocks with their size field.

    Not safe for use by several threads at once. Holds up to about twice the page plus 400 KiB.

    Args:
        page_bytes: the largest chunk.
        strategy: how far back blocks may refer.
        mode: default, fast (see ``acceleration``) or high compression (see ``compression_level``).
        acceleration: fast mode's factor; below 1 counts as 1.
        compression_level: 1 to 12; 0 or less counts as 9.
        store_comp_size: bytes of the size field: 1, 2, 4, or 0 for none.
        dictionary: at most 64 KiB that precede the first block on both sides.
        history_bytes: for a ring buffer, how far back a block may refer when the reader keeps
            less than 64 KiB.

    Raises:
        UsageError: an argument is out of its range.
        LZ4StreamError: a page may compress to more than the size field can hold.
    """

    def __init__(
        self,
        page_bytes: int,
        *,
        strategy: str = Strategy.RING_BUFFER,
        mode: str = Mode.DEFAULT,
        acceleration: int = 1,
        compression_level: int = 9,
        store_comp_size: int = 4,
        dictionary: bytes = b"",
        history_bytes: int = HISTORY_BYTES,
    ) -> None:
        check_store_comp_size(store_comp_size)
        if strategy not in tuple(Strategy):
            raise UsageError(
                f"Invalid strategy argument: {strategy}. Must be one of: {', '.join(Strategy)}"
            )
        if mode not in tuple(Mode):
            raise UsageError(f"Invalid mode argument: {mode}. Must be one of: {', '.join(Mode)}")
        bound = compress_bound(page_bytes)
        if bound == 0:
            raise UsageError(
                f"Invalid buffer_size argument: {page_bytes}. Cannot define output buffer size. "
                f"Must be lesser or equal to {LZ4_MAX_INPUT_SIZE}"
            )
        if bound > stored_size_limit(store_comp_size):
            raise LZ4StreamError(
                "Inconsistent buffer_size/store_comp_size values. "
                f"Maximal compressed length ({bound}) cannot fit in a {store_comp_size} "
                "byte-long integer"
            )
        if not 0 < history_bytes <= HISTORY_BYTES:
            raise UsageError(f"history_bytes {history_bytes} is not in 1..{HISTORY_BYTES}")
        self.page_bytes = page_bytes
        self._width = store_comp_size
        self._store_size = SIZE_FIELDS[store_comp_size].pack if store_comp_size else None
        self._double_buffer = strategy == Strategy.DOUBLE_BUFFER
        self._block_options: dict[str, object] = {"mode": str(mode), "store_size": False}
        if mode == Mode.HIGH_COMPRESSION:
            self._block_options["compression"] = compression_level
            self._frame_level = min(compression_level, 12) if compression_level > 0 else 9
        elif mode == Mode.FAST:
            self._block_options["acceleration"] = max(acceleration, 1)
            self._frame_level = 1 - max(acceleration, 1)
        else:
            self._frame_level = 0
        # A linked double buffer adjoins its history only where one page covers all of it.
        self._adjoining = not self._double_buffer or page_bytes >= HISTORY_BYTES
        self._class: int | None = None
        if not (
            (mode == Mode.HIGH_COMPRESSION and compression_level in _LEVELS_BELOW_FRAME)
            or history_bytes < HISTORY_BYTES
        ):
            self._class = self._frame_class()
        can_link = self._class is not None
        # Whether what a frame makes needs no change, unless it is stored.
        self._as_made = store_comp_size == 4 and not (self._double_buffer and self._adjoining)
        self._frame: Any = None
        # What the rebuilt way refers to; dead weight once the frame is in charge.
        self._previous: memoryview | bytes = dictionary[-history_bytes:]
        self._window: Window | None = None
        if not self._double_buffer and (not can_link or dictionary):
            self._window = Window(history_bytes)
            self._window.append(self._previous)
        self._rebuilt_left = _REBUILT_BLOCKS if can_link and dictionary else 0
        self._dictionary_reach = HISTORY_BYTES if dictionary else 0

    def compress(self, chunk: memoryview) -> bytes:
        """One block, size field included; ``chunk`` may change as soon as this returns.

        The caller sees to ``len(chunk) <= page_bytes``.
        """
        frame = self._frame
        if frame is None or not chunk:
            return self._compress_first(chunk)
        # The hot path: no calls but LZ4's, as a small block takes it a microsecond or two.
        block: bytes = _compress_chunk(frame, chunk)
        if self._adjoining:
            block = _compress_flush(frame, False)  # keywords cost as much as a small block
        if self._as_made and block[3] < 0x80:
            return block
        return self._finish_linked(chunk, block)

    def _compress_first(self, chunk: memoryview) -> bytes:
        """``compress`` while no frame is in charge."""
        if not chunk:
            return self._compress_nothing()
        if self._class is not None and not self._rebuilt_left:
            self._start_frame(self._class)
            return self.compress(chunk)
        return self._compress_rebuilt(chunk)

    def _compress_nothing(self) -> bytes:
        """The block of the empty chunk: one byte. It occupies a page of a double buffer."""
        if self._double_buffer:
            self._frame = None
            self._previous = b""
            self._rebuilt_left = 0
        return self._sized(b"\x00")

    # --- linked ------------------------------------------------------------------------------

    def _frame_class(self) -> int | None:
        # A chunk smaller than its class is gathered in the frame's own buffer, right behind its
        # history, and compressed there, which is LZ4's fastest arrangement; otherwise it only
        # has to fit.
        for limit, block_size in FRAME_CLASSES:
            if self.page_bytes < limit or (self.page_bytes == limit and not self._adjoining):
                return block_size
        return None

    def _start_frame(self, block_size: int) -> None:
        """Opens a frame and lets it index what the next block may refer to."""
        self._frame = start_compressing(
            block_size, level=self._frame_level, auto_flush=not self._adjoining
        )
        history = memoryview(self._previous if self._window is None else self._window.view())
        # In one piece where only the last chunk counts as history, else in pieces below any class.
        step = HISTORY_BYTES // 2 if self._adjoining else HISTORY_BYTES
        for start in range(0, len(history), step):
            _compress_chunk(self._frame, history[start : start + step])
            if self._adjoining:
                _compress_flush(self._frame, False)
        self._window = None
        self._previous = b""

    def _finish_linked(self, chunk: memoryview, block: bytes) -> bytes:
        """What a block from the frame still needs to be one of ours."""
        if self._double_buffer and self._adjoining and len(chunk) < HISTORY_BYTES:
            # The frame would go on referring to the page before this one, which the reader is
            # about to overwrite: begin again from this short chunk alone (copied: it is the
            # caller's).
            self._frame = None
            self._previous = bytes(chunk)
        if block[3] & 0x80:
            return self._sized(literal_prefix(len(chunk)), memoryview(block)[4:])
        if self._width == 4:
            return block
        return self._sized(memoryview(block)[4:])

    # --- rebuilt -----------------------------------------------------------------------------

    def _compress_rebuilt(self, chunk: memoryview) -> bytes:
        history = self._previous if self._window is None else self._window.view()
        block = lz4.block.compress(chunk, dict=history, **self._block_options)
        if self._window is not None:
            self._window.append(chunk)
        else:
            # A part of a bytes object is kept as it is, which also lets LZ4 see that it adjoins
            # the next chunk; anything else may change under us and is copied.
            kept = chunk[-HISTORY_BYTES:]
            self._previous = kept if type(chunk.obj) is bytes else bytes(kept)
        if self._rebuilt_left:
            self._dictionary_reach -= len(chunk)
            self._rebuilt_left -= 1
            if self._double_buffer or self._dictionary_reach <= 0:
                self._rebuilt_left = 0
        return self._sized(block)

    def _sized(self, *parts: bytes | memoryview) -> bytes:
        """Puts the size field before a block; copies it once, as the result is one object."""
        if self._store_size is None:
            return b"".join(parts)
        return b"".join((self._store_size(sum(map(len, parts))), *parts))
