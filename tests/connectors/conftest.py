"""A client over HTTP, and one on a folder, for every connector."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fletching
from fletching.client import Client
from fletching.client.addresses import Reopen


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Any]:
    with fletching.serve(tmp_path / "data", port=0, access_keys={"id": "secret"}) as running:
        yield running


@pytest.fixture
def http_client(service: Any) -> Iterator[Client]:
    with fletching.connect(
        service.url, project="demo", access_id="id", access_key="secret"
    ) as client:
        yield client


@pytest.fixture
def open_replies(request: pytest.FixtureRequest, client: Client) -> Callable[[], int]:
    """How many replies with rows the service is sending; none where there is no service."""
    if not hasattr(client.channel.transport, "endpoint"):
        return lambda: 0
    reads = request.getfixturevalue("service").service.reads
    return lambda: int(reads.open)


@pytest.fixture(params=["http", "embedded"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Client]:
    if request.param == "http":
        yield request.getfixturevalue("http_client")
        return
    with fletching.connect(tmp_path / "data", project="demo", create=True) as client:
        yield client


_KILLED = """
import os, sys
from fletching.client.writing.write_session import WriteSession
commit = WriteSession.commit
def killed(self, *args, **options):
    if sys.argv[1] == "after":
        commit(self, *args, **options)
    os._exit(9)
WriteSession.commit = killed
# Rows of one request are committed with it.
from fletching.client.transports.http.http_transport import HttpTransport
from fletching.protocol.messages.requests import AppendRows
write = HttpTransport.write
def killed_write(self, request, *args):
    if not isinstance(request, AppendRows):
        return write(self, request, *args)
    if sys.argv[1] == "after":
        write(self, request, *args)
    os._exit(9)
HttpTransport.write = killed_write
import fletching
table = fletching.connect(sys.argv[2], "demo", access_id="id", access_key="secret").table("t")
"""


@pytest.fixture
def killed_driver(http_client: Client) -> Callable[[str, str], None]:
    """Runs a program over ``table`` in a process that dies at its commit, before or after it."""

    def run(moment: str, program: str) -> None:
        reopen = http_client.channel.reopen
        assert isinstance(reopen, Reopen)
        url = reopen.location
        done = subprocess.run(
            [sys.executable, "-c", _KILLED + program, moment, url], capture_output=True, check=False
        )
        assert done.returncode == 9, done.stderr.decode()

    return run


@pytest.fixture
def open_sessions(tmp_path: Path) -> Callable[[], list[str]]:
    """The read and write sessions of the data folder that have neither ended nor expired."""

    def look() -> list[str]:
        position = f"file:{tmp_path / 'data' / 'catalog.sqlite'}?mode=ro"
        with contextlib.closing(sqlite3.connect(position, uri=True)) as catalog:
            reads = catalog.execute(
                "SELECT 'read ' || id FROM read_sessions WHERE expires_at > ?", (time.time(),)
            )
            writes = catalog.execute(
                "SELECT 'write ' || id FROM write_sessions WHERE ended_at IS NULL AND expires_at > ?",
                (time.time(),),
            )
            return [name for (name,) in [*reads, *writes]]

    return look
