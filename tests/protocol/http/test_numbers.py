"""Numbers in text: ASCII digits and nothing that only Python takes for a number."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fletching.protocol.http.numbers import parse_count, parse_integer, parse_seconds, parse_weight

NOT_NUMBERS = [
    "", " ", "+1", "1 ", " 1", "1_000", "1.0", "1e3", "0x10", "0b1", "\u00b2", "\uff11", "\u0663", "\u2167", "1\n",
    "--1", "-", "1-", "\u00a01", "1\u2009", "NaN", "inf", "99999999999999999999", "9" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("text", NOT_NUMBERS, ids=lambda text: ascii(text)[:30])
def test_what_is_no_number(text: str) -> None:
    assert parse_count(text) is None
    assert parse_integer(text) is None
    assert parse_integer("-" + text) is None or text == "-"


@given(st.integers(-(2**65), 2**65))
def test_numbers_are_read_exactly_within_64_bits(value: int) -> None:
    fits = -(2**63) <= value < 2**63
    assert parse_integer(str(value)) == (value if fits else None)
    assert parse_count(str(value)) == (value if fits and value >= 0 else None)


def test_a_minus_sign_is_no_count() -> None:
    assert parse_count("-1") is None
    assert parse_integer("-0") == 0
    assert parse_count("007") == 7


@pytest.mark.parametrize(
    ("text", "weight"),
    [
        ("1", 1.0), ("0", 0.0), ("0.5", 0.5), ("1.000", 1.0), ("0.", 0.0), ("0.001", 0.001),
        ("1.1", None), ("2", None), ("-0", None), ("0.1234", None), (".5", None), ("1e0", None),
        ("nan", None), ("inf", None), ("0_1", None), ("+1", None), (" 1", None), ("", None),
    ],
)  # fmt: skip
def test_weights(text: str, weight: float | None) -> None:
    assert parse_weight(text) == weight


@example(0.00013751403994681169)
@given(st.floats(0, 1e15 - 1, allow_nan=False, exclude_max=True))
def test_seconds_are_what_python_prints(value: float) -> None:
    assert parse_seconds(str(value)) == value


@pytest.mark.parametrize(
    "text", ["nan", "inf", "-1", "+1", "1_0", " 1", "1 ", "1e5", "\uff11", "1.5.", ".5", "", "0x1"]
)
def test_what_is_no_duration(text: str) -> None:
    assert parse_seconds(text) is None
