from __future__ import annotations

import itertools
import threading
import types
from collections.abc import Iterator
from typing import Any, Self

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from tests.waiting import until

import fletching
from fletching.client.writing.batch_writer import append_rows
from fletching.errors import ServiceUnavailableError, UsageError

SCHEMA = pa.schema([("n", pa.int64()), ("s", pa.string())])


@pytest.fixture
def table(client: fletching.Client) -> fletching.Table:
    return client.create_table("t", SCHEMA)


def batches(count: int) -> Iterator[pa.RecordBatch]:
    for number in range(count):
        yield pa.record_batch([[number], [f"row {number}"]], schema=SCHEMA)


@pytest.mark.parametrize("streams", [1, 2, 5])
def test_everything_is_there_once_however_many_streams(
    table: fletching.Table, streams: int
) -> None:
    assert table.append(batches(50), streams=streams) == 50
    numbers = table.to_table()["n"].to_pylist()
    assert sorted(numbers) == list(range(50))
    if streams == 1:
        assert numbers == list(range(50))


def test_kinds_of_data(table: fletching.Table) -> None:
    arrow = pa.Table.from_batches(list(batches(3)))
    for data in (
        arrow,
        arrow.to_reader(),
        pl.DataFrame(arrow),
        pd.DataFrame({"n": [0, 1, 2], "s": ["row 0", "row 1", "row 2"]}),
        {"n": [0, 1, 2], "s": ["row 0", "row 1", "row 2"]},
        arrow.to_pylist(),
        table.scan(),
    ):
        table.overwrite(data)
        assert table.to_table() == arrow


def test_nothing_is_a_commit_too(table: fletching.Table) -> None:
    table.append({"n": [1]})
    assert table.append(SCHEMA.empty_table()) == 0
    assert table.append([]) == 0
    assert table.count_rows() == 1
    table.overwrite(SCHEMA.empty_table())
    assert table.count_rows() == 0


@pytest.mark.parametrize("streams", [1, 3])
def test_data_that_raises_leaves_nothing(table: fletching.Table, streams: int) -> None:
    def failing() -> Iterator[pa.RecordBatch]:
        yield from batches(10)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        table.append(failing(), streams=streams)
    assert table.count_rows() == 0


@pytest.mark.parametrize("streams", [1, 3])
def test_data_that_does_not_fit_leaves_nothing(table: fletching.Table, streams: int) -> None:
    wrong = pa.record_batch({"n": ["x"], "s": ["y"]})
    with pytest.raises(UsageError, match="column 'n'"):
        table.append([*batches(10), wrong, *batches(10)], streams=streams)
    assert table.count_rows() == 0
    with pytest.raises(UsageError):
        table.append(batches(1), streams=0)


class Writer:
    """A stream that takes every batch and fails when it is closed."""

    schema = SCHEMA

    def __init__(self, *, fails: bool) -> None:
        self.fails = fails

    def __enter__(self) -> Self:
        return self

    def write(self, batch: pa.RecordBatch) -> None: ...

    def cancel(self) -> None: ...

    def __exit__(self, *error: object) -> None:
        if self.fails:
            raise ServiceUnavailableError("not closed")


@pytest.mark.parametrize("failing", [(0,), (1,), (2,), (0, 1, 2)])
def test_streams_that_cannot_be_closed_fail_the_whole(failing: tuple[int, ...]) -> None:
    """No stream waits for batches that went to one that had failed, nor that one for more."""
    made = itertools.count()
    session: Any = types.SimpleNamespace(writer=lambda: Writer(fails=next(made) in failing))
    with pytest.raises(ServiceUnavailableError, match="not closed"):
        append_rows(session, batches(20), 3)
    until(lambda: not [each for each in threading.enumerate() if "fletching-write-" in each.name])


def test_large_batches_are_cut_into_bodies(table: fletching.Table) -> None:
    small = table.with_options(write_body_bytes=1000)
    data = pa.table({"n": range(2000), "s": ["0123456789"] * 2000}, schema=SCHEMA)
    assert small.append(data) == 2000
    assert table.to_table() == data


def test_batches_come_back_as_they_were_written(table: fletching.Table) -> None:
    sizes = [1, 70, 3, 500, 2]
    table.append([pa.record_batch([list(range(s)), ["x"] * s], schema=SCHEMA) for s in sizes])
    assert [batch.num_rows for batch in table.scan().to_batches()] == sizes


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_compressed_on_the_way(client: fletching.Client, compression: Any) -> None:
    table = client.with_options(compression=compression).create_table("t", SCHEMA)
    data = pa.table({"n": range(2000), "s": ["0123456789"] * 2000}, schema=SCHEMA)
    table.append(data)
    assert table.to_table() == data
    assert table.with_options(compression=None).to_table() == data
