"""Manifests as replies carry them: a header says how long, the rest of the body is one."""

from __future__ import annotations

from fletching.client.transports.http.http_response import Reply
from fletching.errors import ProtocolError
from fletching.protocol.http import headers as names
from fletching.protocol.messages.manifest import MAX_MANIFEST_BYTES, Manifest, decode_manifest

__all__ = ["manifest_of", "manifest_or_none"]


def manifest_or_none(reply: Reply) -> Manifest | None:
    """As `manifest_of`; a reply that cannot be used is closed."""
    try:
        return manifest_of(reply)
    except BaseException:
        reply.close()
        raise


def manifest_of(reply: Reply) -> Manifest | None:
    """The manifest that the rest of a reply is; None if it is an Arrow stream.

    Raises:
        ProtocolError: it cannot be used.
        TransportError: the exchange failed.
    """
    length = reply.headers.get(names.MANIFEST)
    if length is None:
        return None
    if not (length.isascii() and length.isdigit()) or len(length) > 12:
        raise ProtocolError(f"{names.MANIFEST} of the reply is {length[:40]!r}", side="remote")
    if int(length) > MAX_MANIFEST_BYTES:
        raise ProtocolError(
            f"the service's manifest has {length} bytes, above {MAX_MANIFEST_BYTES}", side="remote"
        )
    data = reply.read_exactly(int(length))
    reply.finish()
    return decode_manifest(data)
