"""How replies are framed, and that none is longer or shorter than it says."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fletching.server.http.reply_stream import ConnectionReply


class Sink:
    """A connection that keeps what is written."""

    def __init__(self, *, open_: bool = True) -> None:
        self.data = b""
        self.ended = 0
        self.delimited: bool | None = None
        self.direct: list[int | None] = []
        self._open = open_

    def write(self, data: Any) -> None:
        self.data += bytes(data)

    async def writable(self) -> None:
        await asyncio.sleep(0)

    def keeps_open(self, *, delimited: bool) -> bool:
        self.delimited = delimited
        return self._open and delimited

    def default_headers(self) -> list[tuple[bytes, bytes]]:
        return [(b"server", b"s")]

    def reply_ended(self) -> None:
        self.ended += 1

    async def socket_writer(self, owed_bytes: int | None) -> Any:
        self.direct.append(owed_bytes)

    def end_socket_writer(self, sender: Any) -> None:
        """Nothing to close."""


def sent(
    *pieces: bytes, status: int = 200, headers: Any = (), method: str = "GET",
    version: str = "1.1", open_: bool = True,
) -> tuple[bytes, Sink]:  # fmt: skip
    sink = Sink(open_=open_)
    reply = ConnectionReply(sink, method=method, version=version)

    async def run() -> None:
        await reply.start(status, headers)
        for piece in pieces:
            await reply.write(memoryview(piece))
        await reply.finish()

    asyncio.run(run())
    assert reply.complete
    assert sink.ended == 1
    return sink.data, sink


COUNTED = [(b"content-length", b"5")]


@pytest.mark.parametrize(
    ("options", "pieces", "expected"),
    [
        ({"headers": COUNTED}, [b"he", b"", b"llo"], b"content-length: 5\r\n\r\nhello"),
        ({}, [b"he", b"", b"llo"], b"transfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
        ({"version": "1.0"}, [b"hello"], b"connection: close\r\n\r\nhello"),
        ({"method": "HEAD", "headers": COUNTED}, [b"hello"], b"content-length: 5\r\n\r\n"),
        ({"method": "HEAD"}, [b"hello"], b"server: s\r\n\r\n"),
        ({"status": 204}, [b"hello"], b"server: s\r\n\r\n"),
        ({"status": 304, "headers": COUNTED}, [], b"content-length: 5\r\n\r\n"),
        ({"headers": [*COUNTED, (b"Connection", b"Close")]}, [b"hello"],
         b"content-length: 5\r\nconnection: close\r\n\r\nhello"),
        ({"headers": COUNTED, "open_": False}, [b"hello"],
         b"content-length: 5\r\nconnection: close\r\n\r\nhello"),
    ],
)  # fmt: skip
def test_framing(options: dict[str, Any], pieces: list[bytes], expected: bytes) -> None:
    data, _ = sent(*pieces, **options)
    status = options.get("status", 200)
    assert data.startswith(b"HTTP/1.1 %d " % status)
    assert data.endswith(expected)
    assert b"server: s\r\n" in data


def test_an_unknown_status_has_a_status_line() -> None:
    assert sent(b"", status=599)[0].startswith(b"HTTP/1.1 599 \r\n")


@pytest.mark.parametrize("pieces", [[b"hell"], [b"hello", b"!"], []])
def test_a_reply_is_as_long_as_it_says(pieces: list[bytes]) -> None:
    with pytest.raises(ValueError, match="than its Content-Length"):
        sent(*pieces, headers=COUNTED)


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"a\x00"])
def test_no_header_splits_a_reply(value: bytes) -> None:
    with pytest.raises(ValueError, match="line break"):
        sent(headers=[(b"x", value)])


@pytest.mark.parametrize(
    ("options", "owed"),
    [
        ({"headers": COUNTED}, [5]),
        ({}, [None]),
        ({"headers": COUNTED, "method": "HEAD"}, []),
        ({"version": "1.0"}, []),
    ],
)
def test_a_reply_that_shows_its_end_goes_past_the_loop(
    options: dict[str, Any], owed: list[int | None]
) -> None:
    sink = Sink()
    reply = ConnectionReply(
        sink, method=options.get("method", "GET"), version=options.get("version", "1.1")
    )

    async def run() -> None:
        await reply.start(200, options.get("headers", ()))
        await reply.socket_writer()

    asyncio.run(run())
    assert sink.direct == owed
