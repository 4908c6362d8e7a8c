"""Streams of chained blocks as iterators: from chunks to chunks, with the buffering inside."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Final

from typing_extensions import Buffer

from fletching.errors import MalformedFrameError
from fletching.lz4stream.block_format import HISTORY_BYTES, LAYER
from fletching.lz4stream.chain_compressor import Mode, Strategy
from fletching.lz4stream.stream_decoder import DEFAULT_MAX_BLOCK_BYTES, Block, Decoder
from fletching.lz4stream.stream_encoder import DEFAULT_PAGE_BYTES, Encoder

__all__ = ["blocks", "compress", "compress_async", "decompress", "decompress_async"]

READ_AHEAD_BYTES: Final = 256 << 10
"""How many bytes of small chunks `decompress` joins: half a run of blocks."""


def compress(
    chunks: Iterable[Buffer] | bytes | bytearray | memoryview,
    *,
    page_bytes: int = DEFAULT_PAGE_BYTES,
    strategy: str = Strategy.RING_BUFFER,
    mode: str = Mode.DEFAULT,
    acceleration: int = 1,
    compression_level: int = 9,
    store_comp_size: int = 4,
    dictionary: str | Buffer | None = None,
    history_bytes: int = HISTORY_BYTES,
    end_mark: bool = False,
) -> Iterator[bytes]:
    """Compresses chunks of any sizes; yields one block at a time, size field included.

    Takes linear time and, whatever the length, the memory of a few pages; a chunk is borrowed
    until the next one is asked for. A single ``bytes``, ``bytearray`` or ``memoryview`` counts as
    one chunk. The arguments are those of ``Encoder``, and so are the errors.

    >>> packed = b"".join(compress([b"ab" * 5000, b"cd" * 5000]))
    >>> len(packed) < 200, b"".join(decompress([packed])) == b"ab" * 5000 + b"cd" * 5000
    (True, True)
    """
    encoder = Encoder(
        page_bytes,
        strategy=strategy,
        mode=mode,
        acceleration=acceleration,
        compression_level=compression_level,
        store_comp_size=store_comp_size,
        dictionary=dictionary,
        history_bytes=history_bytes,
        end_mark=end_mark,
    )
    return _compressed(encoder, _chunks(chunks))


def _compressed(encoder: Encoder, chunks: Iterable[Buffer]) -> Iterator[bytes]:
    for chunk in chunks:
        yield from encoder.blocks_of(chunk)
    yield from encoder.finish()


async def compress_async(chunks: AsyncIterable[Buffer], encoder: Encoder) -> AsyncIterator[bytes]:
    """``compress`` for a chunk source that is awaited; ``encoder`` has the options.

    Compresses in the event loop's own thread, one page between two awaits of the consumer.
    """
    async for chunk in chunks:
        for block in encoder.blocks_of(chunk):
            yield block
    for block in encoder.finish():
        yield block


def decompress(
    chunks: Iterable[Buffer] | bytes | bytearray | memoryview,
    *,
    store_comp_size: int = 4,
    dictionary: str | Buffer | None = None,
    max_block_bytes: int = DEFAULT_MAX_BLOCK_BYTES,
    max_total_bytes: int | None = None,
    end_mark: bool = False,
    size: int | None = None,
    block_sizes: Iterable[int] | None = None,
    trailing: bool = False,
    read_ahead_bytes: int = READ_AHEAD_BYTES,
) -> Iterator[bytes]:
    """Decompresses a stream given in chunks of any sizes; yields chunks of any size.

    Takes linear time and bounded memory; a chunk is borrowed until the next one is asked for. Small
    chunks are joined, as LZ4 decodes long runs of blocks up to twice as fast: a few at first, so
    that the first bytes come soon, and then more. The
    end of input inside a block is an error. The arguments are those of ``Decoder``, and so are
    the errors.

    Args:
        chunks: the stream; a single ``bytes``, ``bytearray`` or ``memoryview`` is one chunk.
        store_comp_size: width of the size field.
        dictionary: the writer's initial dictionary.
        max_block_bytes: the limit of one block's decompressed length.
        max_total_bytes: the limit of the whole decompressed length.
        end_mark: whether a length of 0 ends the stream, and must be there.
        size: the decompressed length, if known.
        block_sizes: the blocks' lengths, if out of band.
        trailing: whether bytes after the stream's end are ignored; a ``Decoder`` hands them out.
            Then no chunk is asked for that comes behind the end, and chunks are not joined.
        read_ahead_bytes: how many bytes of chunks are joined at most. With 0 each chunk's contents
            are handed out before the next chunk is asked for, as a dialogue needs it.

    Raises:
        TruncatedStreamError: the input ends inside the stream.
        DecompressionError: a block does not decode.
        LimitExceededError: a block or the stream is above its limit.
        MalformedFrameError: a block of length 0, or bytes after the end unless ``trailing``.
    """
    decoder = Decoder(
        store_comp_size=store_comp_size,
        dictionary=dictionary,
        max_block_bytes=max_block_bytes,
        max_total_bytes=max_total_bytes,
        end_mark=end_mark,
        size=size,
        block_sizes=block_sizes,
    )
    source = _chunks(chunks)
    if not trailing and read_ahead_bytes > 0:
        source = joined_chunks(source, read_ahead_bytes)
    return _decompressed(decoder, source, trailing=trailing)


def joined_chunks(chunks: Iterable[Buffer], limit: int) -> Iterator[Buffer]:
    """The chunks, small ones joined: the first as it is, then twice as many bytes each time.

    A chunk is copied before the next one is asked for, since it may be its owner's buffer. If the
    source fails, what came before is handed out first.
    """
    joined = bytearray()
    wanted = 0
    failure: Exception | None = None
    source = iter(chunks)
    while True:
        try:
            chunk = memoryview(next(source))
        except StopIteration:
            break
        except Exception as error:  # noqa: BLE001 - raised below, behind what came before
            failure = error
            break
        if not joined and chunk.nbytes >= wanted:
            yield chunk
        else:
            # The copy takes a tenth of what it saves.
            joined += chunk
            if len(joined) < wanted:
                continue
            yield joined
            joined = bytearray()
        wanted = min(limit, max(2 * wanted, chunk.nbytes, 4096))
    if joined:
        yield joined
    if failure is not None:
        raise failure


def _decompressed(decoder: Decoder, chunks: Iterable[Buffer], *, trailing: bool) -> Iterator[bytes]:
    for chunk in chunks:
        decoder.feed(chunk)
        yield from decoder.events()
        if decoder.eof and _ends(decoder, trailing=trailing):
            return
    decoder.finish()


def _ends(decoder: Decoder, *, trailing: bool) -> bool:
    """Whether to stop reading at the stream's end: at once if what follows does not matter."""
    if not trailing:
        check_no_trailing(decoder)
    return trailing


def check_no_trailing(decoder: Decoder) -> None:
    """Refuses bytes after the stream's end.

    Raises:
        MalformedFrameError: there are some.
    """
    if decoder.unused_data:
        raise MalformedFrameError(
            "bytes follow the end of the stream", layer=LAYER, offset=decoder.bytes_consumed
        )


async def decompress_async(
    chunks: AsyncIterable[Buffer], decoder: Decoder, *, trailing: bool = False
) -> AsyncIterator[bytes]:
    """``decompress`` for a chunk source that is awaited; ``decoder`` has the options.

    Decompresses in the event loop's own thread, some 10 to 100 microseconds between two awaits of
    the consumer.
    """
    async for chunk in chunks:
        decoder.feed(chunk)
        for part in decoder.events():
            yield part
        if decoder.eof and _ends(decoder, trailing=trailing):
            return
    decoder.finish()


def blocks(chunks: Iterable[Buffer], decoder: Decoder) -> Iterator[Block]:
    """The stream's blocks one by one, with place, lengths and contents.

    Raises:
        WireError: as ``decompress``; bytes after the end are left in ``decoder.unused_data``.
    """
    for chunk in _chunks(chunks):
        decoder.feed(chunk)
        yield from decoder.block_events()
    decoder.finish()


def _chunks(chunks: Iterable[Buffer] | bytes | bytearray | memoryview) -> Iterable[Buffer]:
    # Iterating over bytes would give numbers, which nobody means here.
    return (chunks,) if isinstance(chunks, bytes | bytearray | memoryview) else chunks
