"""Another id around the same dictionary."""

from __future__ import annotations

import pyarrow as pa
import pytest

from fletching import ipc
from fletching.errors import MalformedFrameError
from fletching.ipc import lowlevel
from fletching.ipc.metadata import read_message_header
from fletching.ipc.renumbering import renumbered

SCHEMA = pa.schema([("a", pa.dictionary(pa.int8(), pa.string()))])


def delta_stream() -> bytes:
    """A dictionary, and a delta that adds to it."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    with pa.ipc.new_stream(sink, SCHEMA, options=options) as writer:
        for values in (["x", "y"], ["x", "y", "z"]):
            indices = pa.array(range(len(values)), pa.int8())
            column = pa.DictionaryArray.from_arrays(indices, values)
            writer.write_batch(pa.record_batch([column], schema=SCHEMA))
    return bytes(sink.getvalue())


def test_renumbered_metadata_says_the_same_but_the_id() -> None:
    result = [
        m for m in ipc.messages(delta_stream()) if m.type is lowlevel.MessageType.DICTIONARY_BATCH
    ]
    assert [message.dictionary_batch().is_delta for message in result] == [False, True]
    for message in result:
        framed = memoryview(b"".join(bytes(chunk) for chunk in message.frame()))
        again = renumbered(framed[: message.metadata_length], 1 << 40)
        header = read_message_header(memoryview(again)[8:])
        before, after = message.dictionary_batch(), header.dictionary_batch()
        assert len(again) % 8 == 0
        assert after.id == 1 << 40
        assert after.is_delta == before.is_delta
        assert header.body_length == message.body_length
        assert after.data.buffers.tolist() == before.data.buffers.tolist()
        assert after.data.nodes.tolist() == before.data.nodes.tolist()


def test_only_dictionary_batches_are_renumbered() -> None:
    with pytest.raises(MalformedFrameError):
        renumbered(memoryview(lowlevel.encode_schema(SCHEMA)), 3)
