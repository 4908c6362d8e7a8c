"""Later versions of a snapshot, made from it: a few copies of arrays instead of the whole anew.

A writer that commits every second would else make every reader load, sort and add up all segments of the
table each time.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from fletching.catalog.deletion_rows import DeletionRow
from fletching.catalog.segment_rows import SegmentRow, decode_partition
from fletching.engine.reading.segment_list import SegmentList, insert_few
from fletching.engine.reading.shown_rows import LoadVector, RowSelection, WithoutDeletions
from fletching.engine.reading.snapshot import Snapshot, cumulative, index_of, size_of

__all__ = ["grow"]

_Int64 = NDArray[np.int64]
_FEW_PLACES = 64


def grow(
    snapshot: Snapshot,
    added: Sequence[SegmentRow],
    gone: Collection[int] = (),
    deletions: Sequence[DeletionRow] = (),
    load: LoadVector = lambda _: None,
) -> Snapshot:
    """A later version: what came and what went since this one.

    Args:
        snapshot: the earlier version.
        added: segments that the later version shows and this one does not.
        gone: ids of segments that this version shows and the later one does not.
        deletions: all that the later version shows.
        load: as of ``of``.

    Cost: a few copies of arrays, and work per segment that came, went or has lost rows; unless
    a segment came that does not stand behind the others of its partition: then as ``of``.

    Raises:
        CorruptObjectError: as of ``of``.
    """
    if not (added or gone or deletions or snapshot.selections):
        return snapshot
    plain = _with_all_rows(snapshot)
    if gone:
        plain = _without_segments(plain, gone)
    if added:
        appended = _with_segments(plain, added)
        if appended is None:
            return Snapshot.of([*plain.segments, *added], deletions, load)
        plain = appended
    return _without_rows(plain, deletions, load)


def _with_all_rows(snapshot: Snapshot) -> Snapshot:
    """The same without any deletion."""
    if not snapshot.selections and snapshot.rows is snapshot.stored_rows:
        return snapshot
    plain = dataclasses.replace(snapshot, rows=snapshot.stored_rows, selections={})
    plain.carry(
        kinds=snapshot.kinds,
        segment_kind=snapshot.segment_kind,
        segment_ids=snapshot.segment_ids,
        size_bytes=snapshot.size_bytes,
    )
    return plain


def _without_segments(snapshot: Snapshot, gone: Collection[int]) -> Snapshot:
    """This one, all of whose rows are shown, without some segments."""
    lost = np.isin(snapshot.segment_ids, np.fromiter(gone, dtype=np.int64, count=len(gone)))
    places = np.flatnonzero(lost).tolist()
    if not places:
        return snapshot
    kept = ~lost
    batches = kept[snapshot.batch_segment]
    owner = snapshot.segment_partition[kept]
    partitions = snapshot.partitions
    used = np.bincount(owner, minlength=len(partitions)) > 0
    if not used.all():
        partitions = tuple(itertools.compress(partitions, used.tolist()))
        owner = (np.cumsum(used) - 1)[owner]
    stored_rows = snapshot.stored_rows[batches]
    places_now = np.cumsum(kept) - 1
    removed = [snapshot.segments[place] for place in places]
    grown = Snapshot(
        segments=SegmentList.of(itertools.compress(snapshot.segments, kept.tolist())),
        partitions=partitions,
        segment_partition=owner,
        batch_segment=places_now[snapshot.batch_segment[batches]],
        offset=snapshot.offset[batches],
        metadata_length=snapshot.metadata_length[batches],
        body_length=snapshot.body_length[batches],
        stored_rows=stored_rows,
        rows=stored_rows,
    )
    grown.carry(
        kinds=snapshot.kinds,
        segment_kind=snapshot.segment_kind[kept],
        segment_ids=snapshot.segment_ids[kept],
        size_bytes=snapshot.size_bytes - size_of(removed, int((~batches).sum())),
    )
    return grown


def _without_rows(
    snapshot: Snapshot, deletions: Sequence[DeletionRow], load: LoadVector
) -> Snapshot:
    """This one, all of whose rows are shown, without those that are deleted."""
    wanted = np.fromiter({each.segment_id for each in deletions}, dtype=np.int64)
    places = np.flatnonzero(np.isin(snapshot.segment_ids, wanted)).tolist() if len(wanted) else []
    if not places:
        return snapshot
    of_segment: dict[int, list[DeletionRow]] = {}
    for deletion in deletions:
        of_segment.setdefault(deletion.segment_id, []).append(deletion)
    rows = snapshot.stored_rows.copy()
    selections: dict[int, RowSelection] = {}
    for place in places:
        segment = snapshot.segments[place]
        first, last = np.searchsorted(snapshot.batch_segment, [place, place + 1]).tolist()
        selections[place] = WithoutDeletions(
            segment.key, snapshot.stored_rows[first:last], of_segment[segment.id], load
        )
        rows[first:last] = selections[place].counts
    grown = dataclasses.replace(snapshot, rows=rows, selections=selections)
    grown.carry(
        kinds=snapshot.kinds,
        segment_kind=snapshot.segment_kind,
        segment_ids=snapshot.segment_ids,
        size_bytes=snapshot.size_bytes,
    )
    return grown


def _with_segments(snapshot: Snapshot, added: Sequence[SegmentRow]) -> Snapshot | None:
    """This one, all of whose rows are shown, and more segments.

    None if one does not belong behind the others of its partition.
    """
    values = [decode_partition(row.partition) for row in added]
    order = sorted(range(len(added)), key=lambda n: (values[n], added[n].position))
    segments = [added[number] for number in order]
    partitions, owner = snapshot.partitions, snapshot.segment_partition
    places = [bisect.bisect_left(partitions, each) for each in values]
    if any(
        place == len(partitions) or partitions[place] != each
        for place, each in zip(places, values, strict=True)
    ):
        partitions = tuple(sorted({*partitions, *values}))
        known = {each: number for number, each in enumerate(partitions)}
        owner = np.array([known[each] for each in snapshot.partitions], dtype=np.int64)[owner]
        places = [known[each] for each in values]
    new_owner = np.array([places[number] for number in order], dtype=np.int64)
    at = np.searchsorted(owner, new_owner, side="right")
    for row, number, mine in zip(segments, at.tolist(), new_owner.tolist(), strict=True):
        if number and owner[number - 1] == mine:
            before = snapshot.segments[number - 1]
            if before.position >= row.position:
                return None
    columns, mine, new_counts = index_of(segments)
    # Every new batch goes before the first one of the segment that its own goes before.
    first = np.searchsorted(snapshot.batch_segment, at, side="left")
    batch_at = np.repeat(first, new_counts)
    stored_rows = insert_few(snapshot.stored_rows, batch_at, columns[3])
    grown = Snapshot(
        segments=_listed(snapshot.segments).inserted(at.tolist(), segments),
        partitions=partitions,
        segment_partition=insert_few(owner, at, new_owner),
        batch_segment=_owners_with(snapshot, at, first, mine, new_counts),
        offset=insert_few(snapshot.offset, batch_at, columns[0]),
        metadata_length=insert_few(snapshot.metadata_length, batch_at, columns[1]),
        body_length=insert_few(snapshot.body_length, batch_at, columns[2]),
        stored_rows=stored_rows,
        rows=stored_rows,
    )
    kinds = tuple(
        dict.fromkeys((*snapshot.kinds, *((row.schema_version, row.codecs) for row in segments)))
    )
    kind = {each: number for number, each in enumerate(kinds)}
    new_kinds = np.array([kind[row.schema_version, row.codecs] for row in segments])
    lengths = columns[1] + columns[2]
    grown.carry(
        kinds=kinds,
        segment_kind=insert_few(snapshot.segment_kind, at, new_kinds),
        segment_ids=insert_few(snapshot.segment_ids, at, np.array([row.id for row in segments])),
        size_bytes=snapshot.size_bytes + size_of(segments, len(batch_at)),
        message_length=insert_few(snapshot.message_length, batch_at, lengths),
        row_start=_totals_with(snapshot.row_start, batch_at, columns[3]),
        byte_start=_totals_with(snapshot.byte_start, batch_at, lengths),
    )
    return grown


def _owners_with(
    snapshot: Snapshot, at: _Int64, first: _Int64, mine: _Int64, counts: _Int64
) -> _Int64:
    """``batch_segment`` with more segments: those behind each move on by one.

    Args:
        snapshot: the earlier version.
        at: before which segment each goes.
        first: and before which batch.
        mine: for each new batch, which of the new segments it is of.
        counts: how many batches each of them has.
    """
    if len(at) > len(snapshot.batch_segment) // 4:
        existing = np.bincount(snapshot.batch_segment, minlength=len(snapshot.segments))
        every = np.insert(existing, at, counts)
        return np.repeat(np.arange(len(every), dtype=np.int64), every)
    owners = np.empty(len(snapshot.batch_segment) + len(mine), dtype=np.int64)
    own = (at + np.arange(len(at)))[mine]
    start = taken = 0
    for number, (place, count) in enumerate(zip(first.tolist(), counts.tolist(), strict=True)):
        np.add(
            snapshot.batch_segment[start:place], number, out=owners[start + taken : place + taken]
        )
        owners[place + taken : place + taken + count] = own[taken : taken + count]
        start = place
        taken += count
    np.add(snapshot.batch_segment[start:], len(at), out=owners[start + taken :])
    return owners


def _listed(segments: Sequence[SegmentRow]) -> SegmentList:
    return segments if isinstance(segments, SegmentList) else SegmentList.of(segments)


def _totals_with(totals: _Int64, at: _Int64, values: _Int64) -> _Int64:
    """Running totals of numbers into which others are inserted, before some places.

    Cost: for a few places a copy, where adding everything up again would take several times that.
    """
    if len(at) > _FEW_PLACES:
        return cumulative(insert_few(np.diff(totals), at, values))
    out = np.empty(len(totals) + len(at), dtype=np.int64)
    start = more = 0
    for number, (place, value) in enumerate(zip(at.tolist(), values.tolist(), strict=True)):
        np.add(totals[start : place + 1], more, out=out[start + number : place + 1 + number])
        more += value
        out[place + 1 + number] = totals[place] + more
        start = place + 1
    np.add(totals[start:], more, out=out[start + len(at) :])
    return out
