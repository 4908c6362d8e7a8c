from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
import types
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest
from tests.server.conftest import Run, read_all, read_reply
from tests.waiting import until

from fletching.errors import ServiceError
from fletching.server.http.connection import Connection
from fletching.server.http.connection_states import State
from fletching.server.http.exchange import Exchange
from fletching.server.http.incoming_body import RequestBody
from fletching.server.server_settings import ServerSettings

KIB = 1024


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Replies with method, path, query and the body's length and sum."""
    length = total = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length += len(message["body"])
        total += sum(message["body"])
        if not message["more_body"]:
            break
    seen = {
        "method": scope["method"],
        "path": scope["path"],
        "query": scope["query_string"].decode(),
        "length": length,
        "sum": total,
    }
    body = json.dumps(seen).encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    """Replies without reading the body."""
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": b"no"})


class Collector:
    """A sink that asks for attention after each ``attention`` bytes."""

    def __init__(self, attention: int) -> None:
        self.data = bytearray()
        self._room = memoryview(bytearray(3000))
        self._attention = attention
        self._since = 0

    def writable(self) -> memoryview:
        return self._room

    def wrote(self, count: int) -> bool:
        return self.feed(self._room[:count])

    def feed(self, chunk: Any) -> bool:
        self.data += chunk
        self._since += len(chunk)
        if self._since >= self._attention:
            self._since = 0
            return False
        return True


async def pumped(scope: Any, receive: Any, send: Any) -> None:
    """Replies with the body, which it takes through a sink."""
    body: RequestBody = scope["extensions"]["fletching.exchange"].body
    sink = Collector(5000)
    while not await body.pump(sink):
        pass
    headers = [(b"content-length", b"%d" % len(sink.data))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": bytes(sink.data)})


def request(body: bytes = b"", *, chunked: bool = False, path: bytes = b"/a?b=c") -> bytes:
    head = b"POST " + path + b" HTTP/1.1\r\nhost: x\r\n"
    if chunked:
        pieces = [body[i : i + 700] for i in range(0, len(body), 700)]
        coded = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
        return head + b"transfer-encoding: chunked\r\n\r\n" + coded + b"0\r\n\r\n"
    return head + b"content-length: %d\r\n\r\n" % len(body) + body


BODIES = [b"", b"x", bytes(range(256)) * 10, b"\r\n0\r\n\r\n" * 900, bytes(range(256)) * 9000]


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("app", [echo, pumped])
def test_bodies_arrive_whole_on_one_kept_connection(run_app: Run, app: Any, chunked: bool) -> None:
    with run_app(app).connect() as connection:
        for body in BODIES:
            sender = threading.Thread(
                target=connection.sendall, args=(request(body, chunked=chunked),)
            )
            sender.start()
            head, reply = read_reply(connection)
            sender.join()
            assert head.startswith(b"HTTP/1.1 200 OK")
            if app is echo:
                assert json.loads(reply) == {
                    "method": "POST",
                    "path": "/a",
                    "query": "b=c",
                    "length": len(body),
                    "sum": sum(body),
                }
            else:
                assert reply == body


@pytest.mark.parametrize("chunked", [False, True])
def test_a_request_may_arrive_byte_by_byte(run_app: Run, chunked: bool) -> None:
    body = b"\r\n0\r\n\r\nhello"
    with run_app(pumped).connect() as connection:
        for sent in (body, b"next"):
            for byte in request(sent, chunked=chunked):
                connection.sendall(bytes((byte,)))
            assert read_reply(connection)[1] == sent


def test_pipelined_requests_are_answered_in_order(run_app: Run) -> None:
    with run_app(echo).connect() as connection:
        connection.sendall(b"".join(request(b"x" * n, path=b"/%d" % n) for n in range(8)))
        received = b""
        while received.count(b'"sum"') < 8:
            received += connection.recv(1 << 16)
    assert [received.index(b'"/%d"' % n) for n in range(8)] == sorted(
        received.index(b'"/%d"' % n) for n in range(8)
    )


def test_pipelined_uploads_do_not_run_into_each_other(run_app: Run) -> None:
    bodies = [bytes([number]) * (700 * KIB + number) for number in range(5)]
    with run_app(pumped).connect() as connection:
        everything = b"".join(request(body) for body in bodies)
        sender = threading.Thread(target=connection.sendall, args=(everything,))
        sender.start()
        received = b""
        while len(received) < sum(map(len, bodies)):
            part = connection.recv(1 << 20)
            assert part
            received += part
        sender.join()
    for body in bodies:
        head, _, received = received.partition(b"\r\n\r\n")
        assert b"content-length: %d" % len(body) in head
        assert received[: len(body)] == body
        received = received[len(body) :]


@pytest.mark.parametrize("count", [18, 40, 5000])
def test_any_number_of_pipelined_requests_is_answered_in_order(run_app: Run, count: int) -> None:
    """What waits behind a request is bounded by the socket, not by a number of requests."""
    with run_app(echo).connect() as connection:
        data = b"".join(request(path=b"/%d" % n) for n in range(count))
        sender = threading.Thread(target=connection.sendall, args=(data,))
        sender.start()
        for number in range(count):
            assert json.loads(read_one(connection))["path"] == f"/{number}"
        sender.join()


def read_one(connection: socket.socket) -> bytes:
    """The body of one reply, and not a byte behind it."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        part = connection.recv(1)
        assert part
        head += part
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    body = b""
    while len(body) < length:
        body += connection.recv(length - len(body))
    return body


def test_expect_continue_is_answered_before_the_body(run_app: Run) -> None:
    with run_app(echo).connect() as connection:
        connection.sendall(
            b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n"
        )
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"abc")
        assert json.loads(read_reply(connection)[1])["length"] == 3


def test_an_upgrade_is_ignored_and_the_request_answered(run_app: Run) -> None:
    with run_app(echo).connect() as connection:
        connection.sendall(
            b"GET /up HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: h2c\r\n\r\n"
        )
        assert json.loads(read_reply(connection)[1])["path"] == "/up"
        connection.sendall(request(b"abc"))
        assert json.loads(read_reply(connection)[1])["length"] == 3


def test_head_replies_have_no_body(run_app: Run) -> None:
    with run_app(echo).connect() as connection:
        connection.sendall(b"HEAD /h HTTP/1.1\r\nhost: x\r\n\r\n" + request(b"abc"))
        received = b""
        while b'"sum"' not in received:
            received += connection.recv(1 << 16)
    assert received.count(b"\r\n\r\n") == 2
    assert received.count(b'"method"') == 1


def test_http_1_0_closes_after_the_reply(run_app: Run) -> None:
    with run_app(echo).connect() as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert b"connection: close\r\n" in read_all(connection)


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400),
        (b"GET /" + b"a" * (70 * KIB) + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nx: " + b"a" * (70 * KIB), 431),
        (b"GET / HTTP/1.1\r\n" + b"a" * (700 * KIB), 431),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20000, 431),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_not_a_request_gets_json_and_an_end_without_reset(
    run_app: Run, bad: bytes, status: int
) -> None:
    with run_app(echo).connect() as connection:
        connection.sendall(bad)
        received = read_all(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d" % status)
    assert b"connection: close" in head
    fault = json.loads(body)
    assert fault["Code"] == "InvalidParameter"
    assert f"x-odps-request-id: {fault['RequestId']}".encode() in head


def test_a_bad_chunk_ends_the_body_with_400(run_app: Run) -> None:
    with run_app(echo).connect() as connection:
        connection.sendall(
            b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nXX\r\n"
        )
        assert read_all(connection).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("chunked", [False, True])
def test_an_early_reply_is_not_lost_and_the_connection_goes_on(run_app: Run, chunked: bool) -> None:
    with run_app(refuse).connect() as connection:
        for _ in range(3):
            connection.sendall(request(b"x" * (3 << 20), chunked=chunked))
            head, body = read_reply(connection)
            assert head.startswith(b"HTTP/1.1 413")
            assert body == b"no"
            assert b"connection: close" not in head


@pytest.mark.parametrize("chunked", [False, True])
def test_above_the_discard_limit_the_reply_arrives_and_the_connection_ends(
    run_app: Run, chunked: bool
) -> None:
    running = run_app(refuse, max_discard_bytes=1 << 20, linger_seconds=5.0)
    with running.connect() as connection:
        connection.sendall(request(b"x" * (8 << 20), chunked=chunked))
        received = read_all(connection)
    assert received.startswith(b"HTTP/1.1 413")
    assert received.endswith(b"no")
    assert (b"connection: close" in received) is not chunked


def test_tcp_nodelay_is_set(run_app: Run) -> None:
    running = run_app(echo)
    with running.connect() as connection:
        connection.sendall(request())
        read_reply(connection)
        (accepted,) = running.server.server_state.connections
        peer = cast("Connection", accepted)._transport.get_extra_info("socket")
        assert peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def test_an_idle_connection_is_closed(run_app: Run) -> None:
    with run_app(echo, keep_alive_seconds=0.1).connect() as connection:
        connection.sendall(request())
        read_reply(connection)
        assert connection.recv(1) == b""


def test_a_slow_head_gets_408(run_app: Run) -> None:
    with run_app(echo, head_timeout_seconds=0.1).connect() as connection:
        connection.sendall(b"GET / HTT")
        assert read_all(connection).startswith(b"HTTP/1.1 408")


def test_above_the_connection_limit_429_and_close(run_app: Run) -> None:
    running = run_app(echo, max_connections=1)
    with running.connect() as first:
        first.sendall(request())
        read_reply(first)
        with running.connect() as second:
            second.sendall(request())
            received = read_all(second)
        first.sendall(request())
        assert read_reply(first)[0].startswith(b"HTTP/1.1 200")
    assert received.startswith(b"HTTP/1.1 429")
    assert b"retry-after: 1" in received
    assert json.loads(received.partition(b"\r\n\r\n")[2])["Code"] == "FlowExceeded"


def test_a_stuck_reader_is_cut_and_a_slow_one_is_not(run_app: Run) -> None:
    async def large(scope: Any, receive: Any, send: Any) -> None:
        size = 64 << 20
        headers = [(b"content-length", b"%d" % size)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(16):
            await send({"type": "http.response.body", "body": bytes(4 << 20), "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    running = run_app(large, reader_stall_seconds=1.0)
    with running.connect() as slow:
        slow.sendall(request())
        received = 0
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            received += len(slow.recv(64 * KIB))
            threading.Event().wait(0.01)
        while part := slow.recv(1 << 20):
            received += len(part)
            if received > 64 << 20:
                break
    assert received > 64 << 20
    with running.connect() as stuck:
        stuck.sendall(request())
        until(lambda: not running.server.server_state.connections)


def test_send_fails_when_the_client_is_gone(run_app: Run) -> None:
    failed = threading.Event()

    async def large(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            for _ in range(1000):
                await send(
                    {"type": "http.response.body", "body": bytes(1 << 20), "more_body": True}
                )
        except OSError:
            failed.set()

    connection = run_app(large).connect()
    connection.sendall(request())
    connection.recv(1000)
    connection.close()
    assert failed.wait(600)


def test_an_application_that_fails_in_mid_reply_cuts_it(run_app: Run) -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"10")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"12345", "more_body": True})
        raise RuntimeError("no more")

    with run_app(failing).connect() as connection:
        connection.sendall(request())
        assert read_all(connection).endswith(b"12345")


def test_an_application_that_fails_before_its_reply_gets_500(run_app: Run) -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("secret")

    with run_app(failing).connect() as connection:
        connection.sendall(request())
        head, body = read_reply(connection)
    assert head.startswith(b"HTTP/1.1 500")
    assert b"secret" not in body


def test_draining_finishes_what_runs_and_answers_what_is_on_its_way(run_app: Run) -> None:
    running = run_app(echo, drain_idle_seconds=0.5)
    with running.connect() as busy, running.connect() as idle, running.connect() as unused:
        idle.sendall(request())
        read_reply(idle)
        body = b"x" * 5000
        whole = request(body)
        busy.sendall(whole[:2000])
        threading.Event().wait(0.1)
        running.begin_stop()
        threading.Event().wait(0.3)
        # A request that a client sends while the server drains is answered, with notice.
        idle.sendall(request(b"late"))
        head, reply = read_reply(idle)
        assert json.loads(reply)["length"] == 4
        assert b"connection: close" in head
        assert idle.recv(1) == b""
        busy.sendall(whole[2000:])
        head, reply = read_reply(busy)
        assert json.loads(reply)["length"] == 5000
        assert b"connection: close" in head
        assert busy.recv(1) == b""
        assert unused.recv(1) == b""


def test_a_half_closed_client_gets_its_reply(run_app: Run) -> None:
    with run_app(echo).connect() as connection:
        connection.sendall(request(b"abc") + request(b"abcd"))
        connection.shutdown(socket.SHUT_WR)
        received = read_all(connection)
    assert received.count(b"HTTP/1.1 200") == 2


def test_a_client_that_leaves_in_mid_body_is_noticed(run_app: Run) -> None:
    noticed = threading.Event()

    async def upload(scope: Any, receive: Any, send: Any) -> None:
        body: RequestBody = scope["extensions"]["fletching.exchange"].body
        try:
            await body.pump(Collector(1 << 30))
        except OSError:
            noticed.set()

    connection = run_app(upload).connect()
    connection.sendall(request(b"x" * 100)[:-50])
    connection.close()
    assert noticed.wait(600)


class Timers:
    """The running loop, with a time that passes when a test says so."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.call_soon, self.create_task = loop.call_soon, loop.create_task
        self._now = 0.0
        self._due: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self._now

    def call_later(self, delay: float, work: Callable[..., None], *arguments: Any) -> Any:
        entry = (self._now + delay, lambda: work(*arguments))
        self._due.append(entry)

        def cancel() -> None:
            with contextlib.suppress(ValueError):
                self._due.remove(entry)

        return types.SimpleNamespace(cancel=cancel)

    def advance(self, seconds: float) -> None:
        until = self._now + seconds
        while due := [entry for entry in self._due if entry[0] <= until]:
            entry = min(due, key=lambda each: each[0])
            self._due.remove(entry)
            self._now = entry[0]
            entry[1]()
        self._now = until


class Untaken(asyncio.Transport):
    """A transport whose client takes as many bytes as a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0
        self.done: list[str] = []

    def get_write_buffer_size(self) -> int:
        return self.size

    def write(self, data: Any) -> None:
        self.size += len(data)

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return "abort" in self.done or "close" in self.done

    def write_eof(self) -> None:
        self.done.append("end")

    def close(self) -> None:
        self.done.append("close")

    def abort(self) -> None:
        self.done.append("abort")

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Whoever writes is told to wait by a test."""

    def pause_reading(self) -> None:
        """What is received is what a test gives."""

    def resume_reading(self) -> None:
        """As well."""


class Desk:
    """A connection without a socket: linger 10 s, stall 60 s, 100 bytes of a body in 20 s."""

    def __init__(
        self, answer: Callable[[Exchange], Coroutine[Any, Any, None]] | None = None
    ) -> None:
        settings = ServerSettings(
            linger_seconds=10.0,
            reader_stall_seconds=60.0,
            body_idle_seconds=20.0,
            body_progress_bytes=100,
            drain_idle_seconds=5.0,
            keep_alive_seconds=3600.0,
        )
        state = types.SimpleNamespace(
            total_requests=0, connections=set(), tasks=set(), default_headers=[]
        )

        async def refuse(exchange: Exchange) -> None:
            await exchange.reply(b"no", status=413)

        room = memoryview(bytearray(1 << 16))
        self.connection = Connection(answer or refuse, settings, cast("Any", state), room)
        self.time = Timers()
        # Who waits for a body asks the running loop itself.
        cast("Any", asyncio.get_running_loop()).time = self.time.time
        self.connection._loop = cast("Any", self.time)
        self.transport = Untaken()
        self.connection.connection_made(self.transport)

    async def receive(self, data: bytes) -> None:
        while data:
            room = self.connection.get_buffer(-1)
            count = min(len(room), len(data))
            room[:count] = data[:count]
            self.connection.buffer_updated(count)
            data = data[count:]
        for _ in range(5):  # whatever follows from that in this loop
            await asyncio.sleep(0)


def test_a_reader_is_cut_for_a_stall_and_not_for_an_earlier_one() -> None:
    async def run() -> None:
        desk = Desk()
        desk.transport.size = 1000
        desk.connection.pause_writing()
        desk.time.advance(59)
        desk.transport.size = 0
        desk.connection.resume_writing()
        desk.time.advance(600)
        assert "abort" not in desk.transport.done  # it took everything in time
        desk = Desk()
        desk.transport.size = 1000
        desk.connection.pause_writing()
        for size in (900, 899, 1):
            desk.transport.size = size
            desk.time.advance(60)
            assert not desk.transport.done
        desk.time.advance(59)
        assert not desk.transport.done
        desk.time.advance(1)
        assert desk.transport.done == ["abort"]

    asyncio.run(run())


def test_a_connection_that_ends_waits_for_its_reader_and_not_for_nothing() -> None:
    async def run() -> None:
        for sizes, ends in (
            ([], 10),  # nothing is untaken when the time is over
            ([50, 50], 130),  # some was taken in the first span, and nothing in the second
            ([50, 0], 130),  # all was taken: there is nothing to wait for
        ):
            desk = Desk()
            await desk.receive(b"nonsense\r\n\r\n")
            assert desk.connection.state is State.LINGER
            assert desk.transport.done == ["end"]
            assert desk.transport.size  # the refusal
            desk.transport.size = 100 if sizes else 0
            desk.time.advance(9)
            assert desk.transport.done == ["end"]
            desk.time.advance(1)
            for size in sizes:
                assert desk.transport.done == ["end"]
                desk.transport.size = size
                desk.time.advance(60)
            assert desk.transport.done == ["end", "abort"], sizes
            assert desk.time.time() == ends

    asyncio.run(run())


@pytest.mark.parametrize(
    ("spans", "status"),
    [
        ([0], 408),
        ([99], 408),
        ([100, 99], 408),
        ([100, 5000, 100, 5000 - 300], 200),  # each span is one by itself
        ([100, 100, 100], None),  # slow, and in time
    ],
)
def test_a_body_is_waited_for_while_enough_of_it_comes(
    spans: list[int], status: int | None
) -> None:
    async def answer(exchange: Exchange) -> None:
        try:
            await exchange.read_body()
        except ServiceError as error:
            await exchange.reply(b"slow", status=error.http_status)
        else:
            await exchange.reply(b"all")

    async def run() -> None:
        desk = Desk(answer)
        written: list[bytes] = []
        desk.transport.write = lambda data: written.append(bytes(data))  # type: ignore[method-assign]
        await desk.receive(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9900\r\n\r\n")
        assert desk.connection.state is State.BODY
        for size in spans:
            assert not written
            await desk.receive(b"x" * size)
            desk.time.advance(20)
            await desk.receive(b"")
        if status is None:
            assert not written
            assert desk.connection.state is State.BODY
            return
        assert b"".join(written).startswith(b"HTTP/1.1 %d" % status)
        # What comes behind a body that was given up is never taken for a request.
        assert desk.connection.state is (State.IDLE if status == 200 else State.LINGER)

    asyncio.run(run())


def test_time_that_the_application_takes_is_not_the_senders() -> None:
    async def run() -> None:
        turn = asyncio.Event()
        outcomes: list[int] = []

        async def answer(exchange: Exchange) -> None:
            await turn.wait()
            try:
                outcomes.append(len(await exchange.read_body()))
            except ServiceError as error:
                outcomes.append(error.http_status)
            await exchange.reply(b"")

        desk = Desk(answer)
        await desk.receive(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\n")
        desk.time.advance(500)
        turn.set()
        await desk.receive(b"")
        desk.time.advance(19)
        await desk.receive(b"")
        assert not outcomes  # waited for these 19 s, not for the 500 before
        desk.time.advance(1)
        await desk.receive(b"")
        assert outcomes == [408]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("sent", "draining", "goes_on"),
    [(100, False, True), (99, False, False), (100, True, False), (99, True, False)],
)
def test_the_rest_of_a_refused_body_is_waited_for_while_it_comes(
    sent: int, draining: bool, goes_on: bool
) -> None:
    async def run() -> None:
        desk = Desk()
        await desk.receive(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n")
        assert desk.connection.state is State.DISCARD
        assert not desk.transport.done
        if draining:
            desk.connection.shutdown()
        await desk.receive(b"x" * sent)
        desk.time.advance(5 if draining else 20)
        assert (desk.connection.state is State.DISCARD) is goes_on
        assert desk.transport.done == ([] if goes_on else ["end"])
        if goes_on:
            await desk.receive(b"x" * 99)
            desk.time.advance(20)
            assert desk.transport.done == ["end"]  # each span is one by itself

    asyncio.run(run())
