from __future__ import annotations

import duckdb
import pytest
from tests.sql.written import written

from fletching.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("call", "names", "rows"),
    [
        ("explode(array('a', 'b'))", "x", [("a",), ("b",)]),
        ("posexplode(array('a'))", "p, x", [(0, "a")]),
        ("explode(map('k', 1))", "k, v", [("k", 1)]),
        ("stack(2, 1, 2)", "x", [(1,), (2,)]),
        ("inline(array(named_struct('a', 1, 'b', 'x')))", "a, b", [(1, "x")]),
        ("json_tuple('{\"a\":1}', 'a', 'z')", "a, z", [("1", None)]),
        ("parse_url_tuple('http://h/p?x=1', 'HOST', 'QUERY:x')", "h, q", [("h", "1")]),
        ("keyvalue_tuple('a:1,b:2', ',', ':', 'b')", "b", [("2",)]),
        ("trans_array(1, ',', 'k', 'a,b', '1,2')", "k, x, y", [("k", "a", "1"), ("k", "b", "2")]),
        ("trans_cols(1, 'k', 'a', 'b')", "i, k, x", [(1, "k", "a"), (2, "k", "b")]),
    ],
)
def test_functions_that_make_rows(call: str, names: str, rows: list[tuple[object, ...]]) -> None:
    text = f"select {names} from (select 1 one) t lateral view {call} q as {names}"
    with duckdb.connect() as connection:
        assert connection.sql(written(text).sql).fetchall() == rows


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        ("explode(1) q as x", "explode takes an ARRAY or a MAP, not a value of type INT"),
        ("explode(tags) q as x, y", "explode gives 1 columns, not 2"),
        ("explode(tags, tags) q as x", "takes 1 argument, not 2"),
        ("upper(s) q as x", "LATERAL VIEW takes explode"),
        ("stack(n, 1) q as x", "constant number of rows"),
        ("inline(tags) q as x", "array of structs"),
        ("json_tuple(s) q as x", "takes the keys"),
        ("json_tuple(s, n) q as x", "constant texts"),
        ("trans_array(1, ',', s) q as x", "takes its keys, then one list"),
        ("trans_array(n, ',', s, s) q as x, y", "constant number of keys"),
        ("trans_cols(2, s, s) q as x", "takes its keys, then one column"),
    ],
)
def test_what_is_refused(call: str, complaint: str) -> None:
    with pytest.raises(InvalidArgumentError, match=complaint):
        written(f"select 1 from t lateral view {call}")
