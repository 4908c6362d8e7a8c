"""The tunnel's framing of Arrow content: chunks with a CRC32C each, and one over everything.

======  =====  ==============================================================================
offset  bytes  meaning
======  =====  ==============================================================================
0       4      chunk size S, unsigned, big-endian; PyODPS writes 65,536
..      S      content; every chunk but the last holds exactly S bytes
..      4      CRC32C of this chunk alone, unsigned, big-endian
..      < S    the rest of the content, which may be none
..      4      CRC32C of **all** content from its first byte on, unsigned, big-endian
======  =====  ==============================================================================

The end of the body ends the stream, so that a cut is seen by the checksum in its place. No content at
all may come as four zero bytes without a chunk size, which is what PyODPS sends for no batches.

Source: the table tunnel's wire format as PyODPS 0.13.2 reads and writes it. CRC32C as in `crc32c_blocks`.
"""

from __future__ import annotations

from crc32c import crc32c
from typing_extensions import Buffer

from fletching.errors import (
    ChecksumMismatchError,
    LimitExceededError,
    MalformedFrameError,
    TruncatedStreamError,
)

__all__ = ["CHUNK_BYTES", "MAX_CHUNK_BYTES", "ChunkDecoder", "ChunkEncoder", "framed_length"]

LAYER = "tunnel_chunks"

CHUNK_BYTES = 65536
"""The size of our chunks, which is that of PyODPS."""
MAX_CHUNK_BYTES = 16 << 20
"""A chunk is held in memory until its checksum has come: larger ones are refused."""

_SUM = 4


def framed_length(content_bytes: int, chunk_bytes: int = CHUNK_BYTES) -> int:
    """Bytes of content of a length when it is framed."""
    return content_bytes + 4 + _SUM * (content_bytes // chunk_bytes + 1)


class ChunkEncoder:
    """Frames content; borrows what it is given, and gives it back between checksums."""

    def __init__(self, chunk_bytes: int = CHUNK_BYTES) -> None:
        self._chunk_bytes = chunk_bytes
        self._received = 0  # bytes of the chunk that is under way
        self._chunk_sum = 0
        self._sum = 0
        self._begun = False

    def encode(self, data: Buffer) -> list[Buffer]:
        """The framed form of some more content: views of `data`, with headers and checksums between."""
        view = memoryview(data).cast("B")
        framed: list[Buffer] = self._header()
        while len(view):
            part = view[: self._chunk_bytes - self._received]
            view = view[len(part) :]
            framed.append(part)
            self._chunk_sum = crc32c(part, self._chunk_sum)
            self._sum = crc32c(part, self._sum)
            self._received += len(part)
            if self._received == self._chunk_bytes:
                framed.append(self._chunk_sum.to_bytes(_SUM, "big"))
                self._received = self._chunk_sum = 0
        return framed

    def finish(self) -> list[Buffer]:
        """The checksum over everything, after the header if there was no content."""
        return [*self._header(), self._sum.to_bytes(_SUM, "big")]

    def _header(self) -> list[Buffer]:
        if self._begun:
            return []
        self._begun = True
        return [self._chunk_bytes.to_bytes(4, "big")]


class ChunkDecoder:
    """Verifies and takes off the framing: `feed` bytes, get content; then `finish`."""

    def __init__(self, max_chunk_bytes: int = MAX_CHUNK_BYTES) -> None:
        self._max_chunk_bytes = max_chunk_bytes
        self._chunk_bytes = 0
        self._held = bytearray()
        self._sum = 0
        self._offset = 0  # of the first held byte in the body

    def feed(self, data: Buffer) -> list[bytes]:
        """Takes some more of the body; returns the content of the chunks that it completes.

        Content is copied out of the framing: each piece is one chunk, in memory of its own.

        Raises:
            ChecksumMismatchError: a chunk is damaged.
            LimitExceededError, MalformedFrameError: a chunk size that cannot be.
        """
        self._held += memoryview(data).cast("B")
        if not self._chunk_bytes:
            if len(self._held) <= _SUM:
                # Four bytes may be the whole body of nothing: more says that they are a size.
                return []
            self._chunk_bytes = int.from_bytes(self._held[:4], "big")
            if not 0 < self._chunk_bytes <= self._max_chunk_bytes:
                raise LimitExceededError(
                    "a chunk size of the Arrow body that cannot be",
                    layer=LAYER,
                    offset=0,
                    actual=self._chunk_bytes,
                    limit=self._max_chunk_bytes,
                )
            del self._held[:4]
            self._offset = 4
        content = []
        whole = self._chunk_bytes + _SUM
        position = 0
        # Whatever follows the last whole chunk is content and the last checksum: only a byte beyond a
        # chunk and its sum tells that the sum was the chunk's own and not the stream's.
        while len(self._held) - position >= whole:
            chunk = bytes(self._held[position : position + self._chunk_bytes])
            stored = self._held[position + self._chunk_bytes : position + whole]
            self._verify(crc32c(chunk), stored, position)
            self._sum = crc32c(chunk, self._sum)
            content.append(chunk)
            position += whole
        del self._held[:position]
        self._offset += position
        return content

    def finish(self) -> list[bytes]:
        """Takes the end of the body; returns the rest of the content.

        Raises:
            ChecksumMismatchError: the content is damaged, or the body was cut.
            TruncatedStreamError: there is no checksum.
            MalformedFrameError: an empty body that is not four zero bytes.
        """
        held = self._held
        if len(held) < _SUM:
            raise TruncatedStreamError(
                "the Arrow body ends before its checksum",
                layer=LAYER,
                offset=self._offset + len(held),
            )
        if not self._chunk_bytes:
            if held != bytes(_SUM):
                raise MalformedFrameError(
                    "the Arrow body ends after its chunk size", layer=LAYER, offset=_SUM
                )
            return []
        rest = bytes(held[:-_SUM])
        self._sum = crc32c(rest, self._sum)
        self._verify(self._sum, held[-_SUM:], 0)
        self._held = bytearray()
        return [rest] if rest else []

    def _verify(self, computed: int, stored: bytearray, position: int) -> None:
        expected = int.from_bytes(stored, "big")
        if computed != expected:
            raise ChecksumMismatchError(
                "a chunk of the Arrow body is damaged",
                layer=LAYER,
                offset=self._offset + position,
                expected=expected,
                actual=computed,
            )
