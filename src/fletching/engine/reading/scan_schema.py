"""What the replies of a session look like: columns and projections, found once per table and choice."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import pyarrow as pa
from sqlalchemy import Connection

from fletching.catalog.table_rows import TableRow, schema_history
from fletching.engine.cache import Budget, RecentlyUsed
from fletching.engine.reading.change_feed import ADDED_COLUMNS
from fletching.engine.reading.output_schema import (
    TableColumns,
    output_columns,
    select_columns,
    select_session_columns,
)
from fletching.engine.reading.physical_projection import (
    CompiledProjections,
    PhysicalProjection,
    columns_bytes,
    compiled_projections,
)
from fletching.engine.tables.columns import is_widened
from fletching.errors import InvalidArgumentError
from fletching.protocol.messages.requests import ArrowOptions, CreateReadSession
from fletching.protocol.messages.responses import TableSchema
from fletching.protocol.types.table_schema import table_schema

__all__ = ["ScanSchema", "ScanSchemas"]

_OWN_BYTES = 64 << 20  # kept of what shares its memory with nothing else


class KeptProjections:
    """The projections that reads asked for last, and what was compiled of them.

    Attributes:
        chosen: by scan schema, names, and whether they are in an order of their own.
        compiled: see `PhysicalProjection.compiled`.
    """

    def __init__(self, budget: int | Budget) -> None:
        """Has none; what it keeps counts in a budget of bytes."""
        self.chosen = RecentlyUsed[tuple[ScanSchema, tuple[str, ...], bool], PhysicalProjection](
            budget, weight=lambda projection: columns_bytes(len(projection.table.names))
        )
        self.compiled: CompiledProjections = compiled_projections(budget)


@dataclasses.dataclass(frozen=True, eq=False)
class ScanSchema:
    """The columns of a session. Immutable but for what is remembered; shared by sessions alike.

    Attributes:
        columns: the table's, at the session's schema version.
        versions: those of all schema versions.
        indices: which of the columns the session has.
        options: units of timestamps.
        verbatim_types: whether Arrow types that ODPS lacks are sent as stored.
        primary_key: names of the table's key columns.
        kept: what was worked out for reads before.
    """

    columns: TableColumns
    versions: Mapping[int, TableColumns]
    indices: tuple[int, ...]
    options: ArrowOptions
    verbatim_types: bool
    primary_key: tuple[str, ...] = ()
    kept: KeptProjections = dataclasses.field(default_factory=lambda: KeptProjections(_OWN_BYTES))

    @functools.cached_property
    def projection(self) -> PhysicalProjection:
        """The projection of replies with all of the session's columns.

        Raises:
            InvalidArgumentError: a column's type has no ODPS type, and the client takes only those.
        """
        return self._projection(self.indices)

    @functools.cached_property
    def odps_schema(self) -> TableSchema:
        """The session's columns as ODPS sees them."""
        return table_schema(
            self.columns.data,
            self.columns.partition,
            primary_key=self.primary_key,
            column_ids=self.columns.column_ids,
            indices=self.indices,
        )

    def projection_of(self, names: Sequence[str], *, unordered: bool) -> PhysicalProjection:
        """The projection of a read of some of the columns; see `select_columns`.

        Raises:
            InvalidArgumentError: a name that is unknown, repeated, or outside the session.
        """
        if not names:
            return self.projection
        key = self, tuple(names), unordered
        projection = self.kept.chosen.get(key)
        if projection is None:
            indices = select_columns(self.columns, self.indices, names, unordered=unordered)
            projection = self._projection(indices)
            self.kept.chosen.put(key, projection)
        return projection

    def _projection(self, indices: Sequence[int]) -> PhysicalProjection:
        outputs = output_columns(
            self.columns, indices, self.options, verbatim_types=self.verbatim_types
        )
        return PhysicalProjection(self.columns, outputs, self.versions, self.kept.compiled)


class ScanSchemas:
    """Finds the schemas of sessions, and remembers them. Thread-safe."""

    def __init__(self, budget: Budget) -> None:
        """Knows nothing yet; what it keeps counts in a budget of bytes."""
        self._tables = RecentlyUsed[tuple[str, int], dict[int, TableColumns]](
            budget,
            weight=lambda known: columns_bytes(sum(len(item.data) for item in known.values())),
        )
        self._scan_schemas = RecentlyUsed[tuple[object, ...], ScanSchema](
            budget, weight=lambda schema: columns_bytes(len(schema.columns.names))
        )
        self._projections = KeptProjections(budget)

    def versions(self, connection: Connection, table: TableRow) -> dict[int, TableColumns]:
        """The columns of every schema the table has had."""
        key = table.id, table.schema_version
        known = self._tables.get(key)
        if known is None:
            known = {
                version: TableColumns(
                    data=pa.ipc.read_schema(pa.py_buffer(row.arrow_schema)),
                    partition=table.partition_columns,
                    column_ids=row.column_ids,
                )
                for version, row in schema_history(connection, table.id).items()
            }
            self._tables.put(key, known)
        return known

    def of(
        self,
        connection: Connection,
        table: TableRow,
        schema_version: int,
        request: CreateReadSession,
    ) -> ScanSchema:
        """The schemas of a session that ``request`` opened at a schema version.

        Raises:
            InvalidArgumentError: an unknown or repeated column.
        """
        key = (
            table.id,
            table.schema_version,
            schema_version,
            request.required_data_columns,
            request.required_partition_columns,
            request.arrow_options,
            request.verbatim_types,
            request.since_version is None,
        )
        scan_schema = self._scan_schemas.get(key)
        if scan_schema is None:
            versions = self.versions(connection, table)
            columns = versions[schema_version]
            if request.since_version is not None:
                columns = _with_change_columns(_widest(columns, schema_version, versions))
            scan_schema = ScanSchema(
                columns=columns,
                versions=versions,
                indices=_session_indices(columns, request),
                options=request.arrow_options,
                verbatim_types=request.verbatim_types,
                primary_key=table.primary_key,
                kept=self._projections,
            )
            self._scan_schemas.put(key, scan_schema)
        return scan_schema


def _session_indices(columns: TableColumns, request: CreateReadSession) -> tuple[int, ...]:
    """Which columns a session has: all, where it does not say, but for one that must be asked for."""
    data, partition = request.required_data_columns, request.required_partition_columns
    indices = select_session_columns(columns, data, partition)
    if request.since_version is not None and not data and not partition:
        return indices[:-1]
    return indices


def _widest(
    columns: TableColumns, schema_version: int, versions: Mapping[int, TableColumns]
) -> TableColumns:
    """A table's columns with the widest type that each has had, for rows that went.

    A restore may take a column back to a narrower type, or to one without nulls; the rows that went with
    it, which the feed has, need the wider one.
    """
    fields = list(columns.data)
    for number, other in versions.items():
        if number >= schema_version:
            continue
        had = {ids[0]: field for ids, field in zip(other.column_ids, other.data, strict=False)}
        for index, field in enumerate(fields):
            known = had.get(columns.column_ids[index][0])
            if known is None:
                continue
            if is_widened(field, known):
                fields[index] = known.with_name(field.name).with_nullable(field.nullable)
            if known.nullable and not field.nullable:
                fields[index] = fields[index].with_nullable(True)
    return dataclasses.replace(columns, data=pa.schema(fields, columns.data.metadata))


def _with_change_columns(columns: TableColumns) -> TableColumns:
    """A table's columns and, behind its partition columns, those of the change feed.

    Raises:
        InvalidArgumentError: the table has a column of such a name.
    """
    for name, _ in ADDED_COLUMNS:
        if name.casefold() in columns.indices:
            raise InvalidArgumentError(
                f"the table has a column {name!r}, and so has its change feed: rename the table's"
            )
    free = max((number for ids in columns.column_ids for number in ids), default=0) + 1
    ids = tuple((free + number,) for number in range(len(ADDED_COLUMNS)))
    return TableColumns(
        data=columns.data,
        partition=(*columns.partition, *ADDED_COLUMNS),
        column_ids=(*columns.column_ids, *ids),
    )
