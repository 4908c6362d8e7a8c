from __future__ import annotations

import random
from collections.abc import Callable

import pytest

ReferenceDecoder = Callable[[bytes, bytes], bytes]


def reference_decode(block: bytes, history: bytes) -> bytes:
    """The LZ4 block format read literally, byte by byte: an oracle that shares no code with LZ4."""
    out = bytearray(history)
    position = 0

    def extended(length: int) -> int:
        nonlocal position
        if length == 15:
            while True:
                more = block[position]
                position += 1
                length += more
                if more != 255:
                    break
        return length

    while True:
        token = block[position]
        position += 1
        literals = extended(token >> 4)
        assert position + literals <= len(block)
        out += block[position : position + literals]
        position += literals
        if position == len(block):
            return bytes(out[len(history) :])
        distance = int.from_bytes(block[position : position + 2], "little")
        position += 2
        length = extended(token & 15) + 4
        assert 0 < distance <= len(out)
        for _ in range(length):
            out.append(out[-distance])


@pytest.fixture(scope="session")
def reference() -> ReferenceDecoder:
    return reference_decode


@pytest.fixture(scope="session")
def samples() -> dict[str, bytes]:
    """Text, incompressible bytes, one byte repeated, and repetitions at the edge of the history."""
    chance = random.Random(7)
    words = [chance.randbytes(3).hex() for _ in range(300)]
    text = " ".join(chance.choice(words) for _ in range(40_000)).encode()
    return {
        "empty": b"",
        "one byte": b"x",
        "text": text[:200_000],
        "random": chance.randbytes(150_000),
        "constant": bytes(400_000),
        "far": chance.randbytes(65_535) * 3,
        "mixed": text[:70_000] + chance.randbytes(66_000) + text[:1000] * 20 + bytes(70_000),
    }
