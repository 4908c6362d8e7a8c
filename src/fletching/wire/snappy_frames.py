"""The framing format of Snappy, ``x-snappy-framed`` as a content coding: chunks with a checksum each.

A stream begins with the ten bytes of its identifier. Each chunk is

======  =====  ===========================================================================
offset  bytes  meaning
======  =====  ===========================================================================
0       1      type: 0 compressed, 1 uncompressed, 0x80 to 0xFE to be skipped, 0xFF identifier
1       3      length of what follows, unsigned, little-endian
4       4      of types 0 and 1: masked CRC32C of the uncompressed content, little-endian
..      ..     the content, at most 65,536 bytes when uncompressed
======  =====  ===========================================================================

The checksum is rotated right by 15 bits, and 0xA282EAD8 added. Nothing marks the end: a cut between
two chunks cannot be seen here, and the layer inside must know its own end.

Source: framing_format.txt of google/snappy.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from crc32c import crc32c
from typing_extensions import Buffer

from fletching.errors import (
    ChecksumMismatchError,
    DecompressionError,
    LimitExceededError,
    MalformedFrameError,
    TruncatedStreamError,
)

__all__ = ["MAX_CHUNK_BYTES", "SnappyDecoder", "SnappyEncoder"]

LAYER = "snappy_frames"

MAX_CHUNK_BYTES = 65536
"""The most that a chunk holds when uncompressed, by the format."""

_IDENTIFIER = b"\xff\x06\x00\x00sNaPpY"
_MAX_BODY = 4 + MAX_CHUNK_BYTES + MAX_CHUNK_BYTES // 6 + 32  # what Snappy needs at worst
_MASK = 0xA282EAD8


def _masked(checksum: int) -> int:
    return ((checksum >> 15 | checksum << 17) + _MASK) & 0xFFFFFFFF


class SnappyEncoder:
    """Compresses a body; a `fletching.wire.stack.ByteEncoder`."""

    def __init__(self) -> None:
        self._codec = pa.Codec("snappy")
        self._begun = False

    def encode(self, data: Buffer) -> list[Buffer]:
        """The chunks that hold ``data``."""
        view = memoryview(data).cast("B")
        framed = self._begin()
        for start in range(0, len(view), MAX_CHUNK_BYTES):
            part = view[start : start + MAX_CHUNK_BYTES]
            packed = self._codec.compress(part, asbytes=True)
            kind, content = (0, packed) if len(packed) < len(part) else (1, part)
            framed += [
                bytes([kind])
                + (4 + len(content)).to_bytes(3, "little")
                + _masked(crc32c(part)).to_bytes(4, "little"),
                content,
            ]
        return framed

    def finish(self) -> list[Buffer]:
        """Nothing but the identifier of a stream without content."""
        return self._begin()

    def _begin(self) -> list[Buffer]:
        if self._begun:
            return []
        self._begun = True
        return [_IDENTIFIER]


class SnappyDecoder:
    """Decompresses a body; a `fletching.wire.stack.ByteDecoder`.

    Holds at most one chunk, 16 MiB where it is one to be skipped. A chunk says how long it is uncompressed before that is made.
    """

    def __init__(self) -> None:
        self._codec = pa.Codec("snappy")
        self._held = bytearray()
        self._offset = 0
        self._begun = False

    def feed(self, data: Buffer) -> None:
        """Takes some more of the body, and copies it."""
        self._held += memoryview(data).cast("B")

    def events(self) -> Iterator[bytes]:
        """The content of chunks that are complete.

        Raises:
            ChecksumMismatchError: a chunk is damaged.
            DecompressionError: it does not decode.
            LimitExceededError: it is, or says that it is, longer than the format allows.
            MalformedFrameError: a chunk of a kind that may not be skipped, or no identifier.
        """
        position = 0
        try:
            while len(self._held) - position >= 4:
                length = int.from_bytes(self._held[position + 1 : position + 4], "little")
                kind = self._held[position]
                self._check_head(kind, length, self._offset + position)
                if len(self._held) - position - 4 < length:
                    break
                body = bytes(self._held[position + 4 : position + 4 + length])
                content = self._content(kind, body, self._offset + position)
                position += 4 + length
                if content:
                    yield content
        finally:
            del self._held[:position]
            self._offset += position

    def finish(self) -> None:
        """Tells that the body ended.

        Raises:
            TruncatedStreamError: inside a chunk.
        """
        if self._held:
            raise TruncatedStreamError(
                "the Snappy body ends inside a chunk",
                layer=LAYER,
                offset=self._offset + len(self._held),
            )

    def _check_head(self, kind: int, length: int, offset: int) -> None:
        if not self._begun and kind != 0xFF:
            raise MalformedFrameError(
                "a Snappy body begins with its identifier",
                layer=LAYER,
                offset=offset,
                expected=0xFF,
                actual=kind,
            )
        if 2 <= kind <= 0x7F:
            raise MalformedFrameError(
                "a Snappy chunk of a kind that may not be skipped",
                layer=LAYER,
                offset=offset,
                actual=kind,
            )
        # Chunks to be skipped may be as long as 3 bytes say: they are no content of anybody's.
        limit = 6 if kind == 0xFF else _MAX_BODY if kind < 0x80 else 0xFFFFFF
        if length > limit:
            raise LimitExceededError(
                "a Snappy chunk is longer than the format allows",
                layer=LAYER,
                offset=offset,
                actual=length,
                limit=limit,
            )

    def _content(self, kind: int, body: bytes, offset: int) -> bytes:
        if kind == 0xFF:
            if body != _IDENTIFIER[4:]:
                raise MalformedFrameError(
                    "the identifier of a Snappy body is another", layer=LAYER, offset=offset
                )
            self._begun = True
            return b""
        if kind > 1:
            return b""
        if len(body) < 4:
            raise TruncatedStreamError(
                "a Snappy chunk without its checksum", layer=LAYER, offset=offset
            )
        content = body[4:] if kind == 1 else self._decompressed(body, offset)
        expected, actual = int.from_bytes(body[:4], "little"), _masked(crc32c(content))
        if expected != actual:
            raise ChecksumMismatchError(
                "a Snappy chunk is damaged",
                layer=LAYER,
                offset=offset,
                expected=expected,
                actual=actual,
            )
        return content

    def _decompressed(self, body: bytes, offset: int) -> bytes:
        size = shift = 0
        for index in range(4, min(len(body), 7)):
            size |= (body[index] & 0x7F) << shift
            shift += 7
            if body[index] < 0x80:
                break
        else:
            size = MAX_CHUNK_BYTES + 1
        if size > MAX_CHUNK_BYTES:
            raise LimitExceededError(
                "a Snappy chunk holds more than the format allows",
                layer=LAYER,
                offset=offset,
                limit=MAX_CHUNK_BYTES,
            )
        try:
            # A copy: the chunk's content in memory of its own, as every decoder gives it.
            content = self._codec.decompress(body[4:], size, asbytes=True)
        except (OSError, ValueError) as error:
            raise DecompressionError(
                "the Snappy chunk does not decode", layer=LAYER, offset=offset
            ) from error
        if len(content) != size:
            raise DecompressionError(
                "the Snappy chunk is not as long as it says", layer=LAYER, offset=offset
            )
        return bytes(content)
