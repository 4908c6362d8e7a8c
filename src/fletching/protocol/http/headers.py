"""Names of the HTTP headers the Storage API uses, in lower case, as PyODPS spells them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from fletching.errors import ProtocolError
from fletching.protocol.http.numbers import parse_weight

__all__ = [
    "ACCEPT_ENCODING",
    "ACCESS_TOKEN",
    "APPLICATION_AUTHENTICATION",
    "ARROW_STREAM",
    "AUTHORIZATION",
    "BEARER_TOKEN",
    "CONTENT_ENCODING",
    "CONTENT_TYPE",
    "DATE",
    "DESCRIPTORS",
    "DIRECT",
    "DIRECT_SOCKET",
    "FRAMING",
    "JSON",
    "LATEST_SCHEMA_VERSION",
    "MANIFEST",
    "MANIFEST_TYPE",
    "OCTET_STREAM",
    "REQUEST_ID",
    "RETRY_AFTER",
    "RETRY_INDEX",
    "RETRY_TRACE_ID",
    "ROUTE_TOKEN",
    "SESSION_LENGTH",
    "STS_TOKEN",
    "USER_AGENT",
    "accepted_codings",
    "direct_socket_address",
    "lower_case",
]

ACCEPT_ENCODING = "accept-encoding"
ACCESS_TOKEN = "x-odps-max-storage-write-access-token"  # noqa: S105  # a header's name
APPLICATION_AUTHENTICATION = "application-authentication"
AUTHORIZATION = "authorization"
BEARER_TOKEN = "x-odps-bearer-token"  # noqa: S105  # a header's name
CONTENT_ENCODING = "content-encoding"
CONTENT_TYPE = "content-type"
DATE = "date"
DESCRIPTORS = "descriptors"
"""The value of `DIRECT`."""
DIRECT = "x-fletching-direct"
"""Ours, on the reply to a read: ``descriptors`` if it is no Arrow stream, but says where the rows are
in the files whose descriptors came along (`fletching.protocol.messages.mapped_rows`)."""
DIRECT_SOCKET = "x-fletching-direct-socket"
"""Ours, on replies to our own client: the name of the abstract Unix socket at which the service answers
the same requests, and passes descriptors."""
FRAMING = "x-fletching-framing"
"""Ours, on a BlobRead reply: ``frames`` or ``raw``."""
LATEST_SCHEMA_VERSION = "odps-tunnel-latest-schema-version"
MANIFEST = "x-fletching-manifest"
"""Ours, on the reply to a read: its rows come as a manifest of this length in bytes, not as an Arrow
stream."""
REQUEST_ID = "x-odps-request-id"
RETRY_AFTER = "retry-after"
RETRY_INDEX = "odps-tunnel-retry-index"
RETRY_TRACE_ID = "odps-tunnel-retry-trace-id"
ROUTE_TOKEN = "x-odps-max-storage-route-token"  # noqa: S105  # a header's name
SESSION_LENGTH = "x-fletching-session-length"
"""Ours, on a TableCreateReadSession reply: bytes of its JSON, behind which split 0 follows as an Arrow
stream."""
STS_TOKEN = "authorization-sts-token"  # noqa: S105  # a header's name
USER_AGENT = "user-agent"

# Content types.
JSON = "application/json; charset=utf-8"
OCTET_STREAM = "application/octet-stream"
ARROW_STREAM = "application/vnd.apache.arrow.stream"
MANIFEST_TYPE = "application/vnd.fletching.manifest"


_SOCKET_NAME = re.compile(r"fletching-[0-9a-f]{32}")


def direct_socket_address(name: str) -> str:
    """The address of an abstract Unix socket, from what `DIRECT_SOCKET` says.

    Raises:
        ProtocolError: no name that a service of ours has. A client must not be led to other sockets.
    """
    if not _SOCKET_NAME.fullmatch(name):
        raise ProtocolError(f"{DIRECT_SOCKET} of the reply is {name[:80]!r}", side="remote")
    return f"\0{name}"


def lower_case(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> dict[str, str]:
    """Headers by lower-case name; of repeated ones the last is kept."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return {name.lower(): value for name, value in pairs}


def accepted_codings(value: str) -> tuple[str, ...]:
    """The content codings of an Accept-Encoding header, most wanted first.

    ``identity``, ``*`` and codings with ``q=0`` are left out: what remains may be used, and nothing
    has to be.
    """
    ranked: list[tuple[float, str]] = []
    for item in value.split(",")[:32]:
        name, *parameters = (part.strip() for part in item.split(";"))
        weight = 1.0
        for parameter in parameters:
            key, _, text = parameter.partition("=")
            if key.strip().lower() == "q":
                # A weight that cannot be read gives no permission.
                weight = parse_weight(text.strip()) or 0.0
        if name and weight > 0 and name.lower() not in {"identity", "*"}:
            ranked.append((weight, name.lower()))
    ranked.sort(key=lambda pair: -pair[0])
    return tuple(name for _, name in ranked)
