"""A data folder: which of its parts are there is known before anything is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from fletching.engine.data_folder import CATALOG_FILE, OBJECTS_FOLDER, SERVER_KEY_FILE, DataFolder
from fletching.engine.engine_settings import EngineSettings
from fletching.engine.identity import StoreLook
from fletching.errors import IdentityError, StorageError, UsageError

NOTHING = StoreLook(None, has_objects=False)


def test_parts_are_in_the_folder_or_where_settings_say(tmp_path: Path) -> None:
    assert DataFolder(tmp_path, EngineSettings()).catalog == tmp_path / CATALOG_FILE
    elsewhere = EngineSettings(
        catalog_url="postgresql://h/d", objects_url="s3://b", server_key="ab" * 32
    )
    folder = DataFolder(None, elsewhere)
    assert folder.catalog == "postgresql://h/d"
    assert folder.server_key() == b"\xab" * 32
    for settings, part in ((EngineSettings(), "catalog"), (EngineSettings(catalog_url="x"), "objects"),
                           (EngineSettings(catalog_url="x", objects_url="y"), "server key")):  # fmt: skip
        with pytest.raises(UsageError, match=part):
            DataFolder(None, settings)


def test_the_folder_is_made_only_if_it_may_be(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with pytest.raises(StorageError, match="no data folder"):
        DataFolder(folder, EngineSettings()).check_usable(create=False)
    assert not folder.exists()
    DataFolder(folder, EngineSettings()).check_usable(create=True)
    assert folder.stat().st_mode & 0o077 == 0
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="is a file"):
        DataFolder(tmp_path / "file", EngineSettings()).check_usable(create=True)


def test_parts_that_are_missing_beside_others(tmp_path: Path) -> None:
    fresh = DataFolder(tmp_path, EngineSettings())
    with pytest.raises(StorageError, match="no catalog"):
        fresh.check_complete(NOTHING, create=False, adopt=False)
    with pytest.raises(IdentityError, match="there are objects, but no catalog"):
        fresh.check_complete(StoreLook(None, has_objects=True), create=True, adopt=False)
    fresh.check_complete(StoreLook(None, has_objects=True), create=True, adopt=True)
    fresh.check_complete(NOTHING, create=True, adopt=False)
    assert list(tmp_path.iterdir()) == []  # nothing is made by looking


def test_what_is_opened_for_reading_makes_nothing(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path, EngineSettings(), read_only=True)
    with pytest.raises(StorageError):
        folder.server_key()
    with pytest.raises(StorageError):
        folder.open_store()
    assert not (tmp_path / OBJECTS_FOLDER).exists()
    assert not (tmp_path / SERVER_KEY_FILE).exists()
    assert folder.look_at_objects(None) == NOTHING


def test_a_key_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="64 hexadecimal"):
        DataFolder(tmp_path, EngineSettings(server_key="short")).server_key()


def test_a_folder_that_another_server_makes_meanwhile_is_none_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    exists = Path.exists

    def made_meanwhile(path: Path) -> bool:
        if path == folder:
            folder.mkdir(exist_ok=True)
        return exists(path)

    monkeypatch.setattr(Path, "exists", made_meanwhile)
    DataFolder(folder, EngineSettings()).check_usable(create=True)
    assert folder.is_dir()
