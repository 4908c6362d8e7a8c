"""Rows in: a POST appends all rows of its body in one commit, or none.

An Arrow stream is checked and stored as it arrives. The other formats are read from a temporary file,
which is gone when the request is: Parquet is read from its end, and text must not hold the loop.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import secrets
import tempfile
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

import msgspec
import pyarrow as pa

from fletching import ipc
from fletching.engine.engine import Engine
from fletching.errors import InvalidArgumentError, StorageFullError, UsageError
from fletching.protocol.http.preconditions import check_unconditional
from fletching.protocol.messages.admin import DescribeTable, TableInfo
from fletching.protocol.messages.requests import (
    AbortWriteSession,
    CloseWriteStream,
    CommitWriteSession,
    CreateWriteSession,
    CreateWriteStream,
    WriteTable,
)
from fletching.protocol.messages.responses import Changed
from fletching.protocol.types.row_formats import (
    DELIMITERS,
    FileFormat,
    Opened,
    ReadOptions,
    check_names,
    open_csv,
    open_json_lines,
    open_parquet,
    text_need,
)
from fletching.protocol.types.table_schema import arrow_schema
from fletching.server.api.ingest_endpoint import receive_ingest
from fletching.server.http.exchange import Exchange
from fletching.server.plain.plain_parameters import (
    format_of_request,
    parameters,
    partition_of,
    whole_number,
)
from fletching.server.service import Service
from fletching.server.workers import Job
from fletching.types import PartitionSpec, TableName

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from fletching.engine.writing.ingest import Ingest

__all__ = ["append_rows", "stored_rows"]

_PARAMETERS = {
    "partition": False,
    "format": False,
    "delimiter": False,
    "null": True,
    "if_version": False,
}
SPOOL_BYTES = 1 << 20
"""Bytes of a body that gather before a worker writes them."""
FEED_BYTES = 8 << 20
"""Bytes of encoded messages that gather before they are stored."""
_STREAM = "rows"


async def append_rows(exchange: Exchange, service: Service, name: TableName) -> None:
    """Answers POST with ``{"rows": ...}``; see `stored_rows`."""
    await exchange.reply(msgspec.json.encode(await stored_rows(exchange, service, name)))


async def stored_rows(exchange: Exchange, service: Service, name: TableName) -> dict[str, object]:
    """Appends the rows of a request's body; returns what is answered.

    Raises:
        FletchingError: the request is wrong, refused, or failed; nothing of it is visible.
    """
    query = parameters(exchange, _PARAMETERS)
    item = {key: values[0] for key, values in query.items()}
    key = exchange.header("idempotency-key").strip().strip('"') or None
    if_version = whole_number("if_version", item.get("if_version"))
    check_unconditional(exchange.joined_header)
    chosen = format_of_request(item.get("format"), exchange.header("content-type"), "Content-Type")
    if chosen is None:
        raise InvalidArgumentError("Content-Type says what the body is; or give format=")
    if exchange.header("content-encoding", "identity").lower() != "identity":
        raise InvalidArgumentError(
            "the body must not be compressed as a whole; Arrow and Parquet may be inside"
        )
    creation = CreateWriteSession(table=name, partition=partition_of(item.get("partition", "")))
    service.authorize(exchange, creation)
    info = await service.call(DescribeTable(table=name))
    with service.bodies.enter():
        begin = functools.partial(_Append.begin, service.engine, creation)
        async with Job.opened(service.workers.write, begin, _Append.abort) as job:
            append = job.owned
            if chosen is FileFormat.STREAM:
                opening = functools.partial(service.engine.open_ingest, append.request)
                result = await receive_ingest(exchange, opening, service.workers, service.memory)
                append.rows = result.rows
            else:
                options = _options(info, append, item, query.get("null", []))
                with tempfile.TemporaryFile(prefix="fletching-rows-") as spool:
                    await _receive(exchange, job, spool)
                    cpu = service.workers.cpu
                    limit = service.engine.context.settings.write_limits.max_uncompressed_bytes
                    need = await job.start_in(
                        cpu, append.open, spool, chosen, options, limit
                    ).outcome()
                    await service.memory.take(need)
                    try:
                        await job.start_in(cpu, append.store, chosen).outcome()
                    finally:
                        service.memory.give(need)
            report = await job.run(append.commit, key, if_version)
    return {
        "table": str(name),
        "rows": report.rows_inserted + report.rows_updated,
        "version": report.version,
    }


def _options(
    info: TableInfo, append: _Append, query: dict[str, str], nulls: list[str]
) -> ReadOptions:
    """How text is read: with the types of the table's columns."""
    delimiter = query.get("delimiter", ",")
    if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n':
        raise InvalidArgumentError(f"delimiter is one character, not {delimiter[:20]!r}")
    data = pa.ipc.read_schema(pa.py_buffer(info.arrow_schema))
    fixed = {key.casefold() for key, _ in append.partition}
    partition = [
        field
        for field in arrow_schema(info.schema.partition_columns)
        if field.name.casefold() not in fixed
    ]
    return ReadOptions(
        delimiter=delimiter, nulls=("", *nulls), types=pa.schema([*data, *partition])
    )


async def _receive(exchange: Exchange, job: Job[_Append], spool: IO[bytes]) -> None:
    """Writes the body to the spool, a part at a time, at the client's pace."""
    ended = False
    while not ended:
        part, ended = await exchange.receive_part(SPOOL_BYTES)
        await job.run(job.owned.spool, spool, part)


class _Append:
    """A write session with one stream; every method blocks. A `Job` owns it.

    Attributes:
        request: what opens the stream's ingest.
        partition: of all rows.
        rows: how many were stored.
        opened: the body, once it is there, where it is no Arrow stream.
        ended: whether nothing is left to abort.
    """

    def __init__(self, engine: Engine, request: WriteTable, partition: PartitionSpec) -> None:
        self._engine = engine
        self.request = request
        self.partition = partition
        self.rows = 0
        self.opened: Opened | None = None
        self.ended = False

    @classmethod
    def begin(cls, engine: Engine, creation: CreateWriteSession) -> _Append:
        """Opens session and stream."""
        session = engine.call(creation)
        table, session_id = creation.table, session.session_id
        request = WriteTable(
            table=table,
            session_id=session_id,
            stream_id=_STREAM,
            retry_trace_id=secrets.token_hex(16),
        )
        append = cls(engine, request, creation.partition)
        try:
            engine.call(CreateWriteStream(table=table, session_id=session_id, stream_id=_STREAM))
        except BaseException:
            append.abort()
            raise
        return append

    @staticmethod
    def spool(file: IO[bytes], part: bytearray) -> None:
        """Writes a part of the body to the temporary file.

        Raises:
            StorageFullError: there is no room for it.
        """
        try:
            file.write(part)
        except OSError as exc:
            raise StorageFullError(
                f"there is no room for the request's body: {exc.strerror}"
            ) from exc

    def open(self, file: IO[bytes], chosen: FileFormat, options: ReadOptions, limit: int) -> int:
        """Opens the temporary file, and says what reading it takes; decodes no values.

        Raises:
            InvalidArgumentError: it is not of its format, or has columns that no table has.
            LimitExceededError: reading it takes more than the limit.
        """
        file.seek(0)
        with _as_parameter_errors(chosen):
            self.opened = _opened(file, chosen, options, limit)
            check_names("the body", self.opened.schema)
        return self.opened.need

    def store(self, chosen: FileFormat) -> None:
        """Reads what was opened and stores its rows.

        Raises:
            InvalidArgumentError: it is not of its format, or does not fit the table.
        """
        opened = self.opened
        assert opened is not None
        ingest = self._engine.open_ingest(self.request)
        try:
            with _as_parameter_errors(chosen):
                schema = opened.schema.remove_metadata()
                ipc.write_stream(_checked(opened.batches, schema), _Feed(ingest), schema=schema)
            ingest.accept(list(ingest.decoder))
            ingest.decoder.finish()
            self.rows = ingest.finish().rows
        except BaseException:
            ingest.abort()
            raise

    def commit(self, key: str | None, if_version: int | None) -> Changed:
        """Makes the rows visible, unless a commit with this key did so before; what that did.

        Raises:
            ConflictError: the table is not at ``if_version``.
        """
        table, session_id = self.request.table, self.request.session_id
        self._engine.call(CloseWriteStream(table=table, session_id=session_id, stream_id=_STREAM))
        done = self._engine.call(
            CommitWriteSession(
                table=table, session_id=session_id, idempotency_key=key, if_version=if_version
            )
        )
        self.ended = True
        return done.report or Changed(version=-1, rows_inserted=self.rows)

    def abort(self) -> None:
        """Drops all of it; what is committed stays."""
        self.ended = True
        self._engine.call(
            AbortWriteSession(table=self.request.table, session_id=self.request.session_id)
        )


class _Feed:
    """A sink that passes an encoded stream on to an ingest."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest
        self._fed = 0

    def write(self, data: Buffer) -> int:
        view = memoryview(data).cast("B")
        self._ingest.decoder.feed(view)
        self._fed += view.nbytes
        if self._fed >= FEED_BYTES:
            self._fed = 0
            self._ingest.accept(list(self._ingest.decoder))
        return view.nbytes


@contextlib.contextmanager
def _as_parameter_errors(chosen: FileFormat) -> Iterator[None]:
    """Says of a body that cannot be read what is wrong, in our words."""
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError, EOFError) as exc:
        text = (str(exc).splitlines() or ["it cannot be read"])[0]
        raise InvalidArgumentError(f"the body is not readable as {chosen}: {text}") from exc
    except UsageError as exc:
        raise InvalidArgumentError(exc.message) from exc


def _opened(file: IO[bytes], chosen: FileFormat, options: ReadOptions, limit: int) -> Opened:
    if chosen is FileFormat.PARQUET:
        return open_parquet(file, limit=limit)
    assert options.types is not None
    block, need = text_need(file, options.types, limit)
    options = dataclasses.replace(options, block_bytes=block, only_types=True)
    file.seek(0)
    if chosen is FileFormat.JSONL:
        return open_json_lines(file, options)._replace(need=need)

    def source() -> IO[bytes]:
        file.seek(0)
        return file

    # The reader of the first opening may close what it is given: a duplicate is not needed, since
    # CSV of one column alone is opened twice, and from its beginning.
    delimiter = DELIMITERS[FileFormat.CSV]
    return open_csv("the body", source, options, delimiter, again=True)._replace(need=need)


def _checked(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)
