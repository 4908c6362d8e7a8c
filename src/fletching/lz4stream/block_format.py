"""The LZ4 block stream: what stands where, and the sizes that follow from it.

A stream is a sequence of blocks and nothing else, as ``lz4.stream`` writes it:

====== ============ ===== =====================================================================
offset size         type  meaning
====== ============ ===== =====================================================================
0      0, 1, 2 or 4 uint  length of the compressed block, little-endian; absent when the sizes
                          travel out of band
.      the length   bytes one raw LZ4 block, which may refer to the decompressed bytes before it
====== ============ ===== =====================================================================

Blocks are *chained*: a match may reach up to 65,535 bytes back, into earlier blocks or into an
initial dictionary that both sides know. How far a particular writer reaches depends on its
buffers (one page for a double buffer, 64 KiB for a ring buffer or contiguous input), but distances
count from the current byte, so a reader that keeps the last 64 KiB decodes all of them.

No block has length 0 (the empty input still makes one byte). A length of 0 is therefore free to
serve as an *end mark*; ``lz4.stream`` neither writes nor takes one, so it is off by default here.
"""

from __future__ import annotations

import struct
from typing import Final

from typing_extensions import Buffer

from fletching.errors import SizeOverflowError, UsageError

__all__ = [
    "HISTORY_BYTES",
    "LAYER",
    "LZ4_MAX_INPUT_SIZE",
    "SIZE_FIELDS",
    "as_bytes_view",
    "as_dictionary",
    "check_store_comp_size",
    "compress_bound",
    "input_bound",
    "literal_prefix",
    "longest_block",
    "stored_size_limit",
]

LAYER: Final = "lz4stream"
"""The ``layer`` of errors raised by this package."""

LZ4_MAX_INPUT_SIZE: Final = 0x7E000000
"""The largest input of one LZ4 block, in bytes."""

HISTORY_BYTES: Final = 64 * 1024
"""How far back an LZ4 match can reach, rounded up from 65,535 to what every LZ4 peer keeps."""

SIZE_FIELDS: Final = {1: struct.Struct("<B"), 2: struct.Struct("<H"), 4: struct.Struct("<I")}
"""The size field by its width in bytes."""

_DICTIONARY_LIMIT: Final = 0x7FFFFFFF


def compress_bound(length: int) -> int:
    """The longest block that ``length`` bytes can become, or 0 above ``LZ4_MAX_INPUT_SIZE``."""
    return length + length // 255 + 16 if 0 <= length <= LZ4_MAX_INPUT_SIZE else 0


def input_bound(length: int) -> int:
    """The least input whose ``compress_bound`` reaches ``length``, as ``lz4.stream`` reckons it.

    Returns:
        At least 1; 0 when no input can make a block that long.
    """
    length = max(length, 17)
    if length > compress_bound(LZ4_MAX_INPUT_SIZE):
        return 0
    bound = (length * 255 - 4080) >> 8
    return bound + 1 if bound <= LZ4_MAX_INPUT_SIZE else 0


def longest_block(buffer_size: int) -> int:
    """The longest block whose ``input_bound`` is within ``buffer_size``; -1 if there is none."""
    if buffer_size < 1:
        return -1
    return min((256 * buffer_size + 4079) // 255, compress_bound(LZ4_MAX_INPUT_SIZE))


def stored_size_limit(store_comp_size: int) -> int:
    """The largest block length that a size field of this width holds (out of band: 4 bytes)."""
    return (1 << (8 * (store_comp_size or 4))) - 1


def check_store_comp_size(store_comp_size: int) -> None:
    """Refuses a width that the format does not have.

    Raises:
        UsageError: it is not 0, 1, 2 or 4.
    """
    if store_comp_size not in (0, 1, 2, 4):
        raise UsageError("Invalid store_comp_size, valid values: 0, 1, 2 or 4")


def literal_prefix(length: int) -> bytes:
    """The head of a block that holds ``length`` bytes as they are: token and length bytes."""
    if length < 15:
        return bytes((length << 4,))
    full, rest = divmod(length - 15, 255)
    return b"\xf0" + b"\xff" * full + bytes((rest,))


def as_bytes_view(data: Buffer) -> memoryview:
    """A flat view of any C-contiguous buffer; borrows ``data``, copies nothing.

    Raises:
        TypeError: ``data`` is no buffer (text is not), or not contiguous.
    """
    view = memoryview(data)
    if view.format == "B" and view.ndim == 1 and view.contiguous:
        return view
    return view.cast("B") if view.nbytes else memoryview(b"")


def as_dictionary(dictionary: str | Buffer | None) -> bytes:
    """The part of a dictionary that a block can reach: its last 64 KiB; text counts as UTF-8.

    The bytes are copied: they must outlive the caller's buffer.

    Raises:
        SizeOverflowError: above 2 GiB - 1, LZ4's own limit.
    """
    if dictionary is None:
        return b""
    view = as_bytes_view(dictionary.encode() if isinstance(dictionary, str) else dictionary)
    if len(view) > _DICTIONARY_LIMIT:
        raise SizeOverflowError("Dictionary too large for LZ4 API", limit=_DICTIONARY_LIMIT)
    return bytes(view[-HISTORY_BYTES:])
