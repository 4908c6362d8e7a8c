from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.errors import ChecksumMismatchError, TruncatedStreamError
from fletching.wire import blob_frames, content_coding, crc32c_blocks
from fletching.wire.blob_frames import BlobData, BlobDataEnd, BlobHeader
from fletching.wire.content_coding import ContentCoding
from fletching.wire.stack import DecoderStack, EncoderStack


def encoder(coding: ContentCoding) -> EncoderStack:
    return EncoderStack(crc32c_blocks.Encoder(), content_coding.Encoder(coding))


def decoder(coding: ContentCoding) -> DecoderStack:
    return DecoderStack(
        crc32c_blocks.Decoder(), content_coding.Decoder(coding), blob_frames.Decoder()
    )


def wire_of(blobs: list[bytes], coding: ContentCoding) -> bytes:
    stack, frames = encoder(coding), blob_frames.Encoder()
    out = bytearray()
    for blob in blobs:
        for chunk in frames.frame(BlobHeader(), blob):
            for buffer in stack.encode(chunk):
                out += buffer
    for buffer in stack.finish():
        out += buffer
    return bytes(out)


def blobs_of(stack: DecoderStack, *chunks: bytes) -> list[bytes]:
    blobs: list[bytes] = []
    current = bytearray()

    def take() -> None:
        nonlocal current
        for event in stack.events():
            if isinstance(event, BlobData):
                current += event.data
            elif isinstance(event, BlobDataEnd):
                blobs.append(bytes(current))
                current = bytearray()

    for chunk in chunks:
        stack.feed(chunk)
        take()
    stack.finish()
    take()
    return blobs


@given(
    blobs=st.lists(st.integers(0, 9000).map(lambda n: random.Random(n).randbytes(n)), max_size=4),
    coding=st.sampled_from(ContentCoding),
    cuts=st.lists(st.integers(0, 1 << 16), max_size=6),
)
def test_three_layers_round_trip_under_any_chunking(
    blobs: list[bytes], coding: ContentCoding, cuts: list[int]
) -> None:
    wire = wire_of(blobs, coding)
    bounds = [0, *sorted(position % (len(wire) + 1) for position in cuts), len(wire)]
    chunks = [wire[a:b] for a, b in itertools.pairwise(bounds)]
    assert blobs_of(decoder(coding), *chunks) == blobs


def test_checksums_are_outermost() -> None:
    wire = wire_of([b"abc"], ContentCoding.ZSTD)
    inner = crc32c_blocks.Decoder()
    inner.feed(wire)
    inner.finish()
    assert b"".join(inner.events()).startswith(bytes.fromhex("28b52ffd"))


@pytest.mark.parametrize("coding", list(ContentCoding))
def test_a_cut_at_a_block_boundary_is_seen_by_a_layer_inside(coding: ContentCoding) -> None:
    wire = wire_of([random.Random(1).randbytes(20_000)], coding)
    with pytest.raises(TruncatedStreamError) as caught:
        blobs_of(decoder(coding), wire[: 2 * crc32c_blocks.BLOCK_BYTES])
    assert caught.value.layer in {"content_coding", "blob_frames"}


def test_damage_is_reported_by_the_outermost_layer() -> None:
    wire = bytearray(wire_of([random.Random(1).randbytes(20_000)], ContentCoding.LZ4_FRAME))
    wire[9000] ^= 1
    with pytest.raises(ChecksumMismatchError) as caught:
        blobs_of(decoder(ContentCoding.LZ4_FRAME), bytes(wire))
    assert caught.value.layer == "crc32c_blocks"


def test_everything_fed_at_once_and_read_after_finish() -> None:
    stack = decoder(ContentCoding.ZSTD)
    stack.feed(wire_of([b"a", b"", b"b" * 9000], ContentCoding.ZSTD))
    assert blobs_of(stack) == [b"a", b"", b"b" * 9000]
