from __future__ import annotations

import datetime as dt
import io
import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.folding import folded

from fletching import ipc
from fletching.errors import UsageError
from fletching.ipc.constant_arrays import Constant, null_array
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


def test_a_constant_is_exact_or_refused() -> None:
    moment = dt.datetime.fromisoformat("2026-01-01T05:00")
    for kind, value in (
        (pa.float32(), 0.1),
        (pa.float32(), pa.scalar(0.1)),
        (pa.int64(), 1.5),
        (pa.int8(), pa.scalar(300)),
        (pa.date32(), moment),
        (pa.date32(), pa.scalar(moment)),
        (pa.timestamp("s"), dt.datetime.fromisoformat("2026-01-01T05:00:00.000005")),
        (pa.time32("s"), dt.time(5, 0, 0, 5)),
        (pa.duration("s"), dt.timedelta(microseconds=5)),
        (pa.int8(), "text"),
    ):
        constant = Constant(pa.field("x", kind), value)
        with pytest.raises(UsageError, match=r"'x' is .* which does not have"):
            constant.array(1)
    for kind, value in (
        (pa.float32(), 0.5),
        (pa.float32(), math.nan),
        (pa.timestamp("ms", "UTC"), moment),
        (pa.decimal128(21, 2), pa.scalar(3)),
    ):
        assert Constant(pa.field("x", kind), value).array(2).type == kind
