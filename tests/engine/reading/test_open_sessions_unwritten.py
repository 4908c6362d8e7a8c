"""While another process holds the catalog's write lock, readers go on; their sessions are written later."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.engine.conftest import House, ManualClock, locked
from tests.waiting import until

from fletching.engine.cache import RecentlyUsed
from fletching.engine.engine import Engine
from fletching.engine.engine_settings import EngineSettings
from fletching.errors import (
    ExpiredSessionError,
    FletchingError,
    NotFoundError,
    OutcomeUnknownError,
    ServiceUnavailableError,
    StorageError,
    StorageFullError,
)
from fletching.protocol.messages.changes import Expired, ExpireVersions, TruncateTable
from fletching.protocol.messages.requests import GetReadSession

DATA = pa.table({"id": pa.array(range(10), pa.int64())})
BUSY = 2.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def house(folder: Path) -> Iterator[House]:
    settings = EngineSettings(create_projects=True, busy_timeout_seconds=BUSY)
    clock = ManualClock()
    with Engine.open(folder, settings=settings, clock=clock) as engine:
        house = House(engine, clock)
        house.create(DATA.schema)
        house.append(DATA)
        yield house


def look(house: House, session: str, **more: Any) -> Any:
    return house.engine.call(GetReadSession(table=house.table, session_id=session, **more))


def written(house: House, session: str) -> bool:
    with house.engine.context.database.read() as connection:
        result = connection.exec_driver_sql(
            "SELECT count(*) FROM read_sessions WHERE id = ?", (session,)
        )
        return bool(result.scalar_one())


def until_written(house: House, *sessions: str) -> None:
    until(lambda: all(written(house, session) for session in sessions))


def pinned(house: House) -> tuple[Any, Any]:
    (table,) = house.engine._reading.pin([(house.table, None)])
    return table, table.session.row.id


def test_versions_that_are_forgotten_by_hand_stay_for_a_statement_that_reads_them(
    house: House,
) -> None:
    table, session = pinned(house)
    assert written(house, session)
    house.engine.call(TruncateTable(table=house.table))
    house.clock.now += 1
    expire = ExpireVersions(table=house.table, older_than_us=int(house.clock() * 1e6))
    expired = house.engine.call(expire)
    assert isinstance(expired, Expired)
    assert expired.objects == 0
    assert house.read_session(session).equals(DATA)
    house.engine._reading.unpin([table])


@pytest.mark.parametrize("at_once", [False, True], ids=["one process", "several processes"])
@pytest.mark.parametrize("failure", [OutcomeUnknownError, StorageError, StorageFullError])
def test_a_catalog_that_fails_when_versions_are_let_go_hears_of_it_later(
    house: House, monkeypatch: pytest.MonkeyPatch, failure: type[FletchingError], at_once: bool
) -> None:
    table, session = pinned(house)
    database = house.engine.context.database
    write = database.write
    failed: list[Any] = []

    def failing(**options: Any) -> Any:
        if failed:
            return write(**options)
        failed.append(options)
        raise failure("the catalog is away")

    if at_once:
        monkeypatch.setattr(house.engine._reading._sessions, "_patience", None)
    monkeypatch.setattr(database, "write", failing)
    house.engine._reading.unpin([table])

    def expires_at() -> float:
        with database.read() as connection:
            result = connection.exec_driver_sql(
                "SELECT expires_at FROM read_sessions WHERE id = ?", (session,)
            )
            return float(result.scalar_one())

    until(lambda: expires_at() == house.clock.now)
    assert failed


def test_sessions_open_are_read_and_refreshed_without_the_lock(house: House, folder: Path) -> None:
    before = house.open_read()
    with locked(folder):
        first, second = house.open_read(), house.open_read()
        assert not written(house, first)
        for session in (before, first, second):
            assert house.read_session(session).equals(DATA)
            expires = look(house, session).expiration_time_ms
            house.clock.now += 10
            assert look(house, session, refresh=True).expiration_time_ms > expires
        # Also when it is not in the cache of live sessions any more.
        house.engine._reading._sessions._sessions = RecentlyUsed(1)
        assert house.read_session(first).equals(DATA)
    until_written(house, first, second)
    expires = look(house, first).expiration_time_ms
    with Engine.open(folder, clock=house.clock) as other:
        stranger = House(other, house.clock)
        assert stranger.read_session(first).equals(DATA)
        # What was refreshed without the lock is known to everybody now.
        until(lambda: look(stranger, before).expiration_time_ms >= expires - 30_000)


def test_opening_does_not_wait_for_the_lock_again_and_again(house: House, folder: Path) -> None:
    with locked(folder):
        house.open_read()
        began = time.monotonic()
        for _ in range(200):
            house.open_read()
        # Far less than waiting a quarter of a second each.
        assert time.monotonic() - began < 200 * 0.25


def test_released_sessions_end_without_the_lock(house: House, folder: Path) -> None:
    with locked(folder):
        session = house.open_read()
        look(house, session, release=True)
        with pytest.raises(ExpiredSessionError):
            house.read_session(session)


def test_an_older_version_is_pinned_under_the_lock_alone(house: House, folder: Path) -> None:
    house.append(DATA)
    with locked(folder), pytest.raises(ServiceUnavailableError):
        house.open_read(version=1)
    house.open_read(version=1)


def test_writing_still_needs_the_lock(house: House, folder: Path) -> None:
    with locked(folder):
        house.open_read()
        with pytest.raises(ServiceUnavailableError):
            house.session()


def test_sessions_that_could_not_be_written_end_with_their_process(
    house: House, folder: Path
) -> None:
    with locked(folder):
        with Engine.open(folder, clock=house.clock) as other:
            session = House(other, house.clock).open_read()
        with pytest.raises(NotFoundError):
            house.read_session(session)
