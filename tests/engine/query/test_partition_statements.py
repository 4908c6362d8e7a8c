"""Partitions that are dropped by a condition or renamed: all that are meant, no others, or none."""

from __future__ import annotations

import pytest
from sqlalchemy import delete
from tests.engine.query.conftest import HERE, Sql

from fletching import faultpoints
from fletching.catalog.schema import instances
from fletching.engine.changes import attempts
from fletching.engine.query.partition_statements import same_partition
from fletching.errors import StorageError
from fletching.protocol.messages.admin import ListPartitions, new_instance_id
from fletching.protocol.messages.changes import ListVersions
from fletching.types import PartitionSpec, TableName

T = TableName("demo", "t")


@pytest.fixture
def parts(sql: Sql) -> Sql:
    sql("create table t (a int) partitioned by (pt string, hh bigint)")
    for pt, hh in (("a", 9), ("a", 10), ("b", 9)):
        sql(f"insert into t partition (pt='{pt}', hh={hh}) values ({hh})")
    return sql


def left(sql: Sql) -> list[str]:
    return sorted(sql("show partitions t").splitlines())


def partitions(sql: Sql) -> list[str]:
    """The same without running a statement."""
    page = sql.house.engine.call(ListPartitions(table=T))
    return sorted(str(each.partition).replace(",", "/") for each in page.partitions)


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ("hh > 9", ["pt=a/hh=9", "pt=b/hh=9"]),  # as a number: 10 is more than 9
        ("pt <= 'a'", ["pt=b/hh=9"]),
        ("PT = 'b' or HH = 10", ["pt=a/hh=9"]),
        ("upper(pt) = 'A' and hh < 10", ["pt=a/hh=10", "pt=b/hh=9"]),
    ],
)
def test_conditions_compare_values_of_their_type(
    parts: Sql, condition: str, kept: list[str]
) -> None:
    parts(f"alter table t drop partition ({condition})")
    assert left(parts) == kept


def test_what_no_partition_fulfils(parts: Sql) -> None:
    assert "no partition" in parts.fails("alter table t drop partition (hh > 50)")
    parts("alter table t drop if exists partition (hh > 50)")
    assert "no partition column a" in parts.fails("alter table t drop partition (a > 1)")
    assert len(left(parts)) == 3


def test_renaming_moves_the_rows(parts: Sql) -> None:
    parts("alter table t partition (pt='a', hh=9) rename to partition (pt='z', hh=1)")
    assert left(parts) == ["pt=a/hh=10", "pt=b/hh=9", "pt=z/hh=1"]
    assert parts.rows("select a, pt, hh from t where pt = 'z'") == [("9", "z", "1")]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("pt='a', hh=9", "pt='b', hh=9", "exists"),
        ("pt='q', hh=9", "pt='z', hh=1", "no partition"),
        ("pt='a', hh=9", "pt='z'", "all partition columns"),
        ("pt='a'", "pt='z', hh=1", "all partition columns"),
    ],
)
def test_what_cannot_be_renamed_stays(parts: Sql, old: str, new: str, words: str) -> None:
    before = left(parts)
    failure = parts.fails(f"alter table t partition ({old}) rename to partition ({new})")
    assert words in failure or "already" in failure
    assert left(parts) == before
    assert len(parts.rows("select * from t")) == 3


def test_a_partition_is_itself_whatever_the_case_and_order() -> None:
    partition = PartitionSpec((("PT", "a"), ("hh", "1")))
    assert same_partition(partition, PartitionSpec((("HH", "1"), ("pt", "a"))))
    assert not same_partition(partition, PartitionSpec((("hh", "1"), ("pt", "A"))))
    assert not same_partition(partition, PartitionSpec((("pt", "a"),)))


STATEMENTS = [
    "alter table t partition (pt='a', hh=9) rename to partition (pt='z', hh=1)",
    "alter table t merge partition (pt='a', hh=9) overwrite partition (pt='z', hh=1)",
]


@pytest.mark.parametrize("statement", STATEMENTS)
@pytest.mark.parametrize(
    "point", ["change.planned", "change.segments_durable", "change.committing"]
)
def test_nothing_is_seen_of_a_move_before_it_is_made(
    parts: Sql, monkeypatch: pytest.MonkeyPatch, statement: str, point: str
) -> None:
    """Whoever dies in it leaves the partitions as they were."""
    before, rows = left(parts), sorted(parts.rows("select a, pt, hh from t"))
    looked: list[list[str]] = []

    def reach(name: str) -> None:
        if name == point:
            looked.append(partitions(parts))
            raise StorageError("the process dies")

    with monkeypatch.context() as dying:
        dying.setattr(faultpoints, "reach", reach)
        assert "dies" in parts.fails(statement)
    assert looked == [before]
    assert left(parts) == before
    assert sorted(parts.rows("select a, pt, hh from t")) == rows
    parts(statement)
    assert left(parts) == ["pt=a/hh=10", "pt=b/hh=9", "pt=z/hh=1"]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_move_is_one_version(parts: Sql, statement: str) -> None:
    before = parts.house.describe().version
    parts(statement)
    (last, *_) = parts.house.engine.call(ListVersions(table=T)).versions
    assert (last.version, last.rows_updated) == (before + 1, 1)
    assert last.operation in {"rename partition", "merge partitions"}


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_repetition_of_a_move_whose_outcome_is_lost(parts: Sql, statement: str) -> None:
    id_ = new_instance_id(1_800_000_000.0)
    first = parts.instances.run(statement, HERE, instance_id=id_)
    with parts.house.engine.context.database.write() as connection:
        connection.execute(delete(instances))
    again = parts.instances.run(statement, HERE, instance_id=id_)
    assert (again.succeeded, again.result) == (first.succeeded, first.result) == (True, "")
    assert left(parts) == ["pt=a/hh=10", "pt=b/hh=9", "pt=z/hh=1"]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_an_empty_partition_is_moved(parts: Sql, statement: str) -> None:
    parts("truncate table t partition (pt='a', hh=9)")
    parts(statement)
    assert left(parts) == ["pt=a/hh=10", "pt=b/hh=9", "pt=z/hh=1"]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_rows_that_come_while_others_are_moved_are_moved_as_well(
    parts: Sql, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    """Whoever put them there was told that they are there."""
    late = [21, 22]

    def reach(name: str) -> None:
        if name == "change.segments_durable" and late:
            parts(f"insert into t partition (pt='a', hh=9) values ({late.pop()})")

    monkeypatch.setattr(faultpoints, "reach", reach)
    parts(statement)
    assert left(parts) == ["pt=a/hh=10", "pt=b/hh=9", "pt=z/hh=1"]
    assert sorted(parts.rows("select a from t where pt = 'z'")) == [("21",), ("22",), ("9",)]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_who_is_faster_in_making_or_dropping_a_partition_keeps_it_so(
    parts: Sql, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    for other, message in (
        ("alter table t add partition (pt='z', hh=1)", "already exists"),
        ("alter table t drop partition (pt='a', hh=9)", "no partition pt=a,hh=9"),
    ):
        waiting = [other]

        def reach(name: str, waiting: list[str] = waiting) -> None:
            if name == "change.segments_durable" and waiting:
                parts(waiting.pop())

        with monkeypatch.context() as patch:
            patch.setattr(faultpoints, "reach", reach)
            failure = parts.fails(statement)
        assert message in failure or "changed by others" in failure
        parts("alter table t drop if exists partition (pt='z', hh=1)")
    assert left(parts) == ["pt=a/hh=10", "pt=b/hh=9"]


def test_rows_that_never_stop_coming(parts: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "MAX_ATTEMPTS", 2)

    def reach(name: str) -> None:
        if name == "change.segments_durable":
            parts("insert into t partition (pt='a', hh=9) values (5)")

    with monkeypatch.context() as patch:
        patch.setattr(faultpoints, "reach", reach)
        assert "changed by others" in parts.fails(STATEMENTS[0])
    assert left(parts) == ["pt=a/hh=10", "pt=a/hh=9", "pt=b/hh=9"]
    assert sorted(parts.rows("select a from t where pt = 'a' and hh = 9")) == [
        ("5",),
        ("5",),
        ("9",),
    ]
