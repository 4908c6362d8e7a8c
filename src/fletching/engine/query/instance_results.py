"""Rows of queries as they are kept: a few beside the statement's outcome, more as segments of their own."""

from __future__ import annotations

import csv
import functools
import io
import itertools
from collections.abc import Iterator
from email.utils import formatdate

import msgspec
import pyarrow as pa

from fletching.catalog.instance_rows import InstanceRow
from fletching.engine.context import EngineContext
from fletching.engine.query.local_times import in_local_time
from fletching.engine.query.result_segments import ResultSegments
from fletching.engine.query.value_text import csv_cells
from fletching.engine.reading.batch_strategies import batch_rows, buffer_codec
from fletching.engine.reading.read_plan import Computed, Literal, Piece, ReadPlan, Repeatable
from fletching.errors import ConflictError, InvalidArgumentError, NotFoundError
from fletching.ipc.encoding import encode_batch, encode_schema
from fletching.ipc.message import END_OF_STREAM
from fletching.protocol.messages.requests import ReadInstance
from fletching.protocol.messages.responses import InstanceReadSession, TableSchema
from fletching.protocol.types.table_schema import table_schema

__all__ = ["INLINE_BYTES", "MAX_CSV_ROWS", "Results", "Selection", "selection_of"]

MAX_CSV_ROWS = 10_000
"""Rows that a query prints when its result is asked for as text."""

INLINE_BYTES = 256 * 1024
"""Results up to this size are kept beside the outcome; larger ones are segments."""

_BATCH_ROWS = 65_536


class Selection(msgspec.Struct, frozen=True, omit_defaults=True):
    """What statements left beside their text.

    Attributes:
        has_rows: whether the last one was a query.
        rows: how many rows it chose.
        stream: the rows as an Arrow IPC stream, if they are few.
        listing: the key of the object that lists the segments that hold them otherwise.
        affected: how many rows were changed; None for statements that change none.
        cancelled: whether the statement was cancelled.
        error: (HTTP status, code, message) of a failure.
        input_bytes: how much the scans have read, decoded.
        time_zone: whose clocks the rows' times are printed by; empty for UTC.
    """

    has_rows: bool = False
    rows: int = 0
    stream: bytes = b""
    listing: str = ""
    affected: int | None = None
    cancelled: bool = False
    error: tuple[int, str, str] | None = None
    input_bytes: int = 0
    time_zone: str = ""


def selection_of(row: InstanceRow) -> Selection:
    """What is kept of an instance that has ended; of one that has not, nothing."""
    if not row.selection:
        return Selection()
    return _SELECTION.decode(row.selection)


class Results:
    """Keeps rows of queries and reads them. Thread-safe; blocks on storage."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self._segments = ResultSegments(context)

    # --- keeping -----------------------------------------------------------------------------

    def store(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Selection:
        """Keeps the rows of a query as they come."""
        held: list[pa.RecordBatch] = []
        size = 0
        for batch in batches:
            held.append(batch)
            size += batch.nbytes
            if size > INLINE_BYTES:
                break
        else:
            sink = io.BytesIO()
            with pa.ipc.new_stream(sink, schema) as writer:
                for batch in held:
                    writer.write_batch(batch)
            rows = sum(batch.num_rows for batch in held)
            return Selection(has_rows=True, rows=rows, stream=sink.getvalue())
        listing, rows = self._segments.write(schema, itertools.chain(held, batches))
        return Selection(has_rows=True, rows=rows, listing=listing)

    # --- what there is -----------------------------------------------------------------------

    def arrow_schema(self, row: InstanceRow) -> pa.Schema | None:
        """The columns of a query's rows; None if the statement was no query."""
        selection = selection_of(row)
        return self._arrow_schema(selection) if selection.has_rows else None

    def schema(self, row: InstanceRow) -> TableSchema:
        """The columns of a query's result.

        Raises:
            InvalidArgumentError: the statement chose no rows.
            ConflictError: it has not ended.
        """
        return self._schema(self._selection(row))

    def rows(self, row: InstanceRow) -> int:
        """How many rows a query chose."""
        return self._selection(row).rows

    def text(self, row: InstanceRow) -> str:
        """What the statement printed; a query prints its first rows as CSV."""
        if not _has_rows(row):
            return row.result
        selection = selection_of(row)
        sink = io.StringIO()
        writer = csv.writer(sink, quoting=csv.QUOTE_ALL, lineterminator="\n")
        schema, batches = self._batches(selection, 0, min(selection.rows, MAX_CSV_ROWS), ())
        writer.writerow(schema.names)
        fields = {field.name.casefold(): field for field in schema}
        _, rows = in_local_time((schema, batches), fields, selection.time_zone)
        for batch in rows:
            columns = list(map(csv_cells, batch.columns, schema))
            # Rows of text are what was asked for, and there are at most MAX_CSV_ROWS of them.
            writer.writerows(zip(*columns, strict=True))
        return sink.getvalue()

    # --- reading -----------------------------------------------------------------------------

    def session(self, row: InstanceRow) -> InstanceReadSession:
        """The session in which a query's rows are read.

        Raises:
            InvalidArgumentError: the statement chose no rows.
            ConflictError: it has not ended.
        """
        selection = self._selection(row)
        return InstanceReadSession(
            session_id=row.id,
            record_count=selection.rows,
            schema=self._schema(selection),
            owner=row.owner,
            initiated=formatdate(row.created_at, usegmt=True),
        )

    @staticmethod
    def _selection(row: InstanceRow) -> Selection:
        if not row.ended_at:
            raise ConflictError(f"instance {row.id} has not ended yet")
        if not _has_rows(row):
            raise InvalidArgumentError(f"instance {row.id} is no SELECT: it has no rows to read")
        return selection_of(row)

    def _schema(self, selection: Selection) -> TableSchema:
        return table_schema(self._arrow_schema(selection))

    def _arrow_schema(self, selection: Selection) -> pa.Schema:
        return self._batches(selection, 0, 0, ())[0]

    def read(self, row: InstanceRow, request: ReadInstance) -> ReadPlan:
        """Plans rows of a result.

        Raises:
            NotFoundError: no such instance or session.
            InvalidArgumentError: an offset or column outside the result.
        """
        selection = self._selection(row)
        if row.id != request.session_id:
            raise NotFoundError(f"instance {row.id} has no read session {request.session_id}")
        if request.offset > selection.rows:
            raise InvalidArgumentError(
                f"offset {request.offset} is beyond the {selection.rows} rows of the result"
            )
        rest = selection.rows - request.offset
        count = rest if request.count is None else min(request.count, rest)
        if selection.listing:
            return self._segments.plan(
                selection.listing,
                request.offset,
                count,
                request.columns,
                max_rows=batch_rows(request.max_batch_rows),
                codec=buffer_codec(request.buffer_codec),
            )
        return self._computed(selection, request, count)

    def _computed(self, selection: Selection, request: ReadInstance, count: int) -> ReadPlan:
        """Rows that are kept beside the outcome."""

        def batches() -> Iterator[pa.RecordBatch]:
            _, result = self._batches(selection, request.offset, count, request.columns)
            for batch in result:
                step = request.max_batch_rows or _BATCH_ROWS
                for start in range(0, batch.num_rows, step):
                    yield batch.slice(start, step)

        def pieces() -> Iterator[Piece]:
            yield Literal(encode_schema(schema))
            for batch in batches():
                encode = functools.partial(encode_batch, batch, compression=request.buffer_codec)
                yield Computed(encode, None)
            yield Literal(END_OF_STREAM)

        schema, _ = self._batches(selection, 0, 0, request.columns)
        return ReadPlan(
            schema=schema, rows=count, length=None, pieces=Repeatable(pieces), batches=batches
        )

    def _batches(
        self, selection: Selection, offset: int, count: int, columns: tuple[str, ...]
    ) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """The result's schema, and rows ``offset`` to ``offset + count`` of it."""
        if not selection.listing:
            if not selection.stream:
                # Of an earlier release, which kept them in another way.
                raise NotFoundError("the rows of the result are kept no longer")
            with pa.ipc.open_stream(selection.stream) as reader:
                whole = reader.read_all()
            if columns:
                by_name = {name.casefold(): name for name in whole.schema.names}
                unknown = [name for name in columns if name.casefold() not in by_name]
                if unknown:
                    raise InvalidArgumentError(f"the result has no column {unknown[0]!r}")
                whole = whole.select([by_name[name.casefold()] for name in columns])
            return whole.schema, (b for b in whole.slice(offset, count).to_batches() if b.num_rows)
        plan = self._segments.plan(selection.listing, offset, count, columns)
        return plan.schema, plan.batches() if count else iter(())


def _has_rows(row: InstanceRow) -> bool:
    """Whether the last statement was a query that succeeded."""
    return row.succeeded and selection_of(row).has_rows


# At import: see protocol/codec/codec_admin.py.
_SELECTION = msgspec.msgpack.Decoder(Selection)
