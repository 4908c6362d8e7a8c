"""What the buffers of a compressed batch claim to hold, checked before anything is decompressed."""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fletching.errors import LimitExceededError, MalformedFrameError
from fletching.ipc.limits import Limits
from fletching.ipc.metadata import Codec, RecordBatchHeader

__all__ = ["claimed_sizes"]

_I64: Final = struct.Struct("<q")
_MOST_EXPANSION: Final = {Codec.LZ4_FRAME: 256, Codec.ZSTD: 32 << 10}
"""What a stored byte can become at most: LZ4 adds 255 to a match's length with each, and Zstandard
repeats one in a block of 128 KiB that takes four."""
_FREE_CLAIM_BYTES: Final = 128 << 10
"""More than any codec's rounding: so much may always be claimed."""


def claimed_sizes(header: RecordBatchHeader, body: memoryview, limits: Limits) -> NDArray[np.int64]:
    """Uncompressed bytes that each buffer of a compressed batch claims, checked before decoding.

    Each non-empty buffer starts with an i64: its uncompressed length, or -1 if it is stored as is.

    Raises:
        MalformedFrameError: a buffer shorter than that prefix, or a negative length.
        LimitExceededError: the sum, or its ratio to the stored bytes, is above its limit; or a
            buffer claims more bytes than its codec can make of so few.
    """
    sizes = header.buffers[:, 1].copy()
    total = 0
    most = _MOST_EXPANSION[header.compression] if header.compression else 1
    for index, (start, length) in enumerate(header.buffers.tolist()):
        if length == 0:
            continue
        if length < 8:
            raise MalformedFrameError(
                f"compressed buffer {index} has no length prefix",
                layer="record batch",
                expected="8 bytes or more",
                actual=length,
            )
        (claimed,) = _I64.unpack_from(body, start)
        if claimed < -1:
            raise MalformedFrameError(
                f"compressed buffer {index} claims a negative length",
                layer="record batch",
                actual=claimed,
            )
        sizes[index] = length - 8 if claimed == -1 else claimed
        total += int(sizes[index])
        if total > limits.max_uncompressed_bytes:
            raise LimitExceededError(
                "a compressed batch claims too many bytes",
                layer="record batch",
                actual=total,
                limit=limits.max_uncompressed_bytes,
            )
        if claimed > (length - 8) * most + _FREE_CLAIM_BYTES:
            raise LimitExceededError(
                f"compressed buffer {index} claims a compression ratio that {header.compression} cannot have",
                layer="record batch",
                actual=claimed,
                limit=(length - 8) * most + _FREE_CLAIM_BYTES,
            )
    stored = int(header.buffers[:, 1].sum())
    if total > max(limits.ratio_free_bytes, stored * limits.max_compression_ratio):
        raise LimitExceededError(
            "a compressed batch claims too high a compression ratio",
            layer="record batch",
            actual=total // max(stored, 1),
            limit=limits.max_compression_ratio,
        )
    return sizes
