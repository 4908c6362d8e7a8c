"""A query as DuckDB's SQL: the tree is left as it was, and what it reads and gives is told with it."""

from __future__ import annotations

import pytest
from tests.sql.written import resolve, written

from fletching.errors import FletchingError, SqlSyntaxError
from fletching.sql.parsing.dialect import parse_one
from fletching.sql.queries.translation import translate


def test_the_tree_is_left_as_it_is() -> None:
    tree = parse_one("select id + 1 as x from t where s = '1' and n in (1, 2)")
    before = repr(tree)
    first = translate(tree, resolve, now="TIMESTAMP '2024-01-01 00:00:00'")
    assert repr(tree) == before
    assert translate(tree, resolve, now="TIMESTAMP '2024-01-01 00:00:00'").sql == first.sql


def test_types_of_results_that_values_do_not_tell() -> None:
    declared = dict(written("select at, n, tags, s as other from t").declared)
    assert set(declared) == {"at", "n", "tags", "other"}


def test_views_are_their_queries() -> None:
    result = written("select vid from v")
    assert [scan.source.name.name for scan in result.scans] == ["t"]
    assert result.scans[0].columns == ("id", "pt")


def test_constants_are_folded_by_who_can() -> None:
    asked: list[str] = []

    def fold(text: str) -> None:
        asked.append(text)

    translate(
        parse_one("select id from t where n > 1 + 1"),
        resolve,
        now="TIMESTAMP '2024-01-01'",
        fold=fold,
    )
    assert any("1 + 1" in text for text in asked)


@pytest.mark.parametrize(
    "value",
    [
        "cast(rand() * 3 as bigint)",
        "cast(random() * 3 as bigint)",
        "cast(rand(7) + 1 as bigint)",
        "length(uuid())",
        "length(concat(unique_id(), ''))",
        "size(shuffle(array(1, 2)))",
    ],
)
def test_what_is_another_value_for_each_row_is_no_constant(value: str) -> None:
    asked: list[str] = []

    def fold(text: str) -> None:
        asked.append(text)

    query = parse_one(f"select id from t where n = {value}")
    (scan,) = translate(query, resolve, now="TIMESTAMP '2024-01-01'", fold=fold).scans
    assert scan.pushed == []
    assert not [text for text in asked if "random()" in text or "uuid()" in text]


def test_the_moment_is_the_statement_s() -> None:
    assert "2024-01-01 00:00:00" in written("select getdate() from t").sql


def test_too_deep() -> None:
    with pytest.raises(FletchingError) as caught:
        written(f"select {'(' * 3000}1{')' * 3000}")
    assert isinstance(caught.value, SqlSyntaxError)
