"""What came of SQL statements: rows, text, or how many rows were changed."""

from __future__ import annotations

import functools
import html
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa

from fletching.client.cancellation import Cancellation
from fletching.client.progress import ProgressLike, progress_meter
from fletching.client.reading.readable import polars_frame
from fletching.client.retry import RetrySequence
from fletching.client.tabular.alignment import joined
from fletching.client.transports.channel import Channel, is_left, patience
from fletching.client.transports.transport import BatchSource
from fletching.errors import FletchingError, NotFoundError, TransportError, TruncatedStreamError
from fletching.ipc import messages
from fletching.ipc.batches import BatchDecoder
from fletching.protocol.http.error_codec import decode_error
from fletching.protocol.messages.admin import (
    CancelStatement,
    GetStatement,
    RunStatement,
    StatementState,
    new_instance_id,
)
from fletching.protocol.messages.requests import ReadInstance

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

__all__ = ["Result", "run_statements"]

_FIRST_SECONDS = 1.0
"""How long the first answer may take: a longer one would keep a failure from who waits for it."""

_CANCELS = 10
_CANCEL_PAUSE_SECONDS = 0.1
"""How often statements are cancelled that nobody knows yet, and what is waited in between."""

_WAIT_SECONDS = 20.0
_SHOWN_ROWS = 10
_MAX_ERRORS = 5


def run_statements(channel: Channel, project: str, schema: str, text: str) -> Result:
    """Runs SQL statements and waits for their end.

    Interrupting the wait (Ctrl-C) cancels them.

    Raises:
        SqlSyntaxError: they cannot be parsed.
        ServiceError: one of them failed; those before it are done.
        TransportError: no answer within the retry budget.
    """
    request = RunStatement(
        project=project,
        schema=schema,
        text=text,
        wait_seconds=_FIRST_SECONDS,
        instance_id=new_instance_id(time.time()),
    )
    sequence = channel.sequence()
    while True:
        state = _ended(channel, request)
        if state.error is None:
            return Result(channel, project, state)
        status, code, message = state.error
        body = msgspec.json.encode({"Code": code, "Message": message})
        # Statements that a failure of the service ended are run again under their id, which changes nothing
        # twice.
        error = decode_error(status, {"x-odps-request-id": state.instance_id}, body)
        sequence.wait(error, repeatable=True)


def _ended(channel: Channel, request: RunStatement) -> StatementState:
    """What statements have come to, once they have ended; leaving the wait cancels them."""
    project, schema = request.project, request.schema
    try:
        state = channel.call(request)
    except BaseException as error:
        if is_left(type(error)):
            # Before there was an answer: the service may only be about to hear of them.
            cancel = CancelStatement(
                instance_id=request.instance_id, project=project, schema=schema
            )
            channel.on_leaving(functools.partial(_cancel_unanswered, request=cancel))
        raise
    try:
        while state.running:
            again = GetStatement(
                project=project,
                schema=schema,
                instance_id=state.instance_id,
                wait_seconds=_WAIT_SECONDS,
            )
            state = channel.call(again)
    except BaseException as error:
        cancel = CancelStatement(instance_id=state.instance_id, project=project, schema=schema)
        channel.on_leaving(lambda last: last.call(cancel), patience(type(error)))
        raise
    return state


def _cancel_unanswered(channel: Channel, request: CancelStatement) -> None:
    """Cancels statements of which the service may not know yet."""
    for _ in range(_CANCELS):
        try:
            channel.call(request)
        except NotFoundError:
            time.sleep(_CANCEL_PAUSE_SECONDS)
        except FletchingError:
            return  # whoever interrupted waits for nothing else
        else:
            return


class Result:
    """What came of SQL statements: the rows of the last one if it is a query.

    Rows stay at the service for a day and are read as often as they are asked for, in batches.

    Attributes:
        schema: the columns of the rows; without columns if the last statement is no query.
        num_rows: how many rows there are.
        affected_rows: how many rows the last statement inserted, updated or deleted; None if it
            changes none.
        text: what the last statement printed, such as DESC.
        instance_id: the service's name for the statements.
    """

    def __init__(self, channel: Channel, project: str, state: StatementState) -> None:
        self._channel = channel
        self._project = project
        self.instance_id = state.instance_id
        self.num_rows = state.rows
        self.affected_rows = state.affected_rows
        self.text = state.printed
        self.has_rows = state.arrow_schema is not None
        self.schema = (
            pa.schema([])
            if state.arrow_schema is None
            else BatchDecoder(next(iter(messages(state.arrow_schema)))).schema
        )

    def to_batches(self, *, progress: ProgressLike = None) -> Iterator[pa.RecordBatch]:
        """The rows as record batches, as they come; goes on by row after a broken connection.

        Args:
            progress: True for a bar, or a function of one `fletching.Progress`, called per batch.

        Raises:
            ServiceError: the result has expired.
            TransportError: a connection broke and could not be replaced in time.
        """
        meter = progress_meter(progress, "result")
        if meter is None:
            return self._batches()
        meter.total = self.num_rows
        return meter.read(self._batches())

    def _batches(self) -> Iterator[pa.RecordBatch]:
        row = failed_asks = 0
        while self.has_rows and row < self.num_rows:
            request = ReadInstance(
                project=self._project,
                instance_id=self.instance_id,
                session_id=self.instance_id,
                offset=row,
            )
            cancellation = Cancellation(self._channel.cancellation)
            source = self._channel.retrying(
                functools.partial(self._read, request), repeatable=True, cancellation=cancellation
            )
            try:
                for batch in source:
                    row += batch.num_rows
                    failed_asks = 0
                    yield batch
            except (TransportError, TruncatedStreamError):
                failed_asks += 1
                if failed_asks > _MAX_ERRORS:
                    raise
            else:
                failed_asks += 1
                if row < self.num_rows and failed_asks > _MAX_ERRORS:
                    raise TruncatedStreamError("the result ends early", layer="rows", offset=row)
            finally:
                source.close()

    def _read(self, request: ReadInstance, attempt: RetrySequence) -> BatchSource:
        return self._channel.transport.read(request, attempt)

    def to_reader(self) -> pa.RecordBatchReader:
        """The rows as a ``pyarrow.RecordBatchReader``; errors as `to_batches`, from the reader."""
        return pa.RecordBatchReader.from_batches(self.schema, self.to_batches())

    def to_table(self, *, progress: ProgressLike = None) -> pa.Table:
        """The rows as one ``pyarrow.Table`` in memory; ``progress`` as of `to_batches`."""
        return joined(self.to_batches(progress=progress), self.schema)

    def to_pandas(self, /, *, progress: ProgressLike = None, **options: object) -> pd.DataFrame:
        """The rows as a pandas DataFrame; options as of ``pyarrow.Table.to_pandas``."""
        return self.to_table(progress=progress).to_pandas(**options)

    def to_polars(self, *, progress: ProgressLike = None) -> pl.DataFrame:
        """The rows as a polars DataFrame; ``progress`` as of `to_batches`.

        Raises:
            MissingExtraError: polars is not installed.
        """
        return polars_frame(self.to_table(progress=progress))

    def to_pylist(self) -> list[dict[str, object]]:
        """The rows as Python values."""
        rows: list[dict[str, object]] = self.to_table().to_pylist()
        return rows

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self.to_batches()

    def __len__(self) -> int:
        return self.num_rows

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The rows for any library that takes Arrow's C stream."""
        return self.to_reader().__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        """What came of the statements, in a line."""
        if self.has_rows:
            return f"<Result of {self.num_rows} rows: {', '.join(self.schema.names)}>"
        if self.affected_rows is not None:
            return f"<Result: {self.affected_rows} rows changed>"
        return f"<Result: {self.text[:60]!r}>" if self.text else "<Result>"

    def _repr_html_(self) -> str:
        """The first rows as a table, for notebooks."""
        if not self.has_rows:
            return f"<pre>{html.escape(self.text or repr(self))}</pre>"
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.schema.names)
        rows: list[str] = []
        for batch in self.to_batches():
            for row in batch.slice(0, _SHOWN_ROWS - len(rows)).to_pylist():
                cells = "".join(
                    f"<td>{html.escape('null' if value is None else str(value)[:200])}</td>"
                    for value in row.values()
                )
                rows.append(f"<tr>{cells}</tr>")
            if len(rows) >= _SHOWN_ROWS:
                break
        note = f"<p>{self.num_rows} rows</p>"
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>{note}"
