"""The manifest: the reply to a read as a recipe, for a client that can reach the stored bytes itself.

A read's reply is an Arrow IPC stream. A manifest says what that stream consists of: pieces, each of
them one or more whole encapsulated messages, in order. Written out one after another they are the
stream, byte for byte, but for `Rows`, which stands for rows that the service has to compute::

    Inline     messages that are made for the reply: its schema, its end-of-stream marker
    Stored     record batch or dictionary batch messages as they lie in a source, one after another,
               each with its CRC32C
    Assembled  one message put together: new metadata, padding and constants inline, and the wanted
               buffers as ranges of sources. Its stored bytes have no checksum of their own
    Rows       rows of the read, counted from its first, to be asked of the service; what it answers
               is a stream of its own, whose batches belong here

A *source* is one immutable segment, a whole Arrow IPC file, reached by a signed URL of the object
store (``SIGNED``). A client on the service's host that asks for ``DESCRIPTORS`` gets another form,
`fletching.protocol.messages.mapped_rows`: from a mapped file chosen columns are decoded in place, where
a message put together from ranges would have to be copied first.

A manifest may cover the beginning of a read only (``complete`` is false): the rest is asked for again,
with that many more rows skipped. The same is done when its sources have run out of time, or fail.

Encoded it is MessagePack: a client accepts one only after `check`, so that no range lies outside of
its source and no length disagrees with the others.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Final, TypeAlias

import msgspec
import numpy as np

from fletching.errors import ProtocolError

__all__ = [
    "MANIFEST_FORMAT",
    "MAX_MANIFEST_BYTES",
    "Assembled",
    "Inline",
    "Manifest",
    "ManifestPiece",
    "Rows",
    "Source",
    "SourceKind",
    "SourceRange",
    "Stored",
    "decode_manifest",
    "encode_manifest",
]

MANIFEST_FORMAT: Final = 1
"""The form described here; a client asks for it by a word of `SourceKind` and refuses any other."""

MAX_MANIFEST_BYTES: Final = 16 << 20
"""Longest manifest that is sent or accepted: a longer read is covered by several, one after another."""

MAX_SOURCES: Final = 100_000
_MAX_OFFSET: Final = 1 << 56


class SourceKind(enum.StrEnum):
    """How a client reaches the sources of a manifest: what it may ask for."""

    SIGNED = "signed"
    """By HTTP range requests of signed URLs."""
    DESCRIPTORS = "descriptors"
    """By descriptors of open files, passed over a Unix socket of the same host."""


class Source(msgspec.Struct, frozen=True, array_like=True):
    """One segment.

    Attributes:
        length: bytes of the whole file.
        url: where it is fetched from; empty for a descriptor.
    """

    length: int
    url: str = ""


class SourceRange(msgspec.Struct, frozen=True, array_like=True, tag="s"):
    """Bytes ``start`` to ``end`` of a source, by its number."""

    source: int
    start: int
    end: int

    @property
    def length(self) -> int:
        """How many bytes."""
        return self.end - self.start


class Inline(msgspec.Struct, frozen=True, array_like=True, tag="i"):
    """Whole messages, or the end-of-stream marker."""

    data: bytes

    @property
    def length(self) -> int:
        """Bytes of the stream."""
        return len(self.data)


class Stored(msgspec.Struct, frozen=True, array_like=True, tag="m"):
    """Whole messages as they lie in a source, without a gap.

    Attributes:
        source: its number.
        start: where the first message begins in it.
        lengths: of each message, with prefix and body: little-endian int64.
        checksums: CRC32C of each whole message: little-endian uint32.
    """

    source: int
    start: int
    lengths: bytes
    checksums: bytes

    @property
    def length(self) -> int:
        """Bytes of the stream."""
        return int(np.frombuffer(self.lengths, "<i8").sum())

    def messages(self) -> Iterator[tuple[int, int, int]]:
        """(start, end, CRC32C) of each message in the source."""
        ends = self.start + np.cumsum(np.frombuffer(self.lengths, "<i8"))
        start = self.start
        checksums = np.frombuffer(self.checksums, "<u4").tolist()
        for end, checksum in zip(ends.tolist(), checksums, strict=True):
            yield start, end, checksum
            start = end


class Assembled(msgspec.Struct, frozen=True, array_like=True, tag="a"):
    """One message of parts; the first is its prefix and metadata, inline."""

    parts: tuple[bytes | SourceRange, ...]

    @property
    def length(self) -> int:
        """Bytes of the stream."""
        return sum(
            part.length if isinstance(part, SourceRange) else len(part) for part in self.parts
        )


class Rows(msgspec.Struct, frozen=True, array_like=True, tag="r"):
    """Rows ``start`` to ``start + count`` of the read that was asked for, its skipped rows not counted."""

    start: int
    count: int


ManifestPiece: TypeAlias = Inline | Stored | Assembled | Rows


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """How to make the reply to one read; see the module.

    Attributes:
        format: `MANIFEST_FORMAT`.
        kind: how the sources are reached.
        rows: rows of the read that the pieces stand for.
        complete: whether those are all.
        valid_seconds: how long the sources can be used, counted from when the manifest was made.
        sources: what ranges refer to by number.
        pieces: the stream in order, from the schema message to the end-of-stream marker.
    """

    format: int
    kind: SourceKind
    rows: int
    complete: bool
    valid_seconds: float
    sources: tuple[Source, ...]
    pieces: tuple[ManifestPiece, ...]

    def check(self) -> None:
        """Refuses numbers that do not fit together.

        Raises:
            ProtocolError: a range outside of its source, lengths and checksums of different number,
                an order that is no stream's.
        """
        if self.format != MANIFEST_FORMAT:
            raise _wrong(f"it is of format {self.format}, not {MANIFEST_FORMAT}")
        if self.rows < 0 or len(self.sources) > MAX_SOURCES or not self.valid_seconds >= 0:
            raise _wrong("its counts cannot be")
        for source in self.sources:
            if not 0 <= source.length < _MAX_OFFSET:
                raise _wrong(f"a source has {source.length} bytes")
        pieces = self.pieces
        if len(pieces) < 2 or not (
            isinstance(pieces[0], Inline) and isinstance(pieces[-1], Inline)
        ):
            raise _wrong("it does not begin with a schema and end with a marker")
        for piece in pieces:
            if isinstance(piece, Stored):
                self._check_stored(piece)
            elif isinstance(piece, Assembled):
                self._check_assembled(piece)
            elif isinstance(piece, Rows) and not (
                piece.start >= 0 and piece.count > 0 and piece.start + piece.count <= self.rows
            ):
                raise _wrong(f"rows {piece.start} and {piece.count} more are none of {self.rows}")

    def _check_stored(self, piece: Stored) -> None:
        if len(piece.lengths) % 8 or len(piece.checksums) * 2 != len(piece.lengths):
            raise _wrong("messages have not one length and one checksum each")
        lengths = np.frombuffer(piece.lengths, "<i8")
        if not len(lengths) or lengths.min() < 8 or lengths.max() >= _MAX_OFFSET:
            raise _wrong("a message has no length that can be")
        # As floats first: a sum of int64 could wrap around.
        if float(lengths.astype(np.float64).sum()) >= _MAX_OFFSET:
            raise _wrong("messages are longer than any source")
        self._check_range(piece.source, piece.start, piece.start + int(lengths.sum()))

    def _check_assembled(self, piece: Assembled) -> None:
        if not piece.parts or not isinstance(piece.parts[0], bytes) or len(piece.parts[0]) < 8:
            raise _wrong("a message has no metadata")
        for part in piece.parts:
            if isinstance(part, SourceRange):
                self._check_range(part.source, part.start, part.end)

    def _check_range(self, source: int, start: int, end: int) -> None:
        if not 0 <= source < len(self.sources):
            raise _wrong(f"there is no source {source}")
        if not 0 <= start <= end <= self.sources[source].length:
            raise _wrong(
                f"bytes {start} to {end} are outside of a source of {self.sources[source].length}"
            )


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Manifest)


def encode_manifest(manifest: Manifest) -> bytes:
    """The manifest as it is sent."""
    return _ENCODER.encode(manifest)


def decode_manifest(data: bytes) -> Manifest:
    """Reads and checks a manifest.

    Raises:
        ProtocolError: it is none, or its numbers do not fit together.
    """
    try:
        manifest = _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _wrong(f"it does not decode: {error}") from None
    manifest.check()
    return manifest


def _wrong(reason: str) -> ProtocolError:
    return ProtocolError(f"the service's manifest cannot be used: {reason}", side="remote")
