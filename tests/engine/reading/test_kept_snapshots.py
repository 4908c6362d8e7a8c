"""Which version a session reads, and the snapshots that are kept of versions."""

from __future__ import annotations

import threading
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy import delete, update
from tests.engine.conftest import T

from fletching.catalog import database as database_module
from fletching.catalog.schema import segments, table_versions, tables
from fletching.catalog.segment_rows import visible_segments
from fletching.catalog.table_rows import get_table
from fletching.engine.cache import Budget
from fletching.engine.reading import kept_snapshots
from fletching.engine.reading.kept_snapshots import Snapshots
from fletching.engine.reading.open_sessions import pinned_version
from fletching.engine.reading.output_schema import PartitionFilter
from fletching.errors import InvalidArgumentError, NoSuchTableError, VersionNotFoundError
from fletching.protocol.messages.admin import DropTable
from fletching.protocol.messages.requests import CreateReadSession
from fletching.types import TableName

SCHEMA = pa.schema([("id", pa.int64())])
EVERYTHING = PartitionFilter()


def batch(start: int, rows: int) -> pa.RecordBatch:
    return pa.record_batch([pa.array(range(start, start + rows), pa.int64())], schema=SCHEMA)


@pytest.fixture
def three(house: Any) -> Any:
    """A table at version 3 with 2, 5 and 9 rows in its versions."""
    house.create(SCHEMA)
    for start, rows in ((0, 2), (2, 3), (5, 4)):
        house.append(batch(start, rows))
    return house


def pinned(house: Any, **options: Any) -> Any:
    database = house.engine.context.database
    with database.read() as connection:
        table = get_table(connection, T)
        return pinned_version(connection, table, CreateReadSession(table=T, **options))


def test_the_newest_version_unless_another_is_named(three: Any) -> None:
    newest = pinned(three)
    assert (newest.rows, newest.segments, newest.since) == (9, 3, None)
    older = pinned(three, version=newest.version - 1)
    assert (older.version, older.rows, older.segments) == (newest.version - 1, 5, 2)
    assert pinned(three, version=newest.version) == newest


def test_changes_end_where_they_are_told_and_begin_before(three: Any) -> None:
    newest = pinned(three).version
    changes = pinned(three, since_version=newest - 2)
    assert (changes.version, changes.since) == (newest, newest - 2)
    with pytest.raises(InvalidArgumentError, match="cannot end with version"):
        pinned(three, since_version=newest, version=newest - 1)


def test_versions_to_come_and_tables_that_are_gone(three: Any) -> None:
    newest = pinned(three).version
    for options in ({"version": newest + 1}, {"version": -1}, {"since_version": -1}):
        with pytest.raises((VersionNotFoundError, InvalidArgumentError)):
            pinned(three, **options)
    database = three.engine.context.database
    with database.read() as connection:
        table = get_table(connection, T)
    three.engine.call(DropTable(table=T))
    request = CreateReadSession(table=T, version=newest)
    with database.read() as connection, pytest.raises(NoSuchTableError):
        pinned_version(connection, table, request)


def snapshots_of(house: Any, budget: Budget | None = None) -> tuple[Snapshots, str, int]:
    context = house.engine.context
    with context.database.read() as connection:
        table = get_table(connection, T)
    return (
        Snapshots(context.database, context.store, budget or Budget(1 << 20)),
        table.id,
        table.version,
    )


def test_a_snapshot_is_loaded_once_also_by_readers_at_the_same_time(
    three: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots, table_id, version = snapshots_of(three)
    loads: list[object] = []

    def counted(*args: Any) -> Any:
        loads.append(args)
        return visible_segments(*args)

    monkeypatch.setattr(kept_snapshots, "visible_segments", counted)
    result: list[Any] = []
    threads = [
        threading.Thread(
            target=lambda: result.append(snapshots.get(table_id, version, EVERYTHING, None))
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    assert {id(each) for each in result} == {id(result[0])}
    assert result[0].row_count == 9


def test_a_table_that_loads_slowly_holds_up_no_other(
    three: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots, table_id, version = snapshots_of(three)
    other = three.create(SCHEMA, table=TableName("demo", "other")).table_id
    begun, goes_on = threading.Event(), threading.Event()

    def slow(connection: Any, table: str, *rest: Any) -> Any:
        if table == table_id:
            begun.set()
            assert goes_on.wait(30)
        return visible_segments(connection, table, *rest)

    monkeypatch.setattr(kept_snapshots, "visible_segments", slow)
    result: list[Any] = []
    thread = threading.Thread(
        target=lambda: result.append(snapshots.get(table_id, version, EVERYTHING, None))
    )
    thread.start()
    try:
        assert begun.wait(30)
        read = threading.Thread(target=snapshots.get, args=(other, 0, EVERYTHING, None))
        read.start()
        read.join(10)
        assert not read.is_alive()
        # Nor does it hold up the table's changes, which are made of other segments.
        assert snapshots.get(table_id, version, EVERYTHING, version - 1).row_count == 4
    finally:
        goes_on.set()
        thread.join()
    assert result[0].row_count == 9
    assert snapshots._loading == {}


def test_a_newer_version_grows_out_of_the_one_that_is_kept(
    three: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots, table_id, version = snapshots_of(three)
    assert snapshots.get(table_id, version - 1, EVERYTHING, None).row_count == 5
    # What was committed since is asked for, and not all that is visible.
    monkeypatch.setattr(kept_snapshots, "visible_segments", None)
    assert snapshots.get(table_id, version, EVERYTHING, None).row_count == 9
    monkeypatch.undo()
    # An older one does not come out of a newer one.
    assert snapshots.get(table_id, version - 2, EVERYTHING, None).row_count == 2
    assert snapshots.get(table_id, version, EVERYTHING, None).row_count == 9
    # Nor does it become the one that later versions grow out of.
    three.append(batch(9, 1))
    monkeypatch.setattr(kept_snapshots, "visible_segments", None)
    assert snapshots.get(table_id, version + 1, EVERYTHING, None).row_count == 10


def test_what_is_too_large_for_the_cache_is_kept_beside_it(three: Any) -> None:
    snapshots, table_id, version = snapshots_of(three, Budget(1))
    large = snapshots.get(table_id, version, EVERYTHING, None)
    assert snapshots.get(table_id, version, EVERYTHING, None) is large
    assert len(snapshots.cache) == 0
    older = snapshots.get(table_id, version - 1, EVERYTHING, None)
    assert snapshots.get(table_id, version - 1, EVERYTHING, None) is older
    snapshots.get(table_id, version - 2, EVERYTHING, None)
    assert snapshots.get(table_id, version - 1, EVERYTHING, None) is not older
    assert snapshots.get(table_id, version, EVERYTHING, None) is large, "the newest stays"


def test_superseded_versions_go_soon_and_the_newest_stays(
    three: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_snapshots, "_SUPERSEDED_SECONDS", 0.0)
    snapshots, table_id, version = snapshots_of(three)
    older = snapshots.get(table_id, version - 1, EVERYTHING, None)
    newest = snapshots.get(table_id, version, EVERYTHING, None)
    assert len(snapshots.cache) == 1
    three.append(batch(9, 1))
    three.append(batch(9, 1))
    newest = snapshots.get(table_id, version + 1, EVERYTHING, None)
    snapshots.get(table_id, version, EVERYTHING, None)
    assert snapshots.get(table_id, version - 1, EVERYTHING, None) is not older
    assert snapshots.get(table_id, version + 1, EVERYTHING, None) is newest


def test_a_newer_version_grows_where_two_do_not_fit(
    three: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots, table_id, version = snapshots_of(three)
    size = snapshots.get(table_id, version, EVERYTHING, None).size_bytes
    snapshots, table_id, version = snapshots_of(three, Budget(size + size // 2))
    snapshots.get(table_id, version - 1, EVERYTHING, None)
    monkeypatch.setattr(kept_snapshots, "visible_segments", None)
    newest = snapshots.get(table_id, version, EVERYTHING, None)
    assert newest.row_count == 9
    assert snapshots.get(table_id, version, EVERYTHING, None) is newest
    three.append(batch(9, 1))
    assert snapshots.get(table_id, version + 1, EVERYTHING, None).row_count == 10


@pytest.mark.parametrize("catalog", ["postgresql"], indirect=True)
@pytest.mark.parametrize("noticed", [True, False])
def test_a_version_that_a_failover_lost_is_not_taken_for_the_one_that_has_its_number(
    house: Any, monkeypatch: pytest.MonkeyPatch, noticed: bool
) -> None:
    """The server that was promoted had not received the last commit, and others came after it."""
    database = house.engine.context.database
    table_id = house.create(SCHEMA).table_id
    house.append(batch(1, 1))
    assert house.read()["id"].to_pylist() == [1]
    with database.write() as connection:
        connection.execute(delete(segments).where(segments.c.table_id == table_id))
        made = (table_versions.c.table_id == table_id) & (table_versions.c.version == 1)
        connection.execute(delete(table_versions).where(made))
        connection.execute(update(tables).values(version=0, rows=0, bytes=0, segments=0))
    if noticed:
        monkeypatch.setattr(database_module, "_timeline_of", lambda _connection: "0000000A")
    database._engine.dispose()
    house.append(batch(2, 1))
    # Without a new timeline what is kept is right: it is why this test is one.
    assert house.read()["id"].to_pylist() == ([2] if noticed else [1])
