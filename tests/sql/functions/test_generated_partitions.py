"""AUTO PARTITIONED BY: kept as it was declared, computed by INSERT, told to clients, and hard to lose."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

import fletching
from fletching.errors import FletchingError, InvalidArgumentError
from fletching.sql.functions.generated_partitions import (
    GENERATED,
    TRUNCATED_FORMATS,
    GeneratedPartition,
    generated_partition,
)

MADE = GeneratedPartition("pt", "at", "day")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with fletching.connect(tmp_path_factory.mktemp("tables"), create=True) as made:
        yield made


@pytest.fixture
def client(shared: Any) -> Any:
    yield shared
    for name in shared.sql("show tables").text.split():
        shared.sql(f"drop table {name.rpartition(':')[2]}")


def partitions(client: Any, name: str = "t") -> list[tuple[str, int]]:
    result = client.sql(f"select pt, count(*) n from {name} group by pt order by pt").to_pylist()
    return [(row["pt"], row["n"]) for row in result]


@pytest.mark.parametrize(
    ("kind", "unit", "value"),
    [
        ("datetime", "year", "2025"),
        ("timestamp", "month", "2025-02"),
        ("timestamp_ntz", "DAY", "2025-02-21"),
        ("datetime", "hour", "2025-02-21 11:00:00"),
    ],
)
def test_inserts_compute_it(client: Any, kind: str, unit: str, value: str) -> None:
    client.sql(
        f"create table t (`a t` {kind}, n int) auto partitioned by (trunc_time(`A T`, '{unit}') as pt)"
    )
    client.sql("insert into t values (timestamp '2025-02-21 11:23:41', 1)")
    assert partitions(client) == [(value, 1)]
    client.sql("insert into t (n, `a t`) select 2, cast('2025-02-21 11:00:00' as datetime)")
    assert partitions(client) == [(value, 2)]
    client.sql("insert overwrite table t values (timestamp '2025-02-21 11:59:59', 3)")
    assert client.sql("select n from t").to_pylist() == [{"n": 3}]


def test_a_value_that_is_given_is_taken(client: Any) -> None:
    client.sql("create table t (at datetime) auto partitioned by (trunc_time(at, 'day') pt)")
    moment = "timestamp '2025-02-21 11:23:41'"
    client.sql(f"insert into t partition (pt='x') values ({moment})")
    client.sql(f"insert into t partition (pt) select {moment}, 'y'")
    client.sql(f"insert into t (pt, at) values ('z', {moment})")
    assert partitions(client) == [("x", 1), ("y", 1), ("z", 1)]


def test_the_moment_that_rows_come(client: Any) -> None:
    client.sql(
        "create table t (_partitiontime timestamp, n int)"
        " auto partitioned by (trunc_time(_partitiontime, 'year') as pt)"
        " tblproperties ('ingestion_time_partition'='true')"
    )
    client.sql("insert into t (n) values (1), (2)")
    rows = client.sql("select pt, n, _partitiontime at from t order by n").to_pylist()
    assert [(row["pt"], row["n"]) for row in rows] == [
        (f"{row['at']:%Y}", n + 1) for n, row in enumerate(rows)
    ]
    assert abs(rows[0]["at"].timestamp() - time.time()) < 86400


def test_what_is_told_makes_the_same_table(client: Any) -> None:
    text = "AUTO PARTITIONED BY (trunc_time(`at`, 'day') AS `pt` COMMENT 'it''s')"
    client.sql(
        "create table t (at timestamp) auto partitioned by (trunc_time(at, 'day') as pt comment 'it\\'s')"
    )
    shown = client.sql("show create table t").text
    assert text.partition(" COMMENT")[0] in shown
    client.sql("drop table t")
    client.sql(shown)
    client.sql("create table u like t")
    for name in ("t", "u"):
        assert (
            client.sql(f"show create table {name}").text.partition("(")[2]
            == shown.partition("(")[2]
        )
        client.sql(f"insert into {name} values (timestamp '2025-02-21 11:23:41')")
        assert partitions(client, name) == [("2025-02-21", 1)]


def test_clients_are_told_operands_before_their_function() -> None:
    report = json.loads(MADE.client_text("datetime"))
    assert [next(iter(part)) for part in report] == ["leafExprDesc", "leafExprDesc", "functionCall"]
    assert report[0]["leafExprDesc"]["reference"] == {"name": "at"}
    assert report[1]["leafExprDesc"]["constant"] == "day"


@pytest.mark.parametrize(
    ("columns", "clause", "complaint"),
    [
        ("at datetime", "trunc_time(b, 'day') as pt", "no such column"),
        ("at string", "trunc_time(at, 'day') as pt", "dates or times"),
        ("at datetime", "trunc_time(at, 'week') as pt", "year, month, day, hour"),
        ("at datetime", "trunc_time(at) as pt", "takes trunc_time"),
        ("at datetime", "trunc_time('at', 'day') as pt", "takes trunc_time"),
        ("at datetime", "trunc_time(at, at) as pt", "takes trunc_time"),
        ("at datetime", "to_char(at, 'yyyy') as pt", "takes trunc_time"),
        ("at datetime", "trunc_time(at, 'day')", "cannot be parsed"),
        ("at datetime", "at as pt", "cannot be parsed"),
        (
            "at datetime",
            "trunc_time(at, 'day') as pt, trunc_time(at, 'year') as y",
            "needs names and types",
        ),
        ("at datetime", "trunc_time(at, 'day') as at", "at"),
    ],
)
def test_what_makes_no_partition(client: Any, columns: str, clause: str, complaint: str) -> None:
    with pytest.raises(FletchingError, match=complaint):
        client.sql(f"create table t ({columns}) auto partitioned by ({clause})")
    assert client.sql("show tables").text == ""


def test_the_column_stays(client: Any) -> None:
    client.sql(
        "create table t (at datetime, n int) auto partitioned by (trunc_time(at, 'day') as pt)"
    )
    for change in ("drop column at", "change column at moment datetime", "rename column at to b"):
        with pytest.raises(InvalidArgumentError, match="pt is made of it"):
            client.sql(f"alter table t {change}")
    client.sql("alter table t rename column n to m")
    client.sql("alter table t drop column m")
    with pytest.raises(InvalidArgumentError, match="lack at"):
        client.sql("alter table t add columns (k int); insert into t (k) values (1)")


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "null",
        "[]",
        "{",
        "[" * 100_000,
        '{"name": "pt"}',
        json.dumps({"name": "pt", "column": "at", "unit": "'; drop"}),
        json.dumps({"name": "pt", "column": "gone", "unit": "day"}),
        json.dumps({"name": "other", "column": "at", "unit": "day"}),
    ],
)
def test_a_property_that_somebody_wrote_says_nothing(text: str | None) -> None:
    assert generated_partition(text, ["at"], ["pt"]) is None


def test_a_property_is_read_as_it_was_written() -> None:
    for unit in TRUNCATED_FORMATS:
        made = GeneratedPartition("PT", "At", unit)
        assert generated_partition(made.property_text(), ["b", "AT"], ["pt"]) == made
    assert generated_partition(MADE.property_text(), ["at"], ["pt", "q"]) is None
    assert GENERATED.startswith("fletching.")
