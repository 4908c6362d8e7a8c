"""The head of one request: the bytes in front of the empty line, parsed and checked (RFC 9112, 2 to 6).

httptools takes the lines apart. What decides where a request ends is decided here, from the fields
themselves, and a head that leaves it open is refused: two parsers that disagree about it let one client's
bytes pass as another's request.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from urllib.parse import unquote

import httptools

from fletching.errors import InvalidParameterError
from fletching.protocol.http.numbers import parse_count

__all__ = ["RequestHead", "parse_head"]

_HOST = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]{0,5})?"
)
"""RFC 9112, 3.2: ``uri-host [ ":" port ]``; an empty one is allowed."""


@dataclasses.dataclass(frozen=True, slots=True)
class RequestHead:
    """What a request says before its body.

    Attributes:
        method: as sent.
        raw_path: the target's path as received: what a signature covers.
        query_string: likewise, without the question mark.
        version: ``1.1`` or ``1.0``.
        headers: in order, names in lower case.
        content_length: bytes of the body; None if it is chunked, or if there is none.
        chunked: whether the body's end shows in its own bytes.
        keep_alive: whether the client wants to ask again.
        expect_continue: the client waits for our leave before it sends the body.
        scheme: ``http`` or ``https``.
        client: the client's address and port, if they are known.
        same_host: it came over the service's Unix socket.
    """

    method: str
    raw_path: bytes
    query_string: bytes
    version: str = "1.1"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    content_length: int | None = None
    chunked: bool = False
    keep_alive: bool = True
    expect_continue: bool = False
    scheme: str = "http"
    client: tuple[str, int] | None = None
    same_host: bool = False

    @property
    def has_body(self) -> bool:
        """Whether bytes of a body follow."""
        return self.chunked or bool(self.content_length)

    @property
    def path(self) -> str:
        """The path, decoded."""
        return unquote(self.raw_path.decode("latin-1"))


class _Fields:
    """Takes the parser's calls."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.complete = True


def parse_head(
    data: bytes, *, scheme: str = "http", client: tuple[str, int] | None = None
) -> RequestHead:
    """Reads a head, the empty line at its end included.

    Raises:
        InvalidParameterError: it is none, of another version, or leaves open where the request ends; 501
            for a transfer coding that is not spoken here.
    """
    fields = _Fields()
    parser = httptools.HttpRequestParser(fields)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass  # no other protocol is spoken here: the field is ignored (RFC 9110, 7.8)
    except httptools.HttpParserError as exc:
        detail = str(exc)[:100] or "it cannot be parsed"
        raise InvalidParameterError(
            f"not an HTTP/1.1 request: line {_wrong_line(data)} of its head is wrong ({detail}); expected"
            " METHOD TARGET HTTP/1.1 in the first, then NAME: VALUE in each"
        ) from exc
    if not fields.complete:
        raise InvalidParameterError("not an HTTP/1.1 request: its head has no end")
    version = parser.get_http_version()
    if version not in {"1.0", "1.1"}:
        raise InvalidParameterError(f"HTTP/{version[:8]} is not spoken here, HTTP/1.1 is")
    _check_host(version, fields.headers)
    method = parser.get_method().decode("ascii")
    raw_path, query_string = _target(method, fields.target)
    chunked = _is_chunked(version, fields.headers)
    length = _content_length(fields.headers)
    if chunked and length is not None:
        raise InvalidParameterError("a request has Content-Length or Transfer-Encoding, not both")
    connection = b",".join(value for name, value in fields.headers if name == b"connection").lower()
    options = {option.strip() for option in connection.split(b",")}
    return RequestHead(
        method=method,
        raw_path=raw_path,
        query_string=query_string,
        version=version,
        headers=tuple(fields.headers),
        content_length=length,
        chunked=chunked,
        # HTTP/1.0 has no pipelines and no chunked replies: one request each.
        keep_alive=version == "1.1" and b"close" not in options,
        expect_continue=version == "1.1"
        and any(n == b"expect" and v.lower() == b"100-continue" for n, v in fields.headers),
        scheme=scheme,
        client=client,
    )


def _wrong_line(data: bytes) -> int:
    """The number of the line, from 1, with which the parser gives up."""
    parser = httptools.HttpRequestParser(_Fields())
    number = 1
    with contextlib.suppress(httptools.HttpParserError):
        for line in data.split(b"\n"):
            parser.feed_data(line + b"\n")
            number += 1
    return number


def _target(method: str, target: bytes) -> tuple[bytes, bytes]:
    if target == b"*" and method == "OPTIONS":
        return target, b""
    if method == "CONNECT":
        raise InvalidParameterError("CONNECT is not spoken here", http_status=501)
    if b"#" in target:
        raise InvalidParameterError("the request's target has a fragment, which none has")
    try:
        # Also of the absolute form, whose host takes the place of the field (RFC 9112, 3.2.2).
        parsed = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError as exc:
        raise InvalidParameterError("the request's target is not a URL") from exc
    schemes = {None} if target.startswith(b"/") else {b"http", b"https"}
    scheme = None if parsed.schema is None else parsed.schema.lower()
    if scheme not in schemes or parsed.userinfo is not None:
        raise InvalidParameterError("the request's target is not a path or an address of HTTP")
    return parsed.path or b"/", parsed.query or b""


def _check_host(version: str, headers: list[tuple[bytes, bytes]]) -> None:
    hosts = [value.strip() for name, value in headers if name == b"host"]
    if len(hosts) > 1 or (version == "1.1" and not hosts):
        raise InvalidParameterError(f"a request has one Host field; this one has {len(hosts)}")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise InvalidParameterError("the Host field is not a host and a port")


def _is_chunked(version: str, headers: list[tuple[bytes, bytes]]) -> bool:
    fields = [value for name, value in headers if name == b"transfer-encoding"]
    if not fields:
        return False
    if version == "1.0":
        raise InvalidParameterError("HTTP/1.0 has no Transfer-Encoding")
    codings = [coding.strip().lower() for coding in b",".join(fields).split(b",")]
    if codings == [b"chunked"]:
        return True
    if codings[-1] != b"chunked" or b"chunked" in codings[:-1] or b"" in codings:
        raise InvalidParameterError("the last transfer coding of a request is chunked, once")
    raise InvalidParameterError(
        "no transfer coding but chunked is spoken here; use Content-Encoding", http_status=501
    )


def _content_length(headers: list[tuple[bytes, bytes]]) -> int | None:
    lengths = [value.strip() for name, value in headers if name == b"content-length"]
    if not lengths:
        return None
    if len(lengths) > 1:
        raise InvalidParameterError("a request has one Content-Length")
    length = parse_count(lengths[0].decode("latin-1"))
    if length is None:
        raise InvalidParameterError("Content-Length is not a count of bytes")
    return length
