"""Forms of messages: which stand in a file as they came, and which dictionaries a schema has."""

from __future__ import annotations

import dataclasses

import pyarrow as pa

from fletching import ipc
from fletching.engine.writing.matching import dictionary_ids, is_aligned
from fletching.ipc.limits import DEFAULT_LIMITS


def test_what_pyarrow_writes_is_aligned_and_says_its_dictionaries() -> None:
    schema = pa.schema(
        [("n", pa.int64()), ("d", pa.dictionary(pa.int8(), pa.string())), ("t", pa.string())]
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(pa.table({"n": [1], "d": ["x"], "t": ["abc"]}).cast(schema))
    head, _, batch = ipc.messages(sink.getvalue())
    assert len(dictionary_ids(b"".join(bytes(part) for part in head.frame()))) == 1
    header = batch.record_batch(DEFAULT_LIMITS)
    assert is_aligned(batch, header)
    moved = header.buffers.copy()
    moved[1, 0] += 4
    assert not is_aligned(batch, dataclasses.replace(header, buffers=moved))
