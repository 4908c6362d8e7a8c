"""Write sessions: create, look up, commit, abort."""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Sequence

from sqlalchemy import Connection

from fletching import faultpoints
from fletching.catalog import table_rows as catalog_tables
from fletching.catalog import write_session_rows as write_sessions
from fletching.catalog import write_stream_rows as write_streams
from fletching.catalog.blob_rows import forget_links
from fletching.catalog.publishing import Publication
from fletching.catalog.segment_rows import encode_partition
from fletching.catalog.table_rows import TableRow, schema_history
from fletching.catalog.write_session_rows import WriteSessionRow
from fletching.catalog.write_stream_rows import NewSegment, StagedSegmentRow, WriteStreamRow
from fletching.engine.changes.change_conditions import (
    check_replaced,
    check_unchanged,
    report_of,
    report_of_version,
)
from fletching.engine.changes.keyed_merge import KeyedMerge, staged_rows
from fletching.engine.changes.made_changes import Intent, check_key, remember, replayed
from fletching.engine.context import EngineContext
from fletching.engine.engine_settings import SESSION_RETRY_SECONDS
from fletching.engine.tables.partitions import matching_values, spec_of
from fletching.engine.tables.schema_checks import check_no_view
from fletching.engine.tables.table_description import table_schema_of
from fletching.engine.writing.states import (
    SessionEvent,
    SessionState,
    StreamState,
    next_session_state,
)
from fletching.engine.writing.upload_parts import BlockMessage, block_order
from fletching.engine.writing.write_targets import WriteTarget, find_target, session_state
from fletching.errors import ConflictError, InvalidArgumentError, ThrottledError
from fletching.protocol.messages.requests import (
    DEFAULT_SESSION_ID,
    AbortWriteSession,
    CommitWriteSession,
    CreateWriteSession,
    GetWriteSchema,
    GetWriteSession,
)
from fletching.protocol.messages.responses import (
    Changed,
    Column,
    Done,
    TableSchema,
    WriteSchema,
    WriteSession,
)
from fletching.protocol.messages.vocabulary import OPERATION, WriteMode

__all__ = ["WriteSessions", "write_schema"]


def write_schema(
    table: TableRow, bound: Sequence[str] | frozenset[str], *, block_mode: bool = False
) -> TableSchema:
    """The columns that a session's data must have.

    Partition columns that the session does not bind come in the data: behind the data columns, or
    in block mode as partition columns, which that mode's clients append themselves.
    """
    schema = table_schema_of(table)
    names = {name.casefold() for name in bound}
    dynamic = tuple(c for c in schema.partition_columns if c.name.casefold() not in names)
    static = tuple(c for c in schema.partition_columns if c.name.casefold() in names)
    system = (Column(name=OPERATION, type="TINYINT"),) if table.keyed else ()
    if block_mode:
        return TableSchema(data_columns=schema.data_columns, partition_columns=dynamic)
    return TableSchema(
        data_columns=schema.data_columns + dynamic,
        partition_columns=static,
        system_columns=system,
    )


def _opened_schema(
    connection: Connection, table: TableRow, session: WriteSessionRow
) -> TableSchema:
    """The table's columns when a session was opened."""
    if session.schema_version == table.schema_version:
        return table_schema_of(table)
    then = schema_history(connection, table.id)[session.schema_version]
    return table_schema_of(
        dataclasses.replace(table, arrow_schema=then.arrow_schema, column_ids=then.column_ids)
    )


def bound_names(session: WriteSessionRow) -> frozenset[str]:
    """The partition columns that a session binds."""
    return frozenset(name for name, _ in session.partition_spec)


class WriteSessions:
    """The requests about write sessions."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context

    def create(self, request: CreateWriteSession) -> WriteSession:
        """Opens a session.

        Raises:
            NoSuchTableError: no such table.
            InvalidArgumentError: the partition is not one of the table's, or the mode cannot
                overwrite.
            ThrottledError: too many sessions are open; some end by themselves.
        """
        context = self._context
        now = context.clock()
        mode = request.write_mode
        if request.overwrite and mode.is_streaming:
            raise InvalidArgumentError(
                "a streaming write session cannot overwrite", code="OverwriteModeNotAllowed"
            )
        # Its first stream is durable, and with it the session.
        with context.database.write(durable=False) as connection:
            table = check_no_view(catalog_tables.get_table(connection, request.table))
            values = matching_values(table.partition_columns, request.partition)
            limit = context.settings.max_write_sessions
            state = SessionState.NORMAL.value
            if write_sessions.count_open_write_sessions(connection, state, now, limit) >= limit:
                raise ThrottledError(
                    f"{limit} write sessions are open, which is the limit: commit or abort some",
                    retry_after_seconds=SESSION_RETRY_SECONDS,
                )
            session = write_sessions.insert_write_session(
                connection,
                session_id=f"ws-{secrets.token_hex(12)}",
                table_id=table.id,
                write_mode=mode.value,
                state=SessionState.NORMAL.value,
                partition_spec=spec_of(table.partition_columns, values).items,
                overwrite=request.overwrite,
                enhance_write_check=request.enhance_write_check,
                flags=request.flags,
                schema_version=table.schema_version,
                now=now,
                expires_at=now + context.settings.write_session_seconds,
            )
            opened = table_schema_of(table)
        return self._response(table, session, {}, SessionState.NORMAL, opened)

    def get(self, request: GetWriteSession) -> WriteSession:
        """Looks a session up, with its closed streams and the highest closed version of each."""
        context = self._context
        # A default session is there from its first use on; before that it is empty, not unknown.
        with context.database.write(durable=False) as connection:
            target = find_target(connection, context, request, SessionEvent.LOOK)
            streams = write_streams.list_write_streams(connection, target.session.pk)
            opened = _opened_schema(connection, target.table, target.session)
        closed = {row.stream_id: row.stream_version for row in highest_closed(streams)}
        state = session_state(target.session, context.clock())
        return self._response(target.table, target.session, closed, state, opened)

    def _response(
        self,
        table: TableRow,
        session: WriteSessionRow,
        streams: dict[str, int],
        state: SessionState,
        opened: TableSchema,
    ) -> WriteSession:
        block_mode = session.write_mode == WriteMode.BATCH_COMPATIBLE
        return WriteSession(
            session_id=session.id,
            streams=streams,
            status=state.status,
            schema=write_schema(table, bound_names(session), block_mode=block_mode),
            enhance_write_check=session.enhance_write_check,
            route_token=self._context.settings.route_token,
            write_mode=WriteMode(session.write_mode),
            schema_version=session.schema_version,
            opened_schema=opened,
        )

    def schema(self, request: GetWriteSchema) -> WriteSchema:
        """The columns that the session's data must have; ``default`` binds no partition."""
        context = self._context
        route_token = context.settings.route_token
        with context.database.read() as connection:
            if request.session_id == DEFAULT_SESSION_ID:
                table = catalog_tables.get_table(connection, request.table)
                return WriteSchema(schema=write_schema(table, ()), route_token=route_token)
            target = find_target(connection, context, request, SessionEvent.LOOK, lock=False)
            opened = _opened_schema(connection, target.table, target.session)
        return WriteSchema(
            schema=write_schema(target.table, bound_names(target.session)),
            route_token=route_token,
            write_mode=target.mode,
            schema_version=target.session.schema_version,
            opened_schema=opened,
        )

    # --- commit ---

    def commit(self, request: CommitWriteSession) -> Done:
        """Makes a session's rows visible in one transaction; repeating it changes nothing.

        Raises:
            InvalidArgumentError: a listed stream version is not a closed one of this session.
            ConflictError: it was already committed with another list.
            KeyReusedError: another change was made with the key.
        """
        context = self._context
        wanted = _commit_request(request)
        merge = self._merge_of(request)
        with context.database.write() as connection:
            target = find_target(connection, context, request, SessionEvent.COMMIT)
            session = target.session
            if target.is_default:
                # Every write of it is visible already.
                return self._done(session, SessionState.NORMAL)
            if session_state(session, context.clock()) is SessionState.COMMITTED:
                if session.commit_request != wanted:
                    raise ConflictError(
                        f"write session {session.id} was already committed with other streams"
                    )
                report = report_of_version(connection, session.table_id, session.committed_version)
                return self._done(session, SessionState.COMMITTED, report)
            faultpoints.reach("commit.begun")
            keys, report = self._commit(connection, target, request, wanted, merge)
            faultpoints.reach("commit.changed")
        faultpoints.reach("commit.done")
        context.delete_objects(keys)
        return self._done(session, SessionState.COMMITTED, report)

    def _done(
        self, session: WriteSessionRow, state: SessionState, report: Changed | None = None
    ) -> Done:
        return Done(
            report=report,
            status=state.status,
            session_id=session.id,
            route_token=self._context.settings.route_token,
        )

    def _merge_of(self, request: CommitWriteSession) -> KeyedMerge | None:
        """In a table with a key: what the commit replaces, found before anybody has to wait for it."""
        context = self._context
        with context.database.read() as connection:
            table = catalog_tables.get_table(connection, request.table)
            if not table.keyed or request.session_id == DEFAULT_SESSION_ID:
                return None
            target = find_target(connection, context, request, SessionEvent.COMMIT, lock=False)
            committed = session_state(target.session, context.clock()) is SessionState.COMMITTED
            if target.is_default or target.mode.is_streaming or committed:
                return None
            streams = write_streams.list_write_streams(connection, target.session.pk)
            staged = _staged(connection, _chosen(streams, request, target.session))
        return KeyedMerge.prepare(
            context, table.id, staged_rows(staged), probe=not target.session.overwrite
        )

    def _commit(
        self,
        connection: Connection,
        target: WriteTarget,
        request: CommitWriteSession,
        wanted: str,
        merge: KeyedMerge | None,
    ) -> tuple[list[str], Changed | None]:
        """Changes everything a commit changes; (keys of objects nobody needs after it, report)."""
        session, now = target.session, self._context.clock()
        table = catalog_tables.lock_table(connection, session.table_id)
        check_key(request.idempotency_key)
        if request.replaces_version is not None and not session.overwrite:
            raise InvalidArgumentError(
                f"write session {session.id} replaces nothing: ReplacesVersion says nothing of it"
            )
        streams = write_streams.list_write_streams(connection, session.pk)
        chosen = _chosen(streams, request, session)
        staged = _staged(connection, chosen)
        intent = _intent(request, table, session)
        report = replayed(connection, table.id, request.idempotency_key, intent)
        known = report is not None
        if not known:
            check_unchanged(connection, table, request.if_version)
        kept: set[str] = set()
        if not target.mode.is_streaming and not known:
            if table.keyed and (merge is None or not merge.is_of(staged)):
                raise ConflictError(
                    f"write session {session.id} was written to while it was committed; retry"
                )
            publication = Publication(connection, table, intent.operation, now=now)
            unused = self._publish(
                connection, publication, table, session, staged, merge, request.replaces_version
            )
            report = report_of(publication, publication.commit())
            kept = {row.segment.key for row in staged}.difference(unused)
            remember(connection, table.id, request.idempotency_key, report, intent, now=now)
        keys = write_streams.discard_staged(connection, [row.pk for row in streams])
        state = next_session_state(SessionState.NORMAL, SessionEvent.COMMIT, session.id)
        write_sessions.end_write_session(
            connection,
            session.pk,
            from_state=SessionState.NORMAL.value,
            state=state.value,
            now=now,
            committed_version=None if report is None else report.version,
            commit_request=wanted,
        )
        return [key for key in keys if key not in kept], report

    @staticmethod
    def _publish(  # noqa: PLR0917 - what a commit is about
        connection: Connection,
        publication: Publication,
        table: TableRow,
        session: WriteSessionRow,
        staged: list[StagedSegmentRow],
        merge: KeyedMerge | None,
        replaces_version: int | None,
    ) -> list[str]:
        """Makes the rows visible; returns the keys of objects that nobody needs after it."""
        added: list[NewSegment] = [row.segment for row in staged]
        columns = table.partition_columns
        static = (
            encode_partition(value for _, value in session.partition_spec)
            if len(session.partition_spec) == len(columns)
            else None
        )
        new_partitions = [static] if static is not None and columns else []
        if session.overwrite:
            cleared: set[str] | None = None
            if columns:
                cleared = {s.partition for s in added} if static is None else {static}
            check_replaced(connection, table, cleared, replaces_version)
            if cleared is None or cleared:
                publication.clear(cleared)
        unused: list[str] = []
        if merge is None:
            publication.add(added, new_partitions=new_partitions)
        elif session.overwrite:
            unused = merge.add(publication, new_partitions=new_partitions)
        else:
            unused = merge.apply(connection, table, publication, new_partitions=new_partitions)
        return unused

    # --- abort ---

    def abort(self, request: AbortWriteSession) -> Done:
        """Drops a session with all it staged; idempotent.

        Raises:
            ConflictError: it is committed.
        """
        context = self._context
        keys: list[str] = []
        with context.database.write() as connection:
            target = find_target(connection, context, request, SessionEvent.ABORT)
            session = target.session
            if target.is_default:
                raise ConflictError("the default session cannot be aborted: its rows are visible")
            if SessionState(session.state) is SessionState.NORMAL:
                state = next_session_state(SessionState.NORMAL, SessionEvent.ABORT, session.id)
                streams = write_streams.list_write_streams(connection, session.pk)
                keys = write_streams.discard_staged(connection, [row.pk for row in streams])
                forget_links(connection, keys)
                write_sessions.end_write_session(
                    connection,
                    session.pk,
                    from_state=SessionState.NORMAL.value,
                    state=state.value,
                    now=context.clock(),
                )
        faultpoints.reach("abort.done")
        context.delete_objects(keys)
        return Done(session_id=session.id, route_token=context.settings.route_token)


def highest_closed(streams: Sequence[WriteStreamRow]) -> list[WriteStreamRow]:
    """Of each stream the attempt with the highest closed version."""
    best: dict[str, WriteStreamRow] = {}
    for row in streams:
        if row.state == StreamState.CLOSED and (
            row.stream_id not in best or best[row.stream_id].stream_version < row.stream_version
        ):
            best[row.stream_id] = row
    return list(best.values())


def _operation(table: TableRow, session: WriteSessionRow) -> str:
    """What the table's history calls a commit of the session."""
    if session.overwrite:
        return "overwrite"
    return "upsert" if table.keyed else "append"


def _intent(
    request: CommitWriteSession,
    table: TableRow,
    session: WriteSessionRow,
) -> Intent:
    """What a commit is asked to do; its key stands for any rows."""
    operation = _operation(table, session)
    if request.statement:
        return Intent.of_statement(operation, request.statement)
    return Intent.of_rows(operation, session.partition_spec)


def _staged(connection: Connection, chosen: Sequence[WriteStreamRow]) -> list[StagedSegmentRow]:
    """What streams hold, in the order of a commit."""
    order = {row.pk: index for index, row in enumerate(sorted(chosen, key=block_order))}
    staged = write_streams.staged_of_streams(connection, [row.pk for row in chosen])
    staged.sort(key=lambda row: (order[row.stream_pk], row.write_number, row.pk))
    return staged


def _commit_request(request: CommitWriteSession) -> str:
    """What a repetition of a commit must ask for again."""
    if request.commit_messages is not None:
        return json.dumps({"blocks": sorted(request.commit_messages)})
    if request.streams is not None:
        return json.dumps({"streams": sorted([list(pair) for pair in request.streams])})
    return "all"


def _chosen(
    streams: Sequence[WriteStreamRow], request: CommitWriteSession, session: WriteSessionRow
) -> list[WriteStreamRow]:
    if request.commit_messages is not None:
        pairs = [BlockMessage.parse(text, session.id).stream for text in request.commit_messages]
    elif request.streams is not None:
        pairs = list(request.streams)
    else:
        return highest_closed(streams)
    closed = {
        (row.stream_id, row.stream_version): row
        for row in streams
        if row.state == StreamState.CLOSED
    }
    missing = [pair for pair in pairs if pair not in closed]
    if missing:
        stream_id, version = missing[0]
        raise InvalidArgumentError(
            f"write stream {stream_id!r} version {version} is not a closed stream of session "
            f"{session.id}; nothing was committed"
        )
    ids = [stream_id for stream_id, _ in pairs]
    if len(set(ids)) != len(ids):
        raise InvalidArgumentError("a commit names a stream twice; nothing was committed")
    return [closed[pair] for pair in pairs]
