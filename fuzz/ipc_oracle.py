"""What the ipc room promises about any bytes: a value that can be used, or one of its errors.

Shared by the atheris targets and by the tests that damage known files. "Used" means touched: every
buffer that validation let through is read by pyarrow's kernels, which crash the process where an
offset was let through that leads outside.
"""

from __future__ import annotations

import contextlib
import io

import pyarrow as pa
import pyarrow.compute as pc

from fletching import ipc
from fletching.errors import WireError
from fletching.ipc import lowlevel
from fletching.ipc.inspection import inspect_bytes
from fletching.ipc.schema_header import Endianness, schema_header

TOUCHED_ROWS = 500
LIMITS = ipc.Limits(
    max_metadata_bytes=1 << 20,
    max_body_bytes=64 << 20,
    max_uncompressed_bytes=64 << 20,
    ratio_free_bytes=1 << 20,
    max_dictionary_bytes=64 << 20,
)


def touch(batch: pa.RecordBatch) -> None:
    """Reads the elements of a batch that was let through."""
    assert batch.nbytes >= 0  # pyarrow follows null pointers of unions without values here
    for part in (batch.slice(0, TOUCHED_ROWS), batch.slice(max(0, len(batch) - TOUCHED_ROWS))):
        # Python has no such date, or two columns share a name: no fault of the bytes.
        with contextlib.suppress(
            pa.ArrowException, ValueError, OverflowError, KeyError, ImportError
        ):
            part.to_pylist()
        b"".join(bytes(piece) for message in encoded(part) for piece in message)
        for index in range(part.num_columns):
            try:
                column = part.column(index)
                column.take(pa.array(range(len(part) - 1, -1, -1), pa.int64()))
                pc.count(column, mode="all")
            except (pa.ArrowException, KeyError):
                pass  # no kernel, or no Python class, for the type


def encoded(batch: pa.RecordBatch) -> list[list[object]]:
    return lowlevel.BatchEncoder(batch.schema).encode(batch)  # type: ignore[return-value]


def stream(data: bytes) -> None:
    """The stream reader, walked and pushed; both must see the same messages."""
    walked: list[ipc.Message] = []
    try:
        walk = ipc.messages(data, limits=LIMITS)
        walked.extend(walk)
    except WireError:
        pass
    decoder = ipc.MessageDecoder(LIMITS)
    pushed: list[ipc.Message] = []
    try:
        for start in range(0, len(data), 4099):
            decoder.feed(data[start : start + 4099])
        decoder.finish()
    except WireError:
        pass
    pushed.extend(decoder)
    if data[:6] != b"ARROW1":
        for one, other in zip(walked, pushed, strict=False):
            assert bytes(one.metadata) == bytes(other.metadata)
            assert bytes(one.body) == bytes(other.body)
            assert (one.offset, one.end) == (other.offset, other.end)
    # Many batches at once, and each by itself: the same batches, or the same error.
    one_by_one = outcome(data, lazy=True)
    assert outcome(data, lazy=False) == one_by_one
    if isinstance(one_by_one, str):
        return
    batches, end = ipc.read_stream_at(data, limits=LIMITS)
    assert 0 < end <= len(data)
    for batch in batches:
        touch(batch)
    project(walked, batches.schema)


def outcome(data: bytes, *, lazy: bool) -> tuple[list[pa.RecordBatch], int | None] | str:
    """Batches and where they end, or the error in words."""
    try:
        if lazy:
            reader = ipc.read_stream_at(data, lazy=True, limits=LIMITS)
            return list(reader), reader.end
        batches, end = ipc.read_stream_at(data, limits=LIMITS)
    except WireError as error:
        return f"{type(error).__name__}: {error}"
    return list(batches), end


def sections(data: bytes) -> None:
    """Length-prefixed sections, aligned or not: from a buffer as from a file."""
    for alignment in (1, 8, 64):
        try:
            section, end = ipc.read_prefixed_at(data, alignment=alignment)
        except WireError:
            continue
        assert len(section) <= end <= len(data)
        read = ipc.read_prefixed(io.BytesIO(data), alignment=alignment, limits=LIMITS)
        assert read is not None
        assert bytes(read) == bytes(section)


def project(messages: list[ipc.Message], schema: pa.Schema) -> None:
    """Every other column, reversed, with a constant behind; the result must read like the original."""
    columns = list(range(0, len(schema), 2))[::-1]
    constants = [lowlevel.Constant(pa.field("constant", pa.string()), "x")]
    if schema_header(messages[0], LIMITS).endianness is Endianness.BIG:
        constants = []
    projector = lowlevel.Projector(messages[0], columns, constants, limits=LIMITS)
    frames = [projector.schema_message]
    for message in messages[1:]:
        if message.type is lowlevel.MessageType.RECORD_BATCH:
            frames += projector.project(message).frame()
        elif message.dictionary_batch().id in projector.dictionary_ids:
            frames += message.frame()
    try:
        for batch in ipc.read_stream(b"".join(map(bytes, frames)), limits=LIMITS):
            touch(batch)
    except WireError:
        # What makes a batch valid can lie in its row count alone, or in a dictionary left out.
        return


def file(data: bytes) -> None:
    """Random access, mapped and read, projected; and recovery."""
    for source in (data, io.BytesIO(data)):
        try:
            opened = ipc.open_file(source, limits=LIMITS)
        except WireError:
            continue
        for index in range(min(len(opened), 50)):
            with contextlib.suppress(WireError):
                touch(opened[index])
        try:
            chosen = opened.select(list(range(0, len(opened.schema), 2)))
            for batch in chosen.slice(0, TOUCHED_ROWS):
                touch(batch)
        except WireError:
            pass
    try:
        sink = io.BytesIO()
        recovery = ipc.recover(data, sink, limits=LIMITS)
    except WireError:
        return
    # Whatever was damaged, what recovery let through opens and reads.
    repaired = ipc.open_file(sink.getvalue(), limits=LIMITS)
    assert len(repaired) == len(recovery.batches)
    assert repaired.num_rows == recovery.rows
    for batch in repaired:
        touch(batch)


def inspected(data: bytes) -> None:
    """The report never fails: what is wrong with the bytes stands in it."""
    inspect_bytes(data, verify=True, limits=LIMITS).as_dict()


def everything(data: bytes) -> None:
    """All of the above."""
    stream(data)
    file(data)
    inspected(data)
    sections(data)
