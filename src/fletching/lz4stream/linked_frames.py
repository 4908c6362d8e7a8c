"""What of the LZ4 frame format the chained blocks borrow: block size classes, header, stored flag.

Between its header and its end mark, an LZ4 frame with linked blocks and no checksums is a sequence
of ``[4-byte length][block]`` where the length's top bit marks a block that is stored as it is.
"""

from __future__ import annotations

from typing import Any, Final

import lz4.frame

__all__ = ["FRAME_CLASSES", "STORED_FLAG", "start_compressing", "start_decompressing"]

FRAME_CLASSES: Final[tuple[tuple[int, int], ...]] = (
    (64 * 1024, lz4.frame.BLOCKSIZE_MAX64KB),
    (256 * 1024, lz4.frame.BLOCKSIZE_MAX256KB),
    (1024 * 1024, lz4.frame.BLOCKSIZE_MAX1MB),
    (4 * 1024 * 1024, lz4.frame.BLOCKSIZE_MAX4MB),
)
"""The frame's block size limits in bytes, and their names in ``lz4.frame``."""

STORED_FLAG: Final = 0x80000000
"""The bit of a frame's block length that says: not compressed."""


def start_compressing(block_size: int, *, level: int, auto_flush: bool) -> Any:
    """A compression context inside a frame with linked blocks, its header written and dropped."""
    context = lz4.frame.create_compression_context()
    lz4.frame.compress_begin(
        context,
        compression_level=level,
        block_size=block_size,
        block_linked=True,
        content_checksum=False,
        auto_flush=auto_flush,
    )
    return context


def start_decompressing(block_size: int) -> Any:
    """A decompression context that has just read the header of such a frame."""
    writer = lz4.frame.create_compression_context()
    header = lz4.frame.compress_begin(
        writer, block_size=block_size, block_linked=True, content_checksum=False
    )
    context = lz4.frame.create_decompression_context()
    lz4.frame.decompress_chunk(context, header)
    return context
