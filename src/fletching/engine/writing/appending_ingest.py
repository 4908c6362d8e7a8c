"""`AppendIngest`: a whole append in one body and one transaction.

A write session of one stream and one body does the same in five requests and as many durable
transactions. Here nothing of sessions is written: rows are validated and made durable as in any other
ingest, and one transaction makes them visible and remembers the request, so that its repetition finds
its own reply. A crash before that transaction leaves objects that nobody refers to, after it the rows.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from sqlalchemy import Connection

from fletching.catalog import table_rows as catalog_tables
from fletching.catalog.blob_rows import link_segments
from fletching.catalog.publishing import Publication
from fletching.catalog.segment_rows import encode_partition
from fletching.catalog.table_rows import TableRow
from fletching.catalog.write_session_rows import WriteSessionRow
from fletching.engine.changes.change_conditions import check_unchanged, report_of
from fletching.engine.changes.keyed_merge import KeyedMerge
from fletching.engine.changes.made_changes import Intent, check_key, remember, replayed
from fletching.engine.context import EngineContext
from fletching.engine.tables.partitions import matching_values, spec_of
from fletching.engine.tables.schema_checks import check_no_view
from fletching.engine.writing.body_checksum import BodyChecksum
from fletching.engine.writing.ingest import Ingest
from fletching.engine.writing.ingest_body import CellCheckers, Written
from fletching.engine.writing.states import SessionState
from fletching.engine.writing.write_targets import WriteTarget, check_trace_id
from fletching.protocol.messages.changes import Changed
from fletching.protocol.messages.requests import AppendRows
from fletching.protocol.messages.responses import WriteResult
from fletching.protocol.messages.vocabulary import WriteMode

__all__ = ["AppendIngest", "open_append"]


def open_append(
    context: EngineContext, request: AppendRows, *, cell_checker: CellCheckers | None = None
) -> AppendIngest:
    """Prepares to take the body of an append.

    Raises:
        NoSuchTableError: there is no such table.
        InvalidArgumentError: the partition names other columns, or an identity is too long.
        ConflictError: the table has changed since ``if_version``.
        KeyReusedError: another change of the table had the key.
    """
    check_trace_id(request.retry_trace_id)
    check_key(request.idempotency_key)
    now = context.clock()
    with context.database.read() as connection:
        table = check_no_view(catalog_tables.get_table(connection, request.table))
        columns = table.partition_columns
        partition = spec_of(columns, matching_values(columns, request.partition)).items
        known = replayed(connection, table.id, _key(request), _intent(table, partition))
        if known is None:
            check_unchanged(connection, table, request.if_version)
    # Of a session a body asks for the partition alone; this one is in no catalog.
    session = WriteSessionRow(
        pk=0,
        id="",
        table_id=table.id,
        write_mode=WriteMode.STREAMING.value,
        state=SessionState.NORMAL.value,
        partition_spec=partition,
        overwrite=False,
        enhance_write_check=False,
        flags={},
        schema_version=table.schema_version,
        committed_version=None,
        commit_request=None,
        created_at=now,
        expires_at=now,
    )
    target = WriteTarget(table, session, WriteMode.STREAMING, is_default=False)
    return AppendIngest(context, request, target, known, cell_checker)


def _key(request: AppendRows) -> str | None:
    """Under what the append is remembered: the caller's key, or else that of its repetitions."""
    if request.idempotency_key is not None:
        return request.idempotency_key
    return None if request.retry_trace_id is None else f"append {request.retry_trace_id}"


def _intent(
    table: TableRow,
    partition: Iterable[tuple[str, str]],
    rows: int | None = None,
    body: BodyChecksum | None = None,
) -> Intent:
    operation = "upsert" if table.keyed else "append"
    return Intent.of_rows(operation, partition, rows, body)


class AppendIngest(Ingest):
    """The body of one append."""

    def __init__(
        self,
        context: EngineContext,
        request: AppendRows,
        target: WriteTarget,
        known: Changed | None,
        cell_checker: CellCheckers | None,
    ) -> None:
        super().__init__(
            context,
            request,
            target,
            counts_only=known is not None,
            repeated=known is not None,
            cell_checker=cell_checker,
        )
        self._append = request
        self._known = known

    @property
    def _whole_intent(self) -> Intent:
        """What the append is, now that all its rows have come; a caller's key stands for any."""
        table, partition = self._target.table, self._target.session.partition_spec
        if self._append.idempotency_key is not None:
            return _intent(table, partition)
        return _intent(table, partition, self._rows, self._checksum)

    def _repeated(self) -> WriteResult:
        assert self._known is not None
        with self._context.database.read() as connection:
            replayed(connection, self._target.table.id, _key(self._append), self._whole_intent)
        return _result(self._known, self._context.settings.route_token)

    def _finish_counted(self) -> WriteResult:
        raise AssertionError("a body is counted only if the append was made before")

    def _record(
        self, connection: Connection, written: Written, merge: KeyedMerge | None
    ) -> tuple[WriteResult, bool, list[str]]:
        context, request = self._context, self._append
        token = context.settings.route_token
        now = context.clock()
        table = catalog_tables.lock_table(connection, self._target.table.id)
        key, intent = _key(request), self._whole_intent
        known = replayed(connection, table.id, key, intent)
        if known is not None:
            return _result(known, token), False, []
        check_unchanged(connection, table, request.if_version)
        self._check_key(table)
        segments, unused = written.segments, list[str]()
        context.check_recordable(connection, written.keys)
        publication = Publication(connection, table, intent.operation, now=now)
        spec, columns = self._target.session.partition_spec, table.partition_columns
        static = bool(columns) and len(spec) == len(columns)
        partitions = [encode_partition(value for _, value in spec)] if static else []
        if merge is not None:
            unused = merge.apply(connection, table, publication, new_partitions=partitions)
        else:
            publication.add(segments, new_partitions=partitions)
        report = report_of(publication, publication.commit())
        if self._body is not None and self._body.packs:
            # From here on the packs live as long as these segments do.
            link_segments(connection, table.id, [row.key for row in segments], self._body.packs)
        remember(connection, table.id, key, report, intent, now=now)
        result = _result(report, token, self._rows)
        if request.count and request.count != self._rows:
            warning = f"Count said {request.count} rows; the body has {self._rows}"
            result = msgspec.structs.replace(result, warning_message=warning)
        return result, True, unused


def _result(report: Changed, route_token: str, rows: int | None = None) -> WriteResult:
    return WriteResult(
        rows=report.rows_inserted if rows is None else rows, report=report, route_token=route_token
    )
