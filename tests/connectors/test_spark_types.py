"""Arrow types as Spark has them, at every nesting, or a word about the column that Spark has no type for."""

from __future__ import annotations

import pyarrow as pa
import pytest

from fletching.connectors.spark_types import spark_schema
from fletching.errors import UsageError

PAIRS = [
    (pa.int32(), pa.int32()), (pa.uint8(), pa.int16()), (pa.uint64(), pa.decimal128(20, 0)),
    (pa.float16(), pa.float32()), (pa.large_string(), pa.string()), (pa.string_view(), pa.string()),
    (pa.date64(), pa.date32()), (pa.timestamp("ns", "UTC"), pa.timestamp("us", "UTC")),
    (pa.decimal256(38, 5), pa.decimal128(38, 5)), (pa.binary(4), pa.binary()), (pa.duration("s"), pa.duration("us")),
    (pa.dictionary(pa.int8(), pa.uint16()), pa.int32()), (pa.null(), pa.string()), (pa.uuid(), pa.binary()),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "sparks"), PAIRS, ids=str)
def test_types(kind: pa.DataType, sparks: pa.DataType) -> None:
    assert spark_schema(pa.schema([("a", kind)])).field("a").type == sparks
    assert spark_schema(pa.schema([("a", pa.large_list(kind))])).field("a").type == pa.list_(sparks)
    assert spark_schema(pa.schema([("a", pa.struct([("x", kind)]))])).field("a").type == pa.struct(
        [("x", sparks)]
    )
    if not pa.types.is_null(kind):
        assert spark_schema(pa.schema([("a", pa.map_(pa.string(), kind))])).field(
            "a"
        ).type == pa.map_(pa.string(), sparks)


@pytest.mark.parametrize(
    "kind",
    [pa.time64("us"), pa.decimal256(50, 3), pa.month_day_nano_interval(), pa.decimal128(5, -2)],
)
def test_what_spark_has_no_type_for(kind: pa.DataType) -> None:
    with pytest.raises(UsageError, match="column odd"):
        spark_schema(pa.schema([("a", pa.int8()), ("odd", kind)]))


def test_no_columns() -> None:
    with pytest.raises(UsageError, match="at least one"):
        spark_schema(pa.schema([]))
