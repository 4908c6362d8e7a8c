from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from tests.ipc.conftest import (
    EVERYTHING,
    big_endian_stream,
    file_of,
    messages_of,
    numbers,
    stream_of,
)

from fletching import ipc
from fletching.errors import MalformedFrameError, UsageError
from fletching.ipc import lowlevel
from fletching.ipc.encoding import encode_record_batch_metadata, encode_schema


def written(schema: Any, batches: Any, metadata: Any = None, **options: Any) -> bytes:
    sink = io.BytesIO()
    writer = ipc.FileWriter(sink, schema, **options)
    for batch in batches:
        if isinstance(batch, ipc.Message):
            writer.write_message(batch)
        else:
            writer.write(batch)
    assert writer.close(metadata) == len(sink.getvalue())
    return sink.getvalue()


@pytest.mark.parametrize("codec", [None, "lz4", "zstd"])
def test_other_readers_read_it(codec: str | None) -> None:
    data = written(EVERYTHING.schema, [EVERYTHING, EVERYTHING], compression=codec)
    opened = pa.ipc.open_file(data)
    assert [opened.get_batch(i).equals(EVERYTHING) for i in range(2)] == [True, True]
    data = written(numbers(0).schema, [numbers(7), numbers(2)], compression=codec)
    assert pl.read_ipc(io.BytesIO(data))["id"].to_list() == [*range(7), 0, 1]


def test_the_same_bytes_as_pyarrow_writes() -> None:
    data = written(numbers(0).schema, [numbers(7), numbers(2)])
    ours, theirs = (
        list(ipc.messages(data)),
        list(ipc.messages(file_of([numbers(7), numbers(2)], numbers(0).schema))),
    )
    assert [[bytes(p) for p in m.frame()] for m in ours] == [
        [bytes(p) for p in m.frame()] for m in theirs
    ]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("codec", [None, "zstd"])
def test_messages_are_kept_verbatim(legacy: bool, codec: str | None) -> None:
    stream = stream_of([EVERYTHING] * 2, use_legacy_format=legacy, compression=codec)
    schema, *rest = messages_of(stream)
    data = written(schema, rest)
    assert data[8 : 8 + rest[-1].end] == stream[: rest[-1].end]
    opened = pa.ipc.open_file(data)
    assert opened.get_batch(1).equals(EVERYTHING)
    assert ipc.open_file(data)[1].equals(EVERYTHING)


def test_blocks_say_where_messages_stand() -> None:
    sink = io.BytesIO()
    writer = ipc.FileWriter(sink, numbers(0).schema)
    first = writer.write(numbers(3))
    second = writer.write_message(messages_of(stream_of(numbers(4)))[1])
    assert writer.batches == [first, second]
    assert first.end == second.offset
    writer.close()
    opened = ipc.open_file(sink.getvalue())
    assert opened.footer.batches == (first, second)
    assert opened.num_rows == 7


def test_footer_metadata() -> None:
    pairs = {b"key": b"value", b"": b"", b"long": bytes(range(256)) * 10}
    data = written(numbers(0).schema, [numbers(1)], pairs)
    assert ipc.open_file(data).custom_metadata == pairs
    assert pa.ipc.open_file(data).metadata == pairs


def test_a_file_of_no_batches() -> None:
    data = written(numbers(0).schema, [])
    assert ipc.open_file(data).num_rows == 0
    assert pa.ipc.open_file(data).num_record_batches == 0


def test_dictionaries_may_grow_but_not_change() -> None:
    def tagged(values: list[str]) -> pa.RecordBatch:
        return pa.record_batch({"t": pa.DictionaryArray.from_arrays(pa.array([0]), values)})

    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    data = written(tagged(["a"]).schema, [tagged(["a"]), tagged(["a", "b"])], options=options)
    assert pa.ipc.open_file(data).get_batch(1).equals(tagged(["a", "b"]))
    with pytest.raises(UsageError, match="dictionary 0 differs"):
        written(tagged(["a"]).schema, [tagged(["a"]), tagged(["z"])])
    stream = messages_of(stream_of([tagged(["a"]), tagged(["z"])]))
    with pytest.raises(UsageError, match="dictionary 0 differs"):
        written(stream[0], stream[1:])


def test_a_shared_dictionary_id_of_a_message_is_kept() -> None:
    schema, *rest = messages_of(stream_of(EVERYTHING))
    data = written(schema, rest)
    assert [m.dictionary_batch().id for m in ipc.messages(data) if m.type == 2] == [
        m.dictionary_batch().id for m in rest[:-1]
    ]


def test_what_does_not_belong_is_refused() -> None:
    schema, batch = messages_of(stream_of(numbers(1)))
    with pytest.raises(UsageError, match="another schema"):
        written(numbers(0).schema, [EVERYTHING])
    with pytest.raises(MalformedFrameError, match="one schema"):
        written(schema, [schema])
    with pytest.raises(MalformedFrameError):
        written(batch, [])
    header = batch.record_batch()
    metadata = encode_record_batch_metadata(1, header.nodes, header.buffers, 25)
    odd = ipc.Message(memoryview(metadata), memoryview(bytes(25)))
    with pytest.raises(MalformedFrameError, match="not padded"):
        written(schema, [odd])


def test_a_message_with_unpadded_metadata_is_framed_anew() -> None:
    schema, batch = messages_of(stream_of(numbers(3)))
    odd = ipc.Message(memoryview(bytes(batch.metadata) + b"\0\0\0\0"), batch.body)
    data = written(schema, [odd])
    assert pa.ipc.open_file(data).get_batch(0).equals(numbers(3))


def test_big_endian_messages_are_kept_and_batches_refused() -> None:
    schema, batch = messages_of(big_endian_stream(numbers(3)))
    data = written(schema, [batch])
    assert ipc.open_file(data)[0].equals(numbers(3))
    assert pa.ipc.open_file(data).get_batch(0).equals(numbers(3))
    with pytest.raises(UsageError, match="big-endian"):
        written(schema, [numbers(3)])


def test_a_failed_file_is_not_closed() -> None:
    sink = io.BytesIO()

    def fail() -> None:
        with ipc.FileWriter(sink, numbers(0).schema) as writer:
            writer.write(numbers(1))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not sink.getvalue().endswith(b"ARROW1")
    with ipc.FileWriter(sink, numbers(0).schema) as writer:
        writer.write(numbers(1))
    assert sink.getvalue().endswith(b"ARROW1")
    with pytest.raises(UsageError, match="closed"):
        writer.write(numbers(1))
    with pytest.raises(UsageError, match="closed"):
        writer.close()


def tagged(values: list[str], index: int = 0) -> pa.RecordBatch:
    return pa.record_batch(
        {"t": pa.DictionaryArray.from_arrays(pa.array([index], pa.int8()), values)}
    )


@pytest.mark.parametrize("deltas", [False, True])
def test_a_refused_batch_is_refused_again_and_leaves_no_trace(deltas: bool) -> None:
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=deltas)
    sink = io.BytesIO()
    with ipc.FileWriter(sink, tagged(["a"]).schema, options=options) as writer:
        writer.write(tagged(["a", "b"], 1))
        if deltas:
            writer.write(tagged(["a", "b", "c"], 2))
        length = len(sink.getvalue())
        for _ in range(2):
            with pytest.raises(UsageError, match="dictionary 0 differs"):
                writer.write(tagged(["b", "a"], 1))
            assert len(sink.getvalue()) == length
        writer.write(tagged(["a", "b", "c"] if deltas else ["a", "b"], 1))
        with pytest.raises(UsageError):
            writer.write(tagged(["b", "a"], 1))
        if deltas:
            writer.write(tagged(["a", "b", "c", "d"], 3))
    expected = [["b"], ["c"], ["b"], ["d"]] if deltas else [["b"], ["b"]]
    for opened in (ipc.open_file(sink.getvalue()).to_table(), read_by_pyarrow(sink.getvalue())):
        assert [chunk.to_pylist() for chunk in opened["t"].chunks] == expected


def read_by_pyarrow(data: bytes) -> pa.Table:
    return pa.ipc.open_file(data).read_all()


def two_columns() -> pa.RecordBatch:
    first = pa.array(["p", "q", "p"]).dictionary_encode()
    second = pa.array([{"a": 1}, {"a": 2}, {"a": 1}])
    nested = pa.StructArray.from_arrays([pa.array(["r"] * 3).dictionary_encode(), second], "dv")
    return pa.record_batch({"x": first, "y": nested, "z": [1, 2, 3]})


@pytest.mark.parametrize("ids", [[7, 3], [1, 0], [0, 5], [2, 1 << 40]])
@pytest.mark.parametrize("legacy", [False, True])
def test_the_ids_of_a_schema_message_are_kept(ids: list[int], legacy: bool) -> None:
    batch = two_columns()
    schema = next(ipc.messages(encode_schema(batch.schema, dictionary_ids=ids)))
    options = pa.ipc.IpcWriteOptions(use_legacy_format=legacy)
    data = written(schema, [batch, batch], options=options)
    result = [m.dictionary_batch().id for m in ipc.messages(data) if m.type.label[0] == "d"]
    assert result == ids
    assert list(ipc.open_file(data)) == [batch, batch]
    assert read_by_pyarrow(data).to_batches() == [batch, batch]


def test_fields_that_share_an_id_share_their_dictionary() -> None:
    values = pa.array(["p", "q"])

    def shared(left: pa.Array, right: pa.Array) -> pa.RecordBatch:
        indices = pa.array([0, 1], pa.int8())
        columns = [pa.DictionaryArray.from_arrays(indices, values) for values in (left, right)]
        return pa.record_batch(columns, names=["x", "y"])

    batch = shared(values, values)
    schema = next(ipc.messages(encode_schema(batch.schema, dictionary_ids=[7, 7])))
    data = written(schema, [batch, batch])
    assert len([m for m in ipc.messages(data) if m.type.label == "dictionary batch"]) == 1
    assert list(ipc.open_file(data)) == [batch, batch]
    with pytest.raises(UsageError, match="dictionary 7 differs"):
        written(schema, [shared(values, pa.array(["q", "p"]))])


def test_a_dictionary_that_came_as_a_message_serves_batches_too() -> None:
    batch = tagged(["a", "b"])
    schema, dictionary, message = messages_of(stream_of(batch))
    data = written(schema, [dictionary, message, batch, batch])
    assert list(ipc.open_file(data)) == [batch] * 3
    with pytest.raises(UsageError, match="dictionary 0 differs"):
        written(schema, [dictionary, tagged(["b"])])


def test_batches_carry_custom_metadata() -> None:
    sink = io.BytesIO()
    with ipc.FileWriter(sink, numbers(0).schema) as writer:
        writer.write(numbers(3), {b"k": b"v"})
        writer.write(numbers(2))
    opened = ipc.open_file(sink.getvalue())
    assert [opened.message(i).custom_metadata() for i in range(2)] == [{b"k": b"v"}, {}]
    assert list(opened) == [numbers(3), numbers(2)]


def test_projected_messages_are_written_as_they_are() -> None:
    stream = stream_of([EVERYTHING, EVERYTHING])
    schema, *rest = messages_of(stream)
    names = ["int64", "dictionary", "string_view", "struct"]
    projector = lowlevel.Projector(schema, names)
    sink = io.BytesIO()
    with ipc.FileWriter(sink, next(ipc.messages(projector.schema_message))) as writer:
        for message in rest:
            if message.type.label == "record batch":
                block = writer.write_message(projector.project(message))
                assert writer.position == block.end
            elif message.dictionary_batch().id in projector.dictionary_ids:
                writer.write_message(message)
    expected = EVERYTHING.select(names)
    assert list(ipc.open_file(sink.getvalue())) == [expected, expected]
    assert read_by_pyarrow(sink.getvalue()).to_batches() == [expected, expected]


class Full(io.BytesIO):
    """A disk that is full after so many writes."""

    def __init__(self, writes: int) -> None:
        super().__init__()
        self._left = writes

    def write(self, data: Any, /) -> int:
        self._left -= 1
        if self._left < 0:
            raise OSError(28, "No space left on device")
        return super().write(data)


def write_often(writer: ipc.FileWriter) -> None:
    for _ in range(10):
        writer.write(numbers(3))


def test_a_writer_whose_sink_failed_writes_nothing_more() -> None:
    for writes in range(3, 12):
        sink = Full(writes)
        writer = ipc.FileWriter(sink, numbers(0).schema)
        with pytest.raises(OSError, match="No space"):
            write_often(writer)
        sink._left = 1000
        length = len(sink.getvalue())
        with pytest.raises(UsageError, match="failed before"):
            writer.write(numbers(1))
        with pytest.raises(UsageError, match="failed before"):
            writer.close()
        with writer:
            pass
        assert len(sink.getvalue()) == length
        assert not sink.getvalue().endswith(b"ARROW1")


@pytest.mark.parametrize("fails", [False, True])
def test_a_file_that_it_opened_is_closed(tmp_path: Path, fails: bool) -> None:
    path = tmp_path / "rows.arrow"
    writer = ipc.FileWriter(path, numbers(0).schema)

    def write() -> None:
        with writer:
            writer.write(numbers(1))
            if fails:
                raise RuntimeError

    with contextlib.suppress(RuntimeError):
        write()
    held = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert not [link for link in held if os.path.realpath(link) == str(path)]
