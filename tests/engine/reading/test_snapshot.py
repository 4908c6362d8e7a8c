"""Snapshots: order, growth by what changed, and what they weigh."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from tests.engine.reading.segment_rows_of import row

from fletching.catalog import segment_rows
from fletching.catalog.segment_rows import SegmentRow
from fletching.engine.reading.snapshot import Snapshot
from fletching.types import RowRange


def test_cover_names_the_batches_of_a_range() -> None:
    snapshot = Snapshot.of([row(1, 1, batches=(2, 0, 3)), row(2, 2, batches=(4,))])
    result = [(each.batch, each.start, each.end) for each in snapshot.cover(RowRange(1, 8))]
    assert result == [(0, 1, 2), (2, 0, 3), (3, 0, 3)]


# --- in a reader ---

SCHEMA = pa.schema([("id", pa.int64())])


def ids(*values: int) -> Any:
    return pa.record_batch([pa.array(values, pa.int64())], schema=SCHEMA)


def test_a_commit_makes_readers_load_what_it_changed_alone(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.create(SCHEMA)
    for number in range(5):
        house.append(ids(number))
    assert house.read()["id"].to_pylist() == [0, 1, 2, 3, 4]
    made: list[int] = []
    make = SegmentRow._make

    def counting(values: Any) -> SegmentRow:
        made.append(1)
        return make(values)

    monkeypatch.setattr(segment_rows.SegmentRow, "_make", counting)
    house.append(ids(5))
    assert house.read()["id"].to_pylist() == [0, 1, 2, 3, 4, 5]
    assert len(made) == 1


def test_what_retention_forgot_does_not_stay_in_a_grown_snapshot(
    open_house: Any, clock: Any
) -> None:
    """A snapshot that is older than the horizon is no base: what went since is not told any more."""
    house = open_house(removed_seconds=10.0, retain_seconds=10.0, read_session_seconds=10.0)
    house.create(SCHEMA)
    house.append(ids(1))
    assert house.read()["id"].to_pylist() == [1]
    house.append(ids(2), overwrite=True)
    clock.advance(100)
    house.engine.collect()
    house.append(ids(3))
    clock.advance(100)
    house.engine.collect()
    assert house.read()["id"].to_pylist() == [2, 3]
