"""Read sessions: what pins a snapshot, and for how long."""

from __future__ import annotations

import threading

from sqlalchemy import Connection
from tests.catalog.conftest import MakeTable, add_table
from tests.postgresql import Databases
from tests.waiting import until

from fletching.catalog.opening import open_catalog
from fletching.catalog.read_session_rows import (
    ReadSessionRow,
    count_open_read_sessions,
    exclude_pinning,
    extend_read_session,
    find_read_session,
    forget_read_session,
    hold_snapshots,
    insert_read_session,
)
from fletching.catalog.table_rows import lock_table


def test_a_session_is_found_as_it_was_made_until_it_is_forgotten(
    rows: Connection, new_table: MakeTable
) -> None:
    new_table()
    hold_snapshots(rows)
    whole = ReadSessionRow("s1", "t", 7, b"request", None, 1.0, 10.0)
    feed = ReadSessionRow("s2", "t", 7, b"request", b"plan", 1.0, 20.0, since_version=3)
    insert_read_session(rows, whole)
    insert_read_session(rows, feed)
    assert find_read_session(rows, "s1") == whole
    assert find_read_session(rows, "s2") == feed
    assert find_read_session(rows, "s3") is None
    forget_read_session(rows, "s1")
    forget_read_session(rows, "s1")
    assert find_read_session(rows, "s1") is None
    exclude_pinning(rows)  # one's own shared lock does not stand in one's way


def test_open_ones_are_counted_up_to_a_limit(rows: Connection, new_table: MakeTable) -> None:
    new_table()
    for number in range(4):
        insert_read_session(
            rows, ReadSessionRow(f"s{number}", "t", 1, b"", None, 1.0, 10.0 + number)
        )
    assert count_open_read_sessions(rows, 0.0, 10) == 4
    assert count_open_read_sessions(rows, 0.0, 2) == 2
    assert count_open_read_sessions(rows, 11.0, 10) == 2
    assert extend_read_session(rows, "s0", 99.0)
    assert not extend_read_session(rows, "none", 99.0)
    assert count_open_read_sessions(rows, 50.0, 10) == 1


def test_a_session_is_opened_while_retention_holds_the_table_and_waits_for_it(
    postgresql: Databases,
) -> None:
    database = open_catalog(postgresql.create())
    with database.write() as connection:
        add_table(connection)
    ended: list[int] = []

    def retention() -> None:
        with database.write() as connection:
            lock_table(connection, "t")
            exclude_pinning(connection)
            ended.append(count_open_read_sessions(connection, 0.0, 10))

    def waits() -> bool:
        with database.read() as connection:
            waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            return bool(connection.exec_driver_sql(waiting).scalar_one())

    thread = threading.Thread(target=retention)
    with database.write(pins=True) as connection:
        thread.start()
        until(waits)
        insert_read_session(connection, ReadSessionRow("s", "t", 1, b"", None, 1.0, 10.0))
    thread.join()
    assert ended == [1]
    database.close()
