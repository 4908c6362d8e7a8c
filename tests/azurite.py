"""Azurite, which speaks as Azure's blob storage does, for the tests: from the npm registry, in Node.

``make test-cluster`` installs it into .interop/azurite (``interop/azure/prepare.py``); where it is not there
the tests that want it are skipped. It listens on 127.0.0.1 alone, and sends nothing anywhere.
"""

from __future__ import annotations

import base64
import email.utils
import hmac
import http.client
import select
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

PROGRAM = (
    Path(__file__).resolve().parents[1]
    / ".interop/azurite/node_modules/azurite/dist/src/blob/main.js"
)
CONTAINER = "fletching"
ACCOUNT = "devstoreaccount1"
# The account's well-known key, which Azurite documents.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
START_SECONDS = 120.0


class AzuriteServer:
    """A server with one container, until it is closed.

    Attributes:
        port: where it speaks.
    """

    def __init__(self) -> None:
        """Starts it.

        Raises:
            RuntimeError: it does not start.
        """
        with socket.create_server(("127.0.0.1", 0)) as held:
            self.port = held.getsockname()[1]
        self._folder = tempfile.mkdtemp(prefix="fletching-azurite-")
        self._process = subprocess.Popen(
            [
                "node", str(PROGRAM), "--location", self._folder, "--blobHost", "127.0.0.1",
                "--blobPort", str(self.port), "--disableTelemetry", "--silent", "--skipApiVersionCheck",
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            self._make_container()
        except BaseException:
            self.close()
            raise

    def _make_container(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                status = self._put_container()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("Azurite did not start") from None
                select.select([], [], [], 0.1)
            else:
                if status != http.HTTPStatus.CREATED:
                    raise RuntimeError(f"Azurite made no container: {status}")
                return

    def _put_container(self) -> int:
        headers = {
            "x-ms-date": email.utils.formatdate(usegmt=True),
            "x-ms-version": "2021-08-06",
        }
        lines = ["PUT", *[""] * 11, *(f"{name}:{headers[name]}" for name in sorted(headers))]
        lines += [f"/{ACCOUNT}/{ACCOUNT}/{CONTAINER}", "restype:container"]
        digest = hmac.digest(base64.b64decode(KEY), "\n".join(lines).encode(), "sha256")
        headers["authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        try:
            path = f"/{ACCOUNT}/{CONTAINER}?restype=container"
            connection.request("PUT", path, headers=headers)
            return connection.getresponse().status
        finally:
            connection.close()

    @property
    def environment(self) -> dict[str, str]:
        """What makes ``az://`` mean this server, as variables."""
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": KEY,
            "AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:{self.port}/{ACCOUNT}",
            "AZURE_ALLOW_HTTP": "true",
        }

    def create(self) -> str:
        """The URL of an empty place in the container."""
        return f"az://{CONTAINER}/{uuid.uuid4().hex[:16]}"

    def close(self) -> None:
        """Ends it and removes its data."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture(scope="session")
def _azurite() -> Iterator[AzuriteServer]:
    if not PROGRAM.exists() or shutil.which("node") is None:
        pytest.skip("Azurite is not here: interop/azure/prepare.py installs it where Node is")
    server = AzuriteServer()
    yield server
    server.close()


@pytest.fixture
def azure(_azurite: AzuriteServer, monkeypatch: pytest.MonkeyPatch) -> AzuriteServer:
    """A server that this process's environment leads to: ``azure.create()`` gives a URL."""
    for name, value in _azurite.environment.items():
        monkeypatch.setenv(name, value)
    return _azurite
