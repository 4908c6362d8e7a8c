"""What the statements of a run share: what may be asked, what is known, and queries that are let go."""

from __future__ import annotations

from typing import Any

import pytest

from fletching.engine.query.instance_results import Selection
from fletching.engine.query.script_run import Outcome, ScriptRun, changed_rows
from fletching.errors import InvalidArgumentError, NoPermissionError, NoSuchTableError
from fletching.protocol.messages.admin import DescribeTable, DropTable, TableInfo
from fletching.protocol.messages.changes import AlterTable, DropColumns, TruncateTable
from fletching.protocol.messages.requests import Request
from fletching.protocol.messages.responses import Changed
from fletching.sql.parsing.dialect import parse_one
from fletching.sql.statements.statement_kinds import Namespace
from fletching.types import TableName

HERE = Namespace("demo", "default")
T, V = TableName("demo", "t"), TableName("demo", "v")
NONE = TableName("demo", "none")


class Follower:
    def __init__(self) -> None:
        self.queries: list[Any] = []
        self.failure: BaseException | None = None

    def began(self, duck: Any) -> None:
        pass

    def ran(self, query: Any) -> None:
        self.queries.append(query)
        if self.failure is not None:
            raise self.failure


class Asked:
    """Who is asked before each request."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.refused: TableName | None = None

    def __call__(self, request: Request) -> None:
        self.requests.append(request)
        if getattr(request, "table", None) == self.refused:
            raise NoPermissionError("not you")


@pytest.fixture
def run(sql: Any) -> ScriptRun:
    sql("create table t (a bigint)")
    sql("insert into t values (1), (2)")
    sql("create view v as select a from t")
    statements = sql.instances._runner
    return ScriptRun(
        statements._queries,
        statements._verbs,
        HERE,
        Asked(),
        lambda reply: reply,
        lambda schema, batches: Selection(has_rows=True, rows=sum(b.num_rows for b in batches)),
        Follower(),
        "select 1",
    )


def test_a_view_has_no_rows_columns_or_partitions_of_its_own(run: ScriptRun) -> None:
    for request in (TruncateTable(table=V), DropColumns(table=V, names=("a",))):
        with pytest.raises(InvalidArgumentError, match=r"demo\.default\.v is a view"):
            run.check_tables([TruncateTable(table=T), request])
    with pytest.raises(
        InvalidArgumentError, match=r"demo\.default\.v is a view: DROP VIEW drops it"
    ):
        run.check_tables([DropTable(table=V)])
    # What is about its name, and what is about a table or nothing, passes.
    run.check_tables([AlterTable(table=V, comment="x"), DropTable(table=T)])
    run.check_tables([TruncateTable(table=T), TruncateTable(table=NONE)])


def test_tables_are_described_to_those_who_may_know_of_them(run: ScriptRun) -> None:
    info = run.describe(T)
    assert isinstance(info, TableInfo)
    assert info.rows == 2
    assert run.authorize.requests == [DescribeTable(table=T)]  # type: ignore[attr-defined]
    run.authorize.refused = T  # type: ignore[attr-defined]
    with pytest.raises(NoPermissionError):
        run.describe(T)
    with pytest.raises(NoSuchTableError):
        run.describe(NONE)


def test_what_exists_is_known_without_asking_anybody(run: ScriptRun) -> None:
    assert [run.exists(each) for each in (T, V, NONE)] == [True, True, False]
    assert run.authorize.requests == []  # type: ignore[attr-defined]


def test_a_query_is_followed_and_reads_what_it_says(run: ScriptRun) -> None:
    with run.query(parse_one("select sum(a) as s from t")) as query:
        _, batches = query.run()
        (batch,) = list(batches)
        assert batch.to_pydict() == {"s": [3]}
    assert run.watched.queries == [query]  # type: ignore[attr-defined]


def test_a_query_that_its_follower_ends_is_closed(run: ScriptRun) -> None:
    closed: list[bool] = []

    class Ended(BaseException):
        pass

    run.watched.failure = Ended()  # type: ignore[attr-defined]
    opened = run.queries.open

    def open_(*args: Any, **options: Any) -> Any:
        query: Any = opened(*args, **options)
        close = query.close

        def closing() -> None:
            closed.append(True)
            close()

        query.close = closing
        return query

    run.queries.open = open_  # type: ignore[method-assign]
    with pytest.raises(Ended):
        run.query(parse_one("select a from t"))
    assert closed == [True]


def test_every_changed_row_counts() -> None:
    report = Changed(version=1, rows_inserted=2, rows_updated=3, rows_deleted=5)
    assert changed_rows(report) == Outcome(affected=10)
