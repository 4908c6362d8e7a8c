"""`Ingest`: one TableWrite's body, from messages to durable segments and the catalog's word for it.

Order of events, which nothing may change: every batch is validated before it is stored; the
segments' bytes are durable before the catalog transaction begins; the transaction has committed
before ``finish`` returns. An ingest that is being finished cannot be aborted: the transaction's outcome
decides whether its objects stay (the table is in ``states``). What the session and stream allow is looked at twice: when the body
begins, to refuse early, and inside the transaction, where it counts.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection

from fletching import faultpoints, ipc
from fletching.catalog import table_rows as catalog_tables
from fletching.catalog import write_session_rows as write_sessions
from fletching.catalog import write_stream_rows as write_streams
from fletching.catalog.blob_rows import link_segments
from fletching.catalog.publishing import Publication, publish
from fletching.catalog.write_stream_rows import WriteStreamRow
from fletching.engine.changes.keyed_merge import KeyedMerge
from fletching.engine.context import EngineContext
from fletching.engine.writing.body_checksum import BodyChecksum, BodyChecksums
from fletching.engine.writing.body_upload import BodyUpload
from fletching.engine.writing.ingest_body import Body, CellChecker, CellCheckers, Written
from fletching.engine.writing.states import (
    SessionEvent,
    StreamEvent,
    StreamState,
    next_stream_state,
)
from fletching.engine.writing.upload_parts import BlockMessage
from fletching.engine.writing.write_streams import create_attempt
from fletching.engine.writing.write_targets import (
    WriteTarget,
    check_token,
    check_trace_id,
    find_stream,
    find_target,
    stream_name,
)
from fletching.errors import (
    ConflictError,
    InvalidArgumentError,
    KeyReusedError,
    MalformedFrameError,
    RowOffsetError,
)
from fletching.ipc.metadata import MessageType
from fletching.protocol.messages.requests import AppendRows, WriteBlock, WriteTable
from fletching.protocol.messages.responses import WriteResult
from fletching.protocol.messages.vocabulary import block_stream_id

__all__ = ["CellChecker", "CellCheckers", "Ingest", "StreamIngest", "open_ingest"]


def open_ingest(
    context: EngineContext,
    request: WriteTable,
    *,
    cell_checker: CellCheckers | None = None,
) -> Ingest:
    """Prepares to take a body.

    Args:
        context: the engine's.
        request: what the body is for.
        cell_checker: makes the checker of cells that the table's types alone do not describe.

    Raises:
        NotFoundError: no such session or stream, or NoSuchTableError, ExpiredSessionError.
        NoPermissionError: the access token does not open the stream.
        ConflictError: the stream is closed; RowOffsetError: the offset leaves a gap.
        InvalidArgumentError: the request contradicts itself.
    """
    check_trace_id(request.retry_trace_id)
    if request.block_number is not None:
        request = msgspec.structs.replace(
            request,
            stream_id=block_stream_id(request.block_number, request.attempt_number or 0),
            stream_version=1,
        )
        target, stream = _open_block(context, request)
        request = msgspec.structs.replace(request, stream_version=stream.stream_version)
    else:
        with context.database.read() as connection:
            target = find_target(connection, context, request, SessionEvent.WRITE, lock=False)
            stream = find_stream(connection, target, request.stream_id, request.stream_version)
    with context.database.read() as connection:
        accepted = _accepted(connection, stream, request)
    if accepted is None:
        check_token(stream, request.access_token)
        _check_open(stream)
        _check_offset(stream, request, rows=None)
    return StreamIngest(
        context, request, target, stream, accepted=accepted, cell_checker=cell_checker
    )


def _open_block(context: EngineContext, request: WriteTable) -> tuple[WriteTarget, WriteStreamRow]:
    """A block is one write: sending it again begins its stream afresh.

    A `WriteBlock` begins a new version of the stream instead: the highest closed one is committed.
    """
    with context.database.write() as connection:
        target = find_target(connection, context, request, SessionEvent.WRITE)
        if isinstance(request, WriteBlock):
            versions = write_streams.list_write_streams(
                connection, target.session.pk, request.stream_id
            )
            newest = max((row.stream_version for row in versions), default=0)
            stream, _, _ = create_attempt(
                connection, context, target, request.stream_id, newest + 1, exactly_once=False
            )
            return target, stream
        known = write_streams.find_write_stream(
            connection, target.session.pk, request.stream_id, request.stream_version
        )
        if known is not None and _accepted(connection, known, request) is not None:
            return target, known  # must not drop what this very request stored
        stream, _, keys = create_attempt(
            connection,
            context,
            target,
            request.stream_id,
            request.stream_version,
            exactly_once=False,
        )
    context.delete_objects(keys)
    return target, stream


class _Accepted(WriteResult, frozen=True, kw_only=True):
    """A reply as it is kept for repetitions; earlier releases kept it without the checksum."""

    body: BodyChecksum | None = None


def _accepted(connection: Connection, stream: WriteStreamRow, request: WriteTable) -> bytes | None:
    """The reply that a request with this trace id got before, as it was kept."""
    if request.retry_trace_id is None:
        return None
    return write_streams.accepted_write(connection, stream.pk, request.retry_trace_id)


def _check_open(stream: WriteStreamRow) -> None:
    name = stream_name(stream.stream_id, stream.stream_version)
    next_stream_state(StreamState(stream.state), StreamEvent.WRITE, name)


def _check_offset(stream: WriteStreamRow, request: WriteTable, rows: int | None) -> bool:
    """Where an exactly-once body belongs: True to append, False if all its rows are there already.

    Args:
        stream: the attempt, with its row offset.
        request: has the body's offset.
        rows: of the body; None while they are not known, when only a gap can be told.

    Raises:
        InvalidArgumentError: the offset is missing, or given for a stream without offsets.
        RowOffsetError: a gap or a partial overlap; has the expected offset.
    """
    offset, expected = request.row_offset, stream.row_offset
    if not stream.exactly_once:
        if offset is not None:
            raise InvalidArgumentError(
                "a row offset was sent to a write stream that is not exactly-once"
            )
        return True
    if offset is None or offset < 0:
        raise InvalidArgumentError("an exactly-once write needs a row offset of 0 or more")
    if offset == expected:
        return True
    if offset < expected and (rows is None or offset + rows <= expected):
        return False
    what = "leaves a gap" if offset > expected else "overlaps what is there"
    raise RowOffsetError(
        f"row offset {offset} {what}: write stream "
        f"{stream_name(stream.stream_id, stream.stream_version)} expects offset {expected}",
        expected_offset=expected,
    )


class Ingest(BodyUpload):
    """Takes the rows of one body.

    What the body is for, a write stream or a whole append, is its subclass's.

    Attributes:
        decoder: fed by the shell with the body's bytes; what it yields goes to ``accept``.
    """

    def __init__(
        self,
        context: EngineContext,
        request: WriteTable | AppendRows,
        target: WriteTarget,
        *,
        counts_only: bool,
        repeated: bool,
        cell_checker: CellCheckers | None,
    ) -> None:
        super().__init__()
        self.decoder = ipc.MessageDecoder(context.settings.write_limits)
        self._context = context
        self._request = request
        self._target = target
        self._is_repeated = repeated
        self._cell_checker = cell_checker
        self._counts_only = counts_only  # rows that are in the table already
        self._counted: BodyChecksums | None = None
        self._body: Body | None = None
        self._started = False
        self._rows = 0
        self._result: WriteResult | None = None

    def accept(self, messages: Sequence[ipc.Message]) -> None:
        """Validates, checksums and stores messages, in the order of the body.

        Raises:
            WireError: a message is broken, hostile or above a limit.
            InvalidArgumentError: the schema or a value does not fit the table, or
                SchemaModifiedError when the table's schema is not the one the writer knew.
            StorageError: the store failed, or StorageFullError.
        """
        with self._accepting():
            for message in messages:
                self._accept(message)

    def _accept(self, message: ipc.Message) -> None:
        if not self._started:
            if message.type is not MessageType.SCHEMA:
                raise MalformedFrameError(
                    "an Arrow stream begins with its schema",
                    layer="message",
                    offset=message.offset,
                    expected=MessageType.SCHEMA.label,
                    actual=message.type.label,
                )
            self._started = True
            if self._is_repeated:
                self._counted = BodyChecksums(message)
            elif not self._counts_only:
                self._body = Body(
                    self._context, self._request, self._target, message, self._cell_checker
                )
        elif self._body is not None:
            self._rows += self._body.accept(message)
        elif message.type is MessageType.RECORD_BATCH:
            rows = message.record_batch(self._context.settings.write_limits).length
            self._rows += rows
            if rows and self._counted is not None:
                self._counted.add_message(message, rows)

    def finish(self) -> WriteResult:
        """Makes the rows durable and, by the session's rules, staged or visible; idempotent.

        Raises:
            TruncatedStreamError: the body has no end-of-stream marker.
            RowOffsetError, NoPermissionError, ConflictError, NotFoundError: session or stream moved
                on meanwhile. Nothing of the body remains then.
            ServiceUnavailableError: the catalog is locked; retry.
            StorageError: the store or catalog failed. If it failed in committing, whether the rows
                are in is for the catalog to say when it is back: repeat the request.
        """
        with self._working:
            if self._result is None:
                with self._finishing():
                    self._check_complete()
                    if self._is_repeated:
                        self._result = self._repeated()
                    elif self._body is None:
                        self._result = self._finish_counted()
                    else:
                        self._result = self._finish_body(self._body)
            return self._result

    def _drop_objects(self) -> None:
        if self._body is not None:
            self._context.delete_objects(self._body.abort())

    def _check_complete(self) -> None:
        self.decoder.finish(require_marker=True)
        if not self._started:
            raise MalformedFrameError("the Arrow stream has no schema", layer="message", offset=0)

    @property
    def _checksum(self) -> BodyChecksum | None:
        """Of the body, stored or only counted; None if it is not known."""
        if self._body is not None:
            return self._body.checksum
        return None if self._counted is None else self._counted.result()

    @abc.abstractmethod
    def _repeated(self) -> WriteResult:
        """Answers for a request that came before, if the body is the same.

        Raises:
            KeyReusedError: it is another.
        """

    @abc.abstractmethod
    def _finish_counted(self) -> WriteResult:
        """Answers for a body whose rows were only counted."""

    def _finish_body(self, body: Body) -> WriteResult:
        written = body.finish()
        faultpoints.reach("write.staging")
        merge = self._merge_of(written)
        accepted = False
        try:
            with self._context.database.write(shares=True) as connection:
                result, recorded, unused = self._record(connection, written, merge)
                faultpoints.reach("write.staged")
                accepted = recorded
        finally:
            if accepted:
                # From here on the objects are the catalog's, whatever is raised. If the commit itself
                # failed, it may yet turn out to have been written; if it was not, retention finds them
                # without an owner.
                body.release()
        self._context.delete_objects(unused if accepted else body.abort())
        faultpoints.reach("write.accepted")
        return result

    def _check_key(self, table: catalog_tables.TableRow) -> None:
        """Refuses rows without key runs in a table that has begun to keep its key unique."""
        if table.keyed and not self._target.table.keyed:
            raise ConflictError(
                f"table {table.name} began to keep its key unique while the body came in; retry"
            )

    def _merge_of(self, written: Written) -> KeyedMerge | None:
        """Finds the rows whose keys were written, before anybody has to wait for it."""
        table = self._target.table
        if not (table.keyed and self._target.mode.is_streaming):
            return None
        return KeyedMerge.prepare(self._context, table.id, written.staged)

    @abc.abstractmethod
    def _record(
        self, connection: Connection, written: Written, merge: KeyedMerge | None
    ) -> tuple[WriteResult, bool, list[str]]:
        """The transaction: (reply, whether the rows are now the catalog's, keys of unused objects)."""


class StreamIngest(Ingest):
    """One TableWrite's body, for a write stream."""

    def __init__(
        self,
        context: EngineContext,
        request: WriteTable,
        target: WriteTarget,
        stream: WriteStreamRow,
        *,
        accepted: bytes | None,
        cell_checker: CellCheckers | None,
    ) -> None:
        # Rows that are in the stream already are only counted, and so is a repeated request's body.
        counts_only = accepted is not None or not _check_offset(stream, request, rows=None)
        super().__init__(
            context,
            request,
            target,
            counts_only=counts_only,
            repeated=accepted is not None,
            cell_checker=cell_checker,
        )
        self._stream = stream
        self._accepted = accepted
        self._write = request

    def _repeated(self) -> WriteResult:
        return self._reply_before(self._accepted or b"")

    def _reply_before(self, accepted: bytes) -> WriteResult:
        """The reply to the first request with this one's trace id.

        Raises:
            KeyReusedError: it had another body.
        """
        first, body = _ACCEPTED.decode(accepted), self._checksum
        is_other = body is not None and first.body is not None and body.is_other(first.body)
        if is_other or first.rows != self._rows:
            raise KeyReusedError(
                f"retry trace id {self._write.retry_trace_id!r} was used for another body of write "
                f"stream {self._write.stream_id!r}, of {first.rows} rows; this one of {self._rows} rows "
                "was not stored"
            )
        return _RESULT.decode(accepted)

    def _finish_counted(self) -> WriteResult:
        """A body whose beginning is in the stream already: all of it must be."""
        with self._context.database.read() as connection:
            stream = find_stream(
                connection, self._target, self._write.stream_id, self._write.stream_version
            )
        check_token(stream, self._write.access_token)
        if _check_offset(stream, self._write, self._rows):
            raise ConflictError("the write stream was begun again while the body came in; retry")
        return self._response(stream.row_offset, "every row was in the stream already")

    def _response(
        self, row_offset: int | None, warning: str = "", *, version: int | None = None
    ) -> WriteResult:
        request, rows = self._write, self._rows
        if not warning and request.count and request.count != rows:
            warning = f"Count said {request.count} rows; the body has {rows}"
        message = None
        if request.block_number is not None:
            message = BlockMessage(
                self._target.session.id, request.block_number, request.attempt_number or 0, rows
            ).format()
        return WriteResult(
            rows=rows,
            warning_message=warning,
            exactly_once_row_offset=row_offset,
            # Zero-padded, so that they compare as texts in the order of their visibility.
            staging_id=None if version is None else f"{version:020d}",
            commit_message=message,
            route_token=self._context.settings.route_token,
        )

    def _record(
        self, connection: Connection, written: Written, merge: KeyedMerge | None
    ) -> tuple[WriteResult, bool, list[str]]:
        """The transaction: (reply, whether the rows are now the catalog's, keys of unused objects)."""
        context, request = self._context, self._write
        segments, unused = written.segments, list[str]()
        now = context.clock()
        target = find_target(connection, context, request, SessionEvent.WRITE)
        stream = find_stream(connection, target, request.stream_id, request.stream_version)
        accepted = _accepted(connection, stream, request)
        if accepted is not None:
            return self._reply_before(accepted), False, []
        check_token(stream, request.access_token)
        _check_open(stream)
        if stream.attempt != self._stream.attempt or stream.pk != self._stream.pk:
            raise ConflictError(
                f"write stream {stream_name(stream.stream_id, stream.stream_version)} was begun "
                "again while the body came in"
            )
        if not _check_offset(stream, request, self._rows):
            result = self._response(stream.row_offset, "every row was in the stream already")
            return result, False, []
        context.check_recordable(connection, written.keys)
        version: int | None = None
        if target.mode.is_streaming:
            table = catalog_tables.lock_table(connection, target.table.id)
            self._check_key(table)
            if merge is not None:
                publication = Publication(connection, table, "upsert", now=now)
                unused = merge.apply(connection, table, publication)
                version = publication.commit()
            else:
                version = (
                    publish(connection, table, segments, now=now) if segments else table.version
                )
        else:
            write_streams.insert_staged(connection, stream.pk, stream.writes, written.staged, now)
        if self._body is not None and self._body.packs:
            # From here on the packs live as long as these segments do.
            link_segments(
                connection, target.table.id, [row.key for row in segments], self._body.packs
            )
        row_offset = stream.row_offset + self._rows
        state = stream.state
        if request.block_number is not None:
            state = next_stream_state(StreamState(state), StreamEvent.CLOSE, stream.stream_id).value
        write_streams.update_write_stream(
            connection,
            stream.pk,
            state=state,
            row_offset=row_offset,
            rows=stream.rows + self._rows,
            bytes=stream.bytes + sum(segment.length for segment in segments),
            writes=stream.writes + 1,
            modified_at=now,
        )
        if not target.is_default:
            write_sessions.extend_write_session(
                connection, target.session.pk, now + context.settings.write_session_seconds
            )
        result = self._response(row_offset if stream.exactly_once else None, version=version)
        if request.retry_trace_id is not None:
            kept = _Accepted(**msgspec.structs.asdict(result), body=self._checksum)
            write_streams.remember_write(
                connection, stream.pk, request.retry_trace_id, msgspec.json.encode(kept), now
            )
        return result, True, unused


# At import: see protocol/codec/codec_admin.py.
_RESULT = msgspec.json.Decoder(WriteResult)
_ACCEPTED = msgspec.json.Decoder(_Accepted)
