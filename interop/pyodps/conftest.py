"""A service in a process of its own, and PyODPS connected to it by endpoint and key alone.

These tests run in an environment that has PyODPS and not Fletching; the service is started with the
project's own ``fletching`` command, which FLETCHING_COMMAND names.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import odps
import pytest
from odps import ODPS, options

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from tests.balancer import Balancer  # noqa: E402  of the standard library alone

COMMAND = os.environ.get("FLETCHING_COMMAND", str(ROOT / ".venv" / "bin" / "fletching"))
VERSION = tuple(int(part) for part in odps.__version__.split(".")[:3])
NEW = VERSION >= (0, 13, 2)
SINCE_0_13 = VERSION >= (0, 13)

needs_new = pytest.mark.skipif(not NEW, reason="block mode came with 0.13.2")
needs_old = pytest.mark.skipif(NEW, reason="odps.apis.storage_api_v2 left in 0.13.2")

SERVERS = "FLETCHING_TEST_SERVERS"

LINE = re.compile(r'"(?P<method>\w+) (?P<path>\S+)" (?P<action>\S+) (?P<status>\d+|-) ')


class Service:
    """A running ``fletching serve``, or several behind a balancer where the environment asks for it."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.log_path = folder.with_suffix(".log")
        self._log = self.log_path.open("a")
        environment = {**os.environ, **{f"FLETCHING_{k.upper()}": v for k, v in settings.items()}}
        count = 1 if "tls_certificate" in settings else int(environment.get(SERVERS, "1"))
        self._balancer: Balancer | None = None
        self._processes: list[subprocess.Popen[str]] = []
        urls = [self._start(environment) for _ in range(count)]
        self.url = urls[0]
        if count > 1:
            self._balancer = Balancer([int(url.rpartition(":")[2]) for url in urls])
            self.url = self._balancer.url
        self.netloc = self.url.split("//")[1]

    def _start(self, environment: dict[str, str]) -> str:
        process = subprocess.Popen(
            [COMMAND, "serve", str(self.folder), "--port", "0", "--access-key", "ak:sk", "--json"],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
        )
        self._processes.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"the service did not start: {self.log_path.read_text()}"
        return str(json.loads(line)["url"])

    def connect(self, access_id: str = "ak", secret: str = "sk", **more: Any) -> ODPS:
        more.setdefault("project", "demo")
        return ODPS(access_id, secret, endpoint=f"{self.url}/api", **more)

    def keys(self, *arguments: str) -> Any:
        """Runs ``fletching keys``."""
        done = subprocess.run(
            [COMMAND, "keys", *arguments, "--folder", str(self.folder)],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return json.loads(done.stdout) if "--json" in arguments else done.stdout

    def requests(self) -> list[dict[str, str]]:
        """What was asked so far, from the access log."""
        self._log.flush()
        return [
            m.groupdict() for m in map(LINE.search, self.log_path.read_text().splitlines()) if m
        ]

    def stop(self) -> None:
        if self._balancer is not None:
            self._balancer.close()
        for process in self._processes:
            process.terminate()
        assert [process.wait(30) for process in self._processes] == [0] * len(self._processes)
        self._log.close()


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    running = Service(
        tmp_path_factory.mktemp("service") / "data",
        drain_idle_seconds="0.05",
        # clients here leave replies half read
        drain_seconds="2",
        key_refresh_seconds="0",
    )
    yield running
    running.stop()


@pytest.fixture(scope="session", autouse=True)
def no_retries(service: Service) -> Iterator[None]:
    """Every answer of the whole suite was final: nothing made a client try again.

    PyODPS retries on 408, 429 and every 5xx; a client that had retried would also have sent a
    request more than once, which shows as such an answer here.
    """
    yield
    again = [
        r for r in service.requests() if r["status"][0] == "5" or r["status"] in {"408", "429", "-"}
    ]
    assert again == []
    assert len(service.requests()) > 100


@pytest.fixture(autouse=True)
def quick_options() -> None:
    options.sql.settings = None
    options.verbose = False


@pytest.fixture
def o(service: Service) -> ODPS:
    return service.connect()


@pytest.fixture
def name() -> str:
    """A table name that nobody used."""
    return f"t_{uuid.uuid4().hex[:12]}"


def wait_until(condition: Any, seconds: float = 10.0) -> None:
    """Waits for another process to notice something."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.05)
