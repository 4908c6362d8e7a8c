"""Merges: the rows of a write session meet those of the table that are equal to them in some columns.

The session's segments, which are durable and invisible, become the table's as they are where their
rows come whole; rows of them that do not come are never visible. Only where the columns of two rows
are put together, or one row of the session takes the place of several, rows are written anew.

The session's keys are in memory some at a time: of many rows those whose numbers fall into one part after the
other. Where no key run knows the keys, each part is another look at the table.

The module is long because a merge is one thing: its steps share the session's keys and what was found of them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyroaring import BitMap

from fletching.catalog.deletion_rows import bitmap_of
from fletching.catalog.segment_rows import SegmentRow
from fletching.catalog.write_stream_rows import StagedRows
from fletching.engine.changes.attempts import Draft
from fletching.engine.changes.key_values import (
    check_key_type,
    is_exact,
    joined_columns,
    key_numbers,
    last_of_key,
    plain_column,
    same_keys,
)
from fletching.engine.changes.keyed_merge import KeyedMerge
from fletching.engine.changes.near_rows import NearRows, near_by_key, near_by_scan, without_nulls
from fletching.engine.changes.pinned_table import GatheredRows, Matches, PinnedTable
from fletching.engine.changes.row_writer import RowWriter
from fletching.engine.changes.rows_meanwhile import RowsMeanwhile
from fletching.engine.context import EngineContext
from fletching.engine.reading.snapshot import Snapshot
from fletching.errors import InvalidArgumentError, RowsChangedError
from fletching.protocol.messages.changes import MergeRows, ReplaceRows
from fletching.protocol.types.row_selection import take_rows

__all__ = ["RowMerge", "replace_draft"]

KEYS_AT_ONCE = 1 << 20
"""How many rows of a session meet the table at once: some 120 MB."""

_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_NEAR_AT_ONCE = 1 << 16
"""Rows of which a key may be among those looked for, before it is searched for: some MB."""
_MATCHED = ("update", "delete", None)
_NOT_MATCHED = ("insert", None)
_NOT_BY_SOURCE = ("delete", None)


@dataclasses.dataclass(frozen=True, slots=True)
class _Source:
    """The keys of the session's rows that have one, ascending by number.

    Attributes:
        numbers: the keys.
        columns: their values.
        entry: which row of the session (counted over its segments) has each.
    """

    numbers: NDArray[np.uint64]
    columns: list[pa.Array]
    entry: NDArray[np.int64]


class RowMerge:
    """A merge bound to a table as it was pinned."""

    def __init__(
        self,
        context: EngineContext,
        view: PinnedTable,
        request: MergeRows,
        staged: Sequence[StagedRows],
    ) -> None:
        """Binds it.

        Raises:
            InvalidArgumentError: a clause, a column or a type that cannot be.
        """
        self._context = context
        self._view = view
        self._request = request
        self._staged = staged
        _check_clauses(request)
        columns = view.scan_schema.columns
        self._on = columns.find(request.on, among=range(len(columns.names)), what="table")
        if not self._on:
            raise InvalidArgumentError("a merge needs columns to match rows on")
        if request.last_wins:
            # A key is that of a row within its partition: a row of another one is not replaced.
            parts = range(len(view.schema), len(columns.names))
            self._on += tuple(index for index in parts if index not in self._on)
        for index in self._on:
            check_key_type(columns.names[index], columns.field(index).type)
        self._columns = (
            columns.find(request.columns, among=range(len(view.schema)), what="data")
            if request.columns
            else ()
        )
        self._whole: tuple[_Source, NDArray[np.bool_]] | None = None
        # The session's rows, as a table of their own beside the other.
        rows = [each.segment.as_row(number) for number, each in enumerate(staged)]
        self._source = PinnedTable(view.table, view.scan_schema, Snapshot.of(rows), view.store)
        self._starts = np.concatenate([[0], np.cumsum([row.rows for row in rows])]).astype(np.int64)
        self._rows = rows
        # Rows that are equal in every partition column are of one partition.
        equal = set(range(len(view.schema), len(columns.names))) <= set(self._on)
        self._within = frozenset(row.partition for row in rows) if equal else None

    # --- the session's keys ---------------------------------------------------------------------

    def _parts(self) -> Iterator[tuple[_Source, NDArray[np.bool_]]]:
        """The keys of the session's rows, those of some at a time; which rows no later one has the key of."""
        if self._whole is not None:
            yield self._whole
            return
        rows = int(self._starts[-1])
        bits = max(-(-rows // KEYS_AT_ONCE) - 1, 0).bit_length()
        for part in range(1 << bits):
            source = self._keys(bits, part)
            result = source, self._last(source)
            if not bits:
                self._whole = result
            yield result

    def _keys(self, bits: int, part: int) -> _Source:
        """Reads the keys of the session's rows that fall into a part; those with a null match nothing."""
        parts: list[list[pa.Array]] = []
        entries: list[NDArray[np.int64]] = []
        numbered: list[NDArray[np.uint64]] = []
        source = self._source
        projection = source.projection(self._on)
        for matches, batch in source.rows(source.matches(None), projection):
            index, rows = source.positions(matches)
            chosen = np.flatnonzero(without_nulls(batch))
            columns = [plain_column(column.take(pa.array(chosen))) for column in batch.columns]
            numbers = key_numbers(columns, self._context.key_seed(self._view.table.id))
            if bits:
                # Neighbours are spread over all parts, as numbers may be.
                mine = np.flatnonzero((numbers * _SPREAD) >> np.uint64(64 - bits) == part)
                chosen, numbers = chosen[mine], numbers[mine]
                columns = [column.take(pa.array(mine)) for column in columns]
            parts.append(columns)
            numbered.append(numbers)
            number = source.snapshot.segments[index].id
            entries.append((rows.astype(np.int64) + self._starts[number])[chosen])
        types = [self._view.scan_schema.columns.field(index).type for index in self._on]
        columns = [
            joined_columns([each[number] for each in parts], data_type)
            for number, data_type in enumerate(types)
        ]
        entry = np.concatenate([np.zeros(0, dtype=np.int64), *entries])
        numbers = np.concatenate([np.zeros(0, dtype=np.uint64), *numbered])
        # By number, and those of one in the order of the writes, so that "last" means what it says.
        order = np.lexsort((entry, numbers))
        return _Source(
            numbers[order], [column.take(pa.array(order)) for column in columns], entry[order]
        )

    @functools.cached_property
    def _exact(self) -> bool:
        return is_exact([self._view.scan_schema.columns.field(index).type for index in self._on])

    def _last(self, source: _Source) -> NDArray[np.bool_]:
        """For each key whether no later row of the session has it, too."""
        order = np.argsort(source.entry, kind="stable")

        def columns(chosen: NDArray[np.int64]) -> list[pa.Array]:
            return [column.take(pa.array(order[chosen])) for column in source.columns]

        last = np.ones(len(order), dtype=bool)
        last[order] = last_of_key(source.numbers[order], None if self._exact else columns)
        return last

    # --- the work -------------------------------------------------------------------------------

    def work(self) -> Draft:
        """Finds out what goes and what comes.

        Raises:
            InvalidArgumentError: several rows of the session are for one of the table, or would be
                beside each other with one primary key.
        """
        writer = RowWriter(self._context, self._view)
        try:
            return self._work(writer)
        except BaseException:
            writer.abort()
            raise

    def _work(self, writer: RowWriter) -> Draft:
        request, view = self._request, self._view
        gathered: dict[int, GatheredRows] = defaultdict(GatheredRows)
        met: dict[int, GatheredRows] = defaultdict(GatheredRows)
        matched = np.zeros(int(self._starts[-1]), dtype=bool)
        moved, superseded = np.zeros_like(matched), np.zeros_like(matched)
        updated = 0
        for source, last in self._parts():
            superseded[source.entry[~last]] = True
            for number, rows, entries in self._work_on(source, last, writer, moved):
                if request.when_matched is not None:
                    gathered[number].add(rows)
                if request.when_not_matched_by_source == "delete":
                    met[number].add(rows)
                matched[entries] = True
                updated += len(rows) if request.when_matched == "update" else 0
        comes = ~matched if request.when_not_matched == "insert" else np.zeros_like(matched)
        if request.last_wins:
            # Rows that a later one of the session replaces do not come; those without a key do.
            comes &= ~superseded
        comes |= moved
        gone: dict[int, BitMap] = defaultdict(BitMap)
        gone.update({number: rows.bitmap() for number, rows in gathered.items()})
        if request.when_not_matched_by_source == "delete":
            for number, shown in view.chosen("").items():
                gone[number] |= shown - (met[number].bitmap() if number in met else BitMap())
        added = writer.finish()
        draft = self._draft(gone, comes, added, updated)
        draft.packs = writer.packs
        return draft

    def _work_on(
        self,
        source: _Source,
        last: NDArray[np.bool_],
        writer: RowWriter,
        moved: NDArray[np.bool_],
    ) -> Iterator[tuple[int, NDArray[np.uint32], NDArray[np.int64]]]:
        """The rows of the table that some of the session's meet: segment, rows of it, the session's rows.

        Rows that are updated are written anew on the way, or the session's noted as those that come in their place.
        """
        view = self._view
        update = self._request.when_matched == "update"
        anew, held, count = bool(self._columns), list[tuple[Matches, NDArray[np.int64]]](), 0
        for hit in self._hits(view, source, last):
            index, rows = view.positions(hit[0])
            yield view.snapshot.segments[index].id, rows, hit[1]
            if update:
                held.append(hit)
                count += len(rows)
                # More than there are of the session's: one is for several.
                anew = anew or count > len(source.numbers)
                if anew:
                    self._rewrite(held, writer)
                    held = []
        if held:
            entries, times = np.unique(
                np.concatenate([each for _, each in held]), return_counts=True
            )
            if (times > 1).any():
                self._rewrite(held, writer)
            else:
                moved[entries] = True

    def _draft(
        self,
        gone: dict[int, BitMap],
        comes: NDArray[np.bool_],
        added: list[StagedRows],
        updated: int,
    ) -> Draft:
        view = self._view
        absent: dict[str, BitMap] = {}
        for number, each in enumerate(self._staged):
            window = comes[int(self._starts[number]) : int(self._starts[number + 1])]
            absent[each.segment.key] = bitmap_of(np.flatnonzero(~window))
        merge = self._check_keys(gone, absent, added) if view.table.keyed else None
        snapshot = view.snapshot
        touched = [row.key for row in snapshot.segments if row.id in gone] if added else []
        return Draft(
            deleted=gone,
            added=[each.segment for each in added],
            staged=[each.segment for each in self._staged],
            absent=absent,
            updated=updated,
            sources=[*touched, *(each.segment.key for each in self._staged)] if added else [],
            meanwhile=RowsMeanwhile(
                view,
                self._check_came,
                merge,
                # Rows of others that came after this change cannot be missing from its source.
                blind=self._request.when_not_matched_by_source is not None,
            ),
        )

    def _check_keys(
        self,
        gone: dict[int, BitMap],
        absent: dict[str, BitMap],
        added: Sequence[StagedRows],
    ) -> KeyedMerge:
        """Refuses rows that would stand beside another with their primary key."""
        merge = KeyedMerge.prepare(
            self._context,
            self._view.table.id,
            [*self._staged, *added],
            without=absent,
            version=self._view.table.version,
        )
        beside = any(rows - gone.get(number, BitMap()) for number, rows in merge.replaced().items())
        for each in (*self._staged, *added):
            known = absent.get(each.segment.key, BitMap())
            beside |= bool(merge.absent[each.segment.key] - known)
        if beside:
            raise InvalidArgumentError(
                "the merge would put a row beside another with its primary key "
                f"({', '.join(self._view.table.primary_key)}); nothing was changed"
            )
        return merge

    def _hits(
        self, view: PinnedTable, source: _Source, last: NDArray[np.bool_]
    ) -> Iterator[tuple[Matches, NDArray[np.int64]]]:
        """The rows of a table that match, batch by batch, and the session's row for each."""
        if not len(source.numbers):
            return
        if self._by_key:
            near = near_by_key(self._context, view, source.numbers)
        else:
            seed = self._context.key_seed(view.table.id)
            near = near_by_scan(view, self._on, source.numbers, seed, self._within)
        group: list[NearRows] = []
        count = 0
        for each in near:
            group.append(each)
            count += len(each.rows)
            if count >= _NEAR_AT_ONCE:
                yield from self._matched(group, source, last)
                group, count = [], 0
        if count:
            yield from self._matched(group, source, last)

    def _matched(
        self, group: Sequence[NearRows], source: _Source, last: NDArray[np.bool_]
    ) -> Iterator[tuple[Matches, NDArray[np.int64]]]:
        """The rows of some batches that match: few of each do, so they are searched together."""
        numbers = np.concatenate([each.numbers for each in group])
        left = np.searchsorted(source.numbers, numbers, side="left")
        hit = np.flatnonzero(source.numbers[np.minimum(left, len(source.numbers) - 1)] == numbers)
        left = left[hit]
        counts = np.searchsorted(source.numbers, numbers[hit], side="right") - left
        at = np.repeat(hit, counts)
        before = np.repeat(np.cumsum(counts) - counts, counts)
        result = np.repeat(left, counts) + np.arange(len(at)) - before
        starts = np.cumsum([0, *(len(each.rows) for each in group)])
        if not self._exact and len(at):
            cuts = np.searchsorted(at, starts)
            parts = [
                [column.take(pa.array(at[first:end] - start)) for column in each.columns()]
                for each, start, first, end in zip(
                    group, starts[:-1].tolist(), cuts[:-1].tolist(), cuts[1:].tolist(), strict=True
                )
                if end > first
            ]
            there = [
                joined_columns(list(column), column[0].type) for column in zip(*parts, strict=True)
            ]
            same = same_keys(there, [column.take(pa.array(result)) for column in source.columns])
            at, result = at[same], result[same]
        if self._request.last_wins:
            at, result = at[last[result]], result[last[result]]
        self._check_single(at, result, source)
        cuts = np.searchsorted(at, starts).tolist()
        entries = source.entry[result]
        for number, each in enumerate(group):
            first, end = cuts[number], cuts[number + 1]
            if end > first:
                rows = each.rows[at[first:end] - starts[number]]
                yield Matches(each.batch, rows), entries[first:end]

    @functools.cached_property
    def _by_key(self) -> bool:
        """Whether the columns to match on are the table's primary key: its runs know where each is."""
        table = self._view.table
        names = self._view.scan_schema.columns.names
        on = [names[index].casefold() for index in self._on]
        return table.keyed and on == [name.casefold() for name in table.primary_key]

    def _check_single(
        self, indices: NDArray[np.int64], result: NDArray[np.int64], source: _Source
    ) -> None:
        if self._request.when_matched != "update" or len(np.unique(indices)) == len(indices):
            return
        twice = int(np.flatnonzero(np.diff(indices) == 0)[0])
        key = ", ".join(
            f"{self._view.scan_schema.columns.names[index]}={column[int(result[twice])].as_py()!r}"
            for index, column in zip(self._on, source.columns, strict=True)
        )
        raise InvalidArgumentError(
            f"several rows of the source are for one row of the table: {key[:300]}; "
            "nothing was changed"
        )

    def _rewrite(
        self, hits: Sequence[tuple[Matches, NDArray[np.int64]]], writer: RowWriter
    ) -> None:
        """Writes rows that are put together from a row of the table and one of the session."""
        view = self._view
        columns = self._columns or tuple(range(len(view.schema)))
        projection = view.data_projection
        for matches, entries in hits:
            ((_, old),) = view.rows(iter([matches]), projection)
            index = view.snapshot.batch_segment[matches.batch]
            segment = view.snapshot.segments[index]
            new = self._rows_of(entries)
            arrays = [
                new.column(number) if number in columns else old.column(number)
                for number in range(len(view.schema))
            ]
            batch = pa.RecordBatch.from_arrays(arrays, schema=view.schema)
            writer.write(segment.partition, batch, segment.codecs or None)

    def _rows_of(self, entries: NDArray[np.int64]) -> pa.RecordBatch:
        """Whole rows of the session, in the order asked for."""
        source = self._source
        wanted, inverse = np.unique(entries, return_inverse=True)
        parts: list[pa.RecordBatch] = []
        order: list[NDArray[np.int64]] = []
        snapshot = source.snapshot
        for batch in range(snapshot.batch_count):
            index = snapshot.batch_segment[batch]
            base = int(self._starts[snapshot.segments[index].id]) + source.first_row(batch)
            low, high = np.searchsorted(wanted, [base, base + snapshot.stored_rows[batch]])
            if low == high:
                continue
            rows = Matches(batch, wanted[low:high] - base)
            ((_, result),) = source.rows(iter([rows]), source.data_projection)
            parts.append(result)
            order.append(np.arange(low, high))
        table = pa.Table.from_batches(parts).combine_chunks()
        back = np.argsort(np.concatenate(order), kind="stable")[inverse.reshape(-1)]
        (batch_of_all,) = table.to_batches()
        return take_rows(batch_of_all, pa.array(back))

    def _check_came(self, came: PinnedTable) -> None:
        """Refuses if rows came that match some of the source."""
        if any(True for source, last in self._parts() for _ in self._hits(came, source, last)):
            raise RowsChangedError("rows came that match some of the source")


def replace_draft(
    context: EngineContext,
    view: PinnedTable,
    request: ReplaceRows,
    staged: Sequence[StagedRows],
) -> Draft:
    """What it takes to put a session's rows in the place of those that a predicate chooses.

    Raises:
        InvalidArgumentError: the predicate is none, or a row that comes does not satisfy it.
    """
    if not request.where.strip():
        raise InvalidArgumentError("a predicate is needed; without one overwrite the table")
    rows: list[SegmentRow] = [each.segment.as_row(n) for n, each in enumerate(staged)]
    source = PinnedTable(view.table, view.scan_schema, Snapshot.of(rows), view.store)
    fitting = sum(len(result) for result in source.chosen(request.where).values())
    total = sum(row.rows for row in rows)
    if fitting != total:
        raise InvalidArgumentError(
            f"{total - fitting} of the {total} rows that come do not satisfy {request.where[:200]!r}; "
            "nothing was changed"
        )
    gone: dict[int, BitMap] = defaultdict(BitMap)
    gone.update(view.chosen(request.where))
    absent: dict[str, BitMap] = {}
    merge: KeyedMerge | None = None
    if view.table.keyed:
        merge = KeyedMerge.prepare(context, view.table.id, staged, version=view.table.version)
        absent = merge.absent
        for number, result in merge.replaced().items():
            gone[number] |= result

    def check(came: PinnedTable) -> None:
        if came.chosen(request.where):
            raise RowsChangedError("rows came that the predicate chooses")

    return Draft(
        deleted=gone,
        staged=[each.segment for each in staged],
        absent=absent,
        meanwhile=RowsMeanwhile(view, check, merge, blind=False),
    )


def _check_clauses(request: MergeRows) -> None:
    for name, value, known in (
        ("when_matched", request.when_matched, _MATCHED),
        ("when_not_matched", request.when_not_matched, _NOT_MATCHED),
        ("when_not_matched_by_source", request.when_not_matched_by_source, _NOT_BY_SOURCE),
    ):
        if value not in known:
            raise InvalidArgumentError(f"{name} is {value!r}; expected one of {known}")
