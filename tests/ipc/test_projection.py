from __future__ import annotations

import io
import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ipc.conftest import (
    ARRAYS,
    EVERYTHING,
    big_endian_stream,
    messages_of,
    numbers,
    stream_of,
)

from fletching import ipc
from fletching.errors import LimitExceededError, MalformedFrameError, UsageError
from fletching.types import ByteRange

PLAIN = [name for name in ARRAYS if "dictionary" not in name]


def projected(data: bytes, columns: Any, constants: Any = ()) -> list[pa.RecordBatch]:
    """The projected stream, read by pyarrow: nothing of ours checks the outcome."""
    schema, *rest = messages_of(data)
    projector = ipc.Projector(schema, columns, constants)
    sink = io.BytesIO(projector.schema_message)
    sink.seek(0, 2)
    for message in rest:
        if message.type is ipc.MessageType.DICTIONARY_BATCH:
            frame = (
                message.frame() if message.dictionary_batch().id in projector.dictionary_ids else []
            )
        else:
            plan = projector.plan(message.metadata)
            frame = plan.frame(message.body)
            assert plan.length == sum(memoryview(piece).nbytes for piece in frame)
        for piece in frame:
            sink.write(piece)
    sink.write(ipc.END_OF_STREAM)
    return list(pa.ipc.open_stream(sink.getvalue()))


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_columns_of_any_types_in_any_order(data: st.DataObject) -> None:
    codec = data.draw(st.sampled_from([None, "lz4", "zstd"]))
    columns = data.draw(st.lists(st.sampled_from(EVERYTHING.schema.names), unique=True))
    start = data.draw(st.integers(0, 4))
    batch = EVERYTHING.slice(start, data.draw(st.integers(0, 5 - start)))
    (found,) = projected(stream_of(batch, compression=codec), columns)
    assert found.schema == batch.select(columns).schema
    assert found.num_rows == batch.num_rows
    if columns:
        assert found.equals(batch.select(columns))


@pytest.mark.parametrize("name", ARRAYS)
def test_each_type_alone_between_others(name: str) -> None:
    batch = pa.record_batch(
        {"before": ["x"] * 5, "a": ARRAYS[name], "behind": pa.array(range(5), pa.int8())}
    )
    (found,) = projected(stream_of(batch), ["a"])
    assert found.equals(batch.select(["a"]))
    (found,) = projected(stream_of(batch), ["behind", "before"])
    assert found.equals(batch.select(["behind", "before"]))


def test_unions_of_the_fourth_version() -> None:
    batch = pa.record_batch(
        {"a": ARRAYS["sparse_union"], "b": ARRAYS["dense_union"], "c": ARRAYS["string"]}
    )
    data = stream_of(batch, metadata_version=pa.ipc.MetadataVersion.V4)
    (found,) = projected(data, ["c", "b"])
    assert found.equals(batch.select(["c", "b"]))


def test_dictionaries_keep_their_ids() -> None:
    # The chosen column's dictionary is the second of the stream, and the first of the projection.
    batch = pa.record_batch({n: pa.array([n, n + "x"]).dictionary_encode() for n in ("p", "q")})
    schema = messages_of(stream_of(batch))[0]
    projector = ipc.Projector(schema, ["q"])
    assert projector.dictionary_ids == {1}
    (found,) = projected(stream_of([batch]), ["q"])
    assert found.column(0).to_pylist() == ["q", "qx"]


def test_ids_of_children_that_the_type_does_not_use_are_no_dictionaries() -> None:
    # A header may give any field children; pyarrow reads no farther than its type asks.
    inner = [("a", pa.int8()), ("b", pa.dictionary(pa.int8(), pa.string()))]
    data = bytearray(ipc.encode_schema(pa.schema([pa.field("p", pa.struct(inner))])))
    (message,) = messages_of(bytes(data))
    field = next(message.header.table.tables(1))
    data[8 + field._field(2, 1)] = 6  # a struct's tag becomes that of booleans
    (message,) = messages_of(bytes(data))
    projector = ipc.Projector(message, [0])
    assert projector.schema.types == [pa.bool_()]
    assert projector.dictionary_ids == set()
    assert ipc.read_schema(messages_of(projector.schema_message)[0]) == projector.schema


def test_big_endian_batches_stay_big_endian() -> None:
    batch = pa.record_batch({"a": [1, 2], "b": ["x", "y"], "c": [3.0, 4.0]})
    data = big_endian_stream(batch)
    (found,) = projected(data, ["c", "a"])
    assert found.equals(batch.select(["c", "a"]))
    with pytest.raises(UsageError, match="big-endian"):
        projected(data, ["a"], [ipc.Constant(pa.field("k", pa.int8()), 1)])


def test_schema_and_field_metadata_are_kept() -> None:
    field = pa.field("a", pa.int8(), nullable=False, metadata={"unit": "m"})
    schema = pa.schema([field, pa.field("b", pa.int8())], metadata={"k": "v"})
    for constants in ((), [ipc.Constant(pa.field("c", pa.int8()), 1)]):
        kept = ipc.Projector(schema, ["a"], constants).schema_message
        found = pa.ipc.read_schema(pa.py_buffer(kept))
        assert found.field(0).equals(field, check_metadata=True)
        assert found.metadata == {b"k": b"v"}


def test_body_bytes_are_not_moved() -> None:
    data = stream_of(EVERYTHING)
    message = messages_of(data)[-1]
    found = ipc.project(message, EVERYTHING.schema, ["int64", "string", "struct"])
    base = np.frombuffer(data, np.uint8).ctypes.data
    borrowed = 0
    for piece in found.body:
        if isinstance(piece, memoryview):
            address = np.frombuffer(piece, np.uint8).ctypes.data
            assert base <= address < base + len(data)
            borrowed += len(piece)
        else:
            assert len(memoryview(piece)) < 8  # padding
    assert borrowed == found.body_length
    assert found.frame()[0] == found.prefix


def test_buffers_stay_aligned_and_pieces_do_not_overlap() -> None:
    for compression in (None, "zstd"):
        data = stream_of(EVERYTHING, compression=compression)
        message = messages_of(data)[-1]
        columns = EVERYTHING.schema.names[::-2]
        plan = ipc.plan_projection(message.metadata, EVERYTHING.schema, columns)
        header = ipc.Message(
            memoryview(plan.prefix)[8:], memoryview(bytes(plan.body_length))
        ).record_batch()
        assert (header.buffers[:, 0] % 8 == 0).all()
        assert len(plan.prefix) % 8 == 0
        assert plan.body_length % 8 == 0
        ranges = sorted(piece for piece in plan.pieces if isinstance(piece, ByteRange))
        assert all(a.end <= b.start for a, b in itertools.pairwise(ranges))
        assert all(r.end <= message.body_length for r in ranges)
        assert (
            sum(len(p) if isinstance(p, bytes) else p.length for p in plan.pieces)
            == plan.body_length
        )


def test_neighbouring_buffers_stay_one_piece() -> None:
    batch = pa.record_batch({f"c{i}": np.arange(100) for i in range(10)})
    message = messages_of(stream_of(batch))[1]
    plan = ipc.plan_projection(message.metadata, batch.schema, ["c2", "c7"])
    assert plan.pieces == (ByteRange(1600, 2400), ByteRange(5600, 6400))


def test_the_prefix_may_come_along() -> None:
    message = messages_of(stream_of(numbers(3)))[1]
    bare = ipc.plan_projection(message.metadata, numbers(3).schema, ["name"])
    framed = ipc.plan_projection(
        message.prefix + bytes(message.metadata), numbers(3).schema, ["name"]
    )
    assert bare == framed
    with pytest.raises(MalformedFrameError, match="prefix"):
        ipc.plan_projection(b"\xff\xff\xff\xff\x00", numbers(3).schema, ["name"])
    with pytest.raises(MalformedFrameError, match="prefix"):
        ipc.plan_projection(b"\xff\xff\xff\xff\x10\0\0\0", numbers(3).schema, ["name"])


@pytest.mark.parametrize("codec", [None, "lz4", "zstd"])
@pytest.mark.parametrize(
    ("data_type", "value"),
    [
        (pa.string(), "20260101"),
        (pa.string(), ""),
        (pa.string(), None),
        (pa.int64(), 7),
        (pa.bool_(), True),
        (pa.string_view(), "more than twelve bytes of text"),
        (pa.list_(pa.int8()), [1, 2]),
        (pa.null(), None),
    ],
)
def test_constants_are_appended(codec: str | None, data_type: pa.DataType, value: Any) -> None:
    batches = [numbers(5), numbers(0), numbers(300), numbers(5)]
    constant = ipc.Constant(pa.field("pt", data_type), value)
    found = projected(stream_of(batches, compression=codec), ["name"], [constant])
    for one, batch in zip(found, batches, strict=True):
        one.validate(full=True)
        assert one.schema.names == ["name", "pt"]
        assert one["name"].equals(batch["name"])
        assert one["pt"].type == data_type
        assert one["pt"].to_pylist() == [value] * len(batch)


def test_constants_alone_and_as_arrays() -> None:
    array = pa.array(["a", "b", "c"])
    (found,) = projected(stream_of(numbers(3)), [], [(pa.field("x", pa.string()), array)])
    assert found.to_pydict() == {"x": ["a", "b", "c"]}
    with pytest.raises(UsageError, match="has 3 rows, the batch has 2"):
        projected(stream_of(numbers(2)), [], [(pa.field("x", pa.string()), array)])
    scalar = pa.scalar(3, pa.int8())
    (found,) = projected(
        stream_of(numbers(2)), [], [ipc.Constant(pa.field("x", pa.int64()), scalar)]
    )
    assert found.to_pydict() == {"x": [3, 3]}


def test_a_constant_is_not_repeated_for_rows_that_only_metadata_claims() -> None:
    # A column of nulls has no bytes, so a batch of any length costs its sender nothing.
    batch = pa.record_batch({"n": pa.nulls(1 << 30)})
    message = messages_of(stream_of(batch))[1]
    constant = ipc.Constant(pa.field("x", pa.string()), "some text")
    with pytest.raises(LimitExceededError, match="constant column"):
        ipc.plan_projection(message.metadata, batch.schema, None, [constant])


def test_constants_through_the_function() -> None:
    message = messages_of(stream_of(numbers(2)))[1]
    constant = ipc.Constant(pa.field("x", pa.int8()), 1)
    plan = ipc.plan_projection(message.metadata, numbers(2).schema, None, [constant])
    assert any(isinstance(piece, bytes) for piece in plan.pieces)


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        (["nope"], "does not exist"),
        (["d"], "ambiguous"),
        (["a", "a"], "named twice"),
        ([9], "does not exist"),
        ("a", "not one name"),
    ],
)
def test_unknown_columns_are_refused(columns: Any, what: str) -> None:
    schema = pa.schema([("a", pa.int8()), ("d", pa.int8()), ("d", pa.int8())])
    with pytest.raises(UsageError, match=what):
        ipc.Projector(schema, columns)
    assert ipc.Projector(schema, [2, "a"]).columns == (2, 0)


def test_metadata_that_does_not_fit_is_refused() -> None:
    schema, message = messages_of(stream_of(numbers(3)))
    with pytest.raises(MalformedFrameError, match="only record batches"):
        ipc.plan_projection(schema.metadata, numbers(3).schema, ["id"])
    with pytest.raises(MalformedFrameError, match="field nodes"):
        ipc.plan_projection(message.metadata, EVERYTHING.schema, ["int64"])
    with pytest.raises(LimitExceededError):
        ipc.Projector(numbers(3).schema, ["id"], limits=ipc.Limits(max_rows=2)).plan(
            message.metadata
        )


def test_custom_metadata_of_the_message_is_kept() -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, numbers(1).schema) as writer:
        writer.write_batch(numbers(1), custom_metadata={"key": "value", "k": ""})
    message = messages_of(sink.getvalue())[1]
    plan = ipc.plan_projection(message.metadata, numbers(1).schema, ["id"])
    found = ipc.Message(memoryview(plan.prefix)[8:], memoryview(bytes(plan.body_length)))
    assert found.custom_metadata() == {b"key": b"value", b"k": b""}


def test_selection_points_into_the_old_body() -> None:
    message = messages_of(stream_of(EVERYTHING))[-1]
    projector = ipc.Projector(EVERYTHING.schema, PLAIN[::-3])
    metadata = projector.select(message.metadata)
    batch = ipc.BatchDecoder(projector.schema).decode(
        ipc.Message(memoryview(metadata), message.body)
    )
    assert batch is not None
    assert batch.equals(EVERYTHING.select(PLAIN[::-3]))


def test_a_projected_message_is_its_pieces() -> None:
    batch = pa.record_batch({"a": [1, 2], "b": ["x", None]})
    sink = io.BytesIO()
    ipc.write_stream([batch], sink)
    message = list(ipc.messages(sink.getvalue()))[1]
    projected = ipc.project(message, batch.schema, ["b"])
    pieces = list(projected)
    assert pieces == projected.frame()
    assert len(projected) == len(pieces)
    stream = [ipc.encode_schema(batch.select(["b"]).schema), *pieces, ipc.END_OF_STREAM]
    assert ipc.read_single(b"".join(stream)).equals(batch.select(["b"]))
