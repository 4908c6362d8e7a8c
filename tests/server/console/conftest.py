"""A server with a few tables, and what a browser without scripts does with its console."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit

import pyarrow as pa
import pytest
from tests.waiting import until

import fletching
from fletching.engine.access.permissions import Grant, Permission
from fletching.server.server import Server

NASTY = "<script>alert(1)</script>\"'&\x1b[2J\u202e"


class Reply:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.text = response.read().decode()


class Browser:
    """Keeps a cookie, follows nothing by itself."""

    def __init__(self, server: Server) -> None:
        self.server, self.cookie = server, ""

    def __call__(
        self,
        path: str,
        form: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        netloc = urlsplit(self.server.url).netloc
        connection = http.client.HTTPConnection(netloc, timeout=600)
        try:
            sent = dict(headers or {})
            if self.cookie:
                sent.setdefault("cookie", self.cookie)
            if form is not None:
                sent.setdefault("content-type", "application/x-www-form-urlencoded")
                sent.setdefault("origin", f"http://{netloc}")
            connection.request(
                "GET" if form is None else "POST",
                "/console" + path,
                None if form is None else urlencode(form),
                sent,
            )
            reply = Reply(connection.getresponse())
        finally:
            connection.close()
        if reply.headers.get("set-cookie", "").startswith("fletching_console="):
            self.cookie = reply.headers["set-cookie"].partition(";")[0]
        return reply

    def sign_in(self, access_id: str, secret: str) -> Reply:
        return self("/sign-in", {"access_id": access_id, "secret": secret})

    def query(self, text: str, action: str = "run") -> Reply:
        """Runs a statement, and follows to its page until it has ended."""
        made = self("/query", {"csrf": self.csrf, "text": text, "action": action})
        assert made.status == 303, made.text
        path = made.headers["location"].removeprefix("/console")
        while True:
            reply = self(path)
            if "<h2>Running</h2>" not in reply.text:
                return reply

    @property
    def csrf(self) -> str:
        result = re.search(r'name="csrf" value="([0-9a-f]+)"', self("/query").text)
        assert result is not None
        return result[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("console") / "data"
    with fletching.serve(folder, port=0, maintenance=False) as running:
        access_id, secret = running.access_key
        with fletching.connect(running.url, access_id=access_id, access_key=secret) as client:
            rows = {
                "id": range(250),
                "text": [NASTY, "x", "", "x", None, *["x"] * 245],
                "data": [b"\x00\xff", b"", b"", *[b"y"] * 247],
                "nested": [[n] for n in range(250)],
                "day": ["a", "b"] * 125,
            }
            client.create_table("events", pa.table(rows).schema, partition_by=["day"]).append(rows)
            client.create_table("secret_plans", "id BIGINT")
        yield running


@pytest.fixture
def browser(server: Server) -> Browser:
    result = Browser(server)
    assert result.sign_in(*server.access_key).status == 303
    return result


def limited(server: Server) -> tuple[str, str]:
    keys = server.service.engine.access_keys
    key = keys.create()
    keys.grant(Grant(key.access_id, "demo", "events", Permission.READ))
    # The server looks at its keys every two seconds.
    until(lambda: Browser(server).sign_in(key.access_id, key.secret).status == 303, pause=0.1)
    return key.access_id, key.secret


class Pages(Browser):
    """Somebody who may do everything."""

    def data(self, path: str, status: int = 200) -> Any:
        """What a page says as JSON."""
        reply = self(f"{path}{'&' if '?' in path else '?'}format=json")
        assert reply.status == status, reply.text
        return json.loads(reply.text)

    def post(self, path: str, **fields: str) -> Any:
        """Sends a form of the session."""
        return self(path, {"csrf": self.csrf, **fields})


@pytest.fixture(scope="session")
def console_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with a table of two partitions in three versions; no upkeep changes it meanwhile."""
    folder = tmp_path_factory.mktemp("pages") / "data"
    with fletching.serve(folder, port=0, maintenance=False) as running:
        access_id, secret = running.access_key
        with fletching.connect(running.url, access_id=access_id, access_key=secret) as client:
            schema = pa.schema([("id", pa.int64()), ("name", pa.string())])
            table = client.create_table("orders", schema, partition_by=["day", "hh"])
            for day, hh, start in (("a", "1", 0), ("a", "2", 10), ("b", "1", 20)):
                rows = {
                    "id": range(start, start + 10),
                    "name": [f"n{n}" for n in range(start, start + 10)],
                }
                table.append(pa.table(rows, schema), partition=f"day={day},hh={hh}")
            table.delete("id = 3")
        yield running


@pytest.fixture
def pages(console_server: Server) -> Pages:
    result = Pages(console_server)
    assert result.sign_in(*console_server.access_key).status == 303
    return result


ORDERS = "/tables/demo/default/orders"
