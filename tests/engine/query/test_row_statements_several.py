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


@pytest.mark.parametrize(
    ("statement", "left"),
    [
        # Rows that replace those that they were computed from: none that came meanwhile is lost.
        ("insert overwrite table c select k + 1 from c", ["2", "51"]),
        ("insert overwrite table c select k + 1 from seen", ["2", "51"]),
        ("from c insert into b select k, null insert overwrite table c select k + 1", ["2", "51"]),
        # Those that are computed from others replace all.
        ("insert overwrite table c select 7", ["7"]),
        ("insert overwrite table c select k + 1 from c version as of 1", ["2"]),
        # What comes later in a statement is no change by others.
        ("from c insert overwrite table c select k insert into c select k + 9", ["1", "10"]),
        ("insert into c select k + 1 from c", ["1", "2", "50"]),
    ],
)
def test_what_came_since_the_rows_were_computed(
    tables: Sql, monkeypatch: pytest.MonkeyPatch, statement: str, left: list[str]
) -> None:
    tables(
        "create table c (k bigint); insert into c values (1); create view seen as select k from c"
    )
    commit, tries = StagedRows.commit, []

    def late(staged: StagedRows) -> int:
        tries.append(staged)
        if len(tries) == 1:
            tables("insert into c values (50)")
        return commit(staged)

    monkeypatch.setattr(StagedRows, "commit", late)
    tables(statement)
    assert [row[0] for row in tables.rows("select k from c order by k")] == left


@pytest.mark.parametrize(
    ("meanwhile", "left"),
    [
        # What is replaced has changed: the statement is worked out from what there is.
        ("insert into a partition (pt='1') values (50, 'x')", ["1:2", "1:51", "2:7"]),
        ("delete from a where pt = '1'", ["2:7"]),
        ("truncate table a partition (pt='1')", ["2:7"]),
        ("update a set k = 30 where pt = '1'", ["1:31", "2:7"]),
        # Another partition has: nobody is held up.
        ("insert into a partition (pt='2') values (50, 'x')", ["1:2", "2:50", "2:7"]),
        ("alter table a merge smallfiles", ["1:2", "2:7"]),
    ],
)
@pytest.mark.parametrize(
    "named", ["partition (pt='1') select k + 1, v", "partition (pt) select k + 1, v, pt"]
)
def test_what_came_since_to_a_partition(
    tables: Sql, monkeypatch: pytest.MonkeyPatch, named: str, meanwhile: str, left: list[str]
) -> None:
    tables("insert into a partition (pt) values (1, 'x', '1'), (7, 'y', '2')")
    commit, tries = StagedRows.commit, []

    def late(staged: StagedRows) -> int:
        tries.append(staged)
        if len(tries) == 1:
            tables(meanwhile)
        return commit(staged)

    monkeypatch.setattr(StagedRows, "commit", late)
    tables(f"insert overwrite table a {named} from a where pt = '1'")
    assert sorted(f"{pt}:{k}" for k, pt in tables.rows("select k, pt from a")) == left
