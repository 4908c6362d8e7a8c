"""A manifest in a reply: told by a header, of a length that is looked at first, and nothing else."""

from __future__ import annotations

import pytest

from fletching.client.transports.http.manifest_replies import manifest_of, manifest_or_none
from fletching.errors import ConnectionBrokenError, ProtocolError
from fletching.protocol.http import headers as names
from fletching.protocol.messages.manifest import (
    MAX_MANIFEST_BYTES,
    Inline,
    Manifest,
    SourceKind,
    encode_manifest,
)

MANIFEST = Manifest(
    format=1, kind=SourceKind.SIGNED, rows=0, complete=True, valid_seconds=60.0,
    sources=(), pieces=(Inline(b"schema"), Inline(b"end")),
)  # fmt: skip


class FakeReply:
    def __init__(self, data: bytes, length: str | None = None) -> None:
        said = str(len(data)) if length is None else length
        self.headers = {names.MANIFEST: said}
        self._data = data
        self.asked = 0
        self.finished = self.closed = False

    def read_exactly(self, count: int) -> bytes:
        self.asked = count
        if count > len(self._data):
            raise ConnectionBrokenError("cut", url="http://x")
        return self._data[:count]

    def finish(self) -> None:
        self.finished = True

    def close(self) -> None:
        self.closed = True


def test_a_reply_without_the_header_is_rows_and_is_left_alone() -> None:
    reply = FakeReply(b"")
    reply.headers = {}
    assert manifest_or_none(reply) is None  # type: ignore[arg-type]  # what is asked of a reply
    assert (reply.asked, reply.finished, reply.closed) == (0, False, False)


def test_a_manifest_is_read_and_the_reply_ended() -> None:
    reply = FakeReply(encode_manifest(MANIFEST))
    assert manifest_of(reply) == MANIFEST  # type: ignore[arg-type]  # likewise
    assert reply.finished


@pytest.mark.parametrize(
    "length",
    ["", "-1", "1e3", "0x10", " 12", "\u0661\u0662", "1" * 13, str(MAX_MANIFEST_BYTES + 1)],
)
def test_a_length_that_cannot_be_is_refused_before_anything_is_read(length: str) -> None:
    reply = FakeReply(encode_manifest(MANIFEST), length)
    with pytest.raises(ProtocolError):
        manifest_or_none(reply)  # type: ignore[arg-type]  # likewise
    assert (reply.asked, reply.closed) == (0, True)


@pytest.mark.parametrize("data", [b"", b"\xc1", encode_manifest(MANIFEST)[:-3], b"rows instead"])
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    reply = FakeReply(data)
    with pytest.raises(ProtocolError):
        manifest_or_none(reply)  # type: ignore[arg-type]  # likewise
    assert reply.closed


def test_a_cut_one_closes_its_connection() -> None:
    data = encode_manifest(MANIFEST)
    reply = FakeReply(data, str(len(data) + 1))
    with pytest.raises(ConnectionBrokenError):
        manifest_or_none(reply)  # type: ignore[arg-type]  # likewise
    assert reply.closed
