"""The values that `inspect_bytes` answers with: parts, their messages, columns and problems.

Plain data: nothing here reads the input or borrows from it, so that a report outlives it.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from fletching.ipc.metadata import MessageType

__all__ = [
    "BufferReport",
    "ColumnReport",
    "Inspection",
    "MessageReport",
    "PartReport",
    "Problem",
]


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong at a place. A warning does not keep the data from being read."""

    offset: int
    severity: Literal["error", "warning"]
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class BufferReport:
    """Where a buffer stands in the input, and its bytes before compression."""

    offset: int
    length: int
    uncompressed: int


@dataclasses.dataclass(frozen=True, slots=True)
class ColumnReport:
    """One column of one record or dictionary batch; bytes are of all its buffers, nested ones too."""

    name: str
    type: str
    nulls: int
    stored_bytes: int
    uncompressed_bytes: int
    buffers: tuple[BufferReport, ...]

    @property
    def ratio(self) -> float:
        """Uncompressed to stored bytes."""
        return self.uncompressed_bytes / self.stored_bytes if self.stored_bytes else 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class MessageReport:
    """One message: where it stands and what it carries.

    Attributes:
        offset: where it starts in the input.
        type: schema, dictionary batch, record batch, tensor, sparse tensor.
        version: V4 or V5.
        prefix_length: 8, or 4 without continuation marker.
        metadata_length: bytes before the body, prefix included.
        body_length: bytes of the body, padding included.
        rows: of a record or dictionary batch.
        codec: how buffers are compressed.
        dictionary_id: of a dictionary batch.
        is_delta: whether it adds to its dictionary.
        padding: bytes of the body that belong to no buffer.
        alignment: largest power of two, up to 64, that all buffers' places in the input are
            multiples of.
        zero_copy: whether its arrays can borrow from the input; None if it has no arrays.
        columns: bytes by column.
        verified: None if contents were not looked at, else whether they are valid.
    """

    offset: int
    type: str
    version: str
    prefix_length: int
    metadata_length: int
    body_length: int
    rows: int | None = None
    codec: str | None = None
    dictionary_id: int | None = None
    is_delta: bool = False
    padding: int = 0
    alignment: int | None = None
    zero_copy: bool | None = None
    columns: tuple[ColumnReport, ...] = ()
    verified: bool | None = None

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.offset + self.metadata_length + self.body_length


@dataclasses.dataclass(frozen=True, slots=True)
class PartReport:
    """One stream or file in the input.

    Attributes:
        kind: ``"stream"`` or ``"file"``.
        start: where it starts.
        end: where it ends, its end-of-stream marker or footer included.
        endianness: ``"little"`` or ``"big"``.
        schema: the columns, as text.
        messages: all that could be read.
        marker: where the end-of-stream marker stands, and its length; None if it is missing.
        footer: where the footer stands, and its length with the closing magic; None if missing.
        footer_metadata: the footer's key-value pairs.
    """

    kind: Literal["stream", "file"]
    start: int
    end: int
    endianness: str
    schema: tuple[tuple[str, str], ...]
    messages: tuple[MessageReport, ...]
    marker: tuple[int, int] | None
    footer: tuple[int, int] | None
    footer_metadata: dict[bytes, bytes]

    @property
    def rows(self) -> int:
        """Rows of all record batches."""
        return sum(m.rows or 0 for m in self.messages if m.type == MessageType.RECORD_BATCH.label)

    @property
    def batches(self) -> int:
        """Record batches."""
        return sum(m.type == MessageType.RECORD_BATCH.label for m in self.messages)


@dataclasses.dataclass(frozen=True, slots=True)
class Inspection:
    """The whole input: its parts in order, what lies between them, and what is wrong.

    Attributes:
        length: bytes of the input.
        parts: streams and files found.
        other: ranges that belong to none: leading, between, trailing.
        problems: in the order of their places.
        verified: whether contents were checked.
    """

    length: int
    parts: tuple[PartReport, ...]
    other: tuple[tuple[int, int], ...]
    problems: tuple[Problem, ...]
    verified: bool

    @property
    def ok(self) -> bool:
        """Whether there is Arrow data and no error in it."""
        return bool(self.parts) and not any(p.severity == "error" for p in self.problems)

    def as_dict(self) -> dict[str, object]:
        """Plain lists, dicts, numbers and text, for JSON; keys are the attributes' names."""
        plain = dataclasses.asdict(self)
        for part, report in zip(plain["parts"], self.parts, strict=True):
            part["rows"] = report.rows
            part["batches"] = report.batches
            part["footer_metadata"] = {
                key.decode("utf-8", "replace"): value.decode("utf-8", "replace")
                for key, value in report.footer_metadata.items()
            }
        plain["ok"] = self.ok
        return plain
