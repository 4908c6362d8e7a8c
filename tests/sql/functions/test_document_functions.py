"""Functions of JSON and URLs: the values that they give, and none of them unproven."""

from __future__ import annotations

from tests.sql.function_values import called, cases_of, differences

from fletching.sql.functions.document_functions import DOCUMENT_FUNCTIONS

MORE = [
    ("json_format(json '[1, 2]')", "[1,2]"),
    ("json_format(json_parse('[1, 2]'))", "[1, 2]"),
]


def test_values() -> None:
    assert differences([*cases_of(DOCUMENT_FUNCTIONS), *MORE]) == []


def test_no_function_is_without_a_value() -> None:
    known = {name for text, _ in [*cases_of(DOCUMENT_FUNCTIONS), *MORE] for name in called(text)}
    assert sorted(set(DOCUMENT_FUNCTIONS) - known) == []
