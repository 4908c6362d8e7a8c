from __future__ import annotations

import itertools
import random
import subprocess
import zlib

import lz4.frame
import pyarrow as pa
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from fletching.errors import (
    DecompressionError,
    InvalidParameterError,
    LimitExceededError,
    MalformedFrameError,
    TruncatedStreamError,
    WireError,
)
from fletching.wire import content_coding
from fletching.wire.content_coding import ContentCoding, Decoder, Encoder, negotiate

CODED = [ContentCoding.ZSTD, ContentCoding.LZ4_FRAME, ContentCoding.DEFLATE]
ALL = [ContentCoding.IDENTITY, *CODED]

every_coding = pytest.mark.parametrize("coding", ALL)
every_real_coding = pytest.mark.parametrize("coding", CODED)


def encoded(coding: ContentCoding, *chunks: bytes, level: int | None = None) -> bytes:
    encoder = Encoder(coding, level=level)
    out = [bytes(buffer) for chunk in chunks for buffer in encoder.encode(chunk)]
    return b"".join([*out, *(bytes(buffer) for buffer in encoder.finish())])


def decoded(coding: ContentCoding, *chunks: bytes, **limits: int) -> bytes:
    decoder = Decoder(coding, **limits)
    out = bytearray()
    for chunk in chunks:
        decoder.feed(chunk)
        for event in decoder.events():
            out += event
    decoder.finish()
    for event in decoder.events():
        out += event
    assert decoder.decoded_bytes == len(out)
    assert decoder.offset == sum(map(len, chunks))
    return bytes(out)


def by_others(coding: ContentCoding, data: bytes) -> bytes:
    """The same coding by another implementation or another interface of it."""
    if coding is ContentCoding.ZSTD:
        return pa.input_stream(pa.BufferReader(data), compression="zstd").read()
    if coding is ContentCoding.LZ4_FRAME:
        return pa.input_stream(pa.BufferReader(data), compression="lz4").read()
    return zlib.decompress(data)


def words(length: int, seed: int = 0) -> bytes:
    rng = random.Random(seed)
    text = b" ".join(rng.choice([b"blob", b"table", b"row", b"wire"]) for _ in range(length // 4))
    return text[:length].ljust(length, b".")


@every_coding
@pytest.mark.parametrize("length", [0, 1, 5, 65_536, 1_000_000])
def test_round_trip(coding: ContentCoding, length: int) -> None:
    payload = words(length)
    body = encoded(coding, payload)
    assert decoded(coding, body) == payload
    assert decoded(coding, *(body[i : i + 777] for i in range(0, len(body), 777))) == payload


@every_real_coding
def test_byte_by_byte(coding: ContentCoding) -> None:
    payload = words(3000)
    body = encoded(coding, *(payload[i : i + 1] for i in range(len(payload))))
    assert decoded(coding, *(body[i : i + 1] for i in range(len(body)))) == payload


@every_real_coding
def test_other_implementations_read_and_are_read(coding: ContentCoding) -> None:
    payload = random.Random(5).randbytes(200_000) + words(200_000)
    assert by_others(coding, encoded(coding, payload)) == payload
    theirs = {
        ContentCoding.ZSTD: zstandard.compress(payload, 19),
        ContentCoding.LZ4_FRAME: lz4.frame.compress(payload, block_linked=True),
        ContentCoding.DEFLATE: zlib.compress(payload, 9),
    }[coding]
    assert decoded(coding, theirs) == payload


def test_the_lz4_command_reads_ours(tmp_path: object) -> None:
    try:
        subprocess.run(["lz4", "--version"], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("the lz4 command is not installed")
    payload = words(300_000)
    body = encoded(ContentCoding.LZ4_FRAME, payload)
    done = subprocess.run(["lz4", "-dc"], input=body, capture_output=True, check=True)
    assert done.stdout == payload


@given(
    coding=st.sampled_from(ALL),
    payload=st.binary(max_size=2000),
    times=st.integers(1, 200),
    cuts_in=st.lists(st.integers(0, 1 << 20), max_size=5),
    cuts_out=st.lists(st.integers(0, 1 << 20), max_size=5),
)
def test_any_chunking_round_trips(
    coding: ContentCoding, payload: bytes, times: int, cuts_in: list[int], cuts_out: list[int]
) -> None:
    payload *= times
    body = encoded(coding, *cut(payload, cuts_in))
    assert decoded(coding, *cut(body, cuts_out)) == payload


def cut(data: bytes, at: list[int]) -> list[bytes]:
    bounds = [0, *sorted(position % (len(data) + 1) for position in at), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(bounds)]


@every_real_coding
def test_frames_may_follow_each_other(coding: ContentCoding) -> None:
    first, second = words(100_000), words(7)
    body = encoded(coding, first) + encoded(coding) + encoded(coding, second)
    assert decoded(coding, body) == first + second
    assert decoded(coding, *(body[i : i + 1] for i in range(len(body)))) == first + second


@pytest.mark.parametrize("coding", [ContentCoding.ZSTD, ContentCoding.LZ4_FRAME])
def test_skippable_frames_are_passed_over(coding: ContentCoding) -> None:
    skippable = bytes.fromhex("502a4d18") + (3).to_bytes(4, "little") + b"abc"
    assert decoded(coding, skippable + encoded(coding, b"x") + skippable) == b"x"


@every_real_coding
def test_no_bytes_at_all_are_an_empty_body(coding: ContentCoding) -> None:
    assert decoded(coding) == b""


@every_real_coding
def test_every_truncation_is_reported(coding: ContentCoding) -> None:
    body = encoded(coding, words(2000))
    for end in range(1, len(body)):
        with pytest.raises(TruncatedStreamError) as caught:
            decoded(coding, body[:end])
        assert caught.value.offset == end
        assert caught.value.layer == "content_coding"


@every_real_coding
@pytest.mark.parametrize("junk", [b"not a frame, whatever it is", bytes(64), b"\xff" * 64])
def test_bytes_after_the_last_frame_are_an_error(coding: ContentCoding, junk: bytes) -> None:
    body = encoded(coding, b"payload")
    decoder = Decoder(coding)
    decoder.feed(body + junk)
    received: list[memoryview] = []
    with pytest.raises(DecompressionError) as caught:
        received.extend(decoder.events())
    assert b"".join(received) == b"payload"
    assert caught.value.offset is not None
    assert caught.value.offset > len(body)
    with pytest.raises(DecompressionError):
        list(decoder.events())
    with pytest.raises(DecompressionError):
        decoder.finish()


@given(coding=st.sampled_from(CODED), position=st.integers(0, 1 << 16), bit=st.integers(0, 7))
def test_a_flipped_bit_never_gives_more_than_an_error_or_bounded_bytes(
    coding: ContentCoding, position: int, bit: int
) -> None:
    payload = words(5000)
    body = bytearray(encoded(coding, payload))
    body[position % len(body)] ^= 1 << bit
    try:
        received = decoded(coding, bytes(body), max_decoded_bytes=1 << 20)
    except WireError:
        return
    # zstd, LZ4 frame and zlib checksum their content; a flip they accept did not touch it.
    assert received in (payload, b"")


@every_real_coding
def test_the_decoded_size_is_limited(coding: ContentCoding) -> None:
    body = encoded(coding, words(100_000))
    assert len(decoded(coding, body, max_decoded_bytes=100_000)) == 100_000
    decoder = Decoder(coding, max_decoded_bytes=99_999)
    decoder.feed(body)
    received: list[memoryview] = []
    with pytest.raises(LimitExceededError) as caught:
        received.extend(decoder.events())
    assert sum(map(len, received)) <= 99_999
    assert caught.value.limit == 99_999


def test_identity_is_limited_in_size_too() -> None:
    with pytest.raises(LimitExceededError):
        decoded(ContentCoding.IDENTITY, bytes(10), max_decoded_bytes=9)


@pytest.mark.slow
@every_real_coding
def test_a_bomb_is_refused_in_bounded_memory(coding: ContentCoding) -> None:
    # A GiB of zeros is 33 KB in zstd.
    encoder = Encoder(coding, level=1)
    zeros = bytes(8 << 20)
    body = b"".join(bytes(b) for _ in range(32) for b in encoder.encode(zeros))
    body += b"".join(bytes(b) for b in encoder.finish())
    decoder = Decoder(coding, max_ratio=100)
    decoder.feed(body)
    lengths: list[int] = []
    with pytest.raises(LimitExceededError) as caught:
        lengths.extend(map(len, decoder.events()))
    assert caught.value.limit == 100
    # The floor, and not more than one step beyond what the ratio allows.
    assert sum(lengths) <= content_coding.RATIO_FLOOR_BYTES + (32 << 20) + 100 * len(body)
    assert max(lengths) <= 33 << 20


def test_small_bodies_may_have_any_ratio() -> None:
    zeros = bytes(content_coding.RATIO_FLOOR_BYTES)
    body = encoded(ContentCoding.ZSTD, zeros)
    assert len(zeros) > 1000 * len(body)
    assert decoded(ContentCoding.ZSTD, body, max_ratio=1) == zeros


def test_a_zstd_window_above_the_limit_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    body = compressor.compress(b"x" * 100) + compressor.flush()
    with pytest.raises(LimitExceededError) as caught:
        decoded(ContentCoding.ZSTD, body)
    assert caught.value.limit == content_coding.DEFAULT_MAX_WINDOW_BYTES
    assert decoded(ContentCoding.ZSTD, body, max_window_bytes=1 << 27) == b"x" * 100


def test_identity_copies_nothing() -> None:
    data = bytearray(b"payload")
    (out,) = Encoder(ContentCoding.IDENTITY).encode(data)
    decoder = Decoder(ContentCoding.IDENTITY)
    decoder.feed(out)
    (event,) = decoder.events()
    data[0] = ord("P")
    assert bytes(event) == b"Payload"


@every_real_coding
def test_small_pieces_are_joined(coding: ContentCoding) -> None:
    payload = random.Random(6).randbytes(1 << 20)
    decoder = Decoder(coding)
    decoder.feed(encoded(coding, payload))
    chunks = [len(event) for event in decoder.events()]
    assert sum(chunks) == len(payload)
    assert len(chunks) <= 10


def test_input_after_the_end_is_refused() -> None:
    decoder = Decoder(ContentCoding.ZSTD)
    decoder.finish()
    decoder.finish()
    with pytest.raises(MalformedFrameError):
        decoder.feed(b"x")


def test_output_left_unread_before_finish_is_still_given() -> None:
    decoder = Decoder(ContentCoding.ZSTD)
    decoder.feed(encoded(ContentCoding.ZSTD, b"payload"))
    decoder.finish()
    assert b"".join(decoder.events()) == b"payload"


@pytest.mark.parametrize(
    ("token", "coding"),
    [
        (None, ContentCoding.IDENTITY),
        ("", ContentCoding.IDENTITY),
        ("identity", ContentCoding.IDENTITY),
        (" ZSTD ", ContentCoding.ZSTD),
        ("x-lz4-frame", ContentCoding.LZ4_FRAME),
        ("lz4_frame", ContentCoding.LZ4_FRAME),
        ("x-odps-lz4-frame", ContentCoding.LZ4_FRAME),
        ("deflate", ContentCoding.DEFLATE),
    ],
)
def test_tokens(token: str | None, coding: ContentCoding) -> None:
    assert ContentCoding.from_token(token) is coding


@pytest.mark.parametrize("token", ["gzip", "br", "x-snappy-framed", "zstd, deflate"])
def test_unknown_codings_are_refused(token: str) -> None:
    with pytest.raises(InvalidParameterError):
        ContentCoding.from_token(token)


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ((), ContentCoding.IDENTITY),
        (("gzip",), ContentCoding.IDENTITY),
        (("",), ContentCoding.IDENTITY),
        (("x-lz4-frame", "zstd"), ContentCoding.LZ4_FRAME),
        (("gzip", "zstd;q=0.5"), ContentCoding.ZSTD),
        (("zstd;q=0", "deflate;q=0.1"), ContentCoding.DEFLATE),
        (("zstd; q=0.0",), ContentCoding.IDENTITY),
        (("identity", "zstd"), ContentCoding.IDENTITY),
    ],
)
def test_negotiation(accepted: tuple[str, ...], coding: ContentCoding) -> None:
    assert negotiate(accepted) is coding


def _decoded_in_pieces(coded: bytes, size: int) -> tuple[bytes, int]:
    decoder = Decoder(ContentCoding.ZSTD, max_ratio=1 << 30)
    pieces = []
    for start in range(0, len(coded), size):
        decoder.feed(coded[start : start + size])
        pieces += [bytes(piece) for piece in decoder.events()]
    decoder.finish()
    pieces += [bytes(piece) for piece in decoder.events()]
    return b"".join(pieces), max(map(len, pieces), default=0)


@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize("data", [b"", b"x", bytes(20 << 20), bytes(range(256)) * 3000])
def test_zstd_is_decoded_block_by_block(checksum: bool, sized: bool, data: bytes) -> None:
    """However little a block is, what it stands for is given before the next one is decoded."""
    compressor = zstandard.ZstdCompressor(
        level=1, write_checksum=checksum, write_content_size=sized
    )
    frame = compressor.compress(data)
    skipped = b"\x5a\x2a\x4d\x18\x05\x00\x00\x00any\x28\xb5"
    streamed = compressor.compressobj()
    flushed = b"".join(
        (
            streamed.compress(data[:7]),
            streamed.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK),
            streamed.compress(data[7:]),
            streamed.flush(),
        )
    )
    coded = frame + skipped + flushed + frame
    for size in (1, 7, 1000, len(coded)):
        decoded, longest = _decoded_in_pieces(coded, size)
        assert decoded == 3 * data
        assert longest <= 384 << 10


def test_many_small_zstd_frames_take_no_time_of_their_followers() -> None:
    frame = zstandard.compress(b"x")
    assert _decoded_in_pieces(frame * 20_000, 1 << 20)[0] == b"x" * 20_000
