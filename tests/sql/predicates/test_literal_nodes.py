"""Literals of predicates: their exact values, and words for those that are none."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from fletching.errors import InvalidArgumentError
from fletching.sql.parsing.dialect import parse_predicate
from fletching.sql.predicates.literal_nodes import (
    is_literal,
    literal_of,
    literals_of,
    number_of,
    shown,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None), ("true", True), ("1", 1), ("-1", -1), ("(-(1))", -1), ("'it\\'s'", "it's"),
        ("1.50", Decimal("1.50")), ("1e3", 1000.0), ("-1.5e-2", -0.015), ("x'00ff'", b"\x00\xff"),
        ("cast('12' as bigint)", 12), ("cast(1.5 as double)", 1.5),
        ("cast(5 as string)", "5"), ("cast('true' as boolean)", True),
        ("cast('1.239' as decimal(5,2))", Decimal("1.24")),
        ("123456789012345678901234567890", 123456789012345678901234567890),
    ],
)  # fmt: skip
def test_values(text: str, value: Any) -> None:
    node = parse_predicate(text)
    assert is_literal(node)
    result = literal_of(node)
    assert result == value
    assert type(result) is type(value) or isinstance(result, Decimal | int)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a", "neither a column nor a literal"),
        ("a + 1", "neither"),
        ("'a' 'b'", "side by side"),
        ("x'0'", "pairs"),
    ],
)
def test_what_is_none(text: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        literal_of(parse_predicate(text))


def test_lists_long_and_short() -> None:
    short = parse_predicate("a in (1, 'x', 2.5, null)")
    assert literals_of(short) == [1, "x", Decimal("2.5"), None]
    many = list(range(5000))
    long = parse_predicate(f"a in ({', '.join(map(str, many))})")
    assert literals_of(long) == many
    with pytest.raises(InvalidArgumentError):
        literals_of(parse_predicate("a in (1, b)"))


def test_numbers_beyond_a_double_stay_exact() -> None:
    assert number_of("1e2") == 100.0
    assert number_of("1e400") == Decimal("1e400")
    for bad in ("", "x", "1_0", "٣"):
        with pytest.raises(InvalidArgumentError):
            number_of(bad)


def test_what_is_shown_is_short() -> None:
    assert len(shown(parse_predicate(f"'{'x' * 500}'"))) < 100
