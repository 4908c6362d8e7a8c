"""Comparisons of a filter: what they say of rows, and of batches whose bounds are known.

Each condition is tried twice over the same values: on the rows, against Python's own comparison, and on
bounds, which may leave a batch out only if no row of it is chosen.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
import operator
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from fletching.errors import InvalidArgumentError
from fletching.sql.parsing.dialect import parse_predicate
from fletching.sql.predicates.bounds import ColumnBounds
from fletching.sql.predicates.comparisons import among, listed_ranges, not_among, path_of
from fletching.sql.predicates.operands import operand_of
from fletching.sql.predicates.predicate_compiler import compile_predicate

NUMBERS = [-3, -1, 0, 1, 2, 5, None]
FLOATS = [-1.5, -0.0, 0.0, 1.0, 2.5, math.inf, math.nan, None]
OPERATORS = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def chosen(text: str, values: list[Any], kind: pa.DataType) -> list[Any]:
    fields = {"v": pa.field("v", kind), "w": pa.field("w", kind)}
    table = pa.table({"v": pa.array(values, kind), "w": pa.array(values[::-1], kind)})
    condition = compile_predicate(text, fields).condition
    return ds.dataset(table).to_table(filter=condition.expression)["v"].to_pylist()


def alike(left: list[Any], other: list[Any]) -> bool:
    return list(map(repr, left)) == list(map(repr, other))


@pytest.mark.parametrize("sign", OPERATORS)
@pytest.mark.parametrize("negated", [False, True], ids=["plain", "negated"])
def test_a_column_against_a_value_is_as_python_compares(sign: str, negated: bool) -> None:
    def holds(value: Any, other: Any) -> bool:
        return value is not None and OPERATORS[sign](value, other) is not negated

    for values, kind, others in (
        (NUMBERS, pa.int64(), (-4, 0, 2, 9)),
        (FLOATS, pa.float64(), (-1.5, 0.0, 2.5, 9.0)),
    ):
        for other in others:
            text = f"v {sign} {other}"
            result = chosen(f"not ({text})" if negated else text, values, kind)
            assert alike(result, [v for v in values if holds(v, other)]), (text, negated)


@pytest.mark.parametrize("sign", OPERATORS)
def test_a_value_between_two_of_the_type_has_no_equal(sign: str) -> None:
    result = chosen(f"v {sign} 1.5", NUMBERS, pa.int64())
    assert result == [v for v in NUMBERS if v is not None and OPERATORS[sign](v, 1.5)]
    # one that no int64 reaches
    result = chosen(f"v {sign} 9223372036854775808", NUMBERS, pa.int64())
    assert result == [v for v in NUMBERS if v is not None and OPERATORS[sign](v, 1 << 63)]


@pytest.mark.parametrize("sign", OPERATORS)
def test_two_columns_of_a_row(sign: str) -> None:
    for values, kind in ((NUMBERS, pa.int64()), (FLOATS, pa.float64())):
        pairs = list(zip(values, values[::-1], strict=True))
        both = [(v, w) for v, w in pairs if v is not None and w is not None]
        wanted = [v for v, w in both if OPERATORS[sign](v, w)]
        assert alike(chosen(f"v {sign} w", values, kind), wanted)
        wanted = [v for v, w in both if not OPERATORS[sign](v, w)]
        assert alike(chosen(f"not (v {sign} w)", values, kind), wanted)


def test_lists_leave_nulls_and_find_both_zeros() -> None:
    assert chosen("v in (0, 5, 77)", NUMBERS, pa.int64()) == [0, 5]
    assert chosen("v not in (0, 5, 77)", NUMBERS, pa.int64()) == [-3, -1, 1, 2]
    assert chosen("v in (0, null)", NUMBERS, pa.int64()) == [0]
    assert chosen("v not in (0, null)", NUMBERS, pa.int64()) == []
    assert alike(chosen("v in (0.0, 1.0)", FLOATS, pa.float64()), [-0.0, 0.0, 1.0])
    assert alike(
        chosen("v not in (0.0, 1.0)", FLOATS, pa.float64()), [-1.5, 2.5, math.inf, math.nan]
    )


@pytest.mark.parametrize(
    ("text", "all_rows"),
    [
        ("1 = 1", True),
        ("1 != 1", False),
        ("not 1 = 2", True),
        ("1 < 1.5", True),
        ("2 <= 1", False),
        ("null = 1", False),
        ("not null = 1", False),
        ("date'2026-01-01' < date'2026-01-02'", True),
        ("true = true", True),
    ],
)
def test_two_literals_choose_all_rows_or_none(text: str, all_rows: bool) -> None:
    assert len(chosen(text, NUMBERS, pa.int64())) == (len(NUMBERS) if all_rows else 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("'a' = 'b'", "are both literals"),
        ("1 = 'b'", "are both literals"),
        ("1 = true", "of different kinds"),
        ("date'2026-01-01' = 1", "of different kinds"),
    ],
)
def test_literals_that_cannot_be_compared_are_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        chosen(text, NUMBERS, pa.int64())


def test_bounds_leave_out_no_batch_with_a_chosen_row() -> None:
    whole = [v for v in NUMBERS if v is not None]
    texts = [
        *(f"{negation}(v {sign} {other})" for negation in ("", "not ") for sign in OPERATORS for other in (-4, 0, 2, 9)),
        *("v in (0, 5)", "v not in (0, 5)", "v in (0)", "v not in (2)", "v in (1.5)", "v > 1.5"),
    ]  # fmt: skip
    fields = {"v": pa.field("v", pa.int64())}
    left_out = 0
    for text in texts:
        condition = compile_predicate(text, fields).condition
        for first, last in itertools.combinations_with_replacement(range(len(whole)), 2):
            part = whole[first : last + 1]
            extent = ColumnBounds(part[0], part[-1])
            if not condition.may(lambda _, extent=extent: extent):  # type: ignore[misc]
                left_out += 1
                assert chosen(text, part, pa.int64()) == [], (text, part)
        assert condition.may(lambda _: None), "bounds that nobody knows decide nothing"
    assert left_out > 100


def test_lists_are_taken_apart_into_values_and_ranges() -> None:
    number = operand_of(pa.field("v", pa.int8()), ())
    assert listed_ranges(number, [1, 300, -128, 1]) == ({1, -128}, [])
    assert listed_ranges(number, [1, None, 2.5]) == ({1}, [])
    text = operand_of(pa.field("s", pa.string()), ())
    assert listed_ranges(text, ["a", "b"]) == ({"a", "b"}, [])


def test_a_listed_condition_keeps_its_values_for_merging() -> None:
    number = operand_of(pa.field("v", pa.int64()), ())
    assert among(number, {1, 2}).values == frozenset({1, 2})
    assert not_among(number, {1, 2}).values == frozenset()
    assert not among(number, {1, 2}).may(lambda _: ColumnBounds(3, 9))
    assert not not_among(number, {4}).may(lambda _: ColumnBounds(4, 4))
    assert not_among(number, {4}).may(lambda _: ColumnBounds(4, 5))


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a = 1", ("a",)),
        ("(a) = 1", ("a",)),
        ("a.b.c = 1", ("a", "b", "c")),
        ("`a b`.c = 1", ("a b", "c")),
        ("a + 1 = 1", None),
        ("1 = a", None),
    ],
)
def test_paths(text: str, path: tuple[str, ...] | None) -> None:
    node = parse_predicate(text).this
    result = path_of(getattr(node, "this", node) if type(node).__name__ == "Paren" else node)
    assert result == path


def test_days_are_compared_as_days() -> None:
    days = [dt.date(2026, 1, 1), dt.date(2026, 1, 2), None]
    assert chosen("v >= '2026-01-02'", days, pa.date32()) == [dt.date(2026, 1, 2)]
    assert chosen("v != date'2026-01-02'", days, pa.date32()) == [dt.date(2026, 1, 1)]
