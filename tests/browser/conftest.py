"""A real server, a real Chromium, and a page that fails where the browser itself complains.

Run by ``make test-browser``. Whatever a page logs as an error, every violation of its policy and every
request to another host fails the test that made it. What a failed test saw lies in build/browser.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import threading
import time
import wave
import zlib
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pytest

import fletching

PICTURES = Path(__file__).parents[2] / "build" / "browser"
NASTY = "<script>document.title='owned'</script>\"'&"
ROWS = 1_000_000
PREFIX = "/data/store"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


def chromium() -> str | None:
    """The browser that the machine has."""
    given = os.environ.get("FLETCHING_TEST_CHROMIUM")
    names = [given] if given else ["chromium", "chromium-browser", "google-chrome"]
    return next((result for name in names if (result := shutil.which(name))), None)


class Running(NamedTuple):
    """A server of its own process."""

    url: str
    access_id: str
    secret: str
    folder: Path

    def connect(self, **options: Any) -> fletching.Client:
        return fletching.connect(
            self.url, access_id=self.access_id, access_key=self.secret, **options
        )


@contextlib.contextmanager
def serving(folder: Path, **environment: str) -> Iterator[Running]:
    command = [sys.executable, "-m", "fletching", "serve", str(folder), "--port", "0", "--json"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **environment, "FLETCHING_DRAIN_IDLE_SECONDS": "0"},
    )
    try:
        assert process.stdout is not None
        report = json.loads(process.stdout.readline())
        yield Running(report["url"], report["access_id"], report["access_key"], folder)
    finally:
        process.terminate()
        process.wait(600)
        assert process.stdout is not None
        process.stdout.close()


def png(width: int, height: int, color: tuple[int, int, int]) -> bytes:
    """A picture of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = b"".join(b"\0" + bytes(color) * width for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def sound() -> bytes:
    sink = io.BytesIO()
    with wave.open(sink, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(8000)
        file.writeframes(bytes(128 + n % 40 for n in range(4000)))
    return sink.getvalue()


SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40" onload="parent.document.title=\'owned\'">'
    "<script>top.document.title='owned'</script><rect width='40' height='40' fill='teal'/></svg>"
)


def filled(client: fletching.Client) -> None:
    """Tables of every kind that a page shows."""
    rng = np.random.default_rng(7)
    ids = np.arange(ROWS)
    rows = pa.table(
        {
            "id": ids,
            "amount": rng.gamma(2.0, 30.0, ROWS).round(2),
            "status": np.array(["new", "paid", "sent", "back"])[ids % 4],
            "day": np.sort(np.array(["2026-01-01", "2026-01-02", "2026-01-03"])[ids % 3]),
        }
    )
    orders = client.create_table(
        "orders",
        rows.drop_columns("day").schema.append(pa.field("day", pa.string())),
        partition_by=["day"],
    )
    for part in range(4):
        orders.append(rows.slice(part * ROWS // 4, ROWS // 4))
    small = pa.table(
        {
            "id": [1, 2, 3],
            "name": [NASTY, "", None],
            "nested": [[1, 2], None, []],
            "data": [b"\0\xff", b"", None],
            "at": pa.array([0, 10**15, None], pa.timestamp("us")),
        }
    )
    table = client.create_table("people", small.schema)
    table.append(small)
    table.append({"id": [4], "name": ["late"]})
    table.delete("id = 2")
    pictures = client.create_table("pictures", "id BIGINT, what STRING, content BLOB")
    kinds = [
        ("a picture", png(60, 40, (40, 120, 200)), "image/png", "blue.png"),
        ("a sound", sound(), "audio/wav", "beep.wav"),
        ("a text", b"words, words", "text/plain", "words.txt"),
        (
            "a page",
            b"<script>document.title='owned'</script><h1>page</h1>",
            "text/html",
            "page.html",
        ),
        ("a drawing", SVG.encode(), "image/svg+xml", "drawing.svg"),
        ("a script", b"document.title='owned'", "text/javascript", "code.js"),
        ("nothing", None, "", ""),
    ]
    blobs = [
        None if data is None else fletching.Blob(data, content_type=media, file_name=name)
        for _, data, media, name in kinds
    ]
    pictures.append(
        {"id": list(range(len(kinds))), "what": [what for what, *_ in kinds], "content": blobs}
    )
    client.create_table("secret_plans", "id BIGINT").append({"id": [1]})


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    if chromium() is None:
        pytest.skip("there is no Chromium here (Debian: apt-get install chromium)")
    with serving(tmp_path_factory.mktemp("browser") / "data") as running:
        with running.connect() as client:
            filled(client)
        yield running


class _Proxy(BaseHTTPRequestHandler):
    """What stands before a service in most places: strips a prefix and says which."""

    protocol_version = "HTTP/1.1"
    target = ""

    def do_GET(self) -> None:
        if not self.path.startswith(PREFIX):
            self.send_error(404)
            return
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length) if length else None
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        headers |= {
            "host": urlsplit(self.target).netloc,
            "x-forwarded-prefix": PREFIX,
            "x-forwarded-host": self.headers["host"],
            "x-forwarded-proto": "http",
        }
        connection = HTTPConnection(urlsplit(self.target).netloc, timeout=600)
        try:
            connection.request(self.command, self.path.removeprefix(PREFIX), body, headers)
            reply = connection.getresponse()
            data = reply.read()
            self.send_response(reply.status)
            for name, value in reply.getheaders():
                if name.lower() not in {
                    "content-length",
                    "transfer-encoding",
                    "connection",
                    "date",
                }:
                    self.send_header(name, value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        finally:
            connection.close()

    do_POST = do_GET  # noqa: N815 - the base class's names
    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="session")
def proxy(server: Running) -> Iterator[str]:
    """The address of the service behind a proxy that adds a prefix."""
    handler = type("Proxy", (_Proxy,), {"target": server.url})
    running = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_address[1]}{PREFIX}"
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture(scope="session")
def engine() -> Iterator[Any]:
    """Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = chromium()
    if path is None:
        pytest.skip("there is no Chromium here (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        result = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield result
        result.close()


class Visitor:
    """A browser with nobody's cookies, and what it complained about."""

    def __init__(self, engine: Any, url: str, **options: Any) -> None:
        self.url = url
        self.context = engine.new_context(**options)
        self.context.set_default_timeout(60_000)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.expected: list[str] = []
        self.context.on("page", self._watch)
        self._watch(self.page)

    def _watch(self, page: Any) -> None:
        page.on("pageerror", lambda error: self.complaints.append(f"script: {error}"))
        page.on("console", self._logged)
        page.on("request", self._requested)

    def _logged(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(f"console: {message.text}")

    def _requested(self, request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in {"http", "https"} and parts.netloc != urlsplit(self.url).netloc:
            self.complaints.append(f"foreign request: {request.url}")

    def expects(self, *parts: str) -> None:
        """Complaints with one of these words belong to the test."""
        self.expected += parts

    def check(self) -> None:
        """Fails with what the browser complained about."""
        result = [
            text for text in self.complaints if not any(part in text for part in self.expected)
        ]
        assert result == []

    def go(self, path: str = "") -> Any:
        return self.page.goto(f"{self.url}/console{path}")

    def sign_in(self, access_id: str, secret: str) -> None:
        self.go("/sign-in")
        self.page.get_by_label("Access id").fill(access_id)
        self.page.get_by_label("Secret").fill(secret)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url("**/tables")

    def picture(self, name: str) -> None:
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


Visit = Callable[..., Visitor]


@pytest.fixture
def visit(engine: Any, server: Running, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """Opens browsers, signed in unless ``signed_in`` says otherwise; checked at the test's end."""
    opened: list[Visitor] = []

    def open_(*, url: str = "", signed_in: bool = True, **options: Any) -> Visitor:
        result = Visitor(engine, url or server.url, **options)
        opened.append(result)
        if signed_in:
            result.sign_in(server.access_id, server.secret)
        return result

    yield open_
    failed = request.session.testsfailed
    for number, visitor in enumerate(opened):
        if failed:
            with contextlib.suppress(Exception):
                visitor.picture(f"last-{request.node.name[:80].replace('/', '-')}-{number}")
        visitor.context.close()
    for visitor in opened:
        visitor.check()


@pytest.fixture
def visitor(visit: Visit) -> Visitor:
    """A browser that is signed in with the first key."""
    return visit()


@pytest.fixture
def limited(server: Running) -> tuple[str, str]:
    """A key that may read one table: id and secret."""
    with fletching.connect(str(server.folder)) as _:
        pass
    from fletching.engine.access.permissions import Grant, Permission
    from fletching.engine.engine import Engine

    with Engine.open(server.folder) as engine:
        key = engine.access_keys.create()
        engine.access_keys.grant(Grant(key.access_id, "demo", "people", Permission.READ))
    deadline = time.monotonic() + 600
    while True:
        try:
            with fletching.connect(
                server.url, access_id=key.access_id, access_key=key.secret
            ) as client:
                client.table("people")
                return key.access_id, key.secret
        except fletching.FletchingError:
            assert time.monotonic() < deadline  # the server looks at its keys every two seconds
            time.sleep(0.1)
