"""A service whose object store signs URLs, and the store's own HTTP server, which can misbehave."""

from __future__ import annotations

import dataclasses
import http.server
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import fletching

KEYS = {"tester": "testers-secret"}


@dataclasses.dataclass
class Bucket:
    """The files of a folder by signed URL, as an object store gives them.

    Attributes:
        requests: (key, first byte, last byte) of each range that was asked for.
        spoil: changes (status, body) of a reply.
        signed: how many URLs were signed.
        good_for: how many requests a signature is good for.
    """

    folder: Path
    requests: list[tuple[str, int, int]] = dataclasses.field(default_factory=list)
    spoil: Callable[[int, bytes], tuple[int, bytes]] = lambda status, body: (status, body)
    signed: int = 0
    good_for: int = 1_000_000
    url: str = ""
    _used: dict[str, int] = dataclasses.field(default_factory=dict)

    def sign(self, keys: Sequence[str], seconds: float) -> list[str]:
        assert seconds >= 60
        self.signed += len(keys)
        return [f"{self.url}/{key}?signature={self.signed}&until={time.time()}" for key in keys]

    def answer(self, path: str, wanted: str) -> tuple[int, bytes, str]:
        parts = urllib.parse.urlsplit(path)
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted)
        assert match is not None, wanted
        start, last = int(match[1]), int(match[2])
        self.requests.append((parts.path[1:], start, last))
        self._used[parts.query] = self._used.get(parts.query, 0) + 1
        if self._used[parts.query] > self.good_for:
            return 403, b"<Error>Request has expired</Error>", ""
        data = (self.folder / parts.path[1:]).read_bytes()
        status, body = self.spoil(206, data[start : last + 1])
        return status, body, f"bytes {start}-{last}/{len(data)}"


@pytest.fixture
def bucket(direct_server: Any) -> Iterator[Bucket]:
    """The object store of the server; what was spoilt is right again afterwards."""
    made: Bucket = direct_server.bucket
    yield made
    made.requests.clear()
    made.spoil = lambda status, body: (status, body)
    made.good_for = 1_000_000


@pytest.fixture(scope="session")
def direct_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A service that hands out manifests of reads however small."""
    folder = tmp_path_factory.mktemp("direct")
    with fletching.serve(
        folder, port=0, access_keys=KEYS, direct_least_bytes=0, same_host_reads=False
    ) as server:
        bucket = Bucket(folder / "objects")

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status, body, where = bucket.answer(self.path, self.headers.get("range", ""))
                self.send_response(status)
                if status == 206:
                    self.send_header("content-range", where)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        store = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        store.daemon_threads = True
        bucket.url = f"http://127.0.0.1:{store.server_address[1]}"
        thread = threading.Thread(target=store.serve_forever, daemon=True)
        thread.start()
        server.service.engine.context.store.sign = bucket.sign  # type: ignore[attr-defined]
        server.bucket = bucket  # type: ignore[attr-defined]
        yield server
        store.shutdown()
        store.server_close()
        thread.join(600)


@pytest.fixture
def connect(direct_server: Any, request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Makes clients of a project of the test's own."""
    made: list[fletching.Client] = []

    def connect(**options: Any) -> fletching.Client:
        made.append(
            fletching.connect(
                direct_server.url,
                project=f"d{abs(hash(request.node.name))}",
                access_id="tester",
                access_key=KEYS["tester"],
                create=True,
                retry={"budget_seconds": 2.0},
                **options,
            )
        )
        return made[-1]

    yield connect
    for client in made:
        client.close()
