from __future__ import annotations

import pytest
from sqlglot import exp
from tests.sql.written import COLUMNS, resolve, written

from fletching.errors import InvalidArgumentError
from fletching.sql.functions.sql_types import (
    BIGINT,
    DATE,
    DATETIME,
    DOUBLE,
    INT,
    STRING,
    UNKNOWN,
    SqlType,
    array_of,
    struct_of,
)
from fletching.sql.parsing.dialect import parse_one
from fletching.sql.queries.preparation import _call_type
from fletching.sql.queries.translation import translate


@pytest.mark.parametrize(
    ("text", "columns", "pushed"),
    [
        ("select id from t", ("id",), []),
        ("select count(*) from t", ("n",), []),
        ("select * from t", tuple(COLUMNS), []),
        ("select T.ID from T where Pt = '1' and length(s) = 2", ("id", "s", "pt"), ["Pt = '1'"]),
        ("select id from t where n > 1 or n < 0", ("id", "n"), ["n > 1 OR n < 0"]),
        ("select id from t where n > (select max(n) from t)", ("id", "n"), []),
        ("select a.id from t a left join t b on a.id = b.id and b.n = 1", ("id", "n"), []),
        ("select demo.t.id from demo.t where demo.t.n = 1", ("id", "n"), ["t.n = 1"]),
        ("select st.a from t", ("st",), []),
        ("select vid from v", ("id", "pt"), ["pt = '1'"]),
        ("select `(id|s)?+.+` from t", tuple(COLUMNS), []),
    ],
)
def test_what_a_scan_is_asked_for(text: str, columns: tuple[str, ...], pushed: list[str]) -> None:
    scan = written(text).scans[0]
    assert scan.columns == columns
    assert scan.pushed == pushed
    assert (scan.predicate is not None) == bool(pushed)


def test_each_side_of_an_outer_join_is_pruned_by_its_own_conditions() -> None:
    first, other = written(
        "select 1 from t a left join t b on a.id = b.id and b.n = 1 where a.n = 2"
    ).scans
    assert first.pushed == ["a.n = 2"]
    assert other.pushed == ["b.n = 1"]
    first, other = written("select 1 from t a left join t b on a.id = b.id where b.n = 2").scans
    assert (first.pushed, other.pushed) == ([], [])


@pytest.mark.parametrize("kind", ["anti", "left anti", "semi", "left semi"])
def test_rows_that_a_condition_of_an_anti_join_leaves_are_read(kind: str) -> None:
    """Whoever fulfils no condition of an ANTI JOIN is in its result."""
    first, other = written(
        f"select 1 from t a {kind} join t b on a.id = b.id and a.n = 2 and b.n = 1"
    ).scans
    assert (first.pushed, other.pushed) == ([], ["b.n = 1"])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("select id from read_csv('x')", "read_csv is no table"),
        ("select id from a.b.c.d", "three parts at most"),
        ("with w(a, b) as (select 1) select a from w", "w names 2 columns, its query has 1"),
        ("select id from t tablesample (bucket 3 out of 2 on id) s", "x from 1 to y"),
        ("select `(|` from t", "neither a column nor a pattern"),
    ],
)
def test_what_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(InvalidArgumentError, match=complaint):
        written(text)


def test_what_can_be_computed_before_is_no_obstacle_to_pruning() -> None:
    query = parse_one("select id from t where id = abs(-2)")
    for fold, pushed in ((None, []), (lambda _: exp.Literal.number(2), ["id = ABS(-2)"])):
        result = translate(query, resolve, now="TIMESTAMP '2024-01-01 00:00:00'", fold=fold)
        assert result.scans[0].pushed == pushed


@pytest.mark.parametrize(
    ("call", "types", "result"),
    [
        ("trunc(d, 'mm')", (DATE, STRING), STRING),
        ("trunc(x, 1)", (DOUBLE, INT), DOUBLE),
        ("instr(s, 'a')", (STRING, STRING), BIGINT),
        ("dateadd(d, 1, 'dd')", (DATE, INT, STRING), DATE),
        ("dateadd(d, 1, 'hh')", (DATE, INT, STRING), DATETIME),
        ("from_json(s, 'array<int>')", (STRING, STRING), array_of(INT)),
        ("from_json(s, t)", (STRING, STRING), UNKNOWN),
        (
            "named_struct('a', n, 'b', s)",
            (STRING, INT, STRING, STRING),
            struct_of(["a", "b"], [INT, STRING]),
        ),
        ("nothing_like_it(s, 'a')", (STRING, STRING), UNKNOWN),
    ],
)
def test_a_constant_decides_the_type_of_few_calls(
    call: str, types: tuple[SqlType, ...], result: SqlType
) -> None:
    name, _, arguments = call.rstrip(")").partition("(")
    node = exp.Anonymous(
        this=name, expressions=[exp.maybe_parse(each) for each in arguments.split(", ")]
    )
    assert _call_type(node, types) == result
