"""Instances: SQL statements that were run, behind one small interface.

``run`` executes a statement before it returns, so an instance has only an outcome: what it printed,
which rows it chose, or why it failed. Outcomes are kept in the catalog for a day; any process of a
service answers for them. What a SELECT chose is a read session, hence a snapshot.
"""

from __future__ import annotations

import csv
import datetime as dt
import functools
import io
import secrets
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any, Protocol

import msgspec
import pyarrow as pa

from fletching import ipc
from fletching.catalog.instance_rows import (
    InstanceRow,
    find_instance,
    forget_instances,
    insert_instance,
    list_instances,
)
from fletching.engine.context import EngineContext
from fletching.engine.query.printing import csv_cells, description, failure_text, matches
from fletching.engine.reading.read_plan import Computed, Literal, ReadPlan
from fletching.errors import FletchingError, InvalidArgumentError, NotFoundError
from fletching.protocol.http.error_codec import to_service_error
from fletching.protocol.messages.admin import (
    DescribeTable,
    ListPartitions,
    ListTables,
    PartitionPage,
    TableInfo,
    TablePage,
)
from fletching.protocol.messages.requests import (
    CreateInstanceReadSession,
    CreateReadSession,
    GetInstanceReadSession,
    GetReadSession,
    ReadInstance,
    ReadTable,
    Request,
    SplitOptions,
)
from fletching.protocol.messages.responses import (
    InstanceReadSession,
    ReadSession,
    Response,
    TableSchema,
)
from fletching.protocol.messages.vocabulary import SplitMode
from fletching.protocol.types.table_schema import table_schema
from fletching.sql.statements import (
    Changes,
    DescribeQuery,
    Namespace,
    SelectQuery,
    ShowPartitionsQuery,
    ShowTablesQuery,
    parse_statement,
)
from fletching.types import TableName

__all__ = ["Authorize", "InstanceRow", "Instances", "Visible"]

KEPT_SECONDS = 86_400.0
"""How long an instance can be asked for."""

MAX_RESULT_CHARACTERS = 8 * 1024 * 1024
"""Longest printed result that is kept."""

MAX_CSV_ROWS = 10_000
"""Rows that a SELECT prints when its result is asked for as text."""

_BATCH_ROWS = 65_536

Authorize = Callable[[Request], None]
"""Called with each request before it is executed; raises to refuse it."""

Visible = Callable[[Response], Response]
"""Takes out of a reply what its caller may not know of."""


class Verbs(Protocol):
    """The engine's verbs, which statements are executed with."""

    def call(self, request: Request) -> Response:
        """Answers a request."""

    def read(self, request: Any) -> ReadPlan:
        """Plans the reply to a request for rows."""


class _Selection(msgspec.Struct, frozen=True):
    """What a SELECT chose: a read session and a part of it."""

    table: TableName
    session_id: str
    rows: int
    columns: tuple[str, ...] = ()
    filtered: bool = False
    counted: int | None = None
    """The answer of COUNT(*); then no rows are chosen."""


class Instances:
    """Runs statements and answers for them. Thread-safe; blocks on the catalog and on storage."""

    def __init__(self, context: EngineContext, verbs: Verbs) -> None:
        """Executes with ``verbs`` and keeps outcomes in the catalog."""
        self._context = context
        self._verbs = verbs

    # --- running -----------------------------------------------------------------------------

    def run(
        self,
        statement: str,
        namespace: Namespace,
        *,
        owner: str = "",
        task_name: str = "AnonymousSQLTask",
        authorize: Authorize | None = None,
        visible: Visible | None = None,
    ) -> InstanceRow:
        """Executes a statement and keeps its outcome, failure included.

        Args:
            statement: the SQL text.
            namespace: where names without project or schema belong.
            owner: who asks.
            task_name: what the client calls it.
            authorize: asked before each request is executed.
            visible: leaves out of a reply what the caller may not know of.

        Raises:
            NoPermissionError: ``authorize`` refused (and nothing else is raised for a statement
                that fails: that is its outcome).
            ServiceUnavailableError, StorageFullError: the catalog cannot keep the outcome.
        """
        started = self._context.clock()
        instance_id = _new_id(started)
        selection: _Selection | None = None
        try:
            printed, selection = self._execute(
                statement, namespace, authorize or _allow, visible or _everything
            )
            succeeded = True
            if len(printed) > MAX_RESULT_CHARACTERS:
                raise InvalidArgumentError(
                    f"the result has {len(printed)} characters, above the limit of"
                    f" {MAX_RESULT_CHARACTERS}"
                )
        except FletchingError as error:
            fault = to_service_error(error, instance_id)
            if fault.http_status in {401, 403} or fault.http_status >= 500:
                raise
            printed, succeeded = failure_text(fault.code, fault.message), False
        row = InstanceRow(
            id=instance_id,
            project_key=namespace.project.casefold(),
            owner=owner,
            task_name=task_name,
            statement=statement,
            succeeded=succeeded,
            result=printed,
            selection=None if selection is None else msgspec.json.encode(selection),
            created_at=started,
            ended_at=self._context.clock(),
        )
        with self._context.database.write() as connection:
            forget_instances(connection, started - KEPT_SECONDS)
            insert_instance(connection, row)
        return row

    def _execute(
        self, text: str, namespace: Namespace, authorize: Authorize, visible: Visible
    ) -> tuple[str, _Selection | None]:
        statement = parse_statement(text, namespace)
        match statement:
            case Changes(requests=requests):
                for request in requests:
                    authorize(request)
                for request in requests:
                    self._verbs.call(request)
                return "", None
            case ShowTablesQuery():
                return self._show_tables(statement, authorize, visible), None
            case ShowPartitionsQuery(table=table):
                return self._show_partitions(table, authorize), None
            case DescribeQuery(table=table):
                request = DescribeTable(table=table)
                authorize(request)
                info = self._verbs.call(request)
                assert isinstance(info, TableInfo)
                return description(info), None
            case SelectQuery():
                return "", self._select(statement, authorize)

    def _show_tables(self, query: ShowTablesQuery, authorize: Authorize, visible: Visible) -> str:
        lines: list[str] = []
        marker = ""
        while True:
            request = ListTables(
                project=query.project, schema=query.schema, marker=marker, max_items=10_000
            )
            authorize(request)
            page = visible(self._verbs.call(request))
            assert isinstance(page, TablePage)
            lines += [
                f"{info.owner}:{info.table.name}"
                for info in page.tables
                if matches(info.table.name, query.pattern)
            ]
            marker = page.marker
            if not marker:
                return "\n".join(lines)

    def _show_partitions(self, table: TableName, authorize: Authorize) -> str:
        lines: list[str] = []
        marker = ""
        while True:
            request = ListPartitions(table=table, marker=marker, max_items=10_000)
            authorize(request)
            page = self._verbs.call(request)
            assert isinstance(page, PartitionPage)
            lines += [
                "/".join(f"{name}={value}" for name, value in info.partition)
                for info in page.partitions
            ]
            marker = page.marker
            if not marker:
                return "\n".join(lines)

    def _select(self, query: SelectQuery, authorize: Authorize) -> _Selection:
        describe = DescribeTable(table=query.table)
        authorize(describe)
        info = self._verbs.call(describe)
        assert isinstance(info, TableInfo)
        partitions = {column.name.casefold() for column in info.schema.partition_columns}
        chosen = [name.casefold() for name in query.columns]
        request = CreateReadSession(
            table=query.table,
            required_data_columns=tuple(n for n in query.columns if n.casefold() not in partitions),
            required_partition_columns=tuple(
                n for n in query.columns if n.casefold() in partitions
            ),
            split_options=SplitOptions(split_mode=SplitMode.ROW_OFFSET, split_number=2**62),
            filter_predicate=query.predicate,
        )
        if len(set(chosen)) != len(chosen):
            raise InvalidArgumentError("SELECT names a column twice")
        authorize(request)
        session = self._verbs.call(request)
        assert isinstance(session, ReadSession)
        selection = _Selection(
            table=query.table,
            session_id=session.session_id,
            rows=session.record_count,
            columns=query.columns,
            filtered=bool(query.predicate),
        )
        if selection.filtered:
            rows = sum(batch.num_rows for batch in self._stored_batches(selection, ()))
            selection = msgspec.structs.replace(selection, rows=rows)
        if query.count:
            return msgspec.structs.replace(selection, counted=selection.rows, rows=1)
        if query.limit is not None:
            selection = msgspec.structs.replace(selection, rows=min(selection.rows, query.limit))
        return selection

    # --- asking ------------------------------------------------------------------------------

    def get(self, project: str, instance_id: str) -> InstanceRow:
        """Looks an instance up.

        Raises:
            NotFoundError: there is none (or not any more).
        """
        with self._context.database.read() as connection:
            row = find_instance(connection, project, instance_id)
        if row is None:
            raise NotFoundError(f"there is no instance {instance_id} in project {project}")
        return row

    def list(self, project: str, limit: int = 1000) -> list[InstanceRow]:
        """The newest instances of a project, newest first."""
        with self._context.database.read() as connection:
            return list_instances(connection, project, limit)

    def result(self, row: InstanceRow) -> str:
        """What the statement printed; a SELECT prints its first rows as CSV."""
        if row.selection is None or not row.succeeded:
            return row.result
        selection = msgspec.json.decode(row.selection, type=_Selection)
        sink = io.StringIO()
        writer = csv.writer(sink, quoting=csv.QUOTE_ALL, lineterminator="\n")
        batches = self._batches(selection, 0, min(selection.rows, MAX_CSV_ROWS), ())
        schema = next(batches)
        writer.writerow(schema.names)
        for batch in batches:
            columns = [csv_cells(batch.column(i)) for i in range(batch.num_columns)]
            # Rows of text are what was asked for, and there are at most MAX_CSV_ROWS of them.
            writer.writerows(zip(*columns, strict=True))
        return sink.getvalue()

    # --- reading results ---------------------------------------------------------------------

    def create_read_session(self, request: CreateInstanceReadSession) -> InstanceReadSession:
        """Opens the result of a SELECT (PROTOCOL 2.17).

        Raises:
            NotFoundError: there is no such instance, or its result has expired.
            InvalidArgumentError: the statement chose no rows.
        """
        return self._session(self.get(request.project, request.instance_id))

    def get_read_session(self, request: GetInstanceReadSession) -> InstanceReadSession:
        """Looks such a session up; errors as for ``create_read_session``."""
        row = self.get(request.project, request.instance_id)
        session = self._session(row)
        if session.session_id != request.session_id:
            raise NotFoundError(f"instance {row.id} has no read session {request.session_id}")
        return session

    def _session(self, row: InstanceRow) -> InstanceReadSession:
        selection = self._selection(row)
        return InstanceReadSession(
            session_id=selection.session_id,
            record_count=selection.rows,
            schema=self._schema(selection),
            owner=row.owner,
            initiated=formatdate(row.created_at, usegmt=True),
        )

    @staticmethod
    def _selection(row: InstanceRow) -> _Selection:
        if row.selection is None:
            raise InvalidArgumentError(f"instance {row.id} is no SELECT: it has no rows to read")
        return msgspec.json.decode(row.selection, type=_Selection)

    def _schema(self, selection: _Selection) -> TableSchema:
        if selection.counted is not None:
            return table_schema(_COUNT_SCHEMA)
        request = GetReadSession(table=selection.table, session_id=selection.session_id)
        session = self._verbs.call(request)
        assert isinstance(session, ReadSession)
        # To a query all columns are data, in the order it named them.
        columns = (*session.schema.data_columns, *session.schema.partition_columns)
        if selection.columns:
            place = {name.casefold(): at for at, name in enumerate(selection.columns)}
            columns = tuple(sorted(columns, key=lambda item: place[item.name.casefold()]))
        return TableSchema(data_columns=columns)

    def read(self, request: ReadInstance) -> ReadPlan:
        """Plans rows of a result (PROTOCOL 2.18).

        Raises:
            NotFoundError: no such instance or session.
            InvalidArgumentError: an offset or column outside the result.
        """
        row = self.get(request.project, request.instance_id)
        selection = self._selection(row)
        if selection.session_id != request.session_id:
            raise NotFoundError(f"instance {row.id} has no read session {request.session_id}")
        if request.offset > selection.rows:
            raise InvalidArgumentError(
                f"offset {request.offset} is beyond the {selection.rows} rows of the result"
            )
        rest = selection.rows - request.offset
        count = rest if request.count is None else min(request.count, rest)
        columns = request.columns or selection.columns
        if selection.counted is None and not selection.filtered:
            return self._verbs.read(
                ReadTable(
                    table=selection.table,
                    session_id=selection.session_id,
                    offset=request.offset,
                    count=count,
                    data_columns=columns,
                    data_columns_unordered=True,
                    max_batch_rows=request.max_batch_rows,
                    buffer_codec=request.buffer_codec,
                )
            )
        return self._computed(selection, request, count)

    def _computed(self, selection: _Selection, request: ReadInstance, count: int) -> ReadPlan:
        """Rows that have no place of their own in storage: filtered ones and counts."""

        def batches() -> Iterator[pa.RecordBatch]:
            found = self._batches(selection, request.offset, count, request.columns)
            next(found)
            for batch in found:
                step = request.max_batch_rows or _BATCH_ROWS
                for start in range(0, batch.num_rows, step):
                    yield batch.slice(start, step)

        def pieces() -> Iterator[Any]:
            yield Literal(ipc.encode_schema(schema))
            for batch in batches():
                encode = functools.partial(
                    ipc.encode_batch, batch, compression=request.buffer_codec
                )
                yield Computed(encode, None)
            yield Literal(ipc.END_OF_STREAM)

        schema = next(self._batches(selection, 0, 0, request.columns))
        return ReadPlan(
            schema=schema, rows=count, length=None, pieces=_Again(pieces), batches=batches
        )

    def _batches(
        self, selection: _Selection, offset: int, count: int, columns: tuple[str, ...]
    ) -> Iterator[Any]:
        """The result's schema, then rows ``offset`` to ``offset + count`` of it."""
        if selection.counted is not None:
            yield _COUNT_SCHEMA
            if count:
                yield pa.record_batch([pa.array([selection.counted])], schema=_COUNT_SCHEMA)
            return
        plan = self._plan(selection, columns)
        yield plan.schema
        if not count:
            return
        skip, rest = offset, count
        for batch in plan.batches():
            part = batch.slice(min(skip, batch.num_rows), rest)
            skip -= min(skip, batch.num_rows)
            rest -= part.num_rows
            if part.num_rows:
                yield part
            if not rest:
                return

    def _stored_batches(
        self, selection: _Selection, columns: tuple[str, ...]
    ) -> Iterator[pa.RecordBatch]:
        yield from self._plan(selection, columns).batches()

    def _plan(self, selection: _Selection, columns: tuple[str, ...]) -> ReadPlan:
        return self._verbs.read(
            ReadTable(
                table=selection.table,
                session_id=selection.session_id,
                data_columns=columns or selection.columns,
                data_columns_unordered=True,
            )
        )


class _Again:
    """Pieces that are made anew by each iteration."""

    def __init__(self, make: Callable[[], Iterator[Any]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[Any]:
        return self._make()


_COUNT_SCHEMA = pa.schema([("_c0", pa.int64())])


def _everything(response: Response) -> Response:
    """Leaves nothing out."""
    return response


def _allow(_request: Request) -> None:
    """Refuses nothing."""


def _new_id(now: float) -> str:
    """An id that sorts by time, as the real service's do."""
    moment = dt.datetime.fromtimestamp(now, dt.UTC)
    return f"{moment:%Y%m%d%H%M%S}{moment.microsecond // 1000:03d}{secrets.token_hex(6)}"
