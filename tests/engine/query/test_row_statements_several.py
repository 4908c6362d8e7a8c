"""INSERTs from one source: what cannot be done for one table is done for none."""

from __future__ import annotations

import pytest
from tests.engine.query.conftest import Sql

from fletching.engine.query.row_writing import StagedRows
from fletching.errors import ConflictError


@pytest.fixture
def tables(sql: Sql) -> Sql:
    sql("create table a (k bigint, v string) partitioned by (pt string)")
    sql("create table b (k bigint not null, d datetime)")
    return sql


def counts(sql: Sql) -> list[str]:
    return [sql.rows(f"select count(*) from {name}")[0][0] for name in "ab"]


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ("insert into b select k, 2.5BD", "cannot become DATETIME"),
        ("insert into b select if(k > 1, null, k), null", "has null"),
        ("insert into b select 9223372036854775807 + k, null", "Overflow"),
        ("insert into b select k", "1 columns"),
        ("insert into nope select k", "there is no table"),
    ],
)
def test_a_failure_for_one_leaves_nothing_in_another(tables: Sql, second: str, words: str) -> None:
    from_ = "from values (1, 'x'), (2, 'y') s (k, v)"
    assert words in tables.fails(f"{from_} insert into a partition (pt='1') select k, v {second}")
    assert counts(tables) == ["0", "0"]
    assert tables("show partitions a") == ""


def test_several_are_done_and_counted(tables: Sql) -> None:
    assert (
        tables.changed(
            "from values (1, 'x'), (2, 'y') s (k, v)"
            " insert overwrite table a partition (pt='1') select k, v"
            " insert overwrite table a partition (pt='2') select k, v where k = 2"
            " insert into b select k, null"
        )
        == 5
    )
    assert tables.rows("select * from a order by pt, k") == [
        ("1", "x", "1"),
        ("2", "y", "1"),
        ("2", "y", "2"),
    ]


def test_a_conflict_stores_the_rows_of_one_anew(
    tables: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, tries = StagedRows.commit, []

    def sometimes(staged: StagedRows) -> int:
        tries.append(1)
        if len(tries) == 2:
            staged.abort()
            raise ConflictError("others were faster")
        return commit(staged)

    monkeypatch.setattr(StagedRows, "commit", sometimes)
    text = "from values (1) s (k) insert into a partition (pt='1') select k, 'x' insert into b select k, null"
    assert tables.changed(text) == 2
    assert (len(tries), counts(tables)) == (3, ["1", "1"])
