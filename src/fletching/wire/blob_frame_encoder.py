"""Writing blob frames, and the checksums of their data; `fletching.wire.blob_frames` is the front."""

from __future__ import annotations

import hashlib
import struct
import zlib

import msgspec
from typing_extensions import Buffer

from fletching.errors import UsageError
from fletching.wire.blob_headers import BlobHeader, ChecksumType

__all__ = ["LENGTH", "LENGTH_BYTES", "NO_CHECKSUM_FOOTER", "Encoder", "Hashes", "frame_length"]

LENGTH_BYTES = 8
LENGTH = struct.Struct("<q")
# From this length on the header announces the kind of checksum, which stands behind the data.
_ANNOUNCE_BYTES = 1 << 20


class Hashes:
    """Running checksums of one blob's data, for the kinds asked for."""

    def __init__(self, kinds: frozenset[ChecksumType]) -> None:
        self._crc32 = 0 if ChecksumType.CRC32 in kinds else None
        self._md5 = hashlib.md5(usedforsecurity=False) if ChecksumType.MD5 in kinds else None

    def update(self, data: Buffer) -> None:
        """Adds data."""
        if self._crc32 is not None:
            self._crc32 = zlib.crc32(data, self._crc32)
        if self._md5 is not None:
            self._md5.update(data)

    @property
    def crc32(self) -> int:
        """The CRC-32, if it was asked for."""
        return self._crc32 or 0

    @property
    def md5(self) -> str:
        """The MD5 in lower-case hexadecimal, if it was asked for."""
        return self._md5.hexdigest() if self._md5 is not None else ""


def _length(value: int) -> bytes:
    return LENGTH.pack(value)


NO_CHECKSUM_FOOTER = b'{"Checksum":{"Type":0}}'


def _footer(checksum: ChecksumType, hashes: Hashes) -> bytes:
    if checksum is ChecksumType.NONE:
        return NO_CHECKSUM_FOOTER
    fields: dict[str, object] = {"Type": int(checksum)}
    if checksum is ChecksumType.CRC32:
        fields["Crc32"] = hashes.crc32
    else:
        fields["MD5"] = hashes.md5
    return msgspec.json.encode({"Checksum": fields})


def _announcement(data_length: int, checksum: ChecksumType) -> bytes:
    return b'"ChecksumType":%d}' % checksum if data_length >= _ANNOUNCE_BYTES else b""


def _header_json(header: BlobHeader | bytes, data_length: int, checksum: ChecksumType) -> bytes:
    json = header if isinstance(header, bytes) else header.to_json()
    announcement = _announcement(data_length, checksum)
    if not announcement:
        return json
    return json[:-1] + (b"," if len(json) > 2 else b"") + announcement


def frame_length(header: BlobHeader | int, data_length: int) -> int:
    """Bytes of a whole frame without checksum, as `Encoder` writes it: for a Content-Length.

    Args:
        header: the header, or the length of its JSON if that is all that is known.
        data_length: bytes of data.
    """
    header_bytes = header if isinstance(header, int) else len(header.to_json())
    announcement = _announcement(data_length, ChecksumType.NONE)
    if announcement:
        header_bytes += len(announcement) - 1 + (1 if header_bytes > 2 else 0)
    return 3 * LENGTH_BYTES + header_bytes + data_length + len(NO_CHECKSUM_FOOTER)


class Encoder:
    """Writes frames: ``start``, ``data`` any number of times, ``end``; or ``frame`` for all at once.

    Data buffers are passed on, not copied.
    """

    def __init__(self, *, checksum: ChecksumType = ChecksumType.NONE) -> None:
        self._checksum = checksum
        self._hashes = Hashes(frozenset())
        self._remaining: int | None = None

    def start(self, header: BlobHeader | bytes, data_length: int) -> list[Buffer]:
        """Begins a frame whose data will have exactly ``data_length`` bytes.

        The header may also be given as its JSON, an object without a checksum type.

        Raises:
            UsageError: a frame is open, or the length is negative.
        """
        if self._remaining is not None:
            raise UsageError("the previous blob frame is not ended")
        if data_length < 0:
            raise UsageError(f"a blob of {data_length} bytes")
        self._remaining = data_length
        self._hashes = Hashes(frozenset({self._checksum}))
        header_json = _header_json(header, data_length, self._checksum)
        return [_length(len(header_json)) + header_json + _length(data_length)]

    def data(self, data: Buffer) -> list[Buffer]:
        """Passes a chunk of the data on.

        Raises:
            UsageError: no frame is open, or this is more than it was to hold.
        """
        view = memoryview(data).cast("B")
        if self._remaining is None:
            raise UsageError("no blob frame is open")
        if len(view) > self._remaining:
            raise UsageError(
                f"{len(view)} bytes of data for a blob frame that has room for {self._remaining}"
            )
        self._remaining -= len(view)
        self._hashes.update(view)
        return [view] if len(view) else []

    def end(self) -> list[Buffer]:
        """Ends the frame with its footer.

        Raises:
            UsageError: no frame is open, or its data is not complete.
        """
        if self._remaining is None:
            raise UsageError("no blob frame is open")
        if self._remaining:
            raise UsageError(f"a blob frame lacks {self._remaining} bytes of data")
        self._remaining = None
        footer = _footer(self._checksum, self._hashes)
        return [_length(len(footer)) + footer]

    def frame(self, header: BlobHeader | bytes, data: Buffer) -> list[Buffer]:
        """A whole frame."""
        view = memoryview(data).cast("B")
        return [*self.start(header, len(view)), *self.data(view), *self.end()]

    def finish(self) -> list[Buffer]:
        """Ends the stream, which adds nothing.

        Raises:
            UsageError: a frame is open.
        """
        if self._remaining is not None:
            raise UsageError("the last blob frame is not ended")
        return []
