"""What verification compares: sums that differ, deletions that cannot be, links that lead nowhere."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from pyroaring import BitMap
from sqlalchemy import Connection, delete, insert, update
from tests.catalog.conftest import MakeSegment, MakeTable

from fletching.catalog.deletion_rows import insert_deletions
from fletching.catalog.proof_rows import (
    broken_links,
    is_known,
    recount,
    stored_segments,
    wrong_deletions,
    wrong_totals,
)
from fletching.catalog.publishing import Publication, publish
from fletching.catalog.schema import (
    deletions,
    partitions,
    segment_packs,
    segments,
    table_versions,
    tables,
)
from fletching.catalog.segment_rows import visible_segments
from fletching.catalog.table_rows import lock_table


@dataclasses.dataclass
class Stored:
    id: int
    key: str
    index: bytes


@pytest.fixture
def stored(rows: Connection, new_table: MakeTable, new_segment: MakeSegment) -> Stored:
    """A table with one segment of ten rows in two batches, at version 1."""
    table = new_table()
    index = np.array([[0, 8, 8, 4], [16, 8, 8, 6]], "<i8").tobytes()
    segment = dataclasses.replace(new_segment("a", 10), batch_index=index)
    publish(
        rows, lock_table(rows, table.id), [segment], new_partitions=[segment.partition], now=2.0
    )
    (row,) = visible_segments(rows, table.id, 1, None)
    assert sound(rows)
    return Stored(row.id, row.key, index)


def sound(rows: Connection) -> bool:
    return wrong_totals(rows) == wrong_deletions(rows) == broken_links(rows) == []


def remove(rows: Connection, stored: Stored, gone: BitMap, version: int = 1) -> None:
    insert_deletions(rows, "t", version, [(stored.id, stored.key, stored.index, gone)])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (update(tables).values(rows=11), ["recorded as (11, 100, 1)", "its history says"]),
        (update(tables).values(bytes=1), ["recorded as (10, 1, 1)", "its history says"]),
        (update(tables).values(segments=2), ["recorded as (10, 100, 2)", "its history says"]),
        (update(partitions).values(rows=9), ["recorded as (9, 100)"]),
        (update(partitions).values(bytes=0), ["recorded as (10, 0)"]),
        (update(table_versions).values(rows=4), ["its history says (4, 100, 1)"]),
        (delete(table_versions), ["its history says None"]),
    ],
)
def test_totals_that_are_not_the_sums_are_told_and_counted_anew(
    rows: Connection, stored: Stored, change: object, words: list[str]
) -> None:
    rows.execute(change)  # type: ignore[call-overload]  # a statement
    problems = wrong_totals(rows)
    assert len(problems) == len(words)
    for (name, problem), expected in zip(problems, words, strict=True):
        assert "t" in name
        assert expected in problem
    forgotten = "None" in words[0]
    assert recount(rows, lock_table(rows, "t")) is not forgotten
    assert sound(rows) is not forgotten
    assert not recount(rows, lock_table(rows, "t"))


def test_deleted_rows_do_not_count(rows: Connection, stored: Stored) -> None:
    remove(rows, stored, BitMap([1, 2]))
    assert [problem.split("sum")[1] for _, problem in wrong_totals(rows)] == [
        " to (8, 100, 1)",
        " to (8, 100)",
    ]
    assert recount(rows, lock_table(rows, "t"))
    assert sound(rows)
    rows.execute(update(deletions).values(removed_version=1))
    assert recount(rows, lock_table(rows, "t"))
    assert lock_table(rows, "t").rows == 10


def test_a_partition_without_segments_is_empty(rows: Connection, stored: Stored) -> None:
    rows.execute(update(segments).values(removed_version=1))
    assert len(wrong_totals(rows)) == 2
    assert recount(rows, lock_table(rows, "t"))
    assert sound(rows)
    assert lock_table(rows, "t").rows == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (update(deletions).values(segment_id=999), "no such segment"),
        (update(deletions).values(segment_key="other"), "no such segment"),
        (update(deletions).values(crc32c=1), "deletion"),
        (update(deletions).values(vector=b"garbage"), "deletion"),
        (update(deletions).values(batch_counts=b""), "counts by record batch"),
        (update(segments).values(rows=5), "rows that the segment does not have"),
    ],
)
def test_deletions_that_cannot_be(
    rows: Connection, stored: Stored, change: object, words: str
) -> None:
    remove(rows, stored, BitMap([1, 5]))
    assert wrong_deletions(rows) == []
    rows.execute(change)  # type: ignore[call-overload]  # a statement
    ((name, problem),) = wrong_deletions(rows)
    assert "deletion" in name
    assert words in problem or words in name


def test_a_row_that_is_deleted_twice_and_a_segment_of_nothing(
    rows: Connection, stored: Stored
) -> None:
    remove(rows, stored, BitMap(range(5)))
    remove(rows, stored, BitMap([4, 5]))
    assert [problem for _, problem in wrong_deletions(rows)] == [
        "it names rows that another deletion names"
    ]
    rows.execute(update(deletions).where(deletions.c.rows == 2).values(removed_version=1))
    assert wrong_deletions(rows) == []  # not visible in the same version
    remove(rows, stored, BitMap(range(5, 10)))
    assert wrong_deletions(rows) == [
        (f"segment {stored.key}", "it is visible, and all of its rows are deleted")
    ]
    rows.execute(update(segments).values(removed_version=1))
    assert wrong_deletions(rows) == []


def test_links_to_packs_that_nobody_knows(rows: Connection, stored: Stored) -> None:
    if rows.dialect.name != "sqlite":
        pytest.skip("PostgreSQL refuses such a link")
    rows.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
    rows.execute(insert(segment_packs).values(segment_key=stored.key, pack_id="gone"))
    ((key, problem),) = broken_links(rows)
    assert key == stored.key
    assert "pack gone" in problem
    rows.execute(delete(segment_packs))


def test_every_object_is_told_once(rows: Connection, stored: Stored) -> None:
    publish(rows, lock_table(rows, "t"), [], cleared_partitions=None, now=3.0)
    publication = Publication(rows, lock_table(rows, "t"), "restore", now=4.0)
    publication.restore(1)
    publication.commit()
    (result,) = stored_segments(rows)  # though two rows name it
    assert (result.key, result.rows, result.length, result.crc32c) == (stored.key, 10, 100, 7)
    assert result.batch_index == stored.index
    assert is_known(rows, stored.key)
    assert not is_known(rows, "other")
