"""Cases of tables with a key: operations as they are written, two changes of one row, what is stored."""

from __future__ import annotations

import datetime as dt
import functools
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.postgresql import client_of

import fletching
from fletching.client import Client, Table
from fletching.errors import ConflictError, FletchingError, InvalidArgumentError, UsageError

SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), ("v", pa.string())])
NUMBERS = itertools.count()
OPERATION = "__operation"
UPSERT, DELETE = ord("U"), ord("D")
ROUNDS = 200 if os.environ.get("FLETCHING_TEST_EXHAUSTIVE") else 10


@pytest.fixture(scope="module")
def client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """Over a folder, whose catalog is where the test's parameter says."""
    with client_of(request, tmp_path_factory.mktemp("keyed") / "data") as opened:
        yield opened


on_both_databases = pytest.mark.parametrize("client", ["sqlite", "postgresql"], indirect=True)


def made(client: Client, schema: pa.Schema = SCHEMA, *, keyed: bool = True) -> Table:
    key = ["id"] if keyed else ()
    return client.create_table(f"t{next(NUMBERS)}", schema, primary_key=key)


def rows(*ids: int, v: str | None = "x") -> pa.Table:
    return pa.table({"id": list(ids), "v": [v] * len(ids)}, SCHEMA)


def content(table: Table) -> dict[Any, Any]:
    result = table.scan().to_table()
    assert result.num_rows == table.count_rows()
    first, second = (result.column(number).to_pylist() for number in range(2))
    assert len(set(first)) == len(first)
    return dict(zip(first, second, strict=True))


def newest(table: Table) -> int:
    return table.versions(limit=1)[0].version


def engine_of(table: Table) -> Any:
    transport: Any = table.channel.transport  # an embedded one
    return transport.engine


# --- operations


def operated(
    ids: list[int], operations: Any, kind: Any = None, v: list[str | None] | None = None
) -> pa.Table:
    """Rows with what each is for, as clients of the Storage API send them."""
    kind = pa.int8() if kind is None else kind
    return pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "v": pa.array(["new"] * len(ids) if v is None else v, pa.string()),
            OPERATION: pa.array(operations, kind),
        }
    )


@pytest.mark.parametrize(
    ("operations", "kind"),
    [
        ([0, UPSERT], None),
        ([UPSERT, 99], None),
        ([-85, DELETE], None),
        ([85.0, 68.0], pa.float64()),
        (["U", "D"], pa.string()),
        ([True, False], pa.bool_()),
        ([1 << 40, UPSERT], pa.int64()),
    ],
)
def test_operations_that_are_none_are_refused(client: Client, operations: Any, kind: Any) -> None:
    table = made(client)
    table.upsert(rows(1, 2))
    before = newest(table)
    with table.write_session() as session:
        wrong = operated([1, 3], operations, kind)
        with pytest.raises(InvalidArgumentError, match=OPERATION):  # noqa: SIM117
            with session.writer("w", schema=wrong.schema) as writer:
                writer.write(wrong)
        # The stream takes another attempt.
        right = operated([1, 3], [DELETE, UPSERT])
        with session.writer("w", version=2, schema=right.schema) as writer:
            writer.write(right)
        session.commit()
    assert content(table) == {2: "x", 3: "new"}
    assert newest(table) == before + 1


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint8(), pa.int64()])
def test_operations_in_every_integer_type(client: Client, kind: Any) -> None:
    """Null and 1 mean upsert; of a column that is not there every row is one."""
    table = made(client)
    table.upsert(rows(1, 2))
    data = operated([1, 2, 3, 4, 3], [DELETE, None, 1, UPSERT, DELETE], kind)
    with table.write_session() as session:
        with session.writer(schema=data.schema) as writer:
            writer.write(data)
        session.commit()
    assert content(table) == {2: "new", 4: "new"}
    with table.write_session() as session:
        with session.writer() as writer:
            writer.write(rows(5))
        session.commit()
    assert set(content(table)) == {2, 4, 5}


def test_an_operation_is_no_column_of_tables_without_a_key(client: Client) -> None:
    table = made(client, keyed=False)
    data = operated([1], [UPSERT])
    with pytest.raises((InvalidArgumentError, UsageError)), table.write_session() as session:  # noqa: SIM117
        with session.writer(schema=data.schema) as writer:
            writer.write(data)
    assert table.count_rows() == 0


def test_no_row_that_deletes_is_ever_in_a_segment(client: Client) -> None:
    """What is stored opens with pyarrow, and has no null where there may be none."""
    schema = pa.schema([SCHEMA.field("id"), pa.field("v", pa.string(), nullable=False)])
    table = made(client, schema)
    ends: list[list[tuple[int, int]]] = [
        [(1, UPSERT), (2, UPSERT), (3, DELETE)],
        [(3, UPSERT), (1, DELETE), (9, DELETE)],
        [(7, DELETE)],
        [(7, UPSERT), (7, DELETE), (8, DELETE), (8, UPSERT)],
    ]
    for operations in ends:
        ids, marks = map(list, zip(*operations, strict=True))
        data = operated(ids, marks, v=["new" if mark == UPSERT else None for mark in marks])
        with table.write_session() as session:
            with session.writer(schema=data.schema) as writer:
                writer.write(data)
            session.commit()
    assert content(table) == {2: "new", 3: "new", 8: "new"}
    store = engine_of(table).context.store
    seen = 0
    context = engine_of(table).context
    from sqlalchemy import select

    from fletching.catalog import schema as catalog

    with context.database.read() as connection:
        keys = connection.scalars(
            select(catalog.segments.c.key)
            .join(catalog.tables, catalog.tables.c.id == catalog.segments.c.table_id)
            .where(catalog.tables.c.name == table.name)
        ).all()
    for key in keys:
        with store.open(key) as stored:
            file = pa.ipc.open_file(pa.py_buffer(bytes(stored.view(0, stored.length))))
            result = file.read_all()
        result.validate(full=True)
        assert result.schema.names == ["id", "v"]
        assert result["v"].null_count == 0
        seen += result.num_rows
    # Those that lost within their own commit are stored, and those that delete are not.
    assert seen == sum(mark == UPSERT for operations in ends for _, mark in operations)


# --- keys


def test_digits_of_a_decimal_are_no_part_of_its_value(client: Client) -> None:
    schema = pa.schema([pa.field("id", pa.decimal128(10, 2), nullable=False), ("v", pa.string())])
    table = made(client, schema)
    for number, kind in enumerate(
        (pa.decimal128(5, 1), pa.decimal128(10, 2), pa.decimal256(40, 5))
    ):
        table.upsert(pa.table({"id": pa.array([Decimal("1.0")]).cast(kind), "v": [str(number)]}))
    assert content(table) == {Decimal("1.00"): "2"}
    assert table.delete_keys({"id": [Decimal("1.000")]}).rows_deleted == 1
    assert content(table) == {}


def test_keys_are_what_they_are_in_every_encoding(client: Client) -> None:
    schema = pa.schema([pa.field("id", pa.timestamp("us"), nullable=False), ("v", pa.string())])
    table = made(client, schema)
    moment = dt.datetime(2024, 2, 29, 12)  # noqa: DTZ001 - of a column without a zone
    for number, unit in enumerate(("s", "ms", "us", "ns")):
        keys = pa.array([moment], pa.timestamp(unit))
        table.upsert(pa.table({"id": keys, "v": [str(number)]}))
        table.upsert(pa.table({"id": keys.dictionary_encode(), "v": [f"{number}, encoded"]}))
    assert content(table) == {moment: "3, encoded"}


# --- two at once


@on_both_databases
@pytest.mark.parametrize("keyed", [False, True])
def test_a_row_is_deleted_and_updated_at_once(client: Client, keyed: bool) -> None:
    """One order or the other, or one of them is told of the conflict; never two rows, never an old one."""
    table = made(client, keyed=keyed)
    table.append(rows(*range(8)))
    start = threading.Barrier(2)
    outcomes: set[str] = set()
    for number in range(ROUNDS):
        first = number % 8
        if first not in content(table):
            table.append(rows(first))
        others = {key: v for key, v in content(table).items() if key != first}
        failed: list[str] = []

        def work(name: str, change: Callable[[], object], failed: list[str] = failed) -> None:
            start.wait()
            try:
                change()
            except ConflictError:
                failed.append(name)

        changes: dict[str, Callable[[], object]] = {
            "delete": functools.partial(table.delete, f"id = {first}"),
            "update": functools.partial(
                table.update, values={"v": str(number)}, where=f"id = {first}"
            ),
        }
        threads = [threading.Thread(target=work, args=each) for each in changes.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(failed) < 2
        result = content(table)
        if "delete" in failed:
            assert result[first] == str(number)
        else:
            # The update came first, or found nothing.
            assert first not in result
        outcomes.add(failed[0] if failed else "both")
        result.pop(first, None)
        assert result == others
    assert "both" in outcomes
    assert [item for item in engine_of(table).verify() if item.problems] == []


@on_both_databases
def test_a_watcher_follows_while_others_upsert_and_compact(client: Client) -> None:
    """Each version once and in order, none of upkeep; a copy made of nothing else is the table."""
    table = made(client)
    began = newest(table)
    done = threading.Event()
    failures: list[BaseException] = []

    def upsert() -> None:
        try:
            for number in range(24):
                table.upsert(rows(number % 5, number % 7, v=str(number)))
                if number % 6 == 5:
                    table.delete_keys({"id": [number % 5]})
        except FletchingError as error:
            failures.append(error)
        finally:
            done.set()

    def tidy() -> None:
        try:
            while not done.is_set():
                table.compact(purge=True)
        except FletchingError as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for work in (upsert, tidy)]
    copy: dict[int, str] = {}
    seen: list[int] = []
    watching = client.table(table.name)

    def follow(timeout: float) -> None:
        since = seen[-1] if seen else began
        for change_set in watching.watch(since=since, timeout=timeout):
            changes = change_set.changes.to_table().to_pylist()
            assert changes
            seen.append(change_set.version)
            for row in changes:
                if row["_change_type"] in {"delete", "update_preimage"}:
                    assert copy.pop(row["id"]) == row["v"]
                else:
                    assert row["id"] not in copy
                    copy[row["id"]] = row["v"]

    for thread in threads:
        thread.start()
    while not done.is_set():
        follow(0.05)
    for thread in threads:
        thread.join()
    follow(0.0)
    assert failures == []
    assert copy == content(table)
    changed = [each.version for each in table.versions() if each.data_change]
    assert seen == sorted(number for number in changed if number > began)


# --- statements


def test_statements_and_verbs_leave_the_same(client: Client) -> None:
    by_verbs, by_statements = made(client), made(client)
    name = by_statements.name
    other = made(client)
    other.upsert(rows(4, 5, 60, v="other"))
    for table in (by_verbs, by_statements):
        table.upsert(rows(*range(10)))
    merge = (
        f"MERGE INTO {name} t USING {other.name} s ON t.id = s.id"
        " WHEN MATCHED THEN UPDATE SET v = s.v WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.v)"
    )
    steps: list[tuple[Callable[[], object], str]] = [
        (lambda: by_verbs.delete("id % 4 = 1"), f"DELETE FROM {name} WHERE id % 4 = 1"),
        (
            lambda: by_verbs.update({"v": "concat(v, '!')"}, where="id > 5"),
            f"UPDATE {name} SET v = concat(v, '!') WHERE id > 5",
        ),
        (
            lambda: by_verbs.merge(rows(4, 5, 60, v="other"), on=["id"]),
            merge,
        ),
    ]
    moments = []
    for verb, statement in steps:
        verb()
        client.sql(statement)
        assert content(by_statements.reload()) == content(by_verbs)
        moments.append((newest(by_statements), content(by_statements)))
    for version, expected in moments:
        asked = f"SELECT id, v FROM {name} VERSION AS OF {version}"
        result = client.sql(asked).to_table().to_pylist()
        assert (
            {row["id"]: row["v"] for row in result}
            == expected
            == content(by_statements.as_of(version))
        )
        (info,) = [each for each in by_statements.versions() if each.version == version]
        text = info.committed_at.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        asked = f"SELECT id, v FROM {name} TIMESTAMP AS OF '{text}'"
        result = client.sql(asked).to_table().to_pylist()
        assert {row["id"]: row["v"] for row in result} == expected


# --- many segments


def test_rows_of_many_partitions_go_in_one_transaction(client: Client, tmp_path: Path) -> None:
    """Whatever it reads, a change holds the catalog once, for what it writes there."""
    with fletching.connect(tmp_path / "data", create=True) as fresh:
        table = fresh.create_table("t", SCHEMA, partition_by=["p"])
        for start in range(0, 600, 200):
            ids = list(range(start, start + 200))
            parts = [f"p{number % 40}" for number in ids]
            table.append(pa.table({"id": ids, "v": ["x"] * 200, "p": parts}))
        database = engine_of(table).context.database
        write, changing = database.write, []

        def counted(**options: Any) -> Any:
            if options.get("durable", True):
                changing.append(options)
            return write(**options)

        database.write = counted
        try:
            assert table.delete("id % 6 = 0").rows_deleted == 100
        finally:
            del database.write
        assert len(changing) == 1
        assert table.count_rows() == 500
