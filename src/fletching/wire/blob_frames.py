"""Blob frames: blobs with their metadata, one after the other.

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
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from typing_extensions import Buffer

from fletching.errors import (
    ChecksumMismatchError,
    LimitExceededError,
    MalformedFrameError,
    TruncatedStreamError,
)
from fletching.wire.blob_frame_encoder import (
    LENGTH,
    LENGTH_BYTES,
    NO_CHECKSUM_FOOTER,
    Encoder,
    Hashes,
    frame_length,
)
from fletching.wire.blob_headers import LAYER, BlobHeader, ChecksumType, checksum_type, json_object
from fletching.wire.push_decoder import PushDecoder

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

DEFAULT_MAX_HEADER_BYTES = 64 << 10
DEFAULT_MAX_DATA_BYTES = 1 << 40
DEFAULT_MAX_FRAMES = 1_000_000
# Old readers take a reply for framed only if the first header is shorter than this.
HEADER_HEURISTIC_BYTES = 1024

# The kind of checksum stands in the footer, after the data. Data up to this length is kept by
# reference until then and hashed once, as the footer asks; longer data is hashed as it passes, for
# every kind, unless the header announced the kind (see `BlobHeader.checksum`).
_HOLD_BYTES = 16 << 20
_HOLD_CHUNKS = 1024


@dataclasses.dataclass(frozen=True, slots=True)
class BlobDataStart:
    """A frame begins: ``index`` counts from 0, ``offset`` is the frame's first byte in the stream."""

    index: int
    offset: int
    header: BlobHeader
    length: int


@dataclasses.dataclass(frozen=True, slots=True)
class BlobData:
    """A chunk of the current frame's data: a view of what was fed."""

    data: memoryview


@dataclasses.dataclass(frozen=True, slots=True)
class BlobDataEnd:
    """A frame is complete and its checksum, if it has one, is right.

    ``footer`` is the footer's JSON object as it came.
    """

    index: int
    checksum: ChecksumType
    footer: Mapping[str, object]


Event: TypeAlias = BlobDataStart | BlobData | BlobDataEnd


_EVERY_KIND = frozenset({ChecksumType.CRC32, ChecksumType.MD5})


class _State(enum.Enum):
    HEADER_LENGTH = "header length"
    HEADER = "header"
    DATA_LENGTH = "data length"
    DATA = "data"
    FOOTER_LENGTH = "footer length"
    FOOTER = "footer"


class Decoder(PushDecoder[Event]):
    """Reads frames as `BlobDataStart`, `BlobData` chunks and `BlobDataEnd`.

    `BlobData` holds views of what was fed; they are never longer than one fed buffer, so a blob of
    any size passes in constant memory. Buffers of a blob up to 16 MiB are also borrowed until its
    `BlobDataEnd`, to be hashed as the footer asks.
    """

    _layer = LAYER

    def __init__(
        self,
        *,
        max_header_bytes: int = DEFAULT_MAX_HEADER_BYTES,
        max_data_bytes: int = DEFAULT_MAX_DATA_BYTES,
        max_frames: int = DEFAULT_MAX_FRAMES,
    ) -> None:
        super().__init__()
        self._max_header_bytes = max_header_bytes
        self._max_data_bytes = max_data_bytes
        self._max_frames = max_frames
        self._available = 0
        self._state = _State.HEADER_LENGTH
        self._needed = LENGTH_BYTES
        self._index = 0
        self._frame_offset = 0
        self._header = BlobHeader()
        self._data_length = 0
        self._held: list[memoryview] | None = None
        self._hashes = Hashes(frozenset())
        # Headers of one batch repeat (the same column, partition and content type).
        self._parsed: dict[bytes, BlobHeader] = {}

    @property
    def frames(self) -> int:
        """Frames completed so far."""
        return self._index

    def feed(self, data: Buffer) -> None:
        """Queues bytes; borrows ``data`` as the class says."""
        super().feed(data)
        self._available += memoryview(data).nbytes

    def _events(self) -> Iterator[Event]:
        while True:
            if self._state is _State.HEADER_LENGTH and self._chunks:
                yield from self._whole_frames(self._chunks[0])
            if self._state is _State.DATA:
                if self._needed:
                    if not self._available:
                        return
                    yield self._next_data()
                    continue
                self._expect(_State.FOOTER_LENGTH, LENGTH_BYTES)
            if self._available < self._needed:
                return
            event = self._step(self._take(self._needed))
            if event is not None:
                yield event

    def _last_events(self) -> Iterator[Event]:
        if self._state is not _State.HEADER_LENGTH or self._available:
            raise TruncatedStreamError(
                f"the input ends inside the {self._state.value} of blob frame {self._index}",
                layer=LAYER,
                offset=self._offset,
                expected=self._needed,
                actual=self._available,
            )
        return iter(())

    def _whole_frames(self, chunk: memoryview) -> Iterator[Event]:
        """The frames that lie whole inside one buffer, which is most of them when blobs are small.

        Leaves everything that is not a whole, well-formed frame to the states.
        """
        position, end = 0, len(chunk)
        while self._index < self._max_frames:
            data_at = position + LENGTH_BYTES
            if data_at > end:
                break
            header_length = LENGTH.unpack_from(chunk, position)[0]
            header_end = data_at + header_length
            data_at = header_end + LENGTH_BYTES
            if not 0 <= header_length <= self._max_header_bytes or data_at > end:
                break
            data_length = LENGTH.unpack_from(chunk, header_end)[0]
            data_end = data_at + data_length
            footer_at = data_end + LENGTH_BYTES
            if not 0 <= data_length <= self._max_data_bytes or footer_at > end:
                break
            footer_length = LENGTH.unpack_from(chunk, data_end)[0]
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
        # Lengths, headers and footers only (data passes by chunks): at most 64 KiB are copied.
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
            self._hashes = Hashes(frozenset({announced}))
        elif self._data_length <= _HOLD_BYTES:
            self._held = []
        else:
            self._held = None
            self._hashes = Hashes(_EVERY_KIND)

    def _next_data(self) -> BlobData:
        part = self._take(min(self._needed, len(self._chunks[0])))
        self._needed -= len(part)
        if self._held is None:
            self._hashes.update(part)
        else:
            self._held.append(part)
            if len(self._held) > _HOLD_CHUNKS:
                self._hash_held(_EVERY_KIND)
        return BlobData(part)

    def _hash_held(self, kinds: frozenset[ChecksumType]) -> None:
        if self._held is not None:
            self._hashes = Hashes(kinds)
            for part in self._held:
                self._hashes.update(part)
            self._held = None

    def _end_of_frame(self, data: memoryview, index: int) -> BlobDataEnd:
        if data == NO_CHECKSUM_FOOTER:
            footer: dict[str, object] = {"Checksum": {"Type": 0}}
        else:
            footer = json_object(data, "footer", self._offset - len(data))
        checksum = footer.get("Checksum")
        if checksum is None:
            checksum = {}
        if not isinstance(checksum, dict):
            raise MalformedFrameError(
                f"Checksum in the footer of blob frame {index} is not an object",
                layer=LAYER,
                offset=self._offset - len(data),
            )
        kind = checksum_type(checksum.get("Type", 0), self._offset - len(data))
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

    def _verify(self, kind: ChecksumType, checksum: dict[str, object], index: int) -> None:
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
