from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.asgi_exchanges import exchange_of

from fletching.errors import ConnectionBrokenError, InvalidParameterError, PayloadTooLargeError
from fletching.server.http.exchange import MAX_QUERY_FIELDS, Exchange
from fletching.server.server_settings import ServerSettings


class Peer:
    """An ASGI client: body chunks to receive, and what was sent."""

    def __init__(self, chunks: Sequence[bytes] = (), *, leaves: bool = False) -> None:
        self.chunks = list(chunks)
        self.leaves = leaves
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        if self.chunks:
            return {"type": "http.request", "body": self.chunks.pop(0), "more_body": True}
        if self.leaves:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: dict[str, Any]) -> None:
        if self.leaves:
            raise ConnectionResetError
        self.sent.append({**message, "body": bytes(message.get("body", b""))})


def exchange(
    peer: Peer,
    query: bytes = b"",
    headers: Sequence[tuple[bytes, bytes]] = (),
    **settings: Any,
) -> Exchange:
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/a b",
        "raw_path": b"/a%20b",
        "query_string": query,
        "headers": list(headers),
        "client": ("10.0.0.1", 99),
    }
    return exchange_of(scope, peer.receive, peer.send, "id-1", ServerSettings(**settings))


@given(st.lists(st.binary(max_size=50), max_size=8))
def test_a_body_is_read_whole(chunks: list[bytes]) -> None:
    assert asyncio.run(exchange(Peer(chunks)).read_body()) == b"".join(chunks)


@pytest.mark.parametrize("announced", [False, True])
def test_a_body_above_the_limit_is_refused(announced: bool) -> None:
    headers = [(b"content-length", b"11")] if announced else []
    peer = Peer([b"12345", b"67890", b"1", b"never read"])
    with pytest.raises(PayloadTooLargeError, match="10 bytes"):
        asyncio.run(exchange(peer, headers=headers, max_json_bytes=10).read_body())
    assert b"never read" in peer.chunks
    assert len(peer.chunks) == (4 if announced else 1)


def test_a_body_at_the_limit_is_not() -> None:
    peer = Peer([b"12345", b"67890"])
    assert asyncio.run(exchange(peer, max_json_bytes=10).read_body()) == b"1234567890"


def test_a_client_that_leaves_is_told_in_our_words() -> None:
    with pytest.raises(ConnectionBrokenError):
        asyncio.run(exchange(Peer([b"a"], leaves=True)).read_body())
    with pytest.raises(ConnectionBrokenError):
        asyncio.run(exchange(Peer(leaves=True)).reply(b"{}"))


def test_the_query_is_decoded_once_and_bounded() -> None:
    asked = exchange(Peer(), b"a=1&b=x+y%2F%C3%A9&c=&a=2")
    assert asked.query == [("a", "1"), ("b", "x y/é"), ("c", ""), ("a", "2")]
    assert asked.target == "/a%20b?a=1&b=x+y%2F%C3%A9&c=&a=2"
    with pytest.raises(InvalidParameterError, match=str(MAX_QUERY_FIELDS)):
        _ = exchange(Peer(), b"a=1&" * (MAX_QUERY_FIELDS + 1)).query


def test_headers_are_text_whatever_their_bytes() -> None:
    asked = exchange(Peer(), headers=[(b"x-a", b" \xc3\xa9 "), (b"x-b", b"\xff")])
    assert asked.header("x-a") == "é"
    assert asked.header("x-b").encode("utf-8", "surrogateescape") == b"\xff"
    assert asked.header("x-c", "none") == "none"


def test_a_reply_counts_its_bytes() -> None:
    peer = Peer()
    asked = exchange(peer)

    async def run() -> None:
        await asked.start(7, headers={"X-More": "1"})
        await asked.write_all([b"abc", memoryview(b"defg")])
        await asked.finish()

    asyncio.run(run())
    assert dict(peer.sent[0]["headers"]) == {
        b"content-type": b"application/octet-stream",
        b"content-length": b"7",
        b"x-odps-request-id": b"id-1",
        b"x-more": b"1",
    }
    assert b"".join(message["body"] for message in peer.sent[1:]) == b"abcdefg"
    assert (asked.status, asked.sent_bytes, asked.peer) == (200, 7, "10.0.0.1:99")
