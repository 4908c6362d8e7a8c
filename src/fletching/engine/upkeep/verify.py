"""Verification: proves every checksum and every reference of the catalog, one object at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from fletching.catalog import proof_rows as verifying
from fletching.catalog.blob_rows import PackInfo, list_packs
from fletching.catalog.collecting import known_keys
from fletching.catalog.merged_run_rows import MergedRunRow, every_merged_run, is_known_run
from fletching.catalog.proof_rows import StoredSegment
from fletching.catalog.segment_rows import visible_segments
from fletching.catalog.table_rows import (
    TableRow,
    table_by_id,
    tables_with_keys,
    tables_with_segments,
)
from fletching.engine.blobs.packs import check_pack
from fletching.engine.changes.key_columns import KeyColumns
from fletching.engine.changes.key_lookup import open_merged
from fletching.engine.changes.key_runs import open_run
from fletching.engine.changes.key_values import key_numbers
from fletching.engine.context import EngineContext
from fletching.engine.reading.message_checks import recorded_checksums
from fletching.engine.upkeep.maintenance import MAX_PROBLEMS, record_run
from fletching.errors import FletchingError, ObjectNotFoundError, StorageError
from fletching.objects.store import StoredObject

__all__ = ["Checked", "Verification", "recount"]

_READ_BYTES = 8 << 20
_RUN_ENTRIES = 1 << 19


@dataclasses.dataclass(frozen=True, slots=True)
class Checked:
    """One thing that was looked at."""

    name: str
    """An object's key, or ``table <name>`` or ``partition <name>/<values>`` for recorded totals."""
    bytes: int
    problems: tuple[str, ...] = ()
    """What is wrong, in words; empty if nothing is."""


class Verification:
    """A pass over everything the catalog knows. Iterate it once; it reads while it is iterated.

    Attributes:
        total_objects: how many objects there are to look at.
        total_bytes: their bytes.
        summary: what came of it, once everything was looked at.
    """

    summary = ""

    def __init__(self, context: EngineContext) -> None:
        """Takes stock: a snapshot of the catalog, made in one transaction."""
        self._context = context
        self._started_at = context.clock()
        with context.database.read() as connection:
            self._segments = verifying.stored_segments(connection)
            self._packs = list(list_packs(connection))
            self._broken_links = verifying.broken_links(connection)
            self._totals = [
                *verifying.wrong_deletions(connection),
                *verifying.wrong_totals(connection),
            ]
            self._keyed = tables_with_keys(connection)
            self._merged_runs = every_merged_run(connection)
        self.total_objects = len(self._segments) + len(self._packs) + len(self._merged_runs)
        self.total_bytes = sum(segment.length for segment in self._segments)
        self.total_bytes += sum(pack.length for pack in self._packs)
        self.total_bytes += sum(run.length for _, run in self._merged_runs)

    def __iter__(self) -> Iterator[Checked]:
        """Every object in turn, then the totals that are wrong; the end of it is kept in the catalog."""
        size = count = 0
        problems: list[str] = []
        for checked in self._everything():
            size += checked.bytes
            count += len(checked.problems)
            if len(problems) < MAX_PROBLEMS:
                problems += [f"{checked.name}: {problem}" for problem in checked.problems]
            yield checked
        self.summary = (
            f"{f'{count} problems' if count else 'nothing is wrong'}: "
            f"{self.total_objects} objects, {size} bytes"
        )
        record_run(
            *(self._context, "verification", self._started_at, self.summary),
            problems=problems,
            problem_count=count,
        )

    def _everything(self) -> Iterator[Checked]:
        for segment in self._segments:
            yield self._check(segment)
        for pack in self._packs:
            yield self._check_pack(pack)
        for table in self._keyed:
            yield from self._key_runs(table)
        for table_id, run in self._merged_runs:
            yield self._check_merged(table_id, run)
        for name, problem in [*self._broken_links, *self._totals]:
            yield Checked(name, 0, (problem,))

    def _key_runs(self, table: TableRow) -> Iterator[Checked]:
        """The key runs of a table's visible segments that do not say what the rows' keys are."""
        context = self._context
        with context.database.read() as connection:
            now = table_by_id(connection, table.id)
            if now is None or now.dropped_at is not None:
                return
            segments = visible_segments(connection, now.id, now.version)
            columns = KeyColumns(context.store, connection, now)
        for segment in segments:
            try:
                run = open_run(context.store, segment).all()
                keys = key_numbers(columns.columns(segment, run.rows), context.key_seed(now.id))
                right = np.array_equal(keys, run.numbers) and bool(
                    (run.numbers[1:] >= run.numbers[:-1]).all()
                )
                problem = "" if right else "its key run is not that of its rows"
            except ObjectNotFoundError:
                continue  # said of the segment itself, or collected since
            except StorageError as error:
                problem = f"its key run cannot be read: {error.message}"
            if problem:
                yield Checked(segment.key, 0, (problem,))

    def _check_merged(self, table_id: str, row: MergedRunRow) -> Checked:
        """Whether a merged run says of the segments that are there what their own runs say."""
        context = self._context
        problem = ""
        try:
            with context.database.read() as connection:
                now = table_by_id(connection, table_id)
                segments = (
                    [] if now is None else visible_segments(connection, table_id, now.version)
                )
            alive = {segment.key: segment for segment in segments}
            run = open_merged(context.store, row)
            expected = {
                index: _digest(own.numbers, own.rows)
                for index, key in enumerate(row.owner_keys())
                if key in alive
                for own in [open_run(context.store, alive[key]).all()]
            }
            result: dict[int, int] = dict.fromkeys(expected, 0)
            for start in range(0, run.count, _RUN_ENTRIES):
                part = run.between(start, min(start + _RUN_ENTRIES, run.count))
                assert part.owners is not None
                for index in np.unique(part.owners).tolist():
                    mine = part.owners == index
                    total = result.get(index, 0) + _digest(part.numbers[mine], part.rows[mine])
                    result[index] = total % (1 << 64)
            if any(result[index] != digest for index, digest in expected.items()):
                problem = "its entries are not those of the segments' own key runs"
        except StorageError as error:
            with context.database.read() as connection:
                if not is_known_run(connection, row.key):
                    return Checked(row.key, 0)  # merged into another since stock was taken
            missing = isinstance(error, ObjectNotFoundError)
            problem = "the object is missing" if missing else error.message
        return Checked(row.key, row.length, (problem,) if problem else ())

    def _check(self, segment: StoredSegment) -> Checked:
        try:
            problems = self._problems(segment)
        except ObjectNotFoundError:
            with self._context.database.read() as connection:
                if not verifying.is_known(connection, segment.key):
                    return Checked(segment.key, 0)  # collected since stock was taken
            problems = ["the object is missing"]
        except StorageError as error:
            problems = [f"the object cannot be read: {error}"]
        return Checked(segment.key, segment.length, tuple(problems))

    def _check_pack(self, pack: PackInfo) -> Checked:
        try:
            stored = self._context.store.open(pack.key)
        except ObjectNotFoundError:
            with self._context.database.read() as connection:
                if not known_keys(connection, [pack.key]):
                    return Checked(pack.key, 0)  # collected since stock was taken
            return Checked(pack.key, 0, ("the object is missing",))
        except StorageError as error:
            return Checked(pack.key, 0, (f"the object cannot be read: {error}",))
        try:
            blobs = sum(1 for _ in check_pack(stored, pack.crc32c))
        except StorageError as error:
            return Checked(pack.key, pack.length, (error.message,))
        finally:
            stored.close()
        if (stored.length, blobs) != (pack.length, pack.blobs):
            problem = (
                f"it has {stored.length} bytes and {blobs} blobs; the catalog says {pack.length}"
                f" and {pack.blobs}"
            )
            return Checked(pack.key, pack.length, (problem,))
        return Checked(pack.key, pack.length)

    def _problems(self, segment: StoredSegment) -> list[str]:
        stored = self._context.store.open(segment.key)
        try:
            if stored.length != segment.length:
                return [f"it has {stored.length} bytes; the catalog says {segment.length}"]
            batches = _index(segment.batch_index)
            dictionaries = _index(segment.dictionary_index)
            blocks = sorted(
                (offset, offset + metadata + body)
                for offset, metadata, body, _ in [*batches, *dictionaries]
            )
            problems: list[str] = []
            if sum(rows for *_, rows in batches) != segment.rows:
                problems.append("the batch index and the catalog disagree about the rows")
            end_of_head = blocks[0][0] if blocks else None
            marks, whole = _checksums(stored, blocks, end_of_head)
            if whole != segment.crc32c:
                problems.append(f"its CRC32C is {whole:08x}; the catalog says {segment.crc32c:08x}")
            problems += _compare_marks(stored, marks, blocks)
            return problems
        finally:
            stored.close()


def recount(context: EngineContext) -> list[Checked]:
    """Sets recorded totals that are wrong to what is visible, a table at a time; returns which.

    Totals follow from segments and deletions, so nothing is lost by it; what made them wrong is
    for a person to find out.
    """
    with context.database.read() as connection:
        if not verifying.wrong_totals(connection):
            return []
        tables = tables_with_segments(connection, at_least=0)
    repaired = []
    for table in tables:
        with context.database.write() as connection:
            now = table_by_id(connection, table.id, lock=True)
            if now is None or now.dropped_at is not None:
                continue
            if verifying.recount(connection, now):
                repaired.append(Checked(f"table {now.name}", 0, ("its totals were counted anew",)))
    return repaired


def _digest(numbers: NDArray[np.uint64], rows: NDArray[np.uint32]) -> int:
    """A sum that tells entries of a key run from others, in whatever order they come."""
    odd, other = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)
    mixed = (numbers ^ (rows.astype(np.uint64) * odd)) * other
    return int(np.sum(mixed ^ (mixed >> np.uint64(31)), dtype=np.uint64))


def _index(index: bytes) -> list[tuple[int, int, int, int]]:
    return [tuple(row) for row in np.frombuffer(index, "<i8").reshape(-1, 4).tolist()]


def _checksums(
    stored: StoredObject, blocks: list[tuple[int, int]], end_of_head: int | None
) -> tuple[list[int], int]:
    """CRC32C of each message, the schema message first, and of the whole object; one pass of reads."""
    whole, position, marks = 0, 0, []
    ranges = [(8, end_of_head), *blocks] if end_of_head is not None else []
    for start, end in ranges:
        if start < position or end is None or end > stored.length:
            return [], _rest(stored, position, whole)
        whole = _range(stored, position, start, whole)
        mark, at = 0, start
        while at < end:
            piece = stored.read(at, min(at + _READ_BYTES, end))
            mark, whole = crc32c(piece, mark), crc32c(piece, whole)
            at += len(piece)
        marks.append(mark)
        position = end
    return marks, _rest(stored, position, whole)


def _range(stored: StoredObject, start: int, end: int, value: int) -> int:
    while start < end:
        piece = stored.read(start, min(start + _READ_BYTES, end))
        value = crc32c(piece, value)
        start += len(piece)
    return value


def _rest(stored: StoredObject, position: int, value: int) -> int:
    return _range(stored, position, stored.length, value)


def _compare_marks(
    stored: StoredObject, marks: list[int], blocks: list[tuple[int, int]]
) -> list[str]:
    """The messages' checksums against those in the footer."""
    try:
        recorded = recorded_checksums(stored)
    except (FletchingError, ValueError, KeyError) as error:
        return [f"its footer cannot be read: {error}"]
    if marks and len(recorded) != len(marks):
        return [f"its footer has {len(recorded)} message checksums for {len(marks)} messages"]
    problems = []
    for number, (mark, expected) in enumerate(zip(marks, recorded, strict=False)):
        if mark != expected:
            where = (
                "the schema message" if number == 0 else f"the message at {blocks[number - 1][0]}"
            )
            problems.append(f"{where} has CRC32C {mark:08x}; the footer says {expected:08x}")
    return problems
