"""Blobs over HTTP: coded bodies, decoded replies, ranges by address."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec
from typing_extensions import Buffer

from fletching.client.blobs.blob_transfers import (
    BlobBody,
    BlobEvents,
    BlobFileOnHost,
    BlobInfo,
    BlobRange,
    UploadChecksum,
    whole_of,
)
from fletching.client.blobs.open_pack import OpenPack
from fletching.client.retry import RetrySequence
from fletching.client.transports.http.blob_packs import (
    PackedBlob,
    PackedBlobEvents,
    PackedBlobRange,
)
from fletching.client.transports.http.http_response import Reply
from fletching.client.transports.http.request_body import StreamedBody
from fletching.client.transports.http.service_exchanges import ServiceExchanges
from fletching.errors import ProtocolError, TruncatedStreamError
from fletching.protocol.codec import HttpRequest
from fletching.protocol.http import headers as header_names
from fletching.protocol.http.blob_links import blob_path
from fletching.protocol.http.layers import (
    blob_read_decoder,
    blob_read_is_framed,
    blob_write_encoder,
)
from fletching.protocol.messages.mapped_blobs import decode_mapped_blobs
from fletching.protocol.messages.requests import ReadBlobs, WriteBlob, WriteBlobs
from fletching.protocol.messages.responses import BlobReferences
from fletching.wire.blob_frames import (
    BlobData,
    BlobDataEnd,
    BlobDataStart,
    BlobHeader,
    ChecksumType,
)
from fletching.wire.content_coding import ContentCoding
from fletching.wire.stored_blobs import header_of, stored_blobs

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["HttpBlobEvents", "HttpBlobRange", "HttpBlobVerbs", "info_of"]

RECEIVE_BYTES = 512 * 1024

REPLY_BYTES = 1 << 20
"""Longest reply that says where blobs are: 40 bytes for each of 10,000."""


class HttpBlobEvents:
    """The events of a BlobRead reply; a `fletching.client.blobs.blob_transfers.BlobEvents`.

    The service says how it framed and coded the reply; one that says nothing frames by the count of
    references. The bytes are never guessed at.
    """

    on_this_host = False

    def __init__(self, reply: Reply, references: int) -> None:
        framing = reply.headers.get(header_names.FRAMING)
        if framing is not None and framing not in {"frames", "raw", "stored"}:
            reply.close()
            raise ProtocolError(
                f"the service framed blobs in an unknown way: {framing[:40]!r}", side="remote"
            )
        self._reply = reply
        self._references = references
        self.request_id = reply.request_id
        self._stored = framing == "stored"
        self.framed = blob_read_is_framed(references) if framing is None else framing != "raw"
        try:
            coding = ContentCoding.from_token(reply.headers.get(header_names.CONTENT_ENCODING))
        except BaseException:
            reply.close()
            raise
        self._decoder = blob_read_decoder(coding, framed=self.framed)

    def __iter__(self) -> Iterator[BlobDataStart | BlobData | BlobDataEnd]:
        """Receives, verifies and decodes.

        Raises:
            TransportError: the exchange failed.
            TruncatedStreamError: the reply holds fewer blobs than were asked for.
            WireError: the reply is damaged.
        """
        if self._stored:
            self._reply.close()
            raise ProtocolError("the service sent stored blobs, unasked", side="remote")
        try:
            if self.framed:
                yield from self._frames()
            else:
                yield BlobDataStart(0, 0, BlobHeader(), -1)
                for chunk in self._chunks():
                    yield BlobData(chunk)
                yield BlobDataEnd(0, ChecksumType.NONE, {})
        finally:
            self._reply.close()

    def _frames(self) -> Iterator[BlobDataStart | BlobData | BlobDataEnd]:
        frames = 0
        for event in self._chunks():
            yield event
            frames += isinstance(event, BlobDataEnd)
        if frames != self._references:
            raise TruncatedStreamError(
                f"the service sent {frames} blobs where {self._references} were asked for",
                layer="blob_frames",
                expected=self._references,
                actual=frames,
            )

    def _chunks(self) -> Iterator[Any]:
        for received in self._buffers():
            self._decoder.feed(received)
            yield from self._decoder.events()
        self._decoder.finish()
        yield from self._decoder.events()

    def _buffers(self) -> Iterator[memoryview]:
        # One buffer for all: what is made of it is a copy, taken while the processor's cache has it.
        room = memoryview(bytearray(RECEIVE_BYTES))
        while count := self._reply.readinto(room):
            yield room[:count]

    def whole(self) -> Iterator[tuple[BlobHeader, bytes]]:
        """The blobs' headers and data; errors as of the events."""
        if not self._stored:
            yield from whole_of(self)
            return
        for metadata, data in self._stored_blobs():
            yield header_of(metadata), data

    def contents(self) -> Iterator[bytes]:
        """The blobs' data; errors as of the events."""
        return (data for _, data in (self._stored_blobs() if self._stored else whole_of(self)))

    def packs(self) -> Iterator[tuple[int, OpenPack, int]]:
        """None: blobs are sent."""
        return iter(())

    def _stored_blobs(self) -> Iterator[tuple[bytes, bytes]]:
        try:
            yield from stored_blobs(self._buffers(), self._references)
        finally:
            self._reply.close()

    def close(self) -> None:
        """Gives the connection back if the reply was read to its end."""
        self._reply.close()


class HttpBlobRange:
    """Bytes of one blob; a `fletching.client.blobs.blob_transfers.BlobRange`."""

    file: BlobFileOnHost | None = None

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self.info = info_of(reply)

    def readinto(self, buffer: WriteableBuffer) -> int:
        """As `Reply.readinto`."""
        return self._reply.readinto(buffer)

    def close(self) -> None:
        """Gives the connection back if the range was read to its end."""
        self._reply.close()


# Pack, offset, length and CRC32C of the blob: a tag that changes with every byte of it.
_ENTITY_TAG = re.compile(r'"[^"-]+-[0-9a-f]+-[0-9a-f]+-([0-9a-f]{8})"')

_CONTENT_RANGE = re.compile(r"bytes [0-9]+-[0-9]+/([0-9]+)")


def info_of(reply: Reply) -> BlobInfo:
    """What the headers of a reply about one blob say.

    Raises:
        ProtocolError: the length is missing.
    """
    text = reply.headers.get("content-length", "")
    match = _CONTENT_RANGE.fullmatch(reply.headers.get("content-range", ""))
    if match is not None:
        text = match[1]
    if not (text.isascii() and text.isdecimal()):
        reply.close()
        raise ProtocolError("the service did not say how long the blob is", side="remote")
    return _about(reply.headers, int(text), _crc32c_of(reply.headers.get("etag", "")))


def _about(headers: Mapping[str, str], length: int, crc32c: int | None) -> BlobInfo:
    content_type = headers.get(header_names.CONTENT_TYPE)
    _, _, name = headers.get("content-disposition", "").partition("filename*=UTF-8''")
    return BlobInfo(
        length,
        None if content_type == header_names.OCTET_STREAM else content_type,
        unquote(name) or None,
        crc32c,
    )


def _crc32c_of(tag: str) -> int | None:
    """The checksum that our service's entity tags end with; None for any other tag."""
    match = _ENTITY_TAG.fullmatch(tag)
    return None if match is None else int(match[1], 16)


_CODINGS = {
    None: ContentCoding.IDENTITY,
    "lz4": ContentCoding.LZ4_FRAME,
    "zstd": ContentCoding.ZSTD,
}


def _coded(body: BlobBody, coding: ContentCoding) -> Iterator[Buffer]:
    encoder = blob_write_encoder(coding)
    for chunk in body:
        yield from encoder.encode(chunk)
    yield from encoder.finish()


class HttpBlobVerbs(ServiceExchanges):
    """The verbs of `fletching.client.blobs.blob_transfers.BlobTransport` over HTTP; see `HttpTransport`."""

    @property
    def upload_checksum(self) -> UploadChecksum:
        """CRC32C where the service is known to tell it, else MD5."""
        return UploadChecksum.CRC32C if self._service_is_ours else UploadChecksum.MD5

    @property
    def reads_whole_blobs(self) -> bool:
        """Where the service is known to be ours: reading by address is an extension."""
        return self._service_is_ours

    def upload_blobs(
        self,
        request: WriteBlob | WriteBlobs,
        body: BlobBody,
        attempt: RetrySequence,
    ) -> BlobReferences:
        """See `BlobTransport.upload_blobs`."""
        coding = _CODINGS[attempt.options.compression]
        if coding is not ContentCoding.IDENTITY:
            request = msgspec.structs.replace(request, content_encoding=coding.value)
        length = body.length if coding is ContentCoding.IDENTITY else None
        streamed = StreamedBody(lambda: _coded(body, coding), length)
        reply = self._exchange(self._encode(request), attempt, body=streamed)
        request_id = reply.request_id
        response = self._decode(request, reply)
        return msgspec.structs.replace(response, request_id=request_id)

    def read_blobs(self, request: ReadBlobs, attempt: RetrySequence) -> BlobEvents:
        """See `BlobTransport.read_blobs`."""
        parts = self._encode(msgspec.structs.replace(request, mapped=request.stored))
        reply = self._exchange_here(parts, attempt)
        if reply is not None and reply.headers.get(header_names.DIRECT) == header_names.DESCRIPTORS:
            return PackedBlobEvents(
                self._packed_blobs(reply, len(request.references)),
                reply.request_id,
                lambda indices: self.read_blobs(
                    msgspec.structs.replace(
                        request, references=tuple(request.references[each] for each in indices)
                    ),
                    attempt.with_options(direct="never"),
                ),
            )
        if reply is None:
            reply = self._exchange(parts, attempt)
        return HttpBlobEvents(reply, len(request.references))

    def read_range(
        self,
        reference: str,
        start: int,
        end: int | None,
        attempt: RetrySequence,
    ) -> BlobRange:
        """See `BlobTransport.read_range`."""
        last = "" if end is None else str(end - 1)
        headers = {"range": f"bytes={start}-{last}"}
        asking = headers | {header_names.DIRECT: header_names.DESCRIPTORS}
        parts = HttpRequest("GET", blob_path(reference), [], asking, b"")
        reply = self._exchange_here(parts, attempt)
        if reply is None:
            return HttpBlobRange(self._address("GET", reference, headers, attempt))
        if reply.headers.get(header_names.DIRECT) != header_names.DESCRIPTORS:
            return HttpBlobRange(reply)
        about = reply.headers
        (blob,) = self._packed_blobs(reply, 1)
        return PackedBlobRange(blob, _about(about, blob.length, blob.crc32c), start, end)

    def blob_info(self, reference: str, attempt: RetrySequence) -> BlobInfo:
        """See `BlobTransport.blob_info`."""
        reply = self._address("HEAD", reference, {}, attempt)
        try:
            return info_of(reply)
        finally:
            reply.finish()

    def _address(
        self,
        method: str,
        reference: str,
        headers: dict[str, str],
        attempt: RetrySequence,
    ) -> Reply:
        parts = HttpRequest(method, blob_path(reference), [], headers, b"")
        return self._exchange(parts, attempt)

    def _packed_blobs(self, reply: Reply, count: int) -> list[PackedBlob]:
        """The blobs that a reply says are in the packs that came with it."""
        descriptors, body = reply.read_with_descriptors(REPLY_BYTES)
        try:
            message = decode_mapped_blobs(body, len(descriptors), count)
        except BaseException:
            for number in descriptors:
                os.close(number)
            raise
        return self._same_host.packs.take(descriptors, message)
