"""Functions of arrays, maps and structs: the values that they give, and none of them unproven."""

from __future__ import annotations

from tests.sql.function_values import called, cases_of, differences

from fletching.sql.functions.collection_functions import COLLECTION_FUNCTIONS

MORE = [
    ("array_normalize(array(3D, 4D), 2)", [0.6, 0.8]),
    ("array_prepend(array(2, 3), 1)", [1, 2, 3]),
    ("cardinality(array(1, 2))", 2),
    ("exists(array(1, 2), x -> x > 1)", True),
    ("forall(array(1, 2), x -> x > 1)", False),
]


def test_values() -> None:
    assert differences([*cases_of(COLLECTION_FUNCTIONS), *MORE]) == []


def test_no_function_is_without_a_value() -> None:
    known = {name for text, _ in [*cases_of(COLLECTION_FUNCTIONS), *MORE] for name in called(text)}
    assert sorted(set(COLLECTION_FUNCTIONS) - known) == []
