"""Rows of every type, as Arrow and as PyODPS spells the table."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pyarrow as pa

COLUMNS = {
    "a": "bigint",
    "b": "double",
    "c": "boolean",
    "d": "datetime",
    "e": "string",
    "f": "decimal(10,2)",
    "g": "tinyint",
    "h": "smallint",
    "i": "int",
    "j": "char(3)",
    "k": "varchar(10)",
    "l": "binary",
    "m": "date",
    "n": "timestamp",
    "o": "float",
    "q": "array<bigint>",
    "r": "map<string,double>",
    "s": "struct<x:bigint,y:array<string>>",
    "u": "timestamp_ntz",
    "v": "decimal(38,18)",
}
DECLARATION = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())

# Wall clocks without a zone, as the protocol sends them.
_YEAR = dt.datetime.fromisoformat("2024-01-01")
_NOON = dt.datetime.fromisoformat("2024-01-01T12:00:00")
_BEFORE = dt.datetime.fromisoformat("1969-12-31")

SCHEMA = pa.schema(
    [
        ("a", pa.int64()),
        ("b", pa.float64()),
        ("c", pa.bool_()),
        ("d", pa.timestamp("ms")),
        ("e", pa.string()),
        ("f", pa.decimal128(10, 2)),
        ("g", pa.int8()),
        ("h", pa.int16()),
        ("i", pa.int32()),
        ("j", pa.string()),
        ("k", pa.string()),
        ("l", pa.binary()),
        ("m", pa.date32()),
        ("n", pa.timestamp("ns")),
        ("o", pa.float32()),
        ("q", pa.list_(pa.int64())),
        ("r", pa.map_(pa.string(), pa.float64())),
        ("s", pa.struct([("x", pa.int64()), ("y", pa.list_(pa.string()))])),
        ("u", pa.timestamp("ns")),
        ("v", pa.decimal128(38, 18)),
    ]
)


def rows(count: int, first: int = 0) -> pa.RecordBatch:
    """Rows of every type; each seventh row is all null."""
    columns: dict[str, list[object]] = {name: [] for name in COLUMNS}
    for n in range(first, first + count):
        values: dict[str, object] = {
            "a": n,
            "b": n / 3,
            "c": n % 2 == 0,
            "d": _YEAR + dt.timedelta(milliseconds=n),
            "e": f"text {n} äöü 漢字",
            "f": Decimal(n).scaleb(-2),
            "g": n % 100 - 50,
            "h": n % 10_000,
            "i": -n,
            "j": f"{n % 999:03d}",
            "k": f"v{n % 10**8}",
            "l": n.to_bytes(8, "little"),
            "m": dt.date(2000, 1, 1) + dt.timedelta(days=n % 5000),
            "n": _NOON + dt.timedelta(microseconds=n),
            "o": float(n % 1000),
            "q": list(range(n % 4)),
            "r": [(f"k{i}", i / 2) for i in range(n % 3)],
            "s": {"x": n, "y": [f"y{i}" for i in range(n % 3)]},
            "u": _BEFORE + dt.timedelta(microseconds=n),
            "v": Decimal(n).scaleb(-18),
        }
        for name in COLUMNS:
            columns[name].append(None if n % 7 == 6 else values[name])
    return pa.record_batch(
        [pa.array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA
    )
