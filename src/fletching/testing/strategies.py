"""Hypothesis strategies for Arrow types, schemas and record batches.

Values are made by Hypothesis, so failing examples shrink; batches may hold nulls, be empty, and be
slices of longer ones, because buffers with offsets are where encoders err.
"""

from __future__ import annotations

import datetime as dt
import decimal
import string
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

__all__ = ["arrow_types", "record_batches", "scalar_types", "schemas", "values_of"]

_NAMES = st.text(string.ascii_lowercase + "_", min_size=1, max_size=8)

_SCALARS: tuple[pa.DataType, ...] = (
    pa.bool_(),
    pa.int8(),
    pa.int16(),
    pa.int32(),
    pa.int64(),
    pa.uint8(),
    pa.uint32(),
    pa.uint64(),
    pa.float32(),
    pa.float64(),
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.binary_view(),
    pa.binary(3),
    pa.date32(),
    pa.time64("us"),
    pa.timestamp("s"),
    pa.timestamp("ms"),
    pa.timestamp("us", tz="UTC"),
    pa.timestamp("ns"),
    pa.duration("us"),
    pa.decimal128(12, 3),
    pa.decimal256(60, 10),
)


def scalar_types() -> st.SearchStrategy[object]:
    """Types without children."""
    return st.sampled_from(_SCALARS)


def arrow_types(max_depth: int = 2, *, dictionaries: bool = True) -> st.SearchStrategy[object]:
    """Types that tables can store, nested up to ``max_depth``."""
    scalars = scalar_types()
    if dictionaries:
        words = st.sampled_from((pa.string(), pa.int64(), pa.binary()))
        scalars |= st.builds(pa.dictionary, st.sampled_from((pa.int8(), pa.int32())), words)
    if max_depth == 0:
        return scalars
    inner = arrow_types(max_depth - 1, dictionaries=False)
    members = st.lists(st.tuples(_NAMES, inner), min_size=1, max_size=3, unique_by=_first)
    return st.one_of(
        scalars,
        inner.map(pa.list_),
        inner.map(pa.large_list),
        st.builds(pa.list_, inner, st.integers(1, 3)),
        members.map(pa.struct),
        st.builds(pa.map_, st.sampled_from((pa.string(), pa.int32())), inner),
    )


def _first(pair: tuple[object, object]) -> object:
    return pair[0]


def schemas(
    max_columns: int = 5, max_depth: int = 2, *, dictionaries: bool = True
) -> st.SearchStrategy[object]:
    """Schemas of uniquely named, nullable columns."""
    column = st.tuples(_NAMES, arrow_types(max_depth, dictionaries=dictionaries))
    return st.lists(column, min_size=1, max_size=max_columns, unique_by=_first).map(pa.schema)


def values_of(data_type: pa.DataType, *, nulls: bool = True) -> st.SearchStrategy[object]:
    """Python values that pyarrow converts to the type, exactly.

    Raises:
        NotImplementedError: a type that `arrow_types` does not make.
    """
    values = _present(data_type)
    return st.none() | values if nulls else values


def _present(data_type: pa.DataType) -> st.SearchStrategy[object]:
    types = pa.types
    if types.is_dictionary(data_type):
        return _present(data_type.value_type)
    if types.is_boolean(data_type):
        return st.booleans()
    if types.is_integer(data_type):
        bits = data_type.bit_width
        if types.is_signed_integer(data_type):
            return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        return st.integers(0, 2**bits - 1)
    if types.is_floating(data_type):
        return st.floats(width=data_type.bit_width, allow_nan=False)
    if types.is_decimal(data_type):
        bound = 10 ** min(data_type.precision, 18) - 1
        digits = data_type.scale
        return st.integers(-bound, bound).map(lambda n: decimal.Decimal(n).scaleb(-digits))
    if types.is_fixed_size_binary(data_type):
        width = data_type.byte_width
        return st.binary(min_size=width, max_size=width)
    if types.is_string(data_type) or types.is_large_string(data_type):
        return st.text(max_size=20)
    if types.is_string_view(data_type):
        return st.text(max_size=20)
    if types.is_binary(data_type) or types.is_binary_view(data_type):
        return st.binary(max_size=20)
    if types.is_date(data_type):
        return st.dates()
    if types.is_time(data_type):
        return st.times()
    if types.is_duration(data_type):
        return st.integers(-(10**12), 10**12)
    if types.is_timestamp(data_type):
        # Whole seconds are exact in every unit, and these years fit into nanoseconds.
        zone = dt.UTC if data_type.tz else None
        first, last = dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1)  # noqa: DTZ001  # the zone is added below
        return st.datetimes(first, last).map(lambda d: d.replace(microsecond=0, tzinfo=zone))
    return _nested(data_type)


def _nested(data_type: pa.DataType) -> st.SearchStrategy[object]:
    types = pa.types
    if types.is_fixed_size_list(data_type):
        size = data_type.list_size
        return st.lists(values_of(data_type.value_type), min_size=size, max_size=size)
    if types.is_list(data_type) or types.is_large_list(data_type):
        return st.lists(values_of(data_type.value_type), max_size=3)
    if types.is_map(data_type):
        item = st.tuples(values_of(data_type.key_type, nulls=False), values_of(data_type.item_type))
        return st.lists(item, max_size=3, unique_by=_first)
    if types.is_struct(data_type):
        return st.fixed_dictionaries({field.name: values_of(field.type) for field in data_type})
    raise NotImplementedError(f"no strategy for {data_type}")


@st.composite
def record_batches(
    draw: st.DrawFn,
    schema: pa.Schema = None,
    *,
    min_rows: int = 0,
    max_rows: int = 12,
    sliced: bool = True,
) -> Any:
    """Record batches of a schema, or of any.

    Args:
        draw: given by Hypothesis.
        schema: a schema, a strategy for one, or None for `schemas`.
        min_rows: at least so many rows.
        max_rows: at most so many rows.
        sliced: whether batches may be slices of longer ones.
    """
    if schema is None:
        schema = draw(schemas())
    elif isinstance(schema, st.SearchStrategy):
        schema = draw(schema)
    rows = draw(st.integers(min_rows, max_rows))
    before = draw(st.integers(0, 3)) if sliced else 0
    total = before + rows
    columns = [
        pa.array(
            draw(st.lists(values_of(field.type), min_size=total, max_size=total)), type=field.type
        )
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema).slice(before)
