"""What a service says of blobs that lie in packs which its client reads: nothing of it is believed."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from fletching.errors import ProtocolError
from fletching.protocol.messages.mapped_blobs import (
    NOT_SHARED,
    MappedBlobs,
    decode_mapped_blobs,
    encode_mapped_blobs,
)

BLOBS = [(0, 8, 6, 50, 2**32 - 1), (NOT_SHARED, 2**50, 6, 1, 0), (1, 0, 0, 200, 7)]


def packed(*blobs: tuple[int, ...]) -> bytes:
    return np.array(blobs, "<i8").tobytes()


MESSAGE = MappedBlobs((100, 200), packed(*BLOBS))


def test_a_reply_survives_the_wire() -> None:
    decoded = decode_mapped_blobs(encode_mapped_blobs(MESSAGE), 2, 3)
    assert decoded == MESSAGE
    assert [tuple(each) for each in decoded.entries().tolist()] == BLOBS


def with_blob(**changes: int) -> MappedBlobs:
    names = ("pack", "start", "metadata", "length", "crc32c")
    blob = {**dict(zip(names, BLOBS[0], strict=True)), **changes}
    return MappedBlobs((100, 200), packed(tuple(blob.values()), *BLOBS[1:]))


@pytest.mark.parametrize(
    "message",
    [
        MappedBlobs((100,), MESSAGE.blobs),
        MappedBlobs((100, -1), MESSAGE.blobs),
        MappedBlobs((100, 2**63), MESSAGE.blobs),
        MappedBlobs((100, 200), MESSAGE.blobs[:-8]),
        MappedBlobs((100, 200), packed(*BLOBS[:2])),
        with_blob(pack=2),
        with_blob(pack=-2),
        with_blob(start=-1),
        with_blob(start=45),
        with_blob(start=2**62),
        with_blob(metadata=-1),
        with_blob(length=87),
        with_blob(length=2**63 - 1),
        with_blob(crc32c=2**32),
        with_blob(crc32c=-1),
    ],
)
def test_what_cannot_be_is_refused(message: MappedBlobs) -> None:
    with pytest.raises(ProtocolError, match="does not hold together"):
        decode_mapped_blobs(encode_mapped_blobs(message), 2, 3)


@pytest.mark.parametrize("data", [b"", b"\xc0", msgspec.msgpack.encode([1, 2]), b"\x93\x90\xc4"])
def test_what_is_no_reply_is_refused(data: Any) -> None:
    with pytest.raises(ProtocolError, match="does not hold together"):
        decode_mapped_blobs(data, 0, 0)
