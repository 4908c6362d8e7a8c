"""The engine as a whole: opening, dispatch, projects, tables over other stores, many threads."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.engine.conftest import on_both_databases
from tests.failing_calls import Calls, failing_folder

from fletching.engine import engine as engine_module
from fletching.engine.data_folder import load_server_key
from fletching.engine.engine import Engine
from fletching.engine.engine_settings import EngineSettings
from fletching.errors import NoSuchProjectError, StorageError, UsageError
from fletching.protocol.messages.admin import DescribeTable
from fletching.protocol.messages.requests import ReadTable, WriteTable
from fletching.types import TableName

SCHEMA = pa.schema([("id", pa.int64())])


def ids(*values: int) -> Any:
    return pa.record_batch([pa.array(values, pa.int64())], schema=SCHEMA)


def test_a_folder_can_be_opened_again_and_again(open_house: Any) -> None:
    house = open_house()
    house.create(SCHEMA)
    house.append(ids(1))
    house.engine.close()
    house.engine.close()
    again = open_house()
    assert again.read()["id"].to_pylist() == [1]


def test_what_cannot_be_opened_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the process that tried would be taken for a living writer as long as it runs."""

    def fail(context: Any, *_: object, **__: object) -> None:
        with context.store.create("x"):
            raise StorageError("the disk failed")

    with monkeypatch.context() as patch:
        patch.setattr(engine_module, "match_identity", fail)
        with pytest.raises(StorageError, match="the disk failed"):
            Engine.open(tmp_path / "data")
    staging = tmp_path / "data" / "objects" / ".staging"
    assert [each.name for each in staging.iterdir()] == ["lock"]
    Engine.open(tmp_path / "data").close()


def test_any_single_call_of_the_system_may_fail_while_a_folder_is_made(tmp_path: Path) -> None:
    """The error is ours, nothing is left open, and the next attempt finds nothing in its way."""
    calls = Calls()

    def attempt(number: int | None) -> bool:
        folder = tmp_path / str(number)
        failed = False
        with failing_folder(calls, folder):
            calls.begin(number, "EIO")
            try:
                Engine.open(folder).close()
            except StorageError:
                failed = True
            finally:
                calls.end()
        opened = [entry.resolve() for entry in Path("/proc/self/fd").iterdir()]
        assert not [each for each in opened if each.is_relative_to(folder)]
        if failed:
            Engine.open(folder).close()
        return failed

    assert not attempt(None)
    assert sum(map(attempt, range(len(calls.names)))) > 20


def test_two_engines_share_a_folder(open_house: Any) -> None:
    first, second = open_house(), open_house()
    first.create(SCHEMA)
    session = first.session()
    second.stream(session)
    first.write(ids(1), session)
    second.close(session)
    first.commit(session)
    assert second.read()["id"].to_pylist() == [1]
    second.append(ids(2), overwrite=True)
    assert first.read()["id"].to_pylist() == [2]
    assert second.engine.collect().collected == ()


def test_requests_of_the_wrong_kind(house: Any) -> None:
    write = WriteTable(table=house.table, session_id="s", stream_id="s")
    with pytest.raises(UsageError, match=r"Engine\.call"):
        house.engine.call(write)
    with pytest.raises(UsageError, match=r"Engine\.read"):
        house.engine.read(write)
    house.engine.close()
    for call in (
        lambda: house.engine.call(DescribeTable(table=house.table)),
        lambda: house.engine.read(ReadTable(table=house.table, session_id="s")),
        lambda: house.engine.open_ingest(write),
        house.engine.collect,
        house.engine.verify,
    ):
        with pytest.raises(UsageError, match="closed"):
            call()


def test_projects(open_house: Any) -> None:
    house = open_house(create_projects=False)
    with pytest.raises(NoSuchProjectError):
        house.create(SCHEMA)
    house.engine.ensure_project("Demo")
    house.engine.ensure_project("demo")
    assert house.engine.projects() == ["Demo"]
    house.create(SCHEMA)
    other = TableName("elsewhere", "t")
    with pytest.raises(NoSuchProjectError):
        house.create(SCHEMA, table=other)


def test_the_folder_must_be_usable(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(StorageError):
        Engine.open(file)


def test_the_server_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "server.key"
    keys: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: keys.append(load_server_key(path))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1
    assert len(keys[0]) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert [item.name for item in tmp_path.iterdir()] == ["server.key"]
    path.write_bytes(b"short")
    with pytest.raises(StorageError, match="5 bytes"):
        load_server_key(path)


def test_settings_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="read_session_seconds"):
        EngineSettings(read_session_seconds=-1)


def test_objects_in_an_object_store(open_house: Any) -> None:
    obstore = pytest.importorskip("obstore")
    from fletching.objects.remote_store import RemoteStore

    house = open_house(store=RemoteStore(obstore.store.MemoryStore()))
    house.create(SCHEMA, ["pt"])
    rows = pa.table({"id": pa.array(range(100), pa.int64()), "pt": ["a", "b"] * 50})
    for _ in range(3):
        house.append(rows)
    before = house.read()
    assert before.num_rows == 300
    assert house.engine.compact(house.table, min_segments=2)[0].merged == 6
    assert house.read().equals(before)
    assert [item for item in house.engine.verify() if item.problems] == []
    house.clock.advance(300_000)
    assert house.engine.collect().counts()["removed segment"] == 6
    assert house.read().equals(before)


@on_both_databases
def test_many_writers_and_readers(house: Any) -> None:
    """Eight writers of each kind and readers all the while: no error, no lost row."""
    house.create(SCHEMA)
    failures: list[BaseException] = []
    done = threading.Event()

    def guarded(work: Any) -> Any:
        def run(*arguments: Any) -> None:
            try:
                work(*arguments)
            except BaseException as error:  # noqa: BLE001 - told to the test below
                failures.append(error)

        return run

    @guarded
    def batch(number: int) -> None:
        for step in range(3):
            house.append(ids(number * 1000 + step))

    @guarded
    def streaming(number: int) -> None:
        name = f"w{number}"
        token = house.stream("default", name, exactly_once=True).access_token
        for step in range(3):
            value = 100_000 + number * 1000 + step
            house.write(ids(value), "default", name, row_offset=step, access_token=token)

    @guarded
    def read() -> None:
        seen = 0
        while not done.is_set():
            values = house.read()["id"].to_pylist()
            assert len(values) == len(set(values))
            assert len(values) >= seen
            seen = len(values)
            house.engine.compact(house.table, min_segments=4)

    writers = [
        threading.Thread(target=work, args=(number,))
        for work in (batch, streaming)
        for number in range(8)
    ]
    readers = [threading.Thread(target=read) for _ in range(2)]
    for thread in writers + readers:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()
    assert failures == []
    expected = {kind + n * 1000 + s for kind in (0, 100_000) for n in range(8) for s in range(3)}
    values = house.read()["id"].to_pylist()
    assert sorted(values) == sorted(expected)
    assert [item for item in house.engine.verify() if item.problems] == []


def test_maintenance_runs_and_survives_a_failing_task() -> None:
    from fletching.engine.upkeep.maintenance import Maintenance, Task
    from fletching.errors import StorageError

    ran: list[str] = []
    both = threading.Event()

    def fail() -> None:
        ran.append("failing")
        raise StorageError("not today")

    def crash() -> None:
        raise RuntimeError("a bug")

    def work() -> None:
        ran.append("working")
        if ran.count("working") == 2:
            both.set()

    never: list[int] = []
    maintenance = Maintenance(
        [
            Task("a", fail),
            Task("b", crash),
            Task("c", work),
            Task("d", lambda: never.append(1), every=1000),
        ],
        interval_seconds=0.001,
    )
    assert both.wait(timeout=600)
    maintenance.stop()
    maintenance.stop()
    assert ran[:2] == ["failing", "working"]
    assert never == []
