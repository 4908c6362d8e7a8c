"""Rows that a client on the service's host reads out of the segments themselves.

The reply to a read over the service's Unix socket, if the request asked for descriptors: instead of
the rows it says where they are. The segments' files come along as descriptors (``SCM_RIGHTS``), open
for reading. What is not stored as the reader wants it is named as rows to be read from the service.

On the wire it is one MessagePack array per struct, in the order of the fields below.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from fletching.errors import ProtocolError

__all__ = [
    "MAX_SEGMENTS",
    "MappedRows",
    "SegmentLayout",
    "SegmentRun",
    "ServiceRun",
    "decode_mapped_rows",
    "encode_mapped_rows",
]

MAX_SEGMENTS: Final = 200
"""Descriptors of one reply: Linux passes up to 253 with one message."""

CONSTANT: Final = -1
"""In `SegmentLayout.columns`: the column is not in the segment."""

_ENTRY_BYTES = 24
_MOST_ROWS = 1 << 40
"""Of one batch: what a sum of 8 million of them cannot overflow with."""


class SegmentLayout(msgspec.Struct, frozen=True, array_like=True):
    """How the reply's columns lie in some segments.

    Attributes:
        schema: the segments' schema message, framed.
        columns: per column of the reply, its place in that schema, or `CONSTANT`.
        constants: per column of the reply that is `CONSTANT`, in order, the value as text, or None
            for nulls.
        selected: a decoded batch's columns are the reply's, metadata included.
    """

    schema: bytes
    columns: tuple[int, ...]
    constants: tuple[str | None, ...]
    selected: bool


class SegmentRun(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Record batches of one segment, in order.

    Attributes:
        segment: which of the reply's descriptors.
        layout: which of the reply's layouts.
        batches: per record batch message its start and end in the file and its rows, int64
            little-endian.
        dictionaries: the same of the dictionary batch messages of the segment, rows 0.
        skip: rows of the first batch to leave out.
        rows: how many rows the run gives; those of the last batch beyond are left out.
    """

    segment: int
    layout: int
    batches: bytes
    dictionaries: bytes
    skip: int
    rows: int

    def entries(self) -> list[tuple[int, int, int]]:
        """Start, end and rows of each record batch."""
        return _entries(self.batches)

    def dictionary_entries(self) -> list[tuple[int, int, int]]:
        """Start and end of each dictionary batch, and 0."""
        return _entries(self.dictionaries)


class ServiceRun(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Rows to be read from the service: ``count`` of the session's, from ``offset`` on."""

    offset: int
    count: int


class MappedRows(msgspec.Struct, frozen=True, array_like=True):
    """Where the rows of a reply are.

    Attributes:
        schema: the reply's schema message, framed.
        lengths: bytes of each segment, in the order of their descriptors.
        layouts: those that the runs refer to.
        runs: the rows, in order.
        rows: how many the runs give.
        more: whether the read has rows behind these; they are asked for by skipping these.
    """

    schema: bytes
    lengths: tuple[int, ...]
    layouts: tuple[SegmentLayout, ...]
    runs: tuple[SegmentRun | ServiceRun, ...]
    rows: int
    more: bool


_DECODER = msgspec.msgpack.Decoder(MappedRows)


def encode_mapped_rows(message: MappedRows) -> bytes:
    """The reply's body."""
    return msgspec.msgpack.encode(message)


def decode_mapped_rows(data: bytes, descriptors: int) -> MappedRows:
    """Reads a reply's body and checks that what it says can be.

    Args:
        data: the body.
        descriptors: how many came with it.

    Raises:
        ProtocolError: it is no such reply, or one that contradicts itself.
    """
    try:
        message = _DECODER.decode(data)
    except msgspec.MsgspecError as error:
        raise _wrong(str(error)) from error
    if len(message.lengths) != descriptors:
        raise _wrong(f"{descriptors} descriptors came for {len(message.lengths)} segments")
    total = 0
    for run in message.runs:
        if isinstance(run, ServiceRun):
            if run.offset < 0 or run.count < 0:
                raise _wrong("a range of rows is negative")
            total += run.count
        else:
            _check_run(message, run)
            total += run.rows
    for layout in message.layouts:
        if layout.columns.count(CONSTANT) != len(layout.constants):
            raise _wrong("a layout's constants are not those of its columns")
    if total != message.rows:
        raise _wrong(f"its runs give {total} rows where it says {message.rows}")
    if message.more and not total:
        raise _wrong("it has no rows and says that there are more")
    return message


def _check_run(message: MappedRows, run: SegmentRun) -> None:
    if not (0 <= run.segment < len(message.lengths) and 0 <= run.layout < len(message.layouts)):
        raise _wrong("a run names no segment or layout of the reply")
    length = message.lengths[run.segment]
    for packed in (run.batches, run.dictionaries):
        if len(packed) % _ENTRY_BYTES:
            raise _wrong("a run's list of batches is cut")
        table = np.frombuffer(packed, "<i8").reshape(-1, 3)
        inside = (table[:, 0] >= 0) & (table[:, 0] < table[:, 1]) & (table[:, 1] <= length)
        if not inside.all() or (table[:, 2] < 0).any() or (table[:, 2] > _MOST_ROWS).any():
            raise _wrong("a batch lies outside its segment")
    stored = int(np.frombuffer(run.batches, "<i8").reshape(-1, 3)[:, 2].sum())
    if run.skip < 0 or run.rows < 0 or run.skip + run.rows > stored:
        raise _wrong("a run has fewer rows than it says")


def _entries(packed: bytes) -> list[tuple[int, int, int]]:
    numbers = iter(np.frombuffer(packed, "<i8").tolist())
    return list(zip(numbers, numbers, numbers, strict=True))


def _wrong(reason: str) -> ProtocolError:
    return ProtocolError(
        f"a reply with descriptors does not hold together: {reason}", side="remote"
    )
