"""The Unix socket beside the port, at which clients on the same host get descriptors of segments.

It is an abstract socket of Linux: it has a name and no file, so that it ends with its process and is
reached from wherever the loopback port is (the same network namespace). Its name is made up at each
start and told to clients that have signed a request, so that nobody can be there before. The same
requests are answered at it as at the port, signed alike.
"""

from __future__ import annotations

import secrets
import socket
import sys

from fletching.protocol.http.headers import direct_socket_address

__all__ = ["bind_direct_socket"]


def bind_direct_socket() -> tuple[str, socket.socket | None]:
    """A new name, and a socket bound to it; ``""`` and None where there are no such sockets."""
    if not sys.platform.startswith("linux"):
        return "", None
    name = f"fletching-{secrets.token_hex(16)}"
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(direct_socket_address(name))
    except OSError:
        # A system that forbids them: reads go through the port.
        bound.close()
        return "", None
    bound.setblocking(False)
    return name, bound
