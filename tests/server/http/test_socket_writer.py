"""Replies sent by workers past the event loop: whole for any client, and never for a thread's price."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest
from tests.server.conftest import Run
from tests.waiting import until
from typing_extensions import Buffer

from fletching.errors import ConnectionBrokenError, StorageError
from fletching.server.api.response_body import send_source
from fletching.server.http import socket_writer as direct
from fletching.server.http.socket_writer import SocketWriter
from fletching.server.workers import Job, Workers

MEBIBYTE = 1 << 20
GROUP = bytes(range(251)) * (MEBIBYTE // 251)
REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


class Groups:
    """Gives the same group so many times; notes which threads asked, and whether it was closed."""

    def __init__(self, count: int, fail_after: int | None = None) -> None:
        self.left = count
        self.given = 0
        self.fail_after = fail_after
        self.threads: set[str] = set()
        self.closed = False
        self.ended = False

    def next_chunk(self) -> Sequence[Buffer]:
        self.threads.add(threading.current_thread().name)
        if self.given == self.fail_after:
            raise StorageError("the disk failed")
        if not self.left:
            self.ended = True
            return ()
        self.left -= 1
        self.given += 1
        return (GROUP[:1000], memoryview(GROUP)[1000:], b"")

    def buffered_chunk(self) -> Sequence[Buffer]:
        return ()

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connected pair: ours, which does not block, and the client's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def sending() -> Iterator[Callable[[socket.socket, int | None], SocketWriter]]:
    """Makes senders; closed at the end of the test."""
    with contextlib.ExitStack() as stack:

        def make(ours: socket.socket, owed_bytes: int | None) -> SocketWriter:
            return stack.enter_context(
                contextlib.closing(SocketWriter(ours.fileno(), owed_bytes=owed_bytes))
            )

        yield make


def taken(client: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        part = client.recv(length - len(data))
        assert part
        data += part
    return bytes(data)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client is slow only when it takes nothing at all, however busy the machine is."""
    monkeypatch.setattr(direct, "PATIENCE_MILLISECONDS", 30_000)


@pytest.mark.usefixtures("patient")
def test_all_groups_go_to_a_client_that_keeps_up(ends: Any, sending: Any) -> None:
    ours, theirs = ends
    source = Groups(20)
    sender = sending(ours, 20 * len(GROUP))
    received: list[bytes] = []
    client = threading.Thread(target=lambda: received.append(taken(theirs, 20 * len(GROUP))))
    client.start()
    while not source.ended:
        assert sender.send(source) == ()
    client.join()
    assert received == [GROUP * 20]
    assert sender.sent_bytes == 20 * len(GROUP)
    sender.close()
    ours.send(b"!")  # the connection itself is still open
    assert theirs.recv(1) == b"!"


def test_what_a_slow_client_leaves_is_given_back(ends: Any, sending: Any) -> None:
    ours, theirs = ends
    sender = sending(ours, 100 * len(GROUP))
    source = Groups(100)
    rest = sender.send(source)
    left = sum(view.nbytes for view in rest)
    assert 0 < left <= len(GROUP)
    assert sender.sent_bytes + left == source.given * len(GROUP)
    whole = GROUP * source.given
    assert b"".join(rest) == whole[sender.sent_bytes :]
    assert taken(theirs, sender.sent_bytes) == whole[: sender.sent_bytes]


@pytest.mark.usefixtures("patient")
def test_no_byte_beyond_what_is_owed_is_sent(ends: Any, sending: Any) -> None:
    ours, theirs = ends
    sender = sending(ours, 2 * len(GROUP) - 1)
    received: list[bytes] = []
    client = threading.Thread(target=lambda: received.append(taken(theirs, len(GROUP))))
    client.start()
    with pytest.raises(ValueError, match="longer than its Content-Length"):
        sender.send(Groups(3))
    client.join()
    assert sender.sent_bytes == len(GROUP)
    assert received == [GROUP]


class Calls:
    """A socket that notes how much it is given at a time, and takes less now and then."""

    def __init__(self, takes: Sequence[int]) -> None:
        self.given: list[int] = []
        self.buffers = 0
        self.data = bytearray()
        self._takes = iter(takes)

    def sendmsg(self, views: Sequence[memoryview]) -> int:
        whole = b"".join(views)
        self.given.append(len(whole))
        self.buffers = max(self.buffers, len(views))
        taken = whole[: next(self._takes, len(whole))]
        self.data += taken
        return len(taken)

    def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize("takes", [(), (1, 5, 1 << 19, 3), (999_999, 1, 1 << 20)])
@pytest.mark.parametrize("size", [7, 1000, 3 * MEBIBYTE + 1])
def test_one_system_call_gets_a_mebibyte_at_most(
    ends: Any, sending: Any, takes: Sequence[int], size: int
) -> None:
    data = bytes(range(251)) * (5 * MEBIBYTE // 251)
    views = [data[at : at + size] for at in range(0, len(data), size)]
    if size == 7:
        views = views[:2000]
    data = b"".join(views)

    class Once(Groups):
        def next_chunk(self) -> Sequence[Buffer]:
            return () if super().next_chunk() == () else views

    sender = sending(ends[0], len(data))
    sender._socket.close()
    sender._socket = calls = Calls(takes)
    assert sender.send(Once(1)) == ()
    assert bytes(calls.data) == data
    assert max(calls.given) <= direct.CALL_BYTES == MEBIBYTE
    assert calls.buffers <= direct.MAX_BUFFERS
    if size > 1000 and not takes:
        assert calls.given[:-1] == [MEBIBYTE] * (len(calls.given) - 1)


@pytest.mark.usefixtures("patient")
def test_a_turn_ends(ends: Any, sending: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "TURN_BYTES", 1)
    ours, theirs = ends
    source = Groups(3)
    sender = sending(ours, 3 * len(GROUP))
    client = threading.Thread(target=lambda: taken(theirs, len(GROUP)))
    client.start()
    assert sender.send(source) == ()
    client.join()
    assert source.given == 1
    assert not source.ended


@pytest.mark.parametrize("how", ["cut", "client"])
def test_a_send_ends_with_its_connection(
    ends: Any, sending: Any, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct, "PATIENCE_MILLISECONDS", 10_000)
    ours, theirs = ends
    sender = sending(ours, 1000 * len(GROUP))
    failures: list[BaseException] = []

    def send() -> None:
        try:
            sender.send(Groups(1000))
        except OSError as exc:
            failures.append(exc)

    worker = threading.Thread(target=send)
    worker.start()
    taken(theirs, len(GROUP))
    if how == "cut":
        sender.cut()
    else:
        theirs.close()
    worker.join(600)
    assert not worker.is_alive()
    assert len(failures) == 1


# --- behind a real loop ---------------------------------------------------------------------------


def replying(
    sources: Iterable[Groups], length: int | None, failures: list[BaseException]
) -> Callable[..., Any]:
    """An application that answers each request with the next source."""
    turns = iter(sources)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        workers, source = Workers(1, 2), next(turns)
        exchange = scope["extensions"]["fletching.exchange"]
        try:
            async with Job.opened(workers.cpu, lambda: source, Groups.close) as job:
                await exchange.start(length)
                await send_source(exchange, job, source, source.next_chunk())
        except BaseException as exc:
            failures.append(exc)
            raise
        finally:
            workers.close()

    return app


@pytest.mark.parametrize("pause", [0.0, 0.06], ids=["fast", "slow"])
def test_a_reply_is_whole_and_most_of_it_passes_the_loop(run_app: Run, pause: float) -> None:
    count = 200 if not pause else 40
    sources, failures = [Groups(count), Groups(count)], list[BaseException]()
    running = run_app(replying(sources, count * len(GROUP), failures))
    with running.connect() as client:
        for _ in sources:  # the connection goes on as any other
            client.sendall(REQUEST)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += taken(client, 1)
            for number in range(count):
                if pause and number % 10 == 0:
                    time.sleep(pause)  # longer than a worker is patient
                assert taken(client, len(GROUP)) == GROUP
    assert not failures
    for source in sources:
        assert any(name.startswith("fletching-cpu") for name in source.threads)


@pytest.mark.parametrize("pause", [0.0, 0.06], ids=["fast", "slow"])
def test_a_chunked_reply_is_whole_and_most_of_it_passes_the_loop(
    run_app: Run, pause: float
) -> None:
    count = 200 if not pause else 40
    sources, failures = [Groups(count), Groups(count)], list[BaseException]()
    running = run_app(replying(sources, None, failures))
    with running.connect() as client:
        for _ in sources:
            client.sendall(REQUEST)
            response = http.client.HTTPResponse(client)
            response.begin()
            assert response.chunked
            for number in range(count):
                if pause and number % 10 == 0:
                    time.sleep(pause)
                assert response.read(len(GROUP)) == GROUP
            assert response.read() == b""
    assert not failures
    for source in sources:
        assert any(name.startswith("fletching-cpu") for name in source.threads)


@pytest.mark.usefixtures("patient")
def test_each_group_is_one_chunk(ends: Any, sending: Any) -> None:
    ours, theirs = ends
    sender = sending(ours, None)
    framed = b"%x\r\n%s\r\n" % (len(GROUP), GROUP)
    received: list[bytes] = []
    client = threading.Thread(target=lambda: received.append(taken(theirs, len(framed))))
    client.start()
    assert sender.send(Groups(1)) == ()
    client.join()
    assert received == [framed]
    assert sender.sent_bytes == len(framed)


def test_a_client_that_leaves_frees_the_worker_and_the_source(run_app: Run) -> None:
    source, failures = Groups(10_000), list[BaseException]()
    running = run_app(replying([source], 10_000 * len(GROUP), failures))
    client = running.connect()
    client.sendall(REQUEST)
    taken(client, 5 * len(GROUP))
    client.close()
    until(lambda: failures)
    assert isinstance(failures[0], ConnectionBrokenError)
    assert source.closed
    assert source.given < 10_000


def test_a_failing_source_cuts_the_reply(run_app: Run) -> None:
    source, failures = Groups(50, fail_after=20), list[BaseException]()
    running = run_app(replying([source], 50 * len(GROUP), failures))
    with running.connect() as client:
        client.sendall(REQUEST)
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while part := client.recv(1 << 20):
                received += len(part)
    assert isinstance(failures[0], StorageError)
    assert 19 * len(GROUP) <= received < 21 * len(GROUP) + 1000
    assert source.closed
