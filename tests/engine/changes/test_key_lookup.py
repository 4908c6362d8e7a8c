"""Keys are found in merged runs where there are some, and beside them where these are gone or damaged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fletching.catalog.merged_run_rows import merged_runs_of
from fletching.catalog.segment_rows import visible_segments
from fletching.catalog.table_rows import get_table
from fletching.engine.changes import key_lookup
from fletching.engine.changes.key_lookup import Wanted, located, open_merged
from fletching.engine.changes.key_runs import open_run, run_indexes
from fletching.engine.upkeep.run_merging import MOST_RUNS
from fletching.errors import CorruptObjectError, ObjectNotFoundError
from fletching.types import TableName

T = TableName("demo", "t")
SCHEMA = pa.schema([pa.field("k", pa.int64(), nullable=False), ("v", pa.int64())])


SEGMENTS = MOST_RUNS + 2


@pytest.fixture
def house(house: Any) -> Any:
    """Many segments with five keys each."""
    house.create(SCHEMA, primary_key=("k",))
    for start in range(0, 5 * SEGMENTS, 5):
        keys = range(start, start + 5)
        house.append(pa.record_batch([pa.array(keys), pa.array(keys)], SCHEMA))
    return house


def find(house: Any) -> dict[tuple[str, int], int]:
    """The row of every key of the table, by segment and the key's place."""
    context = house.engine.context
    with context.database.read() as connection:
        table = get_table(connection, T)
        segments = visible_segments(connection, table.id, table.version)
        indexes = run_indexes()
        numbers = np.unique(
            np.concatenate([open_run(context.store, s, indexes).all().numbers for s in segments])
        )
        hits = {}
        wanted = {segments[0].partition: Wanted.of(numbers)}
        for hit in located(
            context.store, connection, table.id, segments, wanted, indexes=run_indexes()
        ):
            for index, row in zip(hit.indices.tolist(), hit.rows.tolist(), strict=True):
                assert (hit.segment.key, index) not in hits
                hits[hit.segment.key, index] = row
    return hits


def merged(house: Any) -> Any:
    """Merges the key runs, and nothing else."""
    (report,) = house.engine.compact(T, min_segments=1000)
    assert report.key_runs == SEGMENTS
    context = house.engine.context
    with context.database.read() as connection:
        (row,) = merged_runs_of(connection, get_table(connection, T).id)
    return row


def test_every_key_is_found_once_in_one_run_or_many(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hits = find(house)
    assert len(hits) == 5 * SEGMENTS
    assert sorted(hits.values()) == sorted([*range(5)] * SEGMENTS)
    row = merged(house)
    assert len(row.owner_keys()) == SEGMENTS
    monkeypatch.setattr(key_lookup, "open_run", None)  # no segment's own run is looked into
    assert find(house) == hits


@pytest.mark.parametrize("damage", ["gone", "cut", "garbage"])
def test_a_merged_run_that_is_no_use_costs_nothing_but_time(house: Any, damage: str) -> None:
    hits = find(house)
    row = merged(house)
    store = house.engine.context.store
    path = store.root / row.key
    data = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(data[:-1] if damage == "cut" else bytes(len(data)))
        if damage == "cut":
            with pytest.raises(CorruptObjectError, match="cut"):
                open_merged(store, row)
    else:
        with pytest.raises(ObjectNotFoundError):
            open_merged(store, row)
    assert find(house) == hits


def test_segments_that_came_later_are_looked_into_beside_it(house: Any) -> None:
    merged(house)
    house.append(pa.record_batch([pa.array([1000, 3]), pa.array([1, 2])], SCHEMA))
    hits = find(house)
    assert len({key for key, _ in hits}) == SEGMENTS + 1
    assert len(hits) == 5 * SEGMENTS + 2  # a replaced row is found as well: who asks leaves it out
