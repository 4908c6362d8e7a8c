"""Whatever schema and values come: stored and read back equal, or refused in our words and nothing changed."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fletching
from fletching.errors import InternalServerError
from fletching.ipc.constant_arrays import null_array
from fletching.testing.strategies import arrow_types, values_of

SETTINGS = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
NAMES = st.text(max_size=4) | st.sampled_from(
    ["a", "A", " a", "\u017f", "s", "", "a.b", "`", "\n", "ß"]
)
ODD = st.sampled_from(
    [
        pa.null(),
        pa.month_day_nano_interval(),
        pa.decimal32(5, 2),
        pa.decimal64(9, -3),
        pa.decimal128(38, 38),
        pa.timestamp("us", "Nowhere/At all"),
        pa.binary(0),
        pa.string_view(),
        pa.uuid(),
        pa.bool8(),
        pa.struct([]),
        pa.run_end_encoded(pa.int16(), pa.string()),
        pa.dictionary(pa.uint64(), pa.decimal128(5, 2)),
        pa.dictionary(pa.int8(), pa.list_(pa.int8())),
        pa.dense_union([pa.field("a", pa.int8()), pa.field("b", pa.string())]),
    ]
)


def field(name: str, data_type: Any, nullable: bool) -> Any:
    return pa.field(name, data_type, nullable or pa.types.is_null(data_type))


def nesting(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    fields = st.lists(st.builds(field, NAMES, inner, st.booleans()), max_size=3)
    return st.one_of(
        inner.map(pa.list_),
        inner.map(pa.large_list),
        inner.map(pa.list_view),
        st.builds(pa.list_, inner, st.integers(0, 3)),
        fields.map(pa.struct),
        st.builds(pa.map_, st.sampled_from([pa.string(), pa.int8()]), inner),
        st.builds(pa.run_end_encoded, st.just(pa.int32()), inner),
        st.builds(pa.dictionary, st.just(pa.int8()), inner),
    )


TYPES = st.recursive(arrow_types(1) | ODD, nesting, max_leaves=4)
SCHEMAS = st.lists(st.builds(field, NAMES, TYPES, st.booleans()), max_size=4).map(pa.schema)


@st.composite
def columns(draw: Any, data_type: Any, rows: int) -> Any:
    """Values that pyarrow makes of the type; nulls where it makes none."""
    try:
        return pa.array(
            draw(st.lists(values_of(data_type), min_size=rows, max_size=rows)), data_type
        )
    except (NotImplementedError, pa.ArrowException, KeyError, ValueError, TypeError):
        return null_array(data_type, rows)


@pytest.fixture
def table_names() -> Any:
    return iter(f"t{number}" for number in range(10**6))


@SETTINGS
@given(data=st.data())
def test_any_schema_and_values(client: fletching.Client, table_names: Any, data: Any) -> None:
    schema = data.draw(SCHEMAS)
    try:
        table = client.create_table(next(table_names), schema)
    except InternalServerError:
        raise
    except fletching.FletchingError:
        return
    assert table.schema.equals(schema)
    rows = data.draw(st.integers(0, 3))
    try:
        given_ = pa.table([data.draw(columns(field.type, rows)) for field in schema], schema=schema)
        given_.validate(full=True)
    except (pa.ArrowException, KeyError, ValueError, NotImplementedError):
        return
    try:
        table.append(given_)
    except InternalServerError:
        raise
    except fletching.FletchingError:
        assert table.count_rows() == 0
        return
    result = table.scan().to_table()
    assert result.schema.equals(schema)
    assert result.to_pylist() == given_.to_pylist()
    assert table.preview(2).to_pylist() == given_.to_pylist()[:2]
    for name in schema.names[:2]:
        assert table.scan(columns=[name]).to_table()[name].to_pylist() == given_[name].to_pylist()


@SETTINGS
@given(data=st.data())
def test_any_values_for_any_table(client: fletching.Client, table_names: Any, data: Any) -> None:
    """Data of another schema: it fits and is there, or nothing is."""
    wanted, sent = data.draw(TYPES), data.draw(TYPES)
    try:
        table = client.create_table(next(table_names), pa.schema([("c", wanted)]))
        column = data.draw(columns(sent, 2))
        column.validate(full=True)
    except InternalServerError:
        raise
    except (fletching.FletchingError, pa.ArrowException):
        return
    name = data.draw(st.sampled_from(["c", "C", "d"]))
    try:
        table.append(pa.table({name: column}))
    except InternalServerError:
        raise
    except fletching.FletchingError:
        assert table.count_rows() == 0
        return
    assert name in {"c", "C"}
    result = table.scan().to_table()
    assert result.schema.field("c").type == wanted
    assert result.num_rows == 2
    assert result["c"].to_pylist().count(None) == column.to_pylist().count(None)
