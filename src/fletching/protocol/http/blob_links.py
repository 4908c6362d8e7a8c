"""Addresses of single blobs: ``GET /fletching/v1/blobs/{reference}``, and links that need no header.

The reference stands in the path in the URL-safe alphabet. A browser cannot sign a request with
headers, so a link may carry its caller's signature in the query instead::

    /fletching/v1/blobs/AQAj...?AccessId=demo-id&Expires=1767225600&Signature=5f0c...

The signature is the HMAC-SHA256, in hexadecimal, of ``GET``, the path, the access id and the expiry
(seconds since the epoch), joined by line feeds, under the access key's secret; for a temporary key (STS)
under its secret, a line feed and its token, which the link itself does not show. It opens that one
blob until then, for whatever its owner may read at that time.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlencode

from fletching.errors import InvalidParameterError, SignatureMismatchError
from fletching.protocol.http.numbers import parse_count
from fletching.types import ByteRange

__all__ = [
    "BLOB_PREFIX",
    "ByteRangeRequest",
    "LinkClaim",
    "blob_path",
    "content_disposition",
    "content_range",
    "parse_link",
    "parse_range",
    "reference_in_path",
    "signed_link",
    "verify_link",
]

BLOB_PREFIX = "/fletching/v1/blobs/"

_TO_URL = str.maketrans("+/", "-_")
_FROM_URL = str.maketrans("-_", "+/")


def blob_path(reference: str) -> str:
    """The path of a blob."""
    return BLOB_PREFIX + reference.strip().rstrip("=").translate(_TO_URL)


def reference_in_path(path: str) -> str | None:
    """The reference that a path names; None if it is not the path of a blob."""
    if not path.startswith(BLOB_PREFIX):
        return None
    return path.removeprefix(BLOB_PREFIX).translate(_FROM_URL)


# --- links -----------------------------------------------------------------------------------


class LinkClaim(NamedTuple):
    """What a signed link says."""

    access_id: str
    expires: int
    """Seconds since the epoch."""
    signature: str


def _signature(secret: str, path: str, access_id: str, expires: int) -> str:
    text = "\n".join(("GET", path, access_id, str(expires)))
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def _link_secret(secret: str, token: str | None) -> str:
    return secret if token is None else f"{secret}\n{token}"


def signed_link(
    reference: str, access_id: str, secret: str, expires: int, *, token: str | None = None
) -> str:
    """Path and query that open a blob until ``expires`` (seconds since the epoch).

    ``token`` is that of a temporary key, without which its secret opens nothing.
    """
    path = blob_path(reference)
    signature = _signature(_link_secret(secret, token), path, access_id, expires)
    query = urlencode({"AccessId": access_id, "Expires": expires, "Signature": signature})
    return f"{path}?{query}"


def parse_link(query: Mapping[str, str]) -> LinkClaim | None:
    """The claim in a query; None if the query has no signature.

    Raises:
        InvalidParameterError: a signature without the rest.
    """
    if "Signature" not in query:
        return None
    expires = parse_count(query.get("Expires", ""))
    if not query.get("AccessId") or expires is None:
        raise InvalidParameterError("a signed link needs AccessId, Expires and Signature")
    return LinkClaim(query["AccessId"], expires, query["Signature"])


def verify_link(
    claim: LinkClaim, secret: str, path: str, now: float, *, token: str | None = None
) -> None:
    """Checks a link, in constant time; ``token`` is the key's, if it has one.

    Raises:
        SignatureMismatchError: it was not signed with this secret, or has expired.
    """
    expected = _signature(_link_secret(secret, token), path, claim.access_id, claim.expires)
    genuine = hmac.compare_digest(expected.encode(), claim.signature.encode())
    if not genuine:
        raise SignatureMismatchError("the link's signature does not match")
    if now > claim.expires:
        raise SignatureMismatchError("the link has expired; ask for a new one")


# --- ranges and headers ----------------------------------------------------------------------


class ByteRangeRequest(NamedTuple):
    """A ``Range`` header's one range, as `Blobs.slice` takes it: half-open, or a suffix's length."""

    start: int | None
    end: int | None


def parse_range(header: str) -> ByteRangeRequest | None:
    """Reads a ``Range`` header (RFC 9110, 14.2): one range of bytes.

    Returns None, which means the whole blob, for everything that a server may ignore: no header,
    another unit, several ranges, and what is malformed.
    """
    unit, _, text = header.strip().partition("=")
    first, dash, last = (part.strip() for part in text.partition("-"))
    if unit.strip().lower() != "bytes" or not dash or "," in text:
        return None
    start, end = parse_count(first), parse_count(last)
    if (first and start is None) or (last and end is None) or (start is None and end is None):
        return None
    if end is None or start is None:
        return ByteRangeRequest(start, end)
    return None if end < start else ByteRangeRequest(start, end + 1)


def content_range(bytes_sent: ByteRange, total: int) -> str:
    """The ``Content-Range`` of a partial reply."""
    return f"bytes {bytes_sent.start}-{bytes_sent.end - 1}/{total}"


def content_disposition(file_name: str | None) -> str:
    """Shows the blob where it can be shown, and names it for whoever saves it (RFC 6266)."""
    if not file_name:
        return "inline"
    plain = "".join(c if 32 <= ord(c) < 127 and c not in '"\\%;/' else "_" for c in file_name)
    encoded = "".join(
        chr(byte) if (chr(byte).isalnum() and byte < 128) or byte in b"-._~" else f"%{byte:02X}"
        for byte in file_name.encode()
    )
    return f"inline; filename=\"{plain}\"; filename*=UTF-8''{encoded}"
