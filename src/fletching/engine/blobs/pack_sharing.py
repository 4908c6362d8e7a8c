"""Which packs a client on this host may read itself, and where its blobs are in them.

A pack is shared as a whole: whoever has its descriptor can read every blob in it. So each of them must be one
that the caller can have anyway: he shows a reference to it, or a row that the table shows now refers to
it, in a segment that shows all its rows. Blobs of rows that were deleted or purged, whose column was dropped,
or that no row came to refer to, keep their pack from being shared: its blobs are sent, one by one.

What a segment's rows refer to is read once and kept, for segments do not change; which of them the table
shows is looked at in each request.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fletching.catalog.blob_rows import PackLinks, links_of_packs
from fletching.catalog.table_rows import TableRow, table_by_id
from fletching.engine.blobs.blob_references import BlobReference, pack_key, record_locations
from fletching.engine.blobs.packs import pack_bytes
from fletching.engine.cache import RecentlyUsed
from fletching.engine.context import EngineContext
from fletching.engine.reading.read_calls import Reading
from fletching.engine.reading.scan_schema import ScanSchema
from fletching.engine.reading.segment_sharing import SharedFiles, descriptor_of
from fletching.engine.reading.snapshot import Snapshot
from fletching.errors import ObjectNotFoundError, StorageError
from fletching.objects.store import StoredObject
from fletching.protocol.messages.mapped_blobs import MAX_PACKS, NOT_SHARED, MappedBlobs
from fletching.protocol.types.blob_type import contains_blob

__all__ = ["PackSharing", "SharedPacks"]

LEAST_BYTES = 64 << 10
"""Fewer are sent in less time than it takes to pass a descriptor."""

PROVEN_ROWS = 8 << 20
"""A pack to which rows of larger segments refer is sent: to read all their references takes too long."""

_KEPT_BYTES = 64 << 20
_KEPT_ANSWERS = 100_000

Records: TypeAlias = Mapping[str, NDArray[np.uint64]]
"""Of each pack the records that rows refer to, by where they begin; each once."""


SharedPacks = SharedFiles[MappedBlobs]


class PackSharing:
    """Decides which packs are shared. Thread-safe; blocks."""

    def __init__(self, context: EngineContext, reading: Reading) -> None:
        self._context = context
        self._reading = reading
        # By the segment, the table's schema, and the columns of it that are shown.
        self._referred = RecentlyUsed[tuple[str, int, tuple[str, ...]], Records](
            _KEPT_BYTES, weight=lambda records: 200 + sum(map(_weight, records.items()))
        )
        # By the table, the version or session of it, and the pack.
        self._proven = RecentlyUsed[tuple[str, int | str, str], bool](_KEPT_ANSWERS)
        context.database.when_history_is_lost(self._proven.clear)
        context.database.when_history_is_lost(self._referred.clear)

    def share(
        self, references: Sequence[BlobReference], *, session_id: str | None = None
    ) -> SharedPacks | None:
        """Where the blobs are; None if they had better be sent.

        That is if they are few bytes, or if most of them are in packs that are not shared.

        Args:
            references: those that the caller shows.
            session_id: the read session whose rows and columns are all that he may read of their table; he may
                read all if None.

        Raises:
            NotFoundError, ExpiredSessionError: there is no such session.
        """
        total = sum(each.length for each in references)
        if total < LEAST_BYTES:
            return None
        by_pack: dict[str, list[BlobReference]] = {}
        for reference in references:
            by_pack.setdefault(reference.pack, []).append(reference)
        opened: dict[str, StoredObject] = {}
        try:
            for pack, shown in list(by_pack.items())[:MAX_PACKS]:
                result = self._open(shown[0])
                if result is not None:
                    opened[pack] = result
            shared = self._shared(by_pack, opened, session_id)
            for pack in set(opened) - shared:
                opened.pop(pack).close()
            sent = sum(each.length for each in references if each.pack not in opened)
            if 2 * sent > total:
                return None
            message = _message(references, opened)
            packs, opened = list(opened.values()), {}
        finally:
            for left in opened.values():
                left.close()
        return SharedFiles(message, packs)

    def _open(self, reference: BlobReference) -> StoredObject | None:
        """The pack, if it has a descriptor; who reads it otherwise says what it lacks."""
        try:
            pack = self._context.store.open(pack_key(reference.table_id, reference.pack))
        except ObjectNotFoundError:
            return None
        if descriptor_of(pack) is None:
            pack.close()
            return None
        return pack

    def _shared(
        self,
        by_pack: Mapping[str, Sequence[BlobReference]],
        opened: Mapping[str, StoredObject],
        session_id: str | None,
    ) -> set[str]:
        """Those of the open packs that may be shared."""
        shared: set[str] = set()
        unproven: dict[str, set[str]] = {}
        for pack, stored in opened.items():
            shown = set(by_pack[pack])
            if any(each.end > stored.length for each in shown):
                continue
            records = sum(each.metadata_length + each.length for each in shown)
            if pack_bytes(records, len(shown)) == stored.length:
                shared.add(pack)
            else:
                unproven.setdefault(by_pack[pack][0].table_id, set()).add(pack)
        for table_id, packs in unproven.items():
            shared |= self._referred_to(table_id, packs, session_id)
        return shared

    def _referred_to(self, table_id: str, packs: set[str], session_id: str | None) -> set[str]:
        """Those packs of which every blob is in a row that the caller is shown."""
        with self._context.database.read() as connection:
            table = table_by_id(connection, table_id)
            if table is None or table.dropped_at is not None:
                return set()
            shown = table.version if session_id is None else session_id
            known = {pack: self._proven.get((table_id, shown, pack)) for pack in packs}
            links = links_of_packs(connection, [pack for pack in packs if known[pack] is None])
        if links:
            rows = self._shown(table, session_id)
            for each in links:
                try:
                    known[each.pack] = rows is not None and self._is_whole(each, rows)
                except StorageError:
                    # Rows that cannot be read prove nothing. The blobs may be as they were: they are sent.
                    known[each.pack] = False
                self._proven.put((table_id, shown, each.pack), known[each.pack] or False)
        return {pack for pack, is_whole in known.items() if is_whole}

    def _shown(self, table: TableRow, session_id: str | None) -> _Shown | None:
        """The rows that the caller is shown; None if only reading tells which."""
        if session_id is None:
            result = self._reading.whole_table(table)
        else:
            of_session = self._reading.rows_of_session(session_id, table.name)
            if of_session is None:
                return None
            result = of_session
        scan_schema, snapshot = result
        fields = scan_schema.columns.data
        chosen = [fields.field(index) for index in scan_schema.indices if index < len(fields)]
        return _Shown(
            snapshot,
            scan_schema,
            [field for field in chosen if contains_blob(field.type)],
            {segment.key: index for index, segment in enumerate(snapshot.segments)},
        )

    def _is_whole(self, links: PackLinks, shown: _Shown) -> bool:
        """Whether rows that are shown refer to every blob of a pack."""
        result: NDArray[np.uint64] = np.empty(0, np.uint64)
        for key in links.segments:
            more = self._records(key, shown).get(links.pack)
            if more is not None:
                result = np.union1d(result, more) if len(result) else more
            if len(result) == links.blobs:
                return True
        return False

    def _records(self, key: str, shown: _Shown) -> Records:
        """What the rows of a segment refer to; nothing if they are not all shown."""
        index = shown.indices.get(key)
        if index is None or index in shown.snapshot.selections or not shown.fields:
            return {}
        if shown.snapshot.segments[index].rows > PROVEN_ROWS:
            return {}
        names = tuple(field.name for field in shown.fields)
        schema = max(shown.scan_schema.versions), names
        kept = self._referred.get((key, *schema))
        if kept is None:
            projection = shown.scan_schema.projection_of(names, unordered=True)
            plan = self._reading.plan_of_segment(shown.snapshot, index, projection)
            kept = _grouped(
                [
                    record_locations(batch.column(field.name), field.type)
                    for batch in plan.batches()
                    for field in shown.fields
                ]
            )
            self._referred.put((key, *schema), kept)
        return kept


@dataclasses.dataclass(frozen=True, slots=True)
class _Shown:
    """Rows of a table that somebody may read, and the columns of them that have blobs."""

    snapshot: Snapshot
    scan_schema: ScanSchema
    fields: Sequence[pa.Field]
    indices: Mapping[str, int]
    """Of segments, by key, where they are in the snapshot."""


def _grouped(result: Sequence[NDArray[np.void]]) -> Records:
    """The records of each pack."""
    distinct = np.unique(np.concatenate([np.empty(0, "V20"), *result]))
    rows = distinct.view(np.uint8).reshape(-1, 20)
    offsets = np.ascontiguousarray(rows[:, 12:]).view("<u8").reshape(-1)
    packs = np.ascontiguousarray(rows[:, :12]).view("V12").reshape(-1)
    firsts = np.ones(len(packs), np.bool_)
    firsts[1:] = packs[1:] != packs[:-1]
    starts = np.flatnonzero(firsts).tolist()
    return {
        packs[start].tobytes().hex(): np.sort(offsets[start:end])
        for start, end in itertools.pairwise([*starts, len(packs)])
    }


def _weight(item: tuple[str, NDArray[np.uint64]]) -> int:
    return 200 + item[1].nbytes


def _message(references: Sequence[BlobReference], packs: Mapping[str, StoredObject]) -> MappedBlobs:
    numbers = {pack: number for number, pack in enumerate(packs)}
    entries = np.array(
        [
            (
                numbers.get(each.pack, NOT_SHARED),
                each.offset,
                each.metadata_length,
                each.length,
                each.crc32c,
            )
            for each in references
        ],
        "<i8",
    )
    return MappedBlobs(tuple(pack.length for pack in packs.values()), entries.tobytes())
