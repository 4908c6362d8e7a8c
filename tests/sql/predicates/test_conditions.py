from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from fletching.sql.predicates.conditions import FALSE, LONG_LIST, TRUE, Leaf, fold, narrowed
from fletching.sql.predicates.predicate_compiler import compile_predicate

FIELDS = {name: pa.field(name, kind) for name, kind in (("n", pa.int64()), ("s", pa.string()))}
LISTED = ", ".join(str(n) for n in range(2 * LONG_LIST))


def condition(text: str) -> Any:
    return compile_predicate(text, FIELDS).condition


@pytest.mark.parametrize(
    ("extent", "values"),
    [
        ((10, 12), {10, 11, 12}),
        ((-5, 1), {0, 1}),
        ((2 * LONG_LIST - 1, 1 << 40), {2 * LONG_LIST - 1}),
        ((1 << 40, 1 << 41), {0}),  # one that no row has stands for none
    ],
)
def test_a_long_list_keeps_what_rows_can_have(extent: tuple[int, int], values: set[int]) -> None:
    left = narrowed(condition(f"n in ({LISTED})"), lambda path: extent if path == ("n",) else None)
    assert isinstance(left, Leaf)
    assert left.values == values


def test_what_would_not_become_shorter_stays() -> None:
    for text, extent in (
        (f"n in ({LISTED})", (0, 1 << 40)),
        (f"n in ({LISTED})", None),
        ("n in (1, 2, 3)", (1, 1)),
        (f"n not in ({LISTED})", (1, 1)),
        ("n = 3 and s = 'x'", (9, 9)),
    ):
        whole = condition(text)
        assert narrowed(whole, lambda _, extent=extent: extent) is whole  # type: ignore[misc]


@pytest.mark.parametrize("all_of", [True, False])
def test_what_is_known_of_parts_leaves_the_others(all_of: bool) -> None:
    whole = condition(f"n = 3 {'and' if all_of else 'or'} s = 'x'")
    first, second = whole.parts
    assert fold(whole, {}) is whole
    # The one answer decides it, the other asks for the other part.
    decides, asks = (False, True) if all_of else (True, False)
    for part, other in ((first, second), (second, first)):
        assert fold(whole, {id(part): decides}) is (TRUE if decides else FALSE)
        assert fold(whole, {id(part): asks}) is other
    assert fold(whole, {id(first): asks, id(second): asks}) is (TRUE if asks else FALSE)
    assert fold(whole, {id(whole): decides}) is (TRUE if decides else FALSE)
