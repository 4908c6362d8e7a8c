"""What a clock that is set does to ages: forward it is doubted for a day, back it is believed at once."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.engine.conftest import House, ManualClock, in_a_folder

from fletching.catalog.leases import find_note
from fletching.catalog.writer_rows import known_writers
from fletching.engine.ages import DOUBT_SECONDS, TOLERANCE_SECONDS, AgeClock
from fletching.engine.engine import Engine
from fletching.engine.engine_settings import EngineSettings
from fletching.engine.query.result_segments import ResultSegments
from fletching.errors import ExpiredSessionError, NotFoundError, VersionNotFoundError
from fletching.objects.remote_store import RemoteStore
from fletching.protocol.messages.admin import DropTable
from fletching.protocol.messages.changes import DeleteRows
from fletching.sql.statements.statement_kinds import Namespace
from fletching.types import TableName

DAY = 86_400.0
BATCH = pa.record_batch({"n": [1, 2]})
HERE = Namespace("demo", "default")


class SetClock(ManualClock):
    """A host's clock, which somebody may set, beside the seconds that pass."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = 0.0

    def __call__(self) -> float:
        return self.now + self.ahead

    def steady(self) -> float:
        return self.now - 1_799_000_000.0


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def ages(clock: SetClock) -> AgeClock:
    ages = AgeClock(clock, clock.steady)
    assert ages() == clock()
    return ages


@pytest.fixture
def house(tmp_path: Path, clock: SetClock) -> Iterator[House]:
    settings = EngineSettings(removed_seconds=DAY)
    with Engine.open(
        tmp_path / "data", settings=settings, clock=clock, steady=clock.steady
    ) as engine:
        engine.ensure_project("demo")
        yield House(engine, clock)


# --- the clock of ages ---


def test_time_that_passes_is_believed(ages: AgeClock, clock: SetClock) -> None:
    for _ in range(1000):
        clock.advance(3600.0)
        clock.ahead += 1.0  # the steady clock is a little slow
        assert ages() == clock()


def test_a_clock_set_forward_is_believed_after_a_day(
    ages: AgeClock, clock: SetClock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        clock.ahead = TOLERANCE_SECONDS
        assert ages() == clock()
        clock.ahead += 10 * DAY
        assert ages() == clock() - 10 * DAY
        clock.advance(DOUBT_SECONDS - 1)
        assert ages() == clock() - 10 * DAY
        clock.advance(1)
        assert ages() == clock()
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "the clock was set forward by 864000 s"
    ]


def test_a_clock_set_back_is_believed_at_once(ages: AgeClock, clock: SetClock) -> None:
    clock.ahead = -30 * DAY
    assert ages() == clock()
    clock.ahead = 0.0
    assert ages() == clock() - 30 * DAY


def test_what_was_put_back_is_never_believed(ages: AgeClock, clock: SetClock) -> None:
    clock.ahead = 365 * DAY
    assert ages() == clock.now
    clock.advance(DOUBT_SECONDS - 1)
    clock.ahead = 0.0
    assert ages() == clock.now
    clock.advance(DAY)
    assert ages() == clock.now
    clock.ahead = 365 * DAY  # another time, from the beginning
    assert ages() == clock.now
    clock.ahead = 5 * DAY  # put back in part, which is another time as well
    clock.advance(DOUBT_SECONDS - 1)
    assert ages() == clock.now
    clock.advance(DOUBT_SECONDS)
    assert ages() == clock.now + 5 * DAY


def test_each_time_is_doubted_by_itself(ages: AgeClock, clock: SetClock) -> None:
    """A machine that is paused each night does not keep everything for ever."""
    for night in range(10):
        clock.advance(16 * 3600.0)
        ages()
        clock.ahead += 8 * 3600.0
        ages()
        assert clock() - ages() <= 2 * 8 * 3600.0, night


# --- what is deleted ---


def settled(house: House) -> dict[str, Any]:
    """One of everything that retention takes by its age."""
    house.create(BATCH.schema)
    house.append(BATCH)
    house.engine.call(DeleteRows(table=house.table, where="n = 1", idempotency_key="once"))
    house.append(BATCH, overwrite=True)
    parted = TableName("demo", "parted")
    run(house, "create table parted (n bigint) partitioned by (pt string) lifecycle 7")
    run(house, "insert into parted values (1, 'a')")
    house.append(BATCH, table=house.create(BATCH.schema, table=TableName("demo", "gone")).table)
    house.engine.call(DropTable(table=TableName("demo", "gone")))
    session = house.session()
    house.stream(session)
    house.write(BATCH, session)
    house.close(session)
    ResultSegments(house.engine.context).write(BATCH.schema, iter([BATCH]))
    return {
        "parted": parted,
        "write": session,
        "read": house.open_read(version=1),
        "statement": run(house, "select 1 one"),
    }


def run(house: House, text: str) -> str:
    row = house.engine.instances.run(text, HERE)
    assert row.succeeded, row.result
    return row.id


@in_a_folder
def test_nothing_is_lost_by_a_clock_that_was_a_year_ahead_for_hours(
    house: House, clock: SetClock
) -> None:
    made = settled(house)
    before = house.object_keys()
    clock.ahead = 365 * DAY
    assert house.engine.collect(dry_run=True).collected == ()
    for _ in range(20):
        assert house.engine.collect().collected == ()
        run(house, "select 2 two")  # old statements are forgotten meanwhile
        clock.advance(3600.0)
    assert house.object_keys() == before
    with pytest.raises(ExpiredSessionError):
        house.commit(made["write"])  # nobody can tell who is right
    with pytest.raises(ExpiredSessionError):
        house.read_session(made["read"])
    clock.ahead = 0.0
    assert house.read_session(made["read"])["n"].to_pylist() == [1, 2]
    house.commit(made["write"])
    assert house.read()["n"].to_pylist() == [1, 2, 1, 2]
    house.engine.call(DeleteRows(table=house.table, where="n = 1", idempotency_key="once"))
    assert house.read().num_rows == 4  # it was done before
    assert house.read(version=1)["n"].to_pylist() == [1, 2]
    assert house.read(table=made["parted"]).num_rows == 1
    assert house.engine.instances.get("demo", made["statement"]).succeeded
    assert not any(checked.problems for checked in house.engine.verify())


@in_a_folder
def test_a_clock_that_was_put_right_counts_after_a_day(house: House, clock: SetClock) -> None:
    made = settled(house)
    clock.ahead = 365 * DAY
    assert house.engine.collect().collected == ()
    clock.advance(DOUBT_SECONDS)
    kinds = house.engine.collect().counts()
    assert kinds.keys() >= {
        "read session", "write session", "dropped table", "removed segment", "expired partition",
        "result",
    }  # fmt: skip
    with pytest.raises(VersionNotFoundError):
        house.read(version=1)
    assert house.read(table=made["parted"]).num_rows == 0
    run(house, "select 2 two")
    with pytest.raises(NotFoundError):
        house.engine.instances.get("demo", made["statement"])


@pytest.fixture
def boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What tells one start of the machine from another."""
    path = tmp_path / "boot_id"
    path.write_text("first\n")
    monkeypatch.setattr("fletching.engine.ages._BOOT_ID", path)
    return path


@in_a_folder
def test_a_process_that_starts_meanwhile_doubts_it_as_well(
    boot: Path, house: House, clock: SetClock, tmp_path: Path
) -> None:
    def collected() -> dict[str, int]:
        with Engine.open(tmp_path / "data", clock=clock, steady=clock.steady) as later:
            return later.collect().counts()

    settled(house)
    house.engine.collect()
    clock.ahead = 365 * DAY
    assert collected() == {}
    clock.advance(1800.0)  # in all, and not for each process
    assert collected() == {}
    clock.advance(DOUBT_SECONDS - 1800.0)
    assert "removed segment" in collected()


@in_a_folder
@pytest.mark.parametrize("known", ["another\n", None])
def test_after_a_start_of_the_machine_the_clock_is_believed(
    boot: Path, house: House, clock: SetClock, tmp_path: Path, known: str | None
) -> None:
    settled(house)
    house.engine.collect()
    clock.ahead = 365 * DAY
    boot.unlink()
    if known is not None:
        boot.write_text(known)
    with Engine.open(tmp_path / "data", clock=clock, steady=clock.steady) as later:
        assert "removed segment" in later.collect().counts()


@in_a_folder
def test_a_person_may_say_that_the_clock_is_right(
    boot: Path, house: House, clock: SetClock, tmp_path: Path
) -> None:
    settled(house)
    house.engine.collect()
    clock.ahead = 365 * DAY
    with Engine.open(tmp_path / "data", clock=clock, steady=clock.steady) as later:
        assert later.collect().counts() == {}
        tried = later.collect(dry_run=True, force=True)
        assert "removed segment" in tried.counts()
        assert later.collect(force=True).collected == tried.collected
    with Engine.open(tmp_path / "data", clock=clock, steady=clock.steady) as later:
        assert later.context.age_clock() == clock()


def test_a_clock_that_a_caller_gives_is_believed(
    boot: Path, house: House, clock: SetClock, tmp_path: Path
) -> None:
    house.engine.collect()
    with Engine.open(tmp_path / "data", clock=lambda: clock() + DAY) as other:
        assert other.context.age_clock() == clock() + DAY


def test_what_is_believed_is_kept_when_it_changes(
    boot: Path, house: House, clock: SetClock
) -> None:
    def note() -> str | None:
        with house.engine.context.database.read() as connection:
            return find_note(connection, "clock")

    notes = [note()]
    for ahead in (0.0, 1.0, 40.0, DAY, DAY, 0.0):
        clock.ahead = ahead
        house.engine.collect()
        notes.append(note())
    assert notes[0] is None
    assert notes[1] == notes[2] == notes[6]
    assert notes[4] == notes[5]
    assert len(set(notes)) == 4


@in_a_folder
def test_old_statements_go_also_after_the_clock_was_set_back(house: House, clock: SetClock) -> None:
    run(house, "select 1 one")
    before = house.engine.instances._cleaned_at
    clock.ahead = -30 * DAY
    clock.advance(1000.0)
    run(house, "select 2 two")
    assert house.engine.instances._cleaned_at == before + 1000.0


@in_a_folder
def test_what_nobody_knows_is_not_old_by_a_clock_that_was_set(
    house: House, clock: SetClock, tmp_path: Path
) -> None:
    info = house.create(BATCH.schema)
    house.append(BATCH)
    stray = tmp_path / "data" / "objects" / "tables" / info.table_id / f"{'0' * 12}-1.arrow"
    stray.write_bytes(b"x")
    os.utime(stray, (clock.now, clock.now))
    clock.ahead = 30 * DAY
    assert house.engine.collect().collected == ()
    clock.advance(3600.0)
    assert house.engine.collect().counts() == {"orphan": 1}


def test_in_an_object_store_neither_a_writer_nor_an_object_gets_old_by_it(
    tmp_path: Path, clock: SetClock
) -> None:
    bucket = pytest.importorskip("obstore").store.MemoryStore()

    def opened() -> Engine:
        store = RemoteStore(bucket)
        return Engine.open(tmp_path / "data", clock=clock, steady=clock.steady, store=store)

    with opened() as writing, opened() as collecting:
        writing.ensure_project("demo")
        house = House(writing, clock)
        info = house.create(BATCH.schema)
        house.append(BATCH)
        writer = writing.context.store.writer
        sink = collecting.context.store.create(f"tables/{info.table_id}/{'0' * 12}-1.arrow")
        sink.commit()
        collecting.collect()  # comes upon it
        clock.ahead = 30 * DAY
        assert collecting.collect().collected == ()
        with writing.context.database.read() as connection:
            assert writer in known_writers(connection)
        clock.advance(3600.0)
        assert collecting.collect().counts() == {"orphan": 1}
