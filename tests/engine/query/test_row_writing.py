"""Rows that a statement computes: all of them in one commit, or none and no session left."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from fletching.engine.query import row_writing
from fletching.engine.query.row_writing import cast_to, stage_rows
from fletching.engine.writing.ingest import Ingest
from fletching.errors import (
    FletchingError,
    InvalidArgumentError,
    ServiceUnavailableError,
    StorageError,
)
from fletching.protocol.messages.requests import AbortWriteSession, CommitWriteSession
from fletching.types import PartitionSpec, TableName

T = TableName("demo", "t")
SCHEMA = pa.schema([("n", pa.int32())])
NUMBERS = itertools.count()


def batch(*numbers: int) -> pa.RecordBatch:
    return pa.record_batch({"any name": pa.array(numbers, pa.int64())})


def write(house: Any, batches: Iterator[pa.RecordBatch], **options: Any) -> int:
    return stage_rows(
        house.engine, T, batches, partition=PartitionSpec(), overwrite=options.get("overwrite", False),
        columns_of=cast_to(SCHEMA), schema=SCHEMA, key=options.get("key", f"k{next(NUMBERS)}"), statement="insert",
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


class Unsure:
    """An engine whose commits are not answered, and which then is away for some requests."""

    def __init__(self, house: Any, *, committed: bool, error: FletchingError, away: int) -> None:
        self.open_ingest = house.engine.open_ingest
        self._engine = house.engine
        self._committed, self._error, self._away = committed, error, away

    def call(self, request: Any) -> Any:
        if isinstance(request, CommitWriteSession):
            if self._committed:
                self._engine.call(request)
            raise self._error
        if isinstance(request, AbortWriteSession) and self._away:
            self._away -= 1
            raise self._error
        return self._engine.call(request)


@pytest.mark.parametrize("error", [ServiceUnavailableError("away"), StorageError("away")])
@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("away", [0, 2, 99])
def test_a_commit_that_was_not_answered_is_asked_for(
    house: Any, monkeypatch: pytest.MonkeyPatch, *, committed: bool, error: Any, away: int
) -> None:
    """Never a conflict, after which the rows would be inserted once more."""
    monkeypatch.setattr(row_writing, "_ASKED_SECONDS", 0.0)
    house.create(SCHEMA)
    verbs: Any = Unsure(house, committed=committed, error=error, away=away)
    staged = stage_rows(
        verbs, T, iter([batch(1, 2)]), partition=PartitionSpec(), overwrite=False,
        columns_of=cast_to(SCHEMA), schema=SCHEMA, key="k", statement="insert",
    )  # fmt: skip
    if committed and away < 99:
        assert staged.commit() == 2
    else:
        with pytest.raises(type(error), match="away"):
            staged.commit()
    staged.abort()
    assert house.read()["n"].to_pylist() == ([1, 2] if committed else [])
