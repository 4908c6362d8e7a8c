"""Partitions that are dropped by a condition or renamed: all that are meant, no others, or none."""

from __future__ import annotations

from typing import Any

import pytest
from tests.engine.query.conftest import Sql

from fletching.engine.query import partition_statements
from fletching.engine.query.partition_statements import same_partition
from fletching.engine.query.row_statements import change
from fletching.errors import ConflictError
from fletching.types import PartitionSpec


@pytest.fixture
def parts(sql: Sql) -> Sql:
    sql("create table t (a int) partitioned by (pt string, hh bigint)")
    for pt, hh in (("a", 9), ("a", 10), ("b", 9)):
        sql(f"insert into t partition (pt='{pt}', hh={hh}) values ({hh})")
    return sql


def left(sql: Sql) -> list[str]:
    return sorted(sql("show partitions t").splitlines())


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
def test_rows_that_come_while_others_are_moved_are_moved_as_well(
    parts: Sql, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    """Whoever put them there was told that they are there."""
    late = iter([21, 22])

    def moved(*arguments: Any) -> Any:
        outcome = change(*arguments)
        for number in late:
            parts(f"insert into t partition (pt='a', hh=9) values ({number})")
            break
        return outcome

    monkeypatch.setattr(partition_statements, "change", moved)
    parts(statement)
    assert left(parts) == ["pt=a/hh=10", "pt=b/hh=9", "pt=z/hh=1"]
    assert sorted(parts.rows("select a from t where pt = 'z'")) == [("21",), ("22",), ("9",)]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_partition_that_was_made_for_a_move_keeps_rows_of_others(
    parts: Sql, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    def refused(*_: Any) -> Any:
        if came:
            parts("insert into t partition (pt='z', hh=1) values (23)")
        raise ConflictError("others were always faster")

    monkeypatch.setattr(partition_statements, "change", refused)
    for came in (False, True):
        assert "always faster" in parts.fails(statement)
        expected = ["pt=a/hh=10", "pt=a/hh=9", "pt=b/hh=9"]
        assert left(parts) == expected + ["pt=z/hh=1"] * came
    assert parts.rows("select a from t where pt = 'z'") == [("23",)]


def test_rows_that_never_stop_coming(parts: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_statements, "_MOST_MOVES", 2)

    def moved(*arguments: Any) -> Any:
        outcome = change(*arguments)
        parts("insert into t partition (pt='a', hh=9) values (5)")
        return outcome

    monkeypatch.setattr(partition_statements, "change", moved)
    assert "rows keep coming into" in parts.fails(STATEMENTS[0])
    assert parts.rows("select a, pt from t where hh in (1, 9) and pt <> 'b' order by a, pt") == [
        ("5", "a"), ("5", "z"), ("9", "z"),
    ]  # fmt: skip
