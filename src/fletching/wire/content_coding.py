"""Content codings of request and reply bodies: a body compressed as a whole.

================  ==========================================================================
token             body
================  ==========================================================================
``identity``      as it is
``zstd``          Zstandard frames, concatenated; skippable frames are passed over
``x-lz4-frame``   LZ4 frames, concatenated; skippable frames are passed over
``deflate``       zlib streams, concatenated (the header is required, as in RFC 9110)
================  ==========================================================================

Limits, all keyword arguments of `Decoder`: ``max_decoded_bytes``; ``max_ratio`` of decoded to
coded bytes, which counts from ``RATIO_FLOOR_BYTES`` decoded bytes on, so that a small body of zeros
is no bomb; ``max_window_bytes`` for zstd. They are checked while decoding: no step decodes more
than 32 MiB before the next check. A body of no bytes at all decodes to no bytes in every coding.

A cut between two frames cannot be seen here: the layer inside must know its own end.
"""

from __future__ import annotations

import enum
import zlib
from collections.abc import Iterable, Iterator
from typing import Protocol

import lz4.frame
import zstandard
from typing_extensions import Buffer

from fletching.errors import (
    DecompressionError,
    InvalidParameterError,
    LimitExceededError,
    TruncatedStreamError,
    WireError,
)
from fletching.wire.push_decoder import PushDecoder

__all__ = [
    "DEFAULT_MAX_DECODED_BYTES",
    "DEFAULT_MAX_RATIO",
    "DEFAULT_MAX_WINDOW_BYTES",
    "RATIO_FLOOR_BYTES",
    "ContentCoding",
    "Decoder",
    "Encoder",
    "negotiate",
]

LAYER = "content_coding"

DEFAULT_MAX_DECODED_BYTES = 1 << 40
"""1 TiB: a stream is never held, so this is a ceiling on work, not on memory."""
DEFAULT_MAX_RATIO = 1000
"""Decoded bytes per coded byte. Real data stays below 100; zeros reach 255 (LZ4) and 32768 (zstd)."""
RATIO_FLOOR_BYTES = 64 << 20
"""Decoded bytes below which the ratio does not matter."""
DEFAULT_MAX_WINDOW_BYTES = 8 << 20
"""What a zstd frame may make a decoder keep; RFC 9659 sets 8 MiB for HTTP."""

# A zstd block of 4 bytes can stand for 128 KiB and one call decodes all that it is given, so input
# goes in block by block.
_ZSTD_BLIND_BYTES = 1 << 10
"""What goes in at once where no block is known to end: bytes that are no frame, which the decoder says."""
_STEP_BYTES = 64 << 10
_STEP_DECODED_BYTES = 1 << 20
# Small chunks are joined before they are given on: each costs the layers inside some microseconds.
_CHUNK_BYTES = 128 << 10


class ContentCoding(enum.StrEnum):
    """A content coding by its HTTP token."""

    IDENTITY = "identity"
    ZSTD = "zstd"
    LZ4_FRAME = "x-lz4-frame"
    DEFLATE = "deflate"

    @classmethod
    def from_token(cls, token: str | None) -> ContentCoding:
        """The coding a ``Content-Encoding`` header names; none or an empty one is identity.

        Raises:
            InvalidParameterError: a coding that is not spoken here, or several in one header.
        """
        name = (token or "").strip().lower()
        coding = _TOKENS.get(name)
        if coding is None:
            known = ", ".join(coding.value for coding in cls)
            raise InvalidParameterError(
                f"content coding {name[:64]!r} is not known; known are {known}"
            )
        return coding


_TOKENS = {coding.value: coding for coding in ContentCoding} | {
    "": ContentCoding.IDENTITY,
    # Other spellings PyODPS knows.
    "lz4_frame": ContentCoding.LZ4_FRAME,
    "x-odps-lz4-frame": ContentCoding.LZ4_FRAME,
}


def negotiate(accepted: Iterable[str]) -> ContentCoding:
    """The first coding in ``accepted`` (tokens, most wanted first) spoken here, else identity.

    Parameters (``zstd;q=0.5``) are read only for ``q=0``, which refuses a coding.
    """
    for entry in accepted:
        name, _, parameters = entry.partition(";")
        coding = _TOKENS.get(name.strip().lower())
        if coding is None or not name.strip():
            continue
        weight = parameters.strip().lower().replace(" ", "")
        if weight.startswith("q=0") and not weight.strip("q=0."):
            continue
        return coding
    return ContentCoding.IDENTITY


class _Compressor(Protocol):
    def compress(self, data: memoryview, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Lz4Compressor:
    """One LZ4 frame.

    Blocks do not refer to each other: Java's frame reader refuses linked blocks.
    """

    def __init__(self, level: int) -> None:
        self._compressor = lz4.frame.LZ4FrameCompressor(
            block_size=lz4.frame.BLOCKSIZE_MAX256KB,
            block_linked=False,
            compression_level=level,
            content_checksum=True,
        )
        self._header: bytes = self._compressor.begin()

    def compress(self, data: memoryview) -> bytes:
        header, self._header = self._header, b""
        return header + self._compressor.compress(data)

    def flush(self) -> bytes:
        header, self._header = self._header, b""
        return header + self._compressor.flush()


_DEFAULT_LEVELS = {ContentCoding.ZSTD: 1, ContentCoding.LZ4_FRAME: 0, ContentCoding.DEFLATE: 6}


class Encoder:
    """Compresses a body into one frame; identity passes buffers on without a copy.

    ``level`` is the codec's own scale; the defaults favour speed.
    """

    def __init__(
        self, coding: ContentCoding = ContentCoding.IDENTITY, *, level: int | None = None
    ) -> None:
        self.coding = coding
        self._compressor: _Compressor | None = None
        if coding is ContentCoding.IDENTITY:
            return
        chosen = _DEFAULT_LEVELS[coding] if level is None else level
        if coding is ContentCoding.ZSTD:
            self._compressor = zstandard.ZstdCompressor(
                level=chosen, write_checksum=True
            ).compressobj()
        elif coding is ContentCoding.LZ4_FRAME:
            self._compressor = _Lz4Compressor(chosen)
        else:
            self._compressor = zlib.compressobj(chosen)

    def encode(self, data: Buffer) -> list[Buffer]:
        """Returns what the codec has ready; for identity a view of ``data`` itself."""
        view = memoryview(data).cast("B")
        if self._compressor is None:
            return [view] if len(view) else []
        coded = self._compressor.compress(view)
        return [coded] if coded else []

    def finish(self) -> list[Buffer]:
        """Ends the frame: returns the rest of it."""
        if self._compressor is None:
            return []
        coded = self._compressor.flush()
        self._compressor = None
        return [coded] if coded else []


# Each of these decodes one frame. `step_end` says how much of a chunk goes in at once, and has to be asked
# before each `decode`, which yields what that gives; after it, `ended` says whether the frame is complete and
# `unused` how many bytes of that input belong to the next.


class _ZstdBlocks:
    """Where the blocks of one zstd frame begin (RFC 8878, 3.1.1); nothing is decoded, or refused."""

    def __init__(self) -> None:
        self._state = "frame"
        self._left = 5  # of the state's bytes
        self._head = bytearray()
        self._checksum = 0

    def step_end(self, data: memoryview, position: int) -> int:
        """Where bytes end in which no second block begins, nor another frame."""
        if self._state == "end":
            return min(position + _ZSTD_BLIND_BYTES, len(data))
        begun = False
        while position < len(data) and self._state != "end":
            if self._state == "block" and not self._head:
                if begun:
                    break
                begun = True
            piece = data[position : position + self._left]
            position += len(piece)
            self._left -= len(piece)
            if self._state not in {"content", "last"}:
                self._head += piece
            if not self._left:
                self._turn()
        return position

    def _turn(self) -> None:
        head, self._head = self._head, bytearray()
        if self._state == "frame":
            magic, descriptor = int.from_bytes(head[:4], "little"), head[4]
            if magic & 0xFFFFFFF0 == 0x184D2A50:  # a frame to be skipped
                self._begin("skipped", 3)
                self._head = head
            elif magic == 0xFD2FB528:
                single, self._checksum = descriptor >> 5 & 1, descriptor >> 2 & 1
                fields = 1 - single + (0, 1, 2, 4)[descriptor & 3]
                self._begin("fields", fields + (single, 2, 4, 8)[descriptor >> 6])
            else:
                self._state = "end"
        elif self._state == "block":
            block = int.from_bytes(head, "little")
            length = 1 if block >> 1 & 3 == 1 else block >> 3  # a run is one byte, however long
            if block & 1:
                self._begin("last", length + 4 * self._checksum)
            else:
                self._begin("content", length)
        elif self._state == "skipped":
            self._begin("last", int.from_bytes(head[4:], "little"))
        elif self._state == "last":
            self._state = "end"
        else:
            self._begin("block", 3)

    def _begin(self, state: str, length: int) -> None:
        self._state, self._left = state, length
        if not length:
            self._turn()


class _ZstdFrame:
    def __init__(self, max_window_bytes: int) -> None:
        decompressor = zstandard.ZstdDecompressor(max_window_size=max_window_bytes)
        self._decompressor = decompressor.decompressobj()
        self._max_window_bytes = max_window_bytes
        self._blocks = _ZstdBlocks()
        self.ended = False
        self.unused = 0

    def step_end(self, data: memoryview, position: int) -> int:
        return self._blocks.step_end(data, position)

    def decode(self, data: memoryview) -> Iterator[bytes]:
        try:
            yield self._decompressor.decompress(data)
        except zstandard.ZstdError as exc:
            # zstandard gives no error codes; this is zstd's own text for a window above the limit.
            if "requires too much memory" in str(exc):
                raise LimitExceededError(
                    f"a zstd frame needs a window above {self._max_window_bytes} bytes",
                    layer=LAYER,
                    limit=self._max_window_bytes,
                ) from exc
            raise DecompressionError("the zstd frame does not decode", layer=LAYER) from exc
        self.ended = self._decompressor.eof
        self.unused = len(self._decompressor.unused_data)


class _BoundedFrame:
    """Of decoders that give no more at once than they are asked for."""

    @staticmethod
    def step_end(data: memoryview, position: int) -> int:
        return min(position + _STEP_BYTES, len(data))


class _Lz4Frame(_BoundedFrame):
    def __init__(self) -> None:
        self._decompressor = lz4.frame.LZ4FrameDecompressor()
        self.ended = False
        self.unused = 0

    def decode(self, data: memoryview) -> Iterator[bytes]:
        given: Buffer = data
        while True:
            try:
                decoded = self._decompressor.decompress(given, max_length=_STEP_DECODED_BYTES)
            except RuntimeError as exc:
                raise DecompressionError("the LZ4 frame does not decode", layer=LAYER) from exc
            yield decoded
            if self._decompressor.eof:
                self.ended = True
                self.unused = len(self._decompressor.unused_data or b"")
                return
            if self._decompressor.needs_input:
                return
            given = b""


class _ZlibStream(_BoundedFrame):
    def __init__(self) -> None:
        self._decompressor = zlib.decompressobj()
        self.ended = False
        self.unused = 0

    def decode(self, data: memoryview) -> Iterator[bytes]:
        given: Buffer = data
        while True:
            try:
                decoded = self._decompressor.decompress(given, _STEP_DECODED_BYTES)
            except zlib.error as exc:
                raise DecompressionError("the deflate body does not decode", layer=LAYER) from exc
            yield decoded
            if self._decompressor.eof:
                self.ended = True
                self.unused = len(self._decompressor.unused_data)
                return
            given = self._decompressor.unconsumed_tail
            # With output at its limit zlib may hold more although it has read all input.
            if not given and len(decoded) < _STEP_DECODED_BYTES:
                return


class Decoder(PushDecoder[memoryview]):
    """Decompresses a body of any number of frames.

    Events are ``memoryview``s of decoded bytes in memory of their own; for identity they are views
    of what was fed.
    """

    _layer = LAYER

    def __init__(
        self,
        coding: ContentCoding = ContentCoding.IDENTITY,
        *,
        max_decoded_bytes: int = DEFAULT_MAX_DECODED_BYTES,
        max_ratio: int = DEFAULT_MAX_RATIO,
        max_window_bytes: int = DEFAULT_MAX_WINDOW_BYTES,
    ) -> None:
        super().__init__()
        self.coding = coding
        self._max_decoded_bytes = max_decoded_bytes
        self._max_ratio = max_ratio
        self._max_window_bytes = max_window_bytes
        self._frame: _ZstdFrame | _Lz4Frame | _ZlibStream | None = None
        self._decoded = 0

    @property
    def decoded_bytes(self) -> int:
        """Bytes decoded so far."""
        return self._decoded

    def _events(self) -> Iterator[memoryview]:
        while self._chunks:
            yield from self._decode(self._chunks.popleft())

    def _last_events(self) -> Iterator[memoryview]:
        if self._frame is not None:
            raise TruncatedStreamError(
                f"the {self.coding} body ends inside a frame", layer=LAYER, offset=self._offset
            )
        return iter(())

    def _new_frame(self) -> _ZstdFrame | _Lz4Frame | _ZlibStream:
        if self.coding is ContentCoding.ZSTD:
            return _ZstdFrame(self._max_window_bytes)
        if self.coding is ContentCoding.LZ4_FRAME:
            return _Lz4Frame()
        return _ZlibStream()

    def _decode(self, chunk: memoryview) -> Iterator[memoryview]:
        if self.coding is ContentCoding.IDENTITY:
            self._offset += len(chunk)
            self._count(len(chunk))
            yield chunk
            return
        blocks_: list[bytes] = []
        joined_bytes = 0
        position = 0
        failure: WireError | None = None
        while position < len(chunk) and failure is None:
            frame = self._frame
            if frame is None:
                frame = self._frame = self._new_frame()
            data = chunk[position : frame.step_end(chunk, position)]
            self._offset += len(data)
            try:
                for decoded in frame.decode(data):
                    self._count(len(decoded))
                    if decoded:
                        blocks_.append(decoded)
                        joined_bytes += len(decoded)
                    if joined_bytes >= _CHUNK_BYTES:
                        yield _joined(blocks_)
                        blocks_, joined_bytes = [], 0
            except WireError as error:
                failure = error
            position += len(data)
            if frame.ended:
                position -= frame.unused
                self._offset -= frame.unused
                self._frame = None
        if blocks_:
            yield _joined(blocks_)
        if failure is not None:
            raise failure

    def _count(self, decoded_bytes: int) -> None:
        self._decoded += decoded_bytes
        if self._decoded > self._max_decoded_bytes:
            raise LimitExceededError(
                f"the {self.coding} body decodes to more than {self._max_decoded_bytes} bytes",
                layer=LAYER,
                limit=self._max_decoded_bytes,
            )
        if self.coding is ContentCoding.IDENTITY or self._decoded <= RATIO_FLOOR_BYTES:
            return
        if self._decoded > self._max_ratio * self._offset:
            raise LimitExceededError(
                f"the {self.coding} body decodes to more than {self._max_ratio} times its size:"
                f" {self._offset} bytes gave {self._decoded}",
                layer=LAYER,
                limit=self._max_ratio,
                actual=self._decoded,
            )


def _joined(blocks_: list[bytes]) -> memoryview:
    # The copy is of chunks below 128 KiB, at memcpy speed, and saves per-chunk work further in.
    return memoryview(blocks_[0] if len(blocks_) == 1 else b"".join(blocks_))
