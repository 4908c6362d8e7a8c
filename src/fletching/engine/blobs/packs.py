"""Packs: immutable objects that hold the blobs of one upload.

======  ==============  ====================================================================
offset  bytes           meaning
======  ==============  ====================================================================
0       8               magic ``FLTPACK1``
8       ..              records, one per blob, without padding:
..      4               CRC32C of the metadata, little-endian
..      metadata        the header of the blob's frame: a JSON object
..      data            the blob
..      32 per record   index: offset, metadata length (with its CRC32C), data length, CRC32C of the
                        data; four little-endian uint64
..      24              index length in bytes, CRC32C of the index, both little-endian uint64; magic
======  ==============  ====================================================================

A reference names a record's place and needs no index; the index lists a pack's blobs to whoever has
nothing but the pack. The metadata is stored as the JSON that a download sends.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from crc32c import crc32c
from typing_extensions import Buffer

from fletching.errors import CorruptObjectError
from fletching.objects.store import ObjectSink, StoredObject
from fletching.wire.blob_frames import BlobHeader

__all__ = [
    "CHECKSUM_BYTES",
    "MAX_METADATA_BYTES",
    "PackRecord",
    "PackWriter",
    "check_pack",
    "pack_bytes",
    "read_header",
    "read_index",
]

MAGIC = b"FLTPACK1"
CHECKSUM_BYTES = 4
# Old readers want the header of a download below 1024 bytes; a checksum announcement may come on top.
MAX_METADATA_BYTES = 1000
_INDEX_ROW_BYTES = 32
_TRAILER_BYTES = 24
# Small pieces gather up to this before they are written: each write is a system call.
_GATHERED_BYTES = 1 << 20
_GATHERED_PIECES = 512
_CHECKED_BYTES = 4 << 20


def pack_bytes(records: int, count: int) -> int:
    """How long a pack is whose ``count`` records take so many bytes."""
    return len(MAGIC) + records + _INDEX_ROW_BYTES * count + _TRAILER_BYTES


class PackRecord(NamedTuple):
    """Where a blob is in its pack; see the module's table."""

    offset: int
    metadata_length: int
    length: int
    crc32c: int

    @property
    def data_start(self) -> int:
        """Where the data starts."""
        return self.offset + self.metadata_length

    @property
    def end(self) -> int:
        """Where the record ends."""
        return self.offset + self.metadata_length + self.length


@dataclasses.dataclass(slots=True)
class _Open:
    """The record being written."""

    offset: int
    metadata_length: int
    length: int = 0
    crc32c: int = 0


class PackWriter:
    """Writes a pack into an object sink: ``begin``, ``data`` any number of times, ``end``, ...

    Data goes through: nothing of a blob is kept. Buffers given to ``data`` are borrowed until the
    next ``flush``. Not thread-safe. The sink's owner aborts it.
    """

    def __init__(self, sink: ObjectSink) -> None:
        self._sink = sink
        self._records: list[PackRecord] = []
        self._open: _Open | None = None
        self._gathered: list[Buffer] = []
        self._gathered_bytes = 0
        self._crc32c = 0
        self.length = 0
        self._write(MAGIC)

    @property
    def blobs(self) -> int:
        """Records completed."""
        return len(self._records)

    @property
    def crc32c(self) -> int:
        """Of all bytes of the pack so far."""
        return self._crc32c

    def begin(self, header: BlobHeader) -> None:
        """Begins a record with the metadata that a download will send."""
        json = header.to_json()
        metadata = crc32c(json).to_bytes(CHECKSUM_BYTES, "little") + json
        self._open = _Open(self.length, len(metadata))
        self._write(metadata)

    def data(self, data: Buffer) -> None:
        """Appends to the record's data."""
        record = self._open
        assert record is not None, "data outside a record"
        view = memoryview(data).cast("B")
        record.length += len(view)
        record.crc32c = crc32c(view, record.crc32c)
        self._write(view)

    def end(self) -> PackRecord:
        """Ends the record."""
        record = self._open
        assert record is not None, "no record is open"
        self._open = None
        done = PackRecord(record.offset, record.metadata_length, record.length, record.crc32c)
        self._records.append(done)
        return done

    def finish(self) -> None:
        """Writes the index; the sink can then be committed."""
        index = np.array(self._records, "<u8").reshape(-1, 4).tobytes()
        self._write(index)
        self._write(len(index).to_bytes(8, "little") + crc32c(index).to_bytes(8, "little") + MAGIC)
        self.flush()

    def flush(self) -> None:
        """Hands everything to the sink; borrowed buffers are free after it."""
        if self._gathered:
            self._sink.write_many(self._gathered)
            self._gathered = []
            self._gathered_bytes = 0

    def _write(self, data: Buffer) -> None:
        length = memoryview(data).nbytes
        if not length:
            return
        self._crc32c = crc32c(data, self._crc32c)
        self.length += length
        self._gathered.append(data)
        self._gathered_bytes += length
        if self._gathered_bytes >= _GATHERED_BYTES or len(self._gathered) >= _GATHERED_PIECES:
            self.flush()


def read_header(metadata: memoryview, key: str) -> bytes:
    """The JSON of a record's metadata, verified; copies at most 1000 bytes.

    Raises:
        CorruptObjectError: it disagrees with its checksum.
    """
    json = bytes(metadata[CHECKSUM_BYTES:])
    stored = int.from_bytes(metadata[:CHECKSUM_BYTES], "little")
    if crc32c(json) != stored:
        raise CorruptObjectError(
            f"the metadata of a blob in {key} disagrees with its checksum", key=key
        )
    return json


def read_index(pack: StoredObject) -> list[PackRecord]:
    """The records of a pack, from its index; blocks.

    Raises:
        CorruptObjectError: not a pack, or its index is damaged.
    """

    def damaged(what: str) -> CorruptObjectError:
        return CorruptObjectError(f"{pack.key} is not a whole pack: {what}", key=pack.key)

    if pack.length < len(MAGIC) + _TRAILER_BYTES:
        raise damaged(f"{pack.length} bytes are too few")
    trailer = pack.read(pack.length - _TRAILER_BYTES, pack.length)
    if bytes(trailer[16:]) != MAGIC or bytes(pack.read(0, len(MAGIC))) != MAGIC:
        raise damaged("the magic is missing")
    length = int.from_bytes(trailer[:8], "little")
    end = pack.length - _TRAILER_BYTES
    if length % _INDEX_ROW_BYTES or length > end - len(MAGIC):
        raise damaged(f"an index of {length} bytes cannot be")
    index = pack.read(end - length, end)
    if crc32c(index) != int.from_bytes(trailer[8:16], "little"):
        raise damaged("the index disagrees with its checksum")
    rows = np.frombuffer(index, "<u8").reshape(-1, 4).tolist()
    records = [PackRecord(*row) for row in rows]
    position = len(MAGIC)
    for record in records:
        if record.offset != position or record.metadata_length < CHECKSUM_BYTES:
            raise damaged(f"a record at {record.offset} does not follow its neighbour")
        position = record.end
    if position != end - length:
        raise damaged("the records do not reach the index")
    return records


def check_pack(pack: StoredObject, expected_crc32c: int | None = None) -> Iterator[PackRecord]:
    """Reads a whole pack and verifies every checksum in it; yields its records; blocks.

    Args:
        pack: the object.
        expected_crc32c: of all its bytes, as the catalog has it; None if it is not known.

    Raises:
        CorruptObjectError: something disagrees.
    """
    records = read_index(pack)
    whole = crc32c(pack.read(0, len(MAGIC)))
    for record in records:
        metadata = pack.read(record.offset, record.data_start)
        read_header(metadata, pack.key)
        whole = crc32c(metadata, whole)
        data_crc32c = 0
        for start in range(record.data_start, record.end, _CHECKED_BYTES):
            data = pack.read(start, min(start + _CHECKED_BYTES, record.end))
            data_crc32c = crc32c(data, data_crc32c)
            whole = crc32c(data, whole)
        if data_crc32c != record.crc32c:
            raise CorruptObjectError(
                f"the blob at {record.offset} of {pack.key} disagrees with its checksum",
                key=pack.key,
            )
        yield record
    tail = records[-1].end if records else len(MAGIC)
    whole = crc32c(pack.read(tail, pack.length), whole)
    if expected_crc32c is not None and whole != expected_crc32c:
        raise CorruptObjectError(f"{pack.key} disagrees with its checksum", key=pack.key)
