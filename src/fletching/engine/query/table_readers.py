"""Tables of one statement, all read as they were at one moment."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Self

import pyarrow as pa

from fletching.engine.query.kept_rows import KeptRows, gathered
from fletching.engine.query.local_times import in_local_time
from fletching.engine.query.result_types import conformed, duck_arrow_type
from fletching.engine.reading.batch_strategies import KeptSegments
from fletching.engine.reading.read_calls import PinnedTable, Reading
from fletching.sql.predicates.predicate_compiler import Predicate
from fletching.sql.queries.query_sources import WantedScan
from fletching.types import TableName

SLICE_ROWS = 1 << 19
"""Rows that DuckDB gets at a time at most."""

__all__ = ["RelationReader", "Statistics", "TableReaders"]


class Statistics:
    """What the scans of a statement have read so far.

    Attributes:
        rows: rows handed over.
        bytes: bytes of their values.
        tables: per relation, rows.
    """

    def __init__(self) -> None:
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

    def __init__(self, reading: Reading, kept: KeptRows | None = None) -> None:
        """Reads with ``reading``, and not again what is ``kept``."""
        self._reading = reading
        self._kept = kept or KeptRows()
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

    def version(self, name: TableName) -> int:
        """The version of a table that was pinned as it was then."""
        return self._pinned[_key(name, None)].session.row.table_version

    def reader(self, scan: WantedScan, statistics: Statistics, zone: str = "") -> RelationReader:
        """What DuckDB reads for one mention of a table, with times in a zone's local time."""
        table = self._pinned[_key(scan.source.name, scan.source.version)]
        session = table.session
        types = tuple(str(scan.source.fields[name.casefold()].type) for name in scan.columns)
        rows = (
            *(session.row.table_id, session.row.table_version),
            # Columns may change while the version does not.
            *(session.scan_schema.columns.column_ids, scan.columns, types, _asked(scan.predicate)),
        )

        def begin() -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
            result = self._kept.rows(rows, lambda: table.batches(scan.columns, scan.predicate))
            return in_local_time(result, scan.source.fields, zone)

        return RelationReader(begin, scan.relation, statistics)

    def kept(self, scan: WantedScan) -> KeptSegments:
        """What reading one mention of a table opens."""
        return self._pinned[_key(scan.source.name, scan.source.version)].kept(scan.predicate)

    def close(self) -> None:
        """Lets the versions go; idempotent."""
        pinned, self._pinned = self._pinned, {}
        self._reading.unpin(list(pinned.values()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _asked(predicate: Predicate | None) -> bytes:
    """A digest of what a scan leaves rows out by.

    As it is evaluated, and not as it is written: what ``getdate()`` stands for is another at another moment,
    and in another time zone. A digest, since a condition may list a hundred thousand values.
    """
    if predicate is None:
        return b""
    return hashlib.sha256(pickle.dumps(predicate.expression)).digest()


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
