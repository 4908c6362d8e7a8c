from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest

import fletching
from fletching.client.call_options import NO_RETRIES, CallOptions, RetryPolicy, Timeouts
from fletching.client.credentials import Credentials
from fletching.client.reading.arrow_reader import ArrowReader
from fletching.client.reading.resume_token import ResumeToken
from fletching.client.retry import RetrySequence, Timing
from fletching.client.transports.channel import Channel
from fletching.client.transports.http import one_exchange, service_exchanges
from fletching.client.transports.http.http_transport import HttpTransport, endpoint_of
from fletching.client.transports.stream_files import StreamReader
from fletching.errors import (
    ConnectError,
    ConnectionBrokenError,
    InternalServerError,
    InvalidArgumentError,
    MalformedFrameError,
    NoPermissionError,
    NoSuchTableError,
    OperationCancelledError,
    PayloadTooLargeError,
    ReadTimeoutError,
    ThrottledError,
    TruncatedStreamError,
    UsageError,
    WireError,
)
from fletching.protocol.http.signing import parse_authorization, verify
from fletching.protocol.messages.admin import DescribeTable
from fletching.protocol.messages.requests import CloseWriteStream, GetWriteSession, WriteTable
from fletching.testing.replay import Answer, ReplayPeer, ReplayRequest
from fletching.types import TableName

TABLE = TableName("p", "t")
SCHEMA = pa.schema([("n", pa.int64()), ("s", pa.string())])
SESSION = GetWriteSession(table=TABLE, session_id="ws-1")
TOKEN = ResumeToken(table=TABLE, session_id="rs-1", index=0)
READ = TOKEN.request()
OK = Answer(body=b'{"SessionId":"ws-1","Streams":{"s":1}}')
NO_RETRY = CallOptions(retry=NO_RETRIES)


def rows(start: int, end: int) -> pa.RecordBatch:
    return pa.record_batch(
        [range(start, end), [f"row {i}" for i in range(start, end)]], schema=SCHEMA
    )


def stream(batches: list[pa.RecordBatch]) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return bytes(sink.getvalue())


def fault(status: int, code: str, **more: Any) -> Answer:
    headers = (("x-odps-request-id", "req-7"), *more.pop("headers", ()))
    body = json.dumps({"Code": code, "Message": "because"}).encode()
    return Answer(status=status, body=body, headers=headers, **more)


@pytest.fixture
def opened() -> Iterator[Callable[..., HttpTransport]]:
    made: list[HttpTransport] = []

    def make(peer: ReplayPeer, **arguments: Any) -> HttpTransport:
        made.append(HttpTransport(peer.url, Credentials("id", "key"), **arguments))
        return made[-1]

    yield make
    for transport in made:
        transport.close()


def attempt(options: CallOptions = NO_RETRY, **timing: Any) -> RetrySequence:
    return RetrySequence(options, Timing(**timing))


# --- requests ----------------------------------------------------------------------------------


def test_a_request_is_signed_traced_and_dated(opened: Any) -> None:
    with ReplayPeer([OK]) as peer:
        transport = opened(peer, wall_clock=lambda: 1704164645.0)
        reply = transport.call(SESSION, attempt(new_id=lambda: "trace-9"))
    assert reply.streams == {"s": 1}
    (request,) = peer.requests
    assert request.method == "POST"
    assert request.path == "/api/storage/v3"
    assert request.query["Action"] == "TableGetWriteSession"
    assert request.query["SessionId"] == "ws-1"
    headers = request.headers
    assert headers["date"] == "Tue, 02 Jan 2024 03:04:05 GMT"
    assert headers["odps-tunnel-retry-trace-id"] == "trace-9"
    assert headers["odps-tunnel-retry-index"] == "0"
    assert headers["user-agent"] == headers["x-odps-user-agent"]
    assert headers["user-agent"].startswith(f"fletching/{fletching.__version__} ")
    assert headers["accept-encoding"] == "identity"
    claim = parse_authorization(headers["authorization"])
    assert claim.access_id == "id"
    assert verify(claim, "key", request.method, request.target, headers)
    assert not verify(claim, "other", request.method, request.target, headers)


def test_temporary_keys_and_regions(opened: Any) -> None:
    with ReplayPeer([OK]) as peer:
        keys = Credentials("id", "key", sts_token="sts", region="here")
        with HttpTransport(peer.url, keys) as transport:
            transport.call(SESSION, attempt())
    (request,) = peer.requests
    assert request.headers["authorization-sts-token"] == "sts"
    claim = parse_authorization(request.headers["authorization"])
    assert claim.region == "here"
    assert verify(claim, "key", request.method, request.target, request.headers)


def test_odd_text_in_names_survives_signing_and_encoding(opened: Any) -> None:
    with ReplayPeer([OK]) as peer:
        odd = GetWriteSession(table=TABLE, session_id="ws é+&=%/ 1")
        opened(peer).call(odd, attempt())
    (request,) = peer.requests
    assert request.query["SessionId"] == "ws é+&=%/ 1"
    claim = parse_authorization(request.headers["authorization"])
    assert verify(claim, "key", request.method, request.target, request.headers)


def test_connections_are_used_again(opened: Any) -> None:
    answers = [OK, fault(404, "NoSuchTable"), Answer(body=stream([rows(0, 3)])), OK]
    with ReplayPeer(answers) as peer:
        transport = opened(peer)
        transport.call(SESSION, attempt())
        with pytest.raises(NoSuchTableError):
            transport.call(DescribeTable(table=TABLE), attempt())
        assert len(list(transport.read(READ, attempt()))) == 1
        transport.call(SESSION, attempt())
        assert peer.connections == 1


def test_a_connection_that_the_peer_closed_meanwhile_is_replaced(opened: Any) -> None:
    with ReplayPeer([Answer(body=OK.body, close=True), OK]) as peer:
        transport = opened(peer)
        transport.call(SESSION, attempt())
        transport.call(SESSION, attempt())
        assert peer.connections == 2


def test_route_tokens_are_sent_back(opened: Any) -> None:
    header = "x-odps-max-storage-route-token"
    with ReplayPeer([Answer(body=OK.body, headers=((header, "rt-5"),)), OK, OK]) as peer:
        transport = opened(peer)
        for session_id in ("ws-1", "ws-1", "ws-2"):
            request = CloseWriteStream(table=TABLE, session_id=session_id, stream_id="s")
            transport.call(request, attempt())
    assert [request.headers.get(header) for request in peer.requests] == [None, "rt-5", None]


def test_nagles_algorithm_is_off_and_idle_connections_are_watched(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    settimeout = socket.socket.settimeout

    def look(sock: socket.socket, value: float | None) -> None:
        if sock.fileno() >= 0 and threading.current_thread() is threading.main_thread():
            seen.append(
                (
                    sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),
                    sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                )
            )
        settimeout(sock, value)

    with ReplayPeer([OK]) as peer:
        transport = opened(peer)
        monkeypatch.setattr(socket.socket, "settimeout", look)
        transport.call(SESSION, attempt())
    assert seen
    assert all(nodelay and keepalive for nodelay, keepalive in seen[1:])


# --- refusals ----------------------------------------------------------------------------------

FAULTS: list[tuple[int, str, type[Exception]]] = [
    (400, "InvalidArgument", InvalidArgumentError),
    (403, "NoPermission", NoPermissionError),
    (404, "NoSuchTable", NoSuchTableError),
    (413, "InvalidArgument", PayloadTooLargeError),
    (429, "FlowExceeded", ThrottledError),
    (500, "InternalServerError", InternalServerError),
]


@pytest.mark.parametrize(("status", "code", "kind"), FAULTS)
def test_a_refusal_is_an_exception_with_the_request_id(
    opened: Any, status: int, code: str, kind: type[Exception]
) -> None:
    with ReplayPeer([fault(status, code)]) as peer, pytest.raises(kind) as caught:
        opened(peer).call(SESSION, attempt())
    error: Any = caught.value
    assert (error.http_status, error.code, error.request_id) == (status, code, "req-7")
    assert "because" in str(error)
    assert "req-7" in str(error)


def test_how_long_to_wait_comes_from_the_service(opened: Any) -> None:
    with (
        ReplayPeer([fault(429, "FlowExceeded", headers=(("retry-after", "7"),))]) as peer,
        pytest.raises(ThrottledError) as caught,
    ):
        opened(peer).call(SESSION, attempt())
    assert caught.value.retry_after_seconds == 7


def test_a_page_of_a_proxy_is_an_error_too(opened: Any) -> None:
    with (
        ReplayPeer([Answer(status=502, body=b"<html>Bad Gateway</html>")]) as peer,
        pytest.raises(fletching.FletchingError) as caught,
    ):
        opened(peer).call(SESSION, attempt())
    assert getattr(caught.value, "http_status", None) == 502


@pytest.mark.parametrize("status", [300, 301, 308])
def test_redirects_are_not_followed(opened: Any, status: int) -> None:
    with ReplayPeer([Answer(status=status, headers=(("location", "/elsewhere"),))]) as peer:
        with pytest.raises(fletching.FletchingError) as caught:
            opened(peer).call(SESSION, attempt())
        assert getattr(caught.value, "http_status", None) == status
        assert len(peer.requests) == 1


def test_a_refusal_in_the_middle_of_a_body_is_heard(opened: Any) -> None:
    batch = pa.record_batch({"n": pa.array(range(4_000_000), pa.int64())})
    answer = fault(413, "InvalidArgument", request_bytes=100, close=True)
    request = WriteTable(table=TABLE, session_id="ws-1", stream_id="s")
    with ReplayPeer([answer]) as peer:
        transport = opened(peer)
        # The peer's close may overtake its answer with a reset; then nothing is known.
        with pytest.raises((PayloadTooLargeError, ConnectionBrokenError)):
            transport.write(request, [batch], batch.schema, attempt())


# --- silence -----------------------------------------------------------------------------------


def test_no_connection_is_told_from_a_broken_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with (
        HttpTransport(f"http://127.0.0.1:{port}", Credentials("id", "key")) as transport,
        pytest.raises(ConnectError),
    ):
        transport.call(SESSION, attempt())


@pytest.mark.parametrize("reset", [False, True])
def test_a_connection_that_ends_without_an_answer(opened: Any, reset: bool) -> None:
    with ReplayPeer([Answer(cut=0, reset=reset)]) as peer, pytest.raises(ConnectionBrokenError):
        opened(peer).call(SESSION, attempt())


SHORT = 0.05


def test_the_first_byte_is_waited_for_so_long(opened: Any) -> None:
    options = CallOptions(retry=NO_RETRIES, timeouts=Timeouts(first_byte=SHORT))
    with ReplayPeer([Answer(silent_after=0)]) as peer, pytest.raises(ReadTimeoutError):
        opened(peer).call(SESSION, attempt(options))


def test_silence_in_mid_reply_is_waited_for_so_long(opened: Any) -> None:
    options = CallOptions(retry=NO_RETRIES, timeouts=Timeouts(idle=SHORT))
    body = stream([rows(0, 1000)])
    with ReplayPeer([Answer(body=body, silent_after=len(body) // 2)]) as peer:
        source = opened(peer).read(READ, attempt(options))
        with pytest.raises(ReadTimeoutError, match=r"sent nothing for 0\.05 s"):
            list(source)


def test_the_total_counts_only_waiting(opened: Any) -> None:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 1.0  # every look at the clock: each wait takes one second
        return now

    body = stream([rows(0, 1000)] * 1000)
    options = CallOptions(retry=NO_RETRIES, timeouts=Timeouts(total=20.0))
    with ReplayPeer([Answer(body=body)]) as peer:
        source = opened(peer, clock=clock).read(READ, attempt(options))
        with pytest.raises(ReadTimeoutError, match=r"total timeout of 20|sent nothing for"):
            list(source)
    with ReplayPeer([Answer(body=body)]) as peer:
        source = opened(peer, clock=lambda: now).read(READ, attempt(options))
        for _ in source:
            now += 1000.0  # the caller thinks
        assert now > 50_000


def test_a_blocked_read_can_be_cancelled_from_another_thread(opened: Any) -> None:
    body = stream([rows(0, 1000)])
    with ReplayPeer([Answer(body=body, silent_after=len(body) // 2)]) as peer:
        sequence = attempt()
        source = opened(peer).read(READ, sequence)
        threading.Timer(0.05, sequence.cancellation.cancel).start()
        with pytest.raises(OperationCancelledError):
            list(source)


# --- reading -----------------------------------------------------------------------------------


class Service:
    """Gives the rows of a split from ``SkipRowNum`` on, breaking the first replies off at given bytes."""

    def __init__(self, cuts: list[int], **how: Any) -> None:
        self.cuts, self.how = list(cuts), how

    def __call__(self, request: ReplayRequest) -> Answer:
        skip = json.loads(request.body)["SkipRowNum"]
        batches = [rows(max(at, skip), at + 4) for at in range(0, 12, 4) if at + 4 > skip]
        answer = Answer(body=stream(batches), **self.how)
        if not self.cuts:
            return answer
        return Answer(body=stream(batches), cut=self.cuts.pop(0), **self.how)


WHOLE = pa.Table.from_batches([rows(0, 12)])
LENGTH = len(Answer(body=stream([rows(0, 4), rows(4, 8), rows(8, 12)])).wire())


@pytest.mark.parametrize("how", [{}, {"chunk_bytes": 100}, {"reset": True}], ids=str)
def test_a_read_survives_a_break_at_any_byte(how: dict[str, Any]) -> None:
    policy = RetryPolicy(budget_seconds=1000.0)
    service = Service([], **how)
    with ReplayPeer(service) as peer:
        transport = HttpTransport(peer.url, Credentials("id", "key"))
        timing = Timing(sleep=lambda _: None)
        channel = Channel(transport, CallOptions(retry=policy), timing, None)
        with transport:
            for cut in range(0, LENGTH + 120, 5):
                service.cuts = [cut, LENGTH - 9]
                assert ArrowReader(channel, TOKEN).read_all() == WHOLE, cut
                service.cuts = []


def test_a_reply_in_single_bytes(opened: Any) -> None:
    body = stream([rows(0, 4), rows(4, 8)])
    for chunk_bytes in (None, 1, 7):
        with ReplayPeer([Answer(body=body, send_bytes=1, chunk_bytes=chunk_bytes)]) as peer:
            batches = list(opened(peer).read(READ, attempt()))
        assert pa.Table.from_batches(batches) == pa.Table.from_batches([rows(0, 8)])


MARKER = 8


@pytest.mark.parametrize("how", [{}, {"chunk_bytes": 50}, {"announced_length": -1}], ids=str)
def test_a_missing_end_marker_is_an_error_not_the_end(opened: Any, how: dict[str, Any]) -> None:
    body = stream([rows(0, 4)])[:-MARKER]
    with (
        ReplayPeer([Answer(body=body, **how)]) as peer,
        pytest.raises((TruncatedStreamError, ConnectionBrokenError)),
    ):
        list(opened(peer).read(READ, attempt()))


def test_a_body_shorter_than_announced_is_an_error(opened: Any) -> None:
    body = stream([rows(0, 4)])
    short = Answer(body=body[:-MARKER], announced_length=len(body), close=True)
    with ReplayPeer([short]) as peer:
        source = opened(peer).read(READ, attempt())
        with pytest.raises(ConnectionBrokenError, match="8 bytes short"):
            list(source)


def test_what_follows_the_end_costs_only_the_connection(opened: Any) -> None:
    body = stream([rows(0, 4)]) + b"x" * 200_000
    with ReplayPeer([Answer(body=body), OK]) as peer:
        transport = opened(peer)
        assert len(list(transport.read(READ, attempt()))) == 1
        transport.call(SESSION, attempt())
        assert peer.connections == 2


@pytest.mark.parametrize("body", [b"", b"junk" * 20, b"\xff" * 64, stream([])[:100]], ids=repr)
def test_what_is_no_arrow_stream_is_refused(opened: Any, body: bytes) -> None:
    with (
        ReplayPeer([Answer(body=body)]) as peer,
        pytest.raises((WireError, fletching.FletchingError)),
    ):
        opened(peer).read(READ, attempt())


def test_lying_metadata_is_refused(opened: Any) -> None:
    body = bytearray(stream([rows(0, 4)]))
    body[-60:-40] = b"\xff" * 20
    with ReplayPeer([Answer(body=bytes(body))]) as peer:
        source = opened(peer).read(READ, attempt())
        with pytest.raises((WireError, MalformedFrameError)):
            list(source)


def test_a_body_lies_in_one_buffer_of_its_own(opened: Any) -> None:
    batch = pa.record_batch({"a": range(50_000), "b": range(50_000)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    with ReplayPeer([Answer(body=bytes(sink.getvalue()))]) as peer:
        before = pa.total_allocated_bytes()
        (received,) = opened(peer).read(READ, attempt())
        allocated = pa.total_allocated_bytes() - before
    assert received.equals(batch)
    first, second = (column.buffers()[1].address for column in received.columns)
    assert second - first == 400_000, "both columns lie in one buffer, one behind the other"
    assert allocated < 800_000 * 1.1, "and nothing else was allocated for them"


def test_bytes_of_a_reply(opened: Any) -> None:
    body = stream([rows(0, 12)])
    with ReplayPeer([Answer(body=body), Answer(body=body, cut=400), Answer(body=body)]) as peer:
        channel = Channel(opened(peer), NO_RETRY, Timing(), None)
        with StreamReader(channel, READ) as reader:
            assert reader.request_id is None
            assert reader.read() == body
            assert reader.read() == b""
        with StreamReader(channel, READ) as reader, pytest.raises(ConnectionBrokenError):
            reader.read()
        with StreamReader(channel, READ) as reader:
            assert pa.ipc.open_stream(reader).read_all() == WHOLE
    with pytest.raises(UsageError):
        reader.readinto(bytearray(1))


def test_batches_as_stored_are_asked_for(opened: Any) -> None:
    with ReplayPeer([Answer(body=stream([]))] * 2) as peer:
        transport = opened(peer)
        assert list(transport.read(READ, attempt())) == []
        compressed = CallOptions(retry=NO_RETRIES, compression="lz4")
        assert list(transport.read(READ, attempt(compressed))) == []
    plain, lz4 = peer.requests
    assert "MaxBatchRows" not in json.loads(plain.body)
    assert plain.headers["accept-encoding"] == "identity"
    assert lz4.headers["accept-encoding"] == "x-lz4-frame"


# --- writing -----------------------------------------------------------------------------------


def test_a_body_is_one_arrow_stream_of_known_length(opened: Any) -> None:
    big = pa.record_batch({"n": range(300_000), "s": ["x"] * 300_000}, schema=SCHEMA)
    batches = [rows(0, 3), big, rows(3, 4)]
    request = WriteTable(table=TABLE, session_id="ws-1", stream_id="s", count=4)
    with ReplayPeer([Answer(body=b"{}")]) as peer:
        opened(peer).write(request, batches, SCHEMA, attempt(new_id=lambda: "t-1"))
    (received,) = peer.requests
    assert received.headers["content-length"] == str(len(received.body))
    assert "transfer-encoding" not in received.headers
    assert received.headers["odps-tunnel-retry-trace-id"] == "t-1"
    assert pa.ipc.open_stream(received.body).read_all() == pa.Table.from_batches(batches)


@pytest.mark.parametrize("idle", [None, 7.0])
def test_a_body_is_taken_within_the_calls_own_time(
    opened: Any, monkeypatch: pytest.MonkeyPatch, idle: float | None
) -> None:
    sent: list[Any] = []

    def ask(*args: Any, body: Any, **words: Any) -> Any:
        sent.append(body)
        return asked(*args, body=body, **words)

    asked = one_exchange.ask
    monkeypatch.setattr(service_exchanges, "ask", ask)
    with ReplayPeer([OK, Answer(body=b"{}")]) as peer:
        transport = opened(peer)
        options = CallOptions(retry=NO_RETRIES, timeouts=Timeouts(idle=idle))
        transport.call(SESSION, attempt(options))
        request = WriteTable(table=TABLE, session_id="ws-1", stream_id="s")
        transport.write(request, [rows(0, 2)], SCHEMA, attempt(options))
    assert [body.idle_seconds for body in sent] == [idle, idle]


def test_a_write_is_repeated_under_one_trace_id(opened: Any) -> None:
    with ReplayPeer([Answer(cut=0), fault(503, "ServiceUnavailable"), Answer(body=b"{}")]) as peer:
        options = CallOptions(retry=RetryPolicy(first_delay_seconds=0.0))
        channel = Channel(opened(peer), options, Timing(), None)
        request = WriteTable(table=TABLE, session_id="ws-1", stream_id="s")
        channel.retrying(
            lambda attempt: channel.transport.write(request, [rows(0, 2)], SCHEMA, attempt),
            repeatable=True,
        )
    assert len({r.headers["odps-tunnel-retry-trace-id"] for r in peer.requests}) == 1
    assert [r.headers["odps-tunnel-retry-index"] for r in peer.requests] == ["0", "1", "2"]
    assert len({r.body for r in peer.requests}) == 1


def test_what_may_not_be_repeated_is_not(opened: Any) -> None:
    from fletching.protocol.messages.admin import RunStatement

    with ReplayPeer([Answer(cut=0)]) as peer:
        channel = Channel(opened(peer), CallOptions(), Timing(), None)
        with pytest.raises(ConnectionBrokenError):
            channel.call(RunStatement(project="p", text="DROP TABLE t"))
        assert len(peer.requests) == 1


# --- addresses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://h", "http://h"),
        ("http://h:8787/", "http://h:8787"),
        ("http://h:8787/api", "http://h:8787"),
        ("https://h.example/api/", "https://h.example"),
        ("http://[::1]:80", "http://[::1]:80"),
    ],
)
def test_endpoints(url: str, endpoint: str) -> None:
    assert endpoint_of(url) == endpoint


@pytest.mark.parametrize(
    "url",
    ["ftp://h", "http://", "http://u:p@h", "http://h/other", "http://h?x=1", "http://h:99999"],
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(UsageError):
        endpoint_of(url)


@pytest.mark.parametrize(
    ("milliseconds", "connections"), [(1, 1), (5, 1), (10, 1), (20, 11), (40, 16)]
)
def test_the_way_decides_about_connections(
    opened: Any, milliseconds: int, connections: int
) -> None:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += milliseconds / 3000  # looked at three times from a request to its reply
        return now

    with ReplayPeer([OK] * 3) as peer:
        transport = opened(peer, clock=clock)
        assert transport.default_connections == 1
        for _ in range(3):
            transport.call(SESSION, attempt())
        assert transport.default_connections == connections
