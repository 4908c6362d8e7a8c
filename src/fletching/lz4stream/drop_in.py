"""``lz4.stream``'s two classes, with its arguments, results and exceptions.

Code written for python-lz4's ``lz4.stream`` runs unchanged: what it raised as ``ValueError`` is a
``UsageError``, as ``OverflowError`` a ``SizeOverflowError``, and as ``LZ4StreamError`` the class of
that name. Three things differ on purpose: ``ring_buffer`` works, the decompressor takes blocks
that refer to up to 64 KiB back, and leaving the ``with`` block closes the object.
"""

from __future__ import annotations

from typing import Self

from typing_extensions import Buffer

from fletching.errors import LZ4StreamError, SizeOverflowError, UsageError
from fletching.lz4stream.block_format import (
    LZ4_MAX_INPUT_SIZE,
    as_bytes_view,
    as_dictionary,
    check_store_comp_size,
    input_bound,
    longest_block,
    stored_size_limit,
)
from fletching.lz4stream.chain_compressor import ChainCompressor, Mode, Strategy
from fletching.lz4stream.chain_decompressor import BlockError, ChainDecompressor

__all__ = ["LZ4StreamCompressor", "LZ4StreamDecompressor"]

# What lz4.stream's size argument can hold: an unsigned int.
_BUFFER_SIZE_LIMIT = 0xFFFFFFFF


def _closed() -> UsageError:
    return UsageError("No valid LZ4 stream context supplied")


def _check_buffer_size(buffer_size: int) -> None:
    if not 0 <= buffer_size <= _BUFFER_SIZE_LIMIT:
        raise UsageError(
            f"Invalid buffer_size argument: {buffer_size}. Must be in 0..{_BUFFER_SIZE_LIMIT}"
        )


class LZ4StreamCompressor:
    """Compresses chunks of at most ``buffer_size`` bytes, one block each.

    Args:
        strategy: ``"double_buffer"``: a block refers to the chunk before it only;
            ``"ring_buffer"``: to the last 64 KiB.
        buffer_size: the largest chunk, in bytes.
        mode: ``"default"``, ``"fast"`` or ``"high_compression"``.
        acceleration: the factor of mode ``"fast"``.
        compression_level: the level of mode ``"high_compression"``, 1 to 12.
        return_bytearray: whether results are ``bytearray`` instead of ``bytes``.
        store_comp_size: width of the size field, 1, 2 or 4 bytes; 0 for none.
        dictionary: text (as UTF-8) or any buffer that precedes the first block.

    Raises:
        UsageError: (a ``ValueError``) a strategy, mode or size that does not exist.
        SizeOverflowError: (an ``OverflowError``) the dictionary is too large.
        LZ4StreamError: a chunk of ``buffer_size`` may not fit the size field once compressed.
    """

    def __init__(  # noqa: PLR0917 - lz4.stream's signature
        self,
        strategy: str,
        buffer_size: int,
        mode: str = "default",
        acceleration: int = True,
        compression_level: int = 9,
        return_bytearray: bool = False,
        store_comp_size: int = 4,
        dictionary: str | Buffer | None = "",
    ) -> None:
        history = as_dictionary(dictionary)
        _check_buffer_size(buffer_size)
        self._buffer_size = buffer_size
        self._return_bytearray = bool(return_bytearray)
        self._chain: ChainCompressor | None = ChainCompressor(
            buffer_size,
            strategy=strategy,
            mode=mode or Mode.DEFAULT,
            acceleration=int(acceleration),
            compression_level=compression_level,
            store_comp_size=store_comp_size,
            dictionary=history,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the history; idempotent."""
        self._chain = None

    def compress(self, chunk: Buffer) -> bytes | bytearray:
        """The block of ``chunk``, size field included.

        Raises:
            SizeOverflowError: (an ``OverflowError``) the chunk is larger than ``buffer_size``.
            UsageError: (a ``ValueError``) the compressor is closed.
            TypeError: the chunk is no buffer; text is not.
        """
        if self._chain is None:
            raise _closed()
        view = as_bytes_view(chunk)
        if len(view) > self._buffer_size:
            raise SizeOverflowError(
                "Input too large for LZ4 API", actual=len(view), limit=self._buffer_size
            )
        block = self._chain.compress(view)
        # A copy, asked for: a bytearray is for changing, and ours may be shared.
        return bytearray(block) if self._return_bytearray else block


class LZ4StreamDecompressor:
    """Decompresses one block at a time.

    Args:
        strategy: ``"double_buffer"`` or ``"ring_buffer"``; the same here, as 64 KiB of history
            serve both.
        buffer_size: the limit of one block's decompressed length.
        return_bytearray: whether results are ``bytearray`` instead of ``bytes``.
        store_comp_size: width of the size field, 1, 2 or 4 bytes; 0 for none.
        dictionary: text (as UTF-8) or any buffer that precedes the first block.

    Raises:
        UsageError: (a ``ValueError``) a strategy or size that does not exist.
        SizeOverflowError: (an ``OverflowError``) the dictionary is too large.
    """

    def __init__(
        self,
        strategy: str,
        buffer_size: int,
        return_bytearray: bool = False,
        store_comp_size: int = 4,
        dictionary: str | Buffer | None = "",
    ) -> None:
        history = as_dictionary(dictionary)
        check_store_comp_size(store_comp_size)
        if strategy not in tuple(Strategy):
            raise UsageError(
                f"Invalid strategy argument: {strategy}. Must be one of: {', '.join(Strategy)}"
            )
        _check_buffer_size(buffer_size)
        self._buffer_size = buffer_size
        self._return_bytearray = bool(return_bytearray)
        self._width = store_comp_size
        self._longest = min(longest_block(buffer_size), stored_size_limit(store_comp_size))
        self._chain: ChainDecompressor | None = ChainDecompressor(
            min(buffer_size, LZ4_MAX_INPUT_SIZE), history
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the history; idempotent."""
        self._chain = None

    def decompress(self, chunk: Buffer) -> bytes | bytearray:
        """The contents of one block, given without its size field.

        After an error the history is that of the last good block: another block may be tried.

        Raises:
            LZ4StreamError: the block does not decode into ``buffer_size`` bytes.
            SizeOverflowError: (an ``OverflowError``) the block is longer than the size field holds.
            UsageError: (a ``ValueError``) the decompressor is closed.
            TypeError: the chunk is no buffer; text is not.
        """
        if self._chain is None:
            raise _closed()
        block = chunk if type(chunk) is bytes else as_bytes_view(chunk)
        length = len(block)
        if length > self._longest:
            raise self._too_long(length)
        try:
            data = self._chain.decompress_block(block)
        except BlockError as error:
            # lz4.stream's number is a place in the block; a block that is too large has none here.
            raise LZ4StreamError(
                f"Decompression failed. error: {error.code or length + 1}",
                limit=self._buffer_size if error.too_large else None,
            ) from None
        # A copy, asked for: the history refers to the bytes, which must not change.
        return bytearray(data) if self._return_bytearray else data

    def _too_long(self, length: int) -> SizeOverflowError | LZ4StreamError:
        limit = stored_size_limit(self._width)
        if length > limit:
            return SizeOverflowError(
                f"Source length ({length}) too large for LZ4 store_comp_size ({self._width}) value",
                actual=length,
                limit=limit,
            )
        least = input_bound(length)
        return LZ4StreamError(
            f"Maximal decompressed data ({least}) cannot fit in LZ4 internal buffer "
            f"({self._buffer_size})",
            actual=least,
            limit=self._buffer_size,
        )

    def get_block(self, stream: Buffer) -> bytes | bytearray:
        """The first block of ``stream`` without its size field; only the block is copied.

        Raises:
            LZ4StreamError: ``stream`` holds no complete block, or the sizes are out of band.
            UsageError: (a ``ValueError``) the decompressor is closed.
            TypeError: ``stream`` is no buffer; text is not.
        """
        if self._chain is None:
            raise _closed()
        view = as_bytes_view(stream)
        if self._width == 0:
            raise LZ4StreamError("LZ4 context is configured for storing block size out-of-band")
        available = len(view) - self._width
        if available < 0:
            raise LZ4StreamError("Invalid source, too small for holding any block")
        length = int.from_bytes(view[: self._width], "little")
        if length > available:
            raise LZ4StreamError(
                f"Requested input size ({length}) larger than source size ({available})",
                expected=length,
                actual=available,
            )
        block = view[self._width : self._width + length]
        return bytearray(block) if self._return_bytearray else bytes(block)
