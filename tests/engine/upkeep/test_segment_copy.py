"""Copies of segments that lost rows keep the bounds of their zones beside the right batches."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import fletching

SCHEMA = pa.schema([("a", pa.int64()), ("b", pa.float64())])


def batches(chance: random.Random, first: int) -> list[pa.RecordBatch]:
    """Batches of none, one or several zones, some of them descending."""
    copied = []
    for _ in range(chance.randint(2, 4)):
        numbers = np.arange(first, first + chance.choice([0, 1, 10, 65_536, 65_537, 140_000]))
        first += len(numbers)
        if chance.random() < 0.4:
            numbers = numbers[::-1].copy()
        copied.append(pa.record_batch({"a": numbers, "b": numbers * 0.5}))
    return copied


@pytest.mark.parametrize("seed", range(4))
def test_filters_choose_the_same_rows_before_and_after_compaction(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    with fletching.connect(tmp_path / "data", create=True) as client:
        table = client.create_table("t", SCHEMA)
        count = 0
        for _ in range(2):
            parts = batches(chance, count)
            count += sum(part.num_rows for part in parts)
            table.append(pa.Table.from_batches(parts, SCHEMA))
        for _ in range(3):
            first = chance.randrange(max(count, 1))
            table.delete(f"a >= {first} AND a < {first + chance.choice([1, 100, 70_000, 150_000])}")
        rows = np.sort(table.to_table()["a"].to_numpy())
        asked = [
            (chance.randrange(max(count, 1)), chance.choice([1, 1000, 66_000])) for _ in range(12)
        ]
        for _ in range(2):
            for first, length in asked:
                wanted = np.count_nonzero((rows >= first) & (rows < first + length))
                assert table.scan(filter=f"a >= {first} AND a < {first + length}").count() == wanted
                half = f"b >= {first * 0.5} AND NOT (a >= {first + length})"
                assert table.scan(filter=half).to_table().num_rows == wanted
            table.compact(purge=True)
