"""Which columns and partitions a reply has, in which order, and where each comes from.

Names are compared case-insensitively and spelt in replies as the table spells them. Columns stand
in table order, data columns before partition columns, unless a read asks for its own order. Partitions are
full specifications, or partial ones, which are filters.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Iterable, Mapping, Sequence

import pyarrow as pa

from fletching.engine.tables.partitions import matching_values
from fletching.errors import InvalidArgumentError, NoSuchPartitionError, UsageError
from fletching.protocol.messages.requests import ArrowOptions
from fletching.protocol.types.conversion import sent_as_stored
from fletching.protocol.types.table_schema import arrow_type, parse_type, reply_type
from fletching.types import PartitionSpec

__all__ = [
    "AS_STORED",
    "OutputColumn",
    "PartitionFilter",
    "TableColumns",
    "output_columns",
    "reply_schema",
    "select_columns",
    "select_session_columns",
]

AS_STORED = ArrowOptions(timestamp_unit=None, datetime_unit=None)
"""Moments in the units that they are stored in."""


@dataclasses.dataclass(frozen=True)
class TableColumns:
    """A table's columns at one schema version.

    Attributes:
        data: the data columns as stored.
        partition: (name, ODPS type) of the partition columns.
        column_ids: per data column, its own id and those of its nested nodes; then likewise per
            partition column.
    """

    data: pa.Schema
    partition: tuple[tuple[str, str], ...]
    column_ids: tuple[tuple[int, ...], ...]

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Data columns, then partition columns; a column is known by its index here."""
        return (*self.data.names, *(name for name, _ in self.partition))

    @functools.cached_property
    def indices(self) -> Mapping[str, int]:
        """Place by case-folded name."""
        return {name.casefold(): index for index, name in enumerate(self.names)}

    @functools.cached_property
    def partition_fields(self) -> tuple[pa.Field, ...]:
        """The partition columns as Arrow fields; a partition value is never null."""
        return tuple(
            pa.field(name, arrow_type(parse_type(text)), nullable=False)
            for name, text in self.partition
        )

    @functools.cached_property
    def filter_fields(self) -> Mapping[str, pa.Field]:
        """The columns as filters see them, by case-folded name: the nearest ODPS type, stored unit."""
        fields: dict[str, pa.Field] = {}
        for index, name in enumerate(self.names):
            try:
                (output,) = output_columns(self, [index], AS_STORED, verbatim_types=False)
            except InvalidArgumentError:
                # A type that ODPS lacks: it cannot be filtered by, but others can.
                continue
            fields[name.casefold()] = output.field
        return fields

    def field(self, index: int) -> pa.Field:
        """The stored field, or the partition column's, at an index."""
        count = len(self.data)
        return self.data.field(index) if index < count else self.partition_fields[index - count]

    def find(self, names: Iterable[str], *, among: range, what: str) -> tuple[int, ...]:
        """The indices of named columns.

        Raises:
            InvalidArgumentError: a name is unknown there, or comes twice.
        """
        result: dict[int, None] = {}
        for name in names:
            index = self.indices.get(name.casefold())
            if index is None:
                index = self.indices.get(name.strip().strip("`").casefold())
            if index is None or index not in among:
                raise InvalidArgumentError(f"the table has no {what} column {name!r}")
            if index in result:
                raise InvalidArgumentError(f"{what} column {name!r} is asked for twice")
            result[index] = None
        return tuple(result)


@dataclasses.dataclass(frozen=True, slots=True)
class OutputColumn:
    """One column of a reply.

    Attributes:
        index: where in the table (`TableColumns.names`).
        stored: the field as stored.
        field: the field as sent.
        converts: whether the values must be computed; else the stored buffers are sent as they are.
    """

    index: int
    stored: pa.Field
    field: pa.Field
    converts: bool


def select_session_columns(
    columns: TableColumns, data: Sequence[str], partition: Sequence[str]
) -> tuple[int, ...]:
    """Places of a read session's columns, in table order.

    Neither list: all data columns, then all partition columns. One list: only those. Both: those
    data columns, then those partition columns.

    Raises:
        InvalidArgumentError: an unknown or repeated name.
    """
    count, total = len(columns.data), len(columns.names)
    if not data and not partition:
        return tuple(range(total))
    return (
        *sorted(columns.find(data, among=range(count), what="data")),
        *sorted(columns.find(partition, among=range(count, total), what="partition")),
    )


def select_columns(
    columns: TableColumns, session: tuple[int, ...], names: Sequence[str], *, unordered: bool
) -> tuple[int, ...]:
    """Places of one read's columns: all of the session's, or only those named.

    Args:
        columns: the table's columns.
        session: indices the session was opened with.
        names: the read's ``DataColumns``; partition columns of the session may be named, too.
        unordered: keep the order of ``names`` instead of the table's.

    Raises:
        InvalidArgumentError: a name that is unknown, repeated, or outside the session.
    """
    if not names:
        return session
    indices = columns.find(names, among=range(len(columns.names)), what="table")
    outside = [columns.names[index] for index in indices if index not in session]
    if outside:
        raise InvalidArgumentError(f"column {outside[0]!r} is not among the read session's columns")
    return indices if unordered else tuple(sorted(indices))


def output_columns(
    columns: TableColumns, indices: Sequence[int], options: ArrowOptions, *, verbatim_types: bool
) -> tuple[OutputColumn, ...]:
    """The columns of a reply.

    Args:
        columns: the table's columns.
        indices: which, in reply order.
        options: units of timestamps.
        verbatim_types: send Arrow types that ODPS lacks as stored.

    Raises:
        InvalidArgumentError: a column's type has no ODPS type, and the client takes only those.
    """
    result: list[OutputColumn] = []
    for index in indices:
        stored = columns.field(index)
        sent = _sent_type(stored, options, verbatim_types=verbatim_types)
        result.append(
            OutputColumn(
                index,
                stored,
                stored.with_type(sent),
                converts=not sent_as_stored(stored.type, sent),
            )
        )
    return tuple(result)


def _sent_type(stored: pa.Field, options: ArrowOptions, *, verbatim_types: bool) -> pa.DataType:
    if verbatim_types and options.timestamp_unit is None and options.datetime_unit is None:
        return stored.type
    try:
        sent = reply_type(
            stored, timestamp_unit=options.timestamp_unit, datetime_unit=options.datetime_unit
        )
    except UsageError as error:
        if verbatim_types:
            return stored.type
        raise InvalidArgumentError(
            f"column {stored.name!r} has the Arrow type {stored.type}, which ODPS lacks"
            f" ({error.message}); name the columns to read without it"
        ) from error
    if verbatim_types and not (pa.types.is_timestamp(stored.type) and pa.types.is_timestamp(sent)):
        return stored.type
    return pa.timestamp(sent.unit, stored.type.tz) if verbatim_types else sent


def reply_schema(outputs: Sequence[OutputColumn], columns: TableColumns) -> pa.Schema:
    """The Arrow schema of a reply, with the table's own schema metadata."""
    return pa.schema([output.field for output in outputs], metadata=columns.data.metadata)


@dataclasses.dataclass(frozen=True)
class PartitionFilter:
    """Partitions that match one of several patterns; hashable, so it can be part of a cache's key.

    Attributes:
        patterns: per wanted specification, a value or None (any) for each partition column; empty
            for everything.
    """

    patterns: tuple[tuple[str | None, ...], ...] = ()

    @classmethod
    def of(cls, columns: TableColumns, specs: Sequence[PartitionSpec]) -> PartitionFilter:
        """The filter for ``RequiredPartitions``.

        Raises:
            InvalidArgumentError: a specification names what is not a partition column, or a value that is
                not of its type.
        """
        patterns: dict[tuple[str | None, ...], None] = {}
        for spec in specs:
            values = matching_values(columns.partition, spec)
            patterns[tuple(values.get(index) for index in range(len(columns.partition)))] = None
        if any(all(value is None for value in pattern) for pattern in patterns):
            return cls()
        return cls(tuple(sorted(patterns, key=lambda pattern: [value or "" for value in pattern])))

    @property
    def everything(self) -> bool:
        """Whether every partition is wanted, also in a table without partitions."""
        return not self.patterns

    @property
    def named(self) -> list[tuple[str, ...]] | None:
        """The wanted partitions, if all are named in full; None if the filter has to be asked."""
        if self.everything or any(None in pattern for pattern in self.patterns):
            return None
        return [tuple(value or "" for value in pattern) for pattern in self.patterns]

    def matches(self, values: tuple[str, ...]) -> bool:
        """Whether a partition is wanted: one look-up for each set of columns that patterns name."""
        return not self.patterns or any(
            tuple(values[index] for index in indices) in wanted
            for indices, wanted in self._wanted.items()
        )

    @functools.cached_property
    def _wanted(self) -> dict[tuple[int, ...], set[tuple[str, ...]]]:
        """Per set of columns that some pattern names, the values that are wanted of them."""
        result: dict[tuple[int, ...], set[tuple[str, ...]]] = {}
        for pattern in self.patterns:
            named = [(index, value) for index, value in enumerate(pattern) if value is not None]
            indices = tuple(index for index, _ in named)
            result.setdefault(indices, set()).add(tuple(value for _, value in named))
        return result

    def check_existing(self, existing: Collection[tuple[str, ...]]) -> None:
        """Refuses partitions that are named in full and do not exist.

        Raises:
            NoSuchPartitionError: one of them.
        """
        known = set(existing)
        for pattern in self.patterns:
            if None not in pattern and pattern not in known:
                raise NoSuchPartitionError(
                    f"there is no partition with the values {', '.join(map(repr, pattern))}"
                )
