"""Blobs that a client on the service's host reads out of the packs themselves.

The reply to a read of blobs over the service's Unix socket, if the request asked for descriptors: instead of
the blobs it says where they are. The packs come along as descriptors (``SCM_RIGHTS``), open for reading.
Blobs of packs that are not shared are named as to be had from the service.

On the wire it is one MessagePack array, in the order of the fields below.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from fletching.errors import ProtocolError

__all__ = [
    "MAX_PACKS",
    "NOT_SHARED",
    "MappedBlobs",
    "decode_mapped_blobs",
    "encode_mapped_blobs",
]

MAX_PACKS: Final = 200
"""Descriptors of one reply: Linux passes up to 253 with one message."""

NOT_SHARED: Final = -1
"""In place of a pack's number: the blob is to be had from the service."""

_COLUMNS = 5
_MOST_BYTES = 1 << 60
"""Of one pack: what sums of three cannot overflow with."""
_ENTRY_BYTES = 8 * _COLUMNS


class MappedBlobs(msgspec.Struct, frozen=True, array_like=True):
    """Where blobs are.

    Attributes:
        lengths: bytes of each pack, in the order of their descriptors.
        blobs: per blob that was asked for, in order, which of the descriptors or `NOT_SHARED`; where its
            record begins in the pack; the length of its metadata, which come first; the length of its
            data; and the data's CRC32C. All int64, little-endian.
    """

    lengths: tuple[int, ...]
    blobs: bytes

    def entries(self) -> NDArray[np.int64]:
        """A row per blob."""
        return np.frombuffer(self.blobs, "<i8").reshape(-1, _COLUMNS)


_DECODER = msgspec.msgpack.Decoder(MappedBlobs)


def encode_mapped_blobs(message: MappedBlobs) -> bytes:
    """The reply's body."""
    return msgspec.msgpack.encode(message)


def decode_mapped_blobs(data: bytes, descriptors: int, count: int) -> MappedBlobs:
    """Reads a reply's body and checks that what it says can be.

    Args:
        data: the body.
        descriptors: how many came with it.
        count: how many blobs were asked for.

    Raises:
        ProtocolError: it is no such reply, or one that contradicts itself.
    """
    try:
        message = _DECODER.decode(data)
    except msgspec.MsgspecError as error:
        raise _wrong(str(error)) from error
    if len(message.lengths) != descriptors:
        raise _wrong(f"{descriptors} descriptors came for {len(message.lengths)} packs")
    if not all(0 <= length <= _MOST_BYTES for length in message.lengths):
        raise _wrong("a pack's length is out of its range")
    if len(message.blobs) != count * _ENTRY_BYTES:
        raise _wrong(f"its list is not of the {count} blobs that were asked for")
    entries = message.entries()
    packs, starts, metadata, data_lengths, checksums = entries.T
    if ((packs < NOT_SHARED) | (packs >= descriptors)).any():
        raise _wrong("a blob is in none of its packs")
    if (entries[:, 1:] < 0).any() or (checksums >> 32).any():
        raise _wrong("a number is out of its range")
    # The last is that of what is not shared, which -1 chooses.
    lengths = np.array([*message.lengths, 0], np.int64)[packs]
    shared = packs != NOT_SHARED
    inside = (starts <= lengths) & (metadata <= lengths) & (data_lengths <= lengths)
    inside &= starts + metadata + data_lengths <= lengths
    if not inside[shared].all():
        raise _wrong("a blob lies outside its pack")
    return message


def _wrong(reason: str) -> ProtocolError:
    return ProtocolError(
        f"a reply with descriptors does not hold together: {reason}", side="remote"
    )
