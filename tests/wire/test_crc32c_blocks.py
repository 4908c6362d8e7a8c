from __future__ import annotations

import itertools
import random
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.errors import (
    ChecksumMismatchError,
    MalformedFrameError,
    TruncatedStreamError,
    WireError,
)
from fletching.wire.crc32c_blocks import (
    BLOCK_BYTES,
    BLOCK_PAYLOAD_BYTES,
    Decoder,
    Encoder,
    framed_length,
)

# An independent CRC32C: the reflected polynomial, bit by bit into a table.
_TABLE = []
for _byte in range(256):
    _register = _byte
    for _ in range(8):
        _register = (_register >> 1) ^ (0x82F63B78 if _register & 1 else 0)
    _TABLE.append(_register)


def crc32c_by_table(data: bytes) -> int:
    register = 0xFFFFFFFF
    for byte in data:
        register = _TABLE[(register ^ byte) & 0xFF] ^ (register >> 8)
    return register ^ 0xFFFFFFFF


def framed_by_definition(payload: bytes) -> bytes:
    framed = bytearray()
    for start in range(0, len(payload), BLOCK_PAYLOAD_BYTES):
        block = payload[start : start + BLOCK_PAYLOAD_BYTES]
        framed += block + struct.pack("<I", crc32c_by_table(block))
    return bytes(framed)


# The test vectors of RFC 3720, appendix B.4, and the catalogue's check value.
VECTORS = [
    (b"123456789", 0xE3069283),
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(range(31, -1, -1)), 0x113FDB5C),
    (
        bytes.fromhex(
            "01c00000000000000000000000000000"
            "14000000000004000000001400000018"
            "28000000000000000200000000000000"
        ),
        0xD9963A56,
    ),
]


def encoded(*chunks: bytes) -> bytes:
    encoder = Encoder()
    framed = [bytes(buffer) for part in chunks for buffer in encoder.encode(part)]
    return b"".join([*framed, *(bytes(buffer) for buffer in encoder.finish())])


def decoded(*chunks: bytes) -> bytes:
    decoder = Decoder()
    payload = bytearray()
    for part in chunks:
        decoder.feed(part)
        for event in decoder.events():
            payload += event
    decoder.finish()
    for event in decoder.events():
        payload += event
    return bytes(payload)


def decode_into(payload: bytearray, decoder: Decoder, framed: bytearray) -> None:
    decoder.feed(framed)
    for event in decoder.events():
        payload += event
    decoder.finish()


def cut(data: bytes, at: list[int]) -> list[bytes]:
    bounds = [0, *sorted(position % (len(data) + 1) for position in at), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(bounds)]


@pytest.mark.parametrize(("payload", "checksum"), VECTORS)
def test_rfc_3720_vectors(payload: bytes, checksum: int) -> None:
    framed = payload + struct.pack("<I", checksum)
    assert encoded(payload) == framed
    assert decoded(framed) == payload


def test_the_protocols_example() -> None:
    assert encoded(b"hello") == bytes.fromhex("68656c6c6f4cbb719a")


@pytest.mark.parametrize("length", [0, 1, 4095, 4096, 4097, 8191, 8192, 8193, 64 * 4096, 300_001])
def test_block_boundaries(length: int) -> None:
    payload = random.Random(length).randbytes(length)
    framed = framed_by_definition(payload)
    assert len(framed) == framed_length(length)
    assert encoded(payload) == framed
    assert decoded(framed) == payload
    assert decoded(*(framed[i : i + 1000] for i in range(0, len(framed), 1000))) == payload


@pytest.mark.parametrize("length", [0, 1, 4095, 4096, 4097, 8192])
def test_byte_by_byte(length: int) -> None:
    payload = random.Random(length).randbytes(length)
    framed = framed_by_definition(payload)
    assert encoded(*(payload[i : i + 1] for i in range(length))) == framed
    assert decoded(*(framed[i : i + 1] for i in range(len(framed)))) == payload


@given(
    payload=st.binary(max_size=40).flatmap(
        lambda seed: st.integers(0, 3 * BLOCK_PAYLOAD_BYTES + 9).map(
            lambda n: random.Random(seed).randbytes(n)
        )
    ),
    cuts_in=st.lists(st.integers(0, 1 << 16), max_size=6),
    cuts_out=st.lists(st.integers(0, 1 << 16), max_size=6),
)
def test_any_chunking_round_trips(payload: bytes, cuts_in: list[int], cuts_out: list[int]) -> None:
    framed = encoded(*cut(payload, cuts_in))
    assert framed == framed_by_definition(payload)
    assert decoded(*cut(framed, cuts_out)) == payload


def test_every_single_bit_flip_of_a_block_is_reported() -> None:
    framed = bytearray(encoded(random.Random(1).randbytes(BLOCK_PAYLOAD_BYTES)))
    for bit in range(8 * BLOCK_BYTES):
        framed[bit // 8] ^= 1 << bit % 8
        decoder = Decoder()
        decoder.feed(framed)
        with pytest.raises(ChecksumMismatchError):
            list(decoder.events())
        framed[bit // 8] ^= 1 << bit % 8
    assert len(decoded(bytes(framed))) == BLOCK_PAYLOAD_BYTES


@given(length=st.integers(1, 5 * BLOCK_PAYLOAD_BYTES), bit=st.integers(0, 1 << 20))
def test_a_flip_anywhere_is_reported_at_its_block(length: int, bit: int) -> None:
    payload = random.Random(length).randbytes(length)
    framed = bytearray(encoded(payload))
    bit %= 8 * len(framed)
    framed[bit // 8] ^= 1 << bit % 8
    decoder = Decoder()
    received = bytearray()
    with pytest.raises(ChecksumMismatchError) as caught:
        decode_into(received, decoder, framed)
    block = bit // 8 // BLOCK_BYTES
    error = caught.value
    assert error.offset == block * BLOCK_BYTES
    assert error.layer == "crc32c_blocks"
    assert error.expected != error.actual
    # Everything before the damaged block was given, nothing of it.
    assert received == payload[: block * BLOCK_PAYLOAD_BYTES]
    # A decoder that failed stays failed.
    with pytest.raises(ChecksumMismatchError):
        list(decoder.events())
    with pytest.raises(ChecksumMismatchError):
        decoder.finish()


@pytest.mark.parametrize("blocks", [0, 1, 2])
@pytest.mark.parametrize(
    ("rest", "error"),
    [(1, TruncatedStreamError), (3, TruncatedStreamError), (4, MalformedFrameError)],
)
def test_a_last_block_without_payload_is_an_error(
    blocks: int, rest: int, error: type[WireError]
) -> None:
    framed = encoded(bytes(blocks * BLOCK_PAYLOAD_BYTES)) + bytes(rest)
    with pytest.raises(error) as caught:
        decoded(framed)
    assert caught.value.offset == blocks * BLOCK_BYTES
    with pytest.raises(error):
        decoded(*(framed[i : i + 1] for i in range(len(framed))))


def test_every_truncation_is_reported_unless_it_falls_between_blocks() -> None:
    payload = random.Random(2).randbytes(BLOCK_PAYLOAD_BYTES + 50)
    framed = encoded(payload)
    for end in range(len(framed)):
        if end in {0, BLOCK_BYTES}:
            assert decoded(framed[:end]) == payload[: min(end, BLOCK_PAYLOAD_BYTES)]
        else:
            with pytest.raises(WireError):
                decoded(framed[:end])


def test_input_after_the_end_is_refused() -> None:
    decoder = Decoder()
    decoder.finish()
    decoder.finish()
    with pytest.raises(MalformedFrameError):
        decoder.feed(b"x")


def test_payload_does_not_borrow_from_what_was_fed() -> None:
    chunk = bytearray(encoded(b"a" * BLOCK_PAYLOAD_BYTES))
    decoder = Decoder()
    decoder.feed(chunk)
    (payload,) = decoder.events()
    chunk[:] = bytes(len(chunk))
    assert payload == b"a" * BLOCK_PAYLOAD_BYTES


def test_payload_left_unread_before_finish_is_still_given() -> None:
    payload = random.Random(3).randbytes(10_000)
    decoder = Decoder()
    decoder.feed(encoded(payload))
    decoder.finish()
    assert b"".join(decoder.events()) == payload


def test_any_buffer_is_taken() -> None:
    array = np.arange(3000, dtype=np.float64)
    framed = b"".join([*(encoder := Encoder()).encode(array.data), *encoder.finish()])
    assert decoded(framed) == array.tobytes()
