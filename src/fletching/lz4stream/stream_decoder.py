"""A stream of chained blocks, in any chunking, to its contents."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from typing_extensions import Buffer

from fletching.errors import (
    DecompressionError,
    LimitExceededError,
    MalformedFrameError,
    TruncatedStreamError,
    UsageError,
    WireError,
)
from fletching.lz4stream.block_format import (
    LAYER,
    LZ4_MAX_INPUT_SIZE,
    SIZE_FIELDS,
    as_bytes_view,
    as_dictionary,
    check_store_comp_size,
    compress_bound,
)
from fletching.lz4stream.chain_decompressor import BlockError, ChainDecompressor

__all__ = ["DEFAULT_MAX_BLOCK_BYTES", "Block", "Decoder"]

DEFAULT_MAX_BLOCK_BYTES: Final = 4 * 1024 * 1024
"""The default limit of one block's decompressed length."""

# Compressed bytes decoded as one run; more gained nothing from 1 to 64 KiB pages.
_RUN_BYTES: Final = 512 * 1024

# A chunk up to this long is joined to the block that began before it: the copy is cheaper than a
# call for that block alone.
_JOINED_BYTES: Final = 256 * 1024

_SIZE: Final = SIZE_FIELDS[4]


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """One block of a stream.

    Attributes:
        offset: where its size field starts (out of band: the block), in bytes from the stream's
            start.
        stored_length: bytes in the stream, without the size field.
        data: its contents.
    """

    offset: int
    stored_length: int
    data: bytes


class Decoder:
    """Decodes what any LZ4 writer with up to 64 KiB of history made, whatever its page size.

    ``feed`` a chunk, then exhaust ``events``; after the last chunk call ``finish``. Memory stays
    below one block as stored, two as decompressed and about 5 MiB, whatever the input.

    Not safe for use by several threads at once. After an error the decoder is at its end: every
    further call raises the same error.

    Args:
        store_comp_size: width of the size field, 1, 2 or 4 bytes; 0 takes ``block_sizes``.
        dictionary: the writer's initial dictionary.
        max_block_bytes: the limit of one block's decompressed length. A size field above what such
            a block can need is refused before anything is gathered. Below 64 KiB blocks are
            decoded one at a time, which is slower.
        max_total_bytes: the limit of the whole decompressed length; None for none.
        end_mark: whether a length of 0 ends the stream. Then it must be there, and what follows
            it is ``unused_data``.
        size: the decompressed length, if known: the stream then ends after so many bytes, and
            what follows is ``unused_data``.
        block_sizes: for ``store_comp_size=0``: the blocks' lengths as stored, in order.

    Raises:
        UsageError: an argument is out of its range.
        SizeOverflowError: the dictionary is above 2 GiB.
    """

    def __init__(
        self,
        *,
        store_comp_size: int = 4,
        dictionary: str | Buffer | None = None,
        max_block_bytes: int = DEFAULT_MAX_BLOCK_BYTES,
        max_total_bytes: int | None = None,
        end_mark: bool = False,
        size: int | None = None,
        block_sizes: Iterable[int] | None = None,
    ) -> None:
        check_store_comp_size(store_comp_size)
        if (store_comp_size == 0) != (block_sizes is not None):
            raise UsageError("block_sizes are for store_comp_size=0, and needed there")
        if end_mark and store_comp_size == 0:
            raise UsageError("an end mark is a size field of 0, and there are no size fields")
        if not 0 < max_block_bytes <= LZ4_MAX_INPUT_SIZE:
            raise UsageError(f"max_block_bytes {max_block_bytes} is not in 1..{LZ4_MAX_INPUT_SIZE}")
        self._width = store_comp_size
        self._sizes = None if block_sizes is None else iter(block_sizes)
        self._next_size: int | None = None
        self._chain = ChainDecompressor(max_block_bytes, as_dictionary(dictionary))
        self._max_block_bytes = max_block_bytes
        self._max_stored = compress_bound(max_block_bytes)
        self._max_total_bytes = max_total_bytes
        self._end_mark = end_mark
        self._size = size
        self._running: tuple[memoryview, int, int] | None = None
        self._chunks: deque[memoryview] = deque()
        self._ready: deque[Block] = deque()
        self._partial = bytearray()
        self._unused: list[memoryview] = []
        self._error: WireError | None = None
        self.eof = size == 0
        """Whether the stream's end was reached: its end mark, or its known size."""
        self.bytes_consumed = 0
        """Bytes of the stream decoded so far: whole blocks, and the end mark."""
        self.bytes_out = 0
        """Decompressed bytes so far."""
        self.blocks = 0
        """Blocks decoded so far."""

    @property
    def unused_data(self) -> bytes:
        """What was fed after the stream's end; copied, as the chunks are the caller's."""
        return b"".join(self._unused)

    def feed(self, data: Buffer) -> None:
        """Takes the next bytes; borrows ``data`` until ``events`` is exhausted.

        Only an incomplete block at the end of ``data`` is then copied, or all of a short chunk
        that such a block's end comes with.
        """
        if self._error is not None:
            raise self._error
        view = as_bytes_view(data)
        if view:
            self._chunks.append(view)

    def events(self) -> Iterator[bytes]:
        """The contents that are complete, in chunks of any size.

        Raises:
            DecompressionError: a block does not decode; what came before it is handed out first.
            LimitExceededError: a block or the stream is above its limit.
            MalformedFrameError: a block of length 0 without end marks, or across the known size.
        """
        while self._advance(one_by_one=False):
            while self._ready:
                yield self._ready.popleft().data

    def block_events(self) -> Iterator[Block]:
        """``events``, one block at a time with its place and length; slower for small blocks.

        For one stream use either this or ``events``.
        """
        while self._advance(one_by_one=True):
            while self._ready:
                yield self._ready.popleft()

    def finish(self) -> None:
        """Tells that no more input comes; ``events`` must be exhausted.

        Raises:
            TruncatedStreamError: the input ended inside a block, or before the end mark, the known
                size or the last of ``block_sizes``.
        """
        if self._error is not None:
            raise self._error
        if self._ready or self._running or (self._chunks and not self.eof):
            raise UsageError("events() must be exhausted before finish()")
        if self._partial:
            raise self._fail(
                TruncatedStreamError(
                    "the input ends inside a block",
                    layer=LAYER,
                    offset=self.bytes_consumed,
                    expected=self._wanted(),
                    actual=len(self._partial),
                )
            )
        if self.eof:
            return
        if self._size is not None:
            raise self._fail(
                TruncatedStreamError(
                    "the input ends before its known size",
                    layer=LAYER,
                    offset=self.bytes_consumed,
                    expected=self._size,
                    actual=self.bytes_out,
                )
            )
        if self._end_mark or (self._sizes is not None and self._size_out_of_band() is not None):
            raise self._fail(
                TruncatedStreamError(
                    "the input ends before its end mark"
                    if self._end_mark
                    else "the input ends before the last of its blocks",
                    layer=LAYER,
                    offset=self.bytes_consumed,
                )
            )

    # --- cutting -----------------------------------------------------------------------------

    def _advance(self, *, one_by_one: bool) -> bool:
        """Decodes until something is ready; False when more input is needed or the end is reached."""
        while not self._ready:
            if self._error is not None:
                raise self._error
            if self._running is not None:
                self._continue_run()
                continue
            if self._width == 0 and self._size_out_of_band() is None:
                self.eof = True
            if self.eof:
                self._unused.extend(self._chunks)
                self._chunks.clear()
                return False
            if not self._chunks:
                return False
            view = self._chunks.popleft()
            if self._partial:
                if len(view) <= _JOINED_BYTES and len(self._partial) + len(view) >= self._wanted():
                    joined, self._partial = self._partial, bytearray()
                    joined += view
                    self._chunks.appendleft(memoryview(joined))
                    continue
                accepted = self._complete(view)
                if accepted < len(view):
                    self._chunks.appendleft(view[accepted:])
                if len(self._partial) >= self._wanted():
                    block, self._partial = memoryview(self._partial), bytearray()
                    self._decode_one(block)
                continue
            consumed = 0
            if not one_by_one and self._size is None and self._chain.checks_runs:
                consumed = self._start_run(view)
            if consumed == 0:
                consumed = self._decode_one(view)
            if consumed == 0:
                # Copied: the chunk is the caller's, and the block's end comes in another.
                self._partial += view
            elif consumed < len(view):
                self._chunks.appendleft(view[consumed:])
        return True

    def _complete(self, view: memoryview) -> int:
        """Takes from ``view`` what the block in ``_partial`` still lacks; returns how much."""
        position = 0
        while position < len(view) and (missing := self._wanted() - len(self._partial)) > 0:
            accepted = view[position : position + missing]
            self._partial += accepted
            position += len(accepted)
        return position

    def _wanted(self) -> int:
        """How long the block that begins ``_partial`` is, or its size field while that is cut."""
        if self._width == 0:
            length = self._size_out_of_band() or 0
        elif len(self._partial) < self._width:
            return self._width
        else:
            length = int.from_bytes(self._partial[: self._width], "little")
        # A length beyond the limit is not waited for: decoding refuses it.
        return self._width + (length if length <= self._max_stored else 0)

    def _size_out_of_band(self) -> int | None:
        if self._next_size is None and self._sizes is not None:
            self._next_size = next(self._sizes, None)
        return self._next_size

    # --- decoding ----------------------------------------------------------------------------

    def _start_run(self, view: memoryview) -> int:
        """Begins to decode the complete, plain blocks at the head of ``view``; returns their length."""
        width = self._width
        last_start = len(view) - width
        if width == 0 or last_start < 0:
            return 0
        limit = min(self._chain.run_block_bytes, self._max_stored)
        unpack = SIZE_FIELDS[width].unpack_from
        parts: list[bytes | memoryview] = []
        position = blocks = 0
        while position < _RUN_BYTES and position <= last_start:
            (length,) = unpack(view, position)
            start = position + width
            if not 0 < length <= limit or start + length > len(view):
                break
            position = start + length
            blocks += 1
            if width != 4:
                parts += (_SIZE.pack(length), view[start:position])
        if blocks:
            # Other widths are copied: LZ4 reads runs with 4-byte lengths.
            run = view[:position] if width == 4 else memoryview(b"".join(parts))
            self._chain.start_run(run)
            self._running = run, position, blocks
        return position

    def _continue_run(self) -> None:
        """Makes the run's next chunk ready, or accounts for its end."""
        assert self._running is not None
        run, stored_length, blocks = self._running
        try:
            chunk = self._chain.next_chunk()
        except BlockError as error:
            self._running = None
            at = 0
            for _ in range(error.index):
                (length,) = _SIZE.unpack_from(run, at)
                at += 4 + length
                self.bytes_consumed += self._width + length
            self.blocks += error.index
            self._refuse_block(error)
            return
        if chunk:
            self._hand_out(chunk)
        else:
            self._running = None
            self.bytes_consumed += stored_length
            self.blocks += blocks

    def _decode_one(self, view: memoryview) -> int:
        """Decodes the block at the head of ``view``; returns its length, or 0 if it is incomplete."""
        width = self._width
        if len(view) < width:
            return 0
        length = int.from_bytes(view[:width], "little") if width else self._size_out_of_band() or 0
        if length <= 0:
            if width == 0 or not self._end_mark:
                raise self._fail(
                    MalformedFrameError(
                        "a block of length 0", layer=LAYER, offset=self.bytes_consumed
                    )
                )
            self.eof = True
            self.bytes_consumed += width
            return width
        if length > self._max_stored:
            raise self._fail(
                LimitExceededError(
                    f"a block of {length} bytes is above what {self._max_block_bytes} bytes can need",
                    layer=LAYER,
                    offset=self.bytes_consumed,
                    actual=length,
                    limit=self._max_stored,
                )
            )
        end = width + length
        if end > len(view):
            return 0
        self._next_size = None
        try:
            data = self._chain.decompress_block(view[width:end])
        except BlockError as error:
            self._refuse_block(error)
            return end
        self._hand_out(data, length)
        self.blocks += 1
        self.bytes_consumed += end
        if self.bytes_out == self._size:
            self.eof = True
        return end

    def _hand_out(self, chunk: bytes, stored_length: int = 0) -> None:
        """Makes decoded bytes ready, within the stream's limits."""
        self.bytes_out += len(chunk)
        if self._max_total_bytes is not None and self.bytes_out > self._max_total_bytes:
            raise self._fail(
                LimitExceededError(
                    f"the stream decompresses to more than {self._max_total_bytes} bytes",
                    layer=LAYER,
                    offset=self.bytes_consumed,
                    actual=self.bytes_out,
                    limit=self._max_total_bytes,
                )
            )
        if self._size is not None and self.bytes_out > self._size:
            raise self._fail(
                MalformedFrameError(
                    f"a block reaches past the stream's known size of {self._size} bytes",
                    layer=LAYER,
                    offset=self.bytes_consumed,
                    expected=self._size,
                    actual=self.bytes_out,
                )
            )
        if chunk:
            self._ready.append(Block(self.bytes_consumed, stored_length, chunk))

    def _refuse_block(self, error: BlockError) -> None:
        """Notes the error of the block at ``bytes_consumed``, to be raised once it is its turn."""
        if error.too_large:
            self._error = LimitExceededError(
                f"a block decompresses to more than {self._max_block_bytes} bytes",
                layer=LAYER,
                offset=self.bytes_consumed,
                limit=self._max_block_bytes,
            )
        else:
            self._error = DecompressionError(
                f"a block does not decompress: LZ4 error {error.code}",
                layer=LAYER,
                offset=self.bytes_consumed,
            )

    def _fail(self, error: WireError) -> WireError:
        self._error = error
        return error
