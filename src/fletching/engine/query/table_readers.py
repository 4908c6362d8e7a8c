"""Tables of one statement, all read as they were at one moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Self

import pyarrow as pa

from fletching.engine.query.local_times import in_local_time
from fletching.engine.query.result_types import conformed, duck_arrow_type
from fletching.engine.reading.kept_segments import KeptSegments
from fletching.engine.reading.read_calls import PinnedTable, Reading
from fletching.sql.query_sources import WantedScan
from fletching.types import TableName

SLICE_ROWS = 1 << 19
"""Rows that DuckDB gets at a time at most."""

SMALL_ROWS = 1 << 13
"""Batches of fewer rows are put together, up to so many rows and bytes:"""

GATHERED_ROWS = 1 << 16
GATHERED_BYTES = 4 << 20

__all__ = ["RelationReader", "Statistics", "TableReaders", "gathered"]


class Statistics:
    """What the scans of a statement have read so far.

    Attributes:
        rows: rows handed over.
        bytes: bytes of their values.
        tables: per relation, rows.
    """

    def __init__(self) -> None:
        """Nothing yet."""
        self.rows = 0
        self.bytes = 0
        self.tables: dict[str, int] = {}

    def add(self, relation: str, batch: pa.RecordBatch) -> None:
        """Counts a batch in."""
        self.rows += batch.num_rows
        self.bytes += batch.nbytes
        self.tables[relation] = self.tables.get(relation, 0) + batch.num_rows


class TableReaders:
    """The tables that a statement has mentioned; a context manager that lets go of them."""

    def __init__(self, reading: Reading) -> None:
        """Reads with ``reading``."""
        self._reading = reading
        self._pinned: dict[tuple[str, int | None], PinnedTable] = {}

    def pin(self, tables: Sequence[tuple[TableName, int | None]]) -> None:
        """Pins versions of tables, None for the current one, in one transaction.

        Raises:
            NoSuchTableError: one of them does not exist.
            VersionNotFoundError: a version is gone, or still to come.
        """
        wanted = {_key(name, version): (name, version) for name, version in tables}
        missing = {key: table for key, table in wanted.items() if key not in self._pinned}
        if missing:
            pinned = self._reading.pin(list(missing.values()))
            self._pinned.update(zip(missing, pinned, strict=True))

    def fields(self, name: TableName, version: int | None = None) -> Mapping[str, pa.Field]:
        """The columns of a pinned table as filters see them."""
        return self._pinned[_key(name, version)].fields

    def reader(self, scan: WantedScan, statistics: Statistics, zone: str = "") -> RelationReader:
        """What DuckDB reads for one mention of a table, with times in a zone's local time."""
        table = self._pinned[_key(scan.source.name, scan.source.version)]
        return RelationReader(
            lambda: in_local_time(
                table.batches(scan.columns, scan.predicate), scan.source.fields, zone
            ),
            scan.relation,
            statistics,
        )

    def kept(self, scan: WantedScan) -> KeptSegments:
        """What reading one mention of a table opens."""
        return self._pinned[_key(scan.source.name, scan.source.version)].kept(scan.predicate)

    def close(self) -> None:
        """Lets the versions go; idempotent."""
        pinned, self._pinned = self._pinned, {}
        self._reading.unpin(list(pinned.values()))

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Closes."""
        self.close()


def _key(name: TableName, version: int | None) -> tuple[str, int | None]:
    return str(name).casefold(), version


class RelationReader:
    """One mention of a table, read from its beginning each time it is opened."""

    def __init__(
        self,
        begin: Callable[[], tuple[pa.Schema, Iterator[pa.RecordBatch]]],
        relation: str,
        statistics: Statistics,
    ) -> None:
        self._begin = begin
        self._relation = relation
        self._statistics = statistics

    def open(self) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """The columns in types that DuckDB reads, and the rows in batches.

        Raises:
            InvalidArgumentError: from the batches, a DECIMAL of more digits than statements compute with.
        """
        result, batches = self._begin()
        schema = pa.schema([field.with_type(duck_arrow_type(field.type)) for field in result])
        converted = schema.types != result.types

        def counted() -> Iterator[pa.RecordBatch]:
            for batch in gathered(batches):
                self._statistics.add(self._relation, batch)
                if converted:
                    batch = conformed(batch, schema)  # noqa: PLW2901 - the same rows
                # A batch goes to one thread whole: large ones are cut, without copying, for all of them.
                for start in range(0, max(batch.num_rows, 1), SLICE_ROWS):
                    yield batch.slice(start, SLICE_ROWS)

        return schema, counted()


def gathered(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows, those of neighbouring small batches copied together.

    Handing a batch over costs as much as computing with some thousand rows of it, and a join takes batches of
    less than 2,048 rows as they come. The first batch goes at once: who wants few rows gets them soon.
    """
    held: list[pa.RecordBatch] = []
    rows = size = 0
    enough = 1
    for batch in batches:
        plain = not any(map(pa.types.is_dictionary, batch.schema.types))
        if held and not (plain and batch.num_rows < SMALL_ROWS):
            yield pa.concat_batches(held)
            held, rows, size = [], 0, 0
        if not plain or batch.num_rows >= SMALL_ROWS:
            yield batch
            continue
        held.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows >= enough or size >= GATHERED_BYTES:
            yield held[0] if len(held) == 1 else pa.concat_batches(held)
            held, rows, size = [], 0, 0
            enough = min(4 * enough + SMALL_ROWS, GATHERED_ROWS)
    if held:
        yield pa.concat_batches(held)
