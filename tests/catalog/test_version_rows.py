"""Versions and tags: what may be pinned, what a moment or a name means."""

from __future__ import annotations

import pytest
from pyroaring import BitMap
from sqlalchemy import Connection, select
from tests.catalog.conftest import MakeSegment, MakeTable

from fletching.catalog.publishing import Publication, publish
from fletching.catalog.read_session_rows import (
    ReadSessionRow,
    forget_read_session,
    insert_read_session,
)
from fletching.catalog.schema import segments
from fletching.catalog.table_rows import TableRow, lock_table
from fletching.catalog.version_rows import (
    add_tag,
    changed_partitions,
    check_readable,
    find_change,
    find_version,
    last_version_before,
    list_tags,
    list_versions,
    raise_horizon,
    remember_change,
    remove_tag,
    version_at,
    version_of_tag,
    versions_between,
)
from fletching.errors import AlreadyExistsError, NotFoundError, VersionNotFoundError


@pytest.fixture
def table(rows: Connection, new_table: MakeTable, new_segment: MakeSegment) -> TableRow:
    """A table at version 3; version ``n`` was committed at ``10 * n`` seconds."""
    made = new_table(now=1.0)
    for number in (1, 2, 3):
        publish(rows, lock_table(rows, made.id), [new_segment()], now=10.0 * number)
    return lock_table(rows, made.id)


def test_versions_are_listed_newest_first(rows: Connection, table: TableRow) -> None:
    assert [row.version for row in list_versions(rows, table.id, before=None, limit=9)] == [
        3,
        2,
        1,
        0,
    ]
    assert [row.version for row in list_versions(rows, table.id, before=3, limit=2)] == [2, 1]
    assert [row.version for row in versions_between(rows, table.id, 1, 3)] == [2, 3]
    row = find_version(rows, table.id, 2)
    assert row is not None
    assert (row.rows, row.rows_inserted, row.committed_us) == (2, 1, 20_000_000)
    assert find_version(rows, table.id, 4) is None


@pytest.mark.parametrize(
    ("moment_us", "version"),
    [
        (1_000_000, 0),
        (9_999_999, 0),
        (10_000_000, 1),
        (29_999_999, 2),
        (30_000_000, 3),
        (10**15, 3),
    ],
)
def test_a_moment_is_the_last_version_at_it(
    rows: Connection, table: TableRow, moment_us: int, version: int
) -> None:
    assert version_at(rows, table, moment_us) == version


def test_before_the_first_there_is_nothing(rows: Connection, table: TableRow) -> None:
    with pytest.raises(VersionNotFoundError, match="nothing is known") as caught:
        version_at(rows, table, 999_999)
    assert caught.value.facts["limit"] == 0
    assert "at 1970-01-01 00:00:00.999999 UTC" in str(caught.value)
    with pytest.raises(VersionNotFoundError, match="-9000000000000000000 microseconds"):
        version_at(rows, table, -9 * 10**18)
    assert last_version_before(rows, table.id, 20_000_000) in {1, 2}
    assert last_version_before(rows, table.id, 999_999) is None


@pytest.mark.parametrize("version", [-1, 4, 2**40])
def test_what_never_was_is_refused(rows: Connection, table: TableRow, version: int) -> None:
    with pytest.raises(VersionNotFoundError, match="the newest is 3"):
        check_readable(rows, table, version)


def test_below_the_horizon_only_tags_are_readable(rows: Connection, table: TableRow) -> None:
    add_tag(rows, table, "kept", 1, replace=False, now=50.0)
    raise_horizon(rows, table, 3)
    table = lock_table(rows, table.id)
    assert table.oldest_version == 3
    assert check_readable(rows, table, 3).version == 3
    assert check_readable(rows, table, 1).version == 1
    for gone in (0, 2):
        with pytest.raises(VersionNotFoundError, match="oldest that can be read is 3"):
            check_readable(rows, table, gone)
    with pytest.raises(VersionNotFoundError):
        version_at(rows, table, 20_000_000)


def test_the_horizon_leaves_versions_whose_changes_are_read(
    rows: Connection, table: TableRow
) -> None:
    session = ReadSessionRow("feed", table.id, 3, b"", None, 1.0, 9.0, since_version=1)
    insert_read_session(rows, session)
    assert raise_horizon(rows, table, 3) == 2
    assert [row.version for row in versions_between(rows, table.id, 0, 3)] == [2, 3]
    with pytest.raises(VersionNotFoundError):
        check_readable(rows, lock_table(rows, table.id), 2)
    forget_read_session(rows, "feed")
    assert raise_horizon(rows, table, 3) == 1


def test_tags_are_moved_only_when_asked(rows: Connection, table: TableRow) -> None:
    add_tag(rows, table, "b", 2, replace=False, now=50.0)
    add_tag(rows, table, "a", 1, replace=False, now=50.0)
    assert list_tags(rows, table.id) == {"a": 1, "b": 2}
    assert version_of_tag(rows, table, "b") == 2
    with pytest.raises(AlreadyExistsError):
        add_tag(rows, table, "a", 3, replace=False, now=51.0)
    assert version_of_tag(rows, table, "a") == 1
    add_tag(rows, table, "a", 3, replace=True, now=52.0)
    assert version_of_tag(rows, table, "a") == 3
    remove_tag(rows, table, "a")
    with pytest.raises(VersionNotFoundError, match="no tag 'a'"):
        version_of_tag(rows, table, "a")
    with pytest.raises(NotFoundError):
        remove_tag(rows, table, "a")


def test_what_a_change_reported_is_kept_by_its_key(rows: Connection, table: TableRow) -> None:
    assert find_change(rows, table.id, "k") is None
    remember_change(rows, table.id, "k", b"report", now=1.0)
    assert find_change(rows, table.id, "k") == b"report"
    assert find_change(rows, "another", "k") is None


def test_changes_are_told_by_partition(
    rows: Connection, new_table: MakeTable, new_segment: MakeSegment
) -> None:
    made = new_table(now=1.0)
    a, b, three = (f'["{name}"]' for name in "abc")
    publish(rows, lock_table(rows, made.id), [new_segment(partition="a", rows=2)], now=2.0)
    publish(
        rows, lock_table(rows, made.id),
        [new_segment(partition="b", rows=2), new_segment(partition="c")],
        cleared_partitions=[a], now=3.0,
    )  # fmt: skip
    table = lock_table(rows, made.id)
    # The first segment, by what the catalog counts.
    (first,) = rows.execute(select(segments.c.id).where(segments.c.partition == b)).scalars()
    publication = Publication(rows, table, "delete", now=4.0)
    assert publication.delete_rows({first: BitMap([0])}) == 1
    publication.commit()
    changed = {
        since: changed_partitions(rows, made.id, since) for since in range(table.version + 2)
    }
    last = {(b, 3)}
    second = {(a, 2), (b, 2), (three, 2)}
    assert changed == {0: {(a, 1)} | second | last, 1: second | last, 2: last, 3: set()}
