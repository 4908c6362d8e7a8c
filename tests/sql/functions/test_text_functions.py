"""Functions of texts: the values that they give, and none of them unproven."""

from __future__ import annotations

from tests.sql.function_values import called, cases_of, differences

from fletching.sql.functions.text_functions import TEXT_FUNCTIONS

MORE = [
    ("bit_length('ab')", 16),
    ("btrim(' a ')", "a"),
    ("character_length('äb')", 2),
    ("endswith('abc', 'bc')", True),
    ("startswith('abc', 'bc')", False),
    ("octet_length('ä')", 2),
    ("position('b', 'abc')", 2),
    ("sha256('')", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ("'abc' rlike 'b.'", True),
    ("'abc' regexp '^b'", False),
    ("sha256(null)", None),
]


def test_values() -> None:
    assert differences([*cases_of(TEXT_FUNCTIONS), *MORE]) == []


def test_no_function_is_without_a_value() -> None:
    known = {name for text, _ in [*cases_of(TEXT_FUNCTIONS), *MORE] for name in called(text)}
    assert sorted(set(TEXT_FUNCTIONS) - known) == [
        "sha2"
    ]  # proven in the engine, which computes it
