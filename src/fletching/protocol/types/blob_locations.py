"""Where blobs are, as their references say: read for a whole column at once.

A reference is complete in itself (docs/blobs.md): base64 of a token that tells the pack, the place in it, and the
checksum. Who has the pack open needs to ask nobody where a blob is. What a token says is no proof of
anything, for its MAC is the service's to check: read only from packs that one may read all of.
"""

from __future__ import annotations

import base64
import dataclasses

import numpy as np
import pyarrow as pa

__all__ = ["REFERENCE_VERSION", "TEXT_BYTES", "BlobLocations", "pack_of"]

TEXT_BYTES = 80
"""How long the text of a reference is."""

REFERENCE_VERSION = 1
"""What a token begins with."""

_MOST_BYTES = 1 << 60
_TOKEN = np.dtype(
    [
        ("version", "u1"),
        ("reserved", "u1"),
        ("metadata", "<u2"),
        ("crc32c", "<u4"),
        ("pack", "S20"),  # with its table, in which it is
        ("offset", "<u8"),
        ("length", "<u8"),
        ("mac", "V16"),
    ]
)
_UNSIGNED_BYTES = _TOKEN.itemsize - _TOKEN["mac"].itemsize
_UNSIGNED = np.dtype(
    {"names": ["all"], "formats": [f"V{_UNSIGNED_BYTES}"], "itemsize": _TOKEN.itemsize}
)


@dataclasses.dataclass(frozen=True, slots=True)
class BlobLocations:
    """Where the blobs of a column are: an item of each list per blob.

    Attributes:
        packs: what tells one pack from another.
        starts: where the data begin.
        lengths: of the data.
        checksums: CRC32C of the data.
        tokens: all that each reference says, without the MAC.
    """

    packs: list[bytes]
    starts: list[int]
    lengths: list[int]
    checksums: list[int]
    tokens: list[bytes]

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> BlobLocations | None:
        """Of a BLOB column without nulls; None where one of its cells is no reference as they are stored."""
        if not len(column):
            return cls([], [], [], [], [])
        cells = column.combine_chunks()
        text = _text_of(cells.storage if hasattr(cells, "storage") else cells)
        return None if text is None else cls._of_text(text)

    @classmethod
    def _of_text(cls, text: bytes) -> BlobLocations | None:
        try:
            # A text is a whole number of base64's groups: joined ones decode as each by itself.
            data = base64.b64decode(text, validate=True)
            tokens = np.frombuffer(data, _TOKEN)
        except ValueError:
            return None
        if (tokens["version"] != REFERENCE_VERSION).any() or (tokens["reserved"] != 0).any():
            return None
        if (tokens["offset"] > _MOST_BYTES).any() or (tokens["length"] > _MOST_BYTES).any():
            return None
        return cls(
            tokens["pack"].tolist(),
            (tokens["offset"] + tokens["metadata"]).tolist(),
            tokens["length"].tolist(),
            tokens["crc32c"].tolist(),
            np.frombuffer(data, _UNSIGNED)["all"].tolist(),
        )


def pack_of(reference: str, start: int) -> bytes | None:
    """The pack that a reference tells, if it tells of data that begin at `start`."""
    if len(reference) != TEXT_BYTES or not reference.isascii():
        return None
    locations = BlobLocations._of_text(reference.encode())  # noqa: SLF001  # of this module
    return locations.packs[0] if locations is not None and locations.starts[0] == start else None


def _text_of(cells: pa.Array) -> bytes | None:
    """The joined texts of cells that are all as long as a reference is."""
    if cells.type != pa.binary() or cells.null_count:
        return None
    _, ends, data = cells.buffers()
    bounds = np.frombuffer(ends, np.int32, len(cells) + 1, 4 * cells.offset)
    if (np.diff(bounds) != TEXT_BYTES).any():
        return None
    return bytes(memoryview(data)[bounds[0] : bounds[-1]])
