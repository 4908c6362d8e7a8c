"""Which partitions are over, without those that stay."""

from __future__ import annotations

from typing import Any

from fletching.catalog.table_rows import get_table
from fletching.engine.tables.partition_calls import expired_partitions
from fletching.sql.statements.statement_kinds import Namespace
from fletching.types import TableName


def test_those_that_stay_take_no_room_from_the_others(house: Any) -> None:
    house.engine.ensure_project("demo")
    row = house.engine.instances.run(
        "create table t (n bigint) partitioned by (pt string);"
        " insert into t values (1, '1'), (2, '2'), (3, '3');"
        " alter table t partition (pt='1') disable lifecycle",
        Namespace("demo", "default"),
    )
    assert row.succeeded, row.result
    before = house.clock() + 10
    with house.engine.context.database.read() as connection:
        table = get_table(connection, TableName("demo", "t"))
        expired = [
            expired_partitions(connection, table, before=before, limit=limit) for limit in (1, 9)
        ]
        assert expired_partitions(connection, table, before=before - 20, limit=9) == []
    assert [["1" in each for each in partitions] for partitions in expired] == [
        [False],
        [False, False],
    ]
