from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.folding import folded

from fletching import ipc
from fletching.ipc.null_arrays import null_array
from fletching.testing.strategies import arrow_types

REE = pa.run_end_encoded(pa.int32(), pa.string())
TYPES = [
    pa.int8(),
    pa.null(),
    pa.uuid(),
    REE,
    pa.run_end_encoded(pa.int16(), pa.list_(REE)),
    pa.struct([("r", REE), ("d", pa.decimal128(5, 2))]),
    pa.list_(REE),
    pa.large_list(REE),
    pa.list_view(REE),
    pa.large_list_view(REE),
    pa.list_(REE, 3),
    pa.list_(REE, 0),
    pa.map_(pa.string(), REE),
    pa.dictionary(pa.int8(), REE),
    pa.list_(pa.struct([("r", pa.list_(REE, 2))])),
    pa.sparse_union([pa.field("r", REE), pa.field("s", pa.string())]),
    pa.dense_union([pa.field("s", pa.string()), pa.field("r", REE)], [7, 3]),
    pa.dense_union([pa.field("r", REE)]),
    pa.list_(pa.sparse_union([pa.field("r", pa.list_(REE))])),
]


@folded("data_type", TYPES)
@folded("length", [0, 1, 3, 17])
def test_nulls_of_every_type_are_valid_and_can_be_sent(data_type: Any, length: int) -> None:
    array = null_array(data_type, length)
    assert array.type == data_type
    array.validate(full=True)
    assert array.to_pylist() == [None] * length
    if length and not pa.types.is_dictionary(data_type):
        sink = io.BytesIO()
        ipc.write_stream([pa.record_batch([array], ["c"])], sink)
        assert ipc.read_stream(sink.getvalue())[0].column(0).to_pylist() == [None] * length


@settings(max_examples=50, deadline=None)
@given(arrow_types(2), st.integers(0, 20))
def test_nulls_of_any_type(data_type: Any, length: int) -> None:
    array = null_array(data_type, length)
    array.validate(full=True)
    assert (array.type, array.to_pylist()) == (data_type, [None] * length)


def test_more_rows_than_run_ends_count() -> None:
    with pytest.raises(OverflowError, match="at most 32767 rows"):
        null_array(pa.run_end_encoded(pa.int16(), pa.int8()), 40_000)
