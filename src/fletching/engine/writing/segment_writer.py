"""Writes one segment: an Arrow IPC file whose messages keep the bytes that their writer gave them.

The footer's custom metadata has, under ``fletching.crc32c``, eight hexadecimal digits for each
message in file order, the schema message first: the CRC32C of the encapsulated message, from its
continuation marker to the end of its body. Of a segment of some MiB it also says where the metadata of its
batches stands once more (`metadata_index`).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from crc32c import crc32c
from typing_extensions import Buffer

from fletching.catalog.write_stream_rows import NewSegment
from fletching.engine.tables.statistics import StatisticsBuilder
from fletching.engine.writing.metadata_index import METADATA_KEY, MetadataIndex
from fletching.engine.writing.stored_batches import StoredBatches
from fletching.errors import LimitExceededError
from fletching.hashing import crc32c_combine
from fletching.ipc.file_writer import Block, encode_footer
from fletching.ipc.message import END_OF_STREAM, MAGIC, Message
from fletching.objects.store import ObjectSink
from fletching.objects.write_behind import WriteBehindQueue

__all__ = ["CRC32C_KEY", "SegmentWriter", "segment_head"]

CRC32C_KEY: Final = b"fletching.crc32c"
_BATCH: Final = struct.Struct("<qqqq")
_COMBINED_BYTES: Final = 256 << 10
"""From this length on, combining checksums takes less time than a second pass over the bytes."""
_WRITTEN_BYTES: Final = 4 << 20
"""Of stored messages so many bytes are written at once: the disk begins with them while others are copied."""
_MAX_FOOTER_BYTES: Final = (1 << 31) - 1


def segment_head(schema_message: bytes) -> bytes:
    """The bytes before a segment's first batch: magic, padding and the framed schema message."""
    return MAGIC + bytes(-len(MAGIC) % 8) + schema_message


class SegmentWriter:
    """One segment being written. Not thread-safe.

    Attributes:
        partition: the catalog's text of the partition.
        rows: so far.
        statistics: the bounds of the columns so far, if anybody collects them.
        dictionaries: by id, the messages that made a dictionary what it is in the file; None for one that
            an encoder made.
    """

    def __init__(
        self,
        sink: ObjectSink,
        schema_message: bytes,
        *,
        partition: str,
        schema_version: int,
        statistics: StatisticsBuilder | None = None,
        write_queue: WriteBehindQueue | None = None,
    ) -> None:
        """Begins the file.

        Args:
            sink: takes the bytes; owned from here on, also if this fails.
            schema_message: framed, a multiple of 8 bytes long.
            partition: the catalog's text of the partition.
            schema_version: of the table, that the schema message is.
            statistics: collects the bounds of the columns; its owner feeds it.
            write_queue: writes messages while the caller goes on; flushed by its owner before
                ``complete``, and dropped before ``abort``. Without it messages are written at once.
        """
        self.partition = partition
        self.rows = 0
        self.dictionaries: dict[int, tuple[Message, ...] | None] = {}
        self._sink = sink
        self._write_queue = write_queue
        self._length = 0
        self._schema_version = schema_version
        self._schema_metadata = schema_message[8:]
        self.statistics = statistics
        self._crc32c = 0
        self._message_crc32cs: list[int] = [crc32c(schema_message)]
        self._batches: list[tuple[int, int, int, int]] = []
        self._dictionaries: list[tuple[int, int, int, int]] = []
        self._codecs: set[str] = set()
        self._metadata_index = MetadataIndex()
        try:
            self._put([segment_head(schema_message)])
        except BaseException:
            sink.abort()  # nobody else knows of it yet
            raise

    def write_batch(
        self,
        frame: Sequence[Buffer],
        *,
        metadata_length: int,
        body_length: int,
        rows: int,
        codec: str | None,
    ) -> int:
        """Appends a record batch message as it is; returns its CRC32C.

        Args:
            frame: the whole message in pieces; each of the two lengths a multiple of 8.
            metadata_length: bytes of prefix, metadata and padding.
            body_length: bytes of the body.
            rows: rows of the batch.
            codec: of its buffers; None if they are not compressed.
        """
        self._batches.append((self._length, metadata_length, body_length, rows))
        self._metadata_index.add(frame, metadata_length)
        self.rows += rows
        self._codecs.add(codec or "none")
        return self._message(frame)

    def write_stored(self, stored: StoredBatches, wanted: range, *, codec: str | None) -> None:
        """Appends record batch messages of another segment as they are: neighbours in one write.

        Args:
            stored: that segment.
            wanted: which of its batches, one after the other.
            codec: of their buffers.
        """
        first, start, end = wanted.start, 0, 0
        for number in wanted:
            offset, metadata_length, body_length, rows = stored.index[number]
            if number > first and (offset != end or offset - start >= _WRITTEN_BYTES):
                self._write_run(stored, first, number - 1)
                first = number
            start = stored.index[first][0]
            position = self._length + offset - start
            end = offset + metadata_length + body_length
            self._batches.append((position, metadata_length, body_length, rows))
            self._metadata_index.add([stored.data[offset:end]], metadata_length)
            self._message_crc32cs.append(stored.checksums[number])
            self.rows += rows
        if wanted:
            self._write_run(stored, first, wanted[-1])
            self._codecs.add(codec or "none")

    def _write_run(self, stored: StoredBatches, first: int, last: int) -> None:
        run = stored.data[stored.index[first][0] : stored.end(last)]
        self._crc32c = stored.checksum_behind(self._crc32c, first, last)
        self._length += len(run)
        self._sink.write_many([run])

    def write_dictionary(
        self,
        frame: Sequence[Buffer],
        *,
        metadata_length: int,
        body_length: int,
        dictionary_id: int,
    ) -> None:
        """Appends a dictionary batch message as it is; it must not replace one in the file."""
        self._dictionaries.append((self._length, metadata_length, body_length, dictionary_id))
        self._message(frame)

    def _message(self, frame: Sequence[Buffer]) -> int:
        value = 0
        length = 0
        for piece in frame:
            value = crc32c(piece, value)
            length += memoryview(piece).nbytes
        self._message_crc32cs.append(value)
        # The whole object's checksum lets any copy of the file be proven without parsing it.
        if length >= _COMBINED_BYTES:
            self._crc32c = crc32c_combine(self._crc32c, value, length)
        else:
            self._extend_crc32c(frame)
        self._length += length
        if self._write_queue is None:
            self._sink.write_many(frame)
        else:
            self._write_queue.write_many(self._sink, frame, length)
        return value

    def _put(self, buffers: Sequence[Buffer]) -> None:
        self._extend_crc32c(buffers)
        self._length += sum(memoryview(piece).nbytes for piece in buffers)
        self._sink.write_many(buffers)

    def _extend_crc32c(self, buffers: Sequence[Buffer]) -> None:
        for piece in buffers:
            self._crc32c = crc32c(piece, self._crc32c)

    @property
    def key(self) -> str:
        """The object's key."""
        return self._sink.key

    @property
    def batch_count(self) -> int:
        """Record batches so far."""
        return len(self._batches)

    def complete(self, key_run: bytearray | None = None) -> NewSegment:
        """Writes the end of the file; what is left to do is the sink's ``commit``.

        Args:
            key_run: what `engine/changes/key_runs` says of the rows' keys; it stands between the
                end of the stream and the footer.

        Raises:
            LimitExceededError: the footer is longer than the format can say.
            StorageError: the store failed.
        """
        marks = "".join(f"{value:08x}" for value in self._message_crc32cs).encode()
        behind = self._length + len(END_OF_STREAM)
        behind += 0 if key_run is None else len(key_run) + -len(key_run) % 8
        index = self._metadata_index.finish(self._length, behind)
        footer = encode_footer(
            self._schema_metadata,
            [Block(offset, metadata, body) for offset, metadata, body, _ in self._dictionaries],
            [Block(offset, metadata, body) for offset, metadata, body, _ in self._batches],
            {CRC32C_KEY: marks} | ({} if index is None else {METADATA_KEY: index[1]}),
        )
        if len(footer) > _MAX_FOOTER_BYTES:
            raise LimitExceededError(
                "a segment has too many batches for its footer",
                layer="footer",
                actual=len(footer),
                limit=_MAX_FOOTER_BYTES,
            )
        self._put([END_OF_STREAM])
        key_run_offset = None
        if key_run is not None:
            key_run_offset = self._length
            self._put([key_run, bytes(-len(key_run) % 8)])
        if index is not None:
            self._put([index[0], bytes(-len(index[0]) % 8)])
        self._put([footer, struct.pack("<i", len(footer)), MAGIC])
        codecs = self._codecs if self._codecs != {"none"} else set()
        return NewSegment(
            key=self._sink.key,
            partition=self.partition,
            schema_version=self._schema_version,
            rows=self.rows,
            length=self._length,
            crc32c=self._crc32c,
            batch_index=b"".join(_BATCH.pack(*row) for row in self._batches),
            dictionary_index=b"".join(_BATCH.pack(*row) for row in self._dictionaries),
            codecs=",".join(sorted(codecs)),
            statistics=None if self.statistics is None else self.statistics.encode(),
            key_run_offset=key_run_offset,
            key_run_length=None if key_run is None else len(key_run),
            zone_bounds=None if self.statistics is None else self.statistics.encode_zones(),
        )

    def commit(self) -> None:
        """Makes the object durable and visible in the store; see ``ObjectSink.commit``."""
        self._sink.commit()

    def abort(self) -> None:
        """Drops the object; idempotent, and without effect after ``commit``."""
        self._sink.abort()
