from __future__ import annotations

import re

import duckdb
import pytest
from sqlglot.dialects.duckdb import DuckDB
from tests.sql.written import item, written

from fletching.errors import InvalidArgumentError
from fletching.sql.parsing.dialect import exp
from fletching.sql.queries.duck_writer import Writer


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("n div 2", '("t"."n" // nullif(2, 0))'),
        ("n / 2", '(CAST("t"."n" AS DOUBLE) / nullif(2, 0))'),
        ("n % 2", '("t"."n" % nullif(2, 0))'),
        ("current_timestamp", "CAST(TIMESTAMP '2024-01-01 00:00:00' AS TIMESTAMP_MS)"),
        ("tags[0]", '"t"."tags"[1]'),
        ("n ^ 1", 'xor("t"."n", 1)'),
        ("X'00ff'", "unhex('00ff')"),
    ],
)
def test_operators_are_written_out(text: str, made: str) -> None:
    assert item(text.replace("n ", "t.n ").replace("tags", "t.tags")) == made


def test_a_text_beyond_a_decimal_is_null_as_one_that_is_computed() -> None:
    with duckdb.connect() as connection:
        for text in ("1e40", "-99999999999", "1_0", "0x10"):
            sql = item(f"cast('{text}' as decimal(10,2))")
            assert connection.sql(f"select {sql}").fetchall() == [(None,)]


def test_no_form_of_ours_is_taken_from_us() -> None:
    """sqlglot asks its table of short forms before it asks the writer's methods."""
    names = {kind.__name__.lower() for kind in Writer.TRANSFORMS}
    own = {name[:-4] for name in vars(Writer) if name.endswith("_sql")}
    assert own & names <= {"lateral"}
    assert exp.IntDiv in DuckDB.Generator.TRANSFORMS


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("date 'x'", "'x' is no DATE"),
        ("date 5", "DATE takes a text"),
        ("datetime '2024-02-30 00:00:00'", "is no DATETIME"),
        ("timestamp '2263-01-01 00:00:00'", "lie between the years 1677 and 2262"),
        ("timestamp '1600-01-01'", "is no TIMESTAMP"),
        ("cast(tags as bigint)", "no conversion from ARRAY<STRING> to BIGINT"),
        ("cast(1 as array<int>)", "no conversion from INT to ARRAY<INT>"),
        ("cast(1 as decimal(39,1))", "more than 38 digits"),
        ("cast(array(1) as array<decimal(39,1)>)", "more than 38 digits"),
        ("cast(id as varchar)", r"as in VARCHAR\(10\); text of any length is STRING"),
        ("try_cast(s as char)", "CHAR has a length from 1 to 255"),
        ("cast(tags as array<varchar>)", "VARCHAR has a length from 1 to 65535"),
        ("cast('a' as varchar(0))", "VARCHAR has a length from 1 to 65535"),
        ("cast(array('a') as array<varchar(65536)>)", "VARCHAR has a length from 1 to 65535"),
        (
            "cast(map(1, array('a')) as map<int, array<char(256)>>)",
            "CHAR has a length from 1 to 255",
        ),
        ("id[0]", "a BIGINT has no elements"),
        ("tags['a']", "elements of an array are counted"),
        ("percentile_approx(n, 0.5, 1, 1)", "takes no weights"),
        ("upper(s) over ()", "is no aggregate"),
        ("max(n) within group (order by n)", "takes no WITHIN GROUP"),
    ],
)
def test_what_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(InvalidArgumentError, match=complaint + ".*at line 1, column"):
        written(f"select {text} from t")


def test_patterns_of_names() -> None:
    sql = written("select `(id|s)?+.+`, `t.*` from t").sql
    assert "COLUMNS(lambda c_: NOT regexp_full_match(c_, '(id|s)', 'i'))" in sql
    assert "COLUMNS(lambda c_: regexp_full_match(c_, 't.*', 'i'))" in sql


@pytest.mark.parametrize("inner", ["and", "or"])
def test_long_chains_of_chains_are_in_pieces_of_which_none_is_long(inner: str) -> None:
    outer = "or" if inner == "and" else "and"
    chain = f" {outer} ".join(f"(id = {i} {inner} s = '{i}')" for i in range(1100))
    sql = written(f"select id from t where not ({chain})").sql
    pieces = re.split(r"\]\[1\]|\[", sql)
    assert max(piece.count(f") {outer.upper()} (") for piece in pieces) < 32
    rows = "values (7, '7'), (40, '8'), (null, '7'), (2000, '2000'), (null, null)"
    with duckdb.connect() as connection:
        connection.execute(f"create table _scan0 as select * from ({rows}) v(id, s)")
        made = connection.sql(written(f"select id, s, ({chain}) as r from t").sql).fetchall()
        # As DuckDB has it without pieces, and without looking at what the members have in common.
        connection.execute("set disabled_optimizers = 'expression_rewriter'")
        assert made == connection.sql(f"select id, s, ({chain}) as r from _scan0").fetchall()


def test_what_is_written_is_sql() -> None:
    text = "select s, count(*) c from t where id > 1 group by s with rollup order by c desc limit 3"
    with duckdb.connect() as connection:
        connection.execute("create table _scan0 (id bigint, s varchar)")
        assert connection.sql(written(text).sql).columns == ["s", "c"]
