"""The protocol object alone, on a transport that records: any requests in any chunks, and noise."""

from __future__ import annotations

import asyncio
import dataclasses
import types
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.asgi_applications import answer_with_asgi

from fletching.server.http.connection import Answer, Connection
from fletching.server.http.exchange import Exchange
from fletching.server.server_settings import ServerSettings


class Transport(asyncio.Transport):
    """Keeps what is written; can be paused like a socket."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False
        self.ended = False
        self.reading = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)}.get(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: Any) -> None:
        assert not self.closed
        assert not self.ended
        self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


@dataclasses.dataclass(frozen=True)
class Sent:
    """One request: how long its body is, whether chunked, and whether the reply comes early."""

    length: int
    chunked: bool
    early: bool

    def encode(self, number: int) -> bytes:
        body = bytes((number + i) % 256 for i in range(self.length))
        head = b"POST /%d?early=%d HTTP/1.1\r\nhost: x\r\n" % (number, self.early)
        if not self.chunked:
            return head + b"content-length: %d\r\n\r\n" % len(body) + body
        pieces = [body[i : i + 333] for i in range(0, len(body), 333)]
        coded = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
        return head + b"transfer-encoding: chunked\r\n\r\n" + coded + b"0\r\n\r\n"

    def reply(self, number: int) -> bytes:
        total = sum((number + i) % 256 for i in range(self.length))
        return b"early" if self.early else b"%d:%d" % (self.length, total)


async def app(scope: Any, receive: Any, send: Any) -> None:
    body = b"early"
    if scope["query_string"] != b"early=1":
        length = total = 0
        while (view := await scope["extensions"]["fletching.exchange"].receive_view()) is not None:
            length += len(view)
            total += sum(view)
        body = b"%d:%d" % (length, total)
    headers = [(b"content-length", b"%d" % len(body)), (b"x-path", scope["path"].encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def connect(app: Any, state: Any, server_settings: ServerSettings) -> Connection:
    async def answer(exchange: Exchange) -> None:
        await answer_with_asgi(exchange, app)

    answers: Answer = answer
    return Connection(answers, server_settings, state, memoryview(bytearray(1 << 18)))


async def converse(data: bytes, sizes: list[int]) -> Transport:
    """Feeds data to a connection in chunks of the given sizes, as a socket would."""
    state = types.SimpleNamespace(
        connections=set(), tasks=set(), default_headers=[], total_requests=0
    )
    connection = connect(app, state, ServerSettings(linger_seconds=0.0))
    transport = Transport()
    connection.connection_made(transport)
    position = turn = 0
    while position < len(data) and not transport.closed:
        for _ in range(200):
            if transport.reading:
                break
            await asyncio.sleep(0)
        assert transport.reading or transport.closed, "reading was never resumed"
        if transport.closed:
            break
        room = connection.get_buffer(-1)
        assert len(room) > 0
        count = min(len(room), sizes[turn % len(sizes)], len(data) - position)
        room[:count] = data[position : position + count]
        connection.buffer_updated(count)
        position += count
        turn += 1
        if turn % 3 == 0:
            await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    connection.connection_lost(None)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not state.connections
    assert not state.tasks
    return transport


requests = st.lists(
    st.builds(Sent, st.sampled_from([0, 1, 100, 5000]), st.booleans(), st.booleans()),
    min_size=1,
    max_size=6,
)
chunk_sizes = st.lists(st.integers(1, 6000), min_size=1, max_size=5)


@settings(deadline=None, max_examples=150)
@given(requests, chunk_sizes)
def test_any_requests_in_any_chunks_get_their_replies_in_order(
    sent: list[Sent], sizes: list[int]
) -> None:
    data = b"".join(request.encode(number) for number, request in enumerate(sent))
    transport = asyncio.run(converse(data, sizes))
    expected = b""
    for number, request in enumerate(sent):
        body = request.reply(number)
        expected += b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nx-path: /%d\r\n\r\n%s" % (
            len(body),
            number,
            body,
        )
    assert bytes(transport.written) == expected
    assert not transport.closed


@settings(deadline=None, max_examples=150)
@given(
    st.one_of(
        st.binary(max_size=400),
        st.lists(
            st.sampled_from(
                [
                    b"GET / HTTP/1.1\r\n",
                    b"POST /x HTTP/1.1\r\n",
                    b"host: x\r\n",
                    b"content-length: 5\r\n",
                    b"transfer-encoding: chunked\r\n",
                    b"connection: upgrade\r\nupgrade: h2c\r\n",
                    b"expect: 100-continue\r\n",
                    b"\r\n",
                    b"hello",
                    b"5\r\nhello\r\n",
                    b"0\r\n\r\n",
                    b"ffffffffffffffffff\r\n",
                    b"\x00",
                    b"CONNECT a:1 HTTP/1.1\r\n",
                    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                ]
            ),
            max_size=12,
        ).map(b"".join),
    ),
    chunk_sizes,
)
def test_noise_ends_in_replies_or_a_close_and_leaves_nothing(data: bytes, sizes: list[int]) -> None:
    transport = asyncio.run(converse(data, sizes))
    assert not transport.written or transport.written.startswith(b"HTTP/1.1 ")
    if b"HTTP/1.1 4" in transport.written:
        assert transport.ended or transport.closed


def test_behind_a_pipelined_request_the_socket_is_not_read() -> None:
    async def run() -> None:
        limiter = asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            await limiter.wait()
            await app(scope, receive, send)

        state = types.SimpleNamespace(
            connections=set(), tasks=set(), default_headers=[], total_requests=0
        )
        connection = connect(slow, state, ServerSettings(max_head_bytes=1000))
        transport = Transport()
        connection.connection_made(transport)
        data = Sent(0, chunked=False, early=False).encode(0)
        for number in range(40):
            # The first is in work; a kilobyte waits behind it, and then the socket.
            assert transport.reading is (number * len(data) <= 1000 + len(data))
            if not transport.reading:
                break
            connection.get_buffer(-1)[: len(data)] = data
            connection.buffer_updated(len(data))
        sent = number
        limiter.set()
        for _ in range(400):
            await asyncio.sleep(0)
        assert transport.reading
        assert transport.written.count(b"200 OK") == sent
        connection.connection_lost(None)

    asyncio.run(run())
