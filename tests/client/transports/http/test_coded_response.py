from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fletching.client.transports.http.coded_response import RECEIVE_BYTES, CodedReply, uncoded
from fletching.errors import ConnectionBrokenError, WireError
from fletching.protocol.http.body_codings import StreamCoding
from fletching.protocol.http.layers import table_body_encoder

DATA = bytes(range(256)) * 3000 + b"tail"


def coded(data: bytes) -> bytes:
    encoder = table_body_encoder(StreamCoding.LZ4_STREAM)
    return b"".join([*map(bytes, encoder.encode(data)), *map(bytes, encoder.finish())])


class Reply:
    """A reply's body in portions; counts what is asked of it."""

    def __init__(self, data: bytes, portion: int, coding: str | None = None) -> None:
        self.data, self.portion = memoryview(data), portion
        self.headers = {} if coding is None else {"content-encoding": coding}
        self.request_id = "id-1"
        self.calls: list[str] = []
        self.broken = False

    def readinto(self, buffer: Any, *, wake_bytes: int = 0) -> int:
        del wake_bytes
        if self.broken:
            raise ConnectionBrokenError("broken")
        view = memoryview(buffer).cast("B")
        assert len(view) <= RECEIVE_BYTES
        count = min(len(view), self.portion, len(self.data))
        view[:count] = self.data[:count]
        self.data = self.data[count:]
        return count

    def finish(self) -> None:
        self.calls.append("finish")

    def hurry(self) -> None:
        self.calls.append("hurry")

    def close(self) -> None:
        self.calls.append("close")


def reply_of(data: bytes, portion: int, coding: str | None = None) -> Any:
    return Reply(data, portion, coding)


def read(reply: Any, size: int) -> bytes:
    out = bytearray()
    room = memoryview(bytearray(size))
    while count := reply.readinto(room):
        out += room[:count]
    return bytes(out)


@given(st.binary(max_size=5000), st.integers(1, 5000), st.integers(1, 5000))
@settings(deadline=None, max_examples=50)
def test_any_portions_give_the_same_bytes(data: bytes, portion: int, size: int) -> None:
    reply = uncoded(reply_of(coded(data), portion, "x-lz4-stream"))
    assert isinstance(reply, CodedReply)
    assert read(reply, size) == data
    assert reply.readinto(bytearray(1)) == 0


@pytest.mark.parametrize("portion", [999, 1 << 30])
def test_a_long_body_passes_through_bounded_room(portion: int) -> None:
    assert read(uncoded(reply_of(coded(DATA), portion, "x-lz4-stream")), 70_000) == DATA


@pytest.mark.parametrize("coding", [None, "identity", "zstd", "x-lz4-frame"])
def test_other_codings_are_not_its_own(coding: str | None) -> None:
    plain = reply_of(b"abc", 3, coding)
    assert uncoded(plain) is plain


@pytest.mark.parametrize("position", [0, 3, 100, -1])
def test_damage_and_cuts_are_noticed(position: int) -> None:
    whole = bytearray(coded(DATA[:5000]))
    whole[position] ^= 0xFF
    # LZ4 blocks have no checksum of their own: some damage only shows in the bytes, none makes more.
    with contextlib.suppress(WireError):
        assert (
            len(read(uncoded(reply_of(bytes(whole), 1 << 30, "x-lz4-stream")), 1 << 20)) <= 1 << 23
        )
    with pytest.raises(WireError):
        read(uncoded(reply_of(coded(DATA)[:-1], 1 << 30, "x-lz4-stream")), 1 << 20)


def test_failures_and_verbs_are_the_replys() -> None:
    inner = reply_of(coded(DATA), 1000, "x-lz4-stream")
    reply = uncoded(inner)
    assert reply.request_id == "id-1"
    reply.hurry()
    reply.finish()
    reply.close()
    assert inner.calls == ["hurry", "finish", "close"]
    inner.broken = True
    with pytest.raises(ConnectionBrokenError):
        reply.readinto(bytearray(10))
