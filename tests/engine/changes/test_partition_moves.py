"""A partition comes and others end in the transaction of a change, or nothing of it happens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from fletching.catalog.namespace_rows import ensure_project
from fletching.catalog.opening import open_catalog
from fletching.catalog.partition_rows import add_partition, change_totals, list_partitions
from fletching.catalog.segment_rows import encode_partition
from fletching.catalog.table_rows import TableRow, insert_table, lock_table
from fletching.engine.changes.partition_moves import PartitionMove
from fletching.errors import AlreadyExistsError, NoSuchPartitionError, RowsChangedError
from fletching.types import PartitionSpec, TableName

A, B, NEW = (PartitionSpec((("pt", value),)) for value in "abz")


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[Connection]:
    database = open_catalog(tmp_path / "catalog.sqlite")
    with database.trial() as connection:
        yield connection
    database.close()


@pytest.fixture
def table(rows: Connection) -> TableRow:
    """A table of two empty partitions."""
    ensure_project(rows, "p", 0.0)
    insert_table(
        rows, table_id="t", name=TableName("p", "t"), partition_columns=[("pt", "string")],
        arrow_schema=b"", column_ids=[[0]], next_column_id=1, primary_key=[], properties={},
        owner="", comment="", lifecycle_days=None, now=0.0,
    )  # fmt: skip
    for value in "ab":
        add_partition(rows, "t", encode_partition([value]), 1.0)
    return lock_table(rows, "t")


def there(rows: Connection) -> list[str]:
    return [each.values[0] for each in list_partitions(rows, "t")]


def test_one_comes_and_others_end(rows: Connection, table: TableRow) -> None:
    move = PartitionMove(NEW, is_new=True, sources=[A, B])
    move.begin(rows, table, 2.0)
    assert there(rows) == ["a", "b", "z"]
    move.end(rows, table)
    assert there(rows) == ["z"]


def test_one_that_may_be_there_stays_as_it_is(rows: Connection, table: TableRow) -> None:
    PartitionMove(A, is_new=False, sources=[]).begin(rows, table, 2.0)
    assert there(rows) == ["a", "b"]
    with pytest.raises(AlreadyExistsError, match="pt=a already exists"):
        PartitionMove(A, is_new=True, sources=[]).begin(rows, table, 2.0)


def test_one_that_is_gone_or_has_rows_again_cannot_end(rows: Connection, table: TableRow) -> None:
    with pytest.raises(NoSuchPartitionError, match="pt=z"):
        PartitionMove(A, is_new=False, sources=[NEW]).end(rows, table)
    change_totals(rows, "t", {encode_partition(["b"]): (1, 8)}, 2.0)
    with pytest.raises(RowsChangedError, match="pt=b"):
        PartitionMove(A, is_new=False, sources=[B]).end(rows, table)
