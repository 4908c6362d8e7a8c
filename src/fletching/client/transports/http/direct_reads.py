"""Reads past the service: its Unix socket on this host, found, used and left by itself; and manifests.

A service names its Unix socket on its replies. A client whose connection to it has one address at both
ends tries the socket; if nobody is there (the connection goes on to another host, or the socket is another
network namespace's), it does not try that name again.

Manifests come as replies carry them: a header says how long, the rest of the body is one.
"""

from __future__ import annotations

import os
import threading

from fletching.client.transports.http.blob_packs import OpenPacks
from fletching.client.transports.http.connections import DirectPool
from fletching.client.transports.http.http_response import Reply, stated_length
from fletching.client.transports.http.mapped_reply import MappedSegments
from fletching.errors import ProtocolError
from fletching.protocol.http import headers as header_names
from fletching.protocol.http.headers import DIRECT_SOCKET, direct_socket_address
from fletching.protocol.messages.manifest import MAX_MANIFEST_BYTES, Manifest, decode_manifest

__all__ = ["DirectReads", "manifest_of"]


class DirectReads:
    """What a transport knows of its service's Unix socket. Thread-safe.

    Attributes:
        segments: the mappings that reads through it share.
        packs: likewise, the packs of blobs.
    """

    def __init__(self, endpoint: str, *, connections: int) -> None:
        self.segments = MappedSegments()
        self.packs = OpenPacks()
        self._endpoint = endpoint
        self._connections = connections
        self._lock = threading.Lock()
        self._name: str | None = None
        self._pool: DirectPool | None = None
        self._process = os.getpid()

    def learn(self, reply: Reply) -> None:
        """Takes notice of the socket that a reply names, if it has come from this host.

        One that answers is kept: of a service with several processes each has its own.
        """
        name = reply.headers.get(DIRECT_SOCKET)
        if name is None or name == self._name or self.pool is not None:
            return
        if not reply.came_from_this_host:
            return
        try:
            address = direct_socket_address(name)
        except ProtocolError:
            return
        with self._lock:
            self._name = name
            self._pool = DirectPool(self._endpoint, address, connections=self._connections)
            self._process = os.getpid()

    @property
    def pool(self) -> DirectPool | None:
        """The connections to the socket; None if none is known, or it was tried in vain."""
        with self._lock:
            if self._pool is not None and self._process != os.getpid():
                # A forked process must not talk on its parent's connections; it learns anew.
                self._pool = self._name = None
            return self._pool

    def leave(self, pool: DirectPool) -> None:
        """The socket does not answer: it is not tried again, until the service names another."""
        with self._lock:
            if self._pool is pool:
                self._pool = None
        pool.close()

    def close(self) -> None:
        """Closes the connections, and forgets the mappings, which batches keep."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()
        self.segments.clear()
        self.packs.clear()


def manifest_of(reply: Reply) -> Manifest | None:
    """The manifest that the rest of a reply is; None if it is an Arrow stream.

    Raises:
        ProtocolError: it cannot be used; the reply is closed.
        TransportError: the exchange failed.
    """
    length = stated_length(reply, header_names.MANIFEST, MAX_MANIFEST_BYTES)
    if length is None:
        return None
    try:
        data = reply.read_exactly(length)
        reply.finish()
        return decode_manifest(data)
    except BaseException:
        reply.close()
        raise
