"""What a query reads: each mention of a table with its columns and the conditions that prune it."""

from __future__ import annotations

import pytest
from tests.sql.written import written

from fletching.errors import InvalidArgumentError, NoSuchTableError
from fletching.sql.parsing.dialect import parse_one
from fletching.sql.queries.query_sources import located


def test_each_mention_has_its_own_columns_and_conditions() -> None:
    result = written(
        "select a.id from t a join t b on a.id = b.id where a.pt = '1' and b.n > 5 and a.n < b.n"
    ).scans
    assert [scan.alias for scan in result] == ["a", "b"]
    assert result[0].columns == ("id", "n", "pt")
    assert {"id", "n"} <= set(result[1].columns)
    assert [len(scan.pushed) for scan in result] == [1, 1]
    assert result[0].predicate is not None
    assert result[0].predicate.columns == ("pt",)
    assert len({scan.relation for scan in result}) == 2


def test_a_table_of_which_nothing_is_asked_has_one_column() -> None:
    (scan,) = written("select count(*) from t").scans
    assert len(scan.columns) == 1
    assert scan.predicate is None


def test_conditions_of_one_table_are_joined() -> None:
    (scan,) = written("select s from t where n > 1 and id < 5").scans
    assert scan.predicate is not None
    assert set(scan.predicate.columns) == {"n", "id"}
    assert len(scan.pushed) == 2


def test_of_a_long_list_the_first_values_are_said() -> None:
    numbers, texts = ", ".join(map(str, range(50))), ", ".join(f"'{n}'" for n in range(60))
    query = f"select id from t where n in ({numbers}) and not s in ({texts}) and id in (1, 2)"
    for _ in range(2):
        (scan,) = written(query).scans
        assert scan.pushed == [
            "n IN (0, 1, 2, .. 50 values)",
            "NOT s IN ('0', '1', '2', .. 60 values)",
            "id IN (1, 2)",
        ]
        assert scan.predicate is not None
        assert "49" in str(scan.predicate.expression)


@pytest.mark.parametrize("kind", [InvalidArgumentError, NoSuchTableError])
def test_an_error_says_its_place_once(kind: type[InvalidArgumentError]) -> None:
    tree = parse_one("select 1,\n  nothing from t")
    (column,) = [node for node in tree.walk() if node.name == "nothing" and "line" in node.meta]
    error = located(InvalidArgumentError("what"), column, kind)
    assert type(error) is kind
    assert error.message == "what, at line 2, column 3"
    assert located(error, column).message == error.message
