"""Rows that a statement computes: all of them in one commit, or none and no session left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from fletching.engine.query import row_writing
from fletching.engine.query.row_writing import cast_to, stage_rows
from fletching.engine.writing.ingest import Ingest
from fletching.errors import InvalidArgumentError
from fletching.types import PartitionSpec, TableName

T = TableName("demo", "t")
SCHEMA = pa.schema([("n", pa.int32())])


def batch(*numbers: int) -> pa.RecordBatch:
    return pa.record_batch({"any name": pa.array(numbers, pa.int64())})


def write(house: Any, batches: Iterator[pa.RecordBatch], **options: Any) -> int:
    return stage_rows(
        house.engine, T, batches, partition=PartitionSpec(), overwrite=options.get("overwrite", False),
        columns_of=cast_to(SCHEMA), schema=SCHEMA,
    ).commit()  # fmt: skip


def test_batches_are_one_version(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_writing, "_FEED_BYTES", 1)
    house.create(SCHEMA)
    assert write(house, iter([batch(1, 2), batch(), batch(3)])) == 3
    assert house.read()["n"].to_pylist() == [1, 2, 3]
    assert house.describe().version == 1
    assert write(house, iter([batch(9)]), overwrite=True) == 1
    assert house.read()["n"].to_pylist() == [9]
    assert write(house, iter([])) == 0


def test_a_failure_on_the_way_leaves_nothing(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    house.create(SCHEMA)
    aborted = []
    monkeypatch.setattr(Ingest, "abort", lambda self, was=Ingest.abort: aborted.append(was(self)))

    def failing() -> Iterator[pa.RecordBatch]:
        yield batch(1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write(house, failing())
    with pytest.raises(InvalidArgumentError, match="does not fit"):
        write(house, iter([batch(1), batch(2**40)]))
    assert house.describe().version == 0
    assert house.object_keys() == set()
    # What it had opened is given back there and then.
    assert len(aborted) == 2


def test_columns_by_their_place() -> None:
    made = cast_to(SCHEMA)(batch(5))
    assert made.schema == SCHEMA
    same = pa.record_batch([pa.array([1], pa.int32())], SCHEMA)
    assert (
        cast_to(SCHEMA)(same).column(0).buffers()[1].address == same.column(0).buffers()[1].address
    )
