"""A served folder, and PyODPS in front of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fletching

SECRET = "a secret of the tests"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder: Path = tmp_path_factory.mktemp("tunnel")
    with fletching.serve(folder, access_keys={"tester": SECRET}, access_log=False) as running:
        yield running


@pytest.fixture(scope="module")
def odps(server: Any) -> Any:
    module = pytest.importorskip("odps")
    return module.ODPS("tester", SECRET, "demo", endpoint=server.url + "/api")
