"""A clock that is set back, or was ahead for a while: what was made by it ends, and versions keep their order."""

from __future__ import annotations

import dataclasses
import datetime as dt
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.engine.conftest import House, on_both_databases
from tests.instance_rows import RUNNING

from fletching.catalog.leases import acquire_lease
from fletching.client import CallOptions, Client, Timing
from fletching.client.transports.channel import Channel
from fletching.client.transports.embedded.embedded_transport import EmbeddedTransport
from fletching.engine.engine import Engine
from fletching.engine.presence import DEAD_SECONDS, SILENT_SECONDS
from fletching.engine.query.running_instances import ended_with_its_process
from fletching.engine.upkeep.held_lease import LEASE_SECONDS, hold_lease
from fletching.engine.upkeep.maintenance import last_runs, record_run
from fletching.errors import VersionNotFoundError
from fletching.objects.remote_store import RemoteStore
from fletching.protocol.messages.admin import DescribeTable, ListPartitions
from fletching.protocol.messages.changes import AlterTable, ExpireVersions, ListVersions
from fletching.protocol.messages.requests import GetReadSession

DAY = 86_400.0
BATCH = pa.record_batch({"n": [1]})


def committed(house: House) -> list[int]:
    page = house.engine.call(ListVersions(table=house.table))
    return [info.committed_us for info in reversed(page.versions)]


def at(house: House, moment_us: int) -> int:
    """The version that a moment means."""
    return house.engine.call(DescribeTable(table=house.table, moment_us=moment_us)).version


def silence(presence: Any) -> None:
    """Ends beats as a kill would: the row stays."""
    presence._stop.set()
    presence._thread.join()
    presence._registered = None


# --- versions ---


@on_both_databases
def test_times_of_versions_never_go_back_and_decide_what_a_moment_means(
    house: Any, clock: Any
) -> None:
    house.create(BATCH.schema)
    for step in (10.0, -3600.0, -DAY, 0.0, 2 * DAY, -1.0):
        clock.advance(step)
        house.append(BATCH)
    times = committed(house)
    assert times == sorted(set(times))
    assert times[1] == int((clock.now - 2 * DAY + 1.0 + DAY + 3600.0) * 1e6)
    assert times[2:5] == [times[1] + 1, times[1] + 2, times[1] + 3]
    for version, moment in enumerate(times):
        assert at(house, moment) == version
        if version:
            assert at(house, moment - 1) == version - 1
    assert at(house, times[-1] + 10**15) == 6
    with pytest.raises(VersionNotFoundError):
        at(house, times[0] - 1)


def test_two_openings_with_clocks_an_hour_apart_make_one_history(
    house: Any, clock: Any, tmp_path: Path
) -> None:
    house.create(BATCH.schema)
    with Engine.open(tmp_path / "data", clock=lambda: clock() - 3600.0) as behind:
        other = House(behind, clock)
        for _ in range(3):
            house.append(BATCH)
            other.append(BATCH)
            clock.advance(1.0)
        times = committed(house)
        assert times == sorted(set(times)) == committed(other)
        assert [at(house, each) for each in times] == [at(other, each) for each in times]
        reader = other.open_read()
        assert house.engine.collect().counts() == behind.collect().counts() == {}
        assert house.read_session(reader).num_rows == 6


def test_what_was_written_by_a_clock_set_back_is_not_old_when_it_is_right_again(
    house: Any, clock: Any
) -> None:
    house.create(BATCH.schema, ["day"])
    house.append(BATCH, "day=a")
    house.engine.call(AlterTable(table=house.table, lifecycle_days=7))
    clock.advance(-30 * DAY)
    house.append(BATCH, "day=b")
    house.append(BATCH, "day=a", overwrite=True)
    clock.advance(30 * DAY + 3600.0)
    assert house.engine.collect().counts().keys() == {"write session"}
    assert house.read().num_rows == 2
    assert house.read(version=1).num_rows == 1
    info = house.describe()
    page = house.engine.call(ListPartitions(table=house.table))
    assert {each.modified_at for each in page.partitions} <= {
        time / 1e6 for time in committed(house)
    }
    assert info.modified_at == committed(house)[-1] / 1e6


def test_versions_that_are_still_to_come_end_when_all_are_to_end(house: Any, clock: Any) -> None:
    house.create(BATCH.schema)
    clock.advance(365 * DAY)
    house.append(BATCH)
    clock.advance(-365 * DAY)
    house.append(BATCH, overwrite=True)
    clock.advance(10 * DAY)
    assert at(house, int(clock.now * 1e6)) == 0
    assert "removed segment" not in house.engine.collect().counts()
    day = ExpireVersions(table=house.table, older_than_us=0, age_us=int(DAY * 1e6))
    assert house.engine.call(day).objects == 0  # nobody knows when they were made
    house.engine.call(AlterTable(table=house.table, set_properties={"acid.data.retain.hours": "0"}))
    dry = ExpireVersions(table=house.table, older_than_us=0, age_us=0, dry_run=True)
    assert house.engine.call(dry).objects == 1
    assert house.engine.collect().counts()["removed segment"] == 1
    assert house.engine.call(ListVersions(table=house.table)).oldest_version == 2


@pytest.mark.parametrize("ahead", [100 * DAY, -100 * DAY])
def test_how_long_ago_is_by_the_clock_of_the_service(
    house: Any, clock: Any, tmp_path: Path, ahead: float
) -> None:
    clock.now = time.time() + ahead  # that of the client is the host's
    house.create(BATCH.schema)
    house.append(BATCH)
    house.append(BATCH, overwrite=True)
    transport = EmbeddedTransport(tmp_path / "data", engine=house.engine)
    with Client(Channel(transport, CallOptions(), Timing(), None), "demo") as client:
        table = client.table("t")
        clock.advance(DAY - 1)
        assert table.expire_versions(dt.timedelta(days=1))["oldest_version"] == 0
        clock.advance(2)
        assert table.expire_versions(dt.timedelta(days=1))["oldest_version"] == 2


def test_any_number_is_a_moment(house: Any) -> None:
    house.create(BATCH.schema)
    house.append(BATCH)
    assert at(house, 10**30) == 1
    with pytest.raises(VersionNotFoundError, match="nothing is known of table"):
        at(house, -(10**30))
    every = house.engine.call(ListVersions(table=house.table, before=10**30)).versions
    assert [info.version for info in every] == [1, 0]
    assert house.engine.call(ListVersions(table=house.table, before=-(10**30))).versions == ()
    ages = ExpireVersions(table=house.table, older_than_us=0, age_us=10**30)
    assert house.engine.call(ages).oldest_version == 0


def test_sessions_of_a_clock_that_was_ahead_last_until_they_are_ended(
    house: Any, clock: Any
) -> None:
    house.create(BATCH.schema)
    house.append(BATCH)
    clock.advance(30 * DAY)
    released, refreshed = house.open_read(), house.open_read()
    write = house.session()
    clock.advance(-30 * DAY)
    house.append(BATCH, overwrite=True)
    clock.advance(20 * DAY)
    house.engine.collect()
    assert house.read_session(released).num_rows == 1
    for session, how in ((released, {"release": True}), (refreshed, {"refresh": True})):
        house.engine.call(GetReadSession(table=house.table, session_id=session, **how))
    house.abort(write)
    clock.advance(2 * DAY)
    counts = house.engine.collect().counts()
    assert (counts["read session"], counts["removed segment"]) == (2, 1)


# --- who is at what ---


@on_both_databases
def test_a_lease_of_a_clock_that_was_ahead_ends_like_any_other(house: Any, clock: Any) -> None:
    context = house.engine.context
    with context.database.write() as connection:
        acquire_lease(connection, "work", "dead/1", now=clock() + DAY, seconds=LEASE_SECONDS)
    with hold_lease(context, "work") as lease:
        assert lease is None  # whoever has it may be at it
    clock.advance(LEASE_SECONDS + 1)
    with hold_lease(context, "work") as lease:
        assert lease is not None


def test_a_writer_that_died_while_the_clock_was_ahead_is_dead(
    open_house: Callable[..., House], clock: Any
) -> None:
    obstore = pytest.importorskip("obstore")
    bucket = obstore.store.MemoryStore()
    killed = open_house(store=RemoteStore(bucket)).engine.context
    heir = open_house(store=RemoteStore(bucket)).engine.context
    clock.advance(DAY)
    killed.presence.join("killed", "")
    statement = dataclasses.replace(RUNNING, created_at=clock(), server=killed.store.writer)
    silence(killed.presence)
    clock.advance(-DAY)
    heir.presence.join("heir", "")
    heir.presence.beat()
    assert ended_with_its_process(heir, statement) is statement
    clock.advance(DEAD_SECONDS + 1)
    heir.presence.beat()
    assert ended_with_its_process(heir, statement) is not statement
    clock.advance(SILENT_SECONDS)
    heir.presence.renew()
    open_house(store=RemoteStore(bucket)).engine.collect()
    assert [row.name for row in heir.presence.servers()] == ["heir"]


def test_the_last_run_is_the_last_one(house: Any, clock: Any) -> None:
    context = house.engine.context
    clock.advance(DAY)
    record_run(context, "verification", clock(), "tomorrow's")
    clock.advance(-DAY)
    record_run(context, "verification", clock(), "today's")
    assert last_runs(context)["verification"].summary == "today's"
