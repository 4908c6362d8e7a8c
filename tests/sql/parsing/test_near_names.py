from __future__ import annotations

import pytest

from fletching.sql.parsing.near_names import did_you_mean, nearest

KNOWN = ["length", "lengthb", "cosh", "count", "sum", "wm_concat", "Item"]


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("lenght", ["length", "lengthb"]),  # two letters changed places
        ("cuont", ["count"]),
        ("LENGTHH", ["length", "lengthb"]),
        ("coutn", ["count"]),
        ("su", ["sum"]),
        ("item_", ["Item"]),
        ("wmconcat", ["wm_concat"]),
        ("nosuch", []),
        ("cash", ["cosh"]),
        ("c", []),
        ("", []),
        ("count", []),  # it is known: nothing else was meant
        ("x" * 300, []),
    ],
)
def test_names_a_slip_away(name: str, result: list[str]) -> None:
    assert nearest(name, KNOWN) == result


def test_the_end_of_a_message() -> None:
    assert did_you_mean("coutn", KNOWN) == "; did you mean count?"
    assert did_you_mean("lengthh", KNOWN) == "; did you mean length or lengthb?"
    assert did_you_mean("zzz", KNOWN) == ""
