from __future__ import annotations

import http.client
import socket
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fletching.testing.replay import Answer, ReplayPeer, ReplayRequest


@contextmanager
def connected(peer: ReplayPeer) -> Iterator[http.client.HTTPConnection]:
    parts = urllib.parse.urlsplit(peer.url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=600)
    try:
        yield connection
    finally:
        connection.close()


def exchange(
    connection: http.client.HTTPConnection, target: str = "/", body: bytes | None = None
) -> tuple[int, bytes]:
    connection.request("POST", target, body)
    reply = connection.getresponse()
    return reply.status, reply.read()


def test_answers_come_in_turn_on_one_connection() -> None:
    with ReplayPeer([Answer(body=b"one"), Answer(status=503, body=b"two")]) as peer:
        with connected(peer) as connection:
            assert exchange(connection, "/a?x=1&y=%20", b"hello") == (200, b"one")
            assert exchange(connection) == (503, b"two")
            assert exchange(connection)[0] == 400
        assert peer.connections == 1
    first = peer.requests[0]
    assert (first.method, first.path, first.query) == ("POST", "/a", {"x": "1", "y": " "})
    assert first.body == b"hello"
    assert first.headers["content-length"] == "5"
    assert [request.connection for request in peer.requests] == [0, 0, 0]


def test_answers_may_depend_on_the_request() -> None:
    def answer(request: ReplayRequest) -> Answer:
        return Answer(body=request.body[::-1])

    with ReplayPeer(answer) as peer, connected(peer) as connection:
        assert exchange(connection, body=b"abc") == (200, b"cba")


def test_chunked_both_ways() -> None:
    with ReplayPeer([Answer(body=b"0123456789", chunk_bytes=3)]) as peer:
        with connected(peer) as connection:
            connection.request("POST", "/", iter([b"ab", b"cde"]), encode_chunked=True)
            assert connection.getresponse().read() == b"0123456789"
        assert peer.requests[0].body == b"abcde"


def test_a_cut_ends_the_connection_at_that_byte() -> None:
    answer = Answer(body=b"x" * 100)
    whole = answer.wire()
    for cut in (0, 1, len(whole) - 100, len(whole) - 1):
        with ReplayPeer([Answer(body=b"x" * 100, cut=cut)]) as peer:
            host, port = urllib.parse.urlsplit(peer.url).netloc.split(":")
            with socket.create_connection((host, int(port)), timeout=600) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
                received = b"".join(iter(lambda: sock.recv(1000), b""))
            assert received == whole[:cut]


def test_a_reset_is_a_reset() -> None:
    with (
        ReplayPeer([Answer(body=b"x", cut=0, reset=True)]) as peer,
        connected(peer) as connection,
        pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)),
    ):
        exchange(connection)


def test_silence_lasts_until_the_client_goes() -> None:
    answer = Answer(body=b"0123456789", silent_after=0)
    with ReplayPeer([answer]) as peer, connected(peer) as connection:
        connection.timeout = 0.05
        with pytest.raises(TimeoutError):
            exchange(connection)


def test_closing_ends_silence_and_threads() -> None:
    before = threading.active_count()
    peer = ReplayPeer([Answer(silent_after=0)])
    with connected(peer) as connection:
        connection.request("POST", "/")
        peer.close()
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            connection.getresponse()
    peer.close()
    assert threading.active_count() <= before


def test_a_lying_length() -> None:
    short = Answer(body=b"short", announced_length=10, cut=1000)
    with (
        ReplayPeer([short]) as peer,
        connected(peer) as connection,
        pytest.raises(http.client.IncompleteRead),
    ):
        exchange(connection)
    open_ended = Answer(body=b"until the end", announced_length=-1)
    with ReplayPeer([open_ended]) as peer, connected(peer) as connection:
        assert exchange(connection) == (200, b"until the end")


def test_a_body_need_not_be_taken_whole() -> None:
    with ReplayPeer([Answer(status=413, request_bytes=4, close=True)]) as peer:
        with connected(peer) as connection:
            assert exchange(connection, body=b"0123456789")[0] == 413
        assert peer.requests[0].body == b"0123"
