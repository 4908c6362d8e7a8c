"""Disks that fill up or fail, a locked catalog: clear errors, nothing half-visible, recovery."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.engine.conftest import in_a_folder, on_both_databases

from fletching.engine.engine import Engine
from fletching.errors import FletchingError, ServiceUnavailableError, StorageError, StorageFullError
from fletching.objects.local import LocalStore

SCHEMA = pa.schema([("id", pa.int64())])


def ids(*values: int) -> Any:
    return pa.record_batch([pa.array(values, pa.int64())], schema=SCHEMA)


class FaultyStore(LocalStore):
    """A store whose calls fail from the ``left``-th on, until the fault goes."""

    left: int | None = None
    error: type[FletchingError] = StorageError

    def arrive(self, key: str) -> None:
        if self.left is None:
            return
        self.left -= 1
        if self.left < 0:
            raise self.error("the disk failed", key=key)

    def create(self, key: str) -> Any:
        self.arrive(key)
        sink = super().create(key)
        write_many, commit = sink.write_many, sink.commit

        def faulty_write(buffers: Any) -> None:
            self.arrive(key)
            write_many(buffers)

        def faulty_commit() -> None:
            self.arrive(key)
            commit()

        sink.write_many = faulty_write  # type: ignore[method-assign]  # the fault is put under the sink
        sink.commit = faulty_commit  # type: ignore[method-assign]  # as above
        return sink


@pytest.mark.parametrize(
    ("catalog", "error"),
    [("sqlite", StorageError), ("sqlite", StorageFullError), ("postgresql", StorageError)],
    indirect=["catalog"],
)
@pytest.mark.parametrize("left", range(18))
def test_a_store_that_fails_at_any_call(
    open_house: Any, tmp_path: Path, left: int, error: type[FletchingError]
) -> None:
    store = FaultyStore(tmp_path / "objects")
    house = open_house(store=store)
    house.create(SCHEMA, ["pt"])
    house.append(ids(1), "pt=a")
    before = house.object_keys()
    session = house.session()
    house.stream(session)
    rows = pa.table({"id": pa.array([2, 3], pa.int64()), "pt": ["a", "b"]})
    store.left, store.error = left, error
    try:
        house.write(rows, session)
        failed = False
    except error:
        failed = True
    # Two segments: each created, begun, written, its stream ended, its footer written, committed.
    assert failed == (left < 12)
    store.left = None
    if failed:
        assert house.object_keys() == before
        assert not list((store.root / ".staging").glob("*/[0-9]*"))
        house.write(rows, session)
    house.close(session)
    house.commit(session)
    assert sorted(house.read()["id"].to_pylist()) == [1, 2, 3]
    assert [item for item in house.engine.verify() if item.problems] == []


@in_a_folder
def test_a_locked_catalog_is_a_retryable_error(open_house: Any, tmp_path: Path) -> None:
    house = open_house(busy_timeout_seconds=0.05)
    house.create(SCHEMA)
    house.append(ids(1))
    session = house.session()
    house.stream(session)
    before = house.object_keys()
    other = sqlite3.connect(tmp_path / "data" / "catalog.sqlite", isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        calls: list[tuple[Any, ...]] = [
            (house.write, ids(2), session),
            (house.close, session),
            (house.commit, session),
            (house.abort, session),
            (house.create, SCHEMA),
        ]
        for call, *arguments in calls:
            with pytest.raises(ServiceUnavailableError) as caught:
                call(*arguments)
            assert caught.value.http_status == 503
            assert caught.value.retryable
        assert house.describe().rows == 1  # readers do not wait
        other.execute("ROLLBACK")
    finally:
        other.close()
    assert house.object_keys() == before
    house.write(ids(2), session)
    house.close(session)
    house.commit(session)
    assert house.read()["id"].to_pylist() == [1, 2]


@on_both_databases
@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("key", [(), ("id",)], ids=["rows", "keyed rows"])
@in_a_folder
def test_a_commit_of_which_nobody_knows_the_outcome(
    house: Any,
    clock: Any,
    monkeypatch: pytest.MonkeyPatch,
    key: tuple[str, ...],
    *,
    committed: bool,
) -> None:
    """The objects stay, for the rows may be there; a repetition finds out."""
    house.create(pa.schema([SCHEMA.field(0).with_nullable(not key)]), primary_key=key)
    house.stream("default")
    house.engine.context.presence.ensure()
    house.engine.context.generations.ensure()
    database = house.engine.context.database
    write = database.write

    @contextlib.contextmanager
    def unsure(**options: Any) -> Iterator[Any]:
        if committed:
            with write(**options) as connection:
                yield connection
        else:
            with database.trial() as connection:
                yield connection
        raise StorageError("the connection broke in mid-commit")

    with monkeypatch.context() as patch:
        patch.setattr(database, "write", unsure)
        with pytest.raises(StorageError, match="mid-commit"):
            house.write(ids(1), "default", retry_trace_id="once")
    assert len(house.object_keys()) == 1
    assert house.read().num_rows == (1 if committed else 0)
    assert [item for item in house.engine.verify() if item.problems] == []
    house.write(ids(1), "default", retry_trace_id="once")
    assert house.read()["id"].to_pylist() == [1]
    house.engine.close()
    # in another process's eyes the lost object is old and without an owner
    clock.now = 4_000_000_000.0
    folder = Path(house.engine.context.store.root).parent
    with Engine.open(folder, settings=house.engine.context.settings, clock=clock) as engine:
        engine.collect()
        assert len(list(engine.context.store.list("tables"))) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MB, where whoever runs the tests may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)],
        capture_output=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@in_a_folder
def test_a_full_disk(small_disk: Path, open_house: Any) -> None:
    house = open_house("disk")
    assert house.engine.context.store.root.is_relative_to(small_disk)
    house.create(SCHEMA)
    house.append(ids(*range(1000)))
    written = 1000
    session = house.session()
    house.stream(session)
    rows = ids(*range(50_000))

    def fill() -> None:
        while True:
            house.write(rows, session)

    with pytest.raises(StorageFullError) as caught:
        fill()
    assert caught.value.http_status == 507
    assert not caught.value.retryable
    # less than one write fits now; what was acknowledged is there, in full
    assert house.read().num_rows == written
    assert [item for item in house.engine.verify() if item.problems] == []
    # the catalog itself runs out as well
    ballast = small_disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb") as file:
        while True:
            file.write(b"x" * 4096)
            file.flush()

    def fill_catalog() -> None:
        for number in itertools.count():
            house.stream(session, f"filler-{number}")

    with pytest.raises(StorageFullError):
        fill_catalog()
    # who reads needs no room
    reading = house.open_read()
    assert house.read_session(reading).num_rows == written
    # the fault goes, and so does the trouble
    ballast.unlink()
    house.abort(session)
    house.append(ids(1, 2, 3))
    assert house.read_session(reading).num_rows == written
    assert house.read().num_rows == written + 3
    assert [item for item in house.engine.verify() if item.problems] == []


def test_a_read_only_folder_says_so(small_disk: Path, open_house: Any) -> None:
    house = open_house("disk")
    house.create(SCHEMA)
    house.append(ids(1))
    house.engine.close()
    subprocess.run(["mount", "-o", "remount,ro,size=6m", str(small_disk)], check=True)
    try:
        with pytest.raises(StorageError, match="read-only"):
            Engine.open(small_disk)
    finally:
        subprocess.run(["mount", "-o", "remount,rw,size=6m", str(small_disk)], check=True)
    house = open_house("disk")
    house.append(ids(2))
    assert house.read()["id"].to_pylist() == [1, 2]
