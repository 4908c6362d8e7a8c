from __future__ import annotations

import pytest

from fletching.errors import InvalidArgumentError
from fletching.sql.functions.generated_partitions import GeneratedPartition
from fletching.sql.parsing.dialect import exp, parse_one
from fletching.sql.queries.row_changes import Action, row_changes_of

COLUMNS = ["id", "g", "pt"]


@pytest.mark.parametrize(
    ("text", "actions", "columns", "selects"),
    [
        ("delete from t where g in (select 'a')", [Action("delete")], (), 2),
        ("update t set G = upper(g) where id = 1", [Action("update", ("g",))], ("g",), 1),
        ("update t set g = s.x from s where s.id = t.id", [Action("update", ("g",))], ("g",), 1),
        (
            (
                "merge into t using s on t.id = s.id when matched and s.x then delete"
                " when matched then update set g = s.g, pt = '1' when not matched then insert values (1, 2, 3)"
            ),
            [
                Action("delete"),
                Action("update", ("g", "pt")),
                Action("insert", ("id", "g", "pt")),
            ],
            ("g", "pt", "id", "g", "pt"),
            2,
        ),
        (
            (
                "merge into t using s on t.id = s.id when not matched then insert (id) values (1)"
                " when not matched by source then delete"
            ),
            [Action("insert", ("id",)), Action("delete")],
            ("id",),
            2,
        ),
    ],
)
def test_statements(
    text: str, actions: list[Action], columns: tuple[str, ...], selects: int
) -> None:
    result = row_changes_of(parse_one(text), COLUMNS)
    assert list(result.actions) == actions
    assert result.columns == columns
    assert result.tree.sql().count("SELECT") == selects
    assert isinstance(result.tree, exp.Query)
    assert len(result.tree.selects) == 3 + len(columns) + len(result.keys)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("update t set x = 1", "no column x"),
        ("update t set g = 1, G = 2", "assigned twice"),
        ("merge into t using s on true when matched then update set x = 1", "no column x"),
        ("merge into t using s on true when not matched then insert values (1)", "1 values for 3"),
        ("merge into t using s on true when not matched then insert (x) values (1)", "no column x"),
    ],
)
def test_what_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(InvalidArgumentError, match=complaint):
        row_changes_of(parse_one(text), COLUMNS)


@pytest.mark.parametrize(
    ("on", "keys"),
    [
        ("t.id = s.id", ("id",)),
        ("(s.a = t.ID and (t.g = 'x')) and s.b > 1", ("id", "g")),
        ("t.id = s.id or t.g = s.g", ()),
        ("t.id = t.g and t.g = g and t.pt = upper(s.pt) and t.id <=> s.id", ()),
        ("x.id = t.id", ("id",)),
    ],
)
def test_what_rows_are_inserted_for(on: str, keys: tuple[str, ...]) -> None:
    """The columns by which a row that came later is known to be one that was missing."""
    text = f"merge into t using s on {on} when not matched then insert (id) values (1)"
    result = row_changes_of(parse_one(text), COLUMNS)
    assert result.keys == keys
    matched = f"merge into t using s on {on} when matched then update set g = s.g"
    assert row_changes_of(parse_one(matched), COLUMNS).keys == ()


@pytest.mark.parametrize(
    ("text", "columns", "made"),
    [
        ("update t set G = '2026-01-02'", ("g", "pt"), 1),
        ("update t set g = 'x', PT = 'y'", ("g", "pt"), 0),
        ("update t set id = 1", ("id",), 0),
        (
            (
                "merge into t using s on t.id = s.id when matched then update set g = s.g"
                " when not matched then insert (g) values (s.g)"
            ),
            ("g", "pt", "id", "g", "pt"),
            2,
        ),
    ],
)
def test_what_follows_from_what_is_given(text: str, columns: tuple[str, ...], made: int) -> None:
    """The partition that is made of a column, and the defaults of columns that an insert leaves out."""
    result = row_changes_of(
        parse_one(text),
        COLUMNS,
        generated=GeneratedPartition("PT", "G", "day"),
        defaults={"id": exp.Literal.number(7)},
    )
    assert result.columns == columns
    assert result.tree.sql().lower().count("trunc_time") == made
