"""Bodies received from the socket itself: in any portions, under the kernel's timeout, and taken back at the end."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator

import pytest

from fletching.client.transports.http.socket_reader import LARGE_BYTES, SocketReader

BODY = os.urandom(3 * LARGE_BYTES)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY)


@contextlib.contextmanager
def begun(
    head: bytes = HEAD, first: bytes = b""
) -> Iterator[tuple[http.client.HTTPResponse, socket.socket, socket.socket]]:
    """A reply whose head was read by the standard library; both ends of its connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
    with here, peer, http.client.HTTPResponse(here) as raw:
        peer.sendall(head + first)
        raw.begin()
        yield raw, here, peer


def options(sock: socket.socket) -> tuple[int, tuple[int, ...]]:
    timeout = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16)
    mark = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)
    return mark, struct.unpack("@ll", timeout)


def taken(reader: SocketReader, size: int, wake_bytes: int = LARGE_BYTES) -> bytes:
    room = bytearray(size)
    return bytes(room[: reader.readinto(memoryview(room), wake_bytes)])


def test_what_came_with_the_head_comes_first_and_the_end_is_known() -> None:
    with begun(first=BODY[:100]) as (raw, here, peer):
        reader = SocketReader.of(raw, here)
        assert reader is not None
        assert taken(reader, 60) + taken(reader, 60) == BODY[:100]
        reader.set_timeout(60)
        sender = threading.Thread(target=peer.sendall, args=(BODY[100:] + b"of another reply",))
        sender.start()
        rest = b""
        while reader.left:
            rest += taken(reader, len(BODY), len(BODY))
        sender.join()
        assert rest == BODY[100:]
        assert taken(reader, 10) == b""


@pytest.mark.skipif(sys.platform != "linux", reason="where the low-water mark is honoured")
@pytest.mark.parametrize("wanted", [LARGE_BYTES, 2 * LARGE_BYTES])
def test_a_large_receive_waits_for_much_and_not_for_more_than_comes(wanted: int) -> None:
    with begun() as (raw, here, peer):
        reader = SocketReader.of(raw, here)
        assert reader is not None
        reader.set_timeout(300)
        peer.sendall(BODY[:1000])
        later = threading.Timer(0.05, peer.sendall, (BODY[1000:],))
        later.start()
        assert len(taken(reader, wanted)) >= LARGE_BYTES
        assert options(here)[0] == LARGE_BYTES
        later.join()
        reader.left = 1000  # no more than this is to come: the mark must not be above it
        assert len(taken(reader, 2000)) == 1000
        assert options(here)[0] == 1


@pytest.mark.parametrize("size", [10, 2 * LARGE_BYTES])
def test_silence_ends_with_the_timeout(size: int) -> None:
    with begun() as (raw, here, _):
        reader = SocketReader.of(raw, here)
        assert reader is not None
        reader.set_timeout(0.01)
        with pytest.raises(BlockingIOError):
            taken(reader, size)


def test_the_shortest_timeout_is_none_of_zero() -> None:
    with begun() as (raw, here, _):
        reader = SocketReader.of(raw, here)
        assert reader is not None
        reader.set_timeout(1e-9)
        assert options(here)[1] != (0, 0)


@pytest.mark.parametrize("reusable", [True, False])
def test_a_socket_that_serves_another_reply_is_as_it_was(reusable: bool) -> None:
    with begun(first=BODY[:10]) as (raw, here, _):
        reader = SocketReader.of(raw, here)
        assert reader is not None
        reader.set_timeout(5)
        reader._wake_at(4096)
        reader.close(reusable=reusable)
        assert (options(here) == (1, (0, 0))) is reusable
        assert taken(reader, 10) == BODY[:10]
        with pytest.raises(ValueError, match="closed"):
            taken(reader, 10)
        reader.set_timeout(1)  # nothing is left to set
        reader.close(reusable=True)


def test_a_peer_that_left_gives_nothing_more() -> None:
    with begun() as (raw, here, peer):
        reader = SocketReader.of(raw, here)
        assert reader is not None
        reader.set_timeout(60)
        peer.close()
        assert taken(reader, 10) == b""
        assert reader.left == len(BODY)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
    ids=["chunks", "no body", "no length"],
)
def test_other_bodies_are_the_standard_library_s(head: bytes) -> None:
    with begun(head) as (raw, here, _):
        assert SocketReader.of(raw, here) is None
    with begun() as (raw, _, _):
        assert SocketReader.of(raw, None) is None
