from __future__ import annotations

import pytest
from tests.sql.written import item


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("s = n", "AS DOUBLE)"),
        ("s + 1", "AS DOUBLE)"),
        ("s between 1 and 2", "AS DOUBLE)"),
        ("n in ('1', 2)", "AS DOUBLE)"),
        ("day = s", "AS DATE)"),
        ("at > s", "AS TIMESTAMP_MS)"),
        ("case when id > 1 then n else s end", "AS VARCHAR)"),
        ("n like '1%'", "AS VARCHAR)"),
        ("x & 1", "AS BIGINT)"),
        ("- s", "AS DOUBLE)"),
    ],
)
def test_what_goes_without_saying_is_said(text: str, part: str) -> None:
    assert part in item(text)


@pytest.mark.parametrize("text", ["s = s", "n = id", "d = n", "at > day", "coalesce(n, id)"])
def test_what_is_alike_stays(text: str) -> None:
    assert "CAST" not in item(text).replace("TRY_CAST", "CAST")
