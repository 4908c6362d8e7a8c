from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from fletching.testing.strategies import arrow_types, record_batches, schemas, values_of


@settings(deadline=None)
@given(record_batches())
def test_batches_are_valid(batch: pa.RecordBatch) -> None:
    batch.validate(full=True)


@settings(deadline=None)
@given(st.data(), arrow_types())
def test_values_are_kept_exactly(data: st.DataObject, data_type: pa.DataType) -> None:
    value = data.draw(values_of(data_type))
    array = pa.array([value], type=data_type)
    again = pa.array(array.to_pylist(maps_as_pydicts=None), type=data_type)
    assert again == array
    assert (array[0].as_py() is None) == (value is None)


@settings(deadline=None)
@given(st.data())
def test_batches_have_the_schema_and_size_asked_for(data: st.DataObject) -> None:
    schema = data.draw(schemas(max_columns=3))
    batch = data.draw(record_batches(schema, min_rows=2, max_rows=4))
    assert batch.schema == schema
    assert 2 <= batch.num_rows <= 4


def test_nested_and_sliced_batches_appear() -> None:
    from hypothesis import find

    find(arrow_types(), pa.types.is_struct)
    find(arrow_types(), pa.types.is_map)
    find(arrow_types(), pa.types.is_dictionary)
    find(record_batches(), lambda batch: batch.num_rows > 0 and batch.column(0).offset > 0)
