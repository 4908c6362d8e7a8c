"""Rows that a statement computes on their way into a table: one write session, one commit."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import pyarrow as pa

from fletching.engine.changes.attempts import Draft
from fletching.engine.changes.computed_changes import ComputedChanges
from fletching.engine.changes.computed_values import computed
from fletching.engine.writing.ingest import Ingest
from fletching.errors import (
    ConflictError,
    FletchingError,
    InvalidArgumentError,
    NotFoundError,
    ServiceUnavailableError,
    StorageError,
    StorageFullError,
    UsageError,
)
from fletching.ipc.encoding import BatchEncoder
from fletching.ipc.message import END_OF_STREAM, Message
from fletching.protocol.messages.admin import CreateTable, TableInfo
from fletching.protocol.messages.changes import Changed, ChangeRequest
from fletching.protocol.messages.requests import (
    AbortWriteSession,
    CloseWriteStream,
    CommitWriteSession,
    CreateWriteSession,
    CreateWriteStream,
    Request,
    WriteTable,
)
from fletching.protocol.messages.responses import Response, WriteSession
from fletching.protocol.types.conversion import convert
from fletching.types import PartitionSpec, TableName

__all__ = ["StagedRows", "Writes", "stage_rows"]

_STREAM = "sql"
_FEED_BYTES = 16 << 20
_ASKED_TIMES = 6
"""How often a catalog that does not answer is asked again what became of a commit,"""
_ASKED_SECONDS = 0.1
"""and how long after the first time; each further wait is twice as long."""


class Writes(Protocol):
    """The engine's verbs that writing takes."""

    def call(self, request: Request) -> Response:
        """Answers a request."""

    def open_ingest(self, request: WriteTable) -> Ingest:
        """Prepares to take a body."""

    def compute_changes(
        self,
        request: ChangeRequest,
        operation: str,
        compute: Callable[[ComputedChanges], Draft],
    ) -> Changed:
        """Makes a change of rows that a query works out."""

    def replace_view(self, request: CreateTable, table_id: str) -> TableInfo:
        """Creates a view in the place of another, in one transaction."""


class StagedRows:
    """Rows that are stored, and become visible by `commit`, all or none.

    Attributes:
        rows: how many there are.
    """

    def __init__(
        self,
        verbs: Writes,
        table: TableName,
        session_id: str,
        rows: int,
        replaces_version: int | None = None,
    ) -> None:
        self._verbs = verbs
        self._table = table
        self._session_id = session_id
        self._replaces_version = replaces_version
        self._ended = False
        self.rows = rows

    def commit(self) -> int:
        """Makes the rows visible; returns how many there are.

        Raises:
            FletchingError: what committing them raises; nothing is visible then, unless the catalog is away
                for so long that nobody can ask it. A ConflictError says for certain that nothing is.
        """
        request = CommitWriteSession(
            table=self._table,
            session_id=self._session_id,
            streams=((_STREAM, 1),),
            replaces_version=self._replaces_version,
        )
        try:
            self._verbs.call(request)
        except Exception:
            # It may have failed after it was done, as when the database's answer is lost. Then the session
            # cannot be aborted any more, and whoever took this for a failure would insert the rows again.
            if not self._is_committed():
                raise
        except BaseException:
            with contextlib.suppress(FletchingError):
                self.abort()
            raise
        self._ended = True
        return self.rows

    def _is_committed(self) -> bool:
        """Aborts, and says whether it is too late for that."""
        for attempt in range(_ASKED_TIMES + 1):
            try:
                self._verbs.call(AbortWriteSession(table=self._table, session_id=self._session_id))
            except NotFoundError:
                return False  # the table, or the session, is gone with its rows
            except ConflictError:
                return True
            except (StorageError, ServiceUnavailableError, StorageFullError):
                if attempt < _ASKED_TIMES:
                    time.sleep(_ASKED_SECONDS * 2**attempt)
            else:
                break
        self._ended = True
        return False

    def abort(self) -> None:
        """Lets the rows go, unless they are visible; idempotent."""
        if self._ended:
            return
        self._ended = True
        self._verbs.call(AbortWriteSession(table=self._table, session_id=self._session_id))


def stage_rows(
    verbs: Writes,
    table: TableName,
    batches: Iterator[pa.RecordBatch],
    *,
    partition: PartitionSpec,
    overwrite: bool,
    columns_of: Callable[[pa.RecordBatch], pa.RecordBatch],
    schema: pa.Schema,
    replaces_version: int | None = None,
) -> StagedRows:
    """Stores rows that are to be appended, or to replace those that there are.

    Args:
        verbs: does it.
        table: where they go.
        batches: the rows.
        partition: of the table, or a part of its name.
        overwrite: whether they replace those that there are.
        columns_of: makes the table's columns of a batch.
        schema: of these.
        replaces_version: commit only if what is replaced is as it was then.

    Raises:
        FletchingError: what computing or writing them raises.
    """
    session = verbs.call(CreateWriteSession(table=table, partition=partition, overwrite=overwrite))
    assert isinstance(session, WriteSession)
    try:
        address: dict[str, Any] = {
            "table": table,
            "session_id": session.session_id,
            "stream_id": _STREAM,
        }
        verbs.call(CreateWriteStream(**address))
        rows = _stream(verbs.open_ingest(WriteTable(**address)), batches, columns_of, schema)
        verbs.call(CloseWriteStream(**address))
    except BaseException:
        verbs.call(AbortWriteSession(table=table, session_id=session.session_id))
        raise
    return StagedRows(verbs, table, session.session_id, rows, replaces_version)


def _stream(
    ingest: Ingest,
    batches: Iterator[pa.RecordBatch],
    columns_of: Callable[[pa.RecordBatch], pa.RecordBatch],
    schema: pa.Schema,
) -> int:
    rows = fed = 0
    try:
        encoder = BatchEncoder(schema)
        ingest.decoder.feed(memoryview(encoder.schema_message))
        for batch in batches:
            made = columns_of(batch)
            rows += made.num_rows
            for message in encoder.encode(made):
                for piece in message:
                    view = memoryview(piece).cast("B")
                    ingest.decoder.feed(view)
                    fed += view.nbytes
            if fed >= _FEED_BYTES:
                _store(ingest)
                fed = 0
        ingest.decoder.feed(memoryview(END_OF_STREAM))
        _store(ingest)
        ingest.finish()
    except BaseException:
        ingest.abort()
        raise
    return rows


def _store(ingest: Ingest) -> None:
    messages: Sequence[Message] = list(ingest.decoder)
    if messages:
        ingest.accept(messages)


def cast_to(schema: pa.Schema) -> Callable[[pa.RecordBatch], pa.RecordBatch]:
    """Makes batches of a query the columns of a table, by position.

    Raises:
        InvalidArgumentError: from the result, when a value does not fit.
    """

    def columns_of(batch: pa.RecordBatch) -> pa.RecordBatch:
        try:
            arrays = [
                column
                if column.type == field.type
                else convert(computed(column, field.type, field.name), field.type, field.name)
                for column, field in zip(batch.columns, schema, strict=True)
            ]
        except UsageError as error:
            raise InvalidArgumentError(error.message) from error
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    return columns_of
