from __future__ import annotations

import datetime as dt
import math
from typing import Any

import duckdb
import pytest

from fletching.sql.functions.conversions import converted, convertible
from fletching.sql.functions.sql_types import (
    BIGINT,
    BINARY,
    DATE,
    DATETIME,
    DOUBLE,
    INT,
    NULL,
    STRING,
    UNKNOWN,
    SqlType,
    array_of,
    map_of,
    struct_of,
)

PAIR = struct_of(["a", "b"], [STRING, STRING])
NUMBERED = struct_of(["a", "b"], [BIGINT, STRING])


def value(sql: str) -> Any:
    with duckdb.connect() as connection:
        (row,) = connection.sql(f"select {sql}").fetchall()
        return row[0]


@pytest.mark.parametrize(
    ("text", "given", "wanted", "result"),
    [
        ("'12.9'", STRING, BIGINT, 12),
        ("' -7 '", STRING, BIGINT, -7),
        ("'1_0'", STRING, BIGINT, None),
        ("'0x10'", STRING, BIGINT, None),
        ("'1e3'", STRING, BIGINT, None),
        ("'1_0'", STRING, DOUBLE, None),
        ("'nan(1)'", STRING, DOUBLE, None),
        ("'1_0'", STRING, SqlType("DECIMAL", 10, 2), None),
        ("['1_0', '0x10', '2.9']", array_of(STRING), array_of(BIGINT), [None, None, 2]),
        (
            "[[1.9::double], null]",
            array_of(array_of(DOUBLE)),
            array_of(array_of(BIGINT)),
            [[1], None],
        ),
        (
            "map {'1_0': '0x10', '7': '8.9'}",
            map_of(STRING, STRING),
            map_of(STRING, BIGINT),
            {"1_0": None, "7": 8},
        ),
        ("map {'1_0': 1}", map_of(STRING, INT), map_of(BIGINT, INT), None),
        ("map {'1': 2, ' 1 ': 3}", map_of(STRING, INT), map_of(BIGINT, INT), {1: 3}),
        ("null::map(varchar, int)", map_of(STRING, INT), map_of(BIGINT, INT), None),
        (
            "{'a': 'epoch', 'b': [{'a': '1_0', 'b': 'x'}, null]}",
            struct_of(["a", "b"], [STRING, array_of(PAIR)]),
            struct_of(["B", "A"], [array_of(struct_of(["b", "a"], [STRING, DOUBLE])), DATE]),
            {"B": [{"b": "x", "a": None}, None], "A": None},
        ),
        (
            "{'col1': '2.9', 'col2': 'y'}",
            struct_of(["col1", "col2"], [STRING] * 2),
            NUMBERED,
            {"a": 2, "b": "y"},
        ),
        ("null::struct(a varchar, b varchar)", PAIR, NUMBERED, None),
        ("{'a': '1'}", struct_of(["A"], [STRING]), NUMBERED, {"a": 1, "b": None}),
        ("['abc']", array_of(STRING), array_of(SqlType("VARCHAR", 2)), ["ab"]),
        ("['\\xff'::blob, 'a'::blob]", array_of(BINARY), array_of(STRING), [None, "a"]),
        ("'2026-01-02 (BC)'", STRING, DATE, None),
        ("'2026-01-02' || ' (BC)'", STRING, DATE, None),
        ("'1e3'", STRING, DOUBLE, 1000.0),
        ("'1e308'", STRING, DOUBLE, 1e308),
        ("'-1e400'", STRING, DOUBLE, None),
        ("' 1E-400 '", STRING, DOUBLE, None),
        ("'0e-400'", STRING, DOUBLE, 0.0),
        ("'1e39'", STRING, SqlType("FLOAT"), None),
        ("'1e-50'", STRING, SqlType("FLOAT"), None),
        ("repeat('9', 400)", STRING, DOUBLE, None),
        ("'0.' || repeat('0', 400) || '1'", STRING, DOUBLE, None),
        ("'-Infinity'", STRING, DOUBLE, -math.inf),
        ("repeat(' ', 40) || 'inf'", STRING, DOUBLE, math.inf),
        (" || ".join(["'12'", *["''"] * 30]), STRING, DOUBLE, 12.0),
        ("1.9::double", DOUBLE, BIGINT, 1),
        ("'epoch'", STRING, DATETIME, None),
        ("'2024-01-01 21:00:00+09:00'", STRING, DATETIME, dt.datetime(2024, 1, 1, 12)),  # noqa: DTZ001
        ("'2024-01-01T21:00' || '-0930'", STRING, DATETIME, dt.datetime(2024, 1, 2, 6, 30)),  # noqa: DTZ001
        ("'2024-01-01 21:00:00 Asia/Tokyo'", STRING, DATETIME, None),
        ("'2024-01-01 21:00:00' || '+09:0'", STRING, DATETIME, None),
        ("'2024/01/01'", STRING, DATE, None),
        ("decode('\\x61'::blob)", STRING, STRING, "a"),
        ("'\\x61'::blob", BINARY, STRING, "a"),
        ("[1, 2]", array_of(BIGINT), STRING, "[1,2]"),
        ("TIMESTAMP '1970-01-01 00:00:01.5'", DATETIME, DOUBLE, 1.5),
    ],
)
def test_conversions(text: str, given: SqlType, wanted: SqlType, result: Any) -> None:
    assert value(converted(text, given, wanted)) == result


def test_which_conversions_there_are() -> None:
    assert convertible(STRING, BIGINT)
    assert convertible(NULL, array_of(BIGINT))
    assert convertible(UNKNOWN, array_of(BIGINT))
    assert convertible(array_of(BIGINT), STRING)
    assert not convertible(array_of(BIGINT), BIGINT)
    assert not convertible(BIGINT, map_of(STRING, BIGINT))
    assert not convertible(map_of(STRING, BIGINT), array_of(BIGINT))
    assert not convertible(array_of(STRING), array_of(array_of(STRING)))
    assert not convertible(map_of(STRING, BIGINT), map_of(STRING, array_of(BIGINT)))
    assert convertible(PAIR, NUMBERED)
    assert not convertible(PAIR, struct_of(["a"], [STRING]))  # b would be lost
    assert not convertible(PAIR, struct_of(["x"], [STRING]))
    assert not convertible(PAIR, struct_of(["a", "b"], [PAIR, STRING]))
