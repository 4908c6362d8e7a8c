"""Limits of read requests: what is outside is refused, nothing is clipped."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fletching.engine.reading.batch_strategies import (
    batch_bytes,
    batch_rows,
    buffer_codec,
    not_negative,
    preview_rows,
)
from fletching.errors import InvalidArgumentError
from fletching.protocol.messages.vocabulary import (
    MAX_BATCH_BYTES,
    MAX_BATCH_ROWS,
    MAX_PREVIEW_ROWS,
    MIN_BATCH_BYTES,
)


@pytest.mark.parametrize(
    ("limit", "given", "used"),
    [
        (preview_rows, None, 1000),
        (preview_rows, 0, 0),
        (preview_rows, MAX_PREVIEW_ROWS, MAX_PREVIEW_ROWS),
        (batch_rows, None, None),
        (batch_rows, 0, None),
        (batch_rows, 1, 1),
        (batch_rows, MAX_BATCH_ROWS, MAX_BATCH_ROWS),
        (batch_bytes, 0, None),
        (batch_bytes, MIN_BATCH_BYTES, MIN_BATCH_BYTES),
        (batch_bytes, MAX_BATCH_BYTES, MAX_BATCH_BYTES),
        (batch_bytes, 256 * 1024 * 1024, 256 * 1024 * 1024),
        (buffer_codec, None, None),
        (buffer_codec, "lz4", "lz4"),
        (buffer_codec, "zstd", "zstd"),
    ],
)
def test_what_is_within(limit: Callable[[object], object], given: object, used: object) -> None:
    assert limit(given) == used


@pytest.mark.parametrize(
    ("limit", "given"),
    [
        (preview_rows, -1),
        (preview_rows, MAX_PREVIEW_ROWS + 1),
        (batch_rows, -1),
        (batch_rows, MAX_BATCH_ROWS + 1),
        (batch_bytes, -1),
        (batch_bytes, MIN_BATCH_BYTES - 1),
        (batch_bytes, MAX_BATCH_BYTES + 1),
        (buffer_codec, "LZ4"),
        (buffer_codec, ""),
    ],
)
def test_what_is_outside(limit: Callable[[object], object], given: object) -> None:
    with pytest.raises(InvalidArgumentError):
        limit(given)


def test_counts_name_what_they_count() -> None:
    assert not_negative("RowOffset", 0) == 0
    with pytest.raises(InvalidArgumentError, match="RowOffset -1 is negative"):
        not_negative("RowOffset", -1)
