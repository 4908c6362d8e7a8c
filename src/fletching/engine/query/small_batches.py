"""Small batches put together, on their way to whoever takes a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

__all__ = ["SMALL_ROWS", "gathered"]

SMALL_ROWS = 1 << 13
"""Batches of fewer rows are put together, up to so many rows and bytes:"""

GATHERED_ROWS = 1 << 16
GATHERED_BYTES = 4 << 20


def gathered(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows, those of neighbouring small batches copied together.

    Handing a batch over costs as much as computing with some thousand rows of it, and a join takes batches of
    less than 2,048 rows as they come. The first batch goes at once: who wants few rows gets them soon.
    """
    held: list[pa.RecordBatch] = []
    rows = size = 0
    enough = 1
    for batch in batches:
        plain = not any(map(pa.types.is_dictionary, batch.schema.types))
        if held and not (plain and batch.num_rows < SMALL_ROWS):
            yield pa.concat_batches(held)
            held, rows, size = [], 0, 0
        if not plain or batch.num_rows >= SMALL_ROWS:
            yield batch
            continue
        held.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows >= enough or size >= GATHERED_BYTES:
            yield held[0] if len(held) == 1 else pa.concat_batches(held)
            held, rows, size = [], 0, 0
            enough = min(4 * enough + SMALL_ROWS, GATHERED_ROWS)
    if held:
        yield pa.concat_batches(held)
