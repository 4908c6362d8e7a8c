"""Old copies of a catalog, and two copies of one: what they do not know of is not deleted."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.engine.conftest import in_a_folder, on_both_databases

from fletching.engine import generations
from fletching.engine.engine import Engine
from fletching.engine.generations import PREFIX, Generations

SCHEMA = pa.schema([("id", pa.int64())])


def ids(*values: int) -> Any:
    return pa.record_batch([pa.array(values, pa.int64())], schema=SCHEMA)


def kept(store: Any) -> list[str]:
    return sorted(info.key.rpartition("/")[2].lstrip("0") for info in store.list(PREFIX))


@on_both_databases
def test_each_opening_begins_one_before_its_first_object(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = house.engine.context
    house.create(SCHEMA)
    assert kept(context.store) == []
    house.append(ids(1))
    house.append(ids(2))
    assert kept(context.store) == ["1"]
    Generations(context.database, context.store).ensure()
    assert kept(context.store) == ["2"]
    assert context.generations.conflict() == ""
    monkeypatch.setattr(generations, "ROTATE_SECONDS", 0.0)
    house.append(ids(3))
    assert kept(context.store) == ["3"]


@on_both_databases
def test_many_at_once_do_not_take_each_other_for_another_catalog(house: Any) -> None:
    context = house.engine.context
    wrong: list[str] = []

    def opened() -> None:
        for _ in range(5):
            each = Generations(context.database, context.store)
            each.ensure()
            wrong.append(each.conflict())

    threads = [threading.Thread(target=opened) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [""] * 20


def test_who_died_while_it_began_one_is_no_conflict(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.create(SCHEMA)
    house.append(ids(1))
    context = house.engine.context
    dying = Generations(context.database, context.store)
    monkeypatch.setattr(dying, "_create", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        dying.ensure()
    assert kept(context.store) == ["1"]
    assert context.generations.conflict() == ""
    Generations(context.database, context.store).ensure()
    assert kept(context.store) == ["3"]


@pytest.fixture
def folder(tmp_path: Path, empty_folder: Path) -> Path:
    return Path(shutil.copytree(empty_folder, tmp_path / "data"))


def copy_of(folder: Path, to: Path) -> Path:
    """A copy of a folder's catalog, as a backup makes it."""
    with sqlite3.connect(folder / "catalog.sqlite") as source, sqlite3.connect(to) as target:
        source.backup(target)
    source.close()
    target.close()
    return to


def put_back(folder: Path, copy: Path) -> None:
    for path in folder.glob("catalog.sqlite*"):
        path.unlink()
    shutil.copy(copy, folder / "catalog.sqlite")


class Writer:
    """A process that writes to a folder and is killed, as far as others can see."""

    def __init__(self, house: type, folder: Path) -> None:
        self.engine = Engine.open(folder)
        self.house = house(self.engine, None)
        self.store: Any = self.engine.context.store

    def killed(self) -> None:
        # Its lock is free and its staging folder there: nobody closed it.
        os.close(self.store._registration)
        self.store._registration = None
        self.engine.close()


def objects(folder: Path) -> int:
    return len(list((folder / "objects" / "tables").rglob("*.arrow")))


@in_a_folder
def test_an_old_copy_of_a_catalog_deletes_nothing_that_it_does_not_know(
    folder: Path, tmp_path: Path, house: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Also not at once, when it is opened after the writers have died."""
    first = Writer(type(house), folder)
    first.house.create(SCHEMA)
    for number in range(4):
        first.house.append(ids(number))
    first.engine.close()
    old = copy_of(folder, tmp_path / "old.sqlite")
    second = Writer(type(house), folder)
    second.house.append(ids(9))
    second.killed()
    newest = copy_of(folder, tmp_path / "newest.sqlite")
    put_back(folder, old)
    with Engine.open(folder) as engine:
        assert objects(folder) == 5
        assert "which another catalog has begun" in caplog.text
        report = engine.collect()
        assert "it is an old copy" in report.refused
        assert "it is an old copy" in engine.collect(dry_run=True).refused
        last = engine.operations.last_run("retention")
        assert last is not None
        assert "old copy" in last.problems[0]
    put_back(folder, newest)
    with Engine.open(folder) as engine:
        house.engine, kept_engine = engine, house.engine
        assert sorted(house.read()["id"].to_pylist()) == [0, 1, 2, 3, 9]
        house.engine = kept_engine
        assert engine.context.generations.conflict() == ""
    # A person says that the old one is right: what it does not know goes, and it is the newest.
    put_back(folder, old)
    for path in (folder / "objects" / "tables").rglob("*.arrow"):
        os.utime(path, (0, 0))
    with Engine.open(folder) as engine:
        assert engine.collect().refused
        report = engine.collect(force=True)
        assert [item.kind for item in report.collected] == ["orphan"]
        assert engine.context.generations.conflict() == ""
    assert objects(folder) == 4


@in_a_folder
def test_of_two_copies_in_use_neither_deletes(folder: Path, tmp_path: Path, house: Any) -> None:
    first = Writer(type(house), folder)
    first.house.create(SCHEMA)
    first.house.append(ids(1))
    copied = copy_of(folder, tmp_path / "catalog.sqlite")
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    shutil.copy(copied, other / "catalog.sqlite")
    shutil.copy(folder / "server.key", other / "server.key")
    (other / "objects").symlink_to(folder / "objects")
    second = Writer(type(house), other)
    second.house.append(ids(2))
    assert second.engine.context.generations.conflict() == ""
    assert first.engine.context.generations.conflict() != ""
    # The first one writes again after a while, and what it writes is safe from the second.
    first.engine.context.generations._begun_at = None
    first.house.append(ids(3))
    assert second.engine.context.generations.conflict() != ""
    first.killed()
    assert second.engine.collect().refused
    assert objects(folder) == 3
    # Said of one of them, it is the only one again.
    second.engine.close()
    with Engine.open(other, adopt=True) as engine:
        assert engine.context.generations.conflict() == ""
