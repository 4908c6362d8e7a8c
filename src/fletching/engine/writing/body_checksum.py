"""What tells two bodies of rows apart: the checksums with which their messages are stored.

A body that is stored as it came has been checksummed for its segment's footer already, so knowing it again
costs nothing. Two bodies of the same layout with other checksums have other rows. Of two layouts nothing is
known: the same rows may come in other batches, or compressed.
"""

from __future__ import annotations

import struct

import msgspec
from crc32c import crc32c

from fletching.ipc import Message

__all__ = ["BodyChecksum", "BodyChecksums"]

_LAYOUT = struct.Struct("<qqq")
_CONTENTS = struct.Struct("<I")


class BodyChecksum(msgspec.Struct, frozen=True, array_like=True):
    """Of a whole body: CRC32C of its schema and its messages' lengths and rows, and of their CRC32Cs."""

    layout: int
    contents: int

    def is_other(self, first: BodyChecksum) -> bool:
        """Whether two bodies certainly have other rows."""
        return self.layout == first.layout and self.contents != first.contents


class BodyChecksums:
    """Takes the record batch messages of a body that have rows, in order."""

    def __init__(self, schema: Message) -> None:
        self._layout = crc32c(schema.metadata)
        self._contents = 0
        self._known = True

    def add(self, metadata_length: int, body_length: int, rows: int, checksum: int) -> None:
        """A message, and the CRC32C of all of it."""
        self._layout = crc32c(_LAYOUT.pack(metadata_length, body_length, rows), self._layout)
        self._contents = crc32c(_CONTENTS.pack(checksum), self._contents)

    def add_message(self, message: Message, rows: int) -> None:
        """A message that is not stored; reads all of it."""
        checksum = 0
        for piece in message.frame():
            checksum = crc32c(piece, checksum)
        self.add(message.metadata_length, message.body_length, rows, checksum)

    def give_up(self) -> None:
        """A message was not stored as it came: nothing is known of the body any more."""
        self._known = False

    def result(self) -> BodyChecksum | None:
        """Of what was taken; None if it is not known."""
        return BodyChecksum(self._layout, self._contents) if self._known else None
