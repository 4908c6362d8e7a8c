from __future__ import annotations

import decimal
import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.protocol.types.json_values import json_lines, json_values
from fletching.testing.strategies import record_batches

CASES: list[tuple[pa.Array, list[Any]]] = [
    (pa.array([1, None]), [1, None]),
    (
        pa.array([1.5, float("nan"), float("inf"), float("-inf"), None]),
        [1.5, "NaN", "Infinity", "-Infinity", None],
    ),
    (pa.array([True, None]), [True, None]),
    (pa.array(["", None]), ["", None]),
    (pa.array([b"", b"\xff", None]), ["", "/w==", None]),
    (pa.array([decimal.Decimal("1.50"), None]), ["1.50", None]),
    (pa.array([0, None], pa.timestamp("us")), ["1970-01-01T00:00:00.000000", None]),
    (pa.array([0], pa.timestamp("ns", "UTC")), ["1970-01-01T00:00:00.000000000Z"]),
    (pa.array([10**15], pa.timestamp("ms")), ["1000000000000000 ms"]),
    (pa.array([1], pa.date32()), ["1970-01-02"]),
    (pa.array([1500], pa.duration("ms")), ["PT1.5S"]),
    (pa.array([-1], pa.duration("us")), ["-PT0.000001S"]),
    (pa.array([(1, 2, 3_000_000)], pa.month_day_nano_interval()), ["P1M2DT0.003S"]),
    (pa.array([[1, None], None, []]), [[1, None], None, []]),
    (pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int64(), 2)), [[1, 2], None, [3, 4]]),
    (pa.array([{"a": float("nan")}, None]), [{"a": "NaN"}, None]),
    (pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())), [{"k": 1}, None]),
    (pa.array([[(1, "x")], None], pa.map_(pa.int64(), pa.string())), [[[1, "x"]], None]),
    (pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
    (pa.chunked_array([[1], [2]]), [1, 2]),
    (pa.nulls(2), [None, None]),
]


@pytest.mark.parametrize(
    ("array", "expected"), CASES, ids=lambda case: str(getattr(case, "type", ""))
)
def test_values(array: pa.Array, expected: list[Any]) -> None:
    assert json_values(array) == expected
    assert json_values(array[1:]) == expected[1:]
    assert json_values(array[:0]) == []


@given(st.data())
def test_every_batch_is_json_lines(data: st.DataObject) -> None:
    batch = data.draw(record_batches())

    def refused(word: str) -> None:
        raise AssertionError(word)

    lines = json_lines(batch).splitlines()
    assert len(lines) == batch.num_rows
    for line in lines:
        assert list(json.loads(line, parse_constant=refused)) == list(
            dict.fromkeys(batch.schema.names)
        )
