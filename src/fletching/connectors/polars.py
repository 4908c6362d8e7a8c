"""Tables in Polars: a lazy source that takes projection, predicate and row limit into the scan.

What of a predicate is surely the same in the service is pushed, for pruning and to move less. The
whole predicate is then applied by Polars to the frames that arrive, before the columns are chosen, so
that the answer is Polars' own whether a part was pushed or not. Polars' serialised expressions are
no stable format: a node that is not known is not pushed.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import math
import warnings
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from fletching.client import Scan, Table
from fletching.client.reading.expressions import pushdown
from fletching.connectors.narrowing import missing, narrowed, scan_of, table_of
from fletching.errors import UsageError

try:
    import polars as pl
    from polars.io.plugins import register_io_source
except ImportError as error:
    raise missing("polars", error) from error

__all__ = ["scan_table", "sink_table"]


def scan_table(source: Table | Scan) -> pl.LazyFrame:
    """A lazy frame over a table or a scan; each collection reads what is committed then.

    Raises:
        UsageError: neither a table nor a scan, or a column of a type that Polars has not.
        ServiceError: from the collection, when the service refuses.
    """
    scan = scan_of(source)
    schema = _polars_schema(scan.schema)

    def frames(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,
    ) -> Iterator[pl.DataFrame]:
        wanted = list(schema) if with_columns is None else with_columns
        return _frames(scan, wanted, predicate, n_rows, batch_size)

    return register_io_source(frames, schema=schema, validate_schema=False, is_pure=False)


def sink_table(
    frame: pl.LazyFrame | pl.DataFrame,
    table: Table,
    *,
    overwrite: bool = False,
    idempotency_key: str | None = None,
) -> int:
    """Writes a frame's rows into a table in one commit; returns how many.

    A lazy frame is computed in the streaming engine and written a batch at a time.

    Args:
        frame: its columns by name; what `Table.append` refuses is refused.
        table: where to.
        overwrite: replace the table's rows instead of adding to them.
        idempotency_key: a write with the key of an earlier one changes nothing, so that a job that died
            at the end can be run again.

    Raises:
        UsageError: no frame of Polars, no table, or data that does not fit the table.
        ServiceError: the service refused; nothing is visible.
    """
    if not isinstance(frame, pl.LazyFrame | pl.DataFrame):
        raise UsageError(f"a frame of Polars is written, not a {type(frame).__name__}")
    table = table_of(table)
    write = table.overwrite if overwrite else table.append
    if isinstance(frame, pl.DataFrame):
        return write(frame, idempotency_key=idempotency_key)
    batches = frame.collect_batches()
    return write((each.to_arrow() for each in batches), idempotency_key=idempotency_key)


def _frames(
    scan: Scan,
    wanted: list[str],
    predicate: pl.Expr | None,
    n_rows: int | None,
    batch_size: int | None,
) -> Iterator[pl.DataFrame]:
    # The predicate comes before the projection: what it needs is read too, and left out after it.
    needed = [] if predicate is None else predicate.meta.root_names()
    read = [*wanted, *(name for name in dict.fromkeys(needed) if name not in wanted)]
    # Of both a predicate and a number of rows Polars means the first rows, and those of them that meet it.
    limited = narrowed(scan, read, None, n_rows)
    pushed = None
    if predicate is not None and limited.limit is None:
        expression = _expression(predicate)
        pushed = None if expression is None else pushdown(expression, scan.schema).pushed
    source = narrowed(limited, None, pushed).releasing()
    # Closed here, so that a query that stops early ends its connections and its snapshot.
    with contextlib.closing(source.to_batches()) as batches:
        for batch in batches:
            frame = _frame(batch, read)
            if predicate is not None:
                frame = frame.filter(predicate)
            if wanted != read:
                # A selection of no columns would lose the number of rows.
                frame = frame.select(wanted) if wanted else pl.DataFrame(height=frame.height)
            if not batch_size or frame.height <= batch_size:
                yield frame
            else:
                yield from frame.iter_slices(batch_size)


def _frame(batch: pa.RecordBatch, columns: list[str]) -> pl.DataFrame:
    if not columns:
        # Arrow keeps the number of rows of a batch without columns.
        return pl.DataFrame(height=batch.num_rows)
    frame = pl.from_arrow(batch, rechunk=False)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _polars_schema(schema: pa.Schema) -> pl.Schema:
    result: dict[str, pl.DataType] = {}
    for field in schema:
        refused = UsageError(
            f"Polars has no type for column {field.name} ({field.type}): leave the column out"
        )
        if _is_foreign(field.type):
            raise refused
        try:
            series = pl.from_arrow(pa.array([], field.type))
        except (pl.exceptions.PolarsError, pa.ArrowException, ValueError, TypeError) as error:
            raise refused from error
        assert isinstance(series, pl.Series)
        result[field.name] = series.dtype
    return pl.Schema(result)


def _is_foreign(kind: pa.DataType) -> bool:
    """Types at which Polars panics, which is no exception that can be caught."""
    types = pa.types
    if types.is_decimal256(kind) or types.is_union(kind) or types.is_interval(kind):
        return True
    if types.is_run_end_encoded(kind):
        return True
    if types.is_dictionary(kind):
        return _is_foreign(kind.value_type)
    return any(_is_foreign(kind.field(each).type) for each in range(kind.num_fields))


# --- predicates ---------------------------------------------------------------------------------

_OPERATORS = {
    "Eq": "__eq__",
    "NotEq": "__ne__",
    "Lt": "__lt__",
    "LtEq": "__le__",
    "Gt": "__gt__",
    "GtEq": "__ge__",
}
_MIRRORED = {"Lt": "Gt", "LtEq": "GtEq", "Gt": "Lt", "GtEq": "LtEq"}
_NOTHING = object()


def _expression(predicate: pl.Expr) -> pc.Expression | None:
    """A condition that holds wherever the predicate does, or None.

    It may hold for more rows: a conjunct that is not known is left out.
    """
    with warnings.catch_warnings():
        # Polars says that the form may change: what is not as expected is not pushed.
        warnings.simplefilter("ignore")
        try:
            tree = json.loads(predicate.meta.serialize(format="json"))
        except (pl.exceptions.PolarsError, ValueError):
            return None
    parts = [part for part in map(_exactly, _conjuncts(tree)) if part is not None]
    whole = None
    for part in parts:
        whole = part if whole is None else whole & part
    return whole


def _conjuncts(node: object) -> Iterator[object]:
    match node:
        case {"BinaryExpr": {"left": left, "op": "And" | "LogicalAnd", "right": right}}:
            yield from _conjuncts(left)
            yield from _conjuncts(right)
        case _:
            yield node


def _exactly(node: object) -> pc.Expression | None:
    """The node as an expression that is true, false and null for the same rows; None if unknown."""
    match node:
        case {"BinaryExpr": {"left": left, "op": "And" | "LogicalAnd", "right": right}}:
            return _both(_exactly(left), _exactly(right), lambda a, b: a & b)
        case {"BinaryExpr": {"left": left, "op": "Or" | "LogicalOr", "right": right}}:
            return _both(_exactly(left), _exactly(right), lambda a, b: a | b)
        case {"BinaryExpr": {"left": {"Literal": _} as literal, "op": str(op), "right": inner}}:
            return _compared(_path(inner), _MIRRORED.get(op, op), literal)
        case {"BinaryExpr": {"left": inner, "op": str(op), "right": literal}}:
            return _compared(_path(inner), op, literal)
        case {"Function": {"input": [inner], "function": {"Boolean": "Not"}}}:
            part = _exactly(inner)
            return None if part is None else ~part
        case {"Function": {"input": [inner], "function": {"Boolean": "IsNull"}}}:
            path = _path(inner)
            return None if path is None else pc.field(*path).is_null()
        case {"Function": {"input": [inner], "function": {"Boolean": "IsNotNull"}}}:
            path = _path(inner)
            return None if path is None else pc.field(*path).is_valid()
        case {
            "Function": {
                "input": [inner, {"Literal": {"Scalar": {"List": list(data)}}}],
                "function": {"Boolean": {"IsIn": {"nulls_equal": False}}},
            }
        }:
            return _member(_path(inner), data)
    return None


def _path(node: object) -> tuple[str, ...] | None:
    """A column, or a field inside of structs; None if it is something else."""
    match node:
        case {"Column": str(name)}:
            return (name,)
        case {
            "Function": {"input": [inner], "function": {"StructExpr": {"FieldByName": str(name)}}}
        }:
            path = _path(inner)
            return None if path is None else (*path, name)
    return None


def _both(
    left: object, right: object, join: Callable[[pc.Expression, pc.Expression], pc.Expression]
) -> pc.Expression | None:
    return None if left is None or right is None else join(left, right)


def _compared(path: tuple[str, ...] | None, op: str, literal: object) -> pc.Expression | None:
    value = _value(literal)
    if path is None or value is _NOTHING or op not in _OPERATORS:
        return None
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        # pyarrow makes no value of it by itself.
        return None
    if isinstance(value, float) and (math.isnan(value) or op in {"Gt", "GtEq"}):
        # For Polars NaN is the greatest value, elsewhere it compares as false.
        return None
    result: pc.Expression = getattr(pc.field(*path), _OPERATORS[op])(value)
    return result


def _value(literal: object) -> object:
    match literal:
        case {"Literal": {"Dyn": {"Int": int(value)}}}:
            return value
        case {"Literal": {"Dyn": {"Float": int() | float() as value}}}:
            return float(value)
        case {"Literal": {"Scalar": {"String": str(value)}}}:
            return value
        case {"Literal": {"Scalar": {"Boolean": bool(value)}}}:
            return value
        case {"Literal": {"Scalar": {"Date": int(days)}}} if -700_000 < days < 2_900_000:
            return dt.date(1970, 1, 1) + dt.timedelta(days)
        case {"Literal": {"Scalar": {"Float64": int() | float() as value}}}:
            return float(value)
        case {"Literal": {"Scalar": dict(typed)}}:
            ((kind, value),) = typed.items()
            if kind.removeprefix("U") in {"Int8", "Int16", "Int32", "Int64"}:
                return int(value)
    return _NOTHING


def _member(path: tuple[str, ...] | None, data: list[int]) -> pc.Expression | None:
    """IN of a list, whose members stand in the expression as the bytes of an Arrow IPC stream."""
    if path is None:
        return None
    try:
        values = pa.ipc.open_stream(bytes(data)).read_all().column(0).combine_chunks()
    except (pa.ArrowException, ValueError, IndexError):
        return None
    if values.null_count or pa.types.is_floating(values.type):
        return None
    if pa.types.is_string_view(values.type):
        # The same texts, in the layout that pyarrow looks values up in with every release.
        values = values.cast(pa.string())
    # Null where the column is, as in Polars.
    column = pc.field(*path)
    return pc.if_else(column.is_valid(), column.isin(values), pa.scalar(None, pa.bool_()))
