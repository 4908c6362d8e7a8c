"""Rows of every type of column survive every change, and what cannot be computed with is refused by name."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import fletching
from fletching.client import Client, Table
from fletching.engine.changes.computed_values import computed
from fletching.errors import InvalidArgumentError

UNITS = ("s", "ms", "us", "ns")
MOMENT = {"s": 1, "ms": 1001, "us": 1_000_001, "ns": 1_000_000_001}


def counts(data_type: pa.DataType, *values: int) -> pa.Array:
    width = pa.int32() if data_type.bit_width == 32 else pa.int64()
    return pa.array([*values, None], width).cast(data_type)


def extension(data_type: Any, values: list[Any]) -> pa.Array:
    return pa.ExtensionArray.from_storage(data_type, pa.array(values, data_type.storage_type))


def arrays() -> Iterator[pa.Array]:
    """Two values and a null of every type that a table can have."""
    yield pa.array([True, False, None])
    for integer in (pa.int8(), pa.int16(), pa.int32(), pa.int64()):
        yield pa.array([-(1 << integer.bit_width - 1), 1, None], integer)
    for integer in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()):
        yield pa.array([(1 << integer.bit_width) - 1, 1, None], integer)
    for real in (pa.float16(), pa.float32(), pa.float64()):
        yield pa.array([math.inf, -0.0, None], real)
    for text in (pa.string(), pa.large_string(), pa.string_view()):
        yield pa.array(["", "表" * 9, None], text)
    for binary in (pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(3)):
        yield pa.array([b"\x00\xff\x00", b"abc", None], binary)
    yield counts(pa.date32(), -1, 20_000)
    yield counts(pa.date64(), -86_400_000, 86_400_000)
    for time in (pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")):
        yield counts(time, 0, 86_399)
    for unit in UNITS:
        yield counts(pa.duration(unit), -1000, 9_000_000_000)
        for zone in (None, "UTC", "Asia/Shanghai", "+08:00"):
            # With a fraction of its own unit.
            yield counts(pa.int64(), -MOMENT[unit], MOMENT[unit]).cast(pa.timestamp(unit, zone))
    for decimal in (
        pa.decimal32(5, 2),
        pa.decimal64(10, 2),
        pa.decimal128(38, 18),
        pa.decimal256(50, 3),
    ):
        yield pa.array([Decimal("1.25"), Decimal(-2), None]).cast(decimal)
    moment = dt.datetime(2020, 1, 1, 12, tzinfo=dt.UTC)
    zoned = pa.timestamp("us", "UTC")
    for listed in (
        pa.list_(pa.int32()),
        pa.large_list(pa.int32()),
        pa.list_(pa.int32(), 2),
        pa.list_view(pa.int32()),
    ):
        yield pa.array([[1, None], [3, 4], None], listed)
    yield pa.array([[moment], [], None], pa.list_(zoned))
    yield pa.array([[("a", moment)], [], None], pa.map_(pa.string(), zoned))
    inner = pa.struct([("At", zoned), ("half", pa.list_(pa.float16()))])
    yield pa.array([{"At": moment, "half": [1.5]}, {"At": None, "half": None}, None], inner)
    yield pa.nulls(3)
    yield pa.array(["a", "b", None]).dictionary_encode()
    yield pa.array([1, 2, None], pa.dictionary(pa.int8(), pa.int64()))
    yield pc.run_end_encode(pa.array(["a", "a", None]))
    yield extension(pa.uuid(), [b"0" * 16, b"1" * 16, None])
    yield extension(pa.bool8(), [1, 0, None])
    yield extension(pa.json_(pa.string()), ["{}", "[1]", None])


ALL = list(arrays())
NAMES = [f"c{number}" for number in range(len(ALL))]
DATA = pa.table(
    {"id": [1, 2, 3], "w": [0, 0, 0], **dict(zip(NAMES, ALL, strict=True))},
    pa.schema([pa.field("id", pa.int64(), nullable=False), ("w", pa.int64())]
              + [(name, array.type) for name, array in zip(NAMES, ALL, strict=True)]),
)  # fmt: skip

_types = pa.types


def no_statement_writes(data_type: pa.DataType) -> bool:
    """DuckDB has no such type, and no other that has all of its values."""
    if isinstance(data_type, pa.BaseExtensionType):
        return no_statement_writes(data_type.storage_type)
    return bool(
        _types.is_fixed_size_binary(data_type)
        or _types.is_time(data_type)
        or _types.is_duration(data_type)
        or _types.is_null(data_type)
        or _types.is_run_end_encoded(data_type)
    )


WRITTEN = [n for n, array in zip(NAMES, ALL, strict=True) if not no_statement_writes(array.type)]
REFUSED = [name for name in NAMES if name not in WRITTEN]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with fletching.connect(tmp_path_factory.mktemp("types") / "data", create=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def table(client: Client) -> Table:
    made = client.create_table("everything", DATA.schema)
    # A batch for each row: what is changed of several batches is written as one.
    batches = DATA.to_batches(max_chunksize=1)
    made.append(pa.RecordBatchReader.from_batches(DATA.schema, iter(batches)))
    return made


def check(table: Table) -> None:
    """Every value is what it was, but for the counter."""
    rows = table.scan().to_table()
    assert rows.schema.types == DATA.schema.types
    order = [rows["id"].to_pylist().index(number) for number in (1, 2, 3)]
    for name, expected in zip(NAMES, ALL, strict=True):
        # One by one: pyarrow takes and concatenates fewer types than there are.
        for row, position in enumerate(order):
            got = plain(rows[name].slice(position, 1).combine_chunks())
            assert got.equals(plain(expected.slice(row, 1))), name


def plain(array: pa.Array) -> pa.Array:
    """Encodings are not values."""
    if _types.is_dictionary(array.type):
        return array.dictionary_decode()
    if _types.is_run_end_encoded(array.type):
        return pc.run_end_decode(array)
    return array


def test_every_column_survives_every_change(client: Client, table: Table) -> None:
    assert table.update({"w": "w + 1"}).rows_updated == 3
    check(table)
    # Each as an expression over itself; one that is computed, so that it is no mere copy.
    assert table.update({name: f"CASE WHEN id > 0 THEN {name} END" for name in NAMES}).rows_updated
    check(table)
    client.sql("UPDATE everything SET w = w + 1 WHERE c0 IS NULL OR id < 9")
    check(table)
    client.sql(f"UPDATE everything SET {', '.join(f'{name} = {name}' for name in WRITTEN)}")
    check(table)
    client.sql(
        "MERGE INTO everything t USING everything s ON t.id = s.id WHEN MATCHED THEN UPDATE SET "
        + ", ".join(f"{name} = s.{name}" for name in WRITTEN)
    )
    check(table)
    assert table.merge(DATA, on=["id"]).rows_updated == 3
    check(table)
    assert table.upsert(DATA, on=["id"]).rows_updated == 3
    check(table)
    (first,) = DATA.slice(0, 1).to_batches()
    given = {name: plain(first.column(name))[0] for name in NAMES}
    assert table.update(values=given, where="id = 1").rows_updated == 1
    check(table)
    table.compact(purge=True)
    check(table)
    assert table.count_rows() == 3


def test_every_column_survives_in_tables_with_a_key(client: Client) -> None:
    table = client.create_table("keyed", DATA.schema, primary_key=["id"])
    table.upsert(DATA)
    table.delete_keys({"id": [2]})
    table.upsert(DATA)
    table.upsert(DATA.select(["id", "w"]), columns=["w"])
    check(table)
    feed = table.changes(0).to_table()
    assert feed.schema.types[: len(DATA.schema)] == DATA.schema.types


@pytest.mark.parametrize("name", REFUSED)
def test_what_statements_cannot_write_is_refused_by_name(
    client: Client, table: Table, name: str
) -> None:
    before = table.versions(limit=1)[0].version
    update = f"UPDATE everything SET {name} = {name}"
    merge = "MERGE INTO everything t USING everything s ON t.id = s.id WHEN MATCHED THEN UPDATE SET"
    for statement in (update, f"{merge} {name} = s.{name}"):
        with pytest.raises(InvalidArgumentError, match=name):
            client.sql(statement)
    assert table.versions(limit=1)[0].version == before


@pytest.mark.parametrize(
    ("data_type", "value", "expression"),
    [
        (pa.decimal256(50, 3), Decimal("9" * 45), "x"),  # more digits than DuckDB has
        (pa.duration("ns"), 1, "x"),  # finer than an interval
        (pa.duration("s"), 1, "INTERVAL 1 MONTH"),
        (pa.duration("s"), 90_000_000_000, "x"),  # more nanoseconds than there are
        (pa.duration("s"), 9_000_000_000, "x * 3"),
        (pa.float32(), 1.0, "x * 1e300::DOUBLE"),
        (pa.int32(), 1, "x / 2"),
        (pa.timestamp("us", "UTC"), 1, "1"),
    ],
    ids=str,
)
def test_values_that_do_not_fit_are_refused(
    client: Client, data_type: pa.DataType, value: Any, expression: str
) -> None:
    table = client.create_table(
        f"t{abs(hash((data_type, expression)))}", pa.schema([("x", data_type)])
    )
    table.append(pa.table({"x": pa.array([value]).cast(data_type)}))
    with pytest.raises(InvalidArgumentError, match="x"):
        table.update({"x": expression})
    assert table.versions(limit=1)[0].version == 1


@pytest.mark.parametrize(
    ("array", "target", "expected"),
    [
        (pa.array([0.1, None, math.nan]), pa.float32(), None),
        (pa.array([math.inf]), pa.float16(), None),
        (pa.array([1], pa.timestamp("us")), pa.timestamp("s", "UTC"), pa.timestamp("us", "UTC")),
        (pa.array([1], pa.timestamp("us", "Etc/UTC")), pa.timestamp("us"), pa.timestamp("us")),
        (pa.array(["x"]), pa.timestamp("us"), pa.string()),
        (pa.array([1.0, None, -(2.0**63)]), pa.int64(), pa.float64()),
        (pa.array([Decimal("1.00"), None]), pa.int8(), pa.decimal128(3, 2)),
    ],
    ids=str,
)  # fmt: skip
def test_computed(array: pa.Array, target: pa.DataType, expected: pa.DataType | None) -> None:
    result = computed(array, target, "x")
    assert result.type == (expected or target)
    assert len(result) == len(array)
    assert result.null_count == array.null_count


@pytest.mark.parametrize(
    ("values", "message"),
    [([2.0, None, 2.5], "2.5"), ([Decimal("1.00"), Decimal("0.10")], "0.1"), ([math.nan], "nan")],
)
def test_a_fraction_is_no_whole_number(values: list[Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"column x takes whole numbers.* {message};"):
        computed(pa.array(values), pa.int64(), "x")


def test_intervals() -> None:
    values = pa.array([(0, 1, 5_000), None, (0, -1, 0)], pa.month_day_nano_interval())
    made = computed(values.slice(1), pa.duration("us"), "x")
    assert made.to_pylist() == [None, dt.timedelta(days=-1)]
    with pytest.raises(InvalidArgumentError, match="months"):
        computed(pa.array([(1, 0, 0)], pa.month_day_nano_interval()), pa.duration("s"), "x")


def test_moments_of_expressions_are_utc(client: Client) -> None:
    schema = pa.schema(
        [("naive", pa.timestamp("us")), ("zoned", pa.timestamp("us", "Asia/Shanghai"))]
    )
    table = client.create_table("moments", schema)
    table.append({"naive": [None], "zoned": [None]})
    table.update(
        {
            "naive": "TIMESTAMPTZ '2020-01-01 08:00:00+08'",
            "zoned": "TIMESTAMP '2020-01-01 00:00:00'",
        }
    )
    expected = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    (row,) = table.scan().to_table().to_pylist()
    assert row == {"naive": expected.replace(tzinfo=None), "zoned": expected}
    client.sql("UPDATE moments SET zoned = dateadd(naive, 1, 'hour')")
    (row,) = table.scan().to_table().to_pylist()
    assert row["zoned"] == expected + dt.timedelta(hours=1)
