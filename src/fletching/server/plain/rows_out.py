"""Rows out: what is stored goes as it is where Arrow is wanted, and is written anew for other formats.

A reply is a snapshot without a session: nothing is entered in the catalog, and segments that upkeep
removes meanwhile are kept for longer than any reply takes.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Sequence

import pyarrow as pa
from typing_extensions import Buffer

from fletching.engine.reading.read_calls import SnapshotRows
from fletching.errors import InvalidArgumentError, RangeNotSatisfiableError
from fletching.protocol.http.preconditions import is_not_modified, range_holds
from fletching.protocol.messages.admin import DescribeTable, TableInfo
from fletching.protocol.messages.requests import ArrowOptions, CreateReadSession, ReadInstance
from fletching.protocol.types.decoded_sizes import in_parts
from fletching.protocol.types.row_formats import FileFormat, row_writer
from fletching.server.api.response_body import BufferSource, PlanSource, send_source
from fletching.server.http.exchange import Exchange
from fletching.server.plain.plain_parameters import (
    MEDIA_TYPES,
    format_of_request,
    parameters,
    partition_of,
    whole_number,
)
from fletching.server.service import Service
from fletching.server.workers import Job
from fletching.types import TableName

__all__ = ["BegunReply", "WrittenRows", "send_result", "send_rows"]

_PARAMETERS = {
    "columns": False,
    "filter": False,
    "partition": True,
    "offset": False,
    "limit": False,
    "version": False,
    "format": False,
}
_RANGE = re.compile(r"rows=([0-9]{1,18})-([0-9]{0,18})", re.ASCII | re.IGNORECASE)

CONVERTED_ROWS = 8192
"""Rows written to a text format at once: each becomes Python objects on the way to JSON."""


async def send_rows(exchange: Exchange, service: Service, name: TableName) -> None:
    """Answers GET and HEAD.

    Raises:
        FletchingError: the request is wrong, refused, or failed.
    """
    query = parameters(exchange, _PARAMETERS)
    item = {key: values[0] for key, values in query.items()}
    chosen = format_of_request(item.get("format"), exchange.header("accept"), "Accept")
    chosen = chosen or FileFormat.STREAM
    offset, limit = (
        whole_number("offset", item.get("offset")),
        whole_number("limit", item.get("limit")),
    )
    version = whole_number("version", item.get("version"))
    request = CreateReadSession(
        table=name,
        required_partitions=tuple(partition_of(text) for text in query.get("partition", ())),
        filter_predicate=item.get("filter", ""),
        arrow_options=ArrowOptions(timestamp_unit=None, datetime_unit=None),
        verbatim_types=True,
        version=version,
    )
    service.authorize(exchange, request)
    info = await service.call(DescribeTable(table=name))
    tag = _tag(info.table_id, info.version if version is None else version, query, chosen)
    # A version never changes: whoever has this one of this request has it still.
    if is_not_modified(exchange.joined_header, tag):
        await exchange.reply(b"", status=304, headers={"etag": tag, "vary": "accept"})
        return
    request = _with_columns(request, info, item.get("columns"))
    given = _given_range(exchange, item) if range_holds(exchange.joined_header, tag) else None
    if given is not None:
        offset, limit = given

    def begin() -> _Reply:
        rows = service.engine.snapshot_rows(request, offset=offset or 0, count=limit)
        return _Reply(
            rows, chosen, offset or 0, limit, max(service.settings.read_memory_bytes // 4, 1)
        )

    with service.reads.enter():
        async with Job.opened(service.workers.cpu, begin, _Reply.close) as job:
            reply = job.owned
            headers = {
                "content-type": MEDIA_TYPES[chosen],
                "etag": _tag(reply.table_id, reply.version, query, chosen),
                "x-fletching-version": str(reply.version),
                "vary": "accept",
                "accept-ranges": "rows",
                "x-content-type-options": "nosniff",
            }
            status = 200
            if given is not None:
                if given[0] >= reply.total:
                    raise RangeNotSatisfiableError(
                        f"the range begins at row {given[0]}, and there are {reply.total}",
                        content_range=f"rows */{reply.total}",
                    )
                status = 206
                end = min(reply.total, given[0] + (reply.total if given[1] is None else given[1]))
                headers["content-range"] = f"rows {given[0]}-{end - 1}/{reply.total}"
            await exchange.start(reply.length, status=status, headers=headers)
            await send_source(exchange, job, reply.source, reply.first)


def _given_range(exchange: Exchange, query: dict[str, str]) -> tuple[int, int | None] | None:
    """The rows that a Range header asks for: offset, and their number if it has an end.

    One that cannot be honoured (another unit, several ranges, beside a filter or an offset) is passed
    over, as HTTP wants it: the reply is then whole, and says so by its status.
    """
    match = _RANGE.fullmatch(exchange.joined_header("range").strip())
    # Of HEAD a range is no part (RFC 9110, 14.2).
    if match is None or exchange.is_bodiless or {"filter", "offset", "limit"} & query.keys():
        return None
    start = int(match[1])
    if not match[2]:
        return start, None
    return (start, int(match[2]) - start + 1) if int(match[2]) >= start else None


def _with_columns(
    request: CreateReadSession, info: TableInfo, columns: str | None
) -> CreateReadSession:
    """The request with the wanted columns, of both kinds.

    Raises:
        InvalidArgumentError: no column is named, or one twice.
    """
    import msgspec

    if columns is None:
        return request
    names = [name.strip() for name in columns.split(",")]
    lowered = [name.casefold() for name in names]
    if not all(names) or len(set(lowered)) != len(names):
        raise InvalidArgumentError("columns are names with commas between, each once")
    partition = {column.name.casefold() for column in info.schema.partition_columns}
    return msgspec.structs.replace(
        request,
        required_data_columns=tuple(name for name in names if name.casefold() not in partition),
        required_partition_columns=tuple(name for name in names if name.casefold() in partition),
    )


def _tag(table_id: str, version: int, query: dict[str, list[str]], chosen: FileFormat) -> str:
    """A strong entity tag: the table's version, and what was asked of it."""
    asked = sorted((key, values) for key, values in query.items() if key != "version")
    digest = hashlib.sha256(repr((table_id, chosen.value, asked)).encode()).hexdigest()[:16]
    return f'"{version}-{digest}"'


class BegunReply:
    """A reply whose beginning is in memory; prepared in a worker, owned by a `Job`.

    Attributes:
        source: what it consists of; a subclass sets it.
        first: the beginning, after `begin`.
    """

    source: BufferSource

    def begin(self) -> None:
        """Makes the beginning; closes the source if that fails."""
        try:
            self.first = self.source.next_chunk()
        except BaseException:
            self.source.close()
            raise

    @property
    def ended(self) -> bool:
        """See `BufferSource`."""
        return self.source.ended

    def close(self) -> None:
        """See `BufferSource`."""
        self.source.close()


class _Reply(BegunReply):
    """A reply whose beginning is in memory; prepared in a worker, owned by a `Job`.

    Attributes:
        source: the bytes, group by group.
        version, table_id, total: of the snapshot; ``total`` counts its rows before a filter.
        first: the first buffers.
        length: bytes of all, if that is known.
    """

    def __init__(
        self,
        rows: SnapshotRows,
        chosen: FileFormat,
        offset: int,
        limit: int | None,
        group_bytes: int,
    ) -> None:
        self.version, self.table_id, self.total = rows.version, rows.table_id, rows.total
        plan = rows.plan
        # With a filter, rows are counted among those that it lets through.
        counted = plan.rows is None and (offset or limit is not None)
        if chosen is FileFormat.STREAM and not counted:
            self.source, self.length = PlanSource(plan, group_bytes), plan.length
        else:
            batches = plan.batches()
            if counted:
                batches = _counted(batches, offset, limit)
            self.source = WrittenRows(plan.schema, batches, chosen, group_bytes)
            self.length = None
        self.begin()


def _counted(
    batches: Iterator[pa.RecordBatch], offset: int, limit: int | None
) -> Iterator[pa.RecordBatch]:
    """``limit`` rows from the ``offset``th on; no batch is asked for beyond them."""
    left = limit
    for batch in batches:
        if left == 0:
            return
        if offset >= batch.num_rows:
            offset -= batch.num_rows
            continue
        part = batch.slice(offset, left)
        offset = 0
        if left is not None:
            left -= part.num_rows
        yield part


_TEXT_BYTES = 16 << 20
"""Bytes of rows that are made text at once."""
_ANY = float("inf")  # what may be stored may be read


class _Collected(io.RawIOBase):
    """A sink that keeps what is written until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[bytes] = []
        self.held = self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer) -> int:
        # A copy, because the writer uses its buffer again.
        part = bytes(data)
        self.parts.append(part)
        self.held += len(part)
        self._position += len(part)
        return len(part)

    def tell(self) -> int:
        return self._position

    def take(self) -> list[bytes]:
        taken, self.parts, self.held = self.parts, [], 0
        return taken


class WrittenRows:
    """Batches written in a format; a `BufferSource`."""

    def __init__(
        self,
        schema: pa.Schema,
        batches: Iterator[pa.RecordBatch],
        chosen: FileFormat,
        group_bytes: int,
    ) -> None:
        self._batches = batches
        self._pieces = self._cut()
        self._sink = _Collected()
        self._group_bytes = group_bytes
        self._whole = chosen in {FileFormat.STREAM, FileFormat.PARQUET}
        self.ended = False
        try:
            self._writer = row_writer(self._sink, schema, chosen)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as exc:
            raise InvalidArgumentError(f"{chosen} cannot hold these columns: {exc}") from exc

    def next_chunk(self) -> Sequence[Buffer]:
        """Writes batches until there is enough to send; see `BufferSource`."""
        while self._sink.held < self._group_bytes and not self.ended:
            piece = next(self._pieces, None)
            if piece is None:
                self._writer.close()
                self.ended = True
                break
            self._write(piece)
        return self._sink.take()

    def _cut(self) -> Iterator[pa.RecordBatch]:
        for batch in self._batches:
            if self._whole:
                if batch.num_rows:
                    yield batch
                continue
            # A text repeats the values of dictionaries and runs: no piece becomes larger than this.
            for part in in_parts(batch, at_most=_ANY, part_bytes=_TEXT_BYTES):
                for start in range(0, part.num_rows, CONVERTED_ROWS):
                    yield part.slice(start, CONVERTED_ROWS)

    def _write(self, batch: pa.RecordBatch) -> None:
        try:
            self._writer.write_batch(batch)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as exc:
            raise InvalidArgumentError(f"a value cannot be written in this format: {exc}") from exc

    def buffered_chunk(self) -> Sequence[Buffer]:
        """Nothing: writing is work."""
        return ()

    def close(self) -> None:
        """Closes the plan's iterator, and with it what it has open."""
        close = getattr(self._batches, "close", None)
        if close is not None:
            close()


class _Result(BegunReply):
    """The rows of a result, in a format."""

    def __init__(self, service: Service, request: ReadInstance, chosen: FileFormat) -> None:
        plan = service.engine.read(request)
        group_bytes = max(service.settings.read_memory_bytes // 4, 1)
        if chosen is FileFormat.STREAM:
            self.source = PlanSource(plan, group_bytes)
        else:
            self.source = WrittenRows(plan.schema, iter(plan.batches()), chosen, group_bytes)
        self.begin()


async def send_result(
    exchange: Exchange, service: Service, project: str, instance: str, wanted: str | None
) -> None:
    """Answers with all rows of a result; whether the caller may see them was asked before.

    Raises:
        InvalidArgumentError: no such format, or the statement chose no rows.
        NotFoundError: the result is gone.
    """
    chosen = format_of_request(wanted, "", "format")
    if chosen is None:
        raise InvalidArgumentError("which format? arrow, parquet, csv or jsonl")
    request = ReadInstance(project=project, instance_id=instance, session_id=instance, offset=0)
    extension = {"stream": "arrows"}.get(chosen.value, chosen.value)
    with service.reads.enter():
        async with Job.opened(
            service.workers.cpu, lambda: _Result(service, request, chosen), _Result.close
        ) as job:
            headers = {
                "content-type": MEDIA_TYPES[chosen],
                "content-disposition": f'attachment; filename="result-{instance}.{extension}"',
                "x-content-type-options": "nosniff",
            }
            await exchange.start(None, headers=headers)
            await send_source(exchange, job, job.owned.source, job.owned.first)
