"""Columns and fields of structs in conditions: found in any case, compared exactly in pairs."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from fletching.errors import InvalidArgumentError
from fletching.sql.predicates.operands import compared, operand_of

NESTED = pa.field("S", pa.struct([("A", pa.int64()), ("b", pa.struct([("c", pa.float32())]))]))


def test_fields_in_any_case() -> None:
    result = operand_of(NESTED, ("a",))
    assert (result.path, result.indices, result.type, result.name) == (
        ("S", "A"),
        (0,),
        pa.int64(),
        "S.A",
    )
    deep = operand_of(NESTED, ("B", "C"))
    assert (deep.path, deep.indices, deep.floating) == (("S", "b", "c"), (1, 0), True)
    assert operand_of(NESTED, ()).path == ("S",)


@pytest.mark.parametrize(
    ("field", "rest", "words"),
    [
        (NESTED, ("z",), "no field 'z'"), (NESTED, ("a", "x"), "has no fields"),
        (pa.field("d", pa.struct([("x", pa.int8()), ("X", pa.int8())])), ("x",), "more than one field"),
    ],
)  # fmt: skip
def test_what_is_no_field(field: pa.Field, rest: tuple[str, ...], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        operand_of(field, rest)


@pytest.mark.parametrize(
    ("left", "right", "equal", "less"),
    [
        (pa.array([2**53 + 1]), pa.array([2**53], pa.uint64()), False, False),
        (pa.array([1], pa.int8()), pa.array([Decimal("1.00")]), True, False),
        (pa.array([1]), pa.array([1.5]), False, True),
        (pa.array(["a"]), pa.array(["b"], pa.large_string()), False, True),
        (pa.array([0], pa.timestamp("s")), pa.array([1], pa.timestamp("ns")), False, True),
        (pa.array([1], pa.date32()), pa.array([86_400], pa.timestamp("s")), True, False),
        (pa.array([True]), pa.array([False]), False, False),
    ],
    ids=str,
)
def test_pairs_of_columns(left: Any, right: Any, equal: bool, less: bool) -> None:
    table = pa.table({"l": left, "r": right})
    first, other = (operand_of(table.schema.field(name), ()) for name in "lr")
    for operator, expected in (("==", equal), ("!=", not equal), ("<", less)):
        result = ds.dataset(table).to_table(filter=compared(first, operator, other)).num_rows
        assert bool(result) is expected, operator


def test_half_floats_are_compared_as_doubles() -> None:
    """Arrow has no comparisons of theirs."""
    halves = pa.table({"h": pa.array(np.array([0.5, -2.0, np.nan], np.float16))})
    half = operand_of(halves.schema.field("h"), ())
    assert ds.dataset(halves).to_table(filter=half.comparable < 0.75)["h"].to_pylist() == [0.5, -2]
    comparison = compared(half, "==", half)
    assert ds.dataset(halves).to_table(filter=comparison).num_rows == 2


def test_what_cannot_be_compared() -> None:
    first, other = (
        operand_of(pa.field("l", pa.string()), ()),
        operand_of(pa.field("r", pa.date32()), ()),
    )
    with pytest.raises(InvalidArgumentError):
        compared(first, "==", other)
