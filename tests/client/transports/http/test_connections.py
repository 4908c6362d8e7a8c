"""Connections that can be broken off wherever they wait, and that say why they could not be made."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
)

from fletching.client.cancellation import Cancellation
from fletching.client.transports.http.connections import (
    DescriptorSocket,
    DirectPool,
    Interrupter,
    ReplyConnection,
    make_pool_manager,
)
from fletching.errors import OperationCancelledError

OPTIONS: Any = {"redirect": False, "retries": False, "preload_content": False}


@pytest.fixture
def manager() -> Iterator[urllib3.PoolManager]:
    made = make_pool_manager(None, connections=2, ca_certificates=None)
    yield made
    made.clear()


def test_connections_are_kept_and_say_what_they_sent_over(
    peer: Any, manager: urllib3.PoolManager
) -> None:
    used: set[object] = set()
    for _ in range(3):
        reply = manager.urlopen("GET", peer.url + "/", **OPTIONS)
        connection = reply.connection
        assert isinstance(connection, ReplyConnection)
        assert connection.raw_reply is not None
        assert connection.sock is not None
        assert connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        used.add(connection.sock.getsockname())
        reply.read()
        reply.release_conn()
    assert len(used) == 1


def test_clearing_closes_what_somebody_still_refers_to(
    peer: Any, manager: urllib3.PoolManager
) -> None:
    reply = manager.urlopen("GET", peer.url + "/", **OPTIONS)
    connection = reply.connection
    assert isinstance(connection, ReplyConnection)
    reply.read()
    reply.release_conn()
    pool = manager.connection_from_url(peer.url)  # as the error of a broken exchange does
    assert connection.sock is not None
    manager.clear()
    assert connection.sock is None
    assert pool.pool is None


def test_certificates_are_those_that_were_named(tmp_path: Path) -> None:
    file = str(tmp_path / "authorities.pem")
    for named, proxy in ((file, None), (None, None), (file, "http://127.0.0.1:9")):
        made = make_pool_manager(proxy, connections=1, ca_certificates=named)
        assert made.connection_pool_kw.get("ca_certs") == named
        made.clear()


def test_nobody_there_and_no_name(manager: urllib3.PoolManager) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NewConnectionError, match="refused"):
        manager.urlopen("GET", f"http://127.0.0.1:{port}/", **OPTIONS)
    with pytest.raises(NameResolutionError):
        manager.urlopen("GET", "http://nowhere.invalid/", **OPTIONS)


def test_a_peer_that_takes_no_connection_is_given_up(manager: urllib3.PoolManager) -> None:
    """A queue of connections that is full: the system answers nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        held = []
        for _ in range(4):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
            held.append(sock)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(ConnectTimeoutError):
            manager.urlopen("GET", url, timeout=urllib3.Timeout(connect=0.3, read=60), **OPTIONS)
        # Broken off while it is being made: there is no timeout to wait for.
        cancellation = Cancellation()
        interrupter = Interrupter(cancellation)
        threading.Timer(0.1, cancellation.cancel, ["enough"]).start()
        with pytest.raises(NewConnectionError, match="cancelled"), interrupter.around():
            manager.urlopen("GET", url, timeout=urllib3.Timeout(connect=600, read=60), **OPTIONS)
        interrupter.end()
        for sock in held:
            sock.close()


def test_an_interruption_ends_the_wait_for_a_reply(peer: Any, manager: urllib3.PoolManager) -> None:
    cancellation = Cancellation()

    def silent(_: bytes) -> None:
        cancellation.cancel("enough")

    peer.answers = silent
    interrupter = Interrupter(cancellation)
    with pytest.raises(Exception, match=r"Connection|closed|aborted"), interrupter.around():
        manager.urlopen("GET", peer.url + "/", **OPTIONS)
    assert interrupter.interrupted
    with pytest.raises(OperationCancelledError):
        interrupter.check()
    with pytest.raises(OperationCancelledError):
        Interrupter(cancellation)


def test_an_interruption_ends_the_handshake_of_tls(manager: urllib3.PoolManager) -> None:
    """Of a peer that takes the connection and says nothing."""
    cancellation = Cancellation()
    with socket.create_server(("127.0.0.1", 0)) as silent:

        def cancel() -> None:
            peer, _ = silent.accept()
            with peer:
                assert peer.recv(1)  # the client has begun
                cancellation.cancel("enough")
                waiting.wait(600)

        waiting = threading.Event()
        thread = threading.Thread(target=cancel)
        thread.start()
        interrupter = Interrupter(cancellation)
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(HTTPError), interrupter.around():
            manager.urlopen("GET", url, timeout=600, **OPTIONS)
        assert interrupter.interrupted
        waiting.set()
        thread.join()


def test_what_has_ended_is_not_interrupted(peer: Any, manager: urllib3.PoolManager) -> None:
    """Its connection may serve others by then."""
    cancellation = Cancellation()
    interrupter = Interrupter(cancellation)
    with interrupter.around():
        reply = manager.urlopen("GET", peer.url + "/", **OPTIONS)
    reply.read()
    reply.release_conn()
    interrupter.end()
    interrupter.end()
    cancellation.cancel("too late")
    assert not interrupter.interrupted
    again = manager.urlopen("GET", peer.url + "/", **OPTIONS)
    assert again.read() == b"ok"


def test_an_interruption_before_the_connection_is_known_is_caught_up_with() -> None:
    class Connection:
        ended = False

        def shut_down(self) -> None:
            self.ended = True

    cancellation = Cancellation()
    interrupter = Interrupter(cancellation)
    cancellation.cancel("early")
    connection: Any = Connection()
    interrupter.attach(connection)
    assert connection.ended


# --- the socket that brings files -------------------------------------------------------------


def open_files() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def test_files_come_with_bytes_and_are_closed_unless_taken(tmp_path: Any) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    receiver = DescriptorSocket(fileno=ours.detach())
    before = open_files()
    for word in (b"one", b"two"):
        (tmp_path / word.decode()).write_bytes(word)
        with (tmp_path / word.decode()).open("rb") as file:
            socket.send_fds(theirs, [b"xy"], [file.fileno()])
        room = bytearray(2)
        assert (receiver.recv_into(room), bytes(room)) == (2, b"xy")
    first, second = receiver.take_descriptors()
    assert os.read(first, 9) + os.read(second, 9) == b"onetwo"
    assert not os.get_inheritable(first)
    os.close(first)
    os.close(second)
    with (tmp_path / "one").open("rb") as file:
        socket.send_fds(theirs, [b"z"], [file.fileno()])
    receiver.recv_into(bytearray(1))
    receiver.close()
    assert open_files() == before - 1
    theirs.close()


@pytest.mark.skipif(sys.platform != "linux", reason="as many as Linux sends in one message")
def test_as_many_files_come_at_once_as_the_system_sends(tmp_path: Any) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    receiver = DescriptorSocket(fileno=ours.detach())
    (tmp_path / "one").touch()
    with (tmp_path / "one").open("rb") as file:
        socket.send_fds(theirs, [b"x"], [file.fileno()] * 253)
    receiver.recv_into(bytearray(1))
    numbers = list(receiver.descriptors)
    assert len(numbers) == 253
    # Of these alone: threads of other tests may open and close files meanwhile.
    held = [Path(f"/proc/self/fd/{number}").readlink().name for number in numbers]
    assert held == ["one"] * 253
    receiver.close()
    for number in numbers:
        link = Path(f"/proc/self/fd/{number}")
        assert not link.is_symlink() or link.readlink().name != "one"
    theirs.close()


def test_requests_go_to_the_socket_under_the_services_name(tmp_path: Any) -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    heard: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        heard.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    pool = DirectPool("http://service:8123", str(tmp_path / "s"), connections=1)
    reply = pool.urlopen("GET", "/x?y=1", **OPTIONS)
    assert reply.read() == b"ok"
    thread.join()
    assert heard[0].startswith(b"GET /x?y=1 HTTP/1.1\r\n")
    assert b"Host: service:8123" in heard[0]
    pool.close()
    listener.close()
    pool = DirectPool("http://service:8123", str(tmp_path / "gone"), connections=1)
    with pytest.raises(NewConnectionError):
        pool.urlopen("GET", "/", **OPTIONS)
