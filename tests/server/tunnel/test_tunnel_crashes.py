"""Killed servers and cut connections during uploads: nothing is lost, and nothing is there twice."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from tests.server.conftest import ACCESS_ID, SECRET, Query, RawClient, Reply
from tests.server.tunnel.conftest import ID_AND_TEXT, Tunnel, records, upserts
from tests.waiting import until

import fletching

LAUNCHER = """
import os, signal, sys
import fletching.server, fletching.engine.query.instances
from fletching import faultpoints
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    folder, access_id, secret, point = line.rstrip("\\n").split("\\t")
    if os.fork():
        continue
    os.environ[faultpoints.VARIABLE] = point
    server = fletching.serve(folder, access_keys={access_id: secret}, access_log=False)
    print(os.getpid(), server.url, flush=True)
    while True:
        signal.pause()
"""
"""Starts servers by forking, so that what they import is imported once."""


@pytest.fixture(scope="module")
def launcher() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", LAUNCHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.communicate()


class Service:
    """A server in a process of its own, which is started again when it was killed."""

    def __init__(self, folder: Path, launcher: subprocess.Popen[str]) -> None:
        self.folder = folder
        self.kills = 0
        self._launcher = launcher
        self._pid: int | None = None

    def start(self, point: str = "") -> None:
        stdin, stdout = self._launcher.stdin, self._launcher.stdout
        assert stdin is not None
        assert stdout is not None
        print(self.folder, ACCESS_ID, SECRET, point, sep="\t", file=stdin, flush=True)
        pid, url = stdout.readline().split()
        self._pid, self.client = int(pid), RawClient(url)

    def stop(self) -> None:
        if self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)
            self._gone()

    def _gone(self) -> None:
        """Waits until the server is no more."""
        assert self._pid is not None
        deadline = time.monotonic() + 600
        with contextlib.suppress(ProcessLookupError):
            while time.monotonic() < deadline:
                os.kill(self._pid, 0)
                time.sleep(0.01)
            raise AssertionError("the server was not killed")

    def send(self, method: str, query: Query, body: bytes, part: str, trace: str) -> Reply:
        """Sends until it is answered, as clients do."""
        headers = {"odps-tunnel-retry-trace-id": trace}
        while True:
            tunnel = Tunnel(self.client, "/projects/demo/tables/t")
            try:
                return tunnel.send(method, query, body, part=part, headers=headers)
            except (OSError, http.client.HTTPException):
                self._gone()
                self.kills += 1
                self.start()

    def done(
        self, method: str, query: Query, body: bytes = b"", *, part: str = "", trace: str
    ) -> Any:
        reply = self.send(method, query, body, part, trace)
        assert reply.status == 200, reply.body
        return reply.json if reply.body else None


def upload(service: Service) -> None:
    session = service.done("POST", {"uploads": 1}, trace="c")["UploadID"]
    for number, rows in enumerate([[(1, "a")], [(2, "b")], [(3, "c")]]):
        query: Query = {"uploadid": session, "blockid": number}
        service.done("PUT", query, records([*rows]), trace=f"b{number}")
    service.done("PUT", {"uploadid": session, "blockid": 1}, records([(4, "d")]), trace="again")
    listed = service.done("GET", {"uploadid": session}, trace="l")["UploadedBlockList"]
    assert [block["BlockID"] for block in listed] == [0, 1, 2]
    assert service.done("POST", {"uploadid": session}, trace="e")["Status"] == "closed"


def stream(service: Service) -> None:
    session = service.done("POST", {}, part="/streams", trace="c")["session_name"]
    for number, row in enumerate([(1, "a"), (4, "d"), (3, "c")]):
        query: Query = {"uploadid": session, "slotid": "0"}
        service.done("PUT", query, records([row]), part="/streams", trace=f"p{number}")


def upsert(service: Service) -> None:
    session = service.done("POST", {"slotnum": 1}, part="/upserts", trace="c")["id"]
    for number, row in enumerate([(1, "a"), (4, "old"), (3, "c"), (4, "d")]):
        query: Query = {"upsertid": session, "bucketid": 0, "slotid": "0"}
        body = upserts([(*row, 85)])
        service.done("PUT", query, body, part="/upserts", trace=f"p{number}")
    end = service.done("POST", {"upsertid": session}, part="/upserts", trace="e")
    assert end["status"] == "committed"


WRITING = ["object.written", "object.durable", "write.staging", "write.staged", "write.accepted"]
COMMITTING = ["commit.begun", "commit.changed", "commit.done"]
CASES: list[tuple[Callable[[Service], None], list[str]]] = [
    (upload, [*(f"{point}:{n}" for point in WRITING for n in (1, 4)), *COMMITTING]),
    (stream, ["stream.created", *(f"{point}:{n}" for point in WRITING for n in (1, 3))]),
    (
        upsert,
        ["stream.created", "stream.closed", *(f"{point}:2" for point in WRITING), *COMMITTING],
    ),
]
EVERY_TIME = {
    ("upload", "write.staged:4"),
    ("stream", "write.accepted:3"),
    ("upsert", "commit.changed"),
}
EXHAUSTIVE = bool(os.environ.get("FLETCHING_TEST_EXHAUSTIVE"))


def parameters() -> Iterator[Any]:
    for scenario, points in CASES:
        for point in points:
            if EXHAUSTIVE or (scenario.__name__, point) in EVERY_TIME:
                yield pytest.param(scenario, point, id=f"{scenario.__name__}-{point}")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("scenario", "point"), list(parameters()))
def test_a_server_that_is_killed(
    tmp_path: Path,
    launcher: subprocess.Popen[str],
    scenario: Callable[[Service], None],
    point: str,
) -> None:
    key = ["id"] if scenario is upsert else []
    with fletching.connect(tmp_path, create=True) as client:
        client.create_table("t", ID_AND_TEXT, primary_key=key)
    service = Service(tmp_path, launcher)
    service.start(point)
    try:
        scenario(service)
        rows = Tunnel(service.client, "/projects/demo/tables/t").rows()
    finally:
        service.stop()
    assert sorted(rows) == [(1, "a"), (3, "c"), (4, "d")]
    assert service.kills == 1, "it never came to the point"


# --- connections that end ------------------------------------------------------------------------


@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_connection_that_ends_in_a_block(
    server: Any, tunnel: Tunnel, part: float, chunked: bool
) -> None:
    session = tunnel.open()
    tunnel.block(session, 0, [(1, "kept")])
    body = records([(number, "cut" * 100) for number in range(2000)])
    query: Query = {"uploadid": session, "blockid": 0}
    client = tunnel.client
    head = client.head("PUT", tunnel.path, query, {}, None if chunked else len(body))
    host, port = client.netloc.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=600) as connection:
        connection.sendall(head)
        sent = body[: int(len(body) * part)]
        if chunked:
            connection.sendall(b"%x\r\n%s\r\n" % (len(sent), sent) if sent else b"")
        else:
            connection.sendall(sent)
    assert tunnel.blocks(session) == [0]
    until(lambda: server.service.memory.held == 0)
    tunnel.block(session, 0, [(2, "whole")])
    tunnel.commit(session)
    assert tunnel.rows() == [(2, "whole")]


def test_a_chunked_block_that_ends_before_its_records_do(tunnel: Tunnel) -> None:
    """The HTTP body is whole, its content is not: only the content can tell."""
    session = tunnel.open()
    body = records([(1, "a"), (2, "b")])
    for end in (0, 8, len(body) - 1):
        refused = tunnel.client.request(
            "PUT",
            tunnel.path,
            {"uploadid": session, "blockid": 0},
            iter([body[:end]] if end else []),
        )
        assert refused.status == 400
    assert tunnel.blocks(session) == []


def sent(connection: socket.socket, part: bytes) -> None:
    connection.sendall(b"%x\r\n%s\r\n" % (len(part), part) if part else b"0\r\n\r\n")


def test_the_block_that_began_last_counts(server: Any, tunnel: Tunnel) -> None:
    """A client gave one up, and sent it again: the first may still end, and must not count."""
    session = tunnel.open()
    client = tunnel.client
    query: Query = {"uploadid": session, "blockid": 0}
    slow = records([(number, "slow") for number in range(100)])
    host, port = client.netloc.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=600) as connection:
        connection.sendall(client.head("PUT", tunnel.path, query, {}, None))
        sent(connection, slow[:100])
        until(lambda: bodies_begun(server, session) == 1)
        tunnel.block(session, 0, [(1, "again")])
        sent(connection, slow[100:])
        sent(connection, b"")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    tunnel.commit(session)
    assert tunnel.rows() == [(1, "again")]


def bodies_begun(server: Any, session: str) -> int:
    """How many bodies were begun in a session."""
    database = server.service.engine.context.database
    with database.read() as connection:
        text = (
            "select count(*) from write_streams s join write_sessions w on w.pk = s.session_pk"
            " where w.id = :id"
        )
        return int(connection.execute(sqlalchemy.text(text), {"id": session}).scalar() or 0)


@pytest.mark.parametrize("arrow", [False, True])
def test_a_reader_that_leaves_holds_nothing(server: Any, tunnel: Tunnel, arrow: bool) -> None:
    session = tunnel.open()
    for block in range(4):
        tunnel.block(session, block, [(number, "text" * 100) for number in range(10_000)])
    tunnel.commit(session)
    query: Query = {"data": "", "rowrange": "(0,40000)"}
    query["downloadid"] = tunnel.download()["DownloadID"]
    if arrow:
        query["arrow"] = ""
    client = tunnel.client
    host, port = client.netloc.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=600) as connection:
        connection.sendall(client.head("GET", tunnel.path, query, {}, 0))
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        assert server.service.reads.open == 1
    until(lambda: server.service.reads.open == 0)


# --- several at once -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["upload", "overwrite", "upsert"])
def test_clients_that_commit_at_once(tmp_path: Path, kind: str) -> None:
    """Through two servers, while another still sends a block: all are told the same, rows are there once."""
    with fletching.connect(tmp_path, create=True) as made:
        made.create_table("t", ID_AND_TEXT, primary_key=["id"] if kind == "upsert" else [])
    keys = {ACCESS_ID: SECRET}
    path = "/projects/demo/tables/t"
    with (
        fletching.serve(tmp_path, access_keys=keys, access_log=False) as left,
        fletching.serve(tmp_path, access_keys=keys, access_log=False) as right,
    ):
        tunnels = [Tunnel(RawClient(server.url), path) for server in (left, right)]
        first = tunnels[0]
        if kind == "upsert":
            session = str(first.done("POST", {"slotnum": 1}, part="/upserts")["id"])
            named: Query = {"upsertid": session}
            part, late = "/upserts", {**named, "bucketid": 0, "slotid": "0"}
            first.done("PUT", late, upserts([(1, "a", 85), (2, "b", 85)]), part=part)
            body = upserts([(3, "late", 85)])
        else:
            session = first.open(overwrite=str(kind == "overwrite").lower())
            named = {"uploadid": session}
            part, late = "", {**named, "blockid": 2}
            for block, row in enumerate([(1, "a"), (2, "b")]):
                first.block(session, block, [row])
            body = records([(3, "late")])

        def commit(number: int) -> Reply:
            return tunnels[number % 2].send("POST", named, part=part)

        with concurrent.futures.ThreadPoolExecutor(7) as pool:
            writing = pool.submit(tunnels[1].send, "PUT", late, body, part=part)
            replies = list(pool.map(commit, range(6)))
            taken = writing.result()
        assert {reply.status for reply in replies} == {200}, [reply.body for reply in replies]
        assert taken.status in {200, 409}
        whole = [(1, "a"), (2, "b")]
        rows = sorted(first.rows())
        # A block that was answered in time is there; one that was refused is not.
        assert rows == whole or (taken.status == 200 and rows == [*whole, (3, "late")])
        assert commit(1).status == 200
        assert sorted(tunnels[1].rows()) == rows
