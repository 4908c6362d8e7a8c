"""Arrow's types in Spark: the same, a wider one, or a refusal by the column's name."""

from __future__ import annotations

import pyarrow as pa
import pytest

from fletching.client.tabular.alignment import align_batch
from fletching.connectors.spark_types import spark_schema
from fletching.errors import UsageError

INNER = pa.struct([("x", pa.uint8()), ("y", pa.large_string())])
CASES: dict[pa.DataType, pa.DataType] = {
    **{kind: kind for kind in (pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64())},
    **{kind: kind for kind in (pa.float32(), pa.float64(), pa.string(), pa.binary(), pa.date32())},
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
    pa.float16(): pa.float32(),
    pa.large_string(): pa.string(),
    pa.string_view(): pa.string(),
    pa.large_binary(): pa.binary(),
    pa.binary_view(): pa.binary(),
    pa.binary(16): pa.binary(),
    pa.date64(): pa.date32(),
    pa.null(): pa.string(),
    pa.decimal128(38, 18): pa.decimal128(38, 18),
    pa.decimal256(30, 2): pa.decimal128(30, 2),
    pa.timestamp("s"): pa.timestamp("us"),
    pa.timestamp("ns", "UTC"): pa.timestamp("us", "UTC"),
    pa.duration("ms"): pa.duration("us"),
    pa.dictionary(pa.int8(), pa.string()): pa.string(),
    pa.list_(pa.uint8()): pa.list_(pa.int16()),
    pa.large_list(pa.string_view()): pa.list_(pa.string()),
    pa.list_(pa.float16(), 3): pa.list_(pa.float32()),
    pa.map_(pa.string(), pa.uint32()): pa.map_(pa.string(), pa.int64()),
    INNER: pa.struct([("x", pa.int16()), ("y", pa.string())]),
    pa.list_(INNER): pa.list_(pa.struct([("x", pa.int16()), ("y", pa.string())])),
}


@pytest.mark.parametrize("kind", CASES, ids=str)
def test_types(kind: pa.DataType) -> None:
    schema = pa.schema([pa.field("a", kind, nullable=kind == pa.null())])
    result = spark_schema(schema)
    assert result.field("a").type == CASES[kind]
    assert result.field("a").nullable == (kind == pa.null())


@pytest.mark.parametrize(
    "kind",
    [
        pa.time32("s"),
        pa.time64("us"),
        pa.decimal256(39, 2),
        pa.decimal128(10, -2),
        pa.month_day_nano_interval(),
        pa.sparse_union([pa.field("a", pa.int64())]),
        pa.list_(pa.time64("us")),
        pa.struct([("t", pa.time32("s"))]),
        pa.map_(pa.string(), pa.decimal256(50, 0)),
    ],
    ids=str,
)
def test_what_spark_has_not_is_refused_by_name(kind: pa.DataType) -> None:
    with pytest.raises(UsageError, match=r"column odd \(.*leave it out with columns="):
        spark_schema(pa.schema([("fine", pa.int64()), ("odd", kind)]))


def test_no_columns_are_refused() -> None:
    with pytest.raises(UsageError, match="at least one column"):
        spark_schema(pa.schema([]))


def test_values_are_the_same_in_sparks_type_or_refused() -> None:
    for kind, value in (
        (pa.uint64(), 2**64 - 1),
        (pa.float16(), 0.5),
        (pa.binary(2), b"ab"),
        (pa.timestamp("ns"), 1_000),
        (pa.dictionary(pa.int8(), pa.string()), "x"),
    ):
        batch = pa.record_batch({"a": pa.array([value, None], kind)})
        made = align_batch(batch, spark_schema(batch.schema))
        assert made.schema == spark_schema(batch.schema)
        assert made["a"][0].as_py() == batch["a"][0].as_py()
    batch = pa.record_batch({"a": pa.array([1], pa.timestamp("ns"))})
    with pytest.raises(UsageError, match="column 'a'"):
        align_batch(batch, spark_schema(batch.schema))
