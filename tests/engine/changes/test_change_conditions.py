"""Under which conditions a change is made, refused, or answered like the first one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyroaring import BitMap
from sqlalchemy import Connection, delete

from fletching.catalog.namespace_rows import ensure_project
from fletching.catalog.opening import open_catalog
from fletching.catalog.publishing import Publication, publish
from fletching.catalog.schema import table_versions
from fletching.catalog.table_rows import TableRow, insert_table, lock_table
from fletching.catalog.write_stream_rows import NewSegment
from fletching.engine.changes.change_conditions import (
    UPKEEP,
    check_nothing_came,
    check_replaced,
    check_unchanged,
    report_of,
    report_of_version,
)
from fletching.errors import (
    ConflictError,
    InvalidArgumentError,
    RowsChangedError,
    VersionNotFoundError,
)
from fletching.protocol.messages.responses import Changed
from fletching.types import TableName


def segment(key: str) -> NewSegment:
    return NewSegment(
        key=key, partition="[]", schema_version=1, rows=3, length=30, crc32c=7,
        batch_index=np.array([0, 8, 8, 3], "<i8").tobytes(), dictionary_index=b"", codecs="",
    )  # fmt: skip


def version(rows: Connection, operation: str, *, data_change: bool) -> TableRow:
    before = lock_table(rows, "t")
    publication = Publication(rows, before, operation, now=5.0, data_change=data_change)
    publication.add([segment(f"k{before.version}")])
    assert publication.commit() == before.version + 1
    return lock_table(rows, "t")


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[Connection]:
    database = open_catalog(tmp_path / "catalog.sqlite")
    with database.trial() as connection:
        yield connection
    database.close()


@pytest.fixture
def table(rows: Connection) -> TableRow:
    """A table of three rows in version 1."""
    ensure_project(rows, "p", 0.0)
    insert_table(
        rows, table_id="t", name=TableName("p", "t"), partition_columns=[], arrow_schema=b"",
        column_ids=[], next_column_id=1, owner="", comment="", properties={}, primary_key=[],
        lifecycle_days=None, now=0.0,
    )  # fmt: skip
    publish(rows, lock_table(rows, "t"), [segment("first")], now=2.0)
    return lock_table(rows, "t")


def test_upkeep_is_no_change(rows: Connection, table: TableRow) -> None:
    check_unchanged(rows, table, None)
    check_unchanged(rows, table, table.version)
    for operation in sorted(UPKEEP):
        after = version(rows, operation, data_change=False)
        check_unchanged(rows, after, table.version)
    with pytest.raises(ConflictError, match="has changed since version 0") as caught:
        check_unchanged(rows, after, 0)
    assert caught.value.code == RowsChangedError.default_code


@pytest.mark.parametrize(
    ("operation", "data_change"), [("append", True), ("alter", False), ("compact", True)]
)
def test_anything_else_is(
    rows: Connection, table: TableRow, operation: str, data_change: bool
) -> None:
    after = version(rows, operation, data_change=data_change)
    check_unchanged(rows, after, after.version)
    with pytest.raises(ConflictError, match="it is at"):
        check_unchanged(rows, after, table.version)


def test_what_nobody_knows_any_more_counts_as_a_change(rows: Connection, table: TableRow) -> None:
    after = version(rows, "compact", data_change=False)
    rows.execute(delete(table_versions).where(table_versions.c.version == after.version))
    with pytest.raises(ConflictError):
        check_unchanged(rows, after, table.version)


def test_rows_that_came_are_told_from_rows_that_went_and_moved(
    rows: Connection, table: TableRow
) -> None:
    check_nothing_came(rows, table, table.version)
    version(rows, "compact", data_change=False)
    publication = Publication(rows, lock_table(rows, "t"), "truncate", now=5.0)
    publication.clear(None)
    publication.commit()
    gone = lock_table(rows, "t")
    check_nothing_came(rows, gone, table.version)
    came = version(rows, "append", data_change=True)
    check_nothing_came(rows, came, came.version)
    with pytest.raises(RowsChangedError, match="rows came"):
        check_nothing_came(rows, came, table.version)


def test_rows_may_have_come_with_a_version_that_is_forgotten(
    rows: Connection, table: TableRow
) -> None:
    came = version(rows, "append", data_change=True)
    version(rows, "compact", data_change=False)
    rows.execute(delete(table_versions).where(table_versions.c.version <= came.version))
    with pytest.raises(RowsChangedError):
        check_nothing_came(rows, lock_table(rows, "t"), table.version)


@pytest.mark.parametrize("change", ["come", "go", "are cleared"])
def test_what_is_replaced_is_what_there_was(rows: Connection, table: TableRow, change: str) -> None:
    check_replaced(rows, table, {"[]"}, None)
    check_replaced(rows, table, {"[]"}, table.version)
    moved = version(rows, "compact", data_change=False)
    for partitions in ({"[]"}, None):
        check_replaced(rows, moved, partitions, table.version)
    publication = Publication(rows, moved, "append", now=6.0)
    if change == "come":
        publication.add([segment("late")])
    elif change == "go":
        publication.delete_rows({1: BitMap([1])})
    else:
        publication.clear(None)
    publication.commit()
    after = lock_table(rows, "t")
    check_replaced(rows, after, {"[]"}, after.version)
    check_replaced(rows, after, {'["other"]'}, table.version)
    for partitions in ({"[]"}, None):
        with pytest.raises(RowsChangedError, match="are to be replaced have changed since"):
            check_replaced(rows, after, partitions, moved.version)
    rows.execute(delete(table_versions).where(table_versions.c.version == after.version))
    with pytest.raises(RowsChangedError):
        check_replaced(rows, after, {'["other"]'}, table.version)


@pytest.mark.parametrize("wanted", [-1, 2, 99])
def test_a_version_that_never_was(rows: Connection, table: TableRow, wanted: int) -> None:
    with pytest.raises(VersionNotFoundError):
        check_unchanged(rows, table, wanted)
    with pytest.raises(VersionNotFoundError):
        check_replaced(rows, table, None, wanted)


@pytest.mark.parametrize("wanted", [True, 1.0, "1", b"1"])
def test_what_is_no_version(rows: Connection, table: TableRow, wanted: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="no number"):
        check_unchanged(rows, table, wanted)
    with pytest.raises(InvalidArgumentError, match="no number"):
        check_replaced(rows, table, None, wanted)


def test_reports_are_those_of_the_history(rows: Connection, table: TableRow) -> None:
    expected = Changed(version=1, rows_inserted=3, rows_updated=0, rows_deleted=0)
    assert report_of_version(rows, "t", 1) == expected
    assert report_of_version(rows, "t", 2) is None
    assert report_of_version(rows, "t", None) is None
    publication = Publication(rows, table, "delete", now=3.0)
    publication.clear(None)
    number = publication.commit()
    assert report_of(publication, number) == Changed(
        version=2, rows_inserted=0, rows_updated=0, rows_deleted=3
    )
    assert report_of_version(rows, "t", 2) == report_of(publication, number)
