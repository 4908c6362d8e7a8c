"""Which rows of a read a client on this host may take out of the segments' files itself.

A segment is shared as a whole: whoever has its descriptor can read every row and column of it. So it is
shared only with callers that may read the whole table (grants are of tables), and never while the
snapshot shows less of it than it has: what was deleted, or dropped with its column, must not be handed
out. Rows of such segments, and values that must be computed, stay with the service, which is asked for
them in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from fletching.catalog.segment_rows import SegmentRow
from fletching.engine.reading.message_checks import MessageChecks
from fletching.engine.reading.physical_projection import PhysicalProjection, SegmentColumns
from fletching.engine.reading.segment_reader import SegmentReader
from fletching.engine.reading.snapshot import Snapshot
from fletching.ipc.encoding import encode_schema
from fletching.objects.store import ObjectStore, StoredObject
from fletching.protocol.messages.mapped_rows import (
    CONSTANT,
    MAX_SEGMENTS,
    MappedRows,
    SegmentLayout,
    SegmentRun,
    ServiceRun,
)
from fletching.types import RowRange

__all__ = ["SharedFiles", "SharedSegments", "descriptor_of", "share_rows"]

SHARED_BYTES = 1 << 30
"""About how much one reply covers: messages are proven before their segment is shared, and a client
should not wait for the proof of a whole table."""


LEAST_BYTES = 512 << 10
"""Fewer bytes are sent in less time than it takes to pass descriptors and map files."""


_Message = TypeVar("_Message")


class SharedFiles(Generic[_Message]):
    """The reply to a read with descriptors, and the open files whose descriptors go along.

    Attributes:
        message: where in the files is what was asked for.
        ended: see `fletching.server.workers.Owned`: the files are to be closed.
    """

    ended = False

    def __init__(self, message: _Message, files: Sequence[StoredObject]) -> None:
        """Owns the files until `close`."""
        self.message = message
        self._files = files

    @property
    def descriptors(self) -> list[int]:
        """One per file, lent until `close`."""
        result = map(descriptor_of, self._files)
        return [each for each in result if each is not None]

    def close(self) -> None:
        """Closes the files; idempotent."""
        for file in self._files:
            file.close()
        self._files = ()


SharedSegments = SharedFiles[MappedRows]


def descriptor_of(stored: StoredObject) -> int | None:
    """The descriptor of an object that is a file; see `StoredObject`."""
    return getattr(stored, "descriptor", None)


def share_rows(
    snapshot: Snapshot,
    store: ObjectStore,
    projection: PhysicalProjection,
    wanted: RowRange,
    *,
    checks: MessageChecks | None = None,
) -> SharedSegments | None:
    """Where the first rows of ``wanted`` are; None if the service had better send them.

    That is if there are few, or if the first of them must come from the service anyway.

    Opens segments and, the first time that they are used whole, proves their messages; blocks.

    Raises:
        CorruptObjectError: a segment is missing or damaged.
    """
    first = snapshot.batch_at(wanted.start)
    last = snapshot.row_start.searchsorted(wanted.end, "left")
    if snapshot.byte_start[last] - snapshot.byte_start[first] < LEAST_BYTES:
        return None
    sharing = _Sharing(snapshot, store, projection, checks)
    try:
        sharing.cover(wanted)
    except BaseException:
        sharing.close()
        raise
    if not sharing.readers:
        return None
    return SharedFiles(sharing.message(wanted), [reader.unchecked for reader in sharing.readers])


class _Sharing:
    """Collects runs, segment after segment."""

    def __init__(
        self,
        snapshot: Snapshot,
        store: ObjectStore,
        projection: PhysicalProjection,
        checks: MessageChecks | None,
    ) -> None:
        self.readers: list[SegmentReader] = []
        self._snapshot = snapshot
        self._store = store
        self._projection = projection
        self._checks = checks
        self._lengths: list[int] = []
        self._layouts: dict[tuple[int, tuple[str, ...]], int] = {}
        self._layout_list: list[SegmentLayout] = []
        self._runs: list[SegmentRun | ServiceRun] = []
        self._rows = 0
        self._bytes = 0

    def cover(self, wanted: RowRange) -> None:
        """Takes segments until the rows are covered, or enough is."""
        snapshot, position = self._snapshot, wanted.start
        while position < wanted.end:
            if len(self.readers) == MAX_SEGMENTS or self._bytes >= SHARED_BYTES:
                return
            first = snapshot.batch_at(position)
            index = snapshot.batch_segment[first]
            last = self._last_batch(first, snapshot.batches_of(index)[1])
            end = min(snapshot.row_start[last], wanted.end)
            if not self._share(index, first, position, end):
                if not self.readers:
                    return
                self._leave(position, end)
            self._rows += end - position
            position = end

    def _last_batch(self, first: int, last: int) -> int:
        """Where a run ends that begins with a batch: with the segment, or when it is enough."""
        before = self._snapshot.byte_start
        room = before[first] + SHARED_BYTES - self._bytes
        full = before.searchsorted(room, "right") - 1
        return min(max(full, first + 1), last)

    def _share(self, index: int, first: int, start: int, end: int) -> bool:
        """Adds rows ``start`` to ``end``, which are in one segment from batch ``first`` on."""
        snapshot = self._snapshot
        row = snapshot.segments[index]
        stored = self._projection.stored(row.schema_version)
        if stored.converts or index in snapshot.selections:
            return False
        if not self._projection.keeps_columns(row.schema_version):
            return False
        if row.codecs and not _takes_all(stored):
            return False  # the service decompresses what is asked for alone
        reader = SegmentReader(self._store, row, stored, self._checks)
        if descriptor_of(reader.unchecked) is None:
            reader.unchecked.close()
            return False
        self.readers.append(reader)
        stop = snapshot.row_start.searchsorted(end, "left")
        batches = slice(first, stop)
        starts = snapshot.offset[batches]
        ends = starts + snapshot.message_length[batches]
        if _takes_all(stored) or stored.has_dictionaries:
            self._prove(reader, int(starts[0]), int(ends[-1]))
        self._runs.append(
            SegmentRun(
                segment=len(self._lengths),
                layout=self._layout(reader, stored, snapshot.partition_of(first)),
                batches=_packed(starts, ends, snapshot.rows[batches]),
                dictionaries=_dictionaries(reader, row, int(ends[-1])),
                skip=start - snapshot.row_start[first],
                rows=end - start,
            )
        )
        self._lengths.append(row.length)
        self._bytes += int(ends[-1] - starts[0])
        return True

    def _leave(self, start: int, end: int) -> None:
        """Leaves rows to the service, together with those before them."""
        previous = self._runs[-1]
        if isinstance(previous, ServiceRun) and previous.offset + previous.count == start:
            self._runs[-1] = ServiceRun(previous.offset, end - previous.offset)
        else:
            self._runs.append(ServiceRun(start, end - start))

    @staticmethod
    def _prove(reader: SegmentReader, start: int, end: int) -> None:
        # Using the bytes proves them, unless they are proven; pages are brought in for that alone.
        reader.object.view(start, end)

    def _layout(
        self, reader: SegmentReader, stored: SegmentColumns, partition: tuple[str, ...]
    ) -> int:
        key = reader.row.schema_version, partition
        known = self._layouts.get(key)
        if known is not None:
            return known
        count = len(self._projection.table.data)
        # Dictionary ids are the segment's own.
        schema = (
            b"".join(reader.schema_message().frame())
            if stored.has_dictionaries
            else encode_schema(stored.schema)
        )
        self._layout_list.append(
            SegmentLayout(
                schema=schema,
                columns=tuple(CONSTANT if index is None else index for index in stored.source),
                constants=tuple(
                    partition[output.index - count] if output.index >= count else None
                    for output, index in zip(self._projection.outputs, stored.source, strict=True)
                    if index is None
                ),
                selected=stored.selected or stored.same,
            )
        )
        self._layouts[key] = len(self._layout_list) - 1
        return self._layouts[key]

    def message(self, wanted: RowRange) -> MappedRows:
        """What was collected."""
        return MappedRows(
            schema=self._projection.schema_message,
            lengths=tuple(self._lengths),
            layouts=tuple(self._layout_list),
            runs=tuple(self._runs),
            rows=self._rows,
            more=self._rows < wanted.length,
        )

    def close(self) -> None:
        """Closes what was opened."""
        for reader in self.readers:
            reader.unchecked.close()


def _takes_all(stored: SegmentColumns) -> bool:
    return len({index for index in stored.source if index is not None}) == len(stored.schema)


def _packed(*columns: NDArray[np.int64]) -> bytes:
    return np.stack(columns, axis=1).astype("<i8").tobytes()


def _dictionaries(reader: SegmentReader, row: SegmentRow, before: int) -> bytes:
    if not row.dictionary_index:
        return b""
    result = reader.dictionaries(before)
    return np.array([(each.offset, each.end, 0) for each in result], "<i8").tobytes()
