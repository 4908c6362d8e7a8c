"""Content codings of table bodies: those of `fletching.wire`, and ``x-lz4-stream``, which is ours.

``x-lz4-stream`` is a stream of LZ4 blocks that refer to the last 64 KiB, each behind its length (4
bytes, little-endian), ended by a length of 0 (`fletching.lz4stream`). For streams of small record
batches it comes out far below Arrow's own buffer compression, which starts anew in every buffer;
the stored bytes stay uncompressed. No registry knows the token and no other client speaks it, so
it is spoken only between our own client and server, and only when the caller asks for it:

- a reply has it when the request's ``Accept-Encoding`` names it and its ``User-Agent`` is ours;
- a request body has it after the service named it in an ``Accept-Encoding`` of its own, which it
  does on the replies that open a write stream, to our client alone.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence

from typing_extensions import Buffer

from fletching import lz4stream
from fletching.lz4stream.streams import check_no_trailing
from fletching.protocol.http import headers as header_names
from fletching.wire import content_coding
from fletching.wire.content_coding import ContentCoding

__all__ = [
    "USER_AGENT_PREFIX",
    "Lz4StreamDecoder",
    "Lz4StreamEncoder",
    "StreamCoding",
    "TableBodyCoding",
    "is_our_client",
    "offers_lz4_stream",
    "reply_body_coding",
    "table_body_coding",
    "with_lz4_stream_offered",
]

USER_AGENT_PREFIX = "fletching/"
"""How our client's ``User-Agent`` begins."""

MAX_BLOCK_BYTES = 256 * 1024
"""The limit of one block's contents: writers use 64 KiB."""


class StreamCoding(enum.StrEnum):
    """Content codings that only our own client and server speak."""

    LZ4_STREAM = "x-lz4-stream"


TableBodyCoding = ContentCoding | StreamCoding
"""What a table body may be coded with."""


def table_body_coding(token: str | None) -> TableBodyCoding:
    """The coding a ``Content-Encoding`` header names; none or an empty one is identity.

    Raises:
        InvalidParameterError: a coding that is not spoken here, or several in one header.
    """
    if (token or "").strip().lower() == StreamCoding.LZ4_STREAM:
        return StreamCoding.LZ4_STREAM
    return ContentCoding.from_token(token)


def is_our_client(user_agent: str) -> bool:
    """Whether a ``User-Agent`` is that of our own client."""
    return user_agent.lower().startswith(USER_AGENT_PREFIX)


def reply_body_coding(accepted: Sequence[str], user_agent: str) -> StreamCoding | None:
    """The coding for a reply to one of ours that asked for it; None for everybody else."""
    if StreamCoding.LZ4_STREAM in accepted and is_our_client(user_agent):
        return StreamCoding.LZ4_STREAM
    return None


def with_lz4_stream_offered(headers: Mapping[str, str], user_agent: str) -> dict[str, str]:
    """A reply's headers; where they name codings for writes, ours too if the client is ours."""
    changed = dict(headers)
    if is_our_client(user_agent) and header_names.ACCEPT_ENCODING in changed:
        changed[header_names.ACCEPT_ENCODING] += f",{StreamCoding.LZ4_STREAM.value}"
    return changed


def offers_lz4_stream(headers: Mapping[str, str]) -> bool:
    """Whether a reply's (lower-case) headers say that the service takes ``x-lz4-stream``."""
    offered = header_names.accepted_codings(headers.get(header_names.ACCEPT_ENCODING, ""))
    return StreamCoding.LZ4_STREAM in offered


class Lz4StreamEncoder:
    """A `fletching.wire.stack.ByteEncoder` for ``x-lz4-stream``."""

    def __init__(self) -> None:
        self._encoder = lz4stream.Encoder(end_mark=True)

    def encode(self, data: Buffer) -> Sequence[Buffer]:
        """The blocks that ``data`` completed."""
        return self._encoder.encode(data)

    def finish(self) -> Sequence[Buffer]:
        """The last block and the end mark."""
        return self._encoder.finish()


class Lz4StreamDecoder:
    """A `fletching.wire.stack.ByteDecoder` for ``x-lz4-stream``.

    Expansion needs no limit of its own: an LZ4 block gives at most 255 times its length.
    """

    def __init__(
        self, *, max_decoded_bytes: int = content_coding.DEFAULT_MAX_DECODED_BYTES
    ) -> None:
        self._decoder = lz4stream.Decoder(
            end_mark=True, max_block_bytes=MAX_BLOCK_BYTES, max_total_bytes=max_decoded_bytes
        )

    def feed(self, data: Buffer) -> None:
        """Queues bytes; borrows them until ``events`` is exhausted."""
        self._decoder.feed(data)

    def events(self) -> Iterator[bytes]:
        """Pieces of the contents.

        Raises:
            WireError: as `fletching.lz4stream.Decoder.events`, and for bytes behind the end mark.
        """
        yield from self._decoder.events()
        check_no_trailing(self._decoder)

    def finish(self) -> None:
        """Tells that the input ended.

        Raises:
            TruncatedStreamError: before the end mark.
        """
        self._decoder.finish()
