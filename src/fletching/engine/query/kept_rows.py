"""Rows of tables of many small segments, kept for the next mention of the same version.

Opening a segment takes some seventy microseconds, whatever it holds: a table that is appended to all the time
would cost a query thirty milliseconds for a few kilobytes, each time it is mentioned. What was read of such a
table is kept in one piece; a version never changes, so it is right as long as somebody may read that version.

Small batches are put together on their way to whoever takes a batch at a time, kept or not.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator

import pyarrow as pa

from fletching.engine.cache import RecentlyUsed

__all__ = ["SMALL_ROWS", "KeptRows", "gathered"]

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


MOST_BYTES = 64 << 20
"""Of everything that is kept."""

MOST_OF_ONE = 8 << 20
LEAST_BATCHES = 16
"""What comes in fewer batches is read as fast as it is kept."""

_KEY_BYTES = 1 << 10
"""About what a key takes, which is more than some rows do."""

_Rows = tuple[pa.Schema, Iterator[pa.RecordBatch]]


class KeptRows:
    """Reads rows, and remembers those that came in many small batches. Thread-safe."""

    def __init__(self) -> None:
        self._kept = RecentlyUsed[Hashable, pa.Buffer](
            MOST_BYTES, weight=lambda kept: kept.size + _KEY_BYTES
        )

    def clear(self) -> None:
        """Forgets everything."""
        self._kept.clear()

    def rows(self, key: Hashable, begin: Callable[[], _Rows]) -> _Rows:
        """The columns, and the rows in batches.

        Args:
            key: says which rows of which version of which table.
            begin: reads them.
        """
        known = self._kept.get(key)
        if known is not None:
            reader = pa.ipc.open_stream(known)
            return reader.schema, iter(reader)
        schema, batches = begin()
        if any(map(pa.types.is_dictionary, schema.types)):
            return schema, batches
        return schema, self._noticed(key, schema, batches)

    def _noticed(
        self, key: Hashable, schema: pa.Schema, batches: Iterator[pa.RecordBatch]
    ) -> Iterator[pa.RecordBatch]:
        count = size = 0
        held: list[pa.RecordBatch] | None = []

        def small() -> Iterator[pa.RecordBatch]:
            nonlocal count, held
            for batch in batches:
                count += 1
                if batch.num_rows >= SMALL_ROWS:
                    held = None
                yield batch

        # What is put together is a copy, so that no segment stays open for it.
        for batch in gathered(small()):
            size += batch.nbytes
            if size > MOST_OF_ONE:
                held = None
            if held is not None:
                held.append(batch)
            yield batch
        if held is None or count < LEAST_BATCHES:
            return
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as writer:
            writer.write_table(pa.Table.from_batches(held, schema).combine_chunks())
        kept = sink.getvalue()
        # Of types that not everybody knows, another may come back.
        if pa.ipc.open_stream(kept).schema.equals(schema, check_metadata=True):
            self._kept.put(key, kept)
