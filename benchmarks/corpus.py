"""Tables to move, made from a seed: the same bytes on every machine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

SEED = 20260101
BATCH_ROWS = (4_096, 65_536, 1_000_000)

_WORDS = np.array(
    ["arrow", "batch", "column", "buffer", "offset", "stream", "segment", "extent", "row", "wire"]
)


def numeric(rows: int, rng: np.random.Generator, columns: int = 10) -> pa.RecordBatch:
    """Equal float64 columns: what projection is measured on."""
    return pa.record_batch({f"f{n}": rng.random(rows) for n in range(columns)})


def _text(values: np.ndarray, **options: np.ndarray) -> pa.Array:
    """Text in one array; pyarrow makes several of a long one."""
    made = pa.array(values, **options)
    return made.combine_chunks() if isinstance(made, pa.ChunkedArray) else made


def strings(rows: int, rng: np.random.Generator) -> pa.RecordBatch:
    """An id and two texts of uneven length."""
    short = _WORDS[rng.integers(0, len(_WORDS), rows)]
    numbers = rng.integers(0, 10**12, rows)
    long = np.char.add(np.char.add(short, "-"), numbers.astype(str))
    return pa.record_batch({"id": pa.array(numbers), "word": _text(short), "path": _text(long)})


def nested(rows: int, rng: np.random.Generator) -> pa.RecordBatch:
    """A list of float32 (an embedding of 16), a struct, and a list of structs."""
    embedding = pa.FixedSizeListArray.from_arrays(
        pa.array(rng.random(rows * 16, dtype=np.float32)), 16
    )
    box = pa.StructArray.from_arrays(
        [pa.array(rng.random(rows)) for _ in range(4)], ["left", "top", "right", "bottom"]
    )
    lengths = rng.integers(0, 4, rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    total = int(offsets[-1])
    tags = pa.ListArray.from_arrays(
        pa.array(offsets),
        pa.StructArray.from_arrays(
            [pa.array(rng.integers(0, 1000, total)), pa.array(rng.random(total))],
            ["label", "score"],
        ),
    )
    return pa.record_batch({"embedding": embedding, "box": box, "tags": tags})


def nulls(rows: int, rng: np.random.Generator) -> pa.RecordBatch:
    """Numbers and texts of which a third is null."""
    columns: dict[str, pa.Array] = {}
    for n in range(6):
        columns[f"n{n}"] = pa.array(rng.random(rows), mask=rng.random(rows) < 1 / 3)
    words = _WORDS[rng.integers(0, len(_WORDS), rows)]
    columns["word"] = _text(words, mask=rng.random(rows) < 1 / 3)
    return pa.record_batch(columns)


SHAPES: dict[str, Callable[[int, np.random.Generator], pa.RecordBatch]] = {
    "numeric": numeric,
    "strings": strings,
    "nested": nested,
    "nulls": nulls,
}


def make(shape: str, batch_rows: int, total_bytes: int) -> list[pa.RecordBatch]:
    """Batches of one shape, together about ``total_bytes``; a few different ones, repeated."""
    rng = np.random.default_rng([SEED, batch_rows, sorted(SHAPES).index(shape)])
    distinct = [SHAPES[shape](batch_rows, rng) for _ in range(3)]
    size = sum(batch.nbytes for batch in distinct) / len(distinct)
    count = max(2, round(total_bytes / size))
    return [distinct[number % len(distinct)] for number in range(count)]
