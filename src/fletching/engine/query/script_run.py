"""One run of several statements, and what all of them need of it."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from fletching.engine.changes.made_changes import run_key
from fletching.engine.query.instance_results import Selection
from fletching.engine.query.query_runner import (
    VIEW_TEXT,
    Authorize,
    ChangedTable,
    Query,
    QueryRunner,
)
from fletching.engine.query.row_writing import Writes
from fletching.errors import (
    InvalidArgumentError,
    NoSuchProjectError,
    NoSuchTableError,
    NotFoundError,
)
from fletching.protocol.messages.admin import (
    AddColumns,
    CreatePartition,
    DescribeTable,
    DropPartition,
    DropTable,
    TableInfo,
    TablePage,
)
from fletching.protocol.messages.changes import (
    AlterColumn,
    CompactTable,
    DropColumns,
    RenameColumn,
    TouchTable,
    TruncateTable,
)
from fletching.protocol.messages.requests import Request
from fletching.protocol.messages.responses import Changed
from fletching.sql.functions.time_zones import time_zone_of
from fletching.sql.parsing.dialect import exp
from fletching.sql.statements.statement_kinds import Namespace
from fletching.types import TableName

if TYPE_CHECKING:
    from fletching.engine.query.sealed_duckdb import SealedDuckDB


__all__ = ["Outcome", "ScriptRun", "Store", "Watched", "changed_rows"]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of statements: the last one's.

    Attributes:
        printed: text, for statements that print.
        stored: what the consumer of rows made of a query's.
        affected: rows inserted, updated or deleted; None for statements that change none.
    """

    printed: str = ""
    stored: Selection | None = None
    affected: int | None = None


class Watched(Protocol):
    """Follows a run: is told of the connection to interrupt, and of the query to ask for progress."""

    def began(self, duck: SealedDuckDB) -> None:
        """A query has a connection now; raises to end the run."""

    def ran(self, query: Query) -> None:
        """A query is being run."""


Store = Callable[[pa.Schema, Iterator[pa.RecordBatch]], Selection]


_OF_TABLES = (
    AddColumns,
    AlterColumn,
    CompactTable,
    CreatePartition,
    DropColumns,
    DropPartition,
    DropTable,
    RenameColumn,
    TouchTable,
    TruncateTable,
)
"""Requests that make no sense for a view."""


@dataclasses.dataclass
class ScriptRun:
    """One run of statements: what they are run with, and what those before them have set.

    Attributes:
        queries, verbs: what runs queries, and everything else.
        namespace: where names without project or schema belong, from now on.
        authorize: asked before each request is executed.
        visible: leaves out of a reply what the caller may not know of.
        store: takes the rows of a query.
        watched: follows the run.
        text: the statements as they were sent.
        variables: of script mode, their queries by name.
        flags: what SET has set.
        run_id: what the statements are known by: a repetition has the same, and finds by it what was done.
        number: of the statement that is run.
        made: what an earlier run has changed, by the number of the statement.
        keys: of what the statement changes, one for each change.
    """

    queries: QueryRunner
    verbs: Writes
    namespace: Namespace
    authorize: Authorize
    visible: Callable[[TablePage], TablePage]
    store: Store
    watched: Watched
    text: str
    variables: dict[str, exp.Expr] = dataclasses.field(default_factory=dict)
    flags: dict[str, str] = dataclasses.field(default_factory=dict)
    run_id: str = dataclasses.field(default_factory=lambda: secrets.token_hex(12))
    number: int = 0
    made: Mapping[int, Sequence[Changed]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begins with the statement of the given number."""
        self.begin(self.number)

    def begin(self, number: int) -> None:
        """A statement is run from now on."""
        self.number = number
        self.keys = map(self.key, itertools.count())

    def key(self, change: int) -> str:
        """Of a change that the statement makes; a number of its own is for whoever cannot count them."""
        return run_key(self.run_id, self.text, self.number, change)

    @property
    def has_begun(self) -> bool:
        """Whether an earlier run of the statement has changed something."""
        return self.number in self.made

    @property
    def time_zone(self) -> str:
        """The time zone whose clocks statements read and write times by; empty for UTC."""
        return time_zone_of(self.flags)

    def check_tables(self, requests: Iterable[Request]) -> None:
        """Refuses what changes or drops a table if it is about a view.

        Raises:
            InvalidArgumentError: naming the view.
        """
        about = {
            (item.table, isinstance(item, DropTable))
            for item in requests
            if isinstance(item, _OF_TABLES)
        }
        for table, dropped in about:
            with contextlib.suppress(NotFoundError):  # whoever changes it says so
                info = self.verbs.call(DescribeTable(table=table))
                if isinstance(info, TableInfo) and VIEW_TEXT in info.properties:
                    why = "DROP VIEW drops it" if dropped else "it has no rows of its own"
                    raise InvalidArgumentError(f"{info.table} is a view: {why}")

    def query(self, tree: exp.Expr, changed: ChangedTable | None = None) -> Query:
        """Opens a query; raises as `QueryRunner.open`."""
        query = self.queries.open(
            tree,
            self.namespace,
            self.authorize,
            self.variables,
            zone=self.time_zone,
            begun=self.watched.began,
            changed=changed,
        )
        try:
            self.watched.ran(query)
        except BaseException:
            query.close()
            raise
        return query

    def describe(self, table: TableName) -> TableInfo:
        """What the catalog knows of a table that the caller may know of."""
        request = DescribeTable(table=table)
        self.authorize(request)
        return self.verbs.call(request)

    def exists(self, table: TableName) -> bool:
        """Whether there is such a table or view."""
        try:
            self.verbs.call(DescribeTable(table=table))
        except (NoSuchTableError, NoSuchProjectError):
            return False  # a project may come into being with its first table
        return True


def changed_rows(report: Changed) -> Outcome:
    """What a change of rows reports."""
    return Outcome(affected=report.rows_inserted + report.rows_updated + report.rows_deleted)
