"""Who lives, by the catalog's clock; and what the dead held is free for others."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.postgresql import Databases, admin
from tests.seaweedfs import ObjectStorage

from fletching.catalog.instance_rows import InstanceRow, insert_instance
from fletching.catalog.leases import acquire_lease
from fletching.engine.engine import Engine
from fletching.engine.engine_settings import EngineSettings
from fletching.engine.presence import DEAD_SECONDS, SILENT_SECONDS
from fletching.engine.upkeep.held_lease import hold_lease
from fletching.errors import ConflictError, StorageError

Open = Callable[[], Engine]


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


SET_FORWARD = """
CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz VOLATILE LANGUAGE sql
    AS $$ SELECT pg_catalog.clock_timestamp() + interval '40 seconds' $$
"""


def test_servers_that_asked_for_the_time_before_and_after_it_was_set_live_for_each_other(
    postgresql: Databases, s3: ObjectStorage
) -> None:
    url = postgresql.create()
    settings = EngineSettings(catalog_url=url, objects_url=s3.create(), server_key="ab" * 32)
    with admin(url) as database, contextlib.ExitStack() as stack:
        name = database.info.dbname
        database.execute(f"ALTER DATABASE {name} SET search_path = public, pg_catalog")
        first = stack.enter_context(Engine.open(None, settings=settings))
        first.join("first", "")
        database.execute(SET_FORWARD)
        other = stack.enter_context(Engine.open(None, settings=settings))
        assert other.context.clock() > first.context.clock() + DEAD_SECONDS
        other.join("other", "")
        died: list[bool] = []
        other.context.presence.on_death = lambda: died.append(True)
        first.context.presence.beat()
        with hold_lease(first.context, "work") as lease:
            assert lease is not None
            other.context.presence.beat()
            with hold_lease(other.context, "work") as taken:
                assert taken is None
        assert died == []


@pytest.fixture
def open_engine(postgresql: Databases, s3: ObjectStorage, clock: Clock) -> Iterator[Open]:
    settings = EngineSettings(
        catalog_url=postgresql.create(), objects_url=s3.create(), server_key="ab" * 32
    )
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(Engine.open(None, settings=settings, clock=clock))


def silence(engine: Engine) -> None:
    """Ends an engine's beats as a kill would: its row stays."""
    presence: Any = engine.context.presence
    presence._stop.set()
    presence._thread.join()
    presence._registered = None


def test_servers_know_of_each_other_until_they_close(open_engine: Open, clock: Clock) -> None:
    first, other = open_engine(), open_engine()
    first.join("a", "http://a")
    clock.now += 1
    other.join("b", "http://b")
    servers = first.context.presence.servers()
    assert [(row.name, row.url) for row in servers] == [("a", "http://a"), ("b", "http://b")]
    assert servers[0].seen_at == servers[1].seen_at - 1
    assert servers[0].release
    first.context.presence.beat()
    assert first.context.presence.servers()[0].seen_at == clock.now
    other.close()
    assert [row.name for row in first.context.presence.servers()] == ["a"]


def test_an_opening_that_only_looks_is_not_listed(open_engine: Open) -> None:
    engine = open_engine()
    assert engine.context.presence.servers() == []
    engine.context.presence.ensure()
    assert engine.context.presence.servers() == []


def test_the_leases_of_a_killed_server_are_free_within_seconds(
    open_engine: Open, clock: Clock
) -> None:
    killed, heir = open_engine(), open_engine()
    killed.join("killed", "")
    heir.join("heir", "")
    woken: list[bool] = []
    heir.context.presence.on_death = lambda: woken.append(True)
    holder = f"{killed.context.store.writer}/1"
    with heir.context.database.write() as connection:
        # However long it was to last.
        assert acquire_lease(connection, "work", holder, now=clock.now, seconds=1e6) == 1
    silence(killed)
    clock.now += DEAD_SECONDS - 1
    heir.context.presence.beat()
    with hold_lease(heir.context, "work") as lease:
        assert lease is None
    clock.now += 2
    heir.context.presence.beat()
    assert woken == [True]
    with hold_lease(heir.context, "work") as lease:
        assert lease is not None
    # Told once, and its row stays: its objects are not anybody's yet.
    heir.context.presence.beat()
    assert woken == [True]
    assert {row.name for row in heir.context.presence.servers()} == {"killed", "heir"}


def test_one_that_was_only_slow_finds_its_lease_gone_and_its_row_there(
    open_engine: Open, clock: Clock
) -> None:
    slow, other = open_engine(), open_engine()
    slow.join("slow", "")
    other.join("other", "")
    writer = slow.context.store.writer
    with hold_lease(slow.context, "work") as lease:
        assert lease is not None
        clock.now += DEAD_SECONDS + 1
        other.context.presence.beat()
        slow.context.presence.beat()
        with slow.context.database.write() as connection, pytest.raises(ConflictError):
            lease.check(connection)
    assert slow.context.store.writer == writer
    with slow.context.database.write() as connection:
        slow.context.presence.check(connection, [f"tables/x/{writer}-1.arrow"])


def test_one_whose_row_was_removed_is_a_server_again_under_another_id(
    open_engine: Open, clock: Clock
) -> None:
    slow, other = open_engine(), open_engine()
    slow.join("slow", "http://slow")
    before = slow.context.store.writer
    clock.now += SILENT_SECONDS + 1
    other.join("other", "")
    other.collect()
    slow.context.presence.beat()
    rows = {row.name: row for row in other.context.presence.servers()}
    assert rows["slow"].id == slow.context.store.writer != before
    assert rows["slow"].url == "http://slow"


def test_a_statement_of_a_killed_server_has_failed(open_engine: Open, clock: Clock) -> None:
    killed, other = open_engine(), open_engine()
    killed.join("killed", "")
    row = InstanceRow(
        id="20260101000000000gabcdefgh", project_key="demo", owner="", task_name="t",
        statement="select 1", succeeded=False, result="", selection=None, created_at=clock.now,
        ended_at=0.0, server=killed.context.store.writer,
    )  # fmt: skip
    with killed.context.database.write() as connection:
        insert_instance(connection, row)
    silence(killed)
    clock.now += DEAD_SECONDS - 1
    assert other.instances.get("demo", row.id).ended_at == 0
    clock.now += 2
    ended = other.instances.get("demo", row.id)
    assert ended.ended_at
    assert not ended.succeeded
    assert "the server ended before the statement did" in ended.result


def test_what_the_catalog_broke_off_is_done_at_the_next_beat(
    open_engine: Open, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dead are not counted as buried before their leases are free and their statements ended."""
    dead, living = open_engine(), open_engine()
    for engine in (dead, living):
        engine.context.presence.ensure()
    done: list[str] = []
    presence = living.context.presence
    presence.on_death = lambda: done.append("dead")
    silence(dead)
    clock.now += DEAD_SECONDS + 1
    presence.renew()

    def fails(*_: object, **__: object) -> frozenset[str]:
        raise StorageError("the catalog is away")

    with monkeypatch.context() as patch:
        patch.setattr("fletching.engine.presence.silent_writers", fails)
        with pytest.raises(StorageError):
            presence.bury()
    assert done == []
    presence.bury()
    assert done == ["dead"]
    presence.bury()
    assert done == ["dead"]
