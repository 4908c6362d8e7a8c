"""Bytes in any chunking to a stream of chained blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from typing_extensions import Buffer

from fletching.errors import UsageError
from fletching.lz4stream.block_format import HISTORY_BYTES, as_bytes_view, as_dictionary
from fletching.lz4stream.chain_compressor import ChainCompressor, Mode, Strategy

__all__ = ["DEFAULT_PAGE_BYTES", "Encoder"]

DEFAULT_PAGE_BYTES: Final = 64 * 1024
"""Input per block: larger gains nothing, as LZ4 looks back no further than 64 KiB."""


class Encoder:
    """Cuts its input into pages and compresses each against what came before.

    Not safe for use by several threads at once. Holds up to about three pages plus 400 KiB.

    Args:
        page_bytes: input per block.
        strategy: ``"ring_buffer"`` (blocks refer to the last 64 KiB) or ``"double_buffer"`` (only
            to the page before: for ``lz4.stream`` and other readers with two pages).
        mode: ``"default"``, ``"fast"`` or ``"high_compression"``.
        acceleration: the factor of mode ``"fast"``.
        compression_level: the level of mode ``"high_compression"``, 1 to 12.
        store_comp_size: width of the size field, 1, 2 or 4 bytes; 0 leaves the sizes to you: each
            buffer returned is one block.
        dictionary: what both sides know beforehand; only the last 64 KiB count.
        history_bytes: for a ring buffer, less than 64 KiB if the reader's ring is smaller: its
            size less two pages.
        end_mark: whether ``finish`` writes a length of 0, by which a reader tells a whole stream
            from one cut between two blocks. ``lz4.stream`` takes that for an error.

    Raises:
        UsageError: an argument is out of its range.
        LZ4StreamError: a page may compress to more than the size field can hold.
        SizeOverflowError: the dictionary is above 2 GiB.
    """

    def __init__(
        self,
        page_bytes: int = DEFAULT_PAGE_BYTES,
        *,
        strategy: str = Strategy.RING_BUFFER,
        mode: str = Mode.DEFAULT,
        acceleration: int = 1,
        compression_level: int = 9,
        store_comp_size: int = 4,
        dictionary: str | Buffer | None = None,
        history_bytes: int = HISTORY_BYTES,
        end_mark: bool = False,
    ) -> None:
        if page_bytes < 1:
            raise UsageError(f"page_bytes {page_bytes} is below 1")
        if end_mark and store_comp_size == 0:
            raise UsageError("an end mark is a size field of 0, and there are no size fields")
        self._chain = ChainCompressor(
            page_bytes,
            strategy=strategy,
            mode=mode,
            acceleration=acceleration,
            compression_level=compression_level,
            store_comp_size=store_comp_size,
            dictionary=as_dictionary(dictionary),
            history_bytes=history_bytes,
        )
        self._page_bytes = page_bytes
        self._end_mark = bytes(store_comp_size) if end_mark else b""
        self._pending = bytearray()
        self._finished = False
        self.bytes_in = 0
        """Bytes taken so far."""
        self.bytes_out = 0
        """Bytes returned so far."""
        self.blocks = 0
        """Blocks returned so far."""

    def encode(self, data: Buffer) -> list[bytes]:
        """Takes ``data`` and returns the blocks it completed, one buffer each; borrows nothing.

        Whole pages are compressed where they lie; only what is left of a page is copied.

        Raises:
            UsageError: after ``finish``.
        """
        return list(self.blocks_of(data))

    def blocks_of(self, data: Buffer) -> Iterator[bytes]:
        """``encode``, block by block: for input that should not stand compressed in memory.

        The iterator must be exhausted before the next call; ``data`` must not change until then.
        """
        if self._finished:
            raise UsageError("the LZ4 stream is finished")
        view = as_bytes_view(data)
        self.bytes_in += len(view)
        page = self._page_bytes
        start = 0
        if self._pending:
            # The page began in an earlier chunk, which is gone: gather it.
            start = min(page - len(self._pending), len(view))
            self._pending += view[:start]
            if len(self._pending) < page:
                return
            yield self._take_pending()
        end = len(view) - (len(view) - start) % page
        compress = self._chain.compress
        for position in range(start, end, page):
            block = compress(view[position : position + page])
            self.blocks += 1
            self.bytes_out += len(block)
            yield block
        if end < len(view):
            self._pending += view[end:]

    def flush(self) -> list[bytes]:
        """Ends the current block early, so that the reader can have all that was taken.

        Costs compression: a short block has its own size field and literals.
        """
        return [self._take_pending()] if self._pending else []

    def finish(self) -> list[bytes]:
        """The last block and, if asked for, the end mark; nothing can be encoded afterwards."""
        if self._finished:
            return []
        buffers = self.flush()
        self._finished = True
        if self._end_mark:
            buffers.append(self._end_mark)
            self.bytes_out += len(self._end_mark)
        return buffers

    def _take_pending(self) -> bytes:
        pending, self._pending = self._pending, bytearray()
        return self._block(memoryview(pending))

    def _block(self, chunk: memoryview) -> bytes:
        block = self._chain.compress(chunk)
        self.blocks += 1
        self.bytes_out += len(block)
        return block
