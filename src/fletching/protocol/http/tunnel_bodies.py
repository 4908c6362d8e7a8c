"""The bodies of the tunnels as Arrow, both ways; compression lies around them.

From the wire inwards::

    upload, download, Arrow       content coding ( tunnel chunks ( record batch messages ) )
    upload, download, records     content coding ( record stream )

An Arrow body has neither a schema message nor an end mark: what the columns are, both sides know from
their session. Decoders here give whole Arrow IPC streams, so that whatever takes those takes bodies of
the tunnel, too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import pyarrow as pa
from typing_extensions import Buffer

from fletching.errors import InvalidArgumentError, InvalidParameterError
from fletching.ipc.encoding import BatchEncoder, encode_schema
from fletching.ipc.message import END_OF_STREAM
from fletching.protocol.http.headers import accepted_codings
from fletching.protocol.messages.responses import Column
from fletching.protocol.messages.vocabulary import OPERATION
from fletching.protocol.types.arrow_types import arrow_type
from fletching.protocol.types.conversion import convert_for_reply
from fletching.protocol.types.odps_types import OdpsType, TypeCode, array_of, parse_type
from fletching.protocol.types.tunnel_values import (
    from_record_values,
    record_layout,
    to_record_values,
)
from fletching.wire import content_coding
from fletching.wire.content_coding import ContentCoding
from fletching.wire.snappy_frames import SnappyDecoder, SnappyEncoder
from fletching.wire.stack import ByteDecoder, ByteEncoder, DecoderStack
from fletching.wire.tunnel_chunks import ChunkDecoder
from fletching.wire.tunnel_record_decoder import RecordDecoder
from fletching.wire.tunnel_records import RecordEncoder

__all__ = [
    "MemoryNeed",
    "RecordBodyEncoder",
    "TunnelColumn",
    "arrow_body_decoder",
    "record_body_decoder",
    "reply_coding",
    "tunnel_columns",
    "tunnel_encoder",
]

"""The column of an upsert that says what its row is for: 85 to put it there, 68 to take it away."""

SNAPPY = "x-snappy-framed"
_CODINGS = {
    "deflate": ContentCoding.DEFLATE,
    "zstd": ContentCoding.ZSTD,
    "x-lz4-frame": ContentCoding.LZ4_FRAME,
    # What PyODPS calls the same frames where it sends Arrow.
    "x-odps-lz4-frame": ContentCoding.LZ4_FRAME,
}
_FAST = {ContentCoding.DEFLATE: 1, ContentCoding.ZSTD: 1, ContentCoding.LZ4_FRAME: 0}
MAX_CHUNK_BYTES = 4 << 20
"""What a chunk of an Arrow body may hold: one is kept until its checksum has come."""


@dataclasses.dataclass(frozen=True, slots=True)
class MemoryNeed:
    """An event among the chunks of a body: the next chunk takes so much memory to make.

    Attributes:
        bytes: until it is made.
        kept: what the body itself holds beside that, until another need says less.
    """

    bytes: int
    kept: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class TunnelColumn:
    """A column of a body."""

    name: str
    type: OdpsType
    nullable: bool = True


def tunnel_columns(columns: Sequence[Column]) -> tuple[TunnelColumn, ...]:
    """The columns of a body, of what the service says of them."""
    return tuple(TunnelColumn(each.name, parse_type(each.type), each.nullable) for each in columns)


_BIGINTS = array_of(OdpsType(TypeCode.BIGINT))
_UPSERT_COLUMNS = (
    TunnelColumn("__version", OdpsType(TypeCode.BIGINT)),
    TunnelColumn("__app_version", OdpsType(TypeCode.BIGINT)),
    TunnelColumn(OPERATION, OdpsType(TypeCode.TINYINT)),
    TunnelColumn("__key_cols", _BIGINTS),
    TunnelColumn("__value_cols", _BIGINTS),
)
"""What records of an upsert have behind the table's columns."""


# --- compression --------------------------------------------------------------------------------


def reply_coding(accept_encoding: str) -> str:
    """The content coding that a reply gets: the most wanted one that is known, or nothing."""
    return next(
        (name for name in accepted_codings(accept_encoding) if name in _CODINGS or name == SNAPPY),
        "",
    )


def tunnel_encoder(coding: str) -> ByteEncoder | None:
    """What compresses a reply; None for what `reply_coding` calls nothing."""
    if not coding:
        return None
    if coding == SNAPPY:
        return SnappyEncoder()
    known = _CODINGS[coding]
    return content_coding.Encoder(known, level=_FAST[known])


def _decompressing(coding: str) -> list[ByteDecoder]:
    token = coding.strip().lower()
    if token in {"", "identity"}:
        return []
    if token == SNAPPY:
        return [SnappyDecoder()]
    known = _CODINGS.get(token)
    if known is None:
        spoken = ", ".join([*_CODINGS, SNAPPY])
        raise InvalidParameterError(
            f"content coding {token[:64]!r} is not known; known are {spoken}"
        )
    return [content_coding.Decoder(known)]


# --- bodies that come in ------------------------------------------------------------------------


def arrow_body_decoder(columns: Sequence[TunnelColumn], coding: str) -> DecoderStack:
    """Of an upload of Arrow: the chunks of an Arrow IPC stream.

    Raises:
        InvalidParameterError: a content coding that is not known.
        InvalidArgumentError: a column has no Arrow form.
    """
    return DecoderStack(*_decompressing(coding), _ArrowBody(columns))


def record_body_decoder(
    columns: Sequence[TunnelColumn], coding: str, *, upsert: bool = False
) -> DecoderStack:
    """Of an upload of records, likewise; records of an upsert have more columns.

    Raises:
        InvalidParameterError: a content coding that is not known.
        InvalidArgumentError: a column has no form in a record stream.
    """
    return DecoderStack(*_decompressing(coding), _RecordBody(columns, upsert=upsert))


def _arrow_schema(columns: Sequence[TunnelColumn]) -> pa.Schema:
    # Whether a column may be null is for the table to say, whatever is done with the body.
    return pa.schema(
        [pa.field(each.name, arrow_type(each.type, plain_blobs=True)) for each in columns]
    )


class _ArrowBody:
    """Takes the framing off, and puts the schema message and the end mark on. Content is not looked at."""

    def __init__(self, columns: Sequence[TunnelColumn]) -> None:
        self._chunks = ChunkDecoder(MAX_CHUNK_BYTES)
        self._ready: list[bytes] = [encode_schema(_arrow_schema(columns))]

    def feed(self, data: Buffer) -> None:
        self._ready += self._chunks.feed(data)

    def events(self) -> Iterator[bytes]:
        ready, self._ready = self._ready, []
        yield from ready

    def finish(self) -> None:
        self._ready += self._chunks.finish()
        self._ready.append(END_OF_STREAM)


class _RecordBody:
    """Decodes records, and encodes them as record batches. Holds what one part decodes to."""

    def __init__(self, columns: Sequence[TunnelColumn], *, upsert: bool) -> None:
        self._columns = (*columns, *_UPSERT_COLUMNS) if upsert else tuple(columns)
        self._count = len(columns)
        self._upsert = upsert
        kept = [*columns, *(_UPSERT_COLUMNS[2:3] if upsert else ())]
        self._schema = _arrow_schema(kept)
        self._decoder = RecordDecoder(
            [record_layout(each.type) for each in self._columns],
            names=[each.name for each in self._columns],
        )
        self._encoder = BatchEncoder(self._schema)
        self._begun = self._ended = False

    def feed(self, data: Buffer) -> None:
        self._decoder.feed(data)

    def events(self) -> Iterator[Buffer | MemoryNeed]:
        if not self._begun:
            self._begun = True
            yield encode_schema(self._schema)
        while self._decoder.ready:
            yield from self._part()
        if self._ended:
            self._ended = False
            while self._decoder.more:
                yield from self._part()
            self._decoder.finish()
            yield END_OF_STREAM

    def _part(self) -> Iterator[Buffer | MemoryNeed]:
        yield MemoryNeed(self._decoder.need, self._decoder.kept)
        arrays = self._decoder.decode()
        if arrays is None:
            # A row is longer than what has come: more of it is taken when there is room.
            yield MemoryNeed(0, self._decoder.kept)
            return
        for message in self._encoder.encode(self._batch(arrays)):
            yield from message

    def finish(self) -> None:
        self._ended = True

    def _batch(self, arrays: list[pa.Array]) -> pa.RecordBatch:
        result = [
            from_record_values(array, column.type, column.name)
            for array, column in zip(arrays, self._columns, strict=True)
        ]
        if self._upsert:
            *data, _, _, operation, _, values = result
            if len(values.values):
                raise InvalidArgumentError(
                    "an upsert of some columns only is not taken: leave __value_cols empty"
                )
            result = [*data, operation]
        return pa.RecordBatch.from_arrays(result, schema=self._schema)


# --- bodies that go out -------------------------------------------------------------------------


class RecordBodyEncoder:
    """Makes a record stream of record batches."""

    def __init__(self, columns: Sequence[OdpsType]) -> None:
        """Takes the types of the columns, in their order.

        Raises:
            UsageError: there is none, or one without a form in a record stream.
        """
        self._columns = tuple(columns)
        self._encoder = RecordEncoder([record_layout(each) for each in self._columns])

    def encode(self, batch: pa.RecordBatch) -> Buffer:
        """The bytes of a batch's rows.

        Raises:
            UsageError: a value that does not fit its ODPS type.
        """
        arrays = [
            to_record_values(_plain(array, odps_type), odps_type)
            for array, odps_type in zip(batch.columns, self._columns, strict=True)
        ]
        return self._encoder.encode(arrays)

    def finish(self) -> bytes:
        """The end of the stream."""
        return self._encoder.finish()


def _plain(array: pa.Array, odps_type: OdpsType) -> pa.Array:
    """Values in the Arrow type that ODPS clients know."""
    wanted = arrow_type(odps_type, plain_blobs=True)
    return array if array.type.equals(wanted) else convert_for_reply(array, wanted, "")
