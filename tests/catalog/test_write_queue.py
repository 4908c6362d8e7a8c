"""Writers that wait share a commit: what each is told is what became of its own work."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy
from tests.waiting import until

from fletching.catalog.database import Database
from fletching.errors import InvalidArgumentError, ServiceUnavailableError, StorageError

INSERT = sqlalchemy.text("INSERT INTO numbers VALUES (:n)")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "catalog.sqlite")
    with opened.write() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE numbers (n INTEGER PRIMARY KEY)"))
    yield opened
    opened.close()


@pytest.fixture
def commits(database: Database) -> list[object]:
    committed: list[object] = []
    sqlalchemy.event.listen(database._engine, "commit", committed.append)
    return committed


def numbers(database: Database) -> list[int]:
    with database.read() as connection:
        return [row.n for row in connection.execute(sqlalchemy.text("SELECT n FROM numbers"))]


class Writers:
    """Threads that write a number each, and what they were told."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.outcomes: dict[int, object] = {}
        self.threads: list[threading.Thread] = []

    def add(
        self, number: int, body: Callable[[], object] = lambda: None, *, shares: bool = True
    ) -> None:
        """Starts a thread; one that shares has its turn, or waits for it, when this returns."""
        begun = threading.Event()
        waiting = self._waiting()

        def run() -> None:
            try:
                with self.database.write(shares=shares) as connection:
                    begun.set()
                    connection.execute(INSERT, {"n": number})
                    body()
            except BaseException as error:  # noqa: BLE001  # looked at by the test
                self.outcomes[number] = error
            else:
                self.outcomes[number] = None

        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()
        if shares:
            until(lambda: begun.is_set() or number in self.outcomes or self._waiting() > waiting)

    def _waiting(self) -> int:
        queue = self.database._queue
        assert queue is not None
        return queue._sharing

    def wait_until(self, sharing: int) -> None:
        """Returns once so many wait for their turn."""
        until(lambda: self._waiting() >= sharing)

    def join(self) -> None:
        for thread in self.threads:
            thread.join(600)
            assert not thread.is_alive()


def test_those_who_wait_are_committed_together(database: Database, commits: list[object]) -> None:
    writers, release = Writers(database), threading.Event()
    writers.add(0, release.wait)
    for number in range(1, 6):
        writers.add(number)
    writers.wait_until(5)
    release.set()
    writers.join()
    assert writers.outcomes == dict.fromkeys(range(6))
    assert numbers(database) == list(range(6))
    assert len(commits) == 1


def test_nobody_is_answered_before_the_commit(database: Database) -> None:
    writers, first, second = Writers(database), threading.Event(), threading.Event()
    writers.add(0, first.wait)
    writers.add(1, second.wait)
    writers.wait_until(1)
    first.set()
    writers.threads[0].join(0.05)
    assert not writers.outcomes
    assert numbers(database) == []
    second.set()
    writers.join()
    assert numbers(database) == [0, 1]


def fail() -> None:
    raise InvalidArgumentError("wrong")


@pytest.mark.parametrize("failing", [{0}, {1}, {3}, {0, 1}, {2, 3}, {0, 1, 2}, {0, 1, 2, 3}])
def test_a_writer_that_raises_undoes_its_own_work_alone(
    database: Database, failing: set[int]
) -> None:
    writers, release = Writers(database), threading.Event()

    def begin() -> None:
        release.wait()
        if 0 in failing:
            fail()

    writers.add(0, begin)
    for number in range(1, 4):
        writers.add(number, fail if number in failing else lambda: None)
    writers.wait_until(3)
    release.set()
    writers.join()
    assert numbers(database) == [n for n in range(4) if n not in failing]
    for number, outcome in writers.outcomes.items():
        assert isinstance(outcome, InvalidArgumentError if number in failing else type(None))


def test_one_that_does_not_share_finds_the_others_committed(
    database: Database, commits: list[object]
) -> None:
    writers, release = Writers(database), threading.Event()
    writers.add(0, release.wait)
    writers.add(1)
    writers.wait_until(1)
    writers.add(2, fail, shares=False)
    release.set()
    writers.join()
    assert numbers(database) == [0, 1]
    assert isinstance(writers.outcomes[2], InvalidArgumentError)
    assert 1 <= len(commits) <= 2


def test_a_commit_that_fails_is_told_to_all(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers, release = Writers(database), threading.Event()
    writers.add(0, release.wait)
    writers.add(1)
    writers.wait_until(1)

    def broken(_connection: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(database._engine.dialect, "do_commit", broken)
    release.set()
    writers.join()
    monkeypatch.undo()
    assert [type(outcome) for outcome in writers.outcomes.values()] == [StorageError] * 2
    assert numbers(database) == []
    with database.write(shares=True) as connection:
        connection.execute(INSERT, {"n": 7})
    assert numbers(database) == [7]


def test_a_transaction_that_the_database_undid_is_no_success(database: Database) -> None:
    """As SQLite does on a full disk: committing it afterwards would quietly commit nothing."""
    writers, release = Writers(database), threading.Event()

    def undone() -> None:
        queue = database._queue
        assert queue is not None
        assert queue._group is not None
        raw = queue._group.connection.connection.dbapi_connection
        assert isinstance(raw, sqlite3.Connection)
        raw.execute("ROLLBACK")
        raise sqlite3.OperationalError("database or disk is full")

    writers.add(0, release.wait)
    writers.add(1, undone)
    writers.wait_until(1)
    release.set()
    writers.join()
    assert all(outcome is not None for outcome in writers.outcomes.values())
    assert numbers(database) == []
    with database.write() as connection:
        connection.execute(INSERT, {"n": 7})
    assert numbers(database) == [7]


def test_a_turn_that_does_not_come_in_time_is_refused(database: Database) -> None:
    writers, release = Writers(database), threading.Event()
    inside = threading.Event()

    def hold() -> None:
        inside.set()
        release.wait()

    writers.add(0, hold)
    inside.wait(600)
    with pytest.raises(ServiceUnavailableError), database.write(wait_seconds=0.01):
        raise AssertionError
    release.set()
    writers.join()


def test_a_trial_sees_what_shared_and_leaves_nothing(database: Database) -> None:
    writers, release = Writers(database), threading.Event()
    writers.add(0, release.wait)
    writers.add(1)
    writers.wait_until(1)
    release.set()
    with database.trial() as connection:
        connection.execute(INSERT, {"n": 9})
    writers.join()
    assert numbers(database) == [0, 1]


def test_many_writers_leave_exactly_what_they_were_told(database: Database) -> None:
    writers = Writers(database)
    for number in range(40):
        writers.add(number, fail if number % 5 == 0 else lambda: None, shares=number % 3 != 0)
    writers.join()
    done = sorted(n for n, outcome in writers.outcomes.items() if outcome is None)
    assert numbers(database) == done == [n for n in range(40) if n % 5]
