from __future__ import annotations

import pytest

from fletching.errors import InvalidArgumentError
from fletching.sql.dialect import parse_one
from fletching.sql.merging import merging_of

COLUMNS = ["id", "g", "pt"]


@pytest.mark.parametrize(
    ("text", "on", "matched", "missing", "selects"),
    [
        ("when matched then update set g = s.g", ("id",), "update", None, 1),
        ("when matched then delete", ("id",), "delete", None, 1),
        ("when not matched then insert values (s.id, 1, 2)", ("id",), None, "insert", 1),
        (
            "when matched and s.x then update set g = 1 when not matched then insert (id) values (1)",
            ("id",),
            "update",
            "insert",
            2,
        ),
    ],
)
def test_clauses(
    text: str, on: tuple[str, ...], matched: str | None, missing: str | None, selects: int
) -> None:
    found = merging_of(parse_one(f"merge into t using s on t.id = s.id {text}"), COLUMNS)
    assert (found.on, found.when_matched, found.when_not_matched) == (on, matched, missing)
    assert found.tree.sql().count("SELECT") == selects
    assert found.tree.sql().count(" AS ") == 3 * selects


def test_several_keys() -> None:
    text = "merge into t a using s on (a.id = s.id and s.p = a.pt) when matched then delete"
    assert sorted(merging_of(parse_one(text), COLUMNS).on) == ["id", "pt"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("on t.id > s.id when matched then delete", "with = and"),
        ("on t.id = t.g when matched then delete", "with = and"),
        ("on s.id = s.x when matched then delete", "with = and"),
        ("on t.id = s.id or true when matched then delete", "with = and"),
        ("on t.id = s.id when matched then update set id = 1", "which ON compares"),
        ("on t.id = s.id when matched then update set x = 1", "no column x"),
        ("on t.id = s.id when not matched then insert values (1)", "1 values for 3"),
        ("on t.id = s.id when not matched then insert (x) values (1)", "no column x"),
        (
            "on t.id = s.id when matched and s.a then delete when matched then update set g = 1",
            "one WHEN MATCHED",
        ),
    ],
)
def test_what_one_merge_cannot_do(text: str, complaint: str) -> None:
    with pytest.raises(InvalidArgumentError, match=complaint):
        merging_of(parse_one(f"merge into t using s {text}"), COLUMNS)
