from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from fletching.engine.query.value_text import csv_cells
from fletching.protocol.types.arrow_types import arrow_field
from fletching.protocol.types.odps_types import parse_type

MOMENT = dt.datetime.fromisoformat("2026-01-02 03:04:05.120")
EARLY = dt.datetime.fromisoformat("1969-12-31 23:59:59.500")
STRUCT = pa.struct([("x", pa.int64()), ("y", pa.string())])


@pytest.mark.parametrize(
    ("values", "data_type", "cells"),
    [
        ([1, -2, None], pa.int64(), ["1", "-2", "\\N"]),
        ([True, False], pa.bool_(), ["true", "false"]),
        ([1.0, 0.1, 1e300], pa.float64(), ["1.0", "0.1", "1e+300"]),
        (["a,b", "", "\\N"], pa.string(), ["a,b", "", "\\N"]),
        ([b"a\xff"], pa.binary(), ["a\\xff"]),
        ([Decimal("1.50"), Decimal("0.00")], pa.decimal128(9, 2), ["1.50", "0.00"]),
        ([Decimal("0E-10")], pa.decimal128(20, 10), ["0.0000000000"]),
        ([dt.date(2026, 1, 2)], pa.date32(), ["2026-01-02"]),
        ([MOMENT, EARLY], pa.timestamp("ms"), ["2026-01-02 03:04:05", "1969-12-31 23:59:59"]),
        ([MOMENT, EARLY], pa.timestamp("us"), ["2026-01-02 03:04:05.12", "1969-12-31 23:59:59.5"]),
        ([MOMENT.replace(microsecond=0, second=0)], pa.timestamp("us"), ["2026-01-02 03:04:00"]),
        ([dt.datetime.fromisoformat("2026-01-01")], pa.timestamp("s"), ["2026-01-01 00:00:00"]),
        ([1], pa.timestamp("ns"), ["1970-01-01 00:00:00.000000001"]),
        ([3_723_500_000, None, 0], pa.time64("us"), ["01:02:03.5", "\\N", "00:00:00"]),
        ([3_723], pa.time32("s"), ["01:02:03"]),
        ([MOMENT], pa.timestamp("us", "UTC"), ["2026-01-02 03:04:05.12"]),
        ([[1, None], [], None], pa.list_(pa.int64()), ["[1,\\N]", "[]", "\\N"]),
        ([["a", "b c"]], pa.list_(pa.string()), ["[a,b c]"]),
        (
            [["a,b", 'q"q', "", " x", "\\N", "{"]],
            pa.list_(pa.string()),
            ['["a,b","q\\"q",""," x","\\N","{"]'],
        ),
        ([[("k", 1), ("m", None)]], pa.map_(pa.string(), pa.int64()), ["{k:1,m:\\N}"]),
        ([[("a:b", 1)]], pa.map_(pa.string(), pa.int64()), ['{"a:b":1}']),
        ([[(MOMENT, 1)]], pa.map_(pa.timestamp("ms"), pa.int64()), ['{"2026-01-02 03:04:05":1}']),
        ([{"x": 7, "y": None}], STRUCT, ["{x:7,y:\\N}"]),
        ([[{"x": 1, "y": "z"}, None]], pa.list_(STRUCT), ["[{x:1,y:z},\\N]"]),
        ([[[1], []]], pa.large_list(pa.list_(pa.int64())), ["[[1],[]]"]),
        ([[1.5, 2.0]], pa.list_(pa.float32(), 2), ["[1.5,2.0]"]),
        ([[1]], pa.list_(pa.timestamp("ns")), ["[1970-01-01 00:00:00]"]),
        (
            [[1_500, 2_000]],
            pa.list_(pa.timestamp("us")),
            ["[1970-01-01 00:00:00.001500,1970-01-01 00:00:00.002000]"],
        ),
        # Of these Python has no values: they are behind the year 9999 and before the year 1.
        ([[253_402_300_800]], pa.list_(pa.timestamp("s")), ["[10000-01-01 00:00:00]"]),
        ([[2_932_897]], pa.list_(pa.date32()), ["[10000-01-01]"]),
        ([2_932_897, None], pa.date32(), ["10000-01-01", "\\N"]),
        (
            [{"at": -62_167_219_200_001}],
            pa.struct([("at", pa.timestamp("ms"))]),
            ["{at:-0001-12-31 23:59:59}"],
        ),
    ],
)
def test_values_as_clients_parse_them(values: Any, data_type: Any, cells: list[str]) -> None:
    array = pa.array(values, data_type)
    assert csv_cells(array) == cells
    assert csv_cells(pa.chunked_array([array, array])) == cells * 2


@pytest.mark.parametrize(
    ("sec", "nano", "text"),
    [
        (0, 0, "0 00:00:00.000000000"),
        (93_784, 5, "1 02:03:04.000000005"),
        (-1, 500_000_000, "-0 00:00:00.500000000"),
        (-86_400, 0, "-1 00:00:00.000000000"),
    ],
)
def test_intervals(sec: int, nano: int, text: str) -> None:
    field = arrow_field("i", parse_type("interval_day_time"))
    array = pa.array([{"sec": sec, "nano": nano}, None], field.type)
    assert csv_cells(array, field) == [text, "\\N"]
    assert csv_cells(array)[0] == f"{{sec:{sec},nano:{nano}}}"
