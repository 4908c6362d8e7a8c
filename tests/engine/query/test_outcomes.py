"""Outcomes of statements: answered for while another process keeps the catalog's lock, and by other engines."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.engine.conftest import House, ManualClock, locked
from tests.instance_rows import ENDED, RUNNING
from tests.waiting import until

from fletching.catalog.instance_rows import InstanceFilter, InstanceRow, insert_instance
from fletching.engine import waiting_rows
from fletching.engine.engine import Engine
from fletching.engine.engine_settings import EngineSettings
from fletching.engine.query.outcomes import Outcomes
from fletching.errors import (
    NoPermissionError,
    NotFoundError,
    ServiceUnavailableError,
    StorageError,
    StorageFullError,
)
from fletching.protocol.messages.requests import CreateReadSession, Request
from fletching.sql.statements.statement_kinds import Namespace

HERE = Namespace("demo", "default")
LONG = "select count(*) from t a, t b, t c, t d where a.n + b.n + c.n + d.n = -1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[House]:
    settings = EngineSettings(create_projects=True, busy_timeout_seconds=1.0)
    with Engine.open(folder, settings=settings) as engine:
        yield House(engine, ManualClock())


@pytest.fixture
def house(folder: Path) -> Iterator[House]:
    with opened(folder) as house:
        house.engine.ensure_project("demo")
        house.create(pa.schema([("n", pa.int64())]))
        house.append(pa.record_batch({"n": range(3000)}))
        yield house


def written(house: House, *ids: str) -> bool:
    with house.engine.context.database.read() as connection:
        result = connection.exec_driver_sql("SELECT id FROM instances")
        return set(ids) <= {row[0] for row in result}


def test_a_select_is_answered_while_somebody_else_writes(house: House, folder: Path) -> None:
    instances = house.engine.instances
    with locked(folder):
        # Whatever waited for the lock would fail, since nobody gives it back before the end.
        rows = [instances.run("select count(*) c from t", HERE, owner="ann") for _ in range(2)]
        for row in rows:
            assert instances.result(row) == '"c"\n"3000"\n'
            assert instances.get("demo", row.id) == row
            with pytest.raises(NotFoundError):
                instances.get("other", row.id)
        # Also of a result that is too large to be kept beside the outcome.
        large = instances.run("select a.n, b.n m from t a, t b where b.n < 100", HERE, owner="ann")
        assert instances.result_rows(large) == 300_000
        assert instances.result(large).count("\n") == 10_001
        rows.append(large)
        listed = instances.list("demo", 10, InstanceFilter(owner="ann", running=False))
        assert {row.id for row in listed} == {row.id for row in rows}
        assert instances.list("demo", 10, InstanceFilter(owner="bob")) == []
        assert instances.list("demo", 10, InstanceFilter(running=True)) == []
        assert not written(house, rows[0].id)
        failed = instances.run("select nothing from t", HERE)
        assert not failed.succeeded
        # What writes has to wait, and says so.
        with pytest.raises(ServiceUnavailableError):
            instances.run("insert into t values (1)", HERE)
    until(lambda: written(house, *(row.id for row in (*rows, failed))))
    with opened(folder) as other:
        assert other.engine.instances.get("demo", rows[0].id).result == rows[0].result


def test_a_statement_that_goes_on_is_answered_for_without_the_lock(
    house: House, folder: Path
) -> None:
    instances = house.engine.instances
    with locked(folder):
        row = instances.run(LONG, HERE, wait_seconds=0)
        assert instances.state(instances.get("demo", row.id)).running
        instances.cancel(row)
        until(lambda: bool(instances.get("demo", row.id).ended_at))
    until(lambda: not instances._outcomes._waiting)  # its beginning may be written before its end
    with opened(folder) as other:
        assert other.engine.instances.cancelled(other.engine.instances.get("demo", row.id))


def test_what_waits_is_written_when_the_engine_is_closed(folder: Path) -> None:
    with opened(folder) as house:
        house.engine.ensure_project("demo")
        with locked(folder):
            row = house.engine.instances.run("select 1", HERE)
        outcomes = house.engine.instances._outcomes
        outcomes.close()
        outcomes.close()
        assert written(house, row.id)


def test_the_end_of_an_instance_follows_its_beginning(house: House, folder: Path) -> None:
    outcomes = Outcomes(house.engine.context.database)
    begun = dataclasses.replace(RUNNING, id="1")
    outcomes.keep(begun, new=True)
    with locked(folder):
        ended = dataclasses.replace(begun, ended_at=2.0, result="x")
        outcomes.keep(ended, new=False)
        assert outcomes.find("demo", "1") == ended
    until(lambda: not outcomes._waiting)
    assert outcomes.find("demo", "1") == ended
    outcomes.close()


def row_of(number: int) -> InstanceRow:
    return dataclasses.replace(ENDED, id=f"i{number}", result="x")


@pytest.mark.parametrize(
    ("wanted", "marker", "ids"),
    [
        (InstanceFilter(), None, ["3", "2", "1"]),
        (InstanceFilter(since=20.0), None, ["3", "2"]),
        (InstanceFilter(until=20.0), None, ["1"]),
        (InstanceFilter(since=20.0, until=20.5), None, ["2"]),
        (InstanceFilter(running=True), None, ["2"]),
        (InstanceFilter(running=False), None, ["3", "1"]),
        (InstanceFilter(owner="bob"), None, ["3"]),
        (InstanceFilter(task_name="other"), None, ["1"]),
        (InstanceFilter(without_kind="MINE"), None, ["3", "2"]),
        (InstanceFilter(), (20.0, "2"), ["1"]),
        (InstanceFilter(), (20.0, "3"), ["2", "1"]),
    ],
)
def test_a_listing_has_rows_before_they_are_written(
    house: House,
    folder: Path,
    wanted: InstanceFilter,
    marker: tuple[float, str] | None,
    ids: list[str],
) -> None:
    rows = (
        dataclasses.replace(ENDED, id="1", created_at=10.0, task_name="other", kind="MINE"),
        dataclasses.replace(RUNNING, id="2", created_at=20.0),
        dataclasses.replace(ENDED, id="3", created_at=30.0, owner="bob"),
    )
    outcomes = Outcomes(house.engine.context.database)
    with locked(folder):
        for row in rows:
            outcomes.keep(row, new=True)
        assert [row.id for row in outcomes.list("demo", 10, wanted, marker)] == ids
        assert outcomes.list("other", 10, wanted, marker) == []
    until(lambda: not outcomes._waiting)
    assert [row.id for row in outcomes.list("demo", 10, wanted, marker)] == ids
    outcomes.close()


def test_a_row_that_a_failed_commit_wrote_all_the_same_is_no_obstacle(
    house: House, folder: Path
) -> None:
    outcomes = Outcomes(house.engine.context.database)
    with house.engine.context.database.write() as connection:
        insert_instance(connection, row_of(1))
    with locked(folder):
        for number in (1, 2):
            outcomes.keep(row_of(number), new=True)
    until(lambda: not outcomes._waiting)
    assert written(house, "i1", "i2")
    outcomes.close()


def test_statements_are_refused_before_too_many_rows_wait(
    house: House, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fletching.engine.query.outcomes.MOST_UNWRITTEN", 1)
    instances = house.engine.instances
    with locked(folder):
        row = instances.run("select 1", HERE)
        with pytest.raises(ServiceUnavailableError, match="wait to be recorded"):
            instances.run("select 2", HERE)
    until(lambda: written(house, row.id))
    until(lambda: not instances._outcomes._waiting)
    assert instances.run("select 3", HERE).succeeded


def test_what_only_looked_never_waits_for_the_disk(
    house: House, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = house.engine.context.database
    writes: list[str] = []
    original = database.write

    def counting(**options: Any) -> Any:
        if options.get("durable", True):
            writes.append(threading.current_thread().name)
        return original(**options)

    instances = house.engine.instances
    instances.run("select 1", HERE)  # which cleans up, once in a while
    monkeypatch.setattr(database, "write", counting)
    for text in ("select count(*) c from t", "select a.n from t a, t b where b.n < 20"):
        row = instances.run(text, HERE)
        assert row.succeeded
        until(lambda id_=row.id: written(house, id_))  # type: ignore[misc]
    # What pins the tables may be lost with the machine: nobody reads them then.
    assert set(writes) == {"fletching-outcomes"}


def test_what_others_answer_for_is_written_before_anybody_hears_of_it(house: House) -> None:
    outcomes = Outcomes(house.engine.context.database, shared=lambda: True)
    outcomes.keep(row_of(1), new=True, soon=True)
    assert written(house, "i1")
    outcomes.close()


def test_many_quick_rows_wait_for_the_disk(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fletching.engine.query.outcomes.MOST_UNWRITTEN", 4)
    monkeypatch.setattr("fletching.engine.waiting_rows._GATHER_SECONDS", 60.0)
    outcomes = Outcomes(house.engine.context.database)
    for number in range(4):
        outcomes.keep(row_of(number), new=True, soon=True)
    assert written(house, "i2", "i3")
    assert not written(house, "i0")
    outcomes.close()
    assert written(house, "i0", "i1")


def test_an_instance_is_cancelled_through_another_engine(house: House, folder: Path) -> None:
    row = house.engine.instances.run(LONG, HERE, wait_seconds=0)
    with opened(folder) as other:
        instances = other.engine.instances
        result = instances.get("demo", row.id)
        assert not result.ended_at
        instances.cancel(result)  # comes back once it has ended
        ended = instances.get("demo", row.id)
        assert ended.ended_at
        assert instances.cancelled(ended)
    assert house.engine.instances.wait("demo", row.id, 10).ended_at


def test_what_may_not_be_read_is_refused_also_to_who_does_not_wait(house: House) -> None:
    instances = house.engine.instances
    assert instances.run("create view v as select n from t", HERE).succeeded

    def refuse_t(request: Request) -> None:
        if isinstance(request, CreateReadSession) and request.table.name == "t":
            raise NoPermissionError("t is not for you")

    for text in ("select * from t", "select * from v"):
        with contextlib.suppress(NoPermissionError):  # if it ends before anybody stops waiting
            row = instances.run(text, HERE, authorize=refuse_t, wait_seconds=0)
            ended = instances.wait("demo", row.id, 30)
            state: Any = instances.state(ended)
            assert state.error[:2] == (403, "NoPermission")


@pytest.mark.parametrize("error", [StorageError("gone"), StorageFullError("full")])
@pytest.mark.parametrize("shared", [False, True])
def test_what_is_done_is_not_told_to_have_failed_because_it_could_not_be_kept(
    house: House, monkeypatch: pytest.MonkeyPatch, error: Exception, shared: bool
) -> None:
    database = house.engine.context.database
    original = database.write
    failing = [True]

    @contextlib.contextmanager
    def write(**options: Any) -> Any:
        with original(**options) as connection:
            yield connection
            if failing and "wait_seconds" in options:
                raise error

    monkeypatch.setattr(waiting_rows, "_FAILURE_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(house.engine.instances._outcomes, "_shared", lambda: shared)
    monkeypatch.setattr(database, "write", write)
    row = house.engine.instances.run("insert into t values (1)", HERE)
    assert row.succeeded
    assert house.engine.instances.get("demo", row.id) == row
    assert not written(house, row.id)
    failing.clear()
    until(lambda: written(house, row.id))
