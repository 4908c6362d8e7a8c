"""Read plans as manifests: what a client that reaches the segments itself has to fetch, and from where.

The batches of a plan go into a manifest as they would into a reply (`planning`): whole stored messages
with their checksums, or projected ones as new metadata and ranges. What must be computed is left to the
service as ranges of rows; so is every batch of a segment that has lost rows or a column, since a source is a
whole segment, and whoever has it would see what was deleted.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from fletching.engine.reading.message_checks import MessageChecks
from fletching.engine.reading.read_plan import DirectRead, Literal, SourceNames
from fletching.engine.reading.segment_reader import DictionaryChunks, SegmentReader
from fletching.engine.reading.snapshot import Snapshot
from fletching.errors import FletchingError
from fletching.ipc.message import END_OF_STREAM
from fletching.ipc.projection import Projection
from fletching.objects.store import StoredObject
from fletching.protocol.messages.manifest import (
    MANIFEST_FORMAT,
    Assembled,
    Inline,
    Manifest,
    ManifestPiece,
    Rows,
    Source,
    SourceKind,
    SourceRange,
    Stored,
)
from fletching.types import RowRange

if TYPE_CHECKING:
    from fletching.engine.reading.physical_projection import PhysicalProjection

__all__ = ["PlannedRows", "make_manifest", "signed_sources"]

_WINDOW_BATCHES: Final = 1 << 13

MOST_MESSAGES: Final = 200_000
"""Stored messages that one manifest lists, 12 bytes each."""

MOST_PROJECTED: Final = 2_048
"""Projected messages that one manifest describes: their metadata is read before it can be sent."""

MOST_BYTES: Final = 4 << 30
"""Bytes of segments that one manifest covers, so that the next is made before sources have expired."""

MOST_INLINE_BYTES: Final = 6 << 20
"""Bytes that a manifest carries itself. What does not fit any more is for the next one."""


class PlannedRows(Protocol):
    """What a plan knows of its batches; see `planning`."""

    snapshot: Snapshot
    projection: PhysicalProjection
    wanted: RowRange

    @property
    def computes(self) -> NDArray[np.bool_]:
        """For each batch of the plan whether it must be computed."""

    def runs(self) -> Iterator[tuple[enum.Enum, int, int]]:
        """(strategy, first batch, end batch) of neighbours that have the same one."""

    def reader(self, batch: int, current: SegmentReader | None) -> SegmentReader:
        """The reader of a batch's segment."""

    def projected(
        self, reader: SegmentReader, first: int, end: int
    ) -> Iterator[tuple[int, int, Projection]]:
        """(offset, metadata length, projection) of each batch of a run that is projected."""


class _Sources:
    """Segments by number, as they are first referred to."""

    def __init__(self) -> None:
        self.objects: list[StoredObject] = []
        self._numbers: dict[str, int] = {}

    def number(self, reader: SegmentReader) -> int:
        """The number of a segment; it is opened."""
        key = reader.row.key
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.objects)
            self.objects.append(reader.unchecked)
        return number


class _Making:
    """One manifest while it is made."""

    def __init__(self, plan: PlannedRows, checks: MessageChecks) -> None:
        self._plan = plan
        self._checks = checks
        self.sources = _Sources()
        self.pieces: list[ManifestPiece] = [Inline(plan.projection.schema_message)]
        self.rows = 0
        self.complete = True
        self._messages = self._projected = self._inline = self._bytes = 0

    def make(self) -> None:
        """Goes through the plan until it ends or a limit is reached."""
        plan = self._plan
        snapshot = plan.snapshot
        reader: SegmentReader | None = None
        dictionaries: DictionaryChunks | None = None
        withheld = _Withheld(plan)
        for strategy, first, end in plan.runs():
            index = snapshot.batch_segment[first]
            if strategy.name == "COMPUTE" or withheld(index, index + 1)[0]:
                self._leave(end)
                continue
            stop = first + self._room(first, end)
            if stop == first:
                self.complete = False
                return
            previous, reader = reader, plan.reader(first, reader)
            if plan.projection.has_dictionaries:
                if reader is not previous or dictionaries is None:
                    first_one = dictionaries is None
                    dictionaries = DictionaryChunks(reader, plan.projection, first=first_one)
                self._add_dictionaries(reader, dictionaries, snapshot.offset[stop - 1])
            if strategy.name == "AS_IS":
                last = stop - 1
                self._add_stored(
                    reader,
                    snapshot.offset[first],
                    snapshot.offset[last] + snapshot.message_length[last],
                )
            else:
                for planned in plan.projected(reader, first, stop):
                    self._add_projected(reader, *planned)
            self.rows = self._row_after(stop)
            if stop < end:
                self.complete = False
                return

    def _room(self, first: int, end: int) -> int:
        """How many batches of a run still fit."""
        snapshot = self._plan.snapshot
        taken = snapshot.byte_start[first : end + 1] - snapshot.byte_start[first]
        room = int(np.searchsorted(taken[1:], MOST_BYTES - self._bytes, side="right"))
        if not self._bytes:
            room = max(room, 1)  # whatever its size, or nothing would ever come
        room = min(room, end - first, MOST_MESSAGES - self._messages)
        room = min(room, MOST_PROJECTED - self._projected)
        if self._inline > MOST_INLINE_BYTES:
            return 0
        room = max(room, 0)
        self._bytes += int(taken[room])
        return room

    def _row_after(self, end: int) -> int:
        plan = self._plan
        return min(plan.snapshot.row_start[end], plan.wanted.end) - plan.wanted.start

    def _leave(self, end: int) -> None:
        """Leaves the rows before a batch to the service."""
        start = self.rows
        self.rows = self._row_after(end)
        if self.rows == start:
            return
        last = self.pieces[-1]
        if isinstance(last, Rows):
            self.pieces[-1] = Rows(last.start, self.rows - last.start)
        else:
            self.pieces.append(Rows(start, self.rows - start))

    def _add_stored(self, reader: SegmentReader, start: int, end: int) -> None:
        lengths, checksums = self._checks.recorded(reader.unchecked, reader.row, start, end)
        number = self.sources.number(reader)
        self._messages += len(lengths)
        self.pieces.append(
            Stored(
                number,
                start,
                lengths.astype("<i8").tobytes(),
                checksums.astype("<u4").tobytes(),
            )
        )

    def _add_dictionaries(
        self, reader: SegmentReader, dictionaries: DictionaryChunks, before: int
    ) -> None:
        absent = dictionaries.take_absent()
        if absent:
            self._assemble((absent,))
        pieces = list(dictionaries.pieces_before(before))
        for position, piece in enumerate(pieces):
            if isinstance(piece, Literal):
                continue
            head = pieces[position - 1] if position else None
            if isinstance(head, Literal):
                # New metadata around the stored body.
                number = self.sources.number(reader)
                body = SourceRange(number, piece.start, piece.end)
                self._assemble((bytes(head.data), body))
            else:
                self._add_stored(reader, piece.start, piece.end)

    def _add_projected(
        self, reader: SegmentReader, offset: int, metadata_length: int, plan: Projection
    ) -> None:
        self._projected += 1
        body = offset + metadata_length
        number = self.sources.number(reader)
        parts: list[bytes | SourceRange] = [plan.prefix]
        for piece in plan.slices:
            if isinstance(piece, bytes):
                parts.append(piece)
                continue
            start, end = body + piece.start, body + piece.end
            last = parts[-1]
            if isinstance(last, SourceRange) and last.end == start:
                parts[-1] = SourceRange(number, last.start, end)
            else:
                parts.append(SourceRange(number, start, end))
        self._assemble(tuple(parts))

    def _assemble(self, parts: tuple[bytes | SourceRange, ...]) -> None:
        self._inline += sum(len(part) if isinstance(part, bytes) else 24 for part in parts)
        self.pieces.append(Assembled(parts))

    @property
    def left_to_service(self) -> int:
        """Rows that the pieces leave to be computed."""
        return sum(piece.count for piece in self.pieces if isinstance(piece, Rows))


def make_manifest(
    plan: PlannedRows,
    checks: MessageChecks | None,
    *,
    kind: SourceKind,
    names: SourceNames,
    least_bytes: int,
    valid_seconds: float,
) -> DirectRead | None:
    """The manifest of a plan, or of its beginning; None where the plain reply is better. Blocks.

    Args:
        plan: which batches, and how they get into the reply.
        checks: knows the messages' checksums.
        kind: how the client reaches segments.
        names: how each of them is reached.
        least_bytes: a read of fewer bytes of segments is not worth the client's way to them.
        valid_seconds: how long the names are good for.

    Raises:
        CorruptObjectError: what is stored is damaged.
    """
    if not _reaches(plan, least_bytes):
        return None
    making = _Making(plan, checks or MessageChecks())
    making.make()
    # Of the rest the service would be asked piece by piece.
    if not making.sources.objects or 2 * making.left_to_service > making.rows:
        return None
    sources = names(making.sources.objects)
    if sources is None:
        return None
    manifest = Manifest(
        format=MANIFEST_FORMAT,
        kind=kind,
        rows=making.rows,
        complete=making.complete,
        valid_seconds=valid_seconds,
        sources=tuple(sources),
        pieces=(*making.pieces, Inline(END_OF_STREAM)),
    )
    return DirectRead(manifest, tuple(making.sources.objects))


def _reaches(plan: PlannedRows, least_bytes: int) -> bool:
    """Whether a client may fetch so many bytes of messages: of all but those that are computed."""
    snapshot = plan.snapshot
    computes = plan.computes
    withheld = _Withheld(plan)
    first = max(snapshot.batch_at(plan.wanted.start), 0)
    reached = 0
    for done in range(0, len(computes), _WINDOW_BATCHES):
        near = computes[done : done + _WINDOW_BATCHES]
        window = slice(first + done, first + done + len(near))
        owner = snapshot.batch_segment[window]
        base = int(owner[0])
        closed = near | withheld(base, int(owner[-1]) + 1)[owner - base]
        reached += int(snapshot.message_length[window][~closed].sum())
        if reached >= least_bytes:
            return True
    return reached >= least_bytes


class _Withheld:
    """Which segments of the snapshot have what the version that is read has lost: columns or rows."""

    def __init__(self, plan: PlannedRows) -> None:
        self._snapshot = plan.snapshot
        complete = [plan.projection.keeps_columns(version) for version, _ in plan.snapshot.kinds]
        self._of_kind = ~np.array(complete, dtype=bool)
        self._selections = np.array(sorted(plan.snapshot.selections), dtype=np.int64)

    def __call__(self, first: int, end: int) -> NDArray[np.bool_]:
        """For segments ``first`` to ``end``."""
        withheld = self._of_kind[self._snapshot.segment_kind[first:end]]
        low, high = np.searchsorted(self._selections, [first, end]).tolist()
        withheld[self._selections[low:high] - first] = True
        return withheld


def signed_sources(
    sign: Callable[[Sequence[str], float], Sequence[str]], seconds: float
) -> SourceNames:
    """Names segments by signed URLs; none where the store's credentials cannot sign."""

    def names(objects: Sequence[StoredObject]) -> list[Source] | None:
        try:
            urls = sign([each.key for each in objects], seconds)
        except FletchingError:
            # The service itself can read them, so that the plain reply will do.
            return None
        return [Source(each.length, url) for each, url in zip(objects, urls, strict=True)]

    return names
