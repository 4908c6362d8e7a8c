from __future__ import annotations

import re

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sql.random_predicates import evaluated

from fletching.errors import InvalidArgumentError
from fletching.sql.predicates.like_patterns import LikePattern


@pytest.mark.parametrize(
    ("text", "escape", "prefix"),
    [
        ("abc", "\\", "abc"),
        ("ab%c", "\\", "ab"),
        ("ab\\%c_", "\\", "ab%c"),
        ("ab!_c%", "!", "ab_c"),
        ("a\\b", "!", "a\\b"),
        ("%", "\\", ""),
        ("", "\\", ""),
        ("\\\\%", "\\", "\\"),
    ],
)
def test_what_a_match_begins_with(text: str, escape: str, prefix: str) -> None:
    assert LikePattern.parse(text, escape).prefix == prefix


@pytest.mark.parametrize(
    ("text", "escape", "complaint"),
    [
        ("a\\", "\\", "ends with its escape"),
        ("a!", "!", "ends with its escape"),
        ("a", "", "one character"),
        ("a", "xy", "one character"),
        ("a", 1, "one character"),
        ("\ud800", "\\", "Unicode"),
    ],
)
def test_what_is_no_pattern(text: str, escape: object, complaint: str) -> None:
    with pytest.raises(InvalidArgumentError, match=re.escape(complaint)):
        LikePattern.parse(text, escape)


PEER = duckdb.connect()
WORDS = st.text("ab%_\\.*\n(中", max_size=5)


@settings(max_examples=300, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=4), WORDS)
def test_duckdb_agrees(texts: list[str], pattern: str) -> None:
    try:
        parsed = LikePattern.parse(pattern)
    except InvalidArgumentError:
        return
    table = pa.table({"s": pa.array([*texts, None], pa.string())})
    mine = evaluated(table, parsed.matches(pa.compute.field("s")))
    peer = PEER.cursor()
    peer.register("t", table)
    theirs = peer.execute("SELECT s LIKE ? ESCAPE '\\' FROM t", [pattern]).fetchall()
    peer.close()
    assert mine == [row[0] for row in theirs]
