"""Write streams: create, look up, close."""

from __future__ import annotations

import json
import secrets

import pyarrow as pa
from sqlalchemy import Connection

from fletching import faultpoints
from fletching.catalog import write_stream_rows as write_streams
from fletching.catalog.blob_rows import forget_links
from fletching.catalog.table_rows import TableRow
from fletching.catalog.write_stream_rows import WriteStreamRow
from fletching.engine.context import EngineContext
from fletching.engine.tables.partitions import partition_fields
from fletching.engine.tables.schema_checks import read_arrow_schema
from fletching.engine.writing.states import (
    SessionEvent,
    StreamEvent,
    StreamState,
    next_stream_state,
)
from fletching.engine.writing.write_sessions import bound_names, write_schema
from fletching.engine.writing.write_targets import (
    WriteTarget,
    check_stream_name,
    check_trace_id,
    find_stream,
    find_target,
    keep_alive,
    stream_name,
    token_digest,
)
from fletching.errors import ConflictError, LimitExceededError
from fletching.ipc.encoding import encode_schema
from fletching.protocol.messages.requests import CloseWriteStream, CreateWriteStream, GetWriteStream
from fletching.protocol.messages.responses import Done, WriteStream
from fletching.protocol.messages.vocabulary import SessionStatus, WriteMode

__all__ = ["WriteStreams", "create_attempt"]

_TRACES = 16  # creating requests that are remembered per attempt


def dynamic_columns(table: TableRow, bound: frozenset[str]) -> list[tuple[str, str]]:
    """The partition columns that come in the data."""
    names = {name.casefold() for name in bound}
    return [column for column in table.partition_columns if column[0].casefold() not in names]


def create_attempt(
    connection: Connection,
    context: EngineContext,
    target: WriteTarget,
    stream_id: str,
    version: int,
    *,
    exactly_once: bool,
    trace_id: str | None = None,
) -> tuple[WriteStreamRow, str | None, list[str]]:
    """Creates an attempt, or begins it again.

    A fresh attempt holds nothing. One that is and stays exactly-once keeps what it holds and only
    gets a new access token: whoever had the old one is fenced off. A request that created the
    attempt before, and comes again late, changes nothing: it must not drop what was written since.

    Returns:
        The attempt, its access token if it is exactly-once, and keys of objects to delete after
        the transaction.

    Raises:
        ConflictError: a higher version of the stream exists.
    """
    check_stream_name(stream_id, version)
    now = context.clock()
    siblings = write_streams.list_write_streams(connection, target.session.pk, stream_id)
    newest = max((row.stream_version for row in siblings), default=-1)
    if version < newest:
        raise ConflictError(
            f"write stream {stream_id!r} is at version {newest}; version {version} is superseded"
        )
    token = secrets.token_urlsafe(24) if exactly_once else None
    digest = None if token is None else token_digest(token)
    existing = next((row for row in siblings if row.stream_version == version), None)
    keys: list[str] = []
    if existing is None:
        _check_count(connection, context, target)
        stream = write_streams.insert_write_stream(
            connection,
            session_pk=target.session.pk,
            stream_id=stream_id,
            stream_version=version,
            state=StreamState.OPEN.value,
            exactly_once=exactly_once,
            token_digest=digest,
            create_traces=[] if trace_id is None else [trace_id],
            now=now,
        )
    elif trace_id in existing.create_traces and not exactly_once:
        return existing, None, []
    else:
        state = next_stream_state(
            StreamState(existing.state), StreamEvent.CREATE, stream_name(stream_id, version)
        )
        changes: dict[str, object] = {
            "state": state.value,
            "exactly_once": exactly_once,
            "token_digest": digest,
            "modified_at": now,
        }
        if trace_id is not None:
            traces = [*existing.create_traces, trace_id][-_TRACES:]
            changes["create_traces"] = json.dumps(traces)
        if not target.mode.is_streaming and not (existing.exactly_once and exactly_once):
            keys = write_streams.discard_staged(connection, [existing.pk])
            forget_links(connection, keys)
            changes |= {
                "attempt": existing.attempt + 1,
                "row_offset": 0,
                "rows": 0,
                "bytes": 0,
                "writes": 0,
            }
        write_streams.update_write_stream(connection, existing.pk, **changes)
        stream = find_stream(connection, target, stream_id, version)
    keep_alive(connection, context, target)
    return stream, token, keys


def _check_count(connection: Connection, context: EngineContext, target: WriteTarget) -> None:
    limit = context.settings.max_session_streams
    if target.is_default:
        return  # its streams come and go for years; idle ones are forgotten by retention
    count = len(write_streams.list_write_streams(connection, target.session.pk))
    if count >= limit:
        raise LimitExceededError(
            f"write session {target.session.id} has {count} stream versions", limit=limit
        )


class WriteStreams:
    """The requests about write streams."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context

    def create(self, request: CreateWriteStream) -> WriteStream:
        """Starts an attempt; see ``create_attempt``."""
        context = self._context
        check_trace_id(request.retry_trace_id)
        with context.database.write() as connection:
            target = find_target(connection, context, request, SessionEvent.WRITE)
            stream, token, keys = create_attempt(
                connection,
                context,
                target,
                request.stream_id,
                request.stream_version,
                exactly_once=request.exactly_once,
                trace_id=request.retry_trace_id,
            )
        faultpoints.reach("stream.created")
        context.delete_objects(keys)
        return self._response(target, stream, token)

    def get(self, request: GetWriteStream) -> WriteStream:
        """Looks an attempt up, creating it if it never was.

        With ``exactly_once`` the caller takes the stream over: the reply has its row offset and a
        new access token, and earlier tokens are worth nothing from now on.
        """
        context = self._context
        check_stream_name(request.stream_id, request.stream_version)
        with context.database.write() as connection:
            target = find_target(connection, context, request, SessionEvent.LOOK)
            stream = write_streams.find_write_stream(
                connection, target.session.pk, request.stream_id, request.stream_version
            )
            token: str | None = None
            keys: list[str] = []
            if stream is None:
                target = find_target(connection, context, request, SessionEvent.WRITE)
                stream, token, keys = create_attempt(
                    connection,
                    context,
                    target,
                    request.stream_id,
                    request.stream_version,
                    exactly_once=request.exactly_once,
                )
            elif request.exactly_once:
                target = find_target(connection, context, request, SessionEvent.WRITE)
                token = secrets.token_urlsafe(24)
                write_streams.update_write_stream(
                    connection,
                    stream.pk,
                    exactly_once=True,
                    token_digest=token_digest(token),
                    modified_at=context.clock(),
                )
                keep_alive(connection, context, target)
        context.delete_objects(keys)
        return self._response(target, stream, token)

    def close(self, request: CloseWriteStream) -> Done:
        """Ends an attempt: it takes no more writes, and a commit may choose it. Idempotent."""
        context = self._context
        with context.database.write() as connection:
            target = find_target(connection, context, request, SessionEvent.WRITE)
            stream = find_stream(connection, target, request.stream_id, request.stream_version)
            state = next_stream_state(
                StreamState(stream.state),
                StreamEvent.CLOSE,
                stream_name(stream.stream_id, stream.stream_version),
            )
            if not target.is_default:
                write_streams.update_write_stream(
                    connection, stream.pk, state=state.value, modified_at=context.clock()
                )
                keep_alive(connection, context, target)
        faultpoints.reach("stream.closed")
        return Done(session_id=target.session.id, route_token=context.settings.route_token)

    def _response(
        self, target: WriteTarget, stream: WriteStreamRow, token: str | None
    ) -> WriteStream:
        table, settings = target.table, self._context.settings
        bound = bound_names(target.session)
        block_mode = target.mode is WriteMode.BATCH_COMPATIBLE
        dynamic = dynamic_columns(table, bound)
        arrow = table.arrow_schema
        if dynamic:
            schema = read_arrow_schema(arrow)
            arrow = encode_schema(pa.schema([*schema, *partition_fields(dynamic)]))
        return WriteStream(
            table_id=table.id,
            schema_version=table.schema_version,
            latest_schema_version=table.schema_version,
            schema=write_schema(table, bound, block_mode=block_mode),
            access_token=token,
            row_offset=stream.row_offset if stream.exactly_once else None,
            status=SessionStatus.NORMAL,
            record_count=stream.rows,
            byte_size=stream.bytes,
            quota_token=f"q-{target.session.id}" if block_mode else None,
            route_token=settings.route_token,
            arrow_schema=arrow,
        )
