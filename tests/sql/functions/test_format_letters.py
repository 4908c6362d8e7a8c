from __future__ import annotations

import pytest

from fletching.errors import InvalidArgumentError
from fletching.sql.functions.format_letters import java_format, own_format, unit_of


@pytest.mark.parametrize(
    ("text", "directives"),
    [
        ("yyyymmdd", "%Y%m%d"),
        ("YYYY-MM-DD HH:MI:SS.FF3", "%Y-%m-%d %H:%M:%S.%g"),
        ("yyyy-mm-ddThh:mi:ssZ", "%Y-%m-%dT%H:%M:%SZ"),
        ("hh24:mi", "%H:%M"),
        ("100%yy", "100%%%y"),
        ("", ""),
    ],
)
def test_maxcomputes_letters(text: str, directives: str) -> None:
    assert own_format(text) == directives


@pytest.mark.parametrize(
    ("text", "directives"),
    [
        ("yyyyMMdd", "%Y%m%d"),
        ("yyyy-MM-dd HH:mm:ss.SSS", "%Y-%m-%d %H:%M:%S.%g"),
        ("yyyy-MM-dd'T'HH", "%Y-%m-%dT%H"),
        ("h a", "%-I %p"),
        ("''yy", "'%y"),
        ("EEE, d MMM", "%a, %-d %b"),
    ],
)
def test_javas_letters(text: str, directives: str) -> None:
    assert java_format(text) == directives


@pytest.mark.parametrize("text", ["yyyy-qq", "month", "yyyymmddx"])
def test_letters_without_a_meaning(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="date format"):
        own_format(text)
    with pytest.raises(InvalidArgumentError, match="date format"):
        java_format("Q")


@pytest.mark.parametrize(
    ("text", "unit"), [("yyyy", "year"), ("MM", "month"), ("mi", "minute"), (" dd ", "day")]
)
def test_units(text: str, unit: str) -> None:
    assert unit_of(text) == unit
    with pytest.raises(InvalidArgumentError, match="no unit"):
        unit_of("fortnight")
