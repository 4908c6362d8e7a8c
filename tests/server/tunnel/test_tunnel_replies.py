"""Replies with rows: records and Arrow, compressed or not, and what happens when they break."""

from __future__ import annotations

import http.client
import zlib
from typing import Any

import pyarrow as pa
import pytest
from tests.server.conftest import Query, RawClient
from tests.server.tunnel.conftest import Tunnel, rows_of

from fletching.protocol.http.tunnel_bodies import RecordBodyEncoder
from fletching.wire import content_coding
from fletching.wire.content_coding import ContentCoding
from fletching.wire.snappy_frames import SnappyDecoder
from fletching.wire.tunnel_chunks import ChunkDecoder, ChunkEncoder

COUNT = 20_000
ROWS = [(number, f"text {number} " * 8) for number in range(COUNT)]


@pytest.fixture(scope="module")
def large(server: Any) -> Tunnel:
    """A table whose rows are more than what one reply holds at a time."""
    client = RawClient(server.url)
    client.create_table("large", pa.schema([("id", pa.int64()), ("text", pa.string())]))
    tunnel = Tunnel(client, "/projects/demo/tables/large")
    session = tunnel.open()
    for number in range(2):
        tunnel.block(session, number, ROWS[number * COUNT // 2 : (number + 1) * COUNT // 2])
    tunnel.commit(session)
    return tunnel


def undone(coding: str, data: bytes) -> bytes:
    if coding == "deflate":
        return zlib.decompress(data)
    decoder: Any = SnappyDecoder()
    if coding != "x-snappy-framed":
        known = ContentCoding.ZSTD if coding == "zstd" else ContentCoding.LZ4_FRAME
        decoder = content_coding.Decoder(known)
    decoder.feed(data)
    whole = b"".join(map(bytes, decoder.events()))
    decoder.finish()
    return whole


@pytest.mark.parametrize(
    "coding", ["deflate", "zstd", "x-lz4-frame", "x-odps-lz4-frame", "x-snappy-framed"]
)
def test_compressed_replies(large: Tunnel, coding: str) -> None:
    session = large.download()["DownloadID"]
    query: Query = {"data": "", "downloadid": session, "rowrange": f"(0,{COUNT})"}
    headers = {"Accept-Encoding": coding}
    reply = large.send("GET", query, headers=headers)
    assert reply.headers["content-encoding"] == coding
    assert rows_of(undone(coding, reply.body)) == ROWS
    reply = large.send("GET", {**query, "arrow": ""}, headers=headers)
    decoder = ChunkDecoder()
    content = decoder.feed(undone(coding, reply.body)) + decoder.finish()
    assert len(reply.body) < sum(map(len, content))


@pytest.mark.parametrize("accepted", ["identity", "", "br, gzip;q=0.5", "zstd;q=0"])
def test_replies_as_they_are(large: Tunnel, accepted: str) -> None:
    session = large.download()["DownloadID"]
    query: Query = {"data": "", "downloadid": session, "rowrange": "(0,3)"}
    reply = large.send("GET", query, headers={"Accept-Encoding": accepted})
    assert "content-encoding" not in reply.headers
    assert rows_of(reply.body) == ROWS[:3]


@pytest.mark.parametrize(
    ("arrow", "coding", "calls_until"),
    # Compressed, the first bytes come out after a while.
    [(False, "identity", 2), (True, "identity", 2), (False, "zstd", 100)],
)
def test_a_reply_that_breaks_is_cut(
    large: Tunnel, monkeypatch: pytest.MonkeyPatch, arrow: bool, coding: str, calls_until: int
) -> None:
    """Clients take whatever ends well for everything."""
    encoder: Any = ChunkEncoder if arrow else RecordBodyEncoder
    encode = encoder.encode
    calls = 0

    def breaks(self: Any, data: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > calls_until:
            raise OSError("the disk is gone")
        return encode(self, data)

    session = large.download()["DownloadID"]
    monkeypatch.setattr(encoder, "encode", breaks)
    monkeypatch.setattr("fletching.server.tunnel.tunnel_replies.FIRST_GROUP_BYTES", 1000)
    monkeypatch.setattr("fletching.server.api.response_body.FIRST_GROUP_BYTES", 1000)
    monkeypatch.setattr("fletching.server.tunnel.tunnel_replies.STEP_BYTES", 2_000)
    query: Query = {"data": "", "downloadid": session, "rowrange": f"(0,{COUNT})"}
    if arrow:
        query["arrow"] = ""
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        large.client.request("GET", large.path, query, headers={"Accept-Encoding": coding})
    assert calls == calls_until + 1


def test_what_is_wrong_from_the_start_is_an_error_reply(
    large: Tunnel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(self: Any, data: Any) -> Any:
        raise OSError("the disk is gone")

    session = large.download()["DownloadID"]
    monkeypatch.setattr(RecordBodyEncoder, "encode", breaks)
    assert large.data(session, 0, 5).status == 500
