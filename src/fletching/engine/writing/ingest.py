"""`Ingest`: one TableWrite's body, from messages to durable segments and the catalog's word for it.

Order of events, which nothing may change: every batch is validated before it is stored; the
segments' bytes are durable before the catalog transaction begins; the transaction has committed
before ``finish`` returns. What the session and stream allow is looked at twice: when the body
begins, to refuse early, and inside the transaction, where it counts.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
from typing_extensions import Buffer

from fletching import faultpoints, ipc
from fletching.catalog import tables as catalog_tables
from fletching.catalog import write_sessions, write_streams
from fletching.catalog.blobs import link_segments
from fletching.catalog.publishing import publish
from fletching.catalog.segments import encode_partition
from fletching.catalog.tables import TableRow
from fletching.catalog.write_streams import NewSegment, WriteStreamRow
from fletching.engine.context import EngineContext
from fletching.engine.partitions import partition_fields
from fletching.engine.tables import read_arrow_schema
from fletching.engine.writing.blocks import BlockMessage, block_stream_id
from fletching.engine.writing.conversion import convert_array
from fletching.engine.writing.matching import Match, MatchKind, match_schema
from fletching.engine.writing.partitioning import group_rows, take_rows
from fletching.engine.writing.routing import SegmentRouter
from fletching.engine.writing.sessions import bound_names
from fletching.engine.writing.states import (
    SessionEvent,
    StreamEvent,
    StreamState,
    next_stream_state,
)
from fletching.engine.writing.streams import create_attempt, dynamic_columns
from fletching.engine.writing.targets import (
    WriteTarget,
    check_token,
    find_session,
    find_stream,
    stream_name,
)
from fletching.errors import (
    ConflictError,
    InvalidArgumentError,
    LimitExceededError,
    MalformedFrameError,
    RowOffsetError,
    SchemaModifiedError,
    StorageError,
    UsageError,
)
from fletching.protocol.requests import WriteTable
from fletching.protocol.responses import WriteResult

__all__ = ["CellChecker", "CellCheckers", "Ingest", "open_ingest"]


class CellChecker(Protocol):
    """Checks cells that only other parts of the engine understand: BLOB references."""

    @property
    def packs(self) -> frozenset[str]:
        """Ids of the packs that the checked cells refer to."""

    def check_batch(self, batch: Any, schema: Any) -> Any:
        """Checks a validated batch with the columns of ``schema``.

        Returns:
            The batch itself if it may be stored as it is, else the batch to store.
        """


CellCheckers = Callable[[TableRow, Any], CellChecker | None]
"""Makes the checker for a table and its Arrow schema; None if the table needs none."""


_TRACE_ID_LENGTH = 200


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
    if request.retry_trace_id is not None and len(request.retry_trace_id) > _TRACE_ID_LENGTH:
        raise InvalidArgumentError(f"a retry trace id has at most {_TRACE_ID_LENGTH} characters")
    is_block = request.block_number is not None
    if is_block:
        request = msgspec.structs.replace(
            request,
            stream_id=block_stream_id(request.block_number or 0, request.attempt_number or 0),
            stream_version=1,
        )
        target, stream = _open_block(context, request)
    else:
        with context.database.read() as connection:
            target = _find(connection, context, request, lock=False)
            stream = find_stream(connection, target, request.stream_id, request.stream_version)
    with context.database.read() as connection:
        replayed = _replayed(connection, stream, request)
    if replayed is None:
        check_token(stream, request.access_token)
        _check_open(stream)
        _check_offset(stream, request, rows=None)
    return Ingest(context, request, target, stream, replayed=replayed, cell_checker=cell_checker)


def _open_block(context: EngineContext, request: WriteTable) -> tuple[WriteTarget, WriteStreamRow]:
    """A block is one write: sending it again begins its stream afresh."""
    with context.database.write() as connection:
        target = _find(connection, context, request, lock=True)
        known = write_streams.find_write_stream(
            connection, target.session.pk, request.stream_id, request.stream_version
        )
        if known is not None and _replayed(connection, known, request) is not None:
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


def _find(
    connection: Any, context: EngineContext, request: WriteTable, *, lock: bool
) -> WriteTarget:
    return find_session(
        connection,
        context,
        request.table,
        request.session_id,
        request.write_mode,
        event=SessionEvent.WRITE,
        lock=lock,
    )


def _replayed(connection: Any, stream: WriteStreamRow, request: WriteTable) -> WriteResult | None:
    """The reply this very request got before, if it did (PROTOCOL 4.6)."""
    if request.retry_trace_id is None:
        return None
    found = write_streams.accepted_write(connection, stream.pk, request.retry_trace_id)
    return None if found is None else msgspec.json.decode(found, type=WriteResult)


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


class Ingest:
    """Takes one body. ``accept`` and ``finish`` block and are called from one thread at a time.

    Attributes:
        decoder: fed by the shell with the body's bytes; what it yields goes to ``accept``.
    """

    def __init__(
        self,
        context: EngineContext,
        request: WriteTable,
        target: WriteTarget,
        stream: WriteStreamRow,
        *,
        replayed: WriteResult | None,
        cell_checker: CellCheckers | None,
    ) -> None:
        self.decoder = ipc.MessageDecoder(context.settings.write_limits)
        self._context = context
        self._request = request
        self._target = target
        self._stream = stream
        self._replayed = replayed
        self._cell_checker = cell_checker
        # Rows that are in the stream already are only counted, and so is a repeated request's body.
        self._counts_only = replayed is not None or not (_check_offset(stream, request, rows=None))
        self._body: _Body | None = None
        self._started = False
        self._rows = 0
        self._result: WriteResult | None = None
        self._failed = False

    def accept(self, messages: Sequence[ipc.Message]) -> None:
        """Validates, checksums and stores messages, in the order of the body.

        Raises:
            WireError: a message is broken, hostile or above a limit.
            InvalidArgumentError: the schema or a value does not fit the table, or
                SchemaModifiedError when the table's schema is not the one the writer knew.
            StorageError: the store failed, or StorageFullError.
        """
        self._check_usable()
        try:
            for message in messages:
                self._accept(message)
        except BaseException:
            self.abort()
            raise

    def _accept(self, message: ipc.Message) -> None:
        if not self._started:
            if message.type is not ipc.MessageType.SCHEMA:
                raise MalformedFrameError(
                    "an Arrow stream begins with its schema",
                    layer="message",
                    offset=message.offset,
                    expected=ipc.MessageType.SCHEMA.label,
                    actual=message.type.label,
                )
            self._started = True
            if not self._counts_only:
                self._body = _Body(
                    self._context, self._request, self._target, message, self._cell_checker
                )
        elif self._body is not None:
            self._rows += self._body.accept(message)
        elif message.type is ipc.MessageType.RECORD_BATCH:
            self._rows += message.record_batch(self._context.settings.write_limits).length

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
        if self._result is not None:
            return self._result
        self._check_usable()
        try:
            self._check_complete()
            if self._replayed is not None:
                self._result = self._replayed
            elif self._body is None:
                self._result = self._finish_counted()
            else:
                self._result = self._finish_body(self._body)
        except BaseException:
            self.abort()
            raise
        return self._result

    def abort(self) -> None:
        """Drops everything; idempotent, and without effect once ``finish`` has returned."""
        if self._result is None and not self._failed:
            self._failed = True
            if self._body is not None:
                self._context.delete_objects(self._body.router.abort())

    def _check_usable(self) -> None:
        if self._failed or self._result is not None:
            raise UsageError("the ingest is finished or aborted")

    def _check_complete(self) -> None:
        self.decoder.finish(require_marker=True)
        if not self._started:
            raise MalformedFrameError("the Arrow stream has no schema", layer="message", offset=0)

    def _finish_counted(self) -> WriteResult:
        """A body whose beginning is in the stream already: all of it must be (PROTOCOL 4.3)."""
        with self._context.database.read() as connection:
            stream = find_stream(
                connection, self._target, self._request.stream_id, self._request.stream_version
            )
        check_token(stream, self._request.access_token)
        if _check_offset(stream, self._request, self._rows):
            raise ConflictError("the write stream was begun again while the body came in; retry")
        return self._response(stream.row_offset, "every row was in the stream already")

    def _response(
        self, row_offset: int | None, warning: str = "", *, version: int | None = None
    ) -> WriteResult:
        request, rows = self._request, self._rows
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

    def _finish_body(self, body: _Body) -> WriteResult:
        segments = body.router.finish()
        faultpoints.reach("write.staging")
        keep = False
        try:
            with self._context.database.write() as connection:
                result, accepted = self._record(connection, segments)
                keep = accepted
                faultpoints.reach("write.staged")
            if not accepted:
                self._context.delete_objects(body.router.abort())
        except StorageError:
            if keep:
                # The commit itself failed, and it may yet turn out to have been written: the
                # objects must stay. If it was not, retention finds them without an owner.
                body.router.release()
            raise
        faultpoints.reach("write.accepted")
        return result

    def _record(self, connection: Any, segments: list[NewSegment]) -> tuple[WriteResult, bool]:
        """The transaction: (reply, whether the segments are now the catalog's)."""
        context, request = self._context, self._request
        now = context.clock()
        target = _find(connection, context, request, lock=True)
        stream = find_stream(connection, target, request.stream_id, request.stream_version)
        replayed = _replayed(connection, stream, request)
        if replayed is not None:
            return replayed, False
        check_token(stream, request.access_token)
        _check_open(stream)
        if stream.attempt != self._stream.attempt or stream.pk != self._stream.pk:
            raise ConflictError(
                f"write stream {stream_name(stream.stream_id, stream.stream_version)} was begun "
                "again while the body came in"
            )
        if not _check_offset(stream, request, self._rows):
            return self._response(stream.row_offset, "every row was in the stream already"), False
        version: int | None = None
        if target.mode.is_streaming:
            table = catalog_tables.lock_table(connection, target.table.id)
            version = publish(connection, table, segments, now=now) if segments else table.version
        else:
            write_streams.insert_staged(connection, stream.pk, stream.writes, segments, now)
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
            write_streams.remember_write(
                connection, stream.pk, request.retry_trace_id, msgspec.json.encode(result), now
            )
        return result, True


class _Body:
    """The batches of one body on their way into segments."""

    def __init__(
        self,
        context: EngineContext,
        request: WriteTable,
        target: WriteTarget,
        schema_message: ipc.Message,
        cell_checker: CellCheckers | None,
    ) -> None:
        settings = context.settings
        table, session = target.table, target.session
        self._settings = settings
        self._limits = settings.write_limits
        self._columns = table.partition_columns
        self._bound = dict(session.partition_spec)
        self._dynamic = dynamic_columns(table, bound_names(session))
        self._dynamic_fields = partition_fields(self._dynamic)
        self._schema = read_arrow_schema(table.arrow_schema)
        self._decoder = ipc.BatchDecoder(
            schema_message, limits=self._limits, validate_values=settings.validate_values
        )
        self._match = self._matched(request, target)
        self._checker = None if cell_checker is None else cell_checker(table, self._schema)
        stored_ids = _dictionary_ids(table.arrow_schema)
        self._projector: ipc.Projector | None = None
        if self._match.kind is MatchKind.PROJECT:
            self._projector = ipc.Projector(
                schema_message,
                [c for c in self._match.columns if c is not None],
                limits=self._limits,
            )
        fields = self._decoder.header.fields
        ids = [
            node.dictionary_id
            for column in self._match.columns
            if column is not None
            for node in fields[column].walk()
            if node.dictionary_id is not None
        ]
        # As they are, messages can only be stored under the dictionary ids of the table's schema.
        self._as_is = (
            self._match.kind is not MatchKind.CONVERT
            and ids == stored_ids
            and self._decoder.header.endianness.name == "LITTLE"
        )
        self._ids = stored_ids
        self._dictionaries: dict[int, list[ipc.Message]] = {}
        self._batches = 0
        self._empty_batches = 0
        self._static = (
            encode_partition(self._bound[name] for name, _ in self._columns)
            if not self._dynamic
            else None
        )
        self.router = SegmentRouter(
            context.store,
            key_prefix=f"tables/{table.id}/{context.store.writer}-{secrets.token_hex(6)}",
            schema=self._schema,
            schema_message=table.arrow_schema,
            schema_version=table.schema_version,
            max_partitions=settings.max_write_partitions,
        )

    def _matched(self, request: WriteTable, target: WriteTarget) -> Match:
        try:
            return match_schema(
                self._decoder.schema,
                self._schema,
                [name for name, _ in self._dynamic],
                self._dynamic_fields,
            )
        except InvalidArgumentError as error:
            current = target.table.schema_version
            if request.schema_version is None or request.schema_version == current:
                raise
            raise SchemaModifiedError(
                f"{error.message} (the table's schema is at version {current}, the writer knew "
                f"{request.schema_version})",
                latest_schema_version=current,
            ) from error

    @property
    def packs(self) -> frozenset[str]:
        """Ids of the blob packs that stored rows refer to."""
        return frozenset() if self._checker is None else self._checker.packs

    def accept(self, message: ipc.Message) -> int:
        """Stores a dictionary or record batch message; returns its rows."""
        if message.type is ipc.MessageType.DICTIONARY_BATCH:
            self._decoder.decode(message)
            dictionary = message.dictionary_batch(self._limits)
            held = self._dictionaries.setdefault(dictionary.id, [])
            if not dictionary.is_delta:
                held.clear()
            held.append(message)
            self._check_dictionary_bytes()
            return 0
        batch = self._decoder.decode(message)
        if batch is None:
            return 0
        self._count(batch.num_rows)
        if batch.num_rows:
            self._store(message, batch)
        return int(batch.num_rows)

    def _check_dictionary_bytes(self) -> None:
        limit = self._limits.max_dictionary_bytes
        held = sum(len(m.body) for messages in self._dictionaries.values() for m in messages)
        if held > limit:
            raise LimitExceededError("the dictionaries are too large", actual=held, limit=limit)

    def _count(self, rows: int) -> None:
        self._batches += 1
        if not rows:
            self._empty_batches += 1
        for what, count, limit in (
            ("record batches", self._batches, self._settings.max_write_batches),
            ("empty record batches", self._empty_batches, self._settings.max_write_empty_batches),
        ):
            if count > limit:
                raise LimitExceededError(f"a body has too many {what}", actual=count, limit=limit)

    def _store(self, message: ipc.Message, batch: Any) -> None:
        match = self._match
        for number in match.required:
            source = match.columns[number]
            if source is not None and batch.column(source).null_count:
                name = self._schema.field(number).name
                raise InvalidArgumentError(f"column {name} has null in the data and may not")
        header = message.record_batch(self._limits)
        codec = None if header.compression is None else header.compression.value
        data = self._checked_cells(batch)
        groups = self._groups(batch)
        if data is None and len(groups) == 1 and self._as_is and _is_aligned(message, header):
            self._store_as_is(groups[0][0], message, batch, codec)
            return
        if data is None:
            data = self._converted(batch)
        if len(groups) == 1:
            self.router.write_batch(groups[0][0], data, codec)
            return
        for partition, rows in groups:
            self.router.write_part(partition, take_rows(data, rows), codec)

    def _checked_cells(self, batch: Any) -> Any | None:
        """The batch to store instead, if the cell check changed it; None to store what came."""
        if self._checker is None:
            return None
        data = self._converted(batch)
        checked = self._checker.check_batch(data, self._schema)
        return None if checked is data else checked

    def _converted(self, batch: Any) -> Any:
        """The data columns in the table's own types; columns that fit are not copied."""
        import pyarrow as pa

        arrays = []
        for number, source in enumerate(self._match.columns):
            field = self._schema.field(number)
            if source is None:
                arrays.append(pa.nulls(batch.num_rows, field.type))
            else:
                arrays.append(convert_array(batch.column(source), field.type, field.name))
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _groups(self, batch: Any) -> list[tuple[str, Any]]:
        """(catalog's text of the partition, its rows or None for all)."""
        if self._static is not None:
            return [(self._static, None)]
        arrays = [batch.column(number) for number in self._match.partition_columns]
        groups = group_rows(self._dynamic, self._dynamic_fields, arrays)
        return [(self._partition(values), rows) for values, rows in groups]

    def _partition(self, dynamic: tuple[str, ...]) -> str:
        values = dict(zip((name for name, _ in self._dynamic), dynamic, strict=True))
        values |= self._bound
        return encode_partition(values[name] for name, _ in self._columns)

    def _store_as_is(
        self, partition: str, message: ipc.Message, batch: Any, codec: str | None
    ) -> None:
        if self._projector is None:
            frame: list[Buffer] = message.frame()
            metadata_length, body_length = message.metadata_length, message.body_length
        else:
            projected = self._projector.project(message)
            frame = projected.frame()
            metadata_length, body_length = len(projected.prefix), projected.body_length
        self.router.write_message(
            partition,
            frame,
            metadata_length=metadata_length,
            body_length=body_length,
            rows=batch.num_rows,
            codec=codec,
            # stored as it is, so the body has every column
            columns=[batch.column(at) for at in self._match.columns if at is not None],
            dictionaries=[(id_, self._dictionaries.get(id_, ())) for id_ in self._ids],
        )


def _is_aligned(message: ipc.Message, header: ipc.RecordBatchHeader) -> bool:
    """Whether a message can stand in a file as it is: all it holds starts at multiples of 8."""
    return (
        message.prefix_length == 8
        and message.metadata_length % 8 == 0
        and message.body_length % 8 == 0
        and not (header.buffers[:, 0] & 7).any()
    )


def _dictionary_ids(schema_message: bytes) -> list[int]:
    from fletching.ipc.schema_header import schema_header

    message = next(iter(ipc.messages(schema_message)))
    return [
        node.dictionary_id
        for field in schema_header(message).fields
        for node in field.walk()
        if node.dictionary_id is not None
    ]
