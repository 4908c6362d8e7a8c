from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from fletching.engine.tables.statistics import (
    MAX_COLUMNS,
    MAX_TEXT,
    ColumnStatistics,
    StatisticsBuilder,
    column_key,
    few_values,
    read_statistics,
)
from fletching.engine.tables.zone_bounds import read_zones

LONG = "x" * 200


def record(*columns: Any, data_type: Any = None) -> ColumnStatistics | None:
    arrays = [pa.array(values, data_type) for values in columns]
    builder = StatisticsBuilder(pa.schema([("c", arrays[0].type)]))
    for array in arrays:
        builder.add([array])
    return bounds_of(builder).get("c")


def bounds_of(builder: StatisticsBuilder) -> dict[str, ColumnStatistics]:
    """What is recorded, without the counts of nulls."""
    recorded = read_statistics(builder.encode())
    return {
        name: msgspec.structs.replace(column, null_count=None) for name, column in recorded.items()
    }


def nulls_of(builder: StatisticsBuilder) -> dict[str, int | None]:
    return {name: column.null_count for name, column in read_statistics(builder.encode()).items()}


@pytest.mark.parametrize(
    ("columns", "data_type", "expected"),
    [
        ([[3, 1], [2, 9]], pa.int8(), ColumnStatistics(1, 9, False, True)),
        ([[3, None]], pa.uint64(), ColumnStatistics(3, 3, True, True)),
        ([[None, None], [5]], pa.int64(), ColumnStatistics(5, 5, True, True)),
        ([[None]], pa.int64(), ColumnStatistics(None, None, True, False)),
        ([[]], pa.int64(), ColumnStatistics(None, None, False, False)),
        ([[2**64 - 1]], pa.uint64(), ColumnStatistics(2**64 - 1, None, False, True)),
        ([[True, False]], pa.bool_(), ColumnStatistics(False, True, False, True)),
        ([[1.5, -2.0]], pa.float64(), ColumnStatistics(-2.0, 1.5, False, True)),
        ([[1.5, math.nan]], pa.float64(), ColumnStatistics(1.5, 1.5, False, True, True)),
        ([[1.5, math.nan, None]], pa.float32(), ColumnStatistics(1.5, 1.5, True, True, True)),
        ([[math.nan]], pa.float64(), ColumnStatistics(None, None, False, True, True)),
        ([[math.nan], [2.0]], pa.float64(), ColumnStatistics(2.0, 2.0, False, True, True)),
        ([[math.inf, 1.0]], pa.float64(), ColumnStatistics(1.0, None, False, True)),
        ([[dt.date(1970, 1, 3)]], pa.date32(), ColumnStatistics(2, 2, False, True)),
        ([[7, 9]], pa.timestamp("us", "UTC"), ColumnStatistics(7, 9, False, True)),
        (
            [[Decimal("-1.50"), Decimal("2.25")]],
            pa.decimal128(5, 2),
            ColumnStatistics(-150, 225, False, True),
        ),
        (
            [[Decimal(10) ** 25]],
            pa.decimal128(38, 0),
            ColumnStatistics(None, None, False, True),
        ),
        (
            [["b" + LONG, "a" + LONG]],
            pa.string(),
            ColumnStatistics(("a" + LONG)[:MAX_TEXT], None, False, True),
        ),
        ([["a", "b"]], pa.string(), ColumnStatistics(None, None, False, True)),
        ([[LONG], ["a"]], pa.string(), ColumnStatistics(None, None, False, True)),
    ],
)
def test_bounds_of_columns(columns: list[Any], data_type: Any, expected: ColumnStatistics) -> None:
    bounds = record(*columns, data_type=data_type)
    if data_type == pa.uint64() and bounds is not None and bounds.lower is None:
        # beyond 64 signed bits no bound is kept
        assert expected.lower == 2**64 - 1
        return
    assert bounds == expected


@pytest.mark.parametrize(
    "data_type",
    [pa.binary(), pa.list_(pa.int8()), pa.float16(), pa.time32("s"), pa.null()],
    ids=str,
)
def test_other_types_are_not_recorded(data_type: Any) -> None:
    assert record([None], data_type=data_type) is None


def test_only_the_first_columns_are_recorded() -> None:
    schema = pa.schema([(f"c{i}", pa.int8()) for i in range(MAX_COLUMNS + 5)])
    builder = StatisticsBuilder(schema)
    builder.add([pa.array([1], pa.int8())] * len(schema))
    assert len(bounds_of(builder)) == MAX_COLUMNS


def test_merging_segments_keeps_what_both_know() -> None:
    schema = pa.schema([("a", pa.int64()), ("s", pa.string())])
    first, second = StatisticsBuilder(schema), StatisticsBuilder(schema)
    first.add([pa.array([1, 2]), pa.array([LONG, LONG])])
    second.add([pa.array([5, None]), pa.array(["short", None])])
    merged = StatisticsBuilder(schema)
    merged.merge(first.encode())
    merged.merge(second.encode())
    known = bounds_of(merged)
    assert known["a"] == ColumnStatistics(1, 5, True, True)
    assert known["s"] == ColumnStatistics(None, None, True, True)
    merged.merge(None)
    assert bounds_of(merged)["a"] == ColumnStatistics(None, None, True, True, True)


@pytest.mark.parametrize("turned", [False, True])
def test_a_bound_that_one_segment_lacks_is_lacking_when_merged(turned: bool) -> None:
    schema = pa.schema([("s", pa.string())])
    long_upper = StatisticsBuilder(schema)
    long_upper.add([pa.array(["a" * 10 + "z" * 300])])
    records = [long_upper.encode(), b'{"s": ["b", "c", false, true, false]}']
    merged = StatisticsBuilder(schema)
    for record_ in records[::-1] if turned else records:
        merged.merge(record_)
    assert bounds_of(merged)["s"] == ColumnStatistics(None, None, False, True)


@pytest.mark.parametrize("turned", [False, True])
def test_merging_keeps_that_some_value_is_not_a_number(turned: bool) -> None:
    schema = pa.schema([("f", pa.float64())])
    records = []
    for values in ([1.0], [1.0, math.nan]):
        builder = StatisticsBuilder(schema)
        builder.add([pa.array(values)])
        records.append(builder.encode())
    merged = StatisticsBuilder(schema)
    for data in records[::-1] if turned else records:
        merged.merge(data)
    assert bounds_of(merged)["f"] == ColumnStatistics(1.0, 1.0, False, True, True)


KINDS: list[tuple[Any, list[list[Any]]]] = [
    (pa.int64(), [[3, 1], [], [7], [None, 2], [None]]),
    (pa.float64(), [[0.5], [math.nan, 2.0], [-math.inf, 3.0], [None, 1.0], [math.inf, 4.0]]),
    (pa.bool_(), [[True], [False, True], [None]]),
    (pa.string(), [["a"], ["b", "c"], [None]]),
    (pa.string(), [[LONG], ["b" + LONG, "a" + LONG], [None, LONG]]),
    (pa.large_string(), [["b" * 50 * MAX_TEXT, ""], ["c" * MAX_TEXT] * 3]),
    (pa.uint64(), [[2**64 - 1], [1]]),
    (pa.timestamp("us"), [[1], [5], [3]]),
    (pa.struct([("x", pa.int8())]), [[{"x": 1}], [{"x": 5}, None], [{"x": 3}]]),
]


@pytest.mark.parametrize(("data_type", "values"), KINDS, ids=lambda kind: str(kind)[:20])
def test_zones_that_are_taken_over_say_what_their_batches_say(
    data_type: Any, values: list[list[Any]]
) -> None:
    schema = pa.schema([("a", pa.int64()), ("c", data_type)])
    batches = [[pa.array([n] * len(v)), pa.array(v, data_type)] for n, v in enumerate(values)]
    source = StatisticsBuilder(schema)
    for batch in batches:
        source.add(batch)
    zones = read_zones(source.encode_zones())
    for first in range(len(batches)):
        for end in range(first + 1, len(batches) + 1):
            builders = [StatisticsBuilder(schema) for _ in range(2)]
            for builder in builders:
                builder.add(batches[0])
            for batch in batches[first:end]:
                builders[0].add(batch)
            builders[1].add_zones(zones, first, end, lambda: iter(batches[first:end]))  # noqa: B023
            assert builders[1].encode() == builders[0].encode()
            assert builders[1].encode_zones() == builders[0].encode_zones()
    merged = StatisticsBuilder(schema)
    merged.merge(source.encode())
    merged.merge_zones(zones, source.encode(), len(batches))
    if zones is not None and zones.entries(column_key(["c"]), 0, len(batches)) is not None:
        assert merged.encode_zones() == source.encode_zones()


def test_batches_are_not_looked_at_where_zones_say_enough() -> None:
    schema = pa.schema([("a", pa.int64()), ("f", pa.float64())])
    source = StatisticsBuilder(schema)
    for number in range(4):
        source.add([pa.array([number, -number]), pa.array([0.5 * number] * 2)])

    def refuse() -> Any:
        raise AssertionError

    builder = StatisticsBuilder(schema)
    builder.add_zones(read_zones(source.encode_zones()), 1, 3, refuse)
    assert bounds_of(builder) == {
        "a": ColumnStatistics(-2, 2, False, True),
        "f": ColumnStatistics(0.5, 1.0, False, True),
    }


def test_fields_of_structs_are_recorded_at_every_depth() -> None:
    inner = pa.struct([("x", pa.float64()), ("l", pa.list_(pa.int8()))])
    data_type = pa.struct([("a", pa.int8()), ("c", inner), ("nul\x00", pa.int8())])
    schema = pa.schema([("st", data_type), ("st.a", pa.int64())])
    builder = StatisticsBuilder(schema)
    rows = [{"a": 1, "c": {"x": 0.5}}, None, {"a": 3, "c": None}]
    builder.add([pa.array(rows, data_type), pa.array([7, 7, 7])])
    builder.add([pa.array(rows, data_type).slice(2), pa.array([7])])
    assert bounds_of(builder) == {
        "st.a": ColumnStatistics(7, 7, False, True),
        column_key(["st", "a"]): ColumnStatistics(1, 3, True, True),
        column_key(["st", "c", "x"]): ColumnStatistics(0.5, 0.5, True, True),
    }


def test_nulls_are_counted() -> None:
    schema = pa.schema([("a", pa.int64()), ("s", pa.struct([("x", pa.int8())]))])
    builder = StatisticsBuilder(schema)
    rows = [{"x": 1}, None, {"x": None}]
    builder.add([pa.array([1, None, None]), pa.array(rows, schema.field("s").type)])
    # A batch of several zones.
    many = pa.array([None] * 70_000 + [1] * 70_000, pa.int64())
    builder.add([many, pa.nulls(140_000, schema.field("s").type)])
    assert nulls_of(builder) == {"a": 70_002, column_key(["s", "x"]): 140_002}


def test_counts_of_nulls_are_exact_or_not_there() -> None:
    schema = pa.schema([("a", pa.int64()), ("b", pa.int64())])
    first = StatisticsBuilder(schema)
    first.add([pa.array([1, None]), pa.array([1, 2])])
    merged = StatisticsBuilder(schema)
    for _ in range(2):
        merged.merge(first.encode())
    assert nulls_of(merged) == {"a": 2, "b": 0}
    # Earlier releases counted none.
    merged.merge(b'{"a": [1, 1, true, true, false], "b": [1, 1, false, true, false]}')
    assert nulls_of(merged) == {"a": None, "b": 0}
    merged.merge(b'{"a": [1, 1, false, true, false], "b": [1, 1, true, true, false]}')
    assert nulls_of(merged) == {"a": None, "b": None}


def test_few_values_have_bounds_though_they_are_texts() -> None:
    assert few_values(pa.array(["b", "a", None])) == ColumnStatistics(
        "a", "b", True, True, False, 1
    )
    assert few_values(pa.array([], pa.int8())) == ColumnStatistics(null_count=0)
    assert few_values(pa.array([b"x"])) is None


@pytest.mark.parametrize("data", [None, b"", b"x", b"[]", b'{"a": 1}'])
def test_what_cannot_be_read_says_nothing(data: bytes | None) -> None:
    assert read_statistics(data) == {}
