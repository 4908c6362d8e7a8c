"""Rows, types and conditions that every engine is tried with, and how what it gives is compared."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["CONDITIONS", "ENGINE_ROWS", "TYPE_VALUES", "rows_where", "sorted_rows", "sql_of"]

ENGINE_ROWS = pa.table(
    {
        "id": pa.array(range(10), pa.int64()),
        "text": pa.array([None, "", 'a"b', "é", "\\n", *"fghij"], pa.string()),
        "number": pa.array([0.5, None, -0.0, 1e300, *range(6)], pa.float64()),
        "flag": pa.array([True, None, False] * 3 + [True], pa.bool_()),
        "day": pa.array([dt.date(2026, 1, n + 1) for n in range(9)] + [None], pa.date32()),
        "amount": pa.array([Decimal(n) / 4 for n in range(9)] + [None], pa.decimal128(12, 2)),
        "tags": pa.array([["a", None], [], None] * 3 + [["z"]], pa.list_(pa.string())),
        "point": pa.array(
            [{"x": n, "y": None if n % 2 else f"y{n}"} for n in range(9)] + [None],
            pa.struct([("x", pa.int32()), ("y", pa.string())]),
        ),
    }
)
"""Rows that every engine has types for: numbers, text, days, decimals, a list and a struct."""

TYPE_VALUES: dict[str, tuple[pa.DataType, list[object]]] = {
    "tinyint": (pa.int8(), [1, None, -128]),
    "smallint": (pa.int16(), [1, None]),
    "int": (pa.int32(), [1, None]),
    "unsigned": (pa.uint32(), [1, None]),
    "float": (pa.float32(), [0.5, None]),
    "binary": (pa.binary(), [b"\x00\xff", b"", None]),
    "large text": (pa.large_string(), ["a", None]),
    "text view": (pa.string_view(), ["a" * 20, None]),
    "timestamp": (pa.timestamp("us"), [dt.datetime(2026, 1, 2, 3, 4, 5, 6), None]),  # noqa: DTZ001
    "instant": (pa.timestamp("us", "UTC"), [dt.datetime(2026, 1, 2, tzinfo=dt.UTC), None]),
    "time": (pa.time64("us"), [dt.time(1, 2, 3), None]),
    "map": (pa.map_(pa.string(), pa.int32()), [[("a", 1)], [], None]),
    "fixed list": (pa.list_(pa.float32(), 2), [[1.0, 2.0], None]),
    "list of structs": (pa.list_(pa.struct([("x", pa.int64())])), [[{"x": 1}, None], None]),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), ["a", None, "b", "a"]),
    "null": (pa.null(), [None, None]),
    "boolean": (pa.bool_(), [True, None, False]),
    "bigint": (pa.int64(), [1, None, -(2**63)]),
    "unsigned tiny": (pa.uint8(), [255, None]),
    "unsigned small": (pa.uint16(), [65535, None]),
    "unsigned big": (pa.uint64(), [2**64 - 1, None, 0]),
    "half": (pa.float16(), [0.5, None]),
    "double": (pa.float64(), [0.5, None, 1e300]),
    "text": (pa.string(), ["a", None, ""]),
    "large binary": (pa.large_binary(), [b"a", None]),
    "binary view": (pa.binary_view(), [b"a" * 20, None]),
    "fixed binary": (pa.binary(3), [b"abc", None]),
    "date": (pa.date32(), [dt.date(2026, 1, 2), None]),
    "date64": (pa.date64(), [dt.date(2026, 1, 2), None]),
    "seconds": (pa.timestamp("s"), [dt.datetime(2026, 1, 2), None]),  # noqa: DTZ001
    "milliseconds": (pa.timestamp("ms", "UTC"), [dt.datetime(2026, 1, 2, tzinfo=dt.UTC), None]),
    "nanoseconds": (pa.timestamp("ns"), [dt.datetime(2026, 1, 2, 3), None]),  # noqa: DTZ001
    "time32": (pa.time32("s"), [dt.time(1, 2, 3), None]),
    "duration": (pa.duration("us"), [dt.timedelta(seconds=3, microseconds=5), None]),
    "interval": (pa.month_day_nano_interval(), [pa.MonthDayNano([1, 2, 3]), None]),
    "decimal": (pa.decimal128(38, 18), [Decimal("1.5"), None]),
    "wide decimal": (pa.decimal256(50, 2), [Decimal("1.50"), None]),
    "list": (pa.list_(pa.int32()), [[1, None], [], None]),
    "large list": (pa.large_list(pa.int64()), [[1, None], [], None]),
    "list of lists": (pa.list_(pa.list_(pa.string())), [[["a"], None, []], None]),
    "struct": (pa.struct([("x", pa.int8()), ("y", pa.string())]), [{"x": 1, "y": None}, None]),
    "struct of structs": (
        pa.struct([("s", pa.struct([("x", pa.int64())]))]),
        [{"s": {"x": 1}}, {"s": None}, None],
    ),
}
"""Types that an engine reads as they are, or refuses by the column's name."""


CONDITIONS: list[tuple[str, str, object]] = [
    ("id", ">", 5),
    ("id", "<=", 0),
    ("id", "!=", 3),
    ("number", ">", 2.0),
    ("number", "<", 3.0),
    ("number", "==", 0.0),
    ("text", "==", "é"),
    ("text", "==", "\\n"),
    ("text", "!=", "h"),
    ("text", "is null", None),
    ("flag", "==", True),
    ("day", ">=", dt.date(2026, 1, 5)),
    ("amount", "==", Decimal("0.25")),
]
"""Column, operator and value, over `ENGINE_ROWS`."""


def rows_where(rows: pa.Table, column: str, operator: str, value: object) -> pa.Table:
    """The rows that meet one of `CONDITIONS`, by an independent hand."""
    if operator == "is null":
        return rows.filter(pc.is_null(rows[column]))
    compared = {
        ">": pc.greater, "<": pc.less, ">=": pc.greater_equal, "<=": pc.less_equal,
        "==": pc.equal, "!=": pc.not_equal,
    }[operator](rows[column], pa.scalar(value, rows[column].type))  # fmt: skip
    return rows.filter(compared)


def sql_of(column: str, operator: str, value: object) -> str:
    """One of `CONDITIONS` as SQL that all engines have."""
    if operator == "is null":
        return f"{column} IS NULL"
    text = {
        str: lambda each: "'" + str(each).replace("\\", "\\\\") + "'",
        dt.date: lambda each: f"DATE '{each}'",
    }.get(type(value), str)(value)
    return f"{column} {'=' if operator == '==' else operator} {text}"


def sorted_rows(table: pa.Table) -> list[str]:
    """Rows in an order of their own, for engines that keep none; moments without their zone's name."""
    rows = (dict(sorted(row.items())) for row in table.to_pylist())
    return sorted(repr({name: _plain(value) for name, value in row.items()}) for row in rows)


def _plain(value: object) -> object:
    """The value without what engines choose for it: a moment's class and zone, a whole number's type."""
    if isinstance(value, dt.datetime):
        # pyarrow gives pandas' own class for nanoseconds, if pandas is there.
        if getattr(value, "nanosecond", 0) == 0:
            value = dt.datetime.combine(value.date(), value.timetz())
        return value if value.tzinfo is None else value.astimezone(dt.UTC)
    if isinstance(value, Decimal) and value == value.to_integral_value():
        return int(value)
    if isinstance(value, pa.MonthDayNano) and not value.months and not value.days:
        # To some engines a duration is an interval.
        return dt.timedelta(microseconds=value.nanoseconds / 1000)
    return value
