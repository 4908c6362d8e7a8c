"""One query: its tables pinned at one moment, translated, pushed down, run by DuckDB.

The flow is that of docs/sql.md: names are looked up and views opened, the tables behind them authorised and
pinned in one transaction; the translation says which columns and conditions each mention of a table
needs; DuckDB pulls the rows through our scans and hands batches on as it computes them.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pyarrow as pa

from fletching.engine.query.complaint_locations import located_complaint
from fletching.engine.query.kept_rows import KeptRows
from fletching.engine.query.kept_work import KeptTranslations
from fletching.engine.query.local_times import in_local_time, local_columns, utc_batch
from fletching.engine.query.printing import VIEW_TEXT
from fletching.engine.query.query_limits import QueryLimits
from fletching.engine.query.result_types import casts_of, conformed, result_schema
from fletching.engine.query.script_values import (
    Calls,
    as_literal,
    fold_catalog_calls,
    variable_name,
    variable_of,
    with_values,
)
from fletching.engine.query.table_readers import RelationReader, Statistics, TableReaders
from fletching.engine.reading.read_calls import Reading
from fletching.engine.tables.schema_checks import VIEW_PREFIX
from fletching.errors import (
    FletchingError,
    InvalidArgumentError,
    NoSuchTableError,
    RowsChangedError,
    VersionNotFoundError,
)
from fletching.protocol.messages.admin import DescribeTable, TableInfo
from fletching.protocol.messages.requests import CreateReadSession, Request
from fletching.sql.functions.time_zones import to_local
from fletching.sql.parsing.dialect import exp, parse_one
from fletching.sql.queries.query_sources import (
    Source,
    SourceView,
    TableMoment,
    WantedScan,
    located,
    mentioned_tables,
    table_moment,
)
from fletching.sql.queries.row_changes import ROW, SEGMENT, TARGET
from fletching.sql.queries.translation import Translation, translate
from fletching.sql.statements.statement_kinds import Namespace
from fletching.sql.statements.table_definitions import table_name
from fletching.types import TableName

if TYPE_CHECKING:
    from fletching.engine.query.sealed_connections import Connections
    from fletching.engine.query.sealed_duckdb import SealedDuckDB
    from fletching.sql.predicates.predicate_compiler import Predicate

__all__ = [
    "VIEW_NAMESPACE",
    "VIEW_SCHEMAS",
    "VIEW_TEXT",
    "Calls",
    "ChangedTable",
    "Query",
    "QueryRunner",
]

VIEW_NAMESPACE = VIEW_PREFIX + "namespace"
"""Property of a view: where names without project or schema belong in it, ``project.schema``."""

VIEW_SCHEMAS = VIEW_PREFIX + "schemas"
"""Property of a view: whether ``a.b`` in it means table b of schema a."""

BATCH_ROWS = 65_536

Authorize = Callable[[Request], None]


class Query:
    """A query that is being run; use it as a context manager.

    Attributes:
        schema: the result's columns.
        statistics: what its scans have read so far.
        translation: what DuckDB was given.
        types: DuckDB's, of each column.
    """

    def __init__(
        self,
        duck: SealedDuckDB,
        readers: TableReaders,
        translation: Translation,
        statistics: Statistics,
        zone: str,
    ) -> None:
        self._duck = duck
        self._readers = readers
        self._zone = zone
        self.translation = translation
        self.statistics = statistics
        relation = duck.query(translation.sql)
        self.columns: list[str] = list(relation.columns)
        self.types = list(relation.types)
        self._casts: list[str] | None = casts_of(self.types)
        self._bound = (translation.sql, relation)

    def cast(self, casts: list[str]) -> None:
        """Has the columns cast to other types of DuckDB's, one per column."""
        self._casts = casts

    @property
    def sql(self) -> str:
        """What DuckDB runs."""
        sql = self.translation.sql
        if self._casts is None:
            return sql
        items = [cast.replace("{}", f"#{i}") for i, cast in enumerate(self._casts, 1)]
        chosen = ", ".join(f"{item} AS c{i}" for i, item in enumerate(items, 1))
        # Text of our own: what a user wrote was parsed and written out again.
        return f"SELECT {chosen} FROM ({sql})"  # noqa: S608

    def run(
        self, order: str = "", targets: Sequence[pa.Field] | None = None
    ) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """The result's columns, and its rows as they are computed.

        Args:
            order: columns of the result to order it by.
            targets: the columns of a table that the rows are for, which say what their times are; by default
                the result's own.
        """
        sql = f"{self.sql} ORDER BY {order}" if order else self.sql
        bound, relation = self._bound
        if sql != bound:
            relation = self._duck.query(sql)
        result, batches = self._duck.batches(relation, BATCH_ROWS)
        schema = result_schema(result, self.columns, self.translation.declared)
        rows = (conformed(batch, schema) for batch in batches)
        if not self._zone:
            return schema, rows
        is_declared = len(self.translation.declared) == len(self.columns)
        read = (s.source.fields[n.casefold()] for s in self.translation.scans for n in s.columns)
        timed = local_columns(schema if targets is None else targets, () if is_declared else read)
        return schema, (utc_batch(batch, timed, self._zone) for batch in rows)

    def explain(self) -> str:
        """What was pushed into the scans, and what DuckDB does."""
        lines = ["Scans:"]
        for scan in self.translation.scans:
            pushed = " AND ".join(scan.pushed) or "-"
            lines.append(
                f"  {scan.source.name} AS {scan.alias}: columns {', '.join(scan.columns)};"
                f" pushed: {pushed}"
            )
            lines.append(f"    {self._readers.kept(scan)}")
        plan = self._duck.explain(self.sql)
        return "\n".join([*(lines if self.translation.scans else []), "", plan])

    def version_of(self, table: TableName) -> int | None:
        """The version of a table that is read as it is now; None if it is not read so."""
        read = [str(s.source.name) for s in self.translation.scans if s.source.version is None]
        known = str(table).casefold() in map(str.casefold, read)
        return self._readers.version(table) if known else None

    @property
    def progress(self) -> float:
        """How far it is, from 0 to 1."""
        return self._duck.progress

    def interrupt(self, why: FletchingError | None = None) -> None:
        """Ends it within a moment."""
        self._duck.interrupt(why)

    def close(self) -> None:
        """Gives everything back; idempotent."""
        self._duck.close()
        self._readers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@dataclasses.dataclass(frozen=True)
class ChangedTable:
    """The table that a statement changes, as its change has pinned it.

    Attributes:
        name, version: which.
        begin: reads columns, hidden ones included, of the rows that a predicate may choose.
    """

    name: TableName
    version: int
    begin: Callable[[Sequence[str], Predicate | None], tuple[pa.Schema, Iterator[pa.RecordBatch]]]


_Mention = tuple[str, TableMoment | None]


@dataclasses.dataclass
class _Named:
    """What a query's names stand for: tables by name and moment, each with the version that is read."""

    authorize: Authorize
    tables: dict[_Mention, tuple[TableName, int | None]] = dataclasses.field(default_factory=dict)
    views: dict[str, SourceView] = dataclasses.field(default_factory=dict)


class QueryRunner:
    """Opens queries, and keeps some rows of versions (``kept_rows``). Thread-safe."""

    def __init__(
        self,
        reading: Reading,
        calls: Calls,
        limits: QueryLimits,
        clock: Callable[[], float],
        spill_folder: Path | None,
    ) -> None:
        self._reading = reading
        self._calls = calls
        self._clock = clock
        self._limits = limits
        self._spill_folder = spill_folder
        self._lock = threading.Lock()
        self._connections: Connections | None = None
        self._translations = KeptTranslations()
        self.kept_rows = KeptRows()

    def close(self) -> None:
        """Closes the connections that wait for the next query; idempotent."""
        with self._lock:
            result, self._connections = self._connections, None
        if result is not None:
            result.close()

    def _duck(self) -> SealedDuckDB:
        # An extra of its own, so that only who queries needs it.
        from fletching.engine.query.sealed_connections import Connections
        from fletching.engine.query.sealed_duckdb import SealedDuckDB

        with self._lock:
            if self._connections is None:
                self._connections = Connections(self._limits, self._spill_folder)
            connections = self._connections
        return SealedDuckDB(self._limits, connections)

    def open(
        self,
        tree: exp.Expr,
        namespace: Namespace,
        authorize: Authorize,
        variables: Mapping[str, exp.Expr],
        *,
        zone: str = "",
        begun: Callable[[SealedDuckDB], None] = lambda _duck: None,
        changed: ChangedTable | None = None,
    ) -> Query:
        """Binds a query.

        Args:
            tree: its tree.
            namespace: where names without project or schema belong.
            authorize: asked before each table is read.
            variables: queries of script mode's variables by name.
            zone: the time zone whose clocks it reads and writes times by; empty for UTC.
            begun: told of the connection as soon as there is one, to interrupt it.
            changed: the table that a statement changes, read with the hidden columns that name its rows
                where the query's tree says so.

        Raises:
            InvalidArgumentError: it cannot be bound.
            NoSuchTableError: a table does not exist.
            NoPermissionError: ``authorize`` refused.
        """
        tree = with_values(tree, variables)
        tree = fold_catalog_calls(tree, namespace, self._calls, authorize)
        result = _Named(authorize)
        self._collect(tree, namespace, variables, result)
        tables, views = result.tables, result.views
        for name, _ in tables.values():
            authorize(CreateReadSession(table=name))
        readers = TableReaders(self._reading, self.kept_rows)
        duck: SealedDuckDB | None = None
        try:
            if changed is None:
                readers.pin(list(tables.values()))
            else:
                _pin_beside(readers, tables, changed)
            duck = self._duck()
            begun(duck)

            def resolve(node: exp.Expr) -> Source | SourceView:
                variable = variable_name(node)
                if variable is not None:
                    return SourceView(TableName("", variable), variable_of(variables, variable))
                name = table_name(node, namespace_of(node) or namespace)
                view = views.get(str(name).casefold())
                if view is not None:
                    return view
                if _mention(name, node) not in tables:
                    raise NoSuchTableError(f"there is no table {name}")  # noqa: TRY301 - a callback
                _, version = tables[_mention(name, node)]
                fields = readers.fields(name, version)
                if changed is not None and node.meta.get(TARGET):
                    fields = {
                        **fields,
                        **{hidden: _position_field(hidden) for hidden in (SEGMENT, ROW)},
                    }
                    return Source(name, fields, target=True, version=version)
                return Source(name, fields, version=version)

            connection = duck

            def translated() -> Translation:
                return translate(
                    tree,
                    resolve,
                    now=self._now(zone),
                    zone=zone,
                    fold=lambda sql: as_literal(connection.value(sql)),
                )

            if views or variables or changed is not None:
                translation = translated()
            else:
                sources = tuple(
                    (mention, Source(name, readers.fields(name, version), version=version))
                    for mention, (name, version) in tables.items()
                )
                translation = self._translations.translation(tree, zone, sources, translated)
            statistics = Statistics()
            for scan in translation.scans:
                opened = readers.reader(scan, statistics, zone)
                if changed is not None and scan.source.target:
                    opened = RelationReader(
                        functools.partial(_begun, changed, scan, zone),
                        scan.relation,
                        statistics,
                    )
                duck.register(scan.relation, opened)
            try:
                return Query(duck, readers, translation, statistics, zone)
            except InvalidArgumentError as error:
                raise located_complaint(error, tree, translation.scans) from error
        except BaseException:
            if duck is not None:
                duck.close()
            readers.close()
            raise

    def tables(
        self,
        tree: exp.Expr,
        namespace: Namespace,
        authorize: Authorize,
        variables: Mapping[str, exp.Expr],
    ) -> list[TableName]:
        """The tables that a query would read, through views; nothing is opened.

        Raises:
            NoSuchTableError: a table does not exist.
            NoPermissionError: ``authorize`` refused.
        """
        result = _Named(authorize)
        self._collect(tree, namespace, variables, result)
        return list(dict.fromkeys(name for name, _ in result.tables.values()))

    def _now(self, zone: str) -> str:
        moment = dt.datetime.fromtimestamp(self._clock(), dt.UTC)
        return to_local(f"TIMESTAMP '{moment:%Y-%m-%d %H:%M:%S.%f}'", zone)

    # --- names -------------------------------------------------------------------------------

    def _collect(
        self,
        tree: exp.Expr,
        namespace: Namespace,
        variables: Mapping[str, exp.Expr],
        result: _Named,
        depth: int = 0,
    ) -> None:
        """Finds the tables that a query reads, through views and variables."""
        if depth > 16:
            raise InvalidArgumentError("views nest too deeply, or contain themselves")
        for node, named in mentioned_tables(tree):
            variable = variable_name(node)
            if variable is not None:
                query = variable_of(variables, variable)
                self._collect(query, namespace, variables, result, depth + 1)
                continue
            if named or not isinstance(node.this, exp.Identifier):
                continue
            name = table_name(node, namespace_of(node) or namespace)
            key, moment = _mention(name, node), table_moment(node)
            if key in result.tables or str(name).casefold() in result.views:
                continue
            request = DescribeTable(table=name)
            if moment is not None:
                request = DescribeTable(table=name, **dataclasses.asdict(moment))
            result.authorize(request)
            try:
                info = self._calls.call(request)
            except NoSuchTableError as error:
                raise located(error, node, NoSuchTableError) from error
            except VersionNotFoundError as error:
                self._refuse_old_view(name, node)
                raise located(error, node, VersionNotFoundError) from error
            text = info.properties.get(VIEW_TEXT)
            if text is not None and moment is not None:
                self._refuse_old_view(name, node)
            if text is None:
                result.tables[key] = (name, None if moment is None else info.version)
                continue
            project, _, schema = info.properties.get(VIEW_NAMESPACE, "").rpartition(".")
            own = Namespace(
                project or name.project,
                schema or name.schema,
                schemas_enabled=info.properties.get(VIEW_SCHEMAS) == "true",
            )
            query = parse_one(text)
            for inner in query.find_all(exp.Table):
                inner.meta[_NAMESPACE] = own
            columns = tuple(column.name for column in info.schema.data_columns)
            result.views[str(name).casefold()] = SourceView(name, query, columns)
            self._collect(query, own, variables, result, depth + 1)

    def _refuse_old_view(self, name: TableName, node: exp.Expr) -> None:
        """Refuses VERSION and TIMESTAMP AS OF behind the name of a view."""
        info = self._calls.call(DescribeTable(table=name))
        if isinstance(info, TableInfo) and VIEW_TEXT in info.properties:
            raise located(
                InvalidArgumentError(
                    f"{name} is a view, which has no versions: write AS OF behind the tables in its query"
                ),
                node,
            )


def _pin_beside(
    readers: TableReaders,
    tables: dict[_Mention, tuple[TableName, int | None]],
    changed: ChangedTable,
) -> None:
    """Pins what a statement reads; the table that it changes in the version that its change has pinned."""
    named = any(version is not None for _, version in tables.values())
    for mention, (name, version) in tables.items():
        if version is None and str(name).casefold() == str(changed.name).casefold():
            tables[mention] = (name, changed.version)
    try:
        readers.pin(list(tables.values()))
    except VersionNotFoundError as error:
        if named:
            raise
        # The change's pin keeps the rows, but the version is behind the horizon by now.
        raise RowsChangedError(f"version {changed.version} of {changed.name} is gone") from error


def _begun(
    changed: ChangedTable, scan: WantedScan, zone: str
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    return in_local_time(changed.begin(scan.columns, scan.predicate), scan.source.fields, zone)


def _mention(name: TableName, node: exp.Expr) -> _Mention:
    return str(name).casefold(), table_moment(node)


def _position_field(name: str) -> pa.Field:
    return pa.field(name, pa.int64())


_NAMESPACE = "fletching_namespace"


def namespace_of(node: exp.Expr) -> Namespace | None:
    """The namespace of the view that a table's name stands in."""
    result: Namespace | None = node.meta.get(_NAMESPACE)
    return result
