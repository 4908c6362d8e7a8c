"""The limits of read requests: what is outside is refused, nothing is clipped silently."""

from __future__ import annotations

from fletching.errors import InvalidArgumentError

__all__ = ["batch_bytes", "batch_rows", "buffer_codec", "not_negative", "preview_rows"]

MAX_BATCH_ROWS = 20_000
"""Largest ``MaxBatchRows``."""

MIN_BATCH_BYTES, MAX_BATCH_BYTES = 1 << 20, 256 << 20
"""Limits of ``MaxBatchRawSize``."""

DEFAULT_PREVIEW_ROWS = 1000
MAX_PREVIEW_ROWS = 10_000
"""The protocol leaves both open."""

_CODECS = ("lz4", "zstd")


def preview_rows(limit: int | None) -> int:
    """How many rows a preview gives at most.

    Raises:
        InvalidArgumentError: the limit is out of range.
    """
    if limit is None:
        return DEFAULT_PREVIEW_ROWS
    if not 0 <= limit <= MAX_PREVIEW_ROWS:
        raise InvalidArgumentError(
            f"Limit {limit} is not 0 to {MAX_PREVIEW_ROWS}", actual=limit, limit=MAX_PREVIEW_ROWS
        )
    return limit


def batch_rows(rows: int | None) -> int | None:
    """``MaxBatchRows``; None for batches as stored.

    Raises:
        InvalidArgumentError: it is out of range.
    """
    if not rows:
        return None
    if not 1 <= rows <= MAX_BATCH_ROWS:
        raise InvalidArgumentError(
            f"MaxBatchRows {rows} is not 1 to {MAX_BATCH_ROWS}", actual=rows, limit=MAX_BATCH_ROWS
        )
    return rows


def batch_bytes(size: int) -> int | None:
    """``MaxBatchRawSize``; None for any size.

    Raises:
        InvalidArgumentError: it is out of range.
    """
    if not size:
        return None
    if not MIN_BATCH_BYTES <= size <= MAX_BATCH_BYTES:
        raise InvalidArgumentError(
            f"MaxBatchRawSize {size} is neither 0 nor {MIN_BATCH_BYTES} to {MAX_BATCH_BYTES} bytes",
            actual=size,
            limit=MAX_BATCH_BYTES,
        )
    return size


def buffer_codec(codec: str | None) -> str | None:
    """The Arrow buffer codec of a reply; None for as stored.

    Raises:
        InvalidArgumentError: there is no such codec.
    """
    if codec is not None and codec not in _CODECS:
        raise InvalidArgumentError(f"buffer codec {codec!r} is not one of {', '.join(_CODECS)}")
    return codec


def not_negative(what: str, value: int) -> int:
    """A count or offset.

    Raises:
        InvalidArgumentError: it is negative.
    """
    if value < 0:
        raise InvalidArgumentError(f"{what} {value} is negative", actual=value, limit=0)
    return value
