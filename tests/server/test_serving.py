"""How a service is started: what is said where, and one process or several."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import fletching
from fletching.errors import UsageError
from fletching.server import serving
from fletching.server.server import Server
from fletching.server.server_settings import ServerSettings
from fletching.server.serving import make_server, read_all_settings


def test_storage_and_server_are_told_from_one_set_of_names(tmp_path: Path) -> None:
    path = tmp_path / "fletching.toml"
    path.write_text("catalog_pool = 7\n[server]\nport = 1\nmax_calls = 3\n")
    storage, server = read_all_settings(
        {"folder": tmp_path / "data", "port": 2, "host": None}, path, defaults={"host": "::1"}
    )
    assert (storage.folder, storage.catalog_pool) == (str(tmp_path / "data"), 7)
    # What is given comes before the file, and None is as good as not given.
    assert (server.port, server.max_calls, server.host) == (2, 3, "::1")
    with pytest.raises(UsageError, match="did you mean port"):
        read_all_settings({"prot": 1})


def test_keywords_that_are_not_known_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean objects"):
        fletching.serve(tmp_path / "data", object="s3://a/b")  # type: ignore[call-arg]
    assert not (tmp_path / "data").exists()


def test_several_processes_are_a_server_of_their_own_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[ServerSettings] = []
    monkeypatch.setattr(
        serving, "WorkerServer", lambda _path, _keys, settings, _engine: asked.append(settings)
    )
    settings = ServerSettings(port=0)
    server = make_server(tmp_path / "data", {"id": "key"}, settings)
    assert type(server) is Server
    with server.start():
        assert server.url
    make_server(None, None, dataclasses.replace(settings, workers=2))
    assert [each.workers for each in asked] == [2]
