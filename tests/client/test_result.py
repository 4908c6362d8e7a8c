"""SQL statements over both transports: what they give, and what is refused."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from tests.client.sql_cases import EXPRESSIONS, QUERIES, REFUSED, TABLES, WAYS_OUT, WRONG
from tests.client.sql_documented_cases import DOCUMENTED_EXPRESSIONS, DOCUMENTED_SCRIPT
from tests.client.sql_everyday_cases import EVERYDAY_EXPRESSIONS, EVERYDAY_SCRIPT, Refused
from tests.client.sql_function_cases import FUNCTION_CASES, QUERY_CASES
from tests.client.sql_further_cases import FURTHER_EXPRESSIONS, FURTHER_SCRIPT
from tests.client.sql_zone_cases import ZONED_SCRIPT
from tests.folding import folded

import fletching
from fletching.errors import FletchingError, InvalidArgumentError, UsageError


@pytest.fixture(scope="module", params=["http", "embedded"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("sql")
    if request.param == "embedded":
        with fletching.connect(folder, project="demo", create=True) as opened:
            opened.sql(TABLES)
            yield opened
        return
    with (
        fletching.serve(folder, port=0, access_keys={"k": "s"}, access_log=False) as server,
        fletching.connect(
            server.url, project="demo", access_id="k", access_key="s", retry={"budget_seconds": 2.0}
        ) as opened,
    ):
        opened.sql(TABLES)
        yield opened


def rows(result: Any) -> list[tuple[Any, ...]]:
    table = result.to_table()
    assert table.schema == result.schema
    assert table.num_rows == len(result)
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def same(left: Any, other: Any) -> bool:
    if isinstance(left, float) and isinstance(other, float):
        return math.isclose(left, other, rel_tol=1e-12)
    return type(left) is type(other) and left == other


ALL_EXPRESSIONS = (
    EXPRESSIONS,
    FUNCTION_CASES,
    DOCUMENTED_EXPRESSIONS,
    EVERYDAY_EXPRESSIONS,
    FURTHER_EXPRESSIONS,
)


@pytest.mark.parametrize("group", sorted({group for table in ALL_EXPRESSIONS for group in table}))
def test_expressions(client: fletching.Client, group: str) -> None:
    tables = ALL_EXPRESSIONS
    cases = [case for table in tables for case in table.get(group, ())]
    try:
        result = client.sql("select " + ",\n".join(text for text, _ in cases))
    except FletchingError:
        for text, _ in cases:  # which of them it is
            try:
                client.sql(f"select {text}")
            except FletchingError as error:
                raise AssertionError(f"{text}: {error.message}") from error
        raise
    (outcome,) = rows(result)
    wrong = [
        f"{text}: {value!r}, not {expected!r}"
        for (text, expected), value in zip(cases, outcome, strict=True)
        if not same(value, expected)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "script",
    [DOCUMENTED_SCRIPT, EVERYDAY_SCRIPT, FURTHER_SCRIPT, ZONED_SCRIPT],
    ids=["documented", "everyday", "further", "zoned"],
)
def test_statements_in_order(client: fletching.Client, script: list[tuple[str, Any]]) -> None:
    wrong: list[str] = []
    for text, expected in script:
        try:
            result = client.sql(text)
        except FletchingError as error:
            reported = isinstance(expected, Refused) and " line " in error.message
            if not reported or expected.words.lower() not in error.message.lower():
                wrong.append(f"{text}: {error.message}")
            continue
        if isinstance(expected, str):
            outcome: Any = result.text
            right = expected in result.text
        elif isinstance(expected, int):
            outcome = result.affected_rows
            right = outcome == expected
        elif isinstance(expected, Refused):
            outcome, right = "done", False
        elif expected is not None:
            outcome = rows(result)
            right = len(outcome) == len(expected) and all(
                len(row) == len(wanted) and all(map(same, row, wanted))
                for row, wanted in zip(outcome, expected, strict=True)
            )
        else:
            right = True
        if not right:
            wrong.append(f"{text}: {outcome!r}, not {expected!r}")
    assert wrong == []


ALL_QUERIES = [*QUERIES, *QUERY_CASES]


@folded("text, expected", ALL_QUERIES)
def test_queries(client: fletching.Client, text: str, expected: list[tuple[Any, ...]]) -> None:
    outcome = rows(client.sql(text))
    assert len(outcome) == len(expected)
    for row, wanted in zip(outcome, expected, strict=True):
        assert all(map(same, row, wanted)), (row, wanted)


@folded("text, complaint", REFUSED)
def test_what_is_refused(client: fletching.Client, text: str, complaint: str) -> None:
    with pytest.raises(FletchingError, match=complaint) as caught:
        client.sql(text)
    message = str(caught.value)
    for word in ("DuckDB", "sqlglot", "Binder", "Catalog Error", "Exception", "Traceback", "_scan"):
        assert word not in message


LIBRARY_WORDS = re.compile(
    r"duckdb|sqlglot|pyarrow|binder|catalog error|exception|traceback|_scan|<class|python|Candidate|_LITERAL"
    r"|VARCHAR|HUGEINT|BLOB|TIMESTAMP_|\bU?INT(?:8|16|32|64|128)\b|UNNEST|list_|array_(?:extract|length)|NoneType|has no attribute|<Token|SENTINEL",
    re.IGNORECASE,
)


def test_mistakes_are_told_with_their_place(client: fletching.Client) -> None:
    wrong: list[str] = []
    for text in WRONG:
        try:
            client.sql(text)
        except FletchingError as error:
            if LIBRARY_WORDS.search(error.message) or " line " not in error.message:
                wrong.append(f"{text}: {error.message}")
        else:
            wrong.append(f"{text}: done")
    assert wrong == []


def test_no_statement_gets_out(client: fletching.Client) -> None:
    done: list[str] = []
    for text in WAYS_OUT:
        try:
            result = client.sql(text)
        except FletchingError as error:
            if "root:" in error.message:
                done.append(f"{text}: {error.message}")
        else:
            done.append(f"{text}: {result!r}")
    assert done == []


def test_types_are_maxcomputes(client: fletching.Client) -> None:
    result = client.sql(
        "select sum(id), count(*), avg(n), sum(price), max(at), pt, tags, attrs, place, 1Y, 2S, 1.5F,"
        " date '2024-01-01', X'00', cast('2024-01-01' as timestamp)"
        " from sale group by pt, tags, attrs, place limit 0"
    )
    assert [str(field.type) for field in result.schema] == [
        "int64",
        "int64",
        "double",
        "decimal128(38, 2)",
        "timestamp[ms]",
        "string",
        "list<item: string>",
        "map<string, int64>",
        "struct<city: string, zip: int32>",
        "int8",
        "int16",
        "float",
        "date32[day]",
        "binary",
        "timestamp[ns]",
    ]
    assert result.to_table().num_rows == 0
    assert client.sql("select 1, 2 as x, id, id from sale limit 1").schema.names == [
        "_c0",
        "x",
        "id",
        "id2",
    ]


def test_results_go_to_other_libraries(client: fletching.Client) -> None:
    result = client.sql("select id, item from sale order by id")
    assert pa.table(result)["id"].to_pylist() == [1, 2, 3, 4, 5]
    assert result.to_pandas()["id"].tolist() == [1, 2, 3, 4, 5]
    assert result.to_polars()["id"].to_list() == [1, 2, 3, 4, 5]
    assert result.to_pylist()[3] == {"id": 4, "item": None}
    assert [batch.num_rows for batch in result] == [5]
    assert "5 rows" in repr(result)
    assert "<td>pen</td>" in result._repr_html_()
    printed = client.sql("desc sale")
    assert "item string" in printed.text
    assert printed.schema == pa.schema([])
    assert list(printed.to_batches()) == []
    assert "item string" in printed._repr_html_()


def test_large_results_are_read_in_parts(client: fletching.Client) -> None:
    client.sql("create table if not exists big (n bigint, s string)")
    table = client.table("big")
    table.append(pa.table({"n": range(100_000), "s": [f"row {n}" for n in range(100_000)]}))
    result = client.sql("select s, n + 1 as m from big order by n")
    assert len(result) == 100_000
    for _ in range(2):
        first = next(result.to_batches())
        assert first.slice(0, 2).to_pylist() == [{"s": "row 0", "m": 1}, {"s": "row 1", "m": 2}]
    outcome = result.to_table()
    assert outcome["m"].to_pylist() == list(range(1, 100_001))
    client.drop_table("big")
    assert len(result.to_table()) == 100_000  # a result is a snapshot


def test_statements_change_rows(client: fletching.Client) -> None:
    sql = client.sql
    sql("create table w (a bigint, b string, c decimal(5,2)) partitioned by (pt string)")
    assert (
        sql(
            "insert into w partition (pt='1') values (1, 'x', 1.005), (2, null, null)"
        ).affected_rows
        == 2
    )
    assert sql("insert into w partition (pt='1') (b, a) select 'y', 3").affected_rows == 1
    assert sql("insert into w partition (pt) select a + 10, b, c, '2' from w").affected_rows == 3
    assert sql("insert into w select 99, 'z', 9.99, '3'").affected_rows == 1
    assert rows(sql("select a, b, c, pt from w order by a")) == [
        (1, "x", pa.scalar("1.01").cast(pa.decimal128(5, 2)).as_py(), "1"),
        (2, None, None, "1"),
        (3, "y", None, "1"),
        (11, "x", pa.scalar("1.01").cast(pa.decimal128(5, 2)).as_py(), "2"),
        (12, None, None, "2"),
        (13, "y", None, "2"),
        (99, "z", pa.scalar("9.99").cast(pa.decimal128(5, 2)).as_py(), "3"),
    ]
    assert (
        sql(
            "insert overwrite table w partition (pt='1') select a * 2, b, c from w where pt = '1'"
        ).affected_rows
        == 3
    )
    assert rows(sql("select a from w where pt = '1' order by a")) == [(2,), (4,), (6,)]
    assert sql("delete from w where b = 'x' and pt = '2'").affected_rows == 1
    assert sql("truncate table w partition (pt='3')").affected_rows == 1
    assert rows(sql("select count(*) from w")) == [(5,)]
    copied = sql(
        "create table w2 lifecycle 9 as select a, upper(b) as u from w where b is not null"
    )
    assert copied.affected_rows == 3
    assert rows(sql("select * from w2 order by a")) == [(2, "X"), (6, "Y"), (13, "Y")]
    assert client.table("w2").schema.names == ["a", "u"]
    assert sql("create table if not exists w2 as select 1 as k").affected_rows == 0
    sql("create table w3 like w")
    assert client.table("w3").partition_columns == client.table("w").partition_columns
    assert (
        sql(
            "from w insert into table w2 select a, 'one' where pt = '1'"
            " insert overwrite table w3 partition (pt='n') select a, b, c where pt = '2'"
        ).affected_rows
        == 5
    )
    assert rows(sql("select count(*) from w2 union all select count(*) from w3")) == [(6,), (2,)]
    # A statement that fails leaves nothing.
    with pytest.raises(InvalidArgumentError):
        sql("insert into w2 select if(a > 5, 1 / 0, a) + 9223372036854775807, b from w")
    assert rows(sql("select count(*) from w2")) == [(6,)]
    with pytest.raises(InvalidArgumentError):
        sql("create table w4 as select 9223372036854775807 + a as k from w")
    assert "w4" not in [entry.name for entry in client.list_tables()]
    assert "w2" in sql("show tables like 'w*'").text
    assert sql("show partitions w").text == "pt=1\npt=2\npt=3"
    made = sql("show create table w").text
    sql("drop table w")
    sql(made)
    assert rows(sql("select count(*) from w")) == [(0,)]


def test_rows_are_updated_and_merged(client: fletching.Client) -> None:
    sql = client.sql
    sql("create table m (id bigint, g string, n int); create table ms (id bigint, g string)")
    sql("insert into m values (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)")
    sql("insert into ms values (2, 'B'), (3, 'C'), (4, 'D'), (null, 'N')")
    assert sql("update m set g = upper(g), n = n + 10 where id = 1").affected_rows == 1
    merge = (
        "merge into m using ms s on m.id = s.id"
        " when matched and s.id > 2 then update set m.g = concat(m.g, s.g), n = m.n * 10"
        " when not matched and s.id is not null then insert values (s.id, s.g, 0)"
    )
    assert sql(merge).affected_rows == 2
    assert rows(sql("select * from m order by id")) == [
        (1, "A", 11),
        (2, "b", 2),
        (3, "cC", 30),
        (4, "D", 0),
    ]
    assert (
        sql(
            "merge into m using (select 1 k) q on m.id = q.k when matched then delete"
        ).affected_rows
        == 1
    )
    twice = "merge into m using (select 2 id union all select 2) s on m.id = s.id when matched then delete"
    with pytest.raises(FletchingError, match="several rows"):
        sql(twice.replace("delete", "update set g = 'x'"))
    assert rows(sql("select count(*), min(id) from m")) == [(3, 2)]


def test_rows_are_changed_by_queries(client: fletching.Client) -> None:
    sql = client.sql
    sql("create table q (id bigint, g string, n int, d decimal(10,2)) partitioned by (pt string)")
    sql(
        "insert into q partition (pt) values (1, 'a', 1, 1.5BD, '1'), (2, 'b', 2, 2.5BD, '1'), (3, 'c', 3, null, '2')"
    )
    changed = [
        ("delete from q where id in (select id from sale where item = 'ink')", 1),
        (
            (
                "update q set g = to_char(datetime '2024-01-02 00:00:00', 'yyyymmdd'), n = n + 1, d = n / 3"
                " where length(g) = 1 and id = (select max(id) from q)"
            ),
            1,
        ),
        ("update q a set g = s.item from sale s where a.id = s.id", 2),
        (
            (
                "merge into q t using sale s on t.id = s.id and t.id < 10"
                " when matched and s.n > 5 then update set g = concat(t.g, '!'), pt = '9'"
                " when matched then delete"
                " when not matched and s.id < 5 then insert (id, g, pt) values (s.id, s.item, s.pt)"
                " when not matched then insert values (s.id + 100, s.item, null, 1.5, 'x')"
            ),
            5,
        ),
    ]
    for text, count in changed:
        assert sql(text).affected_rows == count, text
    assert rows(sql("select id, g, n, d, pt from q order by id")) == [
        (1, "pen!", 1, Decimal("1.50"), "9"),
        (2, "ink", None, None, "20240101"),
        (4, None, None, None, "20240102"),
        (105, "pad", None, Decimal("1.50"), "x"),
    ]
    twice = "(select 1 id, true u union all select 1, false)"
    for text, complaint in [
        ("merge into q t using {} s on t.id = s.id when matched then update set n = 1", "several"),
        (
            (
                "merge into q t using {} s on t.id = s.id when matched and s.u then update set n = 1"
                " when matched then delete"
            ),
            "several",
        ),
        ("update q set n = 'x'", "convert"),
        ("update q set n = 3000000000", "out of range"),
        ("update q set zz = 1", "no column zz"),
        ("update pens set price = 1", "is a view"),
    ]:
        with pytest.raises(InvalidArgumentError, match=complaint):
            sql(text.format(twice))
    merged = sql("merge into q t using " + twice + " s on t.id = s.id when matched then delete")
    assert merged.affected_rows == 1
    assert sql("delete from q a where a.g like 'p%' or a.id > 100").affected_rows == 1
    left = "merge into q t using sale s on t.id = s.id and s.id < 4 when not matched by source then delete"
    assert sql(left).affected_rows == 1
    assert rows(sql("select id from q")) == [(2,)]
    sql("create table keyed (k bigint not null, v string, primary key (k))")
    sql("insert into keyed values (1, 'a'), (2, 'b')")
    merge = "merge into keyed t using (select 2 k union all select 3) s on t.k = s.k"
    assert sql(merge + " when not matched then insert values (s.k, 'new')").affected_rows == 1
    for text in (
        "update keyed set k = 5",
        "merge into keyed t using sale s on false when not matched then insert values (1, 'x')",
    ):
        with pytest.raises(FletchingError, match="primary key"):
            sql(text)
    assert sql("update keyed set v = upper(v) where k < 3").affected_rows == 2
    assert rows(sql("select * from keyed order by k")) == [(1, "A"), (2, "B"), (3, "new")]


def test_columns_have_defaults(client: fletching.Client) -> None:
    sql = client.sql
    sql("create table df (a bigint, b string default 'x', c decimal(10,2) default 1.5, d int)")
    sql("insert into df (a) values (1), (2)")
    sql("insert into df (c, a) select null, 3")
    sql("insert into df values (4, null, 2, 5)")
    assert rows(sql("select * from df order by a")) == [
        (1, "x", Decimal("1.50"), None),
        (2, "x", Decimal("1.50"), None),
        (3, "x", None, None),
        (4, None, Decimal("2.00"), 5),
    ]
    made = sql("show create table df").text
    assert "`b` string DEFAULT 'x'" in made
    sql("drop table df")
    sql(made)
    sql("insert into df (d) values (7)")
    assert rows(sql("select * from df")) == [(None, "x", Decimal("1.50"), 7)]


def test_tables_are_altered(client: fletching.Client) -> None:
    sql = client.sql
    sql("create table al (a bigint) partitioned by (pt string, hh bigint)")
    for hour in range(4):
        sql(f"insert into al partition (pt='p', hh={hour}) values ({hour})")
    sql("alter table al add if not exists partition (pt='q', hh=1) partition (pt='q', hh=2)")
    sql("alter table al drop partition (pt='p', hh >= 2)")
    assert sql("show partitions al").text == "pt=p/hh=0\npt=p/hh=1\npt=q/hh=1\npt=q/hh=2"
    assert sql("show partitions al partition (pt='q')").text == "pt=q/hh=1\npt=q/hh=2"
    renamed = sql("alter table al partition (pt='p', hh=1) rename to partition (pt='r', hh=9)")
    assert renamed.affected_rows == 1
    assert rows(sql("select a, pt, hh from al order by a")) == [(0, "p", 0), (1, "r", 9)]
    sql("alter table al drop if exists partition (pt > 'zz')")
    for text, complaint in [
        ("alter table al drop partition (pt > 'zz')", "no partition"),
        ("alter table al drop partition (a = 1 or pt = 'p')", "no partition column a"),
        ("alter table al partition (pt='r') rename to partition (pt='s')", "all partition columns"),
        ("alter table al frobnicate", "FROBNICATE is not supported"),
        ("alter table al add columns (x)", "type is expected|lacks a type"),
        ("show nonsense", "NONSENSE is not supported"),
        ("desc", "name of a table is expected"),
    ]:
        with pytest.raises(FletchingError, match=complaint):
            sql(text)
    sql("alter table al add columns if not exists (a bigint, b string comment 'bb')")
    sql("alter table al change column b c string; alter table al change column c comment 'cc'")
    described = sql("desc extended al").text
    assert 'c string comment "cc"' in described
    assert "Version: " in described
    assert "Rows: 1" in sql("desc al partition (pt='r', hh=9)").text
    assert sql("truncate table al partition (pt='p'), partition (pt='r', hh=9)").affected_rows == 2
    assert sql("clone table item to item_copy").affected_rows == 4
    assert sql("clone table item to item_copy if exists ignore").affected_rows == 0
    assert sql("clone table item to item_copy if exists overwrite").affected_rows == 4
    with pytest.raises(FletchingError, match="already"):
        sql("clone table item to item_copy")
    assert "rename\n" not in sql("show history for table al").text
    sql("alter table al rename to al2; drop table al2; drop table item_copy")
    sql(
        "create schema side; use schema side; create table z (a int); drop table z; drop schema side"
    )
    assert "pens" in sql("show views").text
    assert "pens" not in sql("show views like 'x*'").text
    assert "regexp_count" in sql("show functions like 'regexp*'").text
    assert sql("set a.b=1; show flags").text == "a.b=1"
    assert "Scans:" in sql("explain insert into item select * from item").text


def test_views(client: fletching.Client) -> None:
    sql = client.sql
    sql("create view v1 as select item, sum(n) as total from sale group by item")
    assert rows(sql("select * from v1 where total > 5 order by item")) == [("pad", 7), ("pen", 14)]
    sql("create or replace view v1 (i) as select item from sale where id = 1")
    assert rows(sql("select i from v1")) == [("pen",)]
    sql("create view v2 as select i || '!' as j from v1")
    assert rows(sql("select j from v2")) == [("pen!",)]
    with pytest.raises(FletchingError, match="is a table"):
        sql("drop view sale")
    sql("drop view v1")
    with pytest.raises(FletchingError, match="no table"):
        sql("select * from v2")
    sql("drop view if exists v1; drop view v2")


def test_parameters(client: fletching.Client) -> None:
    text = "select id from sale where item = ? and id in ? order by id"
    assert rows(client.sql(text, ["pen", [1, 3, 5]])) == [(1,), (3,)]
    named = "select :x as x, ':y' as y, '?' as z -- :no ?\n"
    assert rows(client.sql(named, {"x": 'it\'s \\ "q"'})) == [('it\'s \\ "q"', ":y", "?")]
    assert rows(client.sql("select ?, ?, ?, ?", [None, 1.5, True, b"\x00'"])) == [
        (None, 1.5, True, b"\x00'")
    ]
    for bad in ([], ["a", [1], 2], {"x": 1}):
        with pytest.raises((UsageError, InvalidArgumentError)):
            client.sql(text, bad)
    with pytest.raises(UsageError, match="no form"):
        client.sql("select ?", [object()])


def test_explain_says_what_was_pushed(client: fletching.Client) -> None:
    text = client.sql(
        "explain select item from sale where pt = '20240101' and length(item) = 3"
    ).text
    assert "columns item, pt" in text
    assert "pushed: pt = '20240101'" in text
