"""How much memory decoding some messages will need, told from what they claim, before they are decoded.

A batch whose buffers are compressed says in front of each of them how long it will be. A body of a few
megabytes may claim a thousand: what counts against the service's memory is the claim.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from fletching.errors import WireError
from fletching.ipc import Limits, Message
from fletching.ipc.metadata import MessageType

__all__ = ["DecodingNeed", "decoding_need"]

_LENGTH = struct.Struct("<q")


class DecodingNeed(NamedTuple):
    """Bytes beyond the messages' own.

    Attributes:
        passing: of the largest batch; they are decoded one after the other.
        kept: of the dictionaries, which live as long as their stream.
    """

    passing: int
    kept: int


def decoding_need(messages: Iterable[Message], limits: Limits) -> DecodingNeed:
    """What decoding these messages needs; 0 where nothing is compressed.

    A message that is broken, or claims more than the limits, counts for no more than they allow: it is
    refused when it is decoded.
    """
    passing = kept = 0
    for message in messages:
        if message.type is MessageType.RECORD_BATCH:
            passing = max(passing, min(_claimed(message, limits), limits.max_uncompressed_bytes))
        elif message.type is MessageType.DICTIONARY_BATCH:
            kept += min(_claimed(message, limits), limits.max_dictionary_bytes)
    return DecodingNeed(passing, min(kept, limits.max_dictionary_bytes))


def _claimed(message: Message, limits: Limits) -> int:
    try:
        if message.type is MessageType.DICTIONARY_BATCH:
            header = message.dictionary_batch(limits).data
        else:
            header = message.record_batch(limits)
    except WireError:
        return 0
    if header.compression is None:
        return 0
    body = message.body
    total = 0
    for start, length in header.buffers.tolist():
        if length >= _LENGTH.size and 0 <= start <= len(body) - _LENGTH.size:
            (claimed,) = _LENGTH.unpack_from(body, start)
            total += length - _LENGTH.size if claimed == -1 else max(claimed, 0)
    return total
