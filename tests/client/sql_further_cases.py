"""Statements as users of MaxCompute and of BI tools write them, and what they give: worked out from the documentation.

The forms are those of `sql_everyday_cases`.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

from tests.client.sql_everyday_cases import Refused

D = Decimal
DAY = dt.date.fromisoformat
AT = dt.datetime.fromisoformat

# fmt: off
FURTHER_EXPRESSIONS: dict[str, list[tuple[str, Any]]] = {
    "what people ask": [
        ("substr('abc', 2, -1)", ""),
        ("substr('abc', -2, -1)", ""),
        ("substr('abc', 1, instr('abc', 'z') - 1)", ""),
        ("substr('abc', -1, cast(null as int))", None),
        ("from_utc_timestamp('9999-12-31 23:00:00', '+02:00')", None),
        ("json_type('[1]')", "array"),
        ("json_type('{}')", "object"),
        ("json_type('1.5')", "number"),
        ("json_type('-3')", "number"),
        ("json_type('\"x\"')", "string"),
        ("json_type('true')", "boolean"),
        ("json_type('null')", "null"),
        ("json_type('bad')", None),
        ("json_exists('{\"a\":{\"b\":1}}', '$.a.b')", True),
        ("json_exists('{\"a\":1}', 'strict $.b')", False),
        ("json_exists('{\"a\":[1]}', 'lax $.a[*]')", True),
        ("json_exists('{\"a\":[]}', '$.a[*]')", False),
        ("json_exists('bad', '$.a')", None),
        ("hash(0, 2, 4)", 66),
        ("hash(0, 'a')", 97),
        ("hash(0, null)", 0),
        ("7 div 2", 3),
        ("-7 % 3", -1),
        ("pmod(-7, 3)", 2),
        ("10BD / 3BD", D("3.333333")),
        ("2BD / 0BD", None),
        ("cast('  12  ' as bigint)", 12),
        ("cast('' as bigint)", None),
        ("cast(-1.9 as bigint)", -1),
        ("dateadd(datetime '2024-01-31 10:00:00', 1, 'mm')", AT("2024-02-29 10:00:00")),
        ("dateadd(date '2024-02-29', 1, 'yyyy')", DAY("2025-02-28")),
        ("datediff(datetime '2024-01-01 23:00:00', datetime '2024-01-02 01:00:00', 'dd')", -1),
        ("datediff(date '2025-01-01', date '2024-12-31', 'yyyy')", 1),
        ("weekofyear(date '2024-12-30')", 1),
        ("dayofweek('2024-05-17')", 6),
        ("split('a,b,,c,,', ',')", ["a", "b", "", "c"]),
        ("split_part('a,b,c', ',', -1)", "c"),
        ("regexp_instr('a1b2', '\\\\d', 1, 2)", 4),
        ("regexp_extract_all('a1b22', '\\\\d+')", ["1", "22"]),
        ("conv('ff', 16, 10)", "255"),
        ("null <=> null", True),
        ("2 not in (1, null)", None),
        ("1 between 2 and 0", False),
        ("5 ^ 3", 6),
        ("date '2024-03-31' - interval 1 month", DAY("2024-02-29")),
        ("map_concat(map('a', 1), map('b', 2))", [("a", 1), ("b", 2)]),
        ("slice(array(1, 2, 3), 2, 2)", [2, 3]),
        ("array_remove(array(1, 2, 1), 1)", [2]),
        ("transform(array(1), user -> user + 1)", [2]),
        ("case when null then 1 else 2 end", 2),
        ("0.1 + 0.2", D("0.3")),
        ("0.1D + 0.2D", 0.30000000000000004),
    ],
}

FURTHER_SCRIPT: list[tuple[str, Any]] = [
    ("create table jt (id bigint, j json, s string)", None),
    ("insert into jt values (1, json '{\"a\":1,\"b\":{\"c\":\"x\"},\"l\":[1,{\"d\":2}]}', 'q'), (2, json_parse('{\"a\":\"key\", \"b\":2}'), null), (3, null, null)", 3),
    ("select id, j['a'], j[\"b\"]['c'], j['l'][1]['d'], j['zz'], j['l'][9] from jt order by id", [(1, "1", '"x"', "2", None, None), (2, '"key"', None, None, None, None), (3, None, None, None, None, None)]),
    ("select cast(j['a'] as bigint) + 1 from jt where j['a'] = 1", [(2,)]),
    ("select j[s] from jt", Refused("named by a constant")),
    ("select s['a'] from jt", Refused("a STRING has no elements")),
    ("create table su (user string, current_user bigint)", None),
    ("insert into su values ('x', 1)", 1),
    ("select user, current_user from su where user = 'x' order by user", [("x", 1)]),
    ("select user from jt", Refused("there is no column user")),
    ("select current_user", Refused("there is no column current_user")),
    ("select session_user", Refused("there is no column session_user")),
    ("select current_schema", Refused("there is no column current_schema")),
    ("select localtime, localtimestamp", Refused("there is no column localtime")),
    ("select `current_date` from jt", Refused("there is no column current_date")),
    ("update su set user = concat(user, 'y') where current_user = 1", 1),
    ("delete from su where localtime = 1", Refused("there is no column localtime")),
    ("select a user from values (1) t(a) order by user", [(1,)]),
    ("select * from jt group", Refused("BY is missing behind 'group'")),
    ("select id from jt order id", Refused("BY is missing behind 'order'")),
    ("select id order from jt", Refused("BY is missing behind 'order'")),
    ("select id limit from jt", Refused("a number is missing behind 'limit'")),
    ("select from_utc_timestamp('2024-01-01 00:00:00', 'nope')", Refused("there is no time zone 'nope'")),
    ("select datetime '9999-12-31 00:00:00' > timestamp '2024-01-01 00:00:00'", Refused("from 1677 to 2262")),
    ("create table ma (k bigint, v string) partitioned by (pt string)", None),
    ("create table mb (k bigint, d datetime)", None),
    ("from values (1, 'a'), (2, 'b') s(k, v) insert into ma partition (pt='1') select k, v insert overwrite table mb select k, 2.5BD", Refused("cannot become DATETIME")),
    ("select count(*) from ma", [(0,)]),
    ("from values (1, 'a'), (2, 'b') s(k, v) insert into ma partition (pt='1') select k, v insert overwrite table ma partition (pt='2') select k, v where k > 1 insert into mb select k, null", 5),
    ("select pt, k from ma order by pt, k", [("1", 1), ("1", 2), ("2", 2)]),
    ("alter table ma set lifecycle 1", None),
    ("alter table ma partition (pt='1') disable lifecycle", None),
    ("desc ma partition (pt='1')", "Lifecycle: disabled"),
    ("alter table ma partition (pt='1') enable lifecycle", None),
    ("alter table ma partition (pt='9') disable lifecycle", Refused("there is no partition pt=9")),
    ("alter table ma partition (pt='1') set lifecycle 5", Refused("DISABLE LIFECYCLE")),
    ("select coalesce(v, '?') v, grouping__id from ma group by v grouping sets ((v), ()) order by grouping__id, v", [("a", 0), ("b", 0), ("?", 1)]),
    ("select k, sum(k) over (order by k range between 1 preceding and current row) s from values (1), (2), (2), (4) t(k) order by k", [(1, 1), (2, 5), (2, 5), (4, 4)]),
    ("select t.k, (select max(u.b) from values (1, 5), (1, 7), (2, 1) u(a, b) where u.a = t.k) m from values (1), (2), (3) t(k) order by k", [(1, 7), (2, 1), (3, None)]),
    ("select * from values (1, 'a') t(x, y) full join values (2, 'b') s(x, z) using (x) order by x", [(1, "a", None), (2, None, "b")]),
    ("select t.x, s.x from values (1), (2) t(x) left anti join values (2) s(x) on t.x = s.x", Refused("there is no table or alias s")),
    ("select 1 union all select 2.5 union all select '3'", [("1",), ("2.5",), ("3",)]),
    ("select k from ma minus select k from mb", []),
    ("select * from values (1), (2) t(a) join values (3) s(b)", [(1, 3), (2, 3)]),
]
# fmt: on
