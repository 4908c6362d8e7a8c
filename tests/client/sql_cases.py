"""Expressions and queries of MaxCompute's dialect, and what they give: worked out by hand.

Expressions are groups of (text, value); queries are (text, rows) over the tables of `TABLES`.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

D = Decimal
DAY = dt.date.fromisoformat
AT = dt.datetime.fromisoformat

EXPRESSIONS: dict[str, list[tuple[str, Any]]] = {
    "literals": [
        ("1", 1),
        ("1Y", 1),
        ("2S", 2),
        ("3L", 3),
        ("9223372036854775807", 2**63 - 1),
        ("1.5", D("1.5")),
        ("1.50BD", D("1.5")),
        ("1.5D", 1.5),
        ("1e3", 1000.0),
        ("1.5F", 1.5),
        ("'a'", "a"),
        ('"b"', "b"),
        ("'it\\'s'", "it's"),
        ("'a\\nb'", "a\nb"),
        ("'\\u4e2d'", "中"),
        ("X'00ff'", b"\x00\xff"),
        ("true", True),
        ("null", None),
        ("date '2024-02-29'", DAY("2024-02-29")),
        ("datetime '2024-02-29 01:02:03'", AT("2024-02-29 01:02:03")),
        ("array(1, 2)", [1, 2]),
        ("map('a', 1)", [("a", 1)]),
        ("named_struct('a', 1, 'b', 'x')", {"a": 1, "b": "x"}),
        ("struct(1, 'x')", {"col1": 1, "col2": "x"}),
    ],
    "operators": [
        ("1 + 2 * 3", 7),
        ("7 / 2", 3.5),
        ("7 div 2", 3),
        ("-7 % 3", -1),
        ("7 % 0", None),
        ("1 / 0", None),
        ("1 = 1.0", True),
        ("1 == 1", True),
        ("1 <> 2", True),
        ("null = null", None),
        ("null <=> null", True),
        ("1 <=> null", False),
        ("1 in (1, null)", True),
        ("2 in (1, null)", None),
        ("2 not in (1, 3)", True),
        ("2 between 1 and 3", True),
        ("not true", False),
        ("true and null", None),
        ("false and null", False),
        ("true or null", True),
        ("'abc' like 'a%'", True),
        ("'abc' like '_b_'", True),
        ("'a%c' like 'a\\\\%c'", True),
        ("'abc' like 'a\\\\%c'", False),
        ("'a%c' like 'a!%c' escape '!'", True),
        ("'abc' not like 'b%'", True),
        ("'abc' rlike 'b.'", True),
        ("'abc' regexp '^b'", False),
        ("'a' || 'b'", "ab"),
        ("5 & 3", 1),
        ("5 | 3", 7),
        ("null is null", True),
        ("1 is not null", True),
        ("-(-3)", 3),
        ("1.5 + 1", D("2.5")),
        ("1.5 * 1.5", D("2.25")),
        ("array(10, 20)[1]", 20),
        ("array(10, 20)[2]", None),
        ("map('k', 5)['k']", 5),
        ("map('k', 5)['z']", None),
        ("named_struct('a', 3).a", 3),
    ],
    "conditions": [
        ("if(1 > 0, 'y', 'n')", "y"),
        ("if(null, 1, 2)", 2),
        ("case when 1 > 2 then 'a' when true then 'b' end", "b"),
        ("case 3 when 1 then 'a' else 'c' end", "c"),
        ("nvl(null, 4)", 4),
        ("ifnull(null, 4)", 4),
        ("nvl2(1, 'x', 'y')", "x"),
        ("coalesce(null, null, 7)", 7),
        ("nullif(1, 1)", None),
        ("decode(2, 1, 'one', 2, 'two', 'more')", "two"),
        ("decode(9, 1, 'one', 2, 'two', 'more')", "more"),
        ("decode(null, null, 'none', 'some')", "none"),
        ("decode(9, 1, 'one')", None),
        ("greatest(1, 3, 2)", 3),
        ("greatest(1, null)", 1),
        ("least(1, 3, 2)", 1),
        ("isnull(null)", True),
        ("isnotnull(1)", True),
    ],
    "casts": [
        ("cast('12' as bigint)", 12),
        ("cast('1.9' as bigint)", 1),
        ("cast(1.9 as bigint)", 1),
        ("cast(-1.9 as bigint)", -1),
        ("cast(2.9D as int)", 2),
        ("cast('x' as bigint)", None),
        ("cast('x' as double)", None),
        ("cast(300 as tinyint)", None),
        ("cast(5 as string)", "5"),
        ("cast(1.50 as string)", "1.5"),
        ("cast(true as string)", "true"),
        ("cast('true' as boolean)", True),
        ("cast(1 as boolean)", True),
        ("cast('1.255' as decimal(10,2))", D("1.26")),
        ("cast(2 as decimal(10,2))", D("2.00")),
        ("cast('2024-02-29' as date)", DAY("2024-02-29")),
        ("cast('2024-02-30' as date)", None),
        ("cast('2024-02-29 01:02:03' as datetime)", AT("2024-02-29 01:02:03")),
        ("cast(date '2024-02-29' as string)", "2024-02-29"),
        ("cast(datetime '2024-02-29 01:02:03' as string)", "2024-02-29 01:02:03"),
        ("cast('abc' as binary)", b"abc"),
        ("cast(X'616263' as string)", "abc"),
        ("cast('abcdef' as varchar(3))", "abc"),
        ("cast(null as bigint)", None),
        ("cast(array(1, 2) as array<string>)", ["1", "2"]),
        ("1::string", "1"),
    ],
    "texts": [
        ("concat('a', 'b', 'c')", "abc"),
        ("concat('a', 1)", "a1"),
        ("concat('a', null)", None),
        ("concat_ws('-', 'a', null, 'b')", "a-b"),
        ("concat_ws(',', array('a', 'b'))", "a,b"),
        ("length('中a')", 2),
        ("lengthb('中a')", 4),
        ("length(null)", None),
        ("substr('hello', 2, 3)", "ell"),
        ("substr('hello', -3)", "llo"),
        ("substr('hello', 0, 2)", "he"),
        ("substring('hello', 2)", "ello"),
        ("substring_index('a.b.c', '.', 2)", "a.b"),
        ("substring_index('a.b.c', '.', -1)", "c"),
        ("upper('aB')", "AB"),
        ("toupper('aB')", "AB"),
        ("lower('aB')", "ab"),
        ("tolower('aB')", "ab"),
        ("initcap('ab CD')", "Ab Cd"),
        ("trim('  a ')", "a"),
        ("ltrim('  a ')", "a "),
        ("rtrim('  a ')", "  a"),
        ("trim('xax', 'x')", "a"),
        ("lpad('5', 3, '0')", "005"),
        ("rpad('5', 3, '0')", "500"),
        ("repeat('ab', 2)", "abab"),
        ("space(2)", "  "),
        ("reverse('abc')", "cba"),
        ("replace('abab', 'b', 'x')", "axax"),
        ("concat('{0}', '{1}', '{over}')", "{0}{1}{over}"),
        ("replace('{1}', '{1}', '{2}')", "{2}"),
        ("translate('abc', 'ab', 'xy')", "xyc"),
        ("instr('hello', 'l')", 3),
        ("instr('hello', 'z')", 0),
        ("instr('hello', 'l', 4)", 4),
        ("locate('l', 'hello')", 3),
        ("find_in_set('b', 'a,b,c')", 2),
        ("find_in_set('z', 'a,b,c')", 0),
        ("split('a,b,,c', ',')", ["a", "b", "", "c"]),
        ("split('a1b2', '[0-9]')", ["a", "b"]),
        ("split_part('a-b-c', '-', 2)", "b"),
        ("split_part('a-b-c', '-', 2, 3)", "b-c"),
        ("regexp_replace('a1b2', '[0-9]', '#')", "a#b#"),
        ("regexp_replace('a1b2', '[0-9]', '#', 1)", "a#b2"),
        ("regexp_extract('ab12', '([a-z]+)([0-9]+)')", "ab"),
        ("regexp_extract('ab12', '([a-z]+)([0-9]+)', 2)", "12"),
        ("regexp_extract('ab12', '[0-9]+', 0)", "12"),
        ("regexp_substr('ab12', '[0-9]+')", "12"),
        ("regexp_count('a1b22', '[0-9]')", 3),
        ("regexp_instr('ab12', '[0-9]')", 3),
        ("ascii('a')", 97),
        ("chr(98)", "b"),
        ("md5('a')", "0cc175b9c0f1b6a831c399e269772661"),
        ("sha1('a')", "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8"),
        ("base64(cast('abc' as binary))", "YWJj"),
        ("unbase64('YWJj')", b"abc"),
        ("hex('abc')", "616263"),
        ("unhex('616263')", b"abc"),
        ("url_encode('a b')", "a+b"),
        ("url_decode('a%20b')", "a b"),
        ("levenshtein('kitten', 'sitting')", 3),
        ('get_json_object(\'{"a": {"b": [1, "x"]}}\', \'$.a.b[1]\')', "x"),
        ("get_json_object('{\"a\": 1}', '$.z')", None),
        ("str_to_map('a:1,b:2')", [("a", "1"), ("b", "2")]),
        ("str_to_map('a=1;b=2', ';', '=')", [("a", "1"), ("b", "2")]),
        ("format_number(1234567.891, 2)", "1,234,567.89"),
        ("left('abc', 2)", "ab"),
        ("right('abc', 2)", "bc"),
    ],
    "numbers": [
        ("abs(-3)", 3),
        ("ceil(1.2)", 2),
        ("ceil(-1.2)", -1),
        ("floor(1.8)", 1),
        ("floor(-1.2)", -2),
        ("round(2.567D, 2)", 2.57),
        ("round(2.5D)", 3.0),
        ("bround(2.5D)", 2.0),
        ("trunc(2.567D, 1)", 2.5),
        ("pow(2, 10)", 1024.0),
        ("sqrt(16)", 4.0),
        ("cbrt(27D)", 3.0),
        ("exp(0)", 1.0),
        ("ln(1)", 0.0),
        ("log(2, 8)", 3.0),
        ("log2(8)", 3.0),
        ("log10(1000)", 3.0),
        ("sign(-2)", -1.0),
        ("mod(7, 3)", 1),
        ("pmod(-7, 3)", 2),
        ("bin(5)", "101"),
        ("factorial(5)", 120),
        ("shiftleft(1, 3)", 8),
        ("shiftright(8, 2)", 2),
        ("sin(0D)", 0.0),
        ("cos(0D)", 1.0),
        ("degrees(pi())", 180.0),
        ("isnan(cast('nan' as double))", True),
        ("isnan(1.0D)", False),
    ],
    "times": [
        ("to_date('20251231', 'yyyymmdd')", AT("2025-12-31")),
        ("to_date('2025-12-31 10:20:30', 'yyyy-mm-dd hh:mi:ss')", AT("2025-12-31 10:20:30")),
        ("to_date('31/12/2025', 'dd/mm/yyyy')", AT("2025-12-31")),
        ("to_date('20251331', 'yyyymmdd')", None),
        ("to_date('2025-12-31')", DAY("2025-12-31")),
        ("to_char(datetime '2024-03-04 05:06:07', 'yyyymmdd')", "20240304"),
        ("to_char(datetime '2024-03-04 05:06:07', 'yyyy-mm-dd hh:mi:ss')", "2024-03-04 05:06:07"),
        ("to_char(datetime '2024-03-04 05:06:07', '日期:yyyy')", "日期:2024"),
        ("to_char(12)", "12"),
        (
            "date_format(datetime '2024-03-04 15:06:07', 'yyyy-MM-dd HH:mm:ss')",
            "2024-03-04 15:06:07",
        ),
        ("date_format('2024-03-04 15:06:07', 'MM/dd')", "03/04"),
        ("dateadd(datetime '2024-01-31 00:00:00', 1, 'mm')", AT("2024-02-29")),
        ("dateadd(datetime '2024-01-31 00:00:00', -1, 'dd')", AT("2024-01-30")),
        ("dateadd(datetime '2024-01-31 23:00:00', 2, 'hh')", AT("2024-02-01 01:00:00")),
        ("dateadd(date '2024-02-28', 2, 'dd')", DAY("2024-03-01")),
        ("dateadd(date '2024-02-29', 1, 'yyyy')", DAY("2025-02-28")),
        ("dateadd('2024-02-28 00:00:00', 1, 'dd')", AT("2024-02-29")),
        ("datediff(datetime '2024-03-01 00:00:00', datetime '2024-02-01 00:00:00', 'dd')", 29),
        ("datediff(datetime '2024-03-01 00:00:00', datetime '2023-02-01 00:00:00', 'mm')", 13),
        ("datediff('2024-01-01 00:00:00', '2023-12-31 23:59:59', 'yyyy')", 1),
        ("datediff('2024-03-01', '2024-02-01')", 29),
        ("datediff('2024-03-01 01:00:00', '2024-03-01 00:30:00', 'mi')", 30),
        ("datetrunc(datetime '2024-03-04 05:06:07', 'mm')", AT("2024-03-01")),
        ("datetrunc(datetime '2024-03-04 05:06:07', 'hh')", AT("2024-03-04 05:00:00")),
        ("datetrunc(date '2024-03-04', 'yyyy')", DAY("2024-01-01")),
        ("datepart(datetime '2024-03-04 05:06:07', 'mi')", 6),
        ("datepart(datetime '2024-03-04 05:06:07', 'yyyy')", 2024),
        ("year('2024-03-04')", 2024),
        ("quarter('2024-04-04')", 2),
        ("month('2024-03-04')", 3),
        ("day('2024-03-04')", 4),
        ("hour('2024-03-04 05:06:07')", 5),
        ("minute('2024-03-04 05:06:07')", 6),
        ("second('2024-03-04 05:06:07')", 7),
        ("weekofyear('2024-01-01')", 1),
        ("weekday(datetime '2024-01-01 00:00:00')", 0),
        ("dayofweek('2024-01-07')", 1),
        ("dayofyear('2024-02-01')", 32),
        ("last_day('2024-02-03')", "2024-02-29"),
        ("lastday(datetime '2024-02-03 10:00:00')", AT("2024-02-29")),
        ("next_day('2024-01-01', 'mo')", "2024-01-08"),
        ("add_months('2024-01-31', 1)", "2024-02-29"),
        ("date_add('2024-02-28', 2)", DAY("2024-03-01")),
        ("date_sub('2024-03-01', 1)", DAY("2024-02-29")),
        ("months_between('2024-03-01', '2024-01-01')", 2.0),
        ("from_unixtime(86400)", AT("1970-01-02")),
        ("from_unixtime(0, 'yyyy-MM-dd')", "1970-01-01"),
        ("unix_timestamp(datetime '1970-01-02 00:00:00')", 86400),
        ("unix_timestamp('1970-01-01 00:01:00')", 60),
        ("to_char(datetime '9999-12-31 00:00:00', 'yyyy')", "9999"),
        ("year(datetime '0004-01-01 00:00:00')", 4),
        ("dateadd(datetime '9998-12-31 00:00:00', 1, 'dd')", AT("9999-01-01")),
        ("isdate('2024-02-30', 'yyyy-mm-dd')", False),
        ("isdate('2024-02-29', 'yyyy-mm-dd')", True),
        ("date('2024-02-29 10:00:00')", DAY("2024-02-29")),
        ("extract(year from date '2024-02-29')", 2024),
        ("getdate() = now()", True),
        ("getdate() = current_timestamp()", True),
    ],
    "collections": [
        ("size(array(1, 2, 3))", 3),
        ("size(map('a', 1))", 1),
        ("array_contains(array(1, 2), 2)", True),
        ("array_contains(array(1, 2), 3)", False),
        ("sort_array(array(3, 1, 2))", [1, 2, 3]),
        ("sort_array(array(3, 1, 2), false)", [3, 2, 1]),
        ("array_join(array('a', 'b'), '-')", "a-b"),
        ("array_max(array(1, 5, 2))", 5),
        ("array_min(array(4, 5, 2))", 2),
        ("array_position(array('a', 'b'), 'b')", 2),
        ("array_position(array('a', 'b'), 'z')", 0),
        ("array_remove(array(1, 2, 1), 1)", [2]),
        ("sort_array(array_union(array(1, 2), array(2, 3)))", [1, 2, 3]),
        ("array_intersect(array(1, 2), array(2, 3))", [2]),
        ("array_except(array(1, 2), array(2, 3))", [1]),
        ("array_repeat('x', 2)", ["x", "x"]),
        ("arrays_overlap(array(1, 2), array(2))", True),
        ("concat(array(1), array(2))", [1, 2]),
        ("slice(array(1, 2, 3, 4), 2, 2)", [2, 3]),
        ("sequence(1, 3)", [1, 2, 3]),
        ("flatten(array(array(1), array(2, 3)))", [1, 2, 3]),
        ("map_keys(map('a', 1))", ["a"]),
        ("map_values(map('a', 1))", [1]),
        ("element_at(map('a', 1), 'a')", 1),
        ("transform(array(1, 2), x -> x * 10)", [10, 20]),
        ("filter(array(1, 2, 3), x -> x > 1)", [2, 3]),
        ("any_match(array(1, 2), x -> x = 2)", True),
        ("all_match(array(1, 2), x -> x = 2)", False),
        ("sort_array(array_distinct(array(1, 1, 2)))", [1, 2]),
    ],
}

TABLES = """
create table sale (id bigint, item string, price decimal(10,2), n int, at datetime, tags array<string>,
    attrs map<string,bigint>, place struct<city:string,zip:int>) partitioned by (pt string);
insert into sale partition (pt) select * from values
    (1, 'pen', 1.50BD, 10, datetime '2024-01-01 10:00:00', array('a','b'), map('x',1), named_struct('city','Rome','zip',1), '20240101'),
    (2, 'ink', 4.25BD, 2, datetime '2024-01-01 11:00:00', array('b'), map('x',2,'y',3), named_struct('city','Oslo','zip',2), '20240101'),
    (3, 'pen', 1.75BD, 4, datetime '2024-01-02 10:00:00', array(), map(), named_struct('city','Rome','zip',3), '20240102'),
    (4, null, 9.00BD, null, datetime '2024-01-02 12:00:00', null, null, null, '20240102'),
    (5, 'pad', null, 7, null, array('c','a'), map('y',5), named_struct('city',null,'zip',5), '20240103')
    v(id, item, price, n, at, tags, attrs, place, pt);
create table item (name string, kind string, weight double);
insert into item values ('pen', 'write', 0.5D), ('ink', 'write', 1.0D), ('cup', 'drink', 2.5D), (null, 'none', null);
create table part (k bigint, v string) partitioned by (ds string, hh bigint);
insert into part partition (ds='2024', hh=1) values (1, 'x');
insert into part partition (ds='2024', hh=2) values (2, 'y');
insert into part partition (ds='2025', hh=10) values (3, 'z');
create view pens (id, price) as select id, price from sale where item = 'pen';
"""

QUERIES: list[tuple[str, list[tuple[Any, ...]]]] = [
    ("select id from sale order by id", [(1,), (2,), (3,), (4,), (5,)]),
    ("select id from sale order by item, id", [(4,), (2,), (5,), (1,), (3,)]),
    ("select id from sale order by item desc, id", [(1,), (3,), (5,), (2,), (4,)]),
    ("select id from sale order by id desc limit 2", [(5,), (4,)]),
    ("select id from sale order by id limit 2 offset 3", [(4,), (5,)]),
    ("select id from sale where item = 'pen' order by id", [(1,), (3,)]),
    ("select id from sale where pt >= '20240102' and n > 4", [(5,)]),
    ("select id from sale where price between 1.6 and 5 order by id", [(2,), (3,)]),
    ("select id from sale where item in ('ink', 'pad') order by id", [(2,), (5,)]),
    ("select id from sale where item not in ('ink', 'pad') order by id", [(1,), (3,)]),
    ("select id from sale where item is null", [(4,)]),
    ("select id from sale where item like 'p%' order by id", [(1,), (3,), (5,)]),
    ("select id from sale where at >= datetime '2024-01-02 00:00:00' order by id", [(3,), (4,)]),
    ("select id from sale where place.city = 'Rome' and place.zip > 1", [(3,)]),
    ("select id, place.city from sale where place.city is not null order by id",
     [(1, "Rome"), (2, "Oslo"), (3, "Rome")]),
    ("select count(*), count(item), count(distinct item) from sale", [(5, 4, 3)]),
    ("select sum(n), avg(n), min(n), max(n) from sale", [(23, 5.75, 2, 10)]),
    ("select sum(price) from sale", [(D("16.50"),)]),
    ("select item, sum(n) s from sale group by item having s > 5 order by item",
     [("pad", 7), ("pen", 14)]),
    ("select pt, count(*) c from sale group by pt order by c desc, pt",
     [("20240101", 2), ("20240102", 2), ("20240103", 1)]),
    ("select item, pt, count(*) from sale where item = 'pen' group by item, pt with rollup order by 1, 2",
     [(None, None, 2), ("pen", None, 2), ("pen", "20240101", 1), ("pen", "20240102", 1)]),
    ("select item, count(*) from sale group by cube(item) order by 1, 2",
     [(None, 1), (None, 5), ("ink", 1), ("pad", 1), ("pen", 2)]),
    ("select item, pt, count(*) from sale where id < 3 group by item, pt grouping sets ((item), (pt)) order by 1, 2",
     [(None, "20240101", 2), ("ink", None, 1), ("pen", None, 1)]),
    ("select distinct item from sale order by item", [(None,), ("ink",), ("pad",), ("pen",)]),
    ("select id from sale where n = (select max(n) from sale)", [(1,)]),
    ("select id from sale where item in (select name from item where kind = 'write') order by id",
     [(1,), (2,), (3,)]),
    ("select name from item i where exists (select 1 from sale s where s.item = i.name) order by 1",
     [("ink",), ("pen",)]),
    ("select name from item i where not exists (select 1 from sale s where s.item = i.name) order by 1",
     [(None,), ("cup",)]),
    ("select s.id, i.kind from sale s join item i on s.item = i.name order by s.id",
     [(1, "write"), (2, "write"), (3, "write")]),
    ("select s.id, i.kind from sale s left join item i on s.item = i.name order by s.id",
     [(1, "write"), (2, "write"), (3, "write"), (4, None), (5, None)]),
    ("select s.id, i.kind from sale s left outer join item i on s.item = i.name and i.kind = 'x' where s.id < 3 order by 1",
     [(1, None), (2, None)]),
    ("select i.name, s.id from sale s right join item i on s.item = i.name order by i.name, s.id",
     [(None, None), ("cup", None), ("ink", 2), ("pen", 1), ("pen", 3)]),
    ("select i.name, s.id from sale s full outer join item i on s.item = i.name where s.id > 3 or s.id is null order by 1, 2",
     [(None, None), (None, 4), (None, 5), ("cup", None)]),
    ("select id from sale s left semi join item i on s.item = i.name order by id", [(1,), (2,), (3,)]),
    ("select id from sale s left anti join item i on s.item = i.name order by id", [(4,), (5,)]),
    ("select /*+ mapjoin(i) */ s.id from sale s join item i on s.item = i.name and i.weight > 0.7 order by 1",
     [(2,)]),
    ("select count(*) from sale cross join item", [(20,)]),
    ("select count(*) from sale, item where sale.item = item.name", [(3,)]),
    ("select a.id, b.id from sale a join sale b on a.item = b.item and a.id < b.id", [(1, 3)]),
    ("select id, row_number() over (partition by item order by id desc) r from sale where item = 'pen' order by id",
     [(1, 2), (3, 1)]),
    ("select id, rank() over (order by pt) from sale order by id",
     [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5)]),
    ("select id, dense_rank() over (order by pt) from sale order by id",
     [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)]),
    ("select id, sum(n) over (order by id rows between 1 preceding and current row) from sale order by id",
     [(1, 10), (2, 12), (3, 6), (4, 4), (5, 7)]),
    ("select id, lag(id) over (order by id), lead(id, 1, 0) over (order by id) from sale order by id",
     [(1, None, 2), (2, 1, 3), (3, 2, 4), (4, 3, 5), (5, 4, 0)]),
    ("select id, first_value(item) over (partition by pt order by id), ntile(2) over (order by id) from sale order by id",
     [(1, "pen", 1), (2, "pen", 1), (3, "pen", 1), (4, "pen", 2), (5, "pad", 2)]),
    ("select id from sale qualify row_number() over (partition by pt order by id) = 1 order by id",
     [(1,), (3,), (5,)]),
    ("select id, count(*) over () from sale where id < 3 order by id", [(1, 2), (2, 2)]),
    ("with a as (select id, n from sale), b as (select sum(n) s from a) select a.id, b.s from a, b where a.id = 1",
     [(1, 23)]),
    ("with a as (select 1 x) select * from a union all select * from a", [(1,), (1,)]),
    ("select 1 x union select 1 union select 2 order by x", [(1,), (2,)]),
    ("select item from sale intersect select name from item order by item", [(None,), ("ink",), ("pen",)]),
    ("select name from item except select item from sale", [("cup",)]),
    ("select name from item minus select item from sale", [("cup",)]),
    ("select id, t from sale lateral view explode(tags) v as t order by id, t",
     [(1, "a"), (1, "b"), (2, "b"), (5, "a"), (5, "c")]),
    ("select id, t from sale lateral view outer explode(tags) v as t where id in (3, 4) order by id",
     [(3, None), (4, None)]),
    ("select id, p, t from sale lateral view posexplode(tags) v as p, t where id = 5", [(5, 0, "c"), (5, 1, "a")]),
    ("select id, k, v from sale lateral view explode(attrs) m as k, v order by id, k",
     [(1, "x", 1), (2, "x", 2), (2, "y", 3), (5, "y", 5)]),
    ("select t, count(*) from sale lateral view explode(tags) v as t group by t order by t",
     [("a", 2), ("b", 2), ("c", 1)]),
    ("select explode(array(1, 2))", [(1,), (2,)]),
    ("select id, tags[0], attrs['x'], size(tags) from sale where id in (1, 4) order by id",
     [(1, "a", 1, 2), (4, None, None, -1)]),
    ("select wm_concat(',', item) within group (order by id) from sale where id < 4", [("pen,ink,pen",)]),
    ("select sort_array(collect_list(n)), sort_array(collect_set(item)) from sale",
     [([2, 4, 7, 10], ["ink", "pad", "pen"])]),
    ("select collect_list(n) from sale where id > 100", [([],)]),
    ("select median(n), percentile(n, 0.5), count_if(n > 4) from sale", [(5.5, 5.5, 2)]),
    ("select max_by(item, n), min_by(item, n), arg_max(n, item) from sale", [("pen", "ink", "pen")]),
    ("select stddev_samp(n) > 3.4, var_pop(n) from sale where n is not null", [(True, 9.1875)]),
    ("select wm_concat('{over}', '{order}') from values (1), (2) t(a)", [("{order}{over}{order}",)]),
    ("select sum(n) filter (where item = 'pen') from sale", [(14,)]),
    ("select case when n > 5 then 'many' else 'few' end c, count(*) from sale group by 1 order by 1",
     [("few", 3), ("many", 2)]),
    ("select * from values (1, 'a'), (2, 'b') t(x, y) order by x", [(1, "a"), (2, "b")]),
    ("select * from (select id from sale where id > 3) t order by id", [(4,), (5,)]),
    ("select `id` from `sale` where `pt` = '20240103'", [(5,)]),
    ("select ID from SALE where PT = '20240103'", [(5,)]),
    ("select s.* from item s where s.name = 'cup'", [("cup", "drink", 2.5)]),
    ("select * except(weight) from item where name = 'cup'", [("cup", "drink")]),
    ("select id, price from pens order by id", [(1, D("1.50")), (3, D("1.75"))]),
    ("select p.id, s.item from pens p join sale s on p.id = s.id where p.price > 1.6", [(3, "pen")]),
    ("select k from part where ds = max_pt('part')", [(3,)]),
    ("select k from part where ds = '2024' and hh = 2", [(2,)]),
    ("select k, ds, hh from part where hh > 1 order by k", [(2, "2024", 2), (3, "2025", 10)]),
    ("select k from part where ds = to_char(datetime '2025-06-01 00:00:00', 'yyyy')", [(3,)]),
    ("select count(*) from sale tablesample (100 percent)", [(5,)]),
    ("select id from sale where id in (select k from part) distribute by id sort by id",
     [(1,), (2,), (3,)]),
    ("@a := select id from sale where id < 3; @b := select id + 10 i from @a; select * from @b order by i",
     [(11,), (12,)]),
    ("set odps.sql.allow.fullscan=true; select count(*) from sale", [(5,)]),
    ("select id from sale where n / 2 = 5", [(1,)]),
    ("select id from sale where not (n > 3) order by id", [(2,)]),
    ("select id from sale where n > 3 is true and id < 4 order by id", [(1,), (3,)]),
    ("select grouping(item), count(*) from sale where id = 1 group by item with rollup order by 1",
     [(0, 1), (1, 1)]),
    ("select id, x.t from sale lateral view explode(tags) x as t lateral view explode(tags) y as u where t = u and id = 1 order by t",
     [(1, "a"), (1, "b")]),
    ("select sum(x) from (select cast(id as bigint) x from sale union all select 100L) t", [(115,)]),
]  # fmt: skip

REFUSED: list[tuple[str, str]] = [
    ("select nosuch(1)", "no function nosuch.*line 1, column 8"),
    ("select lenth('a')", "did you mean length"),
    ("select absent from sale", "no column absent.*line 1, column 8"),
    ("select s.absent from sale s", "no column"),
    ("select id from nowhere", "no table .*nowhere.*line 1, column 16"),
    ("select id from sale s join item i on s.id = i.absent", "no column"),
    ("select\n  id,\n  foo(id)\nfrom sale", "line 3, column 3"),
    ("selec id from sale", "cannot be parsed"),
    ("select id from sale where", "cannot be parsed"),
    ("select id from sale group by", "cannot be parsed"),
    ("select concat()", "takes at least 1"),
    ("select substr('a')", "takes 2 to 3 arguments, not 1"),
    ("select to_date('x', item) from sale", "constant"),
    ("select to_date('x', 'qqq')", "date format"),
    ("select dateadd(getdate(), 1, 'parsec')", "no unit"),
    ("select item, count(*) from sale", "neither grouped by nor"),
    ("select sum(9223372036854775807) from sale", "out of range|Overflow"),
    ("select 9223372036854775807 + 1L", "Overflow|out of range"),
    ("select cast(1 as decimal(50,2))", "38 digits"),
    ("select upper('a') over ()", "no aggregate"),
    ("select repeat('x', 2000000000)", "repeat would make a text of too many bytes"),
    ("select repeat('x', id * 1000000000) from sale", "repeat would make a text of too many bytes"),
    ("select space(9000000)", "space would make a text of too many bytes"),
    ("select rpad('a', 2000000000, 'b')", "rpad would make a text too long"),
    ("select lpad('a', 9223372036854775807)", "lpad would make a text too long"),
    ("select size(sequence(1, 1000000000))", "too many elements"),
    ("select sequence(-9223372036854775807, 9223372036854775807)", "too many elements"),
    (
        "select sequence(datetime '0001-01-01 00:00:00', datetime '9999-01-01 00:00:00', interval 1 second)",
        "too many elements",
    ),
    (
        "select array_repeat('a', 100000000)",
        "array_repeat would make an array of too many elements",
    ),
    ("select * from read_csv('/etc/passwd')", "no table"),
    ("select * from '/etc/passwd'", "cannot be parsed|no table|expected"),
    ("select read_text('/etc/passwd')", "no function"),
    ("select getenv('HOME')", "no function"),
    ("select current_setting('temp_directory')", "no function"),
    ("select * from pragma_database_list", "no table"),
    ("select * from information_schema.tables", "there is no"),
    ("attach '/tmp/x.db' as y", "not supported|cannot be parsed"),
    ("copy sale to '/tmp/x'", "not supported|cannot be parsed"),
    ("install httpfs", "not supported|cannot be parsed"),
    ("pragma database_list", "not supported|cannot be parsed"),
    ("call pragma_version()", "not supported|cannot be parsed"),
    ("create function f as 'x' using 'y.jar'", "not supported|cannot be parsed"),
    ("add jar x.jar", "not supported|cannot be parsed"),
    ("insert into sale values (1)", "columns where"),
    ("insert into item values ('x', 'y', 'z')", "convert|fit"),
    ("insert into nowhere values (1)", "no table"),
    ("insert into pens values (1, 2)", "is a view"),
    ("create table t2 (a bigint) auto partitioned by (trunc_time(b, 'day'))", "cannot be parsed"),
    (
        "create table t2 (a bigint) auto partitioned by (trunc_time(a, 'day') as p)",
        "dates or times",
    ),
    ("create table t2 (a bigint default b)", "DEFAULT is a constant"),
    ("select @x", "."),
    ("select * from @x", "no variable @x"),
    ("select id from sale tablesample", "."),
    ("explain", "needs a statement"),
]

WRONG = r"""
select 1 as
select (select 1 as)
with a (select 1) select * from a
delete sale where id = 1
select id from sale where item is nul
select id from sale where item is not nul
insert into sale (idd) values (1)
selec 1
select
select 1 from
select * from sale where
select * form sale
select id,, item from sale
select (id from sale
select id) from sale
select id from sale where id =
select id from sale where id = = 1
select id from sale where id in ()
select id from sale where id in (1,)
select id from sale where between 1 and 2
select id from sale where id between 1
select id from sale group item
select id from sale order id
select id from sale limit
select id from sale limit x
select id from sale limit -1
select id from sale limit 'a'
select count(* from sale
select sum() from sale
select sum(id, n) from sale
select sum(item) from sale group by
select sum(sum(n)) from sale
select id, count(*) from sale
select id from sale having id > 1
select * from sale join item on
select * from sale left item on 1=1
select * from sale s join item i on s.x = i.name
select item from sale a join sale b on a.id = b.id
select a.b.c.d.e from sale
select sale.nothing from sale
select x.id from sale
select 1 union
select 1 union select 1, 2
select 1 union all select 'a' from nowhere
select case when 1 then end
select case id when 1 then 2
select cast(1 as)
select cast(1 as nothing)
select cast('a' as decimal(40,2))
select 'abc
select "abc
select `abc from sale
select 1 /* open
select id from sale where item = 'a' and
select id from sale where not
select row_number() from sale
select row_number() over (partition) from sale
select rank() over (order by) from sale
select id from sale where row_number() over () = 1
select sum(n) over (rows 1) from sale
select lag() over () from sale
select upper(1, 2)
select substr()
select nosuch(1)
select to_char(getdate(), 'qq')
select dateadd('x', 1, 'dd') + 1
select interval 1 foo
select array(1)[
select array(1, 'a', array(2))
select map(1)
select named_struct('a')
select struct(1).x
select transform(array(1), x)
select transform(array(1), (x, y, z) -> x)
select filter(1, x -> x)
select explode(1)
select id from sale lateral view explode(item) t as x
select id from sale lateral view explode(tags) t as x, y
select id from sale lateral view nosuch(tags) t as x
select id from sale lateral view
select * from values
select * from values (1, 2), (3)
insert into
insert into sale
insert into sale values
insert into nothing values (1)
insert into item (nope) values (1)
insert into item (name, name) values ('a', 'b')
insert into item values (1, 2)
insert into item select 1
insert into sale partition (nope='1') select 1
insert into sale partition (pt=) select 1
insert overwrite sale select 1
update
update sale
update sale set
update sale set id
update sale set nope = 1
update sale set id = 'x' where id = 1
update nothing set a = 1
delete sale
delete from nothing
delete from sale where nope = 1
merge into sale using item on
merge into sale using item when matched then delete
create table
create table x
create table x ()
create table x (a)
create table x (a nothing)
create table x (a bigint, a string)
create table x (a bigint) partitioned by (a string)
create table x (a bigint) lifecycle x
create table x as
create table sale (a bigint)
create view
create view v
create view v as select nope from sale
create view sale as select 1
drop
drop table
drop table nothing
drop view nothing
drop view sale
alter
alter table
alter table sale
alter table nothing add columns (a int)
alter table sale add columns (id bigint)
alter table sale drop columns nope
alter table sale change column nope x bigint
alter table sale add partition (pt)
alter table sale add partition (nope='1')
alter table sale drop partition (pt='nope')
show
show nothing
desc
desc nothing
explain
explain drop table sale
set
@x :=
@x := insert into item select 1
select * from @x
select 1 2
select 1;; select
with a as (select 1)
with a as select 1 select * from a
with a as (select * from a) select * from a
select id from sale where id = (select id, n from sale)
select id from sale where id = (select id from sale)
select id from sale where exists
select id from sale tablesample (x percent)
select distinct on (id) id from sale
select id from sale qualify
select * except (nope) from sale
select t.* from sale
select id as from sale
select max_pt('nothing')
select max_pt(1)
select get_json_object('{}')
select get_json_object('{}', 'a[')
select regexp_replace('a', '(', 'b')
select regexp_extract('a', '[', 1)
select 'a' rlike '('
select split('a', '(')
select 1 + array(1)
select true + 1
select 'a' + date '2024-01-01'
select 99999999999999999999
select 9223372036854775807 + 1
select cast('9' as tinyint) * cast(100 as tinyint)
select percentile(n, 2) from sale
select ntile(0) over (order by id) from sale
select repeat('a', 100000000000)
select chr(99999999)
select unhex('zz')
select unbase64('!!')
select from_utc_timestamp('2024-01-01', 'Nowhere/City')
select decode(1)
grant select on sale to user x
select * from sale@x
select ? from sale
select :x
select id from sale where item like 5 escape 'ab'
truncate table nothing
truncate table sale partition (nope='1')
use
call x()
select * from range(10)
select * from sale pivot (sum(n) for item in ('pen'))
select #1 from sale
select $1
select id from sale limit 1 offset
SELEC 1 FROM sale
sel ect 1
selectt 1
slect id from sale
inser into item values ('a','b',1.0D)
insertt into item values ('a')
updte sale set n=1
delet from sale
creat table x (a int)
create tabel x (a int)
create table x a int
create table `x y` (a bigint)
create external table x (a bigint) location 'oss://b/c'
create temporary table x (a bigint)
create index i on sale (id)
create database d
create function f as 'a.B' using 'x.jar'
create materialized view mv enable rewrite as select 1
drop tabel sale
drop index i
alter tabel sale rename to x
alter table sale rename
alter table sale rename to
alter table sale add column
alter table sale add columns ()
alter table sale add columns (x nosuch)
alter table sale change column id id string
alter table sale change column nope nope bigint
alter table sale change column id item bigint
alter table sale drop column pt
alter table sale drop column id, item, price, n, at, tags, attrs, place
alter table sale set lifecycle
alter table sale set lifecycle abc
alter table sale set nothing
alter table sale add partition (pt='1', pt='2')
alter table sale add partition (zz='1')
alter table sale add partition (pt='20240101')
alter table item add partition (pt='1')
alter table sale drop partition (nope = 1)
alter table sale partition (pt='20240101') rename to partition (pt='20240102')
truncate table
truncate sale nope
truncate table pens
show tabels
show partitions
show partitions item
show partitions nothing
show create table nothing
show create
desc sale extra words
desc sale partition (pt='none')
desc sale partition (nope='none')
set a
set =
explain select
explain explain select 1
select id frm sale
select id form sale where id = 1
select id from sale were id = 1
select id from sale where id ==
select id from sale s where t.id = 1
select id from sale, item where name =
select id from sale grop by id
select item from sale group by nope
select item from sale group by 5
select id from sale order by nope
select id from sale order by 9
select id from sale having
select id from sale limit 1.5
select id from sale limit 1 offset -1
select id from sale limit 99999999999999999999
select top 5 id from sale
select id id2 id3 from sale
select id as 1 from sale
select sale.id.x from sale
select id[0] from sale
select tags.x from sale
select tags['a'] from sale
select place.nope from sale
select idd from sale
select Item_ from sale
select itm, prise from sale
select salee.id from sale
select id from sales
select id from demo.sales
select id from nowhere.sale
select id from demo.nope.sale
select id from a.b.c.d
select count(id, from sale
select count(*) cnt, from sale
select sum(*) from sale
select count() from sale
select max() from sale
select sum(item, id) from sale
select sum(tags) from sale
select sum(distinct) from sale
select coutn(*) from sale
select su(n) from sale
select to_chr(at, 'yyyy') from sale
select dateadd(at) from sale
select dateadd(at, 1, dd) from sale
select dateadd(at, 'x', 'dd') from sale
select dateadd(at, 1, 'foo') from sale
select datediff(at) from sale
select to_date('2024-01-01', 'yyyy-mm-dd', 'x')
select to_date(5, 5)
select date 'nonsense'
select date '2024-02-30'
select datetime '2024-13-01 00:00:00'
select timestamp 'x'
select timestamp '9999-01-01 00:00:00'
select date 5
select interval 'x' day
select interval 1
select cast(1 to string)
select cast(1, string)
select cast(1 as string
select cast(1 as strin)
select cast(array(1) as bigint)
select cast(1 as array<int>)
select cast(map('a',1) as struct<a:int>)
select case when 1=1 then 1 else
select case end
select case 1 when 2 end
select if(1)
select if(1,2,3,4)
select if('a', 1, 2)
select nvl(1)
select coalesce()
select coalesce(1, array(1))
select decode(1, 2)
select greatest()
select greatest(1, array(1))
select concat_ws(',')
select split('a')
select regexp_extract('a')
select regexp_extract('a', 'b', 'c')
select regexp_replace('a', 'b')
select 'a' rlike '*'
select 'a' like
select not
select 1 +
select + from sale
select * from
select * , from sale
select *, * from
select 1 in 1
select 1 in (select 1, 2)
select 1 between 2
select 1 is 2
select 1 is not
select exists (1)
select (select 1, 2)
select (select id from sale)
select row_number() over from sale
select row_number() over ( from sale
select row_number(1) over (order by id) from sale
select sum(n) over (order by id rows between current row) from sale
select sum(n) over (order by id rows between 1 following and 1 preceding) from sale
select sum(n) over (order by id rows between x preceding and current row) from sale
select sum(n) over (order by item range between 1 preceding and current row) from sale
select sum(n) over nope from sale
select lag(id, 'x') over (order by id) from sale
select ntile('a') over (order by id) from sale
select id from sale where sum(n) > 1
select id from sale group by id having rank() over (order by id) = 1
select id from sale qualify id > 1
select sum(row_number() over ()) from sale
select max(sum(n)) from sale group by id
select id from sale join on id = id
select * from sale full join
select * from sale left semi join item
select * from sale s left semi join item i on s.item = i.name where i.kind = 'x'
select * from sale natural join nothing
select * from sale a join sale a on a.id = a.id
select id from (select id from sale
select id from (select nope from sale) t
select id from (select 1) t
select t.x from (select 1 as y) t
with t as select 1
with t (a, b) as (select 1) select * from t
with t as (select 1), t as (select 2) select * from t
with t as (select 1)
select 1 union select
select 1, 2 union all select 1
select 1 intersect
union select 1
select 1 union all (select 2
select 'a' union all select array(1)
select id from sale lateral view explode tags t as x
select id from sale lateral view explode(tags) t x
select id from sale lateral view explode(nope) t as x
select upper(explode(tags)) from sale
select id from sale where explode(tags) = 'a'
select posexplode(1)
select stack('a', 1)
select json_tuple('{}')
insert into item select
insert into item values ('a', 'b')
insert into item values ('a', 'b', 1.0D, 2)
insert into item (name) values ('a', 'b')
insert into item (name, nope) values ('a', 'b')
insert into item values ('a', 'b', array(1))
insert into item values ('a', 'b', 1.0D),
insert into sale partition (pt) values (1)
insert into sale partition (pt='1') select 1
insert into sale partition (pt='1', qq='2') select 1
insert into sale partition (item='1') select 1
insert overwrite item
insert overwrite table item partition (pt='1') select 1
insert into table select 1
insert into item select name, kind from item
insert into item partition (x) select 1
from item insert into nothing select name
from nothing insert into item select *
from item insert into item
update sale set id = where id = 1
update sale set id = 1, id = 2
update sale set pt.x = 1
update sale set id = 'abc'
update sale set id = (select id from sale)
update sale id = 1
update item set name = 1 where
delete from sale where
delete from sale whre id = 1
delete from sale id = 1
delete * from sale
merge into sale
merge into sale using
merge into sale using item
merge into sale using item on 1=1
merge into sale s using item i on s.item = i.name when matched
merge into sale s using item i on s.item = i.name when matched then
merge into sale s using item i on s.item = i.name when matched then update
merge into sale s using item i on s.item = i.name when matched then update set nope = 1
merge into sale s using item i on s.item = i.name when not matched then update set n = 1
merge into sale s using item i on s.item = i.name when matched then insert values (1)
merge into sale s using item i on s.item = i.name when not matched then insert values (1)
merge into sale s using nothing i on s.item = i.name when matched then delete
@a
@a =
@a :=
@a := select * from nothing; select * from @a
select * from @b
select @b
@a := drop table sale
select 'it's'
select "a'
select `a
select /* */
select ;
;
;;;
( select 1
select 1 )
select a{b}
select id from sale where item = "pen
select 1 from sale; selec 2
select nope
select \
select ￥
show tables like
show tables like x
grant select on table sale to user bob
revoke select on sale from bob
begin; select 1
commit
start transaction
kill 123
list tables
add file x
load data inpath 'x' into table sale
export table sale to 'x'
import table x from 'y'
purge table sale
restore table sale
get_json_object('a', 'b')
id from sale
1
'abc'
null
select null from null
select max_pt()
select max_pt('item')
select max_pt(sale)
select map_from_entries(1)
select array_contains(1, 2)
select size(1)
select size('abc')
select element_at(array(1), 'x')
select sort_array(1)
select filter(array(1), (x) - > x)
select from_json('{}', 'nosuch')
select parse_url('x', 'NOPE')
select conv('a', 99, 1)
select unix_timestamp('a', 'qq')
select lpad('a', 999999999999, 'b')
select format_number(1, 99)
select next_day('2024-01-01', 'xx')
select trunc('2024-01-01', 'zz')
select 1/0 from nothing
select 128Y
select 99999S
select 9999999999999999999L
select 1.5L
select 1e999
select 1__2
select count(distinct *) from sale
select all from sale
select id from sale tablesample(200 percent)
select id from sale tablesample(-1 rows)
select * from values (1), (1, 2) t(a)
select * from values (1) t(a, b)
select * from values () t(a)
""".strip().split("\n")
"""Statements with a mistake: each is refused with its place, and in words that name no library."""

WAYS_OUT = r"""
select * from read_csv('/etc/passwd')
select * from read_csv_auto('/etc/passwd')
select * from read_parquet('/etc/passwd')
select * from read_json('/etc/passwd')
select * from read_text('/etc/passwd')
select * from read_blob('/etc/passwd')
select * from parquet_scan('/etc/passwd')
select * from parquet_metadata('x')
select * from glob('/*')
select * from sniff_csv('/etc/passwd')
select * from arrow_scan(1,2,3)
select * from python_map_function(1)
select * from pandas_scan(1)
select * from query('select 1')
select * from query_table('sale')
select * from duckdb_settings()
select * from duckdb_secrets()
select * from duckdb_tables()
select * from duckdb_extensions()
select * from which_secret('a','b')
select * from pragma_version()
select * from pragma_table_info('sale')
select * from show_databases()
select * from json_execute_serialized_sql('x')
select * from generate_series(1, 10)
select * from repeat_row(1, num_rows=1000000000)
select * from test_all_types()
select * from checkpoint()
select * from force_checkpoint()
select * from import_database('/tmp/x')
select * from enable_logging()
select * from seq_scan('x')
select * from '/etc/passwd'
select * from "/etc/passwd"
select * from `/etc/passwd`
select * from `/tmp/x.parquet`
select * from `x.csv`
select * from `http://127.0.0.1/x.csv`
select * from `s3://b/k.parquet`
select * from sys.tables
select * from main.sale
select * from temp.sale
select * from memory.main.sale
select * from system.information_schema.tables
select * from information_schema.columns
select * from pg_catalog.pg_tables
select * from pg_tables
select * from duckdb_tables
select * from sqlite_master
select * from _scan0
select * from `_scan0`
select _scan0 from sale
select read_text('/etc/passwd')
select getenv('HOME')
select getvariable('x')
select current_setting('temp_directory')
select current_database()
select current_user()
select version()
select nextval('x')
select currval('x')
select write_log('x')
select pg_sleep(10)
select sleep_ms(10000)
select add_parquet_key('a','b')
select json_serialize_sql('select 1')
select json_deserialize_sql('{}')
select `read_text`('/etc/passwd')
select "read_text"('/etc/passwd')
select main.read_text('/etc/passwd')
select system.main.getenv('HOME')
select error('x')
select `columns`('.*') from sale
select id from sale where id = getenv('X')
select id from sale order by getenv('X')
select id from sale lateral view read_csv('/etc/passwd') t as x
select id from sale lateral view explode(getenv('X')) t as x
select sum(id) over (order by getenv('x')) from sale
select transform(array(1), x -> getenv('HOME'))
select case when true then getenv('HOME') end
attach '/tmp/x.db'
attach database 'x' as y
detach x
copy sale to '/tmp/x.csv'
copy sale from '/etc/passwd'
export database '/tmp/x'
import database '/tmp/x'
install httpfs
load httpfs
load '/tmp/x.so'
pragma database_list
pragma threads=100
set enable_external_access=true; select * from read_csv('/etc/passwd')
reset memory_limit
checkpoint
vacuum
prepare p as select 1
execute p
create macro f(x) as x
create temp table x as select 1
create secret s (type s3)
create type t as enum ('a')
create sequence s
create function f(x) as x
call pragma_version()
from read_csv('/etc/passwd')
from '/etc/passwd' select 1
insert into item select * from read_csv('/etc/passwd')
create table zz as select * from read_text('/etc/passwd')
create view zv as select * from read_text('/etc/passwd')
@a := select * from read_csv('/etc/passwd'); select * from @a
update item set name = getenv('HOME')
delete from item where name = getenv('HOME')
merge into item using read_csv('/etc/passwd') s on true when matched then delete
with x as (select * from read_csv('/etc/passwd')) select * from x
select * from sale a join read_csv('/etc/passwd') b on true
select (select * from read_text('/etc/passwd'))
select exists (select * from read_text('/etc/passwd'))
select id from sale where id in (select * from read_text('/etc/passwd'))
select * from (select * from read_text('/etc/passwd')) t
select 1 union all select * from read_text('/etc/passwd')
explain select * from read_csv('/etc/passwd')
select `x"; attach '/tmp/y.db'; --` from sale
select from_utc_timestamp(getdate(), 'UTC\'; select 1; --')
select `(x')|(y).*` from sale
select cast('x' as struct<`a"b`:int>)
select from_json('{}', '`a"; drop`: int')
""".strip().split("\n")
"""Statements that would reach files, the network, the process or the engine behind: each is refused."""
