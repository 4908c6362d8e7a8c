"""Manifests: what is sent comes back, and nothing else is believed."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.errors import ProtocolError
from fletching.protocol.messages.manifest import (
    Assembled,
    Inline,
    Manifest,
    ManifestPiece,
    Rows,
    Source,
    SourceKind,
    SourceRange,
    Stored,
    decode_manifest,
    encode_manifest,
)


def stored(
    source: int, start: int, lengths: list[int], checksums: list[int] | None = None
) -> Stored:
    sums = checksums if checksums is not None else [7] * len(lengths)
    return Stored(
        source, start, np.array(lengths, "<i8").tobytes(), np.array(sums, "<u4").tobytes()
    )


def manifest(*pieces: ManifestPiece, **changed: object) -> Manifest:
    made = Manifest(
        format=1,
        kind=SourceKind.SIGNED,
        rows=10,
        complete=True,
        valid_seconds=900.0,
        sources=(Source(1000, "https://b/k?s"), Source(500, "")),
        pieces=(Inline(b"schema"), *pieces, Inline(b"end")),
    )
    return msgspec.structs.replace(made, **changed)


GOOD = manifest(
    stored(0, 8, [16, 984 - 8]),
    Assembled((b"prefix..", SourceRange(1, 0, 500), b"pad", SourceRange(0, 5, 5))),
    Rows(2, 8),
)


def test_what_is_encoded_comes_back() -> None:
    assert decode_manifest(encode_manifest(GOOD)) == GOOD
    first = GOOD.pieces[1]
    assert isinstance(first, Stored)
    assert list(first.messages()) == [(8, 24, 7), (24, 1000, 7)]


BAD = {
    "format": manifest(format=2),
    "negative rows": manifest(rows=-1),
    "time that is no number": manifest(valid_seconds=float("nan")),
    "negative source": manifest(sources=(Source(-1),)),
    "source beyond all files": manifest(sources=(Source(1 << 60),)),
    "no schema": manifest(pieces=(Rows(0, 1), Inline(b""))),
    "no end": manifest(pieces=(Inline(b""), Rows(0, 1))),
    "nothing": manifest(pieces=()),
    "no such source": manifest(stored(2, 0, [8])),
    "source before the first": manifest(stored(-1, 0, [8])),
    "behind its source": manifest(stored(1, 400, [101])),
    "before its source": manifest(stored(1, -8, [16])),
    "no messages": manifest(stored(0, 0, [])),
    "negative length": manifest(stored(0, 0, [-8, 32])),
    "lengths that wrap around": manifest(stored(0, 0, [1 << 55] * 600)),
    "a checksum too few": manifest(Stored(0, 0, bytes(16), bytes(4))),
    "cut lengths": manifest(Stored(0, 0, bytes(9), bytes(4))),
    "no metadata": manifest(Assembled((SourceRange(0, 0, 8),))),
    "no parts": manifest(Assembled(())),
    "a part behind its source": manifest(Assembled((b"prefix..", SourceRange(1, 0, 501)))),
    "a part backwards": manifest(Assembled((b"prefix..", SourceRange(1, 9, 8)))),
    "rows beyond the read": manifest(Rows(5, 6)),
    "no rows": manifest(Rows(0, 0)),
    "rows before the read": manifest(Rows(-1, 2)),
}


@pytest.mark.parametrize("wrong", BAD.values(), ids=BAD.keys())
def test_numbers_that_do_not_fit_together(wrong: Manifest) -> None:
    with pytest.raises(ProtocolError, match="manifest"):
        decode_manifest(encode_manifest(wrong))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_manifest(data)


@given(st.data())
def test_a_flipped_byte_is_refused_or_read(data: st.DataObject) -> None:
    encoded = bytearray(encode_manifest(GOOD))
    position = data.draw(st.integers(0, len(encoded) - 1))
    encoded[position] ^= data.draw(st.integers(1, 255))
    try:
        read = decode_manifest(bytes(encoded))
    except ProtocolError:
        return
    read.check()


def test_every_truncation_is_refused() -> None:
    encoded = encode_manifest(GOOD)
    for length in range(len(encoded)):
        with pytest.raises(ProtocolError):
            decode_manifest(encoded[:length])
