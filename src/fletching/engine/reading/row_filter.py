"""Filter predicates of read sessions, bound to a table's columns.

Partition columns have one value in all rows of a segment, so what a predicate asks of them alone is
answered for all partitions at once, over a table of partitions, before any segment is looked at.
What is left of the predicate for a partition is then asked of the statistics of its segments and of
their zones, and of the rows of those that may hold a chosen one; nothing, if the partition decides alone.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fletching.catalog.segment_rows import SegmentRow
from fletching.engine.reading.output_schema import AS_STORED, output_columns
from fletching.engine.reading.physical_projection import OutputMapping, PhysicalProjection
from fletching.engine.reading.scan_schema import ScanSchema
from fletching.engine.tables.statistics import column_key, read_statistics
from fletching.engine.tables.zone_bounds import choose, read_zones
from fletching.errors import CorruptObjectError, InvalidArgumentError
from fletching.protocol.types.row_selection import filter_rows
from fletching.sql.predicates.bounds import Bounds, ColumnBounds, Physical
from fletching.sql.predicates.conditions import FALSE, TRUE, Condition, fold, narrowed, parts_over

if TYPE_CHECKING:
    from fletching.sql.predicates.predicate_compiler import Predicate

__all__ = ["WORTH_PROVING", "RowFilter", "Zones", "row_filter"]

_REMEMBERED_TEXT = 4096
"""Longer predicates are compiled each time: a list of many values takes as much memory."""

WORTH_PROVING = 6
"""Fewer zones are looked at row by row, which takes less than proving that all of their rows are chosen."""

_Known = Callable[[str], "ColumnBounds | None"]
"""What is known of a column's values in some rows, by its key."""


class Zones(NamedTuple):
    """What is known of each zone of a segment (see `engine/tables/zone_bounds.py`).

    Attributes:
        may: whether it can hold a chosen row.
        all: whether every row of it is chosen.
    """

    may: NDArray[np.bool_]
    all: NDArray[np.bool_]


def row_filter(
    text: str, scan_schema: ScanSchema, *, table: str = "", fallback: bool = False
) -> RowFilter | None:
    """The filter of a session; None for an empty predicate.

    Args:
        text: the predicate.
        scan_schema: the session's table, whose columns may all be mentioned, read or not.
        table: the table's name, with which columns may be qualified.
        fallback: choose all rows if the predicate is not understood.

    Raises:
        InvalidArgumentError: the text is no predicate, or names an unknown column.
    """
    if not text.strip():
        return None
    fields = tuple(scan_schema.columns.filter_fields.items())
    try:
        # A read asks again with every split, and many reads ask the same.
        compiled = _compiled if len(text) <= _REMEMBERED_TEXT else _compiled.__wrapped__
        predicate = compiled(text, fields, table)
    except InvalidArgumentError:
        if fallback:
            return None
        raise
    return RowFilter(predicate, scan_schema)


@functools.lru_cache(maxsize=128)  # of texts that are short, so that each takes some kilobytes
def _compiled(text: str, fields: tuple[tuple[str, pa.Field], ...], table: str) -> Predicate:
    # sqlglot takes a while to import, so only who filters does it.
    from fletching.sql.predicates.predicate_compiler import compile_predicate

    return compile_predicate(text, dict(fields), table=table)


class RowFilter:
    """A predicate over the columns of a table. Thread-safe.

    Attributes:
        projection: the columns that it mentions, as stored.
    """

    def __init__(self, predicate: Predicate, scan_schema: ScanSchema) -> None:
        """Binds a compiled predicate to the columns of a table."""
        columns = scan_schema.columns
        names = predicate.columns or columns.names[:1]
        indices = [columns.indices[name.casefold()] for name in names]
        outputs = output_columns(columns, indices, AS_STORED, verbatim_types=False)
        self.projection = PhysicalProjection(columns, outputs, scan_schema.versions)
        self._condition = predicate.condition
        self._scan_schema = scan_schema
        self._predicate = predicate
        self._columns = columns
        keys = {name for name, _ in columns.partition}
        self._asked = [output for output in outputs if output.index >= len(columns.data)]
        # Parts that only partition columns decide, as far as the predicate has any.
        self._parts = parts_over(self._condition, keys) if self._asked else []
        self._left: dict[tuple[str, ...], Condition] = {}
        self._keys: dict[tuple[int, tuple[str, ...]], str | ColumnBounds | None] = {}
        self._lock = threading.Lock()

    # --- partitions --------------------------------------------------------------------------

    def prepare(self, partitions: Iterable[tuple[str, ...]]) -> None:
        """Answers for partitions what can be, all at once; `left` then takes no time for them.

        Raises:
            CorruptObjectError: a partition value is not of its column's type.
        """
        with self._lock:
            unknown = [values for values in dict.fromkeys(partitions) if values not in self._left]
            if not unknown:
                return
            if not self._parts:
                self._left.update(dict.fromkeys(unknown, self._condition))
                return
            answers = self._answers(unknown)
            folded: dict[tuple[bool, ...], Condition] = {}
            for values, chosen in zip(unknown, zip(*answers, strict=True), strict=True):
                if chosen not in folded:
                    known = {
                        id(part): answer for part, answer in zip(self._parts, chosen, strict=True)
                    }
                    folded[chosen] = fold(self._condition, known)
                self._left[values] = folded[chosen]

    def _answers(self, partitions: list[tuple[str, ...]]) -> list[list[bool]]:
        """Per part, whether it is true of each partition; null counts as false."""
        count = len(self._columns.data)
        arrays = []
        for output in self._asked:
            number = output.index - count
            texts = pa.array([values[number] for values in partitions], pa.string())
            try:
                arrays.append(texts.cast(output.field.type))
            except pa.ArrowInvalid as error:
                raise CorruptObjectError(
                    f"a partition value of column {output.field.name} is no {output.field.type}"
                ) from error
        table = pa.Table.from_arrays(arrays, [output.field.name for output in self._asked])
        result = _evaluated(table, [part.expression for part in self._parts])
        return [pc.fill_null(column, False).to_pylist() for column in result.columns]

    def left(self, partition: tuple[str, ...]) -> Condition:
        """What is left to ask of a partition's rows: `TRUE` for all of them, `FALSE` for none."""
        known = self._left.get(partition)
        if known is None:
            self.prepare([partition])
            known = self._left[partition]
        return known

    # --- segments ----------------------------------------------------------------------------

    def may_match(self, segment: SegmentRow, partition: tuple[str, ...]) -> bool:
        """Whether a segment of a partition can hold a chosen row, by its statistics."""
        condition = self.left(partition)
        if condition is TRUE or condition is FALSE:
            return condition is TRUE
        return condition.may(self.bounds(segment, _of_segment(segment)))

    def surely_matches(self, segment: SegmentRow, partition: tuple[str, ...]) -> bool:
        """Whether every row of a segment is chosen, as its partition or its statistics prove."""
        condition = self.left(partition)
        if condition is TRUE or condition is FALSE:
            return condition is TRUE
        return self._surely(segment, partition, _of_segment(segment))

    def zones(
        self, segment: SegmentRow, partition: tuple[str, ...], count: int, *, proves: bool = True
    ) -> Zones | None:
        """What is known of the zones of a segment, of which there are ``count``; None for nothing.

        Without ``proves`` it is not asked which of them hold chosen rows alone: none is said to.

        Cost: a test for few of them where the chosen rows lie together, else some three microseconds
        for each.
        """
        known = read_zones(segment.zone_bounds)
        condition = self.left(partition)
        if known is None or condition is TRUE or condition is FALSE:
            return None

        def may(first: int, end: int) -> bool:
            result = functools.partial(known.column, first=first, end=end)
            return condition.may(self.bounds(segment, result))

        chosen = choose(count, may)
        if not proves or np.count_nonzero(chosen) < WORTH_PROVING:
            return Zones(chosen, np.zeros(count, dtype=bool))

        def may_not(first: int, end: int) -> bool:
            result = functools.partial(known.column, first=first, end=end)
            return bool(chosen[first:end].any()) and not self._surely(segment, partition, result)

        return Zones(chosen, chosen & ~choose(count, may_not))

    def bounds(self, segment: SegmentRow, known: _Known) -> Bounds:
        """What conditions ask of rows of a segment of which something is known, by columns' keys."""
        version = segment.schema_version

        def bounds(path: tuple[str, ...]) -> ColumnBounds | None:
            key = self._key(version, path)
            return known(key) if isinstance(key, str) else key

        return bounds

    def _key(self, schema_version: int, path: tuple[str, ...]) -> str | ColumnBounds | None:
        """By what the bounds of a column are found in segments of a schema version.

        The bounds themselves where the segments have no values of it; None if they say nothing of it.
        Remembered, as each zone of each segment is asked.
        """
        where = schema_version, path
        if where not in self._keys:
            self._keys[where] = self._find_key(schema_version, path)
        return self._keys[where]

    def _find_key(self, schema_version: int, path: tuple[str, ...]) -> str | ColumnBounds | None:
        index = self._indices[path[0].casefold()]
        stored = self.projection.stored(schema_version)
        source, output = stored.source[index], self.projection.outputs[index]
        if output.index >= len(self._columns.data):
            # A partition column, inside a part that asks of data columns as well.
            return None
        if source is None:
            # The column is younger than the segment: its rows are null.
            return ColumnBounds(nulls=True, values=False)
        field = stored.schema.field(source)
        if field.type != output.stored.type and not (
            pa.types.is_integer(field.type) and pa.types.is_integer(output.stored.type)
        ):
            return None
        return column_key((field.name, *path[1:]))

    def _surely(self, segment: SegmentRow, partition: tuple[str, ...], known: _Known) -> bool:
        """Whether all of some rows are chosen.

        Bounds prove it where no row makes the condition false, and none makes it null: a null, or a
        NaN, makes it neither true nor false.
        """
        stored = self.projection.stored(segment.schema_version)
        for output, source in zip(self.projection.outputs, stored.source, strict=True):
            if output.index >= len(self._columns.data):
                return False  # asked of together with data columns
            if source is None or stored.schema.field(source).type != output.stored.type:
                return False
            column = known(column_key((stored.schema.field(source).name,)))
            if column is None or column.nulls or column.unordered:
                return False
        opposite = self._opposite
        if opposite is None:
            return False
        condition = opposite.left(partition)
        if condition is TRUE or condition is FALSE:
            return condition is FALSE
        return not condition.may(opposite.bounds(segment, known))

    @functools.cached_property
    def _opposite(self) -> RowFilter | None:
        """The filter of rows for which the predicate is false."""
        make = self._predicate.opposite
        if make is None:
            return None
        try:
            return RowFilter(make(), self._scan_schema)
        except InvalidArgumentError:
            return None

    @functools.cached_property
    def _indices(self) -> dict[str, int]:
        """The index in the projection of each column, by its case-folded name."""
        return {
            output.field.name.casefold(): index
            for index, output in enumerate(self.projection.outputs)
        }

    # --- rows --------------------------------------------------------------------------------

    def mask(
        self,
        batch: pa.RecordBatch,
        schema_version: int,
        partition: tuple[str, ...],
        columns: tuple[int, ...],
    ) -> pa.Array | None:
        """For each row of a stored batch whether the predicate is true, or null; None if all are.

        Raises:
            InvalidArgumentError: the predicate cannot be applied to the columns' types.
        """
        condition = self.left(partition)
        if condition is TRUE:
            return None
        if condition is FALSE:
            return pa.repeat(pa.scalar(False), batch.num_rows)
        seen = OutputMapping(self.projection, schema_version, partition, columns).apply(batch)
        condition = narrowed(condition, functools.partial(_extent, seen))
        evaluated = _evaluated(pa.Table.from_batches([seen]), [condition.expression])
        chosen = evaluated.column(0).combine_chunks()
        return None if chosen.true_count == len(chosen) else chosen

    def chosen(
        self,
        batch: pa.RecordBatch,
        schema_version: int,
        partition: tuple[str, ...],
        columns: tuple[int, ...],
    ) -> pa.RecordBatch:
        """The stored batch's rows for which the predicate is true; copies them unless all are.

        Raises:
            InvalidArgumentError: the predicate cannot be applied to the columns' types.
        """
        if self.left(partition) is FALSE:
            return batch.slice(0, 0)
        chosen = self.mask(batch, schema_version, partition, columns)
        if chosen is None:
            return batch
        try:
            return filter_rows(batch, chosen)
        except pa.ArrowException as error:
            raise InvalidArgumentError(f"the table's rows cannot be filtered: {error}") from error


def _of_segment(segment: SegmentRow) -> _Known:
    """What is known of all rows of a segment."""
    recorded = read_statistics(segment.statistics)

    def known(key: str) -> ColumnBounds | None:
        result = recorded.get(key)
        return None if result is None else result.bounds()

    return known


def _extent(batch: pa.RecordBatch, path: tuple[str, ...]) -> tuple[Physical, Physical] | None:
    """The least and greatest value of a whole number or text column, in Python's order of them."""
    if len(path) != 1:
        return None
    column = batch.column(path[0])
    if not (pa.types.is_integer(column.type) or pa.types.is_string(column.type)):
        return None
    ends = pc.min_max(column)
    least, greatest = ends["min"].as_py(), ends["max"].as_py()
    return None if least is None else (least, greatest)


def _evaluated(table: pa.Table, expressions: list[pc.Expression]) -> pa.Table:
    """Conditions over a table's rows, one column each.

    Raises:
        InvalidArgumentError: one cannot be applied to the columns' types.
    """
    # Imported here because it imports pandas, which takes longer than opening a folder.
    from pyarrow import acero

    source = acero.Declaration("table_source", acero.TableSourceNodeOptions(table))
    names = [str(number) for number in range(len(expressions))]
    try:
        mask = acero.ProjectNodeOptions(expressions, names)
        plan = acero.Declaration("project", mask, inputs=[source])
        return plan.to_table(use_threads=False)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise InvalidArgumentError(
            f"the filter cannot be applied to the table's columns: {error}"
        ) from error
