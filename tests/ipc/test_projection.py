from __future__ import annotations

import io
import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.folding import folded
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
from fletching.ipc import lowlevel
from fletching.ipc.encoding import encode_record_batch_metadata
from fletching.ipc.schema_header import schema_header
from fletching.types import ByteRange

PLAIN = [name for name in ARRAYS if "dictionary" not in name]


def projected(data: bytes, columns: Any, constants: Any = ()) -> list[pa.RecordBatch]:
    """The projected stream, read by pyarrow: nothing of ours checks the outcome."""
    schema, *rest = messages_of(data)
    projector = lowlevel.Projector(schema, columns, constants)
    sink = io.BytesIO(projector.schema_message)
    sink.seek(0, 2)
    for message in rest:
        if message.type is lowlevel.MessageType.DICTIONARY_BATCH:
            frame = (
                message.frame() if message.dictionary_batch().id in projector.dictionary_ids else []
            )
        else:
            plan = projector.plan(message.metadata)
            frame = plan.frame(message.body)
            assert plan.length == sum(memoryview(chunk).nbytes for chunk in frame)
        for chunk in frame:
            sink.write(chunk)
    sink.write(lowlevel.END_OF_STREAM)
    return list(pa.ipc.open_stream(sink.getvalue()))


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_columns_of_any_types_in_any_order(data: st.DataObject) -> None:
    codec = data.draw(st.sampled_from([None, "lz4", "zstd"]))
    columns = data.draw(st.lists(st.sampled_from(EVERYTHING.schema.names), unique=True))
    start = data.draw(st.integers(0, 4))
    batch = EVERYTHING.slice(start, data.draw(st.integers(0, 5 - start)))
    (result,) = projected(stream_of(batch, compression=codec), columns)
    assert result.schema == batch.select(columns).schema
    assert result.num_rows == batch.num_rows
    if columns:
        assert result.equals(batch.select(columns))


@folded("name", ARRAYS)
def test_each_type_alone_between_others(name: str) -> None:
    batch = pa.record_batch(
        {"before": ["x"] * 5, "a": ARRAYS[name], "behind": pa.array(range(5), pa.int8())}
    )
    (result,) = projected(stream_of(batch), ["a"])
    assert result.equals(batch.select(["a"]))
    (result,) = projected(stream_of(batch), ["behind", "before"])
    assert result.equals(batch.select(["behind", "before"]))


def test_unions_of_the_fourth_version() -> None:
    batch = pa.record_batch(
        {"a": ARRAYS["sparse_union"], "b": ARRAYS["dense_union"], "c": ARRAYS["string"]}
    )
    data = stream_of(batch, metadata_version=pa.ipc.MetadataVersion.V4)
    (result,) = projected(data, ["c", "b"])
    assert result.equals(batch.select(["c", "b"]))


def test_dictionaries_keep_their_ids() -> None:
    # The chosen column's dictionary is the second of the stream, and the first of the projection.
    batch = pa.record_batch({n: pa.array([n, n + "x"]).dictionary_encode() for n in ("p", "q")})
    schema = messages_of(stream_of(batch))[0]
    projector = lowlevel.Projector(schema, ["q"])
    assert projector.dictionary_ids == {1}
    (result,) = projected(stream_of([batch]), ["q"])
    assert result.column(0).to_pylist() == ["q", "qx"]


def test_ids_of_children_that_the_type_does_not_use_are_no_dictionaries() -> None:
    # A header may give any field children; pyarrow reads no farther than its type asks.
    inner = [("a", pa.int8()), ("b", pa.dictionary(pa.int8(), pa.string()))]
    data = bytearray(lowlevel.encode_schema(pa.schema([pa.field("p", pa.struct(inner))])))
    (message,) = messages_of(bytes(data))
    field = next(message.header.table.tables(1))
    data[8 + field._field(2, 1)] = 6  # a struct's tag becomes that of booleans
    (message,) = messages_of(bytes(data))
    projector = lowlevel.Projector(message, [0])
    assert projector.schema.types == [pa.bool_()]
    assert projector.dictionary_ids == set()
    assert lowlevel.read_schema(messages_of(projector.schema_message)[0]) == projector.schema


def test_big_endian_batches_stay_big_endian() -> None:
    batch = pa.record_batch({"a": [1, 2], "b": ["x", "y"], "c": [3.0, 4.0]})
    data = big_endian_stream(batch)
    (result,) = projected(data, ["c", "a"])
    assert result.equals(batch.select(["c", "a"]))
    with pytest.raises(UsageError, match="big-endian"):
        projected(data, ["a"], [lowlevel.Constant(pa.field("k", pa.int8()), 1)])


def test_schema_and_field_metadata_are_kept() -> None:
    field = pa.field("a", pa.int8(), nullable=False, metadata={"unit": "m"})
    schema = pa.schema([field, pa.field("b", pa.int8())], metadata={"k": "v"})
    for constants in ((), [lowlevel.Constant(pa.field("c", pa.int8()), 1)]):
        kept = lowlevel.Projector(schema, ["a"], constants).schema_message
        result = pa.ipc.read_schema(pa.py_buffer(kept))
        assert result.field(0).equals(field, check_metadata=True)
        assert result.metadata == {b"k": b"v"}


def test_body_bytes_are_not_moved() -> None:
    data = stream_of(EVERYTHING)
    message = messages_of(data)[-1]
    result = ipc.project(message, EVERYTHING.schema, ["int64", "string", "struct"])
    base = np.frombuffer(data, np.uint8).ctypes.data
    borrowed = 0
    for chunk in result.body:
        if isinstance(chunk, memoryview):
            address = np.frombuffer(chunk, np.uint8).ctypes.data
            assert base <= address < base + len(data)
            borrowed += len(chunk)
        else:
            assert len(memoryview(chunk)) < 8  # padding
    assert borrowed == result.body_length
    assert result.frame()[0] == result.prefix


def test_buffers_stay_aligned_and_pieces_do_not_overlap() -> None:
    for compression in (None, "zstd"):
        data = stream_of(EVERYTHING, compression=compression)
        message = messages_of(data)[-1]
        columns = EVERYTHING.schema.names[::-2]
        plan = lowlevel.plan_projection(message.metadata, EVERYTHING.schema, columns)
        header = ipc.Message(
            memoryview(plan.prefix)[8:], memoryview(bytes(plan.body_length))
        ).record_batch()
        assert (header.buffers[:, 0] % 8 == 0).all()
        assert len(plan.prefix) % 8 == 0
        assert plan.body_length % 8 == 0
        ranges = sorted(chunk for chunk in plan.slices if isinstance(chunk, ByteRange))
        assert all(a.end <= b.start for a, b in itertools.pairwise(ranges))
        assert all(r.end <= message.body_length for r in ranges)
        assert (
            sum(len(p) if isinstance(p, bytes) else p.length for p in plan.slices)
            == plan.body_length
        )


def test_neighbouring_buffers_stay_one_piece() -> None:
    batch = pa.record_batch({f"c{i}": np.arange(100) for i in range(10)})
    message = messages_of(stream_of(batch))[1]
    plan = lowlevel.plan_projection(message.metadata, batch.schema, ["c2", "c7"])
    assert plan.slices == (ByteRange(1600, 2400), ByteRange(5600, 6400))


def test_the_prefix_may_come_along() -> None:
    message = messages_of(stream_of(numbers(3)))[1]
    bare = lowlevel.plan_projection(message.metadata, numbers(3).schema, ["name"])
    framed = lowlevel.plan_projection(
        message.prefix + bytes(message.metadata), numbers(3).schema, ["name"]
    )
    assert bare == framed
    with pytest.raises(MalformedFrameError, match="prefix"):
        lowlevel.plan_projection(b"\xff\xff\xff\xff\x00", numbers(3).schema, ["name"])
    with pytest.raises(MalformedFrameError, match="prefix"):
        lowlevel.plan_projection(b"\xff\xff\xff\xff\x10\0\0\0", numbers(3).schema, ["name"])


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
    constant = lowlevel.Constant(pa.field("pt", data_type), value)
    result = projected(stream_of(batches, compression=codec), ["name"], [constant])
    for each, batch in zip(result, batches, strict=True):
        each.validate(full=True)
        assert each.schema.names == ["name", "pt"]
        assert each["name"].equals(batch["name"])
        assert each["pt"].type == data_type
        assert each["pt"].to_pylist() == [value] * len(batch)


def test_constants_alone_and_as_arrays() -> None:
    array = pa.array(["a", "b", "c"])
    (result,) = projected(stream_of(numbers(3)), [], [(pa.field("x", pa.string()), array)])
    assert result.to_pydict() == {"x": ["a", "b", "c"]}
    with pytest.raises(UsageError, match="has 3 rows, the batch has 2"):
        projected(stream_of(numbers(2)), [], [(pa.field("x", pa.string()), array)])
    scalar = pa.scalar(3, pa.int8())
    (result,) = projected(
        stream_of(numbers(2)), [], [lowlevel.Constant(pa.field("x", pa.int64()), scalar)]
    )
    assert result.to_pydict() == {"x": [3, 3]}


def test_a_constant_is_not_repeated_for_rows_that_only_metadata_claims() -> None:
    # A column of nulls has no bytes, so a batch of any length costs its sender nothing.
    batch = pa.record_batch({"n": pa.nulls(1 << 30)})
    message = messages_of(stream_of(batch))[1]
    constant = lowlevel.Constant(pa.field("x", pa.string()), "some text")
    with pytest.raises(LimitExceededError, match="constant column"):
        lowlevel.plan_projection(message.metadata, batch.schema, None, [constant])


def test_constants_through_the_function() -> None:
    message = messages_of(stream_of(numbers(2)))[1]
    constant = lowlevel.Constant(pa.field("x", pa.int8()), 1)
    plan = lowlevel.plan_projection(message.metadata, numbers(2).schema, None, [constant])
    assert any(isinstance(chunk, bytes) for chunk in plan.slices)


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
        lowlevel.Projector(schema, columns)
    assert lowlevel.Projector(schema, [2, "a"]).columns == (2, 0)


def test_metadata_that_does_not_fit_is_refused() -> None:
    schema, message = messages_of(stream_of(numbers(3)))
    with pytest.raises(MalformedFrameError, match="only record batches"):
        lowlevel.plan_projection(schema.metadata, numbers(3).schema, ["id"])
    with pytest.raises(MalformedFrameError, match="field nodes"):
        lowlevel.plan_projection(message.metadata, EVERYTHING.schema, ["int64"])
    with pytest.raises(LimitExceededError):
        lowlevel.Projector(numbers(3).schema, ["id"], limits=ipc.Limits(max_rows=2)).plan(
            message.metadata
        )


def test_custom_metadata_of_the_message_is_kept() -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, numbers(1).schema) as writer:
        writer.write_batch(numbers(1), custom_metadata={"key": "value", "k": ""})
    message = messages_of(sink.getvalue())[1]
    plan = lowlevel.plan_projection(message.metadata, numbers(1).schema, ["id"])
    result = ipc.Message(memoryview(plan.prefix)[8:], memoryview(bytes(plan.body_length)))
    assert result.custom_metadata() == {b"key": b"value", b"k": b""}


def test_selection_points_into_the_old_body() -> None:
    message = messages_of(stream_of(EVERYTHING))[-1]
    projector = lowlevel.Projector(EVERYTHING.schema, PLAIN[::-3])
    metadata = projector.select(message.metadata)
    batch = lowlevel.BatchDecoder(projector.schema).decode(
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
    chunks = list(projected)
    assert chunks == projected.frame()
    assert len(projected) == len(chunks)
    stream = [lowlevel.encode_schema(batch.select(["b"]).schema), *chunks, lowlevel.END_OF_STREAM]
    assert ipc.read_single(b"".join(stream)).equals(batch.select(["b"]))


def test_schema_keys_that_occur_twice_are_kept() -> None:
    pairs = [(b"k", b"1"), (b"other", b"x"), (b"k", b"2")]
    schema = pa.schema(
        [pa.field("a", pa.int8()), pa.field("b", pa.string()), pa.field("c", pa.int8())],
        pa.KeyValueMetadata(pairs),
    )
    stream = stream_of(pa.record_batch([[1], ["x"], [2]], schema=schema))
    message = messages_of(stream)[0]
    assert list(schema_header(message).pairs) == pairs
    for source in (message, schema):
        for constants in ([], [lowlevel.Constant(pa.field("d", pa.int8()), 1)]):
            projector = lowlevel.Projector(source, ["c", "a"], constants)
            projected = next(ipc.messages(projector.schema_message))
            assert list(schema_header(projected).pairs) == pairs
            again = schema_header(next(ipc.messages(bytes(projector.schema.serialize()))))
            assert list(again.pairs) == pairs
    # They stay with the batches, dictionaries or not, and with big-endian streams.
    tagged = pa.record_batch(
        [pa.array(["x"]).dictionary_encode()],
        schema=pa.schema(
            [pa.field("t", pa.dictionary(pa.int32(), pa.string()))], pa.KeyValueMetadata(pairs)
        ),
    )
    for data in (stream_of(tagged), big_endian_stream(tagged)):
        (read,) = ipc.read_stream(data)
        header = schema_header(next(ipc.messages(bytes(read.schema.serialize()))))
        assert list(header.pairs) == pairs


def test_message_keys_that_occur_twice_are_kept() -> None:
    pairs = [(b"k", b"1"), (b"k", b"2")]
    sink = io.BytesIO()
    ipc.write_stream([(numbers(3), pairs)], sink)
    schema, message = messages_of(sink.getvalue())
    projected = lowlevel.Projector(schema, ["name"]).project(message)
    (again,) = ipc.messages(b"".join(map(bytes, projected)))
    assert list(again.header.key_values()) == pairs


# --- bytes that are near each other in the body -----------------------------------------------------------


def rebuilt(
    batch: pa.RecordBatch, order: list[int], *, gap: int = 0, padded: bool = True
) -> tuple[ipc.Message, ipc.Message]:
    """Schema and batch message whose buffers lie in the body in another order, or with gaps."""
    schema, message = messages_of(stream_of(batch))
    header = message.record_batch()
    buffers = header.buffers.copy()
    body = bytearray()
    for index in order:
        start, length = header.buffers[index].tolist()
        body += bytes(gap) + bytes(-(len(body) + gap) % 8)
        buffers[index, 0] = len(body)
        body += message.body[start : start + length]
    if padded:
        body += bytes(-len(body) % 8)
    metadata = encode_record_batch_metadata(header.length, header.nodes, buffers, len(body))
    return schema, ipc.Message(memoryview(metadata), memoryview(bytes(body)))


def read_projected(schema: ipc.Message, message: ipc.Message, columns: Any) -> pa.RecordBatch:
    projector = lowlevel.Projector(schema, columns)
    plan = projector.plan(message.metadata)
    frame = plan.frame(message.body)
    assert plan.length == sum(len(memoryview(chunk)) for chunk in frame)
    assert plan.body_length % 8 == 0
    end = lowlevel.END_OF_STREAM
    return ipc.read_single(b"".join([projector.schema_message, *map(bytes, frame), end]))


MIXED = pa.record_batch(
    {
        "a": pa.array([1, None, 3, 4, 5, 6, 7], pa.int8()),
        "secret": pa.array([b"password"[:7]] * 7, pa.binary(7)),
        "c": pa.array(["x", "yy", None, "zzz", "", "v", "w"]),
        "d": pa.array(range(7), pa.int64()),
    }
)
SUBSETS = [["a", "c"], ["c", "a"], ["a", "c", "d"], ["d", "c", "a"], ["a", "d"], None, []]


@folded("columns", SUBSETS)
@folded("gap", [0, 8, 56, 64, 200])
@folded("backwards", [False, True])
def test_buffers_in_any_order_project_to_equal_values(
    columns: Any, gap: int, backwards: bool
) -> None:
    count = len(messages_of(stream_of(MIXED))[1].record_batch().buffers)
    order = list(range(count))[:: -1 if backwards else 1]
    schema, message = rebuilt(MIXED, order, gap=gap)
    expected = MIXED if columns is None else MIXED.select(columns)
    assert read_projected(schema, message, columns).equals(expected)


@given(order=st.permutations(range(9)), columns=st.sampled_from(SUBSETS))
def test_every_order_of_buffers_projects(order: list[int], columns: Any) -> None:
    schema, message = rebuilt(MIXED, order)
    expected = MIXED if columns is None else MIXED.select(columns)
    assert read_projected(schema, message, columns).equals(expected)


@folded("columns", [["a", "c"], ["c", "a"], ["c"], ["a"], None])
@folded("length", range(1, 9))
def test_a_body_whose_end_is_not_padded(columns: Any, length: int) -> None:
    batch = pa.record_batch({"a": [1, 2], "c": ["x" * length, ""]})
    schema, message = rebuilt(batch, [0, 1, 2, 3, 4], padded=False)
    assert len(message.body) % 8 == length % 8
    expected = batch if columns is None else batch.select(columns)
    assert read_projected(schema, message, columns).equals(expected)
    # The ranges stay inside the body.
    plan = lowlevel.Projector(schema, columns).plan(message.metadata)
    ends = [chunk.end for chunk in plan.slices if isinstance(chunk, ByteRange)]
    assert max(ends) <= len(message.body)


@pytest.mark.parametrize("columns", [["a", "c"], ["c", "a"], ["a", "c", "d"]])
@pytest.mark.parametrize("gap", [0, 8, 40])
def test_bytes_of_columns_that_were_not_chosen_are_not_sent(columns: Any, gap: int) -> None:
    """A column of few bytes is no padding, however near its neighbours are."""
    schema, message = rebuilt(MIXED, list(range(9)), gap=gap)
    projector = lowlevel.Projector(schema, columns)
    sent = b"".join(map(bytes, projector.plan(message.metadata).frame(message.body)))
    assert b"passwor" not in sent
    assert b"passwor" in b"".join(map(bytes, lowlevel.Projector(schema).project(message)))


def test_neighbouring_columns_are_one_piece() -> None:
    schema, message = messages_of(stream_of(MIXED))
    plan = lowlevel.Projector(schema).plan(message.metadata)
    assert [type(chunk) for chunk in plan.slices] == [ByteRange]


_SOME_ROWS = st.lists(
    st.tuples(st.one_of(st.none(), st.integers(-3, 3)), st.text("ab", max_size=20)), max_size=6
)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(_SOME_ROWS, min_size=2, max_size=8),
    st.sampled_from([["a"], ["c", "a"], ["t"], ["t", "a"], []]),
    st.booleans(),
    st.booleans(),
)
def test_batches_one_after_the_other_are_planned_as_each_alone(
    batches: list[list[tuple[int | None, str]]], columns: list[str], prefixed: bool, constant: bool
) -> None:
    schema = pa.schema({"t": pa.string(), "a": pa.int64(), "u": pa.string(), "c": pa.int8()})
    constants = [lowlevel.Constant(pa.field("p", pa.int32()), pa.scalar(7, pa.int32()))]
    kept = lowlevel.Projector(schema, columns, constants if constant else ())
    for rows in batches:
        numbers_, texts = [row[0] for row in rows], [row[1] for row in rows]
        batch = pa.record_batch([texts, numbers_, texts, numbers_], schema=schema)
        _, message, *_ = messages_of(stream_of(batch))
        prefix = b"\xff\xff\xff\xff" + len(message.metadata).to_bytes(4, "little")
        metadata = (prefix if prefixed else b"") + bytes(message.metadata)
        alone = lowlevel.Projector(schema, columns, constants if constant else ()).plan(metadata)
        assert kept.plan(metadata) == alone


def texts_and_numbers(texts: list[str]) -> ipc.Message:
    batch = pa.record_batch({"a": range(len(texts)), "t": texts})
    return messages_of(stream_of(batch))[1]


def test_numbers_are_planned_once_whatever_the_texts_beside_them_are() -> None:
    projector = lowlevel.Projector(pa.schema({"a": pa.int64(), "t": pa.string()}), ["a"])
    short, long = texts_and_numbers(["x", "y"]), texts_and_numbers(["x" * 100, "y" * 1000])
    assert bytes(short.metadata) != bytes(long.metadata)
    assert projector.plan(short.metadata) is projector.plan(long.metadata)
    assert projector.plan(short.metadata) is not projector.plan(texts_and_numbers(["x"]).metadata)


def test_a_body_that_is_too_short_is_no_repetition() -> None:
    projector = lowlevel.Projector(pa.schema({"a": pa.int64(), "t": pa.string()}), ["a"])
    message = texts_and_numbers(["x", "y"])
    projector.plan(message.metadata)
    metadata = bytearray(message.metadata)
    at = message.header.message.int64_position(3)
    metadata[at : at + 8] = (8).to_bytes(8, "little")
    with pytest.raises(MalformedFrameError):
        projector.plan(metadata)
