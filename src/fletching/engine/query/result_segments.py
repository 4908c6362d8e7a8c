"""Rows of large results: segments of their own, which no catalog knows, so that no lock is needed to keep them.

A result is some segments under ``results/``, and an object that lists them, whose key the outcome of the
statement has. The keys begin with the moment of the result, so that a listing says what is too old: also of
statements whose process died before it could tell anybody of them.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
import pyarrow as pa
from typing_extensions import Buffer

from fletching.catalog.segment_rows import SegmentRow, encode_partition
from fletching.engine.cache import RecentlyUsed
from fletching.engine.context import EngineContext
from fletching.engine.reading.batch_strategies import ReadOptions
from fletching.engine.reading.message_checks import MessageChecks
from fletching.engine.reading.output_schema import TableColumns
from fletching.engine.reading.planning import plan_rows
from fletching.engine.reading.read_plan import ReadPlan
from fletching.engine.reading.scan_schema import ScanSchema
from fletching.engine.reading.snapshot import Snapshot
from fletching.engine.writing.segment_writer import SegmentWriter
from fletching.errors import CorruptObjectError, NotFoundError, ObjectNotFoundError, StorageError
from fletching.ipc.encoding import BatchEncoder
from fletching.objects.store import ObjectInfo
from fletching.objects.write_behind import WriteBehindQueue
from fletching.protocol.messages.requests import ArrowOptions
from fletching.types import RowRange

__all__ = ["KEPT_SECONDS", "RESULTS_PREFIX", "ResultSegments", "forget_results"]

RESULTS_PREFIX: Final = "results"

KEPT_SECONDS = 86_400.0
"""How long a statement, and what it chose, can be asked for."""

SEGMENT_BYTES = 512 << 20
"""A segment that has become so long is followed by another one."""

_CACHED_BYTES = 64 << 20
_SCHEMA_VERSION = 1


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    """What the object that lists a result's segments holds, as MessagePack."""

    arrow_schema: bytes
    segments: list[SegmentRow]


class _Opened:
    """A result that is read: its columns, and where its rows are."""

    def __init__(self, kept: _Kept) -> None:
        schema = pa.ipc.read_schema(pa.py_buffer(kept.arrow_schema))
        columns = TableColumns(
            data=schema,
            partition=(),
            column_ids=tuple((number,) for number in range(1, len(schema) + 1)),
        )
        self.snapshot = Snapshot.of(kept.segments)
        self.scan_schema = ScanSchema(
            columns=columns,
            versions={_SCHEMA_VERSION: columns},
            indices=tuple(range(len(schema))),
            options=ArrowOptions(timestamp_unit=None, datetime_unit=None),
            verbatim_types=True,
        )


class ResultSegments:
    """Writes and reads rows of results. Thread-safe; blocks on the object store, never on the catalog."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self._checks = MessageChecks()
        self._opened = RecentlyUsed[str, _Opened](
            _CACHED_BYTES, weight=lambda opened: opened.snapshot.size_bytes
        )

    def write(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> tuple[str, int]:
        """Keeps rows as they come; returns the key of the object that lists their segments, and how many.

        Raises:
            FletchingError: what computing or storing them raises; nothing is kept then.
        """
        store = self._context.store
        moment = int(self._context.clock())
        prefix = f"{RESULTS_PREFIX}/{moment}/{store.writer}-{secrets.token_hex(12)}"
        written: list[str] = []
        encoder = BatchEncoder(schema)
        try:
            segments = self._segments(encoder, batches, prefix, written)
            listing = f"{prefix}.list"
            sink = store.create(listing)
            try:
                sink.write(msgspec.msgpack.encode(_Kept(encoder.schema_message, segments)))
                sink.commit()
            except BaseException:
                sink.abort()
                raise
        except BaseException:
            self._context.delete_objects(written)
            raise
        return listing, sum(segment.rows for segment in segments)

    def _segments(
        self,
        encoder: BatchEncoder,
        batches: Iterator[pa.RecordBatch],
        prefix: str,
        written: list[str],
    ) -> list[SegmentRow]:
        rows: list[SegmentRow] = []
        while True:
            number = len(rows)
            result = self._segment(encoder, batches, f"{prefix}-{number}.arrow", number)
            if result is None:
                return rows
            written.append(result.key)
            rows.append(result)

    def _segment(
        self, encoder: BatchEncoder, batches: Iterator[pa.RecordBatch], key: str, number: int
    ) -> SegmentRow | None:
        """The next segment; None if there are no more rows."""
        first = next(batches, None)
        if first is None:
            return None
        write_queue = WriteBehindQueue()
        writer = SegmentWriter(
            self._context.store.create(key),
            encoder.schema_message,
            partition=encode_partition(()),
            schema_version=_SCHEMA_VERSION,
            write_queue=write_queue,
        )
        try:
            length = _write(writer, encoder, first)
            while length < SEGMENT_BYTES and (batch := next(batches, None)) is not None:
                length += _write(writer, encoder, batch)
            write_queue.flush()
            made = writer.complete()
            writer.commit()
        except BaseException:
            write_queue.drop()
            writer.abort()
            raise
        return made.as_row(number, added_version=1)

    def schema(self, listing: str) -> pa.Schema:
        """The columns of a result."""
        return self._open(listing).scan_schema.columns.data

    def plan(
        self,
        listing: str,
        offset: int,
        count: int,
        columns: Sequence[str] = (),
        *,
        max_rows: int | None = None,
        codec: str | None = None,
    ) -> ReadPlan:
        """The plan of rows ``offset`` to ``offset + count`` of a result.

        Args:
            listing: the key that `write` gave.
            offset: the first row; at most the number of rows.
            count: how many, of those that there are.
            columns: which, in any order; all by default.
            max_rows: most rows of a batch.
            codec: of the buffers; None for as stored.

        Raises:
            NotFoundError: the result is kept no longer.
            InvalidArgumentError: it has no such column.
            CorruptObjectError: what is stored is damaged.
        """
        opened = self._open(listing)
        return plan_rows(
            opened.snapshot,
            self._context.store,
            opened.scan_schema.projection_of(tuple(columns), unordered=True),
            RowRange(offset, offset + count),
            ReadOptions(max_rows=max_rows, codec=codec),
            checks=self._checks,
        )

    def _open(self, listing: str) -> _Opened:
        known = self._opened.get(listing)
        if known is None:
            try:
                stored = self._context.store.open(listing)
            except ObjectNotFoundError as error:
                raise NotFoundError("the rows of the result are kept no longer") from error
            try:
                data = bytes(stored.read(0, stored.length))
            finally:
                stored.close()
            try:
                known = _Opened(_KEPT.decode(data))
            except (msgspec.MsgspecError, pa.ArrowException) as error:
                raise CorruptObjectError(
                    "the list of a result's segments is damaged", key=listing
                ) from error
            self._opened.put(listing, known)
        return known


def _write(writer: SegmentWriter, encoder: BatchEncoder, batch: pa.RecordBatch) -> int:
    """Appends a batch of a result, whose columns are never dictionaries; returns its bytes."""
    length = 0
    for frame in encoder.encode(batch):
        metadata, *body = map(_size, frame)
        writer.write_batch(
            frame,
            metadata_length=metadata,
            body_length=sum(body),
            rows=batch.num_rows,
            codec=None,
        )
        length += metadata + sum(body)
    return length


def _size(piece: Buffer) -> int:
    return memoryview(piece).nbytes


def forget_results(context: EngineContext, *, dry_run: bool = False) -> list[ObjectInfo]:
    """Deletes what was kept of results for `KEPT_SECONDS`, and says what that is.

    Cost: a listing of what is kept. What the store refuses now is found again by the next look.
    """
    before = context.age_clock() - KEPT_SECONDS
    old: list[ObjectInfo] = []
    with contextlib.suppress(StorageError):
        old += (info for info in context.store.list(RESULTS_PREFIX) if _moment(info.key) < before)
    if not dry_run:
        context.delete_objects(info.key for info in old)
        # What somebody publishes in one of them still is as old as the others were.
        folders = context.folders(RESULTS_PREFIX)
        context.remove_folders(each for each in folders if _moment(each) < before)
    return old


def _moment(key: str) -> float:
    """The moment that a key says; of what is not one of ours, a moment that is never past."""
    name = key.split("/")[1]
    return float(name) if name.isascii() and name.isdigit() else float("inf")


# At import: see protocol/codec/codec_admin.py.
_KEPT = msgspec.msgpack.Decoder(_Kept)
