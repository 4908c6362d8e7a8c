"""Functions of JSON and URLs: the values that they give, and none of them unproven."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.sql.function_values import called, cases_of, differences

import fletching
from fletching.errors import InvalidArgumentError
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


def test_what_is_no_json_is_not_parsed(tmp_path: Path) -> None:
    with fletching.connect(tmp_path / "data", create=True) as client:
        with pytest.raises(InvalidArgumentError, match="json_parse takes a text that is JSON"):
            client.sql("select json_parse('{')").to_table()
        assert client.sql("select json_parse(null) x").to_pylist() == [{"x": None}]
