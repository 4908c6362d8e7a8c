"""``/readyz``: only a server that can serve is ready, and appends fail where nothing could be found again."""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import fletching
from fletching.errors import FletchingError
from fletching.objects.store import IDENTITY_KEY


def ready(url: str) -> int:
    try:
        with urllib.request.urlopen(f"{url}/readyz") as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_a_server_whose_catalog_or_store_is_gone_is_not_ready(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    options = {"access_keys": {"i": "s"}, "access_log": False}
    with (
        fletching.serve(folder, **options) as server,  # type: ignore[arg-type]  # options of two kinds
        fletching.connect(
            server.url, project="demo", access_id="i", access_key="s", retry={"budget_seconds": 0.5}
        ) as client,
    ):
        table = client.create_table("t", "id BIGINT")
        table.append([{"id": 1}])
        assert ready(server.url) == 200
        for name in ("catalog.sqlite", f"objects/{IDENTITY_KEY}"):
            (folder / name).rename(tmp_path / "kept")
            assert ready(server.url) == 503
            if name == "catalog.sqlite":
                with pytest.raises(FletchingError):
                    table.append([{"id": 2}])
                shutil.copy(tmp_path / "kept", folder / name)
                assert ready(server.url) == 503  # a copy is not what is open
                with pytest.raises(FletchingError):
                    table.append([{"id": 2}])
                (folder / name).unlink()
            (tmp_path / "kept").rename(folder / name)
            assert ready(server.url) == 200
        table.append([{"id": 3}])
        assert sorted(row["id"] for row in table.scan().to_table().to_pylist()) == [1, 3]
