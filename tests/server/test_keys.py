from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fletching.errors import StorageError, UsageError
from fletching.server.keys import KEY_FILE, StaticKeys, first_key, parse_key


def test_the_first_start_makes_a_key_that_later_starts_find(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"
    access_id, secret, is_new = first_key(folder)
    assert is_new
    assert len(secret) >= 40
    assert first_key(folder) == (access_id, secret, False)
    assert stat.S_IMODE((folder / KEY_FILE).stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == [KEY_FILE]


def test_two_first_starts_at_once_get_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: first_key(tmp_path), range(16)))
    assert len({key[:2] for key in keys}) == 1
    assert sum(key[2] for key in keys) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="cannot be read or written"):
        first_key(tmp_path)


def test_a_file_in_the_folders_place_is_said(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(StorageError, match="cannot be read or written"):
        first_key(tmp_path / "data")


@pytest.mark.parametrize("text", ["", "id", "id:", ":secret"])
def test_what_is_no_key_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(UsageError, match="id:secret"):
        parse_key(text)


def test_a_secret_may_hold_colons() -> None:
    assert parse_key("id:a:b\n") == ("id", "a:b")


@pytest.mark.parametrize("keys", [{}, {"": "s"}, {"a": ""}, {"a:b": "s"}, {"a/b": "s"}])
def test_keys_that_could_not_sign_are_refused(keys: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        StaticKeys(keys)
