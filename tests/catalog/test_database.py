"""Transactions: all or nothing, durable, one writer at a time, failures in our words."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
import sqlalchemy
from sqlalchemy import insert, select
from tests.failing_calls import Calls, failing_catalog, failing_postgresql

from fletching.catalog import database as database_module
from fletching.catalog.database import (
    PINNING_LOCK,
    CatalogLook,
    Database,
    look_at_catalog,
    translated_errors,
)
from fletching.catalog.leases import (
    acquire_lease,
    holds_lease,
    release_lease,
    release_leases_of,
    renew_lease,
)
from fletching.catalog.opening import open_catalog
from fletching.catalog.schema import leases, projects
from fletching.errors import (
    CorruptObjectError,
    FletchingError,
    NotFoundError,
    OutcomeUnknownError,
    ServiceUnavailableError,
    StorageError,
    StorageFullError,
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = open_catalog(tmp_path / "catalog.sqlite", busy_timeout_seconds=0.05)
    yield database
    database.close()


def names(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.execute(select(leases.c.name).order_by(leases.c.name)).scalars())


def add(connection: sqlalchemy.Connection, name: str) -> None:
    connection.execute(insert(leases).values(name=name, holder="h", expires_at=0.0))


def test_a_write_is_there_when_its_block_has_ended(any_database: Database) -> None:
    with any_database.write() as connection:
        add(connection, "a")
        assert names(any_database) == []
    assert names(any_database) == ["a"]


def test_a_write_that_raises_leaves_nothing(any_database: Database) -> None:
    def fail() -> None:
        with any_database.write() as connection:
            add(connection, "a")
            raise NotFoundError("no")

    with pytest.raises(NotFoundError):
        fail()
    assert names(any_database) == []


def test_a_trial_and_a_read_leave_nothing(any_database: Database) -> None:
    with any_database.trial() as connection:
        add(connection, "a")
    assert names(any_database) == []
    with any_database.read() as connection:
        add(connection, "b")
    assert names(any_database) == []


def test_a_read_sees_one_moment(any_database: Database) -> None:
    with any_database.read() as connection:
        assert connection.execute(select(leases)).all() == []
        with any_database.write() as other:
            add(other, "a")
        assert connection.execute(select(leases)).all() == []
    assert names(any_database) == ["a"]


def test_what_is_in_use_at_closing_is_closed_when_its_block_ends(any_database: Database) -> None:
    with any_database.read() as connection:
        held = connection.connection.driver_connection
        any_database.close()
        assert connection.scalar(select(1)) == 1
    assert held is not None
    with pytest.raises((sqlite3.ProgrammingError, psycopg.OperationalError), match="closed"):
        held.execute("SELECT 1")


def test_a_catalog_that_nobody_closed_leaves_no_connection(catalog_location: str | Path) -> None:
    database = open_catalog(catalog_location)
    with database.read() as connection:
        held = connection.connection.driver_connection
    del database, connection
    gc.collect()
    assert held is not None
    with pytest.raises((sqlite3.ProgrammingError, psycopg.OperationalError), match="closed"):
        held.execute("SELECT 1")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_look_says_what_is_there_and_leaves_no_connection(
    catalog_location: str | Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from fletching.catalog import database as module

    made: list[sqlalchemy.Engine] = []
    original = module._create_engine

    def create(*arguments: Any) -> sqlalchemy.Engine:
        made.append(original(*arguments))
        return made[-1]

    monkeypatch.setattr(module, "_create_engine", create)
    assert look_at_catalog(tmp_path / "none.sqlite") is CatalogLook.ABSENT
    database = open_catalog(catalog_location)
    assert look_at_catalog(catalog_location) is CatalogLook.BLANK
    with database.write() as connection:
        connection.execute(insert(projects).values(name_key="p", name="P", created_at=0.0))
    assert look_at_catalog(catalog_location) is CatalogLook.USED
    database.close()
    pools = [engine.pool for engine in made]
    assert all(isinstance(pool, sqlalchemy.QueuePool) and not pool.checkedin() for pool in pools)


def test_a_forked_process_leaves_its_parent_s_connections_alone(
    catalog_location: str | Path,
) -> None:
    database = open_catalog(catalog_location)
    with database.read() as connection:
        held = connection.connection.driver_connection
    child = os.fork()
    if child == 0:
        warnings.simplefilter("ignore")  # of the driver, that nobody closed what is not the child's
        try:
            kept = weakref.ref(database)
            del database, connection
            gc.collect()
            os._exit(0 if kept() is None else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with database.read() as connection:
        # The same one: a pool would quietly put another in the place of one that was closed.
        assert connection.connection.driver_connection is held
        assert connection.scalar(select(1)) == 1
    database.close()


def test_transactions_wait_for_the_disk_unless_told_not_to(database: Database) -> None:
    for durable, level in ((True, 2), (False, 1), (True, 2)):
        with database.write(durable=durable) as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == level
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_writers_of_one_process_queue(any_database: Database) -> None:
    """Sixteen threads and a busy timeout that none of them could wait out by polling."""

    def work(number: int) -> None:
        for step in range(20):
            with any_database.write(durable=False) as connection:
                add(connection, f"{number}-{step}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names(any_database)) == 320


def test_a_lock_held_elsewhere(database: Database, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "catalog.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    def write() -> None:
        with database.write() as connection:
            add(connection, "a")

    with pytest.raises(ServiceUnavailableError, match="locked"):
        write()
    other.execute("ROLLBACK")
    other.close()
    write()


def test_a_full_database(database: Database) -> None:
    def fill() -> None:
        with database.write() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
            for number in range(10_000):
                add(connection, f"{number:0100}")

    with pytest.raises(StorageFullError):
        fill()
    assert names(database) == []


@pytest.mark.parametrize(
    "error",
    [
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        json.JSONDecodeError("Expecting value", "", 0),
        msgspec.ValidationError("Expected `int`, got `str`"),
    ],
)
def test_what_cannot_be_read_of_a_row_is_damage(any_database: Database, error: Exception) -> None:
    for block in (any_database.read, any_database.write, any_database.trial):
        with pytest.raises(CorruptObjectError, match="the catalog is damaged"), block():
            raise error


def test_a_page_of_zeros_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    database = Database.open(path)
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE t (a)")
        connection.exec_driver_sql("INSERT INTO t VALUES (1)")
    database.close()
    content = path.read_bytes()
    path.write_bytes(content[:4096] + bytes(len(content) - 4096))
    database = Database.open(path)
    with pytest.raises(CorruptObjectError, match="restore it from a copy"), database.read() as rows:
        rows.exec_driver_sql("SELECT * FROM t").all()
    database.close()


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    path.write_bytes(b"something else entirely" * 100)
    with pytest.raises(StorageError, match=r"is damaged .*not a database"):
        open_catalog(path)
    with pytest.raises(StorageError):
        open_catalog(tmp_path / "none" / "catalog.sqlite")


@pytest.mark.parametrize("refused", [False, True])
def test_a_commit_whose_answer_is_lost_is_none_that_was_refused(
    any_database: Database, *, refused: bool
) -> None:
    failing, refusal = failing_postgresql, "serialization failure"
    if any_database.is_sqlite:
        failing, refusal = failing_catalog, "database is locked"
    calls = Calls()

    def write(name: str) -> None:
        with any_database.write() as connection:
            add(connection, name)

    write("connected")
    with failing(calls):
        calls.begin()
        write("counted")
        calls.begin(calls.names.index("COMMIT"), refusal if refused else "answer lost")
        with pytest.raises(ServiceUnavailableError) as caught:
            write("failed")
        calls.end()
    assert calls.failed == ["COMMIT"]
    assert isinstance(caught.value, OutcomeUnknownError) != refused
    assert ("failed" in names(any_database)) != refused


class BrokenError(Exception):
    """A PostgreSQL driver's error."""

    def __init__(self, state: str | None) -> None:
        super().__init__("broken")
        self.sqlstate = state


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("53100", StorageFullError),
        ("40001", ServiceUnavailableError),
        ("40P01", ServiceUnavailableError),
        ("08006", ServiceUnavailableError),
        ("57P01", ServiceUnavailableError),
        ("55P03", ServiceUnavailableError),
        ("25P03", ServiceUnavailableError),
        ("25006", ServiceUnavailableError),
        ("53300", ServiceUnavailableError),
        (None, ServiceUnavailableError),
        ("23505", StorageError),
    ],
)
def test_postgres_states_in_our_words(state: str | None, kind: type[FletchingError]) -> None:
    def fail() -> None:
        with translated_errors():
            raise sqlalchemy.exc.OperationalError("SELECT", {}, BrokenError(state))

    with pytest.raises(kind) as caught:
        fail()
    assert type(caught.value) is kind


def test_a_fault_without_a_state_that_is_not_the_database_s_is_no_outage() -> None:
    def fail() -> None:
        with translated_errors():
            raise sqlalchemy.exc.InterfaceError("SELECT", {}, BrokenError(None))

    with pytest.raises(StorageError, match="SQLSTATE unknown"):
        fail()


@pytest.fixture
def impatient(postgresql: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A database that waits little more than a second for who is in a transaction and says nothing."""
    monkeypatch.setattr("fletching.catalog.database.SILENT_TRANSACTION_SECONDS", 1.5)
    database = open_catalog(postgresql.create())
    yield database
    database.close()


def another_of(database: Database) -> Database:
    """The same catalog by connections that may take their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fletching.catalog.database.SILENT_TRANSACTION_SECONDS", 600)
        url = database._engine.url.render_as_string(hide_password=False)
        other = open_catalog(url)
        names(other)  # a connection is made by the first who needs it
        return other


@pytest.mark.parametrize("waits_for", ["row", "pinned versions"])
def test_who_freezes_in_a_transaction_does_not_keep_the_others(
    impatient: Database, waits_for: str
) -> None:
    patient = another_of(impatient)
    with patient.write() as connection:
        add(connection, "before")
    others_are_done = threading.Event()
    frozen_failed: list[FletchingError] = []
    is_inside = threading.Event()

    def freeze() -> None:
        try:
            with impatient.write(pins=waits_for == "pinned versions") as connection:
                if waits_for == "row":
                    connection.execute(select(leases).with_for_update()).all()
                is_inside.set()
                others_are_done.wait()
                # Awake: what it did is undone, and it is told so.
                add(connection, "late")
        except FletchingError as error:
            frozen_failed.append(error)

    thread = threading.Thread(target=freeze, daemon=True)
    thread.start()
    assert is_inside.wait(600)
    with patient.write() as connection:
        if waits_for == "row":
            connection.execute(leases.update().values(holder="another"))
        else:
            connection.execute(sqlalchemy.text(f"SELECT pg_advisory_xact_lock({PINNING_LOCK})"))
        others_are_done.set()
        thread.join()
    (error,) = frozen_failed
    assert type(error) is ServiceUnavailableError
    assert names(patient) == ["before"]
    patient.close()


def test_a_reader_that_says_so_may_take_its_time(impatient: Database) -> None:
    for patient in (True, False):
        refused = contextlib.nullcontext() if patient else pytest.raises(ServiceUnavailableError)
        with refused, impatient.read(patient=patient) as connection:
            connection.execute(select(leases)).all()
            threading.Event().wait(2.0)
            connection.execute(select(leases)).all()


def test_connections_to_a_database_that_only_reads_since_a_failover_are_given_up(
    postgresql: Any,
) -> None:
    database = open_catalog(postgresql.create())
    try:
        with database.write() as first, database.write() as second:
            for connection in (first, second):
                connection.exec_driver_sql("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
        refused = pytest.raises(ServiceUnavailableError, match="read-only")
        with refused, database.write() as connection:
            add(connection, "refused")
        for name in ("a", "b"):
            with database.write() as connection:
                add(connection, name)
        assert names(database) == ["a", "b"]
    finally:
        database.close()


@pytest.fixture
def by_network(postgresql: Any) -> Iterator[str]:
    """The URL of a database that is reached over TCP, by one connection."""
    url = sqlalchemy.make_url(postgresql.create())
    listener = socket.create_server(("127.0.0.1", 0))
    ends: list[socket.socket] = []

    def copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)

    def relay() -> None:
        with contextlib.suppress(OSError):
            here, _ = listener.accept()
            there = socket.socket(socket.AF_UNIX)
            ends.extend((here, there))
            there.connect(f"{url.query['host']}/.s.PGSQL.5432")
            threading.Thread(target=copy, args=(there, here)).start()
            copy(here, there)

    thread = threading.Thread(target=relay)
    thread.start()
    reached = url.set(host="127.0.0.1", port=listener.getsockname()[1], query={})
    yield reached.render_as_string(hide_password=False)
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for end in ends:
        end.close()
    thread.join()


@pytest.mark.skipif(sys.platform != "linux", reason="the options of Linux")
@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("sslmode=disable", [15, 5, 3, 30_000]),
        ("sslmode=disable&keepalives_idle=7&tcp_user_timeout=9000", [7, 5, 3, 9_000]),
    ],
)
def test_a_connection_notices_that_the_other_host_is_gone(
    by_network: str, message: str, expected: list[int]
) -> None:
    names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
    database = Database.open(f"{by_network}?{message}")
    try:
        with database.read() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            with socket.socket(fileno=os.dup(driver.fileno())) as own:
                options = [
                    own.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names
                ]
            assert options == expected
    finally:
        database.close()


def test_leases_are_held_by_one_and_run_out(any_database: Database) -> None:
    def acquire(holder: str, now: float) -> int | None:
        with any_database.write() as connection:
            return acquire_lease(connection, "work", holder, now=now, seconds=10)

    def holds(number: int) -> bool:
        with any_database.write() as connection:
            return holds_lease(connection, "work", number)

    def renew(number: int, now: float) -> bool:
        with any_database.write() as connection:
            return renew_lease(connection, "work", number, now=now, seconds=10)

    assert acquire("a", 0) == 1
    assert acquire("a", 5) == 1  # extends
    assert acquire("b", 14) is None
    assert renew(1, 14)
    assert acquire("b", 23) is None
    assert acquire("b", 24) == 2
    assert not renew(1, 24)  # passed on: what its earlier holder does late does not count
    assert not holds(1)
    assert holds(2)
    with any_database.write() as connection:
        release_lease(connection, "work", "a")  # not a's any more
    assert acquire("a", 25) is None
    with any_database.write() as connection:
        release_lease(connection, "work", "b")
    assert not holds(2)
    assert not renew(2, 25)
    assert acquire("a", 25) == 3
    with any_database.write() as connection:
        release_leases_of(connection, ["a", "c"])
    assert acquire("b", 25) == 4


OPEN = """
import sys
from fletching.catalog.opening import open_catalog
sys.stdin.readline()
open_catalog(sys.argv[1]).close()
"""


def test_processes_that_open_a_new_catalog_at_once(tmp_path: Path) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, str(tmp_path / "catalog.sqlite")],
            stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        _, problems = child.communicate(timeout=600)
        assert child.returncode == 0, problems


def test_a_server_that_was_promoted_is_noticed_by_the_next_connection(
    postgresql_catalog: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database.open(postgresql_catalog)
    calls: list[str] = []
    database.when_history_is_lost(lambda: calls.append("lost"))

    def connect() -> None:
        database._engine.dispose()
        with database.read() as connection:
            connection.execute(select(1))

    try:
        connect()
        assert re.fullmatch("[0-9A-F]{8}", database._timeline._known)
        connect()
        assert calls == []
        for timeline, expected in (("0000000A", 1), ("0000000A", 1), ("", 1), ("0000000B", 2)):
            monkeypatch.setattr(database_module, "_timeline_of", lambda _, now=timeline: now)
            connect()
            assert len(calls) == expected
    finally:
        database.close()


def test_a_server_that_does_not_tell_its_timeline_is_used() -> None:
    class Refusing:
        undone = 0

        def cursor(self) -> Any:
            return self

        def execute(self, _text: str) -> None:
            raise RuntimeError("recovery is in progress")

        def close(self) -> None: ...

        def rollback(self) -> None:
            self.undone += 1

    refusing: Any = Refusing()
    assert database_module._timeline_of(refusing) == ""
    assert refusing.undone == 1
