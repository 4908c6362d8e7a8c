"""Record batches cut by rows and bytes, and encoded into messages whose length is known before.

pyarrow slices and writes at the speed of memory, without Python between the cuts, and tells a slice's
encoded length without touching its values; so a cut reply still has a total length.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import pyarrow as pa
from typing_extensions import Buffer

from fletching import ipc
from fletching.errors import CorruptObjectError
from fletching.ipc.message import END_OF_STREAM
from fletching.ipc.metadata import MessageType

__all__ = ["GROUP_BYTES", "Cut", "cut_rows", "encode_cuts", "encoded_length", "group_cuts"]

GROUP_BYTES = 4 << 20
"""About how many bytes of cut batches are made at a time: what a reply holds in memory beside what
is being sent. Large enough that a thread hop per group does not show, small enough for a first
batch without delay."""

# pyarrow sends a slice's buffers up to a multiple of 64 bytes, as far as there are any: slices are
# equally long if each column ends at such a multiple, also bitmaps.
_ALIKE_ROWS = 512

_SLICES_PER_SIZE = 2  # parts into which a slice above the byte limit is cut again


@dataclasses.dataclass(frozen=True, slots=True)
class Cut:
    """Rows ``start`` to ``end`` of a batch; ``length`` is the bytes of its message, once known."""

    start: int
    end: int
    length: int


def cut_rows(
    batch: pa.RecordBatch, *, max_rows: int | None = None, max_bytes: int | None = None
) -> list[Cut]:
    """Cuts a batch so that no part has more than ``max_rows`` rows or ``max_bytes`` encoded bytes.

    A single row above ``max_bytes`` is left as it is. Without rows there is no part. Cost: about
    3 microseconds a part; nearly none where every row is as long as every other.
    """
    total = batch.num_rows
    step = min(max_rows or total, total)
    cuts: list[Cut] = []
    known = -1 if step % _ALIKE_ROWS == 0 and _rows_are_alike(batch) else None
    for start in range(0, total, step or 1):
        end = min(start + step, total)
        if known is None or known < 0 or end - start < step:
            length = pa.ipc.get_record_batch_size(batch.slice(start, end - start))
            known = None if known is None else length
        else:
            length = known
        if max_bytes is not None and length > max_bytes and end - start > 1:
            cuts += _halve(batch, start, end, max_bytes)
        else:
            cuts.append(Cut(start, end, length))
    return cuts


def _rows_are_alike(batch: pa.RecordBatch) -> bool:
    """Whether a slice's encoded length follows from its rows alone: fixed widths, nothing null."""
    types = pa.types
    return all(
        (types.is_primitive(data_type) or types.is_fixed_size_binary(data_type))
        and column.null_count == 0
        for data_type, column in zip(batch.schema.types, batch.columns, strict=True)
    )


def _halve(batch: pa.RecordBatch, start: int, end: int, max_bytes: int) -> Iterator[Cut]:
    """Parts of rows ``start`` to ``end`` within the bytes; rows differ in size, so it goes by halves."""
    pending = [(start, end)]
    while pending:
        first, last = pending.pop()
        length = pa.ipc.get_record_batch_size(batch.slice(first, last - first))
        if length <= max_bytes or last - first == 1:
            yield Cut(first, last, length)
            continue
        middle = first + (last - first) // _SLICES_PER_SIZE
        pending += [(middle, last), (first, middle)]


def group_cuts(cuts: Sequence[Cut], group_bytes: int = GROUP_BYTES) -> Iterator[list[Cut]]:
    """Consecutive cuts of together about ``group_bytes``; a larger cut is a group by itself."""
    group: list[Cut] = []
    room = group_bytes
    for cut in cuts:
        if group and cut.length > room:
            yield group
            group, room = [], group_bytes
        group.append(cut)
        room -= cut.length
    if group:
        yield group


def encoded_length(cuts: Sequence[Cut]) -> int:
    """Bytes of the cuts' messages, uncompressed."""
    return sum(cut.length for cut in cuts)


def encode_cuts(
    batch: pa.RecordBatch, cuts: Sequence[Cut], *, codec: str | None = None
) -> list[Buffer]:
    """Record batch messages of the cuts, in order; dictionaries are not included.

    Copies the values once, as a slice's buffers must be realigned; releases the GIL while it does.

    Args:
        batch: the rows.
        cuts: which of them.
        codec: ``"lz4"``, ``"zstd"`` or None for plain buffers.
    """
    if not cuts:
        return []
    if codec is None and not _has_dictionaries(batch.schema):
        return [_encode_plain(batch, cuts)]
    options = pa.ipc.IpcWriteOptions(compression=codec)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        for cut in cuts:
            writer.write_batch(batch.slice(cut.start, cut.end - cut.start))
    # pyarrow puts the schema and the dictionaries, which the reply has sent, before the batches.
    data = sink.getvalue()
    return [
        memoryview(data)[message.offset : message.end]
        for message in ipc.messages(data)
        if message.type is MessageType.RECORD_BATCH
    ]


def _encode_plain(batch: pa.RecordBatch, cuts: Sequence[Cut]) -> memoryview:
    schema_length = batch.schema.serialize().size
    length = encoded_length(cuts)
    # 8 bytes more: closing the writer appends an end-of-stream marker, which is not part of this.
    target = pa.allocate_buffer(schema_length + length + len(END_OF_STREAM))
    step = cuts[0].end - cuts[0].start
    even = all(cut.end - cut.start == step for cut in cuts[:-1])
    with (
        pa.FixedSizeBufferWriter(target) as sink,
        pa.ipc.new_stream(sink, batch.schema) as writer,
    ):
        if even and cuts[-1].end - cuts[-1].start <= step:
            # One call, which cuts and copies without the GIL.
            part = batch.slice(cuts[0].start, cuts[-1].end - cuts[0].start)
            writer.write_table(pa.Table.from_batches([part]), max_chunksize=step)
        else:
            for cut in cuts:
                writer.write_batch(batch.slice(cut.start, cut.end - cut.start))
        actual = sink.tell() - schema_length
    if actual != length:
        raise CorruptObjectError(f"cut batches have {actual} bytes where {length} were measured")
    return memoryview(target)[schema_length : schema_length + length]


def _has_dictionaries(schema: pa.Schema) -> bool:
    from fletching.engine.reading.physical_projection import has_dictionary

    return any(has_dictionary(field.type) for field in schema)
