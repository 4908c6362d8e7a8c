"""Bodies and replies as bytes: gathered, sent once with their length, forgotten."""

from __future__ import annotations

import io
from typing import Any

import pytest

from fletching.client.transports.http import raw_bodies
from fletching.client.transports.http.raw_bodies import RawReply, SpooledBody
from fletching.client.transports.http.request_body import RequestBody
from fletching.errors import ConnectionBrokenError, UsageError
from fletching.protocol.messages.responses import WriteResult


class Service:
    """Takes bodies, twice each, as a retry would."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.lengths: list[int] = []
        self.idle: list[float | None] = []

    def send(self, body: RequestBody) -> Any:
        again = [b"".join(body) for _ in range(2)]
        assert again[0] == again[1], "a body can be sent again"
        self.bodies.append(again[0])
        self.lengths.append(body.length)
        self.idle.append(body.idle_seconds)
        return WriteResult(rows=len(self.bodies))


@pytest.mark.parametrize("bound", [1 << 30, 1000], ids=["in memory", "in a file"])
@pytest.mark.parametrize("pieces", [[], [b""], [b"a"], [b"ab" * 499, b"cd", b"e" * 70_000]])
def test_what_was_written_is_sent_as_one_body(
    pieces: list[bytes], bound: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_bodies, "SPOOLED_BYTES", bound)
    service = Service()
    body = SpooledBody(service.send, idle_seconds=7.0)
    for piece in pieces:
        body.write(bytearray(piece))
    assert body.finish().rows == 1
    assert service.bodies == [b"".join(pieces)]
    assert service.lengths == [len(b"".join(pieces))]
    assert service.idle == [7.0]


@pytest.mark.parametrize("end", ["finish", "abort"])
def test_nothing_follows_the_end(end: str) -> None:
    service = Service()
    body = SpooledBody(service.send, idle_seconds=None)
    body.write(b"x")
    getattr(body, end)()
    with pytest.raises(UsageError):
        body.write(b"y")
    with pytest.raises(UsageError):
        body.finish()
    body.abort()
    assert service.bodies == ([b"x"] if end == "finish" else [])


def test_a_body_that_could_not_be_sent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_bodies, "SPOOLED_BYTES", 4)

    def send(_: RequestBody) -> Any:
        raise ConnectionBrokenError("cut", url="http://x")

    body = SpooledBody(send, idle_seconds=None)
    body.write(b"longer than four")
    with pytest.raises(ConnectionBrokenError):
        body.finish()
    assert body._file.closed, "the file goes, also the mapped one"


def test_a_reply_is_read_and_given_back() -> None:
    source = io.BytesIO(b"rows")
    reply = RawReply(source, "id-1")  # type: ignore[arg-type]  # readinto and close are all
    room = bytearray(3)
    assert (reply.readinto(room), bytes(room)) == (3, b"row")
    assert reply.request_id == "id-1"
    reply.close()
    assert source.closed
