from __future__ import annotations

from typing import Any

import pytest

from fletching.sql.functions.function_lookup import find_function
from fletching.sql.functions.sql_types import (
    BIGINT,
    BOOLEAN,
    DOUBLE,
    INT,
    STRING,
    UNKNOWN,
    SqlType,
    array_of,
    decimal,
    map_of,
    struct_of,
)
from fletching.sql.parsing.dialect import exp, parse_one
from fletching.sql.queries.typing_pass import Columns, add_types

T: Columns = {
    "a": INT,
    "b": BIGINT,
    "s": STRING,
    "d": decimal(10, 2),
    "l": array_of(STRING),
    "m": map_of(STRING, BIGINT),
    "st": struct_of(["x"], [DOUBLE]),
}


def typed(text: str) -> list[SqlType]:
    tree = parse_one(text)
    tables = {id(node): T for node in tree.find_all(exp.Table) if node.name == "t"}

    def call_type(node: Any, types: Any) -> SqlType:
        return UNKNOWN if node.name == "explode" else find_function(node.name).type(types)

    return list(add_types(tree, tables, call_type).values())


@pytest.mark.parametrize(
    ("text", "types"),
    [
        ("select a, t.b, s from t", [INT, BIGINT, STRING]),
        ("select a + b, a / b, a + s, d * d, a > 1 from t",
         [BIGINT, DOUBLE, DOUBLE, decimal(20, 4), BOOLEAN]),
        ("select x.y from (select a + 1 y from t) x", [INT]),
        ("with c as (select d from t) select d / 2 from c", [SqlType("DECIMAL", 21, 13)]),
        ("select l[0], m['k'], st.x, t.st.x from t", [STRING, BIGINT, DOUBLE, DOUBLE]),
        ("select transform(l, e -> length(e)) from t", [array_of(BIGINT)]),
        ("select k, v from t lateral view explode(m) e as k, v", [STRING, BIGINT]),
        ("select x from values (1), (2.5e0) v(x)", [DOUBLE]),
        ("select a from t union all select s from t", [STRING]),
        ("select case when a > 1 then a else s end, if(true, a, b) from t", [STRING, BIGINT]),
        ("select (select max(b) from t), sum(a), avg(d) from t", [BIGINT, BIGINT, decimal(14, 6)]),
        ("select * from t", list(T.values())),
        ("select nothing from t", [UNKNOWN]),
        ("select b from t where exists (select 1 from t u where u.a = t.a)", [BIGINT]),
    ],
)  # fmt: skip
def test_types_are_worked_out(text: str, types: list[SqlType]) -> None:
    assert typed(text) == types
