"""Catalog, objects and server key know each other: what does not belong together is not opened."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.engine.conftest import on_both_databases

from fletching.catalog.identity_rows import find_identity, replace_identity
from fletching.engine.access.access_keys import AccessKeys
from fletching.engine.data_folder import DataFolder
from fletching.engine.engine import Engine
from fletching.engine.engine_settings import EngineSettings
from fletching.engine.identity import check_server_key, key_fingerprint
from fletching.errors import FletchingError, IdentityError, StorageError
from fletching.objects.local import LocalStore
from fletching.objects.store import IDENTITY_KEY

SCHEMA = pa.schema([("id", pa.int64())])
FOLDERS = Path(__file__).parent.parent / "catalog" / "folders"


def ids(*values: int) -> Any:
    return pa.record_batch([pa.array(values, pa.int64())], schema=SCHEMA)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but the shared memory of SQLite, which readers make as well."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not path.name.endswith(("-shm", "-wal"))
        and ".staging" not in path.parts
    }


@pytest.fixture
def data(open_house: Any, tmp_path: Path) -> Path:
    """A folder with three rows in it, closed."""
    house = open_house()
    house.create(SCHEMA)
    house.append(ids(1, 2, 3))
    house.engine.close()
    return tmp_path / "data"


def lose_catalog(folder: Path) -> None:
    for path in folder.glob("catalog.sqlite*"):
        path.unlink()


def empty_catalog(folder: Path) -> None:
    lose_catalog(folder)
    (folder / "catalog.sqlite").touch()


def lose_key(folder: Path) -> None:
    (folder / "server.key").unlink()


def change_key(folder: Path) -> None:
    (folder / "server.key").write_bytes(bytes(32))


def lose_objects(folder: Path) -> None:
    shutil.rmtree(folder / "objects")


def foreign_objects(folder: Path) -> None:
    other = folder.parent / "other"
    Engine.open(other).close()
    shutil.copy(other / "objects" / IDENTITY_KEY, folder / "objects" / IDENTITY_KEY)


def foreign_catalog(folder: Path) -> None:
    other = folder.parent / "other"
    Engine.open(other).close()
    lose_catalog(folder)
    shutil.copy(other / "catalog.sqlite", folder / "catalog.sqlite")
    shutil.copy(other / "server.key", folder / "server.key")


def damaged_identity(folder: Path) -> None:
    (folder / "objects" / IDENTITY_KEY).write_bytes(b"{")


FAULTS: list[tuple[Any, str]] = [
    (lose_catalog, r"objects, but no catalog .*restore the catalog"),
    (empty_catalog, r"objects, but no catalog .*restore the catalog"),
    (lose_key, r"server\.key is missing beside its catalog: restore it"),
    (change_key, r"server key is not the one .*restore the server\.key"),
    (lose_objects, r"has no identity and lacks tables/.*check where the objects are"),
    (foreign_objects, r"belong to another catalog: the object store is .*check both"),
    (foreign_catalog, r"belong to another catalog"),
    (damaged_identity, r"identity object .* is damaged: restore it"),
]


@pytest.mark.parametrize(("fault", "message"), FAULTS)
def test_what_does_not_belong_together_is_refused_and_left_alone(
    data: Path, fault: Any, message: str
) -> None:
    fault(data)
    before = tree(data)
    for create in (True, False):
        with pytest.raises(StorageError, match=message) as caught:
            Engine.open(data, create=create)
        assert "fletching adopt" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert tree(data) == before


@pytest.mark.parametrize(("fault", "message"), FAULTS)
def test_a_person_may_mean_it(data: Path, fault: Any, message: str) -> None:
    fault(data)
    with Engine.open(data, adopt=True) as engine:
        engine.ensure_project("p")
    with Engine.open(data) as engine:
        assert "p" in engine.projects()
        engine.collect()
    # objects that the adopted catalog does not know are garbage, but not at once
    if fault in (lose_catalog, empty_catalog, foreign_catalog):
        assert len([name for name in tree(data) if name.endswith(".arrow")]) == 1
        with Engine.open(data, clock=lambda: time.time() + 4000) as engine:
            assert engine.collect().counts() == {"orphan": 1}


def test_a_folder_in_which_nothing_is_becomes_one_only_if_it_may(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"
    with pytest.raises(StorageError, match="no data folder"):
        Engine.open(folder, create=False)
    assert not folder.parent.exists()
    folder.mkdir(parents=True)
    with pytest.raises(StorageError, match="no catalog"):
        Engine.open(folder, create=False)
    assert list(folder.iterdir()) == []
    Engine.open(folder).close()
    Engine.open(folder, create=False).close()
    assert set(tree(folder)) == {"catalog.sqlite", "server.key", f"objects/{IDENTITY_KEY}"}


def test_a_folder_whose_catalog_is_elsewhere_says_so(tmp_path: Path, postgresql: Any) -> None:
    settings = EngineSettings(catalog_url=postgresql.create(migrated=False))
    Engine.open(tmp_path, settings=settings).close()
    before = tree(tmp_path)
    for create in (True, False):
        with pytest.raises(IdentityError, match="FLETCHING_CATALOG"):
            Engine.open(tmp_path, create=create)
    assert tree(tmp_path) == before
    assert "catalog.sqlite" not in before
    Engine.open(tmp_path, settings=settings, create=False).close()


def test_a_second_catalog_over_the_same_objects_is_refused(tmp_path: Path, postgresql: Any) -> None:
    """A staging server that points at the bucket of production, or a new database by a wrong URL."""
    objects = tmp_path / "objects"
    first = EngineSettings(catalog_url=postgresql.create(migrated=False))
    with Engine.open(tmp_path / "a", settings=first, store=LocalStore(objects)) as engine:
        engine.ensure_project("p")
    before = tree(objects)
    for settings in (EngineSettings(catalog_url=postgresql.create(migrated=False)), None):
        with pytest.raises(IdentityError, match="no catalog"):
            Engine.open(tmp_path / "b", settings=settings, store=LocalStore(objects))
    with (
        Engine.open(tmp_path / "c"),
        pytest.raises(IdentityError, match="belong to another catalog"),
    ):
        Engine.open(tmp_path / "c", store=LocalStore(objects))
    assert tree(objects) == before


def test_a_catalog_has_one_place_for_objects_from_its_first_opening_on(
    open_house: Any, tmp_path: Path
) -> None:
    """A server whose prefix is mistyped does not start beside the others, though nothing is there yet."""
    settings = open_house().engine.context.settings
    elsewhere = LocalStore(tmp_path / "typo" / "objects", create=True)
    with pytest.raises(IdentityError, match="has no identity, and that of this catalog has one"):
        Engine.open(tmp_path / "data", settings=settings, store=elsewhere)
    assert not [path for path in (tmp_path / "typo").rglob("*.json") if path.is_file()]


@pytest.mark.parametrize("catalog", ["postgresql"], indirect=True)
def test_servers_that_differ_in_their_key_are_refused(open_house: Any, tmp_path: Path) -> None:
    settings = open_house().engine.context.settings
    with pytest.raises(IdentityError, match=r"server\.key is missing"):
        Engine.open(tmp_path / "b", settings=settings, store=LocalStore(tmp_path / "data/objects"))
    (tmp_path / "b" / "server.key").write_bytes(bytes(32))
    with pytest.raises(IdentityError, match="server key is not the one"):
        Engine.open(tmp_path / "b", settings=settings, store=LocalStore(tmp_path / "data/objects"))
    shutil.copy(tmp_path / "data" / "server.key", tmp_path / "b" / "server.key")
    Engine.open(
        tmp_path / "b", settings=settings, store=LocalStore(tmp_path / "data/objects")
    ).close()


def test_a_server_with_a_key_that_was_changed_seals_nothing_any_more(
    open_house: Any,
) -> None:
    house = open_house()
    house.create(SCHEMA)
    house.append(ids(1))
    kept = house.engine.access_keys.create()
    check_server_key(house.engine.context)
    with house.engine.context.database.write() as connection:
        known = find_identity(connection)
        assert known is not None
        other = key_fingerprint(bytes(range(32)))
        replace_identity(connection, dataclasses.replace(known, key_fingerprint=other))
    changed = pytest.raises(IdentityError, match="was changed, and this process has the old one")
    for seal in (
        lambda: check_server_key(house.engine.context),
        house.engine.access_keys.create,
        lambda: house.engine.access_keys.rotate(kept.access_id),
    ):
        with changed:
            seal()
    # What seals nothing goes on, until it is restarted.
    house.append(ids(2))
    house.engine.access_keys.revoke(kept.access_id)
    assert sorted(house.read()["id"].to_pylist()) == [1, 2]


@pytest.mark.parametrize("revision", sorted(path.stem for path in FOLDERS.glob("*.zip")))
def test_folders_of_earlier_releases_get_an_identity(tmp_path: Path, revision: str) -> None:
    with zipfile.ZipFile(FOLDERS / f"{revision}.zip") as kept:
        kept.extractall(tmp_path)
    Engine.open(tmp_path).close()
    stored = json.loads((tmp_path / "objects" / IDENTITY_KEY).read_bytes())
    with Engine.open(tmp_path) as engine, engine.context.database.read() as connection:
        known = find_identity(connection)
    assert known is not None
    assert known.store_id == stored["store_id"]
    assert known.key_fingerprint
    lose_key(tmp_path)
    with pytest.raises(IdentityError):
        Engine.open(tmp_path)


def test_a_folder_of_an_earlier_release_without_its_objects(tmp_path: Path) -> None:
    with zipfile.ZipFile(FOLDERS / "0001.zip") as kept:
        kept.extractall(tmp_path)
    shutil.rmtree(tmp_path / "objects")
    with pytest.raises(IdentityError, match="lacks tables/"):
        Engine.open(tmp_path)


def test_an_opening_that_was_cut_short_anywhere_is_finished(tmp_path: Path) -> None:
    """What is made first to last: the key, the catalog, its identity, the store's, the key's fingerprint."""
    whole = tmp_path / "whole"
    Engine.open(whole).close()
    with contextlib.closing(sqlite3.connect(whole / "catalog.sqlite")) as catalog:
        catalog.execute("UPDATE store_identity SET key_fingerprint = NULL")
        catalog.commit()
    both = ("server.key", "catalog.sqlite")
    for number, keep in enumerate(
        [(), ("server.key",), ("server.key", "empty"), both, (*both, f"objects/{IDENTITY_KEY}")]
    ):
        folder = tmp_path / str(number)
        (folder / "objects").mkdir(parents=True)
        for name in keep:
            if name == "empty":
                (folder / "catalog.sqlite").touch()
            else:
                shutil.copy(whole / name, folder / name)
        Engine.open(folder).close()
        Engine.open(folder, create=False).close()


# Imports once and forks: the openings begin together when the pipe is closed.
OPEN = """
import os, sys
from fletching.catalog.identity_rows import find_identity, replace_identity
from fletching.engine.data_folder import DataFolder
from fletching.engine.engine import Engine
from fletching.engine.engine_settings import EngineSettings
settings = EngineSettings(catalog_url=sys.argv[2] or None)
start, gate = os.pipe()
for _ in range(4):
    if os.fork() == 0:
        os.close(gate)
        os.read(start, 1)
        with Engine.open(sys.argv[1], settings=settings) as engine:
            engine.ensure_project("p")
            with engine.context.database.read() as connection:
                os.write(1, (find_identity(connection).store_id + "\\n").encode())
        os._exit(0)
os.close(gate)
sys.exit(max(os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(4)))
"""


@on_both_databases
def test_servers_that_start_at_once_on_nothing(
    tmp_path: Path, catalog: str, request: pytest.FixtureRequest
) -> None:
    url = ""
    if catalog == "postgresql":
        url = request.getfixturevalue("postgresql").create(migrated=False)
    run = subprocess.run(
        [sys.executable, "-c", OPEN, str(tmp_path / "data"), url],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    lines = run.stdout.split()
    assert len(lines) == 4
    assert len(set(lines)) == 1


def test_a_catalog_that_is_removed_under_an_open_engine(open_house: Any, tmp_path: Path) -> None:
    house = open_house()
    house.create(SCHEMA)
    house.append(ids(1))
    session = house.session()
    house.stream(session)
    before = house.object_keys()
    kept = tmp_path / "kept.sqlite"
    catalog = tmp_path / "data" / "catalog.sqlite"
    catalog.rename(kept)
    calls: list[Any] = [
        lambda: house.write(ids(2), session),
        lambda: house.append(ids(2)),
        house.describe,
        house.engine.projects,
        house.engine.collect,
    ]
    for replaced in (False, True):
        if replaced:
            shutil.copy(kept, catalog)
        for call in calls:
            with pytest.raises(StorageError, match="removed or replaced") as caught:
                call()
            assert not isinstance(caught.value, IdentityError)
    catalog.unlink()
    assert not catalog.exists()  # nothing made it anew
    assert house.object_keys() == before
    kept.rename(catalog)
    house.write(ids(2), session)
    house.close(session)
    house.commit(session)
    assert house.read()["id"].to_pylist() == [1, 2]


def test_a_store_that_is_exchanged_under_an_open_engine_loses_nothing(
    open_house: Any, tmp_path: Path, clock: Any
) -> None:
    house = open_house(orphan_seconds=10.0)
    info = house.create(SCHEMA)
    store = house.engine.context.store
    key = f"tables/{info.table_id}/somebody-x-0.arrow"
    sink = store.create(key)
    sink.write(b"x")
    sink.commit()
    clock.advance(100)
    other = tmp_path / "other"
    Engine.open(other).close()
    identity = tmp_path / "data" / "objects" / IDENTITY_KEY
    kept = identity.read_bytes()
    identity.unlink()
    with pytest.raises(IdentityError, match="nothing is deleted"):
        house.engine.collect()
    shutil.copy(other / "objects" / IDENTITY_KEY, identity)
    with pytest.raises(IdentityError, match="nothing is deleted"):
        house.engine.collect()
    assert key in house.object_keys()
    identity.write_bytes(kept)
    assert house.engine.collect().counts() == {"orphan": 1}


def test_a_key_that_does_not_decrypt_does_not_shut_out_the_others(
    house: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = house.engine.context.database
    keys = house.engine.access_keys
    mine = keys.create(access_id="mine")
    with monkeypatch.context() as patch:
        # As it was made before the server key was changed.
        patch.setattr("fletching.engine.access.access_keys.check_key", lambda *_: None)
        AccessKeys(database, bytes(32), house.clock).create(access_id="foreign")
    for _ in range(3):
        snapshot = keys.snapshot()
        assert set(snapshot.keys) == {"mine"}
        assert snapshot.keys["mine"].secret == mine.secret
    records = [record for record in caplog.records if "foreign" in record.getMessage()]
    assert len(records) == 1
    listed = {key.access_id: key for key in keys.all_keys()}
    assert listed["foreign"].secret == ""
    assert "does not decrypt" in listed["foreign"].comment
    keys.revoke("foreign")


def test_a_local_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "one" / "data"
    with Engine.open(folder) as engine:
        sink = engine.context.store.create("tables/t/x-1.arrow")
        sink.write(b"x")
        sink.commit()
        engine.ensure_project("p")
        for path in [folder.parent, folder, *folder.rglob("*")]:
            wanted = 0o700 if path.is_dir() else 0o600
            assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_what_earlier_releases_left_open_to_everybody_is_closed(data: Path) -> None:
    (data / "catalog.sqlite").chmod(0o644)
    (data / "objects").chmod(0o755)
    Engine.open(data).close()
    assert stat.S_IMODE((data / "catalog.sqlite").stat().st_mode) == 0o640
    assert stat.S_IMODE((data / "objects").stat().st_mode) == 0o750


def test_locks_of_other_openings_of_this_process_survive_an_opening(data: Path) -> None:
    """Closing any descriptor of a SQLite file drops every lock that the process has on it."""
    with Engine.open(data) as engine, engine.context.database.write():
        other = threading.Thread(target=lambda: _try_open(data))
        other.start()
        other.join()
        script = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
        run = subprocess.run(
            [sys.executable, "-c", script, str(data / "catalog.sqlite")],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "locked" in run.stderr


def _try_open(folder: Path) -> None:
    with contextlib.suppress(FletchingError):
        Engine.open(folder, settings=EngineSettings(busy_timeout_seconds=0.05)).close()


def test_a_truncated_catalog_is_an_error_and_nothing_is_deleted(data: Path) -> None:
    with contextlib.closing(sqlite3.connect(data / "catalog.sqlite")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    lose = data / "catalog.sqlite"
    content = lose.read_bytes()
    objects = tree(data / "objects")
    for length in (1, 100, 4096, 8192, len(content) // 2, len(content) - 4096):
        lose.write_bytes(content[:length])
        with contextlib.suppress(FletchingError), Engine.open(data) as engine:
            engine.collect()
        assert tree(data / "objects") == objects


@pytest.mark.parametrize("part", ["catalog.sqlite", "server.key", "objects"])
def test_a_part_that_goes_away_while_it_is_opened_is_not_made_anew(
    data: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at what is there and the opening, an operator moves it."""
    check = DataFolder.check_complete

    def checked(self: DataFolder, *args: Any, **options: Any) -> None:
        check(self, *args, **options)
        (data / part).rename(data / "away")

    with monkeypatch.context() as patch:
        patch.setattr(DataFolder, "check_complete", checked)
        with pytest.raises(FletchingError):
            Engine.open(data)
    assert not (data / part).exists()
    (data / "away").rename(data / part)
    Engine.open(data).close()
