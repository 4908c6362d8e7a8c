"""The server key: made once, durable, private, and refused when it is none."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from fletching.engine.data_folder import load_server_key
from fletching.errors import StorageError
from fletching.settings import KEY_BYTES


def test_it_is_made_once_and_is_the_owner_s(tmp_path: Path) -> None:
    path = tmp_path / "server.key"
    key = load_server_key(path)
    assert len(key) == KEY_BYTES
    assert load_server_key(path) == key == load_server_key(path, create=False)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["server.key"]  # noqa: PTH208 - names alone


def test_of_several_who_make_it_one_does(tmp_path: Path) -> None:
    keys: list[bytes] = []
    path = tmp_path / "server.key"
    threads = [
        threading.Thread(target=lambda: keys.append(load_server_key(path))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
    assert len(keys) == 8
    assert set(keys) == {path.read_bytes()}


@pytest.mark.parametrize("call", ["open", "fsync", "link"])
def test_a_disk_that_fails_leaves_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "server.key"

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(StorageError, match="No space left"):
            load_server_key(path)
    assert list(tmp_path.iterdir()) == []
    assert load_server_key(path) == path.read_bytes()


def test_digits_are_a_key(tmp_path: Path) -> None:
    path = tmp_path / "server.key"
    path.write_text("ab" * KEY_BYTES + "\n")
    assert load_server_key(path) == b"\xab" * KEY_BYTES


@pytest.mark.parametrize("content", [b"", b"x" * (KEY_BYTES - 1), b"zz" * KEY_BYTES, b"x" * 500])
def test_what_is_no_key(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "server.key"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=f"has {len(content)} bytes"):
        load_server_key(path)
    assert path.read_bytes() == content


def test_a_missing_one_is_made_only_if_it_may_be(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="not usable"):
        load_server_key(tmp_path / "server.key", create=False)
    with pytest.raises(StorageError, match="not usable"):
        load_server_key(tmp_path / "none" / "server.key")
    assert not (tmp_path / "server.key").exists()
