"""The socket that a server listens at: whose port it is, and who may share it."""

from __future__ import annotations

import socket

import pytest

from fletching.errors import TransportError
from fletching.server.server import bind
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
