"""Statements: what each of them does, with the engine's verbs and the query runner."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from fletching.engine.query.looking import Looking, all_partitions
from fletching.engine.query.query_runner import (
    VIEW_NAMESPACE,
    VIEW_TEXT,
    Authorize,
    ChangedTable,
    Query,
    QueryRunner,
)
from fletching.engine.query.result_types import duck_type_of
from fletching.engine.query.row_writing import Writes, cast_to, write_rows
from fletching.engine.query.script_values import with_values
from fletching.errors import (
    AlreadyExistsError,
    ConflictError,
    FletchingError,
    InvalidArgumentError,
    NoSuchPartitionError,
    NoSuchTableError,
    NotFoundError,
)
from fletching.ipc.encoding import encode_schema
from fletching.protocol.messages.admin import (
    AddColumns,
    CreatePartition,
    CreateTable,
    DescribeTable,
    DropPartition,
    DropTable,
    TableInfo,
)
from fletching.protocol.messages.changes import (
    AlterColumn,
    ChangeRequest,
    CompactTable,
    DeleteRows,
    DropColumns,
    MergeRows,
    RenameColumn,
    TouchTable,
    TruncateTable,
    UpdateRows,
)
from fletching.protocol.messages.requests import CreateWriteSession, Request
from fletching.protocol.messages.responses import Changed, Response
from fletching.protocol.types.arrow_types import arrow_field
from fletching.protocol.types.odps_types import parse_type
from fletching.sql.dialect import exp, parse_predicate
from fletching.sql.predicates import compile_condition
from fletching.sql.query_sources import located
from fletching.sql.row_changes import ROW, SEGMENT, row_changes_of
from fletching.sql.sql_types import type_of_arrow
from fletching.sql.statement_kinds import (
    AddMissingColumns,
    Assignment,
    Changes,
    Clone,
    ComputedChange,
    CreateAs,
    CreateLike,
    CreateView,
    DropPartitions,
    DropView,
    Explanation,
    Insertion,
    Namespace,
    QueryStatement,
    RenamePartition,
    RowChange,
    Setting,
    Statement,
    Target,
    Use,
)
from fletching.sql.statement_places import StatementPlace
from fletching.sql.table_definitions import DEFAULT_KEY
from fletching.types import PartitionSpec, TableName

if TYPE_CHECKING:
    from fletching.engine.changes.attempts import Draft
    from fletching.engine.changes.computed_changes import ComputedChanges
    from fletching.engine.query.sealed_duckdb import SealedDuckDB

__all__ = ["Outcome", "StatementRunner", "Watched"]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of statements: the last one's.

    Attributes:
        printed: text, for statements that print.
        stored: what the consumer of rows made of a query's.
        affected: rows inserted, updated or deleted; None for statements that change none.
    """

    printed: str = ""
    stored: Any = None
    affected: int | None = None


class Watched(Protocol):
    """Follows a run: is told of the connection to interrupt, and of the query to ask for progress."""

    def began(self, duck: SealedDuckDB) -> None:
        """A query has a connection now; raises to end the run."""

    def ran(self, query: Query) -> None:
        """A query is being run."""


Store = Callable[[pa.Schema, Iterator[pa.RecordBatch]], Any]


_INSERT_ATTEMPTS = 5

_OF_TABLES = (
    AddColumns,
    AlterColumn,
    CompactTable,
    CreatePartition,
    DropColumns,
    DropPartition,
    RenameColumn,
    TouchTable,
    TruncateTable,
)
"""Requests that make no sense for a view."""


class StatementRunner:
    """Runs statements one after the other. Thread-safe; blocks."""

    def __init__(self, queries: QueryRunner, verbs: Writes) -> None:
        """Queries by one, everything else by the other."""
        self._queries = queries
        self._verbs = verbs

    def run(
        self,
        statements: list[tuple[Statement, StatementPlace]],
        namespace: Namespace,
        *,
        authorize: Authorize,
        visible: Callable[[Response], Response],
        store: Store,
        watched: Watched,
    ) -> Outcome:
        """Runs statements until one fails.

        Args:
            statements: in order, each with its place.
            namespace: where names without project or schema belong.
            authorize: asked before each request is executed.
            visible: leaves out of a reply what the caller may not know of.
            store: takes the rows of a query.
            watched: follows the run.

        Raises:
            FletchingError: the first failure; what ran before it stays done.
        """
        run = _Run(self._queries, self._verbs, namespace, authorize, visible, store, watched)
        outcome = Outcome()
        for statement, place in statements:
            try:
                found = run.statement(statement)
            except (InvalidArgumentError, NotFoundError, AlreadyExistsError) as error:
                raise place.told(error) from error
            outcome = found or outcome
        return outcome

    def cost(
        self, statements: list[Statement], namespace: Namespace, *, authorize: Authorize
    ) -> Outcome:
        """What statements would read, printed in the form that clients take it from; runs nothing.

        Raises:
            FletchingError: a table does not exist, or may not be read.
        """
        variables = {item.name: item.tree for item in statements if isinstance(item, Assignment)}
        trees = [tree for statement in statements for tree in _trees(statement)]
        tables = {
            name: None
            for tree in trees
            for name in self._queries.tables(tree, namespace, authorize, variables)
        }
        size = 0
        for name in tables:
            info = self._verbs.call(DescribeTable(table=name))
            assert isinstance(info, TableInfo)
            size += info.bytes
        cost = {"UDF": 0, "Complexity": _complexity(trees), "Input": size}
        return Outcome(printed=json.dumps({"Cost": {"SQL": cost}}))


def _trees(statement: Statement) -> list[Any]:
    """The queries of a statement."""
    match statement:
        case QueryStatement(tree=tree) | CreateAs(tree=tree) | ComputedChange(tree=tree):
            return [tree]
        case Insertion(targets=targets):
            return [target.tree for target in targets]
    return []


def _complexity(trees: list[Any]) -> float:
    """MaxCompute's measure: by how many of its expensive words the statements have."""
    kinds = (exp.Join, exp.Group, exp.Order, exp.Distinct, exp.Window)
    words = sum(len(list(tree.find_all(*kinds))) for tree in trees)
    return next(factor for most, factor in _COMPLEXITIES if words <= most)


_COMPLEXITIES = ((3, 1.0), (6, 1.5), (19, 2.0), (math.inf, 4.0))


@dataclasses.dataclass
class _Run:
    queries: QueryRunner
    verbs: Writes
    namespace: Namespace
    authorize: Authorize
    visible: Callable[[Response], Response]
    store: Store
    watched: Watched
    variables: dict[str, Any] = dataclasses.field(default_factory=dict)
    flags: dict[str, str] = dataclasses.field(default_factory=dict)

    def statement(self, statement: Statement) -> Outcome | None:
        """What a statement does; None for those that leave nothing to see."""
        match statement:
            case QueryStatement(tree=tree):
                with self.query(tree) as query:
                    schema, batches = query.run()
                    return Outcome(stored=self.store(schema, batches))
            case Explanation(tree=tree):
                with self.query(tree) as query:
                    return Outcome(printed=query.explain())
            case Insertion(targets=targets):
                return Outcome(affected=sum([self.insert(target) for target in targets]))
            case CreateAs():
                return self.create_as(statement)
            case CreateLike():
                return self.create_like(statement)
            case CreateView():
                return self.create_view(statement)
            case DropView(table=table, if_exists=if_exists):
                return self.drop_view(table, if_exists=if_exists)
            case Changes(requests=requests):
                for request in requests:
                    self.authorize(request)
                self.check_tables(requests)
                for request in requests:
                    self.verbs.call(request)
                return Outcome()
            case ComputedChange():
                return self.change(statement)
            case RowChange(request=first, more=more):
                for request in (first, *more):
                    self.authorize(request)
                self.check_tables((first, *more))
                reports = [_changed(self.verbs.call(request)) for request in (first, *more)]
                return Outcome(affected=sum(report.affected or 0 for report in reports))
            case DropPartitions():
                return self.drop_partitions(statement)
            case RenamePartition():
                return self.rename_partition(statement)
            case AddMissingColumns():
                return self.add_missing(statement)
            case Clone():
                return self.clone(statement)
            case Assignment(name=name, tree=tree):
                self.variables[name] = with_values(tree, self.variables)
            case Setting(name=name, value=value):
                self.flags[name] = value
                if name == "odps.default.schema":
                    self.namespace = dataclasses.replace(self.namespace, schema=value)
            case Use(project=project, schema=schema):
                found = dataclasses.replace(self.namespace, project=project)
                self.namespace = dataclasses.replace(found, schema=schema or found.schema)
            case _:
                looking = Looking(self.verbs, self.authorize, self.visible, self.flags)
                return Outcome(printed=looking.printed(statement))
        return None

    def check_tables(self, requests: Iterable[Request]) -> None:
        """Refuses what changes a table's rows, columns or partitions if it is about a view.

        Raises:
            InvalidArgumentError: naming the view.
        """
        for table in {one.table for one in requests if isinstance(one, _OF_TABLES)}:
            with contextlib.suppress(NotFoundError):  # whoever changes it says so
                info = self.verbs.call(DescribeTable(table=table))
                if isinstance(info, TableInfo) and VIEW_TEXT in info.properties:
                    raise InvalidArgumentError(f"{info.table} is a view: it has no rows of its own")

    def query(self, tree: Any, changed: ChangedTable | None = None) -> Query:
        query = self.queries.open(
            tree,
            self.namespace,
            self.authorize,
            self.variables,
            begun=self.watched.began,
            changed=changed,
        )
        try:
            self.watched.ran(query)
        except BaseException:
            query.close()
            raise
        return query

    # --- writing -----------------------------------------------------------------------------

    def insert(self, target: Target) -> int:
        """Writes the rows of a query into a table; returns how many.

        What others committed first is read anew: the query is run again, a few times at most.
        """
        for _ in range(_INSERT_ATTEMPTS - 1):
            with contextlib.suppress(ConflictError):
                return self._insert(target)
        return self._insert(target)

    def _insert(self, target: Target) -> int:
        info = self.describe(target.table)
        if VIEW_TEXT in info.properties:
            raise InvalidArgumentError(f"{info.table} is a view: nothing can be inserted into it")
        data = pa.ipc.read_schema(pa.py_buffer(info.arrow_schema))
        partition_types = {
            column.name.casefold(): arrow_field(column.name, parse_type(column.type))
            for column in info.schema.partition_columns
        }
        named = {name.casefold() for name, _ in target.static} | {
            name.casefold() for name in target.dynamic
        }
        if named - set(partition_types):
            raise InvalidArgumentError(
                f"{', '.join(sorted(named - set(partition_types)))} is no partition column of"
                f" {info.table}"
            )
        # What PARTITION does not name comes with the rows: where it is listed, or behind the others.
        static = {name.casefold() for name, _ in target.static}
        dynamic = {key: field for key, field in partition_types.items() if key not in static}
        fields = self._columns(target, data, dynamic)
        tree, fields = self._with_defaults(target, data, fields)
        partition = PartitionSpec(target.static)
        request = CreateWriteSession(
            table=target.table, partition=partition, overwrite=target.overwrite
        )
        self.authorize(request)
        with self.query(tree) as query:
            if len(query.columns) != len(fields):
                raise InvalidArgumentError(
                    f"the query has {len(query.columns)} columns where {info.table} takes"
                    f" {len(fields)}: {', '.join(field.name for field in fields)}"
                )
            query.cast([f"CAST({{}} AS {duck_type_of(field.type)})" for field in fields])
            _, batches = query.run()
            schema = pa.schema(fields)
            return write_rows(
                self.verbs,
                target.table,
                batches,
                partition=partition,
                overwrite=target.overwrite,
                columns_of=cast_to(schema),
                schema=schema,
            )

    @staticmethod
    def _with_defaults(
        target: Target, data: pa.Schema, fields: list[pa.Field]
    ) -> tuple[Any, list[pa.Field]]:
        """The query and its columns, with the DEFAULTs of those that the statement leaves out."""
        named = {field.name.casefold() for field in fields}
        missing = [
            field
            for field in data
            if field.name.casefold() not in named and DEFAULT_KEY in (field.metadata or {})
        ]
        if not missing:
            return target.tree, fields
        values = [parse_predicate(field.metadata[DEFAULT_KEY].decode()) for field in missing]
        inner = exp.Subquery(
            this=target.tree.copy(),
            alias=exp.TableAlias(
                this=exp.to_identifier("given", quoted=True),
                columns=[exp.to_identifier(f"v{i}", quoted=True) for i in range(len(fields))],
            ),
        )
        made = exp.Select(
            expressions=[
                *(exp.column(exp.to_identifier(f"v{i}", quoted=True)) for i in range(len(fields))),
                *values,
            ],
            from_=exp.From(this=inner),
        )
        return made, [*fields, *missing]

    def change(self, statement: ComputedChange) -> Outcome:
        """Deletes, updates or merges rows that a query chooses, in one commit."""
        table, tree = statement.table, statement.tree
        info = self.describe(table)
        if VIEW_TEXT in info.properties:
            raise InvalidArgumentError(f"{info.table} is a view: its rows cannot be changed")
        fields = [
            *pa.ipc.read_schema(pa.py_buffer(info.arrow_schema)),
            *(
                arrow_field(column.name, parse_type(column.type))
                for column in info.schema.partition_columns
            ),
        ]
        request: ChangeRequest = DeleteRows(table=table, where=statement.where)
        if isinstance(tree, exp.Update):
            request = UpdateRows(table=table, where="")
        elif isinstance(tree, exp.Merge):
            request = MergeRows(table=table, session_id="", on=())
        self.authorize(request)
        if statement.where and _is_filter(tree, fields):
            return _changed(self.verbs.call(request))
        columns = {field.name: type_of_arrow(field.type) for field in fields}
        try:
            wanted = row_changes_of(tree, columns)
        except InvalidArgumentError as error:
            raise located(error, tree) from error

        def compute(computed: ComputedChanges) -> Draft:
            changed = ChangedTable(
                table,
                computed.view.table.version,
                lambda names, predicate: computed.batches(names, (SEGMENT, ROW), predicate),
            )
            with self.query(wanted.tree, changed) as query:
                ordered = any(action.kind == "update" for action in wanted.actions)
                _, batches = query.run(order="1, 2" if ordered else "")
                return computed.work(batches, wanted.actions, wanted.columns)

        return _changed(self.verbs.compute_changes(request, wanted.operation, compute))

    @staticmethod
    def _columns(target: Target, data: pa.Schema, dynamic: dict[str, pa.Field]) -> list[pa.Field]:
        """The columns of the rows that are inserted, in their order."""
        if not target.columns:
            return [*data, *dynamic.values()]
        by_name = {**{field.name.casefold(): field for field in data}, **dynamic}
        unknown = [name for name in target.columns if name.casefold() not in by_name]
        if unknown:
            raise InvalidArgumentError(f"{target.table} has no column {', '.join(unknown)}")
        listed = [by_name[name.casefold()] for name in target.columns]
        return [*listed, *(field for field in dynamic.values() if field not in listed)]

    def create_as(self, statement: CreateAs) -> Outcome:
        """Creates a table of a query's columns and writes its rows."""
        request = statement.request
        self.authorize(request)
        if self.exists(request.table):
            if request.if_not_exists:
                return Outcome(affected=0)
            raise AlreadyExistsError(f"there is a table {request.table} already")
        with self.query(statement.tree) as query:
            schema, batches = query.run()
            made = CreateTable(
                table=request.table,
                arrow_schema=encode_schema(schema),
                comment=request.comment,
                properties=request.properties,
                lifecycle_days=request.lifecycle_days,
            )
            self.verbs.call(made)
            try:
                rows = write_rows(
                    self.verbs,
                    request.table,
                    batches,
                    partition=PartitionSpec(),
                    overwrite=False,
                    columns_of=cast_to(schema),
                    schema=schema,
                )
            except BaseException:
                self.verbs.call(DropTable(table=request.table, if_exists=True))
                raise
        return Outcome(affected=rows)

    def create_like(self, statement: CreateLike) -> Outcome:
        """Creates an empty table with the columns of another."""
        source = self.describe(statement.source)
        request = CreateTable(
            table=statement.table,
            arrow_schema=source.arrow_schema,
            partition_columns=tuple(
                (column.name, column.type) for column in source.schema.partition_columns
            ),
            partition_comments=tuple(column.comment for column in source.schema.partition_columns),
            comment=source.comment,
            properties={
                key: value
                for key, value in source.properties.items()
                if key not in {VIEW_TEXT, VIEW_NAMESPACE}
            },
            primary_key=source.primary_key,
            lifecycle_days=statement.lifecycle_days,
            if_not_exists=statement.if_not_exists,
        )
        self.authorize(request)
        self.verbs.call(request)
        return Outcome()

    # --- partitions and columns ----------------------------------------------------------------

    def drop_partitions(self, statement: DropPartitions) -> Outcome:
        """Drops the partitions for which a condition holds, in one transaction each."""
        table = statement.table
        info = self.describe(table)
        self.authorize(DropPartition(table=table, partition=PartitionSpec()))
        columns = [(c.name, c.type) for c in info.schema.partition_columns]
        known = {name.casefold() for name, _ in columns}
        for column in statement.condition.find_all(exp.Column):
            if column.name.casefold() not in known:
                raise located(
                    InvalidArgumentError(f"{table} has no partition column {column.name}"), column
                )
        partitions = list(all_partitions(self.verbs, table))
        chosen = [partitions[i] for i in self._matching(columns, partitions, statement.condition)]
        if not chosen and not statement.if_exists:
            raise NoSuchPartitionError(f"no partition of {table} fulfils the condition")
        for partition in chosen:
            request = DropPartition(table=table, partition=partition, if_exists=True)
            self.authorize(request)
            self.verbs.call(request)
        return Outcome()

    def _matching(
        self,
        columns: list[tuple[str, str]],
        partitions: list[PartitionSpec],
        condition: Any,
    ) -> list[int]:
        """Which partitions a condition chooses, worked out as a query over their values."""
        if not partitions:
            return []
        rows = [
            exp.Tuple(
                expressions=[
                    exp.Literal.number(number),
                    *(exp.Literal.string(value) for _, value in partition),
                ]
            )
            for number, partition in enumerate(partitions)
        ]
        names = ["partition number", *(name for name, _ in columns)]
        values = exp.Values(
            expressions=rows,
            alias=exp.TableAlias(
                this=exp.to_identifier("raw", quoted=True),
                columns=[exp.to_identifier(name, quoted=True) for name in names],
            ),
        )
        typed = exp.Select(
            expressions=[
                exp.column(exp.to_identifier(names[0], quoted=True)),
                *(
                    exp.alias_(
                        exp.cast(
                            exp.column(exp.to_identifier(name, quoted=True)), kind, dialect="hive"
                        ),
                        name,
                        quoted=True,
                    )
                    for name, kind in columns
                ),
            ],
            from_=exp.From(this=values),
        )
        tree = (
            exp.select(exp.column(exp.to_identifier(names[0], quoted=True)))
            .from_(typed.subquery("partitions"))
            .where(condition.copy())
        )
        with self.query(tree) as query:
            _, batches = query.run()
            return sorted(number for batch in batches for number in batch.column(0).to_pylist())

    def rename_partition(self, statement: RenamePartition) -> Outcome:
        """Moves the rows of a partition to another, which must not be there, and drops it."""
        table, old, new = statement.table, statement.partition, statement.new
        info = self.describe(table)
        names = {c.name.casefold(): c.name for c in info.schema.partition_columns}
        for spec in (old, new):
            if {name.casefold() for name, _ in spec} != set(names):
                raise InvalidArgumentError(
                    f"RENAME takes all partition columns of {table}: {', '.join(names.values())}"
                )
        drop = DropPartition(table=table, partition=old)
        create = CreatePartition(table=table, partition=new)
        for request in (drop, create):
            self.authorize(request)
        if not any(_same_partition(old, one) for one in all_partitions(self.verbs, table)):
            raise NoSuchPartitionError(f"there is no partition {old} in {table}")
        if _same_partition(old, new):
            return Outcome()
        self.verbs.call(create)
        try:
            update = exp.Update(
                this=exp.to_table(str(table), dialect="hive"),
                expressions=[_equal(name, value) for name, value in new],
                where=exp.Where(this=exp.and_(*(_equal(name, value) for name, value in old))),
            )
            outcome = self.change(ComputedChange(table, update))
        except BaseException:
            self.verbs.call(DropPartition(table=table, partition=new, if_exists=True))
            raise
        self.verbs.call(drop)
        return outcome

    def add_missing(self, statement: AddMissingColumns) -> Outcome:
        """Adds the columns that are not there yet."""
        request = statement.request
        info = self.describe(request.table)
        known = {
            column.name.casefold()
            for column in (*info.schema.data_columns, *info.schema.partition_columns)
        }
        wanted = pa.ipc.read_schema(pa.py_buffer(request.arrow_schema))
        missing = [field for field in wanted if field.name.casefold() not in known]
        if missing:
            request = AddColumns(
                table=request.table, arrow_schema=encode_schema(pa.schema(missing))
            )
            self.authorize(request)
            self.verbs.call(request)
        return Outcome()

    def clone(self, statement: Clone) -> Outcome:
        """Copies columns and rows of a table."""
        there = self.exists(statement.table)
        if there and not statement.if_exists:
            raise AlreadyExistsError(f"there is a table {statement.table} already")
        if there and statement.if_exists == "IGNORE":
            return Outcome(affected=0)
        if not there:
            self.create_like(CreateLike(statement.table, statement.source))
        tree = exp.select("*").from_(exp.to_table(str(statement.source), dialect="hive"))
        if statement.partitions:
            tree = tree.where(
                exp.or_(
                    *(
                        exp.and_(*(_equal(name, value) for name, value in one))
                        for one in statement.partitions
                    )
                )
            )
        return Outcome(affected=self.insert(Target(statement.table, tree, overwrite=there)))

    # --- views -------------------------------------------------------------------------------

    def create_view(self, statement: CreateView) -> Outcome:
        """Keeps a query under a name, after binding it once."""
        with self.query(statement.tree) as query:
            schema, _ = query.run()
        if statement.columns:
            if len(statement.columns) != len(schema):
                raise InvalidArgumentError(
                    f"the view names {len(statement.columns)} columns, its query has {len(schema)}"
                )
            schema = pa.schema(
                [
                    field.with_name(name)
                    for field, name in zip(schema, statement.columns, strict=True)
                ]
            )
        request = CreateTable(
            table=statement.table,
            arrow_schema=encode_schema(schema),
            comment=statement.comment,
            properties={
                VIEW_TEXT: statement.text,
                VIEW_NAMESPACE: f"{self.namespace.project}.{self.namespace.schema}",
            },
            if_not_exists=statement.if_not_exists,
        )
        self.authorize(request)
        if statement.replace and self.exists(statement.table):
            self.drop_view(statement.table, if_exists=True)
        self.verbs.call(request)
        return Outcome()

    def drop_view(self, table: TableName, *, if_exists: bool) -> Outcome:
        """Forgets a view; a table is left alone."""
        try:
            info = self.describe(table)
        except NoSuchTableError:
            if if_exists:
                return Outcome()
            raise
        if VIEW_TEXT not in info.properties:
            raise InvalidArgumentError(f"{table} is a table: DROP TABLE drops it")
        request = DropTable(table=table, if_exists=if_exists)
        self.authorize(request)
        self.verbs.call(request)
        return Outcome()

    # --- looking -----------------------------------------------------------------------------

    def describe(self, table: TableName) -> TableInfo:
        """What the catalog knows of a table that the caller may know of."""
        request = DescribeTable(table=table)
        self.authorize(request)
        info = self.verbs.call(request)
        assert isinstance(info, TableInfo)
        return info

    def exists(self, table: TableName) -> bool:
        """Whether there is such a table or view."""
        try:
            self.verbs.call(DescribeTable(table=table))
        except NoSuchTableError:
            return False
        return True


def _changed(report: Response) -> Outcome:
    assert isinstance(report, Changed)
    return Outcome(affected=report.rows_inserted + report.rows_updated + report.rows_deleted)


def _is_filter(tree: Any, fields: list[pa.Field]) -> bool:
    """Whether a scan can choose the rows of a DELETE by itself, without opening most segments."""
    known = {field.name.casefold(): field for field in fields}
    try:
        compile_condition(tree.args["where"].this.copy(), known, table=tree.this.alias_or_name)
    except FletchingError:
        return False
    return not tree.this.alias  # the filter's text knows the table by its own name


def _equal(name: str, value: str) -> Any:
    return exp.EQ(
        this=exp.column(exp.to_identifier(name, quoted=True)), expression=exp.Literal.string(value)
    )


def _same_partition(one: PartitionSpec, other: PartitionSpec) -> bool:
    return {name.casefold(): value for name, value in one} == {
        name.casefold(): value for name, value in other
    }
