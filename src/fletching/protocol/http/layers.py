"""How the wire layers nest around each body, written once.

From the wire inwards; a coding of identity is no layer::

    TableRead, InstanceRead, TablePreview   reply     content coding ( Arrow IPC stream )
    TableWrite                              request   content coding ( Arrow IPC stream )
    TableWriteBlob, single                  request   content coding ( blob )
    TableWriteBlob, Mode=Batch              request   content coding ( blob frames )
    BlobRead, one reference                 reply     CRC32C blocks ( content coding ( blob ) )
    BlobRead, two or more references        reply     CRC32C blocks ( content coding ( blob frames ) )

Every other body is JSON without a layer. Bytes of a blob or of an Arrow stream are the events of
the decoders here; framed bodies give the events of `fletching.wire.blob_frames`.
"""

from __future__ import annotations

from fletching.protocol.http.body_codings import (
    Lz4StreamDecoder,
    Lz4StreamEncoder,
    StreamCoding,
    TableBodyCoding,
)
from fletching.wire import blob_frames, content_coding, crc32c_blocks
from fletching.wire.content_coding import ContentCoding
from fletching.wire.stack import ByteDecoder, ByteEncoder, DecoderStack, EncoderStack

__all__ = [
    "blob_read_decoder",
    "blob_read_encoder",
    "blob_read_is_framed",
    "blob_write_decoder",
    "blob_write_encoder",
    "table_body_decoder",
    "table_body_encoder",
]


def blob_read_is_framed(references: int) -> bool:
    """Whether a BlobRead reply for this many references is framed: one blob alone is sent raw."""
    return references != 1


def blob_read_encoder(coding: ContentCoding) -> EncoderStack:
    """Around a BlobRead reply's payload, which is a raw blob or what `blob_frames.Encoder` gives."""
    return _encoders(crc32c_blocks.Encoder(), coding)


def blob_read_decoder(
    coding: ContentCoding,
    *,
    framed: bool,
    max_decoded_bytes: int = content_coding.DEFAULT_MAX_DECODED_BYTES,
) -> DecoderStack:
    """Of a BlobRead reply: chunks of the blob, or of frames ``framed``, their events."""
    layers: list[ByteDecoder] = [crc32c_blocks.Decoder()]
    if coding is not ContentCoding.IDENTITY:
        layers.append(content_coding.Decoder(coding, max_decoded_bytes=max_decoded_bytes))
    if framed:
        layers.append(blob_frames.Decoder())
    return DecoderStack(*layers)


def blob_write_encoder(coding: ContentCoding) -> EncoderStack:
    """Around a TableWriteBlob request's payload, which is a raw blob or frames."""
    return _encoders(content_coding.Encoder(coding))


def blob_write_decoder(
    coding: ContentCoding,
    *,
    framed: bool,
    max_decoded_bytes: int = content_coding.DEFAULT_MAX_DECODED_BYTES,
    max_ratio: int = content_coding.DEFAULT_MAX_RATIO,
    max_blob_bytes: int = blob_frames.DEFAULT_MAX_DATA_BYTES,
    max_frames: int = blob_frames.DEFAULT_MAX_FRAMES,
) -> DecoderStack:
    """Of a TableWriteBlob request: chunks of the blob, or of frames their events."""
    layers: list[ByteDecoder] = [
        content_coding.Decoder(coding, max_decoded_bytes=max_decoded_bytes, max_ratio=max_ratio)
    ]
    if framed:
        layers.append(blob_frames.Decoder(max_data_bytes=max_blob_bytes, max_frames=max_frames))
    return DecoderStack(*layers)


def table_body_encoder(coding: TableBodyCoding, *, level: int | None = None) -> EncoderStack:
    """Around the Arrow IPC stream of a table read's reply or a TableWrite request."""
    if isinstance(coding, StreamCoding):
        return EncoderStack(Lz4StreamEncoder())
    return EncoderStack(content_coding.Encoder(coding, level=level))


def table_body_decoder(
    coding: TableBodyCoding,
    *,
    max_decoded_bytes: int = content_coding.DEFAULT_MAX_DECODED_BYTES,
    max_ratio: int = content_coding.DEFAULT_MAX_RATIO,
) -> DecoderStack:
    """Of a table read's reply or a TableWrite request: chunks of the Arrow IPC stream."""
    if isinstance(coding, StreamCoding):
        return DecoderStack(Lz4StreamDecoder(max_decoded_bytes=max_decoded_bytes))
    return DecoderStack(
        content_coding.Decoder(coding, max_decoded_bytes=max_decoded_bytes, max_ratio=max_ratio)
    )


def _encoders(outer: ByteEncoder, coding: ContentCoding = ContentCoding.IDENTITY) -> EncoderStack:
    if coding is ContentCoding.IDENTITY:
        return EncoderStack(outer)
    return EncoderStack(outer, content_coding.Encoder(coding))
