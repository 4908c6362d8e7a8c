"""Rows that a statement computes on their way into a table: one write session, one commit."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
import pyarrow as pa

from fletching import faultpoints
from fletching.engine.changes.attempts import Draft
from fletching.engine.changes.computed_changes import ComputedChanges
from fletching.engine.changes.computed_values import computed
from fletching.engine.changes.made_changes import Intent
from fletching.engine.query.script_values import Calls
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
from fletching.protocol.messages.admin import CreateTable, DropTable, TableInfo
from fletching.protocol.messages.changes import Changed, ChangeRequest, RenameTable
from fletching.protocol.messages.requests import (
    AbortWriteSession,
    CloseWriteStream,
    CommitWriteSession,
    CreateWriteSession,
    CreateWriteStream,
    WriteTable,
)
from fletching.protocol.types.conversion import convert
from fletching.types import PartitionSpec, TableName

__all__ = ["StagedRows", "Writes", "cast_to", "filled_table", "stage_rows"]

_T = TypeVar("_T")

_STREAM = "sql"
_FEED_BYTES = 16 << 20
_ASKED_TIMES = 6
"""How often a catalog that does not answer is asked again what became of a commit,"""
_ASKED_SECONDS = 0.1
"""and how long after the first time; each further wait is twice as long."""


class Writes(Calls, Protocol):
    """The engine's verbs that writing takes."""

    def open_ingest(self, request: WriteTable) -> Ingest:
        """Prepares to take a body."""

    def compute_changes(
        self,
        request: ChangeRequest,
        intent: Intent,
        compute: Callable[[ComputedChanges], Draft],
    ) -> Changed:
        """Makes a change of rows that a query works out."""

    def reports_of_run(self, run_id: str, text: str) -> Mapping[int, Sequence[Changed]]:
        """What changes that statements have made came to, by the number of the statement; refused if others did."""

    def replace_view(self, request: CreateTable, table_id: str) -> TableInfo:
        """Creates a view in the place of another, in one transaction."""


@contextlib.contextmanager
def filled_table(verbs: Writes, request: CreateTable, key: str) -> Iterator[TableName]:
    """Makes a table that nobody sees before the block has filled it, under the name that is given to the block.

    Getting its name is what has the key. Whoever dies in it leaves nothing behind that has the table's name: what there is goes with retention.

    Raises:
        AlreadyExistsError: the name is taken, then or by now.
        FletchingError: what making it raises, or the block; there is no table then.
    """
    made = verbs.call(msgspec.structs.replace(request, unlisted=True, if_not_exists=False))
    try:
        yield made.table
        faultpoints.reach("table.filled")
        named = RenameTable(table=made.table, new_name=request.table.name, idempotency_key=key)
        # Asked again until there is an answer: the name may have been given although that was not said.
        _answered(lambda: verbs.call(named))
    except BaseException:
        drop = DropTable(table=made.table, if_exists=True, table_id=made.table_id)
        with contextlib.suppress(FletchingError):
            verbs.call(drop)
        raise


def _answered(call: Callable[[], _T]) -> _T:
    """What a call that may be repeated returns or raises, once the catalog answers; or that it is away too long."""
    for attempt in range(_ASKED_TIMES):
        try:
            return call()
        except (StorageError, ServiceUnavailableError, StorageFullError):
            time.sleep(_ASKED_SECONDS * 2**attempt)
    return call()


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
        *,
        key: str,
        statement: str,
        replaces_version: int | None = None,
    ) -> None:
        self._verbs = verbs
        self._table = table
        self._session_id = session_id
        self._replaces_version = replaces_version
        self._key = key
        self._statement = statement
        self._ended = False
        self.rows = rows

    def commit(self) -> int:
        """Makes the rows visible; returns how many have come, by this commit or an earlier one of its key.

        Raises:
            FletchingError: what committing them raises; nothing is visible then, unless the catalog is away
                for so long that nobody can ask it. A ConflictError says for certain that nothing is.
        """
        request = CommitWriteSession(
            table=self._table,
            session_id=self._session_id,
            streams=((_STREAM, 1),),
            replaces_version=self._replaces_version,
            idempotency_key=self._key,
            statement=self._statement,
        )
        came = self.rows
        try:
            done = self._verbs.call(request)
            if done.report is not None:
                came = done.report.rows_inserted + done.report.rows_updated
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
        return came

    def _is_committed(self) -> bool:
        """Aborts, and says whether it is too late for that."""
        request = AbortWriteSession(table=self._table, session_id=self._session_id)
        try:
            _answered(lambda: self._verbs.call(request))
        except NotFoundError:
            return False  # the table, or the session, is gone with its rows
        except ConflictError:
            return True
        except (StorageError, ServiceUnavailableError, StorageFullError):
            pass  # nobody can say
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
    key: str,
    statement: str,
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
        key: of the commit: a later one with it changes nothing.
        statement: the text that computes the rows, which a later one with the key must have.
        replaces_version: commit only if what is replaced is as it was then.

    Raises:
        FletchingError: what computing or writing them raises.
    """
    session = verbs.call(CreateWriteSession(table=table, partition=partition, overwrite=overwrite))
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
    return StagedRows(
        verbs,
        table,
        session.session_id,
        rows,
        key=key,
        statement=statement,
        replaces_version=replaces_version,
    )


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
