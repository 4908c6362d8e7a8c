"""How a body of known length is received: in what portions it may come, and how waiting ends."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from fletching.client.call_options import Timeouts
from fletching.client.cancellation import Cancellation
from fletching.client.transports.http.connections import Interrupter, make_pool_manager
from fletching.client.transports.http.http_response import WAKE_BYTES, Reply, Stopwatch
from fletching.client.transports.http.socket_reader import LARGE_BYTES
from fletching.errors import ConnectionBrokenError, ReadTimeoutError

MEBIBYTE = 1 << 20
BODY = bytes(range(256)) * (5 * MEBIBYTE // 256)


@contextlib.contextmanager
def peer(portions: Sequence[int], length: int | None, pause: float = 0.02) -> Iterator[str]:
    """Sends a body of ``length``, or one long chunk of it, in portions with pauses between them, then stays silent."""
    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            while b"\r\n\r\n" not in connection.recv(65536):
                pass
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            if length is None:
                connection.sendall(b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % MEBIBYTE)
            else:
                connection.sendall(b"Content-Length: %d\r\n\r\n" % length)
            start = 0
            for portion in portions:
                time.sleep(pause)
                connection.sendall(BODY[start : start + portion])
                start += portion
            done.wait(20)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        done.set()
        thread.join()
        listener.close()


@contextlib.contextmanager
def asked(url: str, idle: float, cancellation: Cancellation | None = None) -> Iterator[Reply]:
    pool = make_pool_manager(None, connections=1, ca_certificates=None)
    interrupter = Interrupter(cancellation or Cancellation())
    response = pool.urlopen("GET", url, preload_content=False, retries=False)
    reply = Reply(response, Stopwatch(Timeouts(idle=idle), time.monotonic, url), url, interrupter)
    try:
        yield reply
    finally:
        reply.close()
        pool.clear()


def received(reply: Reply, sizes: Sequence[int]) -> bytes:
    """Fills buffers of the sizes in turn, as messages are, and then looks for the end."""
    body = bytearray()
    for size in sizes:
        view = memoryview(bytearray(size))
        while view.nbytes:
            count = reply.readinto(view)
            assert count
            body += view[:count]
            view = view[count:]
    assert reply.readinto(bytearray(1)) == 0
    return bytes(body)


@pytest.mark.parametrize(
    "portions",
    [
        # The rest of the body is below the low-water mark, together or with what came before.
        [2 * MEBIBYTE - 1000, 1000],
        [WAKE_BYTES - 1, 1, 2 * MEBIBYTE - WAKE_BYTES],
        [WAKE_BYTES // 2] * 8,
        [LARGE_BYTES - 1, 2 * MEBIBYTE - LARGE_BYTES + 1],
        [2 * MEBIBYTE - 3 * LARGE_BYTES, LARGE_BYTES, LARGE_BYTES, LARGE_BYTES],
        [1] * 5 + [2 * MEBIBYTE - 5],
        [2 * MEBIBYTE],
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "sizes",
    [
        [2 * MEBIBYTE],
        [4096, 2 * MEBIBYTE - 4096],
        [MEBIBYTE + 1, MEBIBYTE - 1],
        [4096, WAKE_BYTES + 100, 4096, 2 * MEBIBYTE - WAKE_BYTES - 100 - 8192],
        [300_000, 300_000, 2 * MEBIBYTE - 600_000],
    ],
    ids=str,
)
def test_a_body_may_come_in_any_portions(portions: list[int], sizes: list[int]) -> None:
    started = time.monotonic()
    with peer(portions, 2 * MEBIBYTE) as url, asked(url, idle=300) as reply:
        assert received(reply, sizes) == BODY[: 2 * MEBIBYTE]
    # Nobody waited for a timeout to find what had long come.
    assert time.monotonic() - started < 290


def test_what_came_before_the_peer_fell_silent_is_progress() -> None:
    with peer([100_000], 2 * MEBIBYTE) as url, asked(url, idle=0.3) as reply:
        assert reply.readinto(bytearray(2 * MEBIBYTE)) == 100_000
        with pytest.raises(ReadTimeoutError, match=r"sent nothing for 0\.3 s"):
            reply.readinto(bytearray(2 * MEBIBYTE))


def test_a_reply_of_no_known_length_that_falls_silent_is_given_up() -> None:
    with peer([1000], None) as url, asked(url, idle=0.3) as reply:
        assert reply.readinto(bytearray(1000)) == 1000
        with pytest.raises(ReadTimeoutError, match=r"sent nothing for 0\.3 s"):
            reply.readinto(bytearray(1000))


def test_a_value_that_is_too_long_ends_its_connection() -> None:
    with peer([100_000], 2 * MEBIBYTE) as url, asked(url, idle=300) as reply:
        with pytest.raises(ConnectionBrokenError, match="longer than 65536 bytes"):
            reply.read_all(65_536)
        assert reply._response is None


def test_the_rest_of_a_message_arrives_while_its_beginning_is_taken() -> None:
    length = 4096 + 300_000
    started = time.monotonic()
    with peer([4096 + 200_000, 100_000], length, 0.1) as url, asked(url, idle=300) as reply:
        assert received(reply, [4096, 300_000]) == BODY[:length]
    assert time.monotonic() - started < 290


def test_a_kept_connection_wakes_for_little_again() -> None:
    # The first reply leaves a low-water mark and a timeout on the socket; the second is a few bytes.
    from fletching.testing.replay import Answer, ReplayPeer

    pool = make_pool_manager(None, connections=1, ca_certificates=None)
    with ReplayPeer([Answer(body=BODY[:300_000]), Answer(body=b"small")]) as peer:
        for body in (BODY[:300_000], b"small"):
            url = f"{peer.url}/"
            interrupter = Interrupter(Cancellation())
            response = pool.urlopen("GET", url, preload_content=False, retries=False)
            timeouts = Timeouts(idle=600)
            started = time.monotonic()
            reply = Reply(response, Stopwatch(timeouts, time.monotonic, url), url, interrupter)
            assert reply.read_all(1 << 20) == body
            reply.close()
            assert time.monotonic() - started < 590
        assert peer.connections == 1
        pool.clear()
