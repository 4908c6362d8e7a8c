"""The JSON around a blob's data: the header and footer of a blob frame."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

import msgspec
from typing_extensions import Buffer

from fletching.errors import MalformedFrameError

__all__ = ["LAYER", "BlobHeader", "ChecksumType", "checksum_type", "json_object"]

LAYER = "blob_frames"


class ChecksumType(enum.IntEnum):
    """The footer's ``Checksum.Type``."""

    NONE = 0
    CRC32 = 1
    MD5 = 2


@dataclasses.dataclass(frozen=True, slots=True)
class BlobHeader:
    """A frame's header. Absent keys and, on reading, empty texts are None.

    Attributes:
        content_type: ``ContentType``.
        file_name: ``CustomFileName``.
        partition_values: ``PartitionValues``, each ``k=v``; uploads only.
        column_id: ``ColumnIndex``, the column's id in the write schema; uploads only.
        distribution_key: ``DistributionKey``, base64; uploads to primary-key tables only.
        checksum: ``ChecksumType``, ours: the kind of checksum the footer will have, so that a
            reader of long data need not compute every kind.
        extra: keys not known here, as they came.
    """

    content_type: str | None = None
    file_name: str | None = None
    partition_values: tuple[str, ...] | None = None
    column_id: int | None = None
    distribution_key: str | None = None
    checksum: ChecksumType | None = None
    extra: Mapping[str, object] = dataclasses.field(default_factory=dict)

    def to_json(self) -> bytes:
        """The header as JSON in UTF-8; without any known key it is ``{}``."""
        fields: dict[str, object] = dict(self.extra)
        if self.partition_values is not None:
            fields["PartitionValues"] = list(self.partition_values)
        if self.column_id is not None:
            fields["ColumnIndex"] = self.column_id
        if self.distribution_key is not None:
            fields["DistributionKey"] = self.distribution_key
        if self.content_type is not None:
            fields["ContentType"] = self.content_type
        if self.file_name is not None:
            fields["CustomFileName"] = self.file_name
        if self.checksum is not None:
            fields["ChecksumType"] = int(self.checksum)
        return msgspec.json.encode(fields)

    @classmethod
    def from_json(cls, data: Buffer, *, offset: int = 0) -> BlobHeader:
        """Reads a header; no bytes at all are an empty one.

        Raises:
            MalformedFrameError: not a JSON object in UTF-8, or a known key of the wrong type.
        """
        fields = json_object(data, "header", offset)
        values = {name: _typed(fields, key, name, offset) for key, name in _HEADER_KEYS.items()}
        kind = values.pop("checksum")
        return cls(
            **values,
            checksum=None if kind is None else checksum_type(kind, offset),
            extra=fields,
        )


_HEADER_KEYS = {
    "ContentType": "content_type",
    "CustomFileName": "file_name",
    "PartitionValues": "partition_values",
    "ColumnIndex": "column_id",
    "DistributionKey": "distribution_key",
    "ChecksumType": "checksum",
}


def json_object(data: Buffer, part: str, offset: int) -> dict[str, object]:
    """Reads a header or footer; no bytes at all are an empty object.

    Raises:
        MalformedFrameError: not a JSON object in UTF-8.
    """
    if not memoryview(data).nbytes:
        return {}
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise MalformedFrameError(
            f"the {part} of a blob frame is not JSON", layer=LAYER, offset=offset
        ) from exc
    if not isinstance(value, dict):
        raise MalformedFrameError(
            f"the {part} of a blob frame is not a JSON object",
            layer=LAYER,
            offset=offset,
            expected="object",
            actual=type(value).__name__,
        )
    return value


def _typed(fields: dict[str, object], key: str, name: str, offset: int) -> Any:
    """Takes a known key out of a header's fields, checked."""
    value = fields.pop(key, None)
    if value is None:
        return None
    if name in {"column_id", "checksum"}:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif name == "partition_values":
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif isinstance(value, str):
        return value or None
    raise MalformedFrameError(
        f"{key} in the header of a blob frame has the wrong type",
        layer=LAYER,
        offset=offset,
        actual=type(value).__name__,
    )


def checksum_type(value: object, offset: int) -> ChecksumType:
    """Reads a checksum's type.

    Raises:
        MalformedFrameError: there is no such type.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value in set(ChecksumType):
        return ChecksumType(value)
    raise MalformedFrameError(
        "a blob frame names a checksum type that does not exist",
        layer=LAYER,
        offset=offset,
        expected=[int(kind) for kind in ChecksumType],
        actual=value if isinstance(value, int) else type(value).__name__,
    )
