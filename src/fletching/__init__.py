"""Fletching: tables and blobs over plain HTTP, verbatim, verified, exactly once.

``connect`` opens a client over HTTP or over a local folder, ``serve`` runs the service inside this
process; ``fletching.ipc``, ``fletching.lz4stream`` and ``fletching.wire`` stand alone and are
imported by name.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fletching._version import __version__
from fletching.errors import (
    AlreadyExistsError,
    ConflictError,
    FletchingError,
    NoPermissionError,
    NoSuchTableError,
    NotFoundError,
    ServiceError,
    TransportError,
    UsageError,
)

if TYPE_CHECKING:
    from fletching.client import (
        NO_RETRIES,
        Blob,
        CallOptions,
        Client,
        Partition,
        Progress,
        ReadSession,
        RetryPolicy,
        Scan,
        Split,
        Table,
        Timeouts,
    )

    # From where it is defined: through the package, a circle, mypy would not know its type.
    from fletching.client.addresses import connect
    from fletching.protocol.types.blob_type import BlobType, blob
    from fletching.server import Server, serve

__all__ = [
    "NO_RETRIES",
    "AlreadyExistsError",
    "Blob",
    "BlobType",
    "CallOptions",
    "Client",
    "ConflictError",
    "FletchingError",
    "NoPermissionError",
    "NoSuchTableError",
    "NotFoundError",
    "Partition",
    "Progress",
    "ReadSession",
    "RetryPolicy",
    "Scan",
    "Server",
    "ServiceError",
    "Split",
    "Table",
    "Timeouts",
    "TransportError",
    "UsageError",
    "__version__",
    "blob",
    "connect",
    "serve",
]

# Where each lazy name lives: importing `fletching.ipc` alone must not import the client or server.
_HOMES = {
    "NO_RETRIES": "fletching.client",
    "Blob": "fletching.client",
    "BlobType": "fletching.protocol.types.blob_type",
    "CallOptions": "fletching.client",
    "Client": "fletching.client",
    "Partition": "fletching.client",
    "Progress": "fletching.client",
    "ReadSession": "fletching.client",
    "RetryPolicy": "fletching.client",
    "Scan": "fletching.client",
    "Server": "fletching.server",
    "Split": "fletching.client",
    "Table": "fletching.client",
    "Timeouts": "fletching.client",
    "blob": "fletching.protocol.types.blob_type",
    "connect": "fletching.client",
    "serve": "fletching.server",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'fletching' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
