"""Blob frames: blobs with their metadata, one after the other (PROTOCOL 5.4).

======  =================  ================================================================
offset  bytes              meaning
======  =================  ================================================================
0       8                  header length, signed, little-endian; 0 allowed, negative corrupt
8       header length      header: a JSON object
..      8                  data length, signed, little-endian
..      data length        data
..      8                  footer length, signed, little-endian
..      footer length      footer: a JSON object, ``{"Checksum": {"Type": 0}}`` at least
======  =================  ================================================================

Frames are concatenated without an end mark. The footer's checksum is none (``Type`` 0), the IEEE
CRC-32 of the data (``Type`` 1, ``Crc32``) or its MD5 (``Type`` 2, ``MD5`` in hex); the decoder
verifies it. Header and footer keys that are not known here are kept.

Limits, all keyword arguments of `Decoder`: ``max_header_bytes`` (header and footer each, 64 KiB),
``max_data_bytes`` (of one blob), ``max_frames``. Lengths are checked before anything is kept.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import struct
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import msgspec
from typing_extensions import Buffer

from fletching.errors import (
    ChecksumMismatchError,
    LimitExceededError,
    MalformedFrameError,
    TruncatedStreamError,
    UsageError,
    WireError,
)

__all__ = [
    "DEFAULT_MAX_DATA_BYTES",
    "DEFAULT_MAX_FRAMES",
    "DEFAULT_MAX_HEADER_BYTES",
    "HEADER_HEURISTIC_BYTES",
    "BlobData",
    "BlobDataEnd",
    "BlobDataStart",
    "BlobHeader",
    "ChecksumType",
    "Decoder",
    "Encoder",
    "Event",
    "frame_length",
]

LAYER = "blob_frames"

LENGTH_BYTES = 8
_LENGTH = struct.Struct("<q")
DEFAULT_MAX_HEADER_BYTES = 64 << 10
DEFAULT_MAX_DATA_BYTES = 1 << 40
DEFAULT_MAX_FRAMES = 1_000_000
# PROTOCOL 5.5: old readers take a reply for framed only if the first header is shorter than this.
HEADER_HEURISTIC_BYTES = 1024

# The kind of checksum stands in the footer, after the data. Data up to this length is kept by
# reference until then and hashed once, as the footer asks; longer data is hashed as it passes, for
# every kind, unless the header announced the kind (see `BlobHeader.checksum`).
_HOLD_BYTES = 16 << 20
_HOLD_PIECES = 1024
_ANNOUNCE_BYTES = 1 << 20


class ChecksumType(enum.IntEnum):
    """The footer's ``Checksum.Type``."""

    NONE = 0
    CRC32 = 1
    MD5 = 2


@dataclasses.dataclass(frozen=True, slots=True)
class BlobHeader:
    """A frame's header. Absent keys and, on reading, empty texts are None.

    Attributes:
        content_type: ``ContentType``.
        file_name: ``CustomFileName``.
        partition_values: ``PartitionValues``, each ``k=v``; uploads only.
        column_id: ``ColumnIndex``, the column's id in the write schema; uploads only.
        distribution_key: ``DistributionKey``, base64; uploads to primary-key tables only.
        checksum: ``ChecksumType``, ours: the kind of checksum the footer will have, so that a
            reader of long data need not compute every kind.
        extra: keys not known here, as they came.
    """

    content_type: str | None = None
    file_name: str | None = None
    partition_values: tuple[str, ...] | None = None
    column_id: int | None = None
    distribution_key: str | None = None
    checksum: ChecksumType | None = None
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> bytes:
        """The header as JSON in UTF-8; without any known key it is ``{}``."""
        fields: dict[str, Any] = dict(self.extra)
        if self.partition_values is not None:
            fields["PartitionValues"] = list(self.partition_values)
        if self.column_id is not None:
            fields["ColumnIndex"] = self.column_id
        if self.distribution_key is not None:
            fields["DistributionKey"] = self.distribution_key
        if self.content_type is not None:
            fields["ContentType"] = self.content_type
        if self.file_name is not None:
            fields["CustomFileName"] = self.file_name
        if self.checksum is not None:
            fields["ChecksumType"] = int(self.checksum)
        return msgspec.json.encode(fields)

    @classmethod
    def from_json(cls, data: Buffer, *, offset: int = 0) -> BlobHeader:
        """Reads a header; no bytes at all are an empty one.

        Raises:
            MalformedFrameError: not a JSON object in UTF-8, or a known key of the wrong type.
        """
        fields = _json_object(data, "header", offset)
        values = {name: _typed(fields, key, name, offset) for key, name in _HEADER_KEYS.items()}
        kind = values.pop("checksum")
        return cls(
            **values,
            checksum=None if kind is None else _checksum_type(kind, offset),
            extra=fields,
        )


_HEADER_KEYS = {
    "ContentType": "content_type",
    "CustomFileName": "file_name",
    "PartitionValues": "partition_values",
    "ColumnIndex": "column_id",
    "DistributionKey": "distribution_key",
    "ChecksumType": "checksum",
}


@dataclasses.dataclass(frozen=True, slots=True)
class BlobDataStart:
    """A frame begins: ``index`` counts from 0, ``offset`` is the frame's first byte in the stream."""

    index: int
    offset: int
    header: BlobHeader
    length: int


@dataclasses.dataclass(frozen=True, slots=True)
class BlobData:
    """A piece of the current frame's data: a view of what was fed."""

    data: memoryview


@dataclasses.dataclass(frozen=True, slots=True)
class BlobDataEnd:
    """A frame is complete and its checksum, if it has one, is right.

    ``footer`` is the footer's JSON object as it came.
    """

    index: int
    checksum: ChecksumType
    footer: Mapping[str, Any]


Event: TypeAlias = BlobDataStart | BlobData | BlobDataEnd


def _json_object(data: Buffer, part: str, offset: int) -> dict[str, Any]:
    if not memoryview(data).nbytes:
        return {}
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise MalformedFrameError(
            f"the {part} of a blob frame is not JSON", layer=LAYER, offset=offset
        ) from exc
    if not isinstance(value, dict):
        raise MalformedFrameError(
            f"the {part} of a blob frame is not a JSON object",
            layer=LAYER,
            offset=offset,
            expected="object",
            actual=type(value).__name__,
        )
    return value


def _typed(fields: dict[str, Any], key: str, name: str, offset: int) -> Any:
    """Takes a known key out of a header's fields, checked."""
    value = fields.pop(key, None)
    if value is None:
        return None
    if name in {"column_id", "checksum"}:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif name == "partition_values":
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif isinstance(value, str):
        return value or None
    raise MalformedFrameError(
        f"{key} in the header of a blob frame has the wrong type",
        layer=LAYER,
        offset=offset,
        actual=type(value).__name__,
    )


def _checksum_type(value: object, offset: int) -> ChecksumType:
    if isinstance(value, int) and not isinstance(value, bool) and value in set(ChecksumType):
        return ChecksumType(value)
    raise MalformedFrameError(
        "a blob frame names a checksum type that does not exist",
        layer=LAYER,
        offset=offset,
        expected=[int(kind) for kind in ChecksumType],
        actual=value if isinstance(value, int) else type(value).__name__,
    )


class _Hashes:
    """Running checksums of one blob's data, for the kinds asked for."""

    def __init__(self, kinds: frozenset[ChecksumType]) -> None:
        self._crc32 = 0 if ChecksumType.CRC32 in kinds else None
        self._md5 = hashlib.md5(usedforsecurity=False) if ChecksumType.MD5 in kinds else None

    def update(self, data: Buffer) -> None:
        if self._crc32 is not None:
            self._crc32 = zlib.crc32(data, self._crc32)
        if self._md5 is not None:
            self._md5.update(data)

    @property
    def crc32(self) -> int:
        return self._crc32 or 0

    @property
    def md5(self) -> str:
        return self._md5.hexdigest() if self._md5 is not None else ""


_EVERY_KIND = frozenset({ChecksumType.CRC32, ChecksumType.MD5})


def _length(value: int) -> bytes:
    return _LENGTH.pack(value)


_NO_CHECKSUM_FOOTER = b'{"Checksum":{"Type":0}}'


def _footer(checksum: ChecksumType, hashes: _Hashes) -> bytes:
    if checksum is ChecksumType.NONE:
        return _NO_CHECKSUM_FOOTER
    fields: dict[str, Any] = {"Type": int(checksum)}
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
    return 3 * LENGTH_BYTES + header_bytes + data_length + len(_NO_CHECKSUM_FOOTER)


class Encoder:
    """Writes frames: ``start``, ``data`` any number of times, ``end``; or ``frame`` for all at once.

    Data buffers are passed on, not copied.
    """

    def __init__(self, *, checksum: ChecksumType = ChecksumType.NONE) -> None:
        self._checksum = checksum
        self._hashes = _Hashes(frozenset())
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
        self._hashes = _Hashes(frozenset({self._checksum}))
        header_json = _header_json(header, data_length, self._checksum)
        return [_length(len(header_json)) + header_json + _length(data_length)]

    def data(self, data: Buffer) -> list[Buffer]:
        """Passes a piece of the data on.

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


class _State(enum.Enum):
    HEADER_LENGTH = "header length"
    HEADER = "header"
    DATA_LENGTH = "data length"
    DATA = "data"
    FOOTER_LENGTH = "footer length"
    FOOTER = "footer"


class Decoder:
    """Reads frames as `BlobDataStart`, `BlobData` pieces and `BlobDataEnd`.

    `BlobData` holds views of what was fed; they are never longer than one fed buffer, so a blob of
    any size passes in constant memory. Buffers of a blob up to 16 MiB are also borrowed until its
    `BlobDataEnd`, to be hashed as the footer asks.
    """

    def __init__(
        self,
        *,
        max_header_bytes: int = DEFAULT_MAX_HEADER_BYTES,
        max_data_bytes: int = DEFAULT_MAX_DATA_BYTES,
        max_frames: int = DEFAULT_MAX_FRAMES,
    ) -> None:
        self._max_header_bytes = max_header_bytes
        self._max_data_bytes = max_data_bytes
        self._max_frames = max_frames
        self._chunks: deque[memoryview] = deque()
        self._available = 0
        self._offset = 0
        self._state = _State.HEADER_LENGTH
        self._needed = LENGTH_BYTES
        self._index = 0
        self._frame_offset = 0
        self._header = BlobHeader()
        self._data_length = 0
        self._held: list[memoryview] | None = None
        self._hashes = _Hashes(frozenset())
        # Headers of one batch repeat (the same column, partition and content type).
        self._parsed: dict[bytes, BlobHeader] = {}
        self._ready: list[Event] = []
        self._finished = False
        self._error: WireError | None = None

    @property
    def offset(self) -> int:
        """Bytes consumed so far."""
        return self._offset

    @property
    def frames(self) -> int:
        """Frames completed so far."""
        return self._index

    def feed(self, data: Buffer) -> None:
        """Queues bytes; borrows ``data`` as the class says."""
        if self._finished:
            raise MalformedFrameError(
                "bytes after the end of the input", layer=LAYER, offset=self._offset
            )
        view = memoryview(data).cast("B")
        if len(view):
            self._chunks.append(view)
            self._available += len(view)

    def events(self) -> Iterator[Event]:
        """Yields events until more input is needed.

        Raises:
            MalformedFrameError: a negative length, or a header or footer that is no JSON object.
            LimitExceededError: a length or count above its limit.
            ChecksumMismatchError: data that disagrees with its footer; its pieces may have been given
                already.
        """
        if self._error is not None:
            raise self._error
        while self._ready:
            yield self._ready.pop(0)
        try:
            while True:
                if self._state is _State.HEADER_LENGTH and self._chunks:
                    yield from self._whole_frames(self._chunks[0])
                if self._state is _State.DATA:
                    if self._needed:
                        if not self._available:
                            return
                        yield self._data_piece()
                        continue
                    self._expect(_State.FOOTER_LENGTH, LENGTH_BYTES)
                if self._available < self._needed:
                    return
                event = self._step(self._take(self._needed))
                if event is not None:
                    yield event
        except WireError as error:
            self._error = error
            self._chunks.clear()
            raise

    def finish(self) -> None:
        """Tells that the input ended.

        Raises:
            TruncatedStreamError: inside a frame.
            WireError: whatever `events` finds in input it had not read yet.
        """
        if self._error is not None:
            raise self._error
        if self._finished:
            return
        self._ready = list(self.events())
        if self._state is not _State.HEADER_LENGTH or self._available:
            self._error = TruncatedStreamError(
                f"the input ends inside the {self._state.value} of blob frame {self._index}",
                layer=LAYER,
                offset=self._offset,
                expected=self._needed,
                actual=self._available,
            )
            raise self._error
        self._finished = True

    def _whole_frames(self, chunk: memoryview) -> Iterator[Event]:
        """The frames that lie whole inside one buffer, which is most of them when blobs are small.

        Leaves everything that is not a whole, well-formed frame to the states.
        """
        position, end = 0, len(chunk)
        while self._index < self._max_frames:
            data_at = position + LENGTH_BYTES
            if data_at > end:
                break
            header_length = _LENGTH.unpack_from(chunk, position)[0]
            header_end = data_at + header_length
            data_at = header_end + LENGTH_BYTES
            if not 0 <= header_length <= self._max_header_bytes or data_at > end:
                break
            data_length = _LENGTH.unpack_from(chunk, header_end)[0]
            data_end = data_at + data_length
            footer_at = data_end + LENGTH_BYTES
            if not 0 <= data_length <= self._max_data_bytes or footer_at > end:
                break
            footer_length = _LENGTH.unpack_from(chunk, data_end)[0]
            frame_end = footer_at + footer_length
            if not 0 <= footer_length <= self._max_header_bytes or frame_end > end:
                break
            length = frame_end - position
            self._frame_offset = self._offset
            self._offset += header_end - position
            self._header = self._header_of(chunk[header_end - header_length : header_end])
            self._data_length = data_length
            data = chunk[data_at:data_end]
            # Taken before anything is given: whoever stops here finds the decoder in one piece.
            self._offset = self._frame_offset + length
            self._available -= length
            position = frame_end
            if position < end:
                self._chunks[0] = chunk[position:]
            else:
                self._chunks.popleft()
            self._begin_data()
            if data_length:
                if self._held is None:
                    self._hashes.update(data)
                else:
                    self._held.append(data)
            index = self._index
            self._index += 1
            end_event = self._end_of_frame(chunk[footer_at:frame_end], index)
            yield BlobDataStart(index, self._frame_offset, self._header, data_length)
            if data_length:
                yield BlobData(data)
            yield end_event

    def _take(self, length: int) -> memoryview:
        """The next ``length`` bytes, which are there; joined only where they span buffers."""
        self._available -= length
        self._offset += length
        if not length:
            return memoryview(b"")
        first = self._chunks[0]
        if len(first) > length:
            self._chunks[0] = first[length:]
            return first[:length]
        if len(first) == length:
            return self._chunks.popleft()
        # Lengths, headers and footers only (data passes by pieces): at most 64 KiB are copied.
        joined = bytearray()
        while len(joined) < length:
            chunk = self._chunks.popleft()
            missing = length - len(joined)
            joined += chunk[:missing]
            if len(chunk) > missing:
                self._chunks.appendleft(chunk[missing:])
        return memoryview(bytes(joined))

    def _expect(self, state: _State, needed: int) -> None:
        self._state = state
        self._needed = needed

    def _step(self, data: memoryview) -> Event | None:
        """Handles one complete small part and names the next."""
        if self._state is _State.HEADER_LENGTH:
            self._frame_offset = self._offset - LENGTH_BYTES
            if self._index >= self._max_frames:
                raise LimitExceededError(
                    f"more than {self._max_frames} blob frames",
                    layer=LAYER,
                    offset=self._frame_offset,
                    limit=self._max_frames,
                )
            self._expect(_State.HEADER, self._checked(data, self._max_header_bytes))
        elif self._state is _State.HEADER:
            self._header = self._header_of(data)
            self._expect(_State.DATA_LENGTH, LENGTH_BYTES)
        elif self._state is _State.DATA_LENGTH:
            self._data_length = self._checked(data, self._max_data_bytes)
            self._begin_data()
            self._expect(_State.DATA, self._data_length)
            return BlobDataStart(self._index, self._frame_offset, self._header, self._data_length)
        elif self._state is _State.FOOTER_LENGTH:
            self._expect(_State.FOOTER, self._checked(data, self._max_header_bytes))
        else:
            end = self._end_of_frame(data, self._index)
            self._index += 1
            self._expect(_State.HEADER_LENGTH, LENGTH_BYTES)
            return end
        return None

    def _checked(self, data: memoryview, limit: int) -> int:
        length = int.from_bytes(data, "little", signed=True)
        if length < 0:
            raise MalformedFrameError(
                f"the {self._state.value} of blob frame {self._index} is negative",
                layer=LAYER,
                offset=self._offset - LENGTH_BYTES,
                expected=">= 0",
                actual=length,
            )
        if length > limit:
            raise LimitExceededError(
                f"the {self._state.value} of blob frame {self._index} is {length},"
                f" the limit is {limit}",
                layer=LAYER,
                offset=self._offset - LENGTH_BYTES,
                actual=length,
                limit=limit,
            )
        return length

    def _header_of(self, data: memoryview) -> BlobHeader:
        # A copy of at most 64 KiB, as key of the table of headers seen.
        key = bytes(data)
        header = self._parsed.get(key)
        if header is None:
            header = BlobHeader.from_json(key, offset=self._offset - len(key))
            if len(self._parsed) >= 64:
                self._parsed.clear()
            self._parsed[key] = header
        return header

    def _begin_data(self) -> None:
        announced = self._header.checksum
        if announced is not None:
            self._held = None
            self._hashes = _Hashes(frozenset({announced}))
        elif self._data_length <= _HOLD_BYTES:
            self._held = []
        else:
            self._held = None
            self._hashes = _Hashes(_EVERY_KIND)

    def _data_piece(self) -> BlobData:
        piece = self._take(min(self._needed, len(self._chunks[0])))
        self._needed -= len(piece)
        if self._held is None:
            self._hashes.update(piece)
        else:
            self._held.append(piece)
            if len(self._held) > _HOLD_PIECES:
                self._hash_held(_EVERY_KIND)
        return BlobData(piece)

    def _hash_held(self, kinds: frozenset[ChecksumType]) -> None:
        if self._held is not None:
            self._hashes = _Hashes(kinds)
            for piece in self._held:
                self._hashes.update(piece)
            self._held = None

    def _end_of_frame(self, data: memoryview, index: int) -> BlobDataEnd:
        if data == _NO_CHECKSUM_FOOTER:
            footer: dict[str, Any] = {"Checksum": {"Type": 0}}
        else:
            footer = _json_object(data, "footer", self._offset - len(data))
        checksum = footer.get("Checksum")
        if checksum is None:
            checksum = {}
        if not isinstance(checksum, dict):
            raise MalformedFrameError(
                f"Checksum in the footer of blob frame {index} is not an object",
                layer=LAYER,
                offset=self._offset - len(data),
            )
        kind = _checksum_type(checksum.get("Type", 0), self._offset - len(data))
        announced = self._header.checksum
        if announced is not None and announced is not kind:
            raise MalformedFrameError(
                f"the footer of blob frame {index} has another checksum than its header announced",
                layer=LAYER,
                offset=self._offset - len(data),
                expected=announced.name,
                actual=kind.name,
            )
        if kind is not ChecksumType.NONE:
            self._hash_held(frozenset({kind}))
            self._verify(kind, checksum, index)
        self._held = None
        return BlobDataEnd(index, kind, footer)

    def _verify(self, kind: ChecksumType, checksum: dict[str, Any], index: int) -> None:
        computed: object
        if kind is ChecksumType.CRC32:
            stored, computed = checksum.get("Crc32"), self._hashes.crc32
            if isinstance(stored, bool) or not isinstance(stored, int):
                stored = None
        else:
            stored, computed = checksum.get("MD5"), self._hashes.md5
            stored = stored.lower() if isinstance(stored, str) else None
        if stored is None:
            raise MalformedFrameError(
                f"the footer of blob frame {index} lacks its {kind.name} checksum",
                layer=LAYER,
                offset=self._offset,
            )
        if stored != computed:
            raise ChecksumMismatchError(
                f"the data of blob frame {index} disagrees with its {kind.name} checksum",
                layer=LAYER,
                offset=self._frame_offset,
                expected=stored,
                actual=computed,
            )
