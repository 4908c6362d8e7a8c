"""The sockets that a server listens at: whose port it is, who may share it, and the one beside it."""

from __future__ import annotations

import array
import os
import socket
import sys
from pathlib import Path

import pytest

import fletching
from fletching.errors import TransportError
from fletching.protocol.http.headers import direct_socket_address
from fletching.server.http.socket_writer import SocketWriter
from fletching.server.server import bind, bind_direct_socket
from fletching.server.server_settings import ServerSettings


def test_a_port_belongs_to_one_unless_it_is_shared() -> None:
    with bind(ServerSettings(port=0)) as alone:
        port = alone.getsockname()[1]
        for shares in (False, True):
            with pytest.raises(TransportError, match=f"{port}: another process listens there"):
                bind(ServerSettings(port=port), shares=shares)
    with bind(ServerSettings(port=0), shares=True) as first:
        port = first.getsockname()[1]
        with bind(ServerSettings(port=port), shares=True) as second:
            assert second.getsockname()[1] == port
        with pytest.raises(TransportError, match="another process listens there"):
            bind(ServerSettings(port=port))


def test_clients_connect_from_then_on_unless_the_port_is_only_kept() -> None:
    with bind(ServerSettings(port=0)) as listening:
        socket.create_connection(listening.getsockname(), timeout=600).close()
    with (
        bind(ServerSettings(port=0), listens=False) as kept,
        pytest.raises(ConnectionRefusedError),
    ):
        socket.create_connection(kept.getsockname(), timeout=600)


def test_an_address_that_cannot_be_listened_on_is_said() -> None:
    for host in ("192.0.2.1", "no..host"):
        with pytest.raises(TransportError, match="cannot listen on") as caught:
            bind(ServerSettings(host=host, port=0))
        assert host in str(caught.value)


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="abstract sockets")


@linux
def test_every_name_is_new_and_bound_by_its_owner_alone() -> None:
    (left, first), (right, second) = bind_direct_socket(), bind_direct_socket()
    assert first is not None
    assert second is not None
    with first, second, socket.socket(socket.AF_UNIX) as other:
        assert left != right
        with pytest.raises(OSError, match="in use"):
            other.bind(direct_socket_address(left))


def test_systems_without_such_sockets_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert bind_direct_socket() == ("", None)


@linux
def test_the_socket_ends_with_its_server(tmp_path: Path) -> None:
    with fletching.serve(tmp_path, port=0) as server:
        address = direct_socket_address(server.service.direct_socket)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(address)
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
    with socket.socket(socket.AF_UNIX) as connection, pytest.raises(ConnectionRefusedError):
        connection.connect(address)


def test_descriptors_go_with_the_first_byte(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"contents")
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    descriptor = os.open(path, os.O_RDONLY)
    writer = SocketWriter(ours.fileno(), owed_bytes=1)
    try:
        writer.pass_descriptors(b"x", [descriptor])
        assert writer.sent_bytes == 1
        data, attached, _, _ = theirs.recvmsg(10, socket.CMSG_SPACE(4))
        assert data == b"x"
        (received,) = array.array("i", attached[0][2])
        with os.fdopen(received, "rb") as file:
            assert file.read() == b"contents"
            with pytest.raises(OSError, match="write"):
                file.write(b"x")
    finally:
        writer.close()
        os.close(descriptor)
        ours.close()
        theirs.close()
