"""RFC 9110 and 9112 over real sockets: upgrades, hosts, codings, pipelines, half-closes, slow peers."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from typing import Any

import pytest
from tests.server.conftest import (
    ACCESS_ID,
    SECRET,
    RawClient,
    Run,
    RunningApp,
    Start,
    read_all,
    read_reply,
)
from tests.server.http.test_connection import echo, refuse, request
from tests.waiting import until

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"


def statuses(received: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


def gone(running: RunningApp, seconds: float = 60.0) -> None:
    """Waits until no connection is left."""
    until(lambda: not running.server.server_state.connections, seconds)


def test_the_body_behind_an_upgrade_is_a_body(run_app: Run) -> None:
    """What Java's client sends with its first request."""
    head = (
        b"POST /up HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n"
        b"http2-settings: AAMAAABkAAQAAP__\r\ncontent-length: %d\r\n\r\n" % len(SMUGGLED)
    )
    for cut in (len(head) + len(SMUGGLED), len(head), 30, len(head) + 7):
        whole = head + SMUGGLED + request(b"abc", path=b"/next")
        with run_app(echo).connect() as connection:
            connection.sendall(whole[:cut])
            if cut < len(head):
                time.sleep(0.02)
            connection.sendall(whole[cut:])
            connection.shutdown(socket.SHUT_WR)
            received = read_all(connection)
        bodies = [json.loads(result) for result in re.findall(rb"\{[^}]*\}", received)]
        assert [(b["path"], b["length"]) for b in bodies] == [("/up", len(SMUGGLED)), ("/next", 3)]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: \xff\xfe\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a/b\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n", 501),
        (b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, gzip\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 5\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: +5\r\n", 400),
        (b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n", 400),
        (b"GET / HTTP/1.1\nhost: x\n", 400),
        (b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n", 501),
    ],
    ids=lambda value: str(value)[:70],
)  # fmt: skip
def test_a_head_that_leaves_its_end_open_is_refused_and_nothing_behind_it_is_answered(
    run_app: Run, head: bytes, status: int
) -> None:
    with run_app(echo).connect() as connection:
        connection.sendall(head + b"\r\n5\r\nhello\r\n0\r\n\r\n" + SMUGGLED)
        received = read_all(connection)
    assert statuses(received) == [status]
    assert b"connection: close" in received
    assert b"smuggled" not in received


@pytest.mark.parametrize("body", [b"", b"abc"])
@pytest.mark.parametrize("chunked", [False, True])
def test_who_shuts_its_side_after_asking_is_answered(
    run_app: Run, body: bytes, chunked: bool
) -> None:
    running = run_app(echo)
    for _ in range(60):
        with running.connect() as connection:
            connection.sendall(request(body, chunked=chunked))
            connection.shutdown(socket.SHUT_WR)
            assert statuses(read_all(connection)) == [200]
    gone(running)


def test_a_half_close_after_pipelined_requests_answers_them_all(run_app: Run) -> None:
    running = run_app(echo)
    with running.connect() as connection:
        connection.sendall(b"".join(request(b"x", path=b"/%d" % n) for n in range(18)))
        connection.shutdown(socket.SHUT_WR)
        received = read_all(connection)
    assert statuses(received) == [200] * 18
    gone(running)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", request(b"abc")[:-1], request()])
def test_a_half_close_in_any_state_ends_the_connection(run_app: Run, sent: bytes) -> None:
    running = run_app(echo)
    with running.connect() as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        read_all(connection)
    gone(running)


@pytest.mark.parametrize("before", [b"", request(b"abc"), b"\r\n\r\n"])
@pytest.mark.parametrize("part", [b"G", b"GET / HTTP/1.1\r\nhost: x\r\n", b"GET / HTTP/1.1\r\nx"])
def test_every_slow_head_is_ended(run_app: Run, before: bytes, part: bytes) -> None:
    """The second of a connection as the first, from its first byte on."""
    running = run_app(echo, head_timeout_seconds=0.05)
    with running.connect() as connection:
        connection.sendall(before)
        if b"POST" in before:
            read_reply(connection)
        connection.sendall(part)
        received = read_all(connection)
    assert statuses(received) == [408]
    gone(running)


def test_a_head_that_drips_is_ended_too(run_app: Run) -> None:
    running = run_app(echo, head_timeout_seconds=0.2)
    with running.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        connection.settimeout(0.01)
        received = b""
        deadline = time.monotonic() + 600
        while b"408" not in received and time.monotonic() < deadline:
            connection.sendall(b"a: b\r\n")
            try:
                received += connection.recv(1000)
            except TimeoutError:
                continue
    assert statuses(received) == [408]


@pytest.mark.parametrize(
    "sent", [b"", b"G", b"GET / HTTP/1.1\r\nhost: x\r\n", request() + b"G", b"\r\n"]
)  # fmt: skip
def test_no_idle_connection_or_partial_head_delays_a_drain(run_app: Run, sent: bytes) -> None:
    running = run_app(echo, drain_seconds=300.0, drain_idle_seconds=0.05, linger_seconds=0.05)
    with running.connect() as connection:
        connection.sendall(sent)
        if sent.startswith(b"POST"):
            read_reply(connection)
        until(lambda: running.server.server_state.connections)
        began = time.monotonic()
        running.stop()  # fails after 60 s
        assert time.monotonic() - began < 60


def test_a_discarded_body_that_stops_is_ended(run_app: Run) -> None:
    running = run_app(refuse, body_idle_seconds=0.1, linger_seconds=0.1)
    with running.connect() as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nabc")
        assert statuses(read_all(connection)) == [413]
    gone(running)


def test_a_peer_that_never_reads_its_small_reply_does_not_stay(run_app: Run) -> None:
    """Its bytes are below every mark of the transport, so only the timers see it."""

    async def large(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"3000000"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": bytes(3_000_000)})

    running = run_app(large, linger_seconds=0.1, reader_stall_seconds=0.2, keep_alive_seconds=0.1)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", running.port))
        connection.sendall(request())
        until(lambda: running.server.server_state.total_requests)
        gone(running)


def test_a_slow_body_gets_408_and_a_steady_one_does_not(start: Start) -> None:
    client = RawClient(start(body_idle_seconds=1.0, body_progress_bytes=1, linger_seconds=0.2).url)
    host, port = client.netloc.split(":")
    path = "/fletching/v1/projects/demo/schemas/default/tables"
    body = b"{" + b" " * 30 + b"}"
    for pause, expected in ((0.1, 400), (None, 408)):
        with socket.create_connection((host, int(port)), timeout=600) as connection:
            connection.sendall(client.head("POST", path, {}, {}, len(body)))
            for byte in body[:12] if pause is None else body:
                connection.sendall(bytes((byte,)))
                if pause is not None:
                    time.sleep(pause / 2)
            received = read_all(connection) if pause is None else connection.recv(4096)
        assert statuses(received) == [expected], received


@pytest.mark.parametrize(
    "path",
    [
        "/api/projects/demo/tables?maxitems=²",
        "/api/projects/demo/tables?maxitems=1_0",
        "/api/projects/demo/tables?maxitems=%2B5",
        "/api/projects/demo/tables?maxitems=%205",
        "/api/projects/demo/tables?maxitems=٣",
        "/api/projects/demo/tables/t?data&linenum=²",
        "/api/projects/demo/tables/t?data&linenum=-1",
        "/api/projects/demo/tables/t?data&linenum=",
        "/fletching/v1/blobs/x?Signature=a&AccessId=b&Expires=²",
        "//[",
        "/%5B//%5B",
        "//%5b:x",
    ],
)
def test_numbers_and_targets_that_are_none_are_the_clients_fault(start: Start, path: str) -> None:
    server = start(access_keys=None, allow_anonymous=True)
    with socket.create_connection(("127.0.0.1", server.port), timeout=600) as connection:
        target = path.encode() if path.isascii() else _quoted(path)
        for authorization in (b"", b"authorization: ODPS a:b\r\ndate: x\r\n"):
            connection.sendall(
                b"GET " + target + b" HTTP/1.1\r\nhost: x\r\n" + authorization + b"\r\n"
            )
            head, _ = read_reply(connection)
            assert 400 <= statuses(head)[0] < 500, head


def _quoted(path: str) -> bytes:
    return "".join(
        c if c.isascii() else "".join(f"%{b:02X}" for b in c.encode()) for c in path
    ).encode()


def test_a_signed_request_to_a_target_that_is_no_url(start: Start) -> None:
    server = start(access_keys={ACCESS_ID: SECRET})
    client = RawClient(server.url)
    with socket.create_connection(("127.0.0.1", server.port), timeout=600) as connection:
        head = client.head("GET", "/x", {}, {}, 0).replace(b"GET /x ", b"GET //[ ")
        connection.sendall(head)
        assert 400 <= statuses(read_reply(connection)[0])[0] < 500


def test_random_bytes_and_cuts_never_hurt_the_server(run_app: Run) -> None:
    """Many peers at once that stop, cut, reset and repeat at random places."""
    import random
    import struct

    running = run_app(echo, head_timeout_seconds=0.2, body_idle_seconds=0.2, linger_seconds=0.1)
    pieces = [
        request(b"abc"),
        request(b"x" * 5000, chunked=True),
        b"G",
        SMUGGLED,
        b"\r\n",
        b"\x00\xff",
    ]

    def misbehave(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(12):
            with running.connect() as connection:
                data = b"".join(chance.choices(pieces, k=chance.randrange(1, 5)))
                data = data[: chance.randrange(1, len(data) + 1)]
                try:
                    for at in range(0, len(data), size := chance.choice([1, 7, 700, 1 << 20])):
                        connection.sendall(data[at : at + size])
                    end = chance.randrange(4)
                    if end == 0:
                        connection.setsockopt(
                            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                        )
                    elif end == 1:
                        connection.shutdown(socket.SHUT_WR)
                    elif end == 2:
                        connection.settimeout(0.02)
                        connection.recv(100)
                except OSError:
                    continue

    threads = [threading.Thread(target=misbehave, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gone(running)
    with running.connect() as connection:
        connection.sendall(request(b"abc"))
        assert json.loads(read_reply(connection)[1])["length"] == 3
    assert not [task for task in running.server.server_state.tasks if not task.done()]
