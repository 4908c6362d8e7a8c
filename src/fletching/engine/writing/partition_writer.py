"""Where batches go: one open segment per partition, and a new one where a file cannot go on.

A file's dictionaries may grow but not change, so a replaced dictionary begins a new segment. All
segments of a table have the table's own schema message, with dictionary ids from 0 depth-first.

With dynamic partitions, which rows of a batch belong to which is found out first.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from typing_extensions import Buffer

from fletching import ipc
from fletching.catalog.write_stream_rows import NewSegment
from fletching.engine.tables.partitions import canonical_value
from fletching.engine.tables.statistics import StatisticsBuilder
from fletching.engine.writing.matching import is_spelt, stored_array
from fletching.engine.writing.segment_writer import SegmentWriter
from fletching.errors import InvalidArgumentError, LimitExceededError
from fletching.ipc.batch_sizes import bytes_of
from fletching.ipc.dictionaries import has_dictionary
from fletching.ipc.encoding import BatchEncoder
from fletching.ipc.message import as_view
from fletching.ipc.metadata import MessageType, read_message_header
from fletching.objects.store import ObjectSink
from fletching.objects.write_behind import WriteBehindQueue
from fletching.protocol.types.row_selection import take_rows

__all__ = ["OpenPartition", "PartitionWriter", "group_rows", "partition_rows"]

_PENDING_ROWS = 65_536
_PENDING_BYTES = 8 << 20
_TOTAL_PENDING_BYTES = 64 << 20
_COMMIT_THREADS = 8

Frame = Sequence[Buffer]


class OpenPartition:
    """One partition's segments: finished ones, the open one, and small batches that wait for company."""

    def __init__(self, partition: str) -> None:
        self.partition = partition
        self.writers: list[SegmentWriter] = []
        self.encoder: BatchEncoder | None = None
        self.encoder_codec: str | None = None
        self.pending: list[pa.RecordBatch] = []
        self.pending_rows = 0
        self.pending_bytes = 0


@dataclasses.dataclass(frozen=True, slots=True)
class _Encoded:
    """A message as its encoder made it."""

    frame: Frame
    metadata_length: int
    body_length: int
    dictionary_id: int | None
    is_delta: bool


class PartitionWriter:
    """The segments of one TableWrite. Not thread-safe.

    Attributes:
        queue: writes their messages; flushed by ``finish`` and dropped by ``abort``.
    """

    def __init__(
        self,
        create_object: Callable[[str], ObjectSink],
        *,
        key_prefix: str,
        schema: pa.Schema,
        schema_message: bytes,
        schema_version: int,
        max_partitions: int,
    ) -> None:
        self._create_object = create_object
        self._key_prefix = key_prefix
        self._schema = schema
        self._schema_message = schema_message
        self._schema_version = schema_version
        self._max_partitions = max_partitions
        self._has_dictionaries = any(map(has_dictionary, schema.types))
        self._partitions: dict[str, OpenPartition] = {}
        self._numbers = itertools.count()
        self._pending_bytes = 0
        self.queue = WriteBehindQueue()

    # --- messages as they are ---

    def write_message(
        self,
        partition: str,
        frame: Frame,
        *,
        metadata_length: int,
        body_length: int,
        rows: int,
        codec: str | None,
        columns: Sequence[pa.Array],
        dictionaries: Iterable[tuple[int, Sequence[ipc.Message]]] = (),
    ) -> int:
        """Stores a record batch message without touching it; returns its CRC32C.

        Args:
            partition: the catalog's text.
            frame: the message in pieces, aligned to 8 bytes.
            metadata_length: with prefix and padding.
            body_length: of the body.
            rows: of the batch.
            codec: of its buffers.
            columns: its arrays in the order of the table's columns, for the statistics.
            dictionaries: per dictionary that its schema has, the messages that made what it is now:
                a first one and deltas.
        """
        opened = self._opened(partition)
        self._flush(opened)
        writer = self._writer(opened)
        needed = list(dictionaries)
        if any(
            not _continues(writer.dictionaries.get(id_, ()), messages) for id_, messages in needed
        ):
            writer = self._next_writer(opened)
        for id_, messages in needed:
            for message in messages[len(writer.dictionaries.get(id_) or ()) :]:
                writer.write_dictionary(
                    message.frame(),
                    metadata_length=message.metadata_length,
                    body_length=message.body_length,
                    dictionary_id=id_,
                )
            writer.dictionaries[id_] = tuple(messages)
        checksum = writer.write_batch(
            frame,
            metadata_length=metadata_length,
            body_length=body_length,
            rows=rows,
            codec=codec,
        )
        if writer.statistics is not None:
            writer.statistics.add(columns)
        return checksum

    # --- batches to encode ---

    def write_batch(self, partition: str, batch: pa.RecordBatch, codec: str | None) -> None:
        """Encodes and stores a batch of the table's schema."""
        opened = self._opened(partition)
        self._flush(opened)
        self._encode(opened, batch, codec)

    def write_part(self, partition: str, batch: pa.RecordBatch, codec: str | None) -> None:
        """The same for a small piece of a larger batch: pieces are put together before encoding.

        The batch must have memory of its own, or it would keep the larger one alive.
        """
        opened = self._opened(partition)
        if self._has_dictionaries:
            # Their indices mean different dictionaries; joining would have to unify them.
            self._encode(opened, batch, codec)
            return
        size = bytes_of(batch)
        opened.pending.append((batch, codec))
        opened.pending_rows += batch.num_rows
        opened.pending_bytes += size
        self._pending_bytes += size
        if opened.pending_rows >= _PENDING_ROWS or opened.pending_bytes >= _PENDING_BYTES:
            self._flush(opened)
        elif self._pending_bytes >= _TOTAL_PENDING_BYTES:
            for each in self._partitions.values():
                self._flush(each)

    def _flush(self, opened: OpenPartition) -> None:
        if not opened.pending:
            return
        pending, opened.pending = opened.pending, []
        self._pending_bytes -= opened.pending_bytes
        opened.pending_rows = opened.pending_bytes = 0
        for codec, group in itertools.groupby(pending, key=lambda item: item[1]):
            batches = [batch for batch, _ in group]
            if len(batches) > 1:
                # Small pieces are copied into one batch: readers pay per batch for ever. Not where
                # offsets would overflow, or Arrow cannot join a type.
                with contextlib.suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
                    batches = [pa.concat_batches(batches)]
            for batch in batches:
                self._encode(opened, batch, codec)

    def _encode(self, opened: OpenPartition, batch: pa.RecordBatch, codec: str | None) -> None:
        writer = self._writer(opened)
        encoder = opened.encoder
        if encoder is None or opened.encoder_codec != codec:
            if self._has_dictionaries and writer.batch_count:
                # The file's dictionaries come from the writer's own messages or another encoder.
                writer = self._next_writer(opened)
            encoder = self._new_encoder(opened, codec)
        messages = self._messages(encoder.encode(batch))
        written = {
            m.dictionary_id for m in messages if m.dictionary_id is not None and not m.is_delta
        }
        if written & writer.dictionaries.keys():
            writer = self._next_writer(opened)
            encoder = self._new_encoder(opened, codec)
            messages = self._messages(encoder.encode(batch))
        for message in messages:
            if message.dictionary_id is not None:
                writer.write_dictionary(
                    message.frame,
                    metadata_length=message.metadata_length,
                    body_length=message.body_length,
                    dictionary_id=message.dictionary_id,
                )
                writer.dictionaries[message.dictionary_id] = None
            else:
                writer.write_batch(
                    message.frame,
                    metadata_length=message.metadata_length,
                    body_length=message.body_length,
                    rows=batch.num_rows,
                    codec=codec,
                )
        if writer.statistics is not None:
            writer.statistics.add(batch.columns)

    def _messages(self, frames: Iterable[Sequence[Buffer]]) -> list[_Encoded]:
        """What an encoder gave; of a table without dictionaries nothing is parsed to know it."""
        if self._has_dictionaries:
            return [_read(frame) for frame in frames]
        result = []
        for frame in frames:
            metadata, *body = (as_view(piece).nbytes for piece in frame)
            result.append(_Encoded(frame, metadata, sum(body), None, is_delta=False))
        return result

    def _new_encoder(self, opened: OpenPartition, codec: str | None) -> BatchEncoder:
        opened.encoder, opened.encoder_codec = BatchEncoder(self._schema, compression=codec), codec
        return opened.encoder

    # --- segments ---

    def _opened(self, partition: str) -> OpenPartition:
        opened = self._partitions.get(partition)
        if opened is None:
            if len(self._partitions) >= self._max_partitions:
                raise LimitExceededError(
                    "one TableWrite touches too many partitions",
                    limit=self._max_partitions,
                    actual=len(self._partitions) + 1,
                )
            opened = self._partitions[partition] = OpenPartition(partition)
        return opened

    def _writer(self, opened: OpenPartition) -> SegmentWriter:
        return opened.writers[-1] if opened.writers else self._next_writer(opened)

    def _next_writer(self, opened: OpenPartition) -> SegmentWriter:
        key = f"{self._key_prefix}-{next(self._numbers)}.arrow"
        writer = SegmentWriter(
            self._create_object(key),
            self._schema_message,
            partition=opened.partition,
            schema_version=self._schema_version,
            statistics=StatisticsBuilder(self._schema),
            write_queue=self.queue,
        )
        opened.writers.append(writer)
        opened.encoder = None
        return writer

    def finish(
        self, key_run: Callable[[str, int, int], bytearray] | None = None
    ) -> list[NewSegment]:
        """Makes every segment durable; they are in no catalog yet. In row order per partition.

        Args:
            key_run: in a table with a key, makes the key run of the rows of a partition (the
                catalog's text) from one to another, counted over the partition's segments.

        Raises:
            StorageError: the store failed; call ``abort``.
        """
        for opened in self._partitions.values():
            self._flush(opened)
        self.queue.flush()
        writers = [writer for opened in self._partitions.values() for writer in opened.writers]
        segments: list[NewSegment] = []
        for opened in self._partitions.values():
            rows = 0
            for writer in opened.writers:
                run = (
                    None if key_run is None else key_run(opened.partition, rows, rows + writer.rows)
                )
                segments.append(writer.complete(run))
                rows += writer.rows
        if len(writers) > 1:
            # Their fsyncs wait together for what may be one journal commit of the disk.
            with concurrent.futures.ThreadPoolExecutor(min(_COMMIT_THREADS, len(writers))) as pool:
                for outcome in [pool.submit(writer.commit) for writer in writers]:
                    outcome.result()
        else:
            for writer in writers:
                writer.commit()
        return segments

    def release(self) -> None:
        """Gives up every segment without touching the store: from now on they are the catalog's."""
        for opened in self._partitions.values():
            opened.writers.clear()
            opened.pending.clear()

    def abort(self) -> list[str]:
        """Drops what is not committed; returns the keys of all, committed ones to be deleted."""
        keys = []
        self.queue.drop()
        for opened in self._partitions.values():
            for writer in opened.writers:
                writer.abort()
                keys.append(writer.key)
            opened.writers.clear()
            opened.pending.clear()
        return keys


def _continues(known: tuple[ipc.Message, ...] | None, messages: Sequence[ipc.Message]) -> bool:
    """Whether a file that has ``known`` of a dictionary can go on to what ``messages`` make."""
    return (
        known is not None
        and len(known) <= len(messages)
        and all(a is b for a, b in zip(known, messages, strict=False))
    )


def _read(frame: Sequence[Buffer]) -> _Encoded:
    """A message that may be a dictionary."""
    head = as_view(frame[0])
    header = read_message_header(head[8:])
    dictionary = header.dictionary_batch() if header.type is MessageType.DICTIONARY_BATCH else None
    return _Encoded(
        frame,
        len(head),
        header.body_length,
        None if dictionary is None else dictionary.id,
        dictionary is not None and dictionary.is_delta,
    )


def group_rows(
    columns: Sequence[tuple[str, str]], fields: Sequence[pa.Field], arrays: Sequence[pa.Array]
) -> list[tuple[tuple[str, ...], pa.Array | None]]:
    """Divides a batch's rows by their partition values.

    Args:
        columns: (name, ODPS type) of the dynamic partition columns.
        fields: their Arrow fields.
        arrays: their columns of one batch with at least one row.

    Returns:
        (values, indices) pairs: an int64 Arrow array of the rows in their order, or None for all
        rows when there is only one pair. Work per distinct value in Python, per row in Arrow.

    Raises:
        InvalidArgumentError: a value is null or not valid.
    """
    codes: NDArray[np.int64] = np.zeros(1, np.int64)
    spellings: list[list[str]] = []
    for (name, kind), field, array in zip(columns, fields, arrays, strict=True):
        spelt = is_spelt(array.type, field.type)
        encoded = (array if spelt else stored_array(array, field.type, name)).dictionary_encode()
        if encoded.null_count:
            raise InvalidArgumentError(f"partition column {name} has null in the data")
        values = encoded.dictionary.cast(pa.string()).to_pylist()
        spellings.append([canonical_value(name, kind, value) for value in values])
        numbers = encoded.indices.to_numpy().astype(np.int64, copy=False)
        codes = codes * len(values) + numbers
    distinct, inverse = np.unique(codes, return_inverse=True)
    keys = []
    for rest in distinct.tolist():
        parts, code = [], rest
        for spelling in reversed(spellings):
            code, number = divmod(code, len(spelling))
            parts.append(spelling[number])
        keys.append(tuple(reversed(parts)))
    if len(keys) == 1:
        return [(keys[0], None)]
    order = np.argsort(inverse, kind="stable")
    bounds = np.cumsum(np.bincount(inverse, minlength=len(keys)))
    groups: dict[tuple[str, ...], list[NDArray[np.int64]]] = {}
    start = 0
    for key, end in zip(keys, bounds.tolist(), strict=True):
        groups.setdefault(key, []).append(order[start:end])
        start = end
    # Two spellings of one value ("07" and "7" are one integer only after conversion) meet here.
    return [
        (key, pa.array(parts[0] if len(parts) == 1 else np.sort(np.concatenate(parts))))
        for key, parts in groups.items()
    ]


def partition_rows(batch: pa.RecordBatch, rows: pa.Array) -> pa.RecordBatch:
    """Some rows of a batch, in memory of their own.

    Raises:
        InvalidArgumentError: a column's type can neither be taken from nor put together by pyarrow.
    """
    try:
        return take_rows(batch, rows)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise InvalidArgumentError(
            "a column's type is one that pyarrow cannot divide: a batch with it must belong to one"
            f" partition ({error})"
        ) from error
