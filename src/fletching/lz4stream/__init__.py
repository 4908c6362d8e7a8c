"""LZ4 blocks chained by history: a production successor of python-lz4's ``lz4.stream``.

For people: ``compress(chunks)`` and ``decompress(chunks)`` turn chunks of any sizes into chunks,
``compress_async`` and ``decompress_async`` do so for awaited sources, and ``open(path, mode)`` is a
binary file object. ``Encoder`` and ``Decoder`` are the same without the iteration, for sockets and
protocols. ``LZ4StreamCompressor`` and ``LZ4StreamDecompressor`` take the place of ``lz4.stream``'s
classes.

No I/O, clocks or threads, except that ``open`` opens the file it is told to.
"""

from __future__ import annotations

from fletching.errors import LZ4StreamError
from fletching.lz4stream.block_format import HISTORY_BYTES, LZ4_MAX_INPUT_SIZE
from fletching.lz4stream.chain_compressor import Mode, Strategy
from fletching.lz4stream.drop_in import LZ4StreamCompressor, LZ4StreamDecompressor
from fletching.lz4stream.lz4_file import LZ4StreamFile, open  # noqa: A004 - as gzip.open is
from fletching.lz4stream.stream_decoder import DEFAULT_MAX_BLOCK_BYTES, Block, Decoder
from fletching.lz4stream.stream_encoder import DEFAULT_PAGE_BYTES, Encoder
from fletching.lz4stream.streams import (
    blocks,
    compress,
    compress_async,
    decompress,
    decompress_async,
)

__all__ = [
    "DEFAULT_MAX_BLOCK_BYTES",
    "DEFAULT_PAGE_BYTES",
    "HISTORY_BYTES",
    "LZ4_MAX_INPUT_SIZE",
    "Block",
    "Decoder",
    "Encoder",
    "LZ4StreamCompressor",
    "LZ4StreamDecompressor",
    "LZ4StreamError",
    "LZ4StreamFile",
    "Mode",
    "Strategy",
    "blocks",
    "compress",
    "compress_async",
    "decompress",
    "decompress_async",
    "open",
]
