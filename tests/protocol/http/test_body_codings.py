from __future__ import annotations

import random

import pytest

from fletching import lz4stream
from fletching.errors import (
    DecompressionError,
    InvalidParameterError,
    LimitExceededError,
    MalformedFrameError,
    TruncatedStreamError,
)
from fletching.protocol.http import body_codings
from fletching.protocol.http.body_codings import StreamCoding, table_body_coding
from fletching.protocol.http.layers import table_body_decoder, table_body_encoder
from fletching.wire.content_coding import ContentCoding

OURS = "fletching/1.2 CPython/3.12"
OTHERS = ["", "pyodps/0.13.2 CPython/3.11", "Java/17", "my-fletching/1", "curl/8"]
LZ4_STREAM = StreamCoding.LZ4_STREAM
DATA = b"".join(b"batch %d of many;" % (n % 50) for n in range(20_000))


def coded(data: bytes) -> bytes:
    encoder = table_body_encoder(LZ4_STREAM)
    return b"".join(map(bytes, [*encoder.encode(data), *encoder.finish()]))


def decoded(body: bytes, chunk: int = 1000, **limits: int) -> bytes:
    decoder = table_body_decoder(LZ4_STREAM, **limits)
    out = bytearray()
    for start in range(0, len(body), chunk):
        decoder.feed(body[start : start + chunk])
        for part in decoder.events():
            out += part
    decoder.finish()
    return bytes(out)


@pytest.mark.parametrize("token", ["x-lz4-stream", " X-LZ4-Stream "])
def test_the_token(token: str) -> None:
    assert table_body_coding(token) is LZ4_STREAM
    assert table_body_coding("zstd") is ContentCoding.ZSTD
    assert table_body_coding(None) is ContentCoding.IDENTITY
    with pytest.raises(InvalidParameterError) as caught:
        table_body_coding("x-lz4-streams")
    # Nobody is told of it.
    assert "known are" in str(caught.value)
    assert "x-lz4-stream," not in str(caught.value).split("known are")[1]


def test_only_our_client_that_asks_is_answered_with_it() -> None:
    assert body_codings.reply_body_coding(("x-lz4-stream",), OURS) is LZ4_STREAM
    assert body_codings.reply_body_coding(("zstd", "x-lz4-stream"), OURS) is LZ4_STREAM
    for accepted in ((), ("zstd",), ("x-lz4-frame", "deflate")):
        assert body_codings.reply_body_coding(accepted, OURS) is None
    for agent in OTHERS:
        assert body_codings.reply_body_coding(("x-lz4-stream",), agent) is None


def test_only_our_client_is_offered_it_for_writes() -> None:
    headers = {"accept-encoding": "x-lz4-frame,zstd", "content-type": "application/json"}
    offered = body_codings.with_lz4_stream_offered(headers, OURS)
    assert offered["accept-encoding"] == "x-lz4-frame,zstd,x-lz4-stream"
    assert body_codings.offers_lz4_stream(offered)
    assert not body_codings.offers_lz4_stream(headers)
    assert not body_codings.offers_lz4_stream({})
    for agent in OTHERS:
        assert body_codings.with_lz4_stream_offered(headers, agent) == headers
    assert body_codings.with_lz4_stream_offered({}, OURS) == {}


@pytest.mark.parametrize("data", [b"", b"x", DATA, random.Random(1).randbytes(300_000)], ids=len)
@pytest.mark.parametrize("chunk", [7, 5000, 1 << 20])
def test_round_trip(data: bytes, chunk: int) -> None:
    body = coded(data)
    assert decoded(body, chunk) == data
    assert body.endswith(bytes(4))
    assert b"".join(lz4stream.decompress(body, end_mark=True)) == data


def test_every_truncation_is_seen() -> None:
    body = coded(DATA[:70_000])
    for length in (*range(0, len(body), 61), len(body) - 1, len(body) - 4):
        with pytest.raises(TruncatedStreamError):
            decoded(body[:length])


def test_trailing_bytes_damage_and_limits() -> None:
    body = coded(DATA)
    with pytest.raises(MalformedFrameError, match="follow the end"):
        decoded(body + b"x")
    with pytest.raises(DecompressionError):
        decoded(b"\x04\x00\x00\x00\xff\xff\xff\xff" + body)
    with pytest.raises(LimitExceededError):
        decoded(body, max_decoded_bytes=len(DATA) - 1)
    large = b"".join(lz4stream.compress(bytes(300_000), page_bytes=300_000, end_mark=True))
    with pytest.raises(LimitExceededError):
        decoded(large)
