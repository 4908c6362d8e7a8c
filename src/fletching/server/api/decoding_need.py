"""How much memory decoding some messages will need, told from what they claim, before they are decoded.

A batch whose buffers are compressed says in front of each of them how long it will be. A body of a few
megabytes may claim a thousand: what counts against the service's memory is the claim. What a stream keeps
for its later messages counts until it ends, compressed or not.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from fletching.errors import WireError
from fletching.ipc import Limits, Message
from fletching.ipc.metadata import MessageType

__all__ = ["DecodingNeed", "DecodingNeeds"]

_LENGTH = struct.Struct("<q")

_LARGE_SCHEMA_BYTES = 64 << 10
"""A schema that is no longer is among what every upload may take: counting it would cost a hop between threads."""


class DecodingNeed(NamedTuple):
    """Bytes that some messages of a stream need, or keep.

    Attributes:
        passing: beyond their own, of the largest batch; they are decoded one after the other.
        kept: of the schema and of the dictionaries that the stream has with these messages, as they came and
            decoded: they live as long as the stream, or until another takes their place.
        own: how many of the messages' own bytes are among those.
    """

    passing: int
    kept: int
    own: int = 0


class DecodingNeeds:
    """What the messages of one stream need, asked for in their order."""

    def __init__(self, limits: Limits) -> None:
        """Has seen none."""
        self._limits = limits
        self._schema = 0
        self._dictionaries: dict[int, int] = {}

    @property
    def kept(self) -> int:
        """What the messages so far keep."""
        return self._schema + sum(self._dictionaries.values())

    def of(self, messages: Iterable[Message]) -> DecodingNeed:
        """What decoding these messages needs.

        A message that is broken, or claims more than the limits, counts for no more than they allow: it is
        refused when it is decoded.
        """
        passing = own = 0
        limits = self._limits
        for message in messages:
            length = message.end - message.offset
            if message.type is MessageType.RECORD_BATCH:
                claimed = min(_claimed(message, limits), limits.max_uncompressed_bytes)
                passing = max(passing, claimed)
            elif message.type is MessageType.DICTIONARY_BATCH:
                own += length
                claimed = min(_claimed(message, limits), limits.max_dictionary_bytes)
                self._keep(message, length + claimed)
            elif message.type is MessageType.SCHEMA and length > _LARGE_SCHEMA_BYTES:
                own += length
                self._schema = length
        return DecodingNeed(passing, self.kept, own)

    def _keep(self, message: Message, size: int) -> None:
        try:
            dictionary = message.dictionary_batch(self._limits)
        except WireError:
            return
        if dictionary.is_delta:
            size += self._dictionaries.get(dictionary.id, 0)
        self._dictionaries[dictionary.id] = size


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
