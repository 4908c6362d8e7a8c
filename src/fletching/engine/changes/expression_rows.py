"""SQL expressions over rows, evaluated by DuckDB a batch at a time.

It is used for what the scan's own filters do not know: arithmetic and functions. DuckDB gets the rows
as Arrow arrays and reaches nothing else: no files, no network, no Python objects, little memory.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import pyarrow as pa

from fletching.catalog.segment_rows import SegmentRow
from fletching.engine.query.result_types import duck_arrow_type
from fletching.engine.reading.output_schema import output_columns
from fletching.engine.reading.physical_projection import OutputMapping, PhysicalProjection
from fletching.engine.reading.scan_schema import ScanSchema
from fletching.errors import InvalidArgumentError, MissingExtraError
from fletching.protocol.messages.requests import ArrowOptions

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from duckdb.sqltypes import DuckDBPyType

__all__ = ["Evaluator", "ExpressionFilter"]

_MEMORY = "256MB"
_ROW = "fletching row"
_MAX_IDLE = 2
_SETTINGS = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    "memory_limit": _MEMORY,
    "threads": "1",
}


class Evaluator:
    """Evaluates expressions for the rows of batches. Not thread-safe."""

    def __init__(
        self, expressions: Sequence[str], targets: Sequence[tuple[pa.Field, str]] = ()
    ) -> None:
        """Takes expressions.

        Args:
            expressions: in DuckDB's SQL, parsed and checked; see `sql/value_expressions`.
            targets: of each the column that takes its values, and what that is declared as: they are what
                `fletching.engine.query.assignment` makes of them. Without any they are as DuckDB gives them.
        """
        self._expressions = expressions
        self._targets = targets
        self._connection: _Connection | None = None
        self._query: tuple[pa.Schema, str] | None = None  # for rows of a schema

    def __enter__(self) -> Callable[[pa.RecordBatch], list[pa.Array]]:
        """Opens DuckDB, if there is something to evaluate; returns what evaluates a batch.

        Raises:
            MissingExtraError: DuckDB is not installed.
        """
        if self._expressions:
            self._connection = _Connection()
        return self.evaluate

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes it; idempotent."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def evaluate(self, batch: pa.RecordBatch) -> list[pa.Array]:
        """The values of each expression, one per row.

        Raises:
            InvalidArgumentError: one cannot be evaluated.
        """
        if not self._expressions or self._connection is None:
            return []
        import duckdb

        numbers = pa.array(np.arange(batch.num_rows))
        arrays = [
            _read_by_duckdb(name, column)
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        ]
        # The rows' numbers tell the order, should DuckDB change it, and are there where no column is needed.
        rows = pa.Table.from_arrays([numbers, *arrays], names=[_ROW, *batch.schema.names])
        try:
            with self._connection as connection:
                connection.register("changed_rows", rows)
                if self._query is None or not self._query[0].equals(rows.schema):
                    self._query = rows.schema, self._query_of(connection)
                result = connection.sql(self._query[1]).to_arrow_table()
                connection.unregister("changed_rows")
        except duckdb.Error as error:
            raise InvalidArgumentError(
                f"an expression cannot be evaluated: {str(error).splitlines()[0][:300]}"
            ) from error
        *values, given = (column.combine_chunks() for column in result.columns)
        order = given.to_numpy()
        if (order[1:] < order[:-1]).any():
            back = pa.array(np.argsort(order))
            values = [array.take(back) for array in values]
        return values

    def _query_of(self, connection: DuckDBPyConnection) -> str:
        """What evaluates the rows that are registered, and gives their numbers behind the values."""
        chosen = ", ".join(f"{text} AS v{n}" for n, text in enumerate(self._expressions))
        sql = f'SELECT {chosen}, "{_ROW}" FROM changed_rows'  # noqa: S608 - parsed and checked
        if not self._targets:
            return sql
        taken = self._taken(connection.sql(sql).types)
        return f'SELECT {taken}, "{_ROW}" FROM ({sql})'  # noqa: S608 - likewise

    def _taken(self, types: Sequence[DuckDBPyType]) -> str:
        """What columns take of the expressions' values, which are of these types."""
        from fletching.engine.query.assignment import assigned, writable

        values = [f"v{number}" for number in range(len(self._expressions))]
        for number, (field, declared) in enumerate(self._targets):
            if writable(field.type):  # values of others are converted as those of Arrow are
                taken = assigned(types[number], field, declared)
                values[number] = taken.replace("{}", values[number])
        return ", ".join(f"{value} AS v{number}" for number, value in enumerate(values))


def _read_by_duckdb(name: str, column: pa.Array) -> pa.Array:
    """A column in a type that DuckDB reads.

    Raises:
        InvalidArgumentError: a value has more digits than it knows.
    """
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    wanted = duck_arrow_type(column.type)
    if wanted == column.type and not pa.types.is_duration(wanted):
        return column
    try:
        if pa.types.is_duration(wanted):
            # DuckDB gives intervals back as nanoseconds, and does not look whether they fit.
            column = column.cast(pa.duration("ns"))
        return column.cast(wanted)
    except (pa.ArrowException, NotImplementedError) as error:
        raise InvalidArgumentError(
            f"column {name} is {column.type}; it has values that expressions cannot read: {error}"
        ) from error


class _Connection:
    """DuckDB, opened or taken from those that nobody uses: opening takes longer than most changes.

    One in which something went wrong is used by nobody else. Before a process forks those that wait are
    closed: a child crashes when it lets go of its parent's.
    """

    _idle: ClassVar[list[DuckDBPyConnection]] = []

    def __init__(self) -> None:
        try:
            import duckdb
        except ImportError as error:
            raise MissingExtraError(
                "expressions in changes need DuckDB: pip install 'fletching[duckdb]'"
            ) from error
        self._process = os.getpid()
        self._sound = True
        with contextlib.suppress(IndexError):
            self._duckdb = self._idle.pop()
            return
        self._duckdb = duckdb.connect(":memory:", config=dict(_SETTINGS))
        self._duckdb.execute("SET lock_configuration = true").fetchall()

    def __enter__(self) -> DuckDBPyConnection:
        self._sound = False
        return self._duckdb

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._sound = kind is None

    def close(self) -> None:
        if self._sound and self._process == os.getpid() and len(self._idle) < _MAX_IDLE:
            self._idle.append(self._duckdb)
        else:
            self._duckdb.close()

    @classmethod
    def close_idle(cls) -> None:
        """Closes those that nobody uses."""
        with contextlib.suppress(IndexError):
            while True:
                cls._idle.pop().close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_Connection.close_idle)


class ExpressionFilter:
    """A condition that only DuckDB can evaluate, as filters are asked. Thread-safe.

    Attributes:
        projection: the columns that it mentions, as stored.
    """

    def __init__(self, text: str, scan_schema: ScanSchema, *, table: str) -> None:
        """Binds a condition.

        Raises:
            InvalidArgumentError: it is none, or names an unknown column.
        """
        from fletching.sql.queries.value_expressions import compile_expression

        columns = scan_schema.columns
        compiled = compile_expression(
            text, {name.casefold(): name for name in columns.names}, table=table
        )
        names = compiled.columns or columns.names[:1]
        indices = [columns.indices[name.casefold()] for name in names]
        as_stored = ArrowOptions(timestamp_unit=None, datetime_unit=None)
        outputs = output_columns(columns, indices, as_stored, verbatim_types=True)
        self.projection = PhysicalProjection(columns, outputs, scan_schema.versions)
        self._text = text
        self._lock = threading.Lock()
        self._evaluator = Evaluator([compiled.duckdb])
        weakref.finalize(self, self._evaluator.close).atexit = False

    def __enter__(self) -> Self:
        """Opens DuckDB.

        Raises:
            MissingExtraError: DuckDB is not installed.
        """
        self._evaluator.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._evaluator.close()

    def may_match(self, _segment: SegmentRow, _partition: tuple[str, ...]) -> bool:
        """Bounds say nothing of it."""
        return True

    def surely_matches(self, _segment: SegmentRow, _partition: tuple[str, ...]) -> bool:
        """Bounds say nothing of it."""
        return False

    def mask(
        self,
        batch: pa.RecordBatch,
        schema_version: int,
        partition: tuple[str, ...],
        columns: tuple[int, ...],
    ) -> pa.Array:
        """For each row of a stored batch whether the condition is true, or null.

        Raises:
            InvalidArgumentError: it cannot be evaluated, or is no condition.
        """
        seen = OutputMapping(self.projection, schema_version, partition, columns).apply(batch)
        with self._lock:
            (result,) = self._evaluator.evaluate(seen)
        if not pa.types.is_boolean(result.type):
            raise InvalidArgumentError(f"{self._text[:200]!r} is {result.type}, and no condition")
        return result
