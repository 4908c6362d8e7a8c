"""Heads: what decides where a request ends is read strictly, or the head is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.folding import folded

from fletching.errors import InvalidParameterError
from fletching.server.http.request_head import RequestHead, parse_head


def head(
    *fields: bytes, line: bytes = b"POST /a%20b?c=d HTTP/1.1", host: bytes = b"host: x"
) -> bytes:
    lines = [line, *([host] if host else []), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def test_a_head_is_taken_apart() -> None:
    parsed = parse_head(
        head(b"X-A: 1 ", b"content-length: 5", b"expect: 100-Continue"), scheme="https",
        client=("10.0.0.1", 9),
    )  # fmt: skip
    assert (parsed.method, parsed.raw_path, parsed.query_string) == ("POST", b"/a%20b", b"c=d")
    assert parsed.path == "/a b"
    assert parsed.headers[0] == (b"host", b"x")
    assert parsed.headers[1][0] == b"x-a"
    assert (parsed.content_length, parsed.chunked, parsed.has_body) == (5, False, True)
    assert parsed.expect_continue
    assert parsed.keep_alive
    assert (parsed.scheme, parsed.client) == ("https", ("10.0.0.1", 9))


@pytest.mark.parametrize(
    "upgrade", [b"h2c", b"websocket", b"TLS/1.0, HTTP/2.0"], ids=lambda value: value.decode()
)
def test_an_upgrade_changes_nothing(upgrade: bytes) -> None:
    parsed = parse_head(
        head(
            b"connection: Upgrade, HTTP2-Settings", b"upgrade: " + upgrade,
            b"http2-settings: AAMAAABkAAQAAP__", b"content-length: 7",
        )
    )  # fmt: skip
    assert parsed.content_length == 7
    assert parsed.keep_alive


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", b"/", b""),
        (b"/?", b"/", b""),
        (b"http://else:80/p?q", b"/p", b"q"),
        (b"http://else", b"/", b""),
        (b"/a?b?c", b"/a", b"b?c"),
        (b"/%2F..%00", b"/%2F..%00", b""),
    ],
)
def test_targets(target: bytes, path: bytes, query: bytes) -> None:
    parsed = parse_head(head(line=b"GET " + target + b" HTTP/1.1"))
    assert (parsed.raw_path, parsed.query_string) == (path, query)


def test_options_of_the_whole_server_have_a_path() -> None:
    assert parse_head(head(line=b"OPTIONS * HTTP/1.1")).raw_path == b"*"


@pytest.mark.parametrize(
    "target",
    [b"/a#b", b"/a?b#", b"http://else/#a", b"*", b"ftp://else/a", b"http://me:you@else/a", b"a"],
)
def test_what_is_no_target(target: bytes) -> None:
    with pytest.raises(InvalidParameterError):
        parse_head(head(line=b"GET " + target + b" HTTP/1.1"))
    assert parse_head(head(line=b"OPTIONS * HTTP/1.1")).raw_path == b"*"


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"x",
        b"x:80",
        b"x:",
        b"127.0.0.1:8787",
        b"[::1]:8787",
        b"[::1]",
        b"a%20b",
        b"ex-am_ple.org",
    ],
)
def test_hosts_that_are_hosts(host: bytes) -> None:
    assert parse_head(head(host=b"Host: " + host)).headers[0] == (b"host", host)


@folded(
    "data, status",
    [
        (head(host=b""), 400),
        (head(b"host: y"), 400),
        (head(b"host: x"), 400),
        (head(host=b"host: \xff\xfe"), 400),
        (head(host=b"host: a b"), 400),
        (head(host=b"host: a/b"), 400),
        (head(host=b"host: a:8x"), 400),
        (head(host=b"host: user@a"), 400),
        (head(host=b"host: a, b"), 400),
        (head(host=b"host: [::1"), 400),
        (head(b"transfer-encoding: gzip, chunked"), 501),
        (head(b"transfer-encoding: gzip", b"transfer-encoding: chunked"), 501),
        (head(b"transfer-encoding: chunked, gzip"), 400),
        (head(b"transfer-encoding: chunked, chunked"), 400),
        (head(b"transfer-encoding: gzip"), 400),
        (head(b"transfer-encoding: identity"), 400),
        (head(b"transfer-encoding: xchunked"), 400),
        (head(b"transfer-encoding: "), 400),
        (head(b"transfer-encoding: chunked", b"content-length: 5"), 400),
        (head(b"content-length: 5", b"transfer-encoding: chunked"), 400),
        (head(b"transfer-encoding: chunked", line=b"POST / HTTP/1.0"), 400),
        (head(b"content-length: 5", b"content-length: 5"), 400),
        (head(b"content-length: 5, 5"), 400),
        (head(b"content-length: +5"), 400),
        (head(b"content-length: -5"), 400),
        (head(b"content-length: 5_0"), 400),
        (head(b"content-length: 0x5"), 400),
        (head(b"content-length: \xc2\xb2"), 400),
        (head(b"content-length: "), 400),
        (head(b"content-length: 99999999999999999999"), 400),
        (head(b"content-length: 9999999999999999999"), 400),
        (head(b"a b: c"), 400),
        (head(b"a : c"), 400),
        (head(b" folded"), 400),
        (head(line=b"GET / HTTP/2.0"), 400),
        (head(line=b"GET / HTTP/1.2"), 400),
        (head(line=b"GET / HTTP/0.9"), 400),
        (head(line=b"PRI * HTTP/2.0"), 400),
        (head(line=b"CONNECT a:1 HTTP/1.1"), 501),
        (head(line=b"GET HTTP/1.1"), 400),
        (head(line=b"GET  HTTP/1.1"), 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\n", 400),
    ],
)
def test_what_is_refused(data: bytes, status: int) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        parse_head(data)
    assert caught.value.http_status == status


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"nonsense\r\n\r\n", 1),
        (b"GET / HTTP/9.9\r\nhost: x\r\n\r\n", 1),
        (b"GET / HTTP/1.1\r\nhost : x\r\n\r\n", 2),
        (b"GET / HTTP/1.1\r\nhost: x\r\na: 1\r\nsecret\x00name: 2\r\n\r\n", 4),
        (b"GET / HTTP/1.1\r\nhost: x\r\n folded\r\n\r\n", 3),
    ],
)
def test_a_refusal_names_the_line_and_what_is_expected(data: bytes, line: int) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        parse_head(data)
    assert f"line {line} of its head is wrong (" in caught.value.message
    assert "expected METHOD TARGET HTTP/1.1" in caught.value.message
    assert "Error" not in caught.value.message
    assert "secret" not in caught.value.message


def test_http_1_0_needs_no_host_and_is_not_kept() -> None:
    parsed = parse_head(head(b"connection: keep-alive", line=b"GET / HTTP/1.0", host=b""))
    assert not parsed.keep_alive
    assert not parsed.has_body


@pytest.mark.parametrize("value", [b"close", b"Close", b"keep-alive, close", b"x,close , y"])
def test_close_is_heard_among_other_options(value: bytes) -> None:
    assert not parse_head(head(b"connection: " + value)).keep_alive
    assert parse_head(head(b"connection: closed")).keep_alive


@given(st.binary(max_size=200))
def test_noise_is_a_head_or_refused(noise: bytes) -> None:
    for data in (noise, b"GET / HTTP/1.1\r\n" + noise, head(noise), head(b"x: " + noise)):
        try:
            assert isinstance(parse_head(data), RequestHead)
        except InvalidParameterError:
            continue
