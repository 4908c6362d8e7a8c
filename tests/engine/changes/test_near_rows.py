"""Rows that may have some keys: both ways to look for them find those that have one, and no hidden ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.engine.changes.conftest import MakeTable, engine_of, seen

from fletching.client import Table
from fletching.engine.changes.computed_changes import ComputedChanges
from fletching.engine.changes.key_values import key_numbers
from fletching.engine.changes.near_rows import NearRows, near_by_key, near_by_scan, without_nulls


def test_a_row_without_a_value_has_no_key() -> None:
    batch = pa.record_batch({"a": [1, None, 3], "b": ["x", "y", None]})
    assert without_nulls(batch).tolist() == [True, False, False]


@pytest.mark.parametrize("kind", [pa.int64(), pa.string()])
def test_runs_and_a_look_at_all_rows_find_the_same(new_table: MakeTable, kind: pa.DataType) -> None:
    schema = pa.schema([pa.field("k", kind, nullable=False), ("n", pa.int64())])
    spelt = str if kind == pa.string() else int
    table = new_table(schema, primary_key=["k"], partition_by=["p"])
    for partition in ("x", "y"):
        for first in (0, 40):
            keys = pa.array([spelt(number) for number in range(first, first + 60)], kind)
            batch = pa.record_batch([keys, pa.array(range(60))], schema=schema)
            batches = [batch.slice(start, 7) for start in range(0, 60, 7)]
            table.append(pa.Table.from_batches(batches), f"p={partition}")
    table.delete("n % 5 = 0")
    wanted = [spelt(number) for number in (*range(30, 70, 3), 5000)]
    assert found_in(table, kind, wanted) == expected_in(table, wanted)


def expected_in(table: Table, wanted: list[Any]) -> list[Any]:
    return sorted(key for key in table.scan(["k"]).to_table()["k"].to_pylist() if key in wanted)


def found_in(table: Table, kind: pa.DataType, wanted: list[Any]) -> list[Any]:
    context = engine_of(table).context

    def keys(results: list[NearRows]) -> list[Any]:
        # Those that are near by chance fall away by their values.
        values = [value for near in results for value in near.columns()[0].to_pylist()]
        assert all(len(near.rows) == len(near.numbers) for near in results)
        return sorted(value for value in values if value in wanted)

    def look(computed: ComputedChanges) -> list[Any]:
        view = computed.view
        seed = context.key_seed(view.table.id)
        numbers = np.sort(key_numbers([pa.array(wanted, kind)], seed))
        runs = list(near_by_key(context, view, numbers))
        scanned = list(near_by_scan(view, [0], numbers, seed))
        assert keys(runs) == keys(scanned)
        indices = [
            sorted(
                (near.batch, index)
                for near in results
                for index, value in zip(
                    near.rows.tolist(), near.columns()[0].to_pylist(), strict=True
                )
                if value in wanted
            )
            for results in (runs, scanned)
        ]
        assert indices[0] == indices[1]
        return keys(runs)

    results: list[Any] = seen(table, look)
    return results
