"""Statements in order, with a time zone of their own: what is stored are moments, what is read are clocks."""

from __future__ import annotations

import datetime as dt
from typing import Any

from tests.client.sql_everyday_cases import Refused

AT = dt.datetime.fromisoformat
EVENING = AT("2024-01-01 20:00:00")
"""In UTC: four in the morning of the next day in Shanghai."""

ZONE = "set odps.sql.timezone=Asia/Shanghai; "

# fmt: off
ZONED_SCRIPT: list[tuple[str, Any]] = [
    ("create table zoned (id bigint, at datetime, ts timestamp, n timestamp_ntz, a array<datetime>, m map<string,datetime>, s struct<x:datetime,y:bigint>)", None),
    ("insert into zoned select 1, at, timestamp '2024-01-01 20:00:00.5', cast('2024-01-01 20:00:00' as timestamp_ntz), array(at, null), map('k', at), named_struct('x', at, 'y', 1L) from values (datetime '2024-01-01 20:00:00') t(at)", 1),
    (ZONE + "select cast(from_unixtime(0) as string), from_unixtime(0, 'yyyy-MM-dd HH:mm:ss'), from_unixtime(0), unix_timestamp(datetime '1970-01-01 08:00:00'), unix_timestamp('1970-01-01 08:00:00'), unix_timestamp('19700101', 'yyyyMMdd')",
     [("1970-01-01 08:00:00", "1970-01-01 08:00:00", AT("1970-01-01"), 0, 0, -28800)]),
    (ZONE + "select cast(datetime '1970-01-01 08:00:01' as bigint), cast(datetime '1970-01-01 08:00:01' as double), cast(cast(28800 as datetime) as string), to_millis(datetime '1970-01-01 08:00:01'), cast(0 as timestamp) = timestamp '1970-01-01 08:00:00'",
     [(1, 1.0, "1970-01-01 16:00:00", 1000, True)]),
    (ZONE + "select to_date('20240101','yyyymmdd'), to_char(to_date('20240101','yyyymmdd'),'yyyymmdd hhmiss'), current_timezone(), abs(unix_timestamp(getdate()) - unix_timestamp()) < 2, datediff(getdate(), from_unixtime(unix_timestamp()), 'hh')",
     [(AT("2023-12-31 16:00:00"), "20240101 000000", "Asia/Shanghai", True, 0)]),
    ("select current_timezone(), to_char(at,'yyyymmddhh'), at from zoned", [("UTC", "2024010120", EVENING)]),
    (ZONE + "select to_char(at,'yyyymmddhh'), cast(at as string), to_char(ts,'yyyymmddhh'), cast(n as string), at, hour(at), cast(at as date), datetrunc(at,'dd'), lastday(at) from zoned",
     [("2024010204", "2024-01-02 04:00:00", "2024010204", "2024-01-01 20:00:00", EVENING, 4, dt.date.fromisoformat("2024-01-02"), AT("2024-01-01 16:00:00"), AT("2024-01-30 16:00:00"))]),
    (ZONE + "select at, a, m, s, cast(a[0] as string), cast(m['k'] as string), cast(s.x as string) from (select * from zoned) t",
     [(EVENING, [EVENING, None], [("k", EVENING)], {"x": EVENING, "y": 1}, *("2024-01-02 04:00:00",) * 3)]),
    # Conditions that a scan could choose by are in the same clocks.
    (ZONE + "select id from zoned where at >= datetime '2024-01-02 04:00:00' and at < '2024-01-02 04:00:01' and n = cast('2024-01-01 20:00:00' as timestamp_ntz)", [(1,)]),
    (ZONE + "select id from zoned where at = '2024-01-01 20:00:00'", []),
    (ZONE + "insert into zoned (id, at, ts, n, a) select 3, at, ts, n, a from zoned", 1),
    ("select count(*), count(distinct at), count(distinct ts), count(distinct n), max(at) from zoned", [(2, 1, 1, 1, EVENING)]),
    (ZONE + "insert into zoned (id, at, n, ts) values (4, '2024-01-02 04:00:00', '2024-01-02 04:00:00', '2024-01-02 04:00:00')", 1),
    ("select at, cast(n as string), cast(ts as string) from zoned where id = 4", [(EVENING, "2024-01-02 04:00:00", "2024-01-01 20:00:00")]),
    (ZONE + "update zoned set at = dateadd(at, 1, 'dd'), n = at where id = 4", 1),
    ("select at, cast(n as string) from zoned where id = 4", [(AT("2024-01-02 20:00:00"), "2024-01-02 04:00:00")]),
    (ZONE + "delete from zoned where at = '2024-01-03 04:00:00'", 1),
    (ZONE + "merge into zoned using (select 3 id, datetime '2024-06-01 00:00:00' at) u on zoned.id = u.id when matched then update set at = u.at", 1),
    (ZONE + "create table zoned2 as select id, at, n, to_char(at, 'hh') h from zoned; clone table zoned2 to zoned3; create view zoned4 as select to_char(at, 'hh') h from zoned3 where id = 1", None),
    ("select id, at, cast(n as string), h from zoned3 order by id", [(1, EVENING, "2024-01-01 20:00:00", "04"), (3, AT("2024-05-31 16:00:00"), "2024-01-01 20:00:00", "00")]),
    (ZONE + "select h from zoned4", [("04",)]),
    ("set odps.sql.timezone=America/New_York; select cast(from_unixtime(1720000000) as string), cast(from_unixtime(1700000000) as string)", [("2024-07-03 05:46:40", "2023-11-14 17:13:20")]),
    # What functions and tables make of a moment is the same, in an hour that comes twice and in late summers, too.
    ("create table zoned5 as select from_unixtime(u) at, u from values (1352007187L), (3714663815L), (218919529204L) t(u)", None),
    ("set odps.sql.timezone=America/New_York; select count_if(u = unix_timestamp(at)), count_if(at = from_unixtime(u)), count_if(u = unix_timestamp(cast(at as string))), max(hour(at)) from zoned5", [(3, 3, 3, 16)]),
    ("set odps.sql.timezone=America/New_York; select from_unixtime(3714663815) = (select max(at) from zoned5 where u = 3714663815), from_unixtime(3714663815)", [(True, AT("2087-09-17 19:03:35"))]),
    (ZONE + "select datetime '0001-01-01 07:00:00', datetime '0001-01-01 09:00:00', array(datetime '0001-01-01 00:00:00'), unix_timestamp(datetime '0001-01-01 00:00:00')", [(None, AT("0001-01-01 00:54:17"), [None], -62135625943)]),
    ("set odps.sql.timezone=America/New_York; select datetime '9999-12-31 23:00:00', datetime '9999-12-31 18:00:00'", [(None, AT("9999-12-31 23:00:00"))]),
    (ZONE + "select map(datetime '0001-01-01 00:00:00', 1)", Refused("outside of the years from 1 to 9999")),
    ("set ODPS.SQL.timezone = 'GMT+8'; select hour(from_unixtime(0))", [(8,)]),
    (ZONE + "set odps.sql.timezone=UTC; select cast(from_unixtime(0) as string)", [("1970-01-01 00:00:00",)]),
    # As MaxCompute's documentation shows it: a number is a moment, read by the clocks of the statement.
    (ZONE + "select cast(from_utc_timestamp(0, 'Asia/Shanghai') as string), cast(from_utc_timestamp(1230000, 'Etc/GMT') as string), cast(from_utc_timestamp(-1230000, 'Etc/GMT') as string), cast(from_utc_timestamp(1501557840000, 'PST') as string)",
     [("1970-01-01 16:00:00", "1970-01-01 08:20:30", "1970-01-01 07:39:30", "2017-08-01 04:24:00")]),
    ("set odps.sql.timezone=+05:30; select cast(from_unixtime(0) as string), unix_timestamp('1970-01-01 05:30:00'), from_unixtime(4102444800), cast(from_unixtime(4102444800) as string)",
     [("1970-01-01 05:30:00", 0, AT("2100-01-01"), "2100-01-01 05:30:00")]),
    # Hours from UTC that a text says itself are those of its moment.
    (ZONE + "select at = '2024-01-02 05:00:00+09:00', at = '2024-01-01 20:00:00Z', datetime '2024-01-01 15:00:00-05:00', hour('2024-01-01 21:30 +0130'), cast('2024-01-01T20:00:00.123456789 UTC' as string), cast(timestamp '2024-01-01 20:00:00.123456789+00' as string), extract(hour from '2024-01-01 20:00:00Z') from zoned where id = 1",
     [(True, True, EVENING, 4, "2024-01-01T20:00:00.123456789 UTC", "2024-01-02 04:00:00.123456789", 4)]),
    ("select cast(concat('2024-01-01 20:00:00', z) as datetime), cast(concat('2024-01-01 20:00:00', z) as date) from values ('+09:00'), ('-0900'), ('Z'), (' GMT'), ('+19:99'), (' Asia/Shanghai'), ('x') t(z)",
     [(AT("2024-01-01 11:00:00"), AT("2024-01-01").date()), (AT("2024-01-02 05:00:00"), AT("2024-01-02").date()), *((EVENING, EVENING.date()),) * 2, *((None, None),) * 3]),
    ("select id from zoned where at in ('2024-01-02 04:00:00+08:00') or at > '9999-12-31 23:00:00-09:00'", [(1,)]),
    (ZONE + "insert into zoned (id, at, ts, a) values (9, '2024-01-01 20:00:00Z', '2024-01-02 05:00:00+09:00', array('2024-01-01 20:00:00 UTC', '2024-01-02 04:00:00'))", 1),
    ("select at, cast(ts as datetime), a from zoned where id = 9", [(EVENING, EVENING, [EVENING, EVENING])]),
    ("update zoned set at = '2024-01-01 15:00:00-05:00' where id = 9", 1),
    ("delete from zoned where id = 9 and at = '2024-01-01 20:00:00'", 1),
    ("insert into zoned (id, ts) values (9, '2024-01-01 20:00:00 Asia/Shanghai')", Refused("2024-01-01 20:00:00 Asia/Shanghai")),
    ("set odps.sql.timezone=GMT-0330; select cast(from_unixtime(0) as string)", [("1969-12-31 20:30:00",)]),
    ("set odps.sql.timezone=+25:00; select 1", Refused("there is no time zone '+25:00'")),
    ("set odps.sql.timezone=Asia/Shanghigh; select 1", Refused("there is no time zone 'Asia/Shanghigh'")),
    (ZONE + "select * from (select id, n from zoned) a join (select id, at from zoned) b using (id)", Refused("name the columns in place of *")),
]
# fmt: on
