"""What queries read: columns and conditions pushed down, one moment for all tables, permissions."""

from __future__ import annotations

import threading
import time
from typing import Any

import pyarrow as pa
import pytest

from fletching.engine.query.instances import Instances
from fletching.errors import NoPermissionError
from fletching.protocol.messages.admin import DescribeTable
from fletching.protocol.messages.requests import CreateReadSession, Request
from fletching.sql.statements.statement_kinds import Namespace

HERE = Namespace("demo", "default")
SCHEMA = pa.schema(
    [
        ("n", pa.int64()),
        ("x", pa.float64()),
        ("s", pa.string()),
        ("st", pa.struct([("a", pa.int64())])),
    ]
)


@pytest.fixture
def instances(house: Any) -> Instances:
    house.engine.ensure_project("demo")
    result: Instances = house.engine.instances
    return result


def fill(house: Any, partitions: int = 0) -> None:
    house.create(SCHEMA, ["pt"] if partitions else [])
    for number in range(5):
        ns = range(number * 10, number * 10 + 10)
        batch = pa.record_batch(
            [
                pa.array(ns),
                pa.array([float("nan") if n == 7 else n / 2 for n in ns]),
                pa.array([f"t{n}" for n in ns]),
                pa.array([{"a": n} for n in ns], SCHEMA.field("st").type),
            ],
            SCHEMA,
        )
        if partitions:
            house.append(batch, f"pt={number}")
        else:
            house.append(batch)


def opened(house: Any, instances: Instances, text: str) -> tuple[str, int]:
    """What a query prints, and how many segments it opened."""
    keys: list[str] = []
    store = house.engine.context.store
    original = type(store).open

    def counting(self: Any, key: str, **options: Any) -> Any:
        if self is store:  # others of this process are nobody's business here
            keys.append(key)
        return original(self, key, **options)

    type(store).open = counting
    try:
        row = instances.run(text, HERE)
        assert row.succeeded, row.result
        return instances.result(row), len(set(keys))
    finally:
        type(store).open = original


@pytest.mark.parametrize(
    ("where", "count", "segments"),
    [
        ("n = 25", 1, 1),
        ("n in (1, 41)", 2, 2),
        ("t.n between 38 and 41", 4, 2),
        ("n > 1000", 0, 0),
        ("n = 5 + 20", 1, 1),
        ("st.a = 25", 1, 1),
        ("n < 10 or n > 44", 15, 2),
        ("n < 10 and length(s) = 2", 10, 1),
        ("x > 20", 10, 2),  # NaN is above every number here, and is found: in the first segment
        ("x >= 1000", 1, 1),
        ("x < 2", 4, 1),
        ("length(s) > 2", 40, 5),
    ],
)
def test_conditions_leave_segments_out(
    house: Any, instances: Instances, where: str, count: int, segments: int
) -> None:
    fill(house)
    assert opened(house, instances, f"select count(*) from t where {where}") == (
        f'"_c0"\n"{count}"\n',
        segments,
    )


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("select a.n from t a join t b on a.n = b.n where a.n = 5 and b.n = 5", 1),
        ("select a.n from t a join t b on a.n = b.n and b.n = 5", 5),
        ("select a.n from t a left join t b on a.n = b.n where b.n is null and a.n < 10", 5),
        ("select * from (select * from t where n < 10) q where n > 5", 1),
        ("with q as (select n from t where n = 3) select count(*) from q", 1),
        ("select n from t where n = 3 union all select n from t where n = 43", 2),
        ("select count(*) from t where n = 3 and exists (select 1 from t u where u.n = 3)", 1),
        ("select n from t where n = (select max(n) from t where n < 10)", 5),
    ],
)
def test_each_mention_of_a_table_has_its_own_conditions(
    house: Any, instances: Instances, text: str, segments: int
) -> None:
    fill(house)
    _, scans = opened(house, instances, text)
    assert scans == segments


@pytest.mark.parametrize(
    ("where", "segments"),
    [
        ("pt = '3'", 1),
        ("pt in ('1', '2')", 2),
        ("pt = max_pt('t')", 1),
        ("pt = to_char(datetime '0004-01-01 00:00:00', 'yyyy')", 0),
        ("pt = cast(4 as string)", 1),
        ("pt > '2' and n = 31", 1),
    ],
)
def test_partitions_are_left_out(
    house: Any, instances: Instances, where: str, segments: int
) -> None:
    fill(house, partitions=5)
    _, scans = opened(house, instances, f"select n from t where {where}")
    assert scans == segments


def test_only_the_columns_that_are_mentioned_are_read(house: Any, instances: Instances) -> None:
    fill(house)
    explained = instances.run("explain select s from t where n > 3", HERE).result
    assert "columns n, s; pushed: n > 3" in explained
    assert "columns n, x, s, st" in instances.run("explain select * from t", HERE).result
    assert "columns n;" in instances.run("explain select count(*) from t", HERE).result
    assert "columns st;" in instances.run("explain select st.a from t", HERE).result


def test_all_tables_are_read_as_of_one_moment(house: Any, instances: Instances) -> None:
    house.create(pa.schema([("n", pa.int64())]))
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            house.append(pa.record_batch({"n": [1]}))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(10):
            row = instances.run(
                "select (select count(*) from t) = (select sum(n) from t),"
                " (select count(*) from t a) = (select count(*) from t b)",
                HERE,
            )
            values = instances.result(row).splitlines()[1]
            assert values in {'"true","true"', '"\\N","true"'}
    finally:
        stop.set()
        writer.join()


def test_every_table_behind_is_asked_for(house: Any, instances: Instances) -> None:
    fill(house)
    assert instances.run(
        "create table u (n bigint); create view v as select n from t", HERE
    ).succeeded
    asked: list[str] = []

    def refuse_t(request: Request) -> None:
        name = getattr(getattr(request, "table", None), "name", "")
        if isinstance(request, CreateReadSession | DescribeTable):
            asked.append(f"{type(request).__name__} {name}")
        if name == "t":
            raise NoPermissionError("not t")

    for text in (
        "select * from t",
        "select * from v",
        "select * from u, v",
        "select (select count(*) from t) from u",
        "with t2 as (select * from t) select * from t2",
        "@a := select * from t; select * from @a",
        "insert into u select n from t",
        "create table w as select n from t",
        "explain select * from t",
        "select max_pt('t')",
    ):
        with pytest.raises(NoPermissionError):
            instances.run(text, HERE, authorize=refuse_t)
    assert "DescribeTable v" in asked
    assert instances.run("select * from u", HERE, authorize=refuse_t).succeeded


def test_statements_are_cancelled_within_a_moment(house: Any, instances: Instances) -> None:
    house.create(pa.schema([("n", pa.int64())]))
    house.append(pa.record_batch({"n": range(3000)}))
    text = "select count(*) from t a, t b, t c, t d where a.n + b.n + c.n + d.n = -1"
    row = instances.run(text, HERE, wait_seconds=0.3)
    assert row.ended_at == 0
    assert instances.get("demo", row.id).ended_at == 0
    assert [listed.id for listed in instances.list("demo")] == [row.id]
    assert 0.0 <= instances.progress(row) <= 1.0
    begun = time.monotonic()
    instances.cancel(row)
    # A second where nothing else runs; the statement by itself would take days.
    assert time.monotonic() - begun < 120
    ended = instances.wait("demo", row.id, 120)
    assert ended.ended_at
    assert not ended.succeeded
    assert instances.cancelled(ended)
    assert instances.state(ended).error == (409, "Cancelled", "the statement was cancelled")


def test_long_statements_do_not_keep_short_ones_waiting(house: Any, instances: Instances) -> None:
    house.create(pa.schema([("n", pa.int64())]))
    house.append(pa.record_batch({"n": range(3000)}))
    text = "select count(*) from t a, t b, t c, t d where a.n + b.n + c.n + d.n = -1"
    running = [instances.run(text, HERE, wait_seconds=0) for _ in range(2)]
    assert instances.result(instances.run("select count(*) from t", HERE)) == '"_c0"\n"3000"\n'
    for row in running:
        instances.cancel(row)


def test_a_selective_condition_on_a_sorted_column_reads_a_twentieth(
    house: Any, instances: Instances
) -> None:
    house.create(pa.schema([("n", pa.int64()), ("s", pa.string())]))
    for start in range(0, 40_000, 1000):
        numbers = range(start, start + 1000)
        house.append(pa.record_batch({"n": numbers, "s": [f"text {n}" for n in numbers]}))
    keys: set[str] = set()
    store = house.engine.context.store
    original = type(store).open

    def counting(self: Any, key: str, **options: Any) -> Any:
        keys.add(key)
        return original(self, key, **options)

    type(store).open = counting
    try:
        row = instances.run("select s from t where n = 12345", HERE)
    finally:
        type(store).open = original
    assert instances.result(row) == '"s"\n"text 12345"\n'
    sizes = {info.key: info.length for info in store.list("tables/")}
    assert len(sizes) == 40
    assert sum(sizes[key] for key in keys) < 0.05 * sum(sizes.values())


def test_a_selective_condition_reads_a_twentieth_of_one_large_segment(
    house: Any, instances: Instances
) -> None:
    rows = 2_000_000
    house.create(pa.schema([("n", pa.int64()), ("x", pa.float64())]))
    numbers = pa.array(range(rows), pa.int64())
    house.append(pa.record_batch({"n": numbers, "x": numbers.cast(pa.float64())}))
    row = instances.run("select sum(x) s, count(*) c from t where n between 70000 and 70009", HERE)
    assert instances.result(row) == '"s","c"\n"700045.0","10"\n'
    assert 0 < instances.input_bytes(row) < 0.05 * 16 * rows


def test_rows_of_numbers_are_left_to_the_query_and_those_of_texts_are_not(
    house: Any, instances: Instances
) -> None:
    house.create(pa.schema([("n", pa.int64()), ("s", pa.string())]))
    numbers = [(n * 7919) % 1000 for n in range(1000)]  # no range of rows can be left out
    house.append(pa.record_batch({"n": numbers, "s": [f"text {n}" for n in numbers]}))
    row = instances.run("select sum(n) x from t where n < 10", HERE)
    assert instances.result(row) == '"x"\n"45"\n'
    assert instances.input_bytes(row) == 8000
    row = instances.run("select count(s) x from t where n < 10", HERE)
    assert instances.result(row) == '"x"\n"10"\n'
    assert instances.input_bytes(row) < 800
