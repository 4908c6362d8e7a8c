"""Arrays of every type, streams made of them, and the golden files of arrow-testing."""

from __future__ import annotations

import decimal
import io
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fletching import ipc
from fletching.ipc import lowlevel
from fletching.ipc.encoding import as_big_endian
from fletching.ipc.layout import BatchLayout, BufferKind, _depth_first

ROOT = Path(__file__).parent.parent.parent
ARROW_TEST_DATA = Path(os.environ.get("ARROW_TEST_DATA", ROOT.parent / "shared" / "arrow-testing"))
GOLDEN = sorted((ARROW_TEST_DATA / "integration").glob("*/generated_*"))
GOLDEN_STREAMS = [path for path in GOLDEN if path.suffix == ".stream"]
GOLDEN_FILES = [path for path in GOLDEN if path.suffix == ".arrow_file"]
FUZZED = sorted((ARROW_TEST_DATA / "fuzz-stream").glob("*")) + sorted(
    (ARROW_TEST_DATA / "fuzz-file").glob("*")
)

# The oracle for hostile bytes is shared with the fuzz targets.
sys.path.append(str(ROOT / "fuzz"))

needs_golden = pytest.mark.skipif(
    not GOLDEN, reason=f"no arrow-testing data at {ARROW_TEST_DATA} (set ARROW_TEST_DATA)"
)


def golden_id(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _numbers(data_type: pa.DataType) -> pa.Array:
    return pa.array([1, None, 3, 4, 5], data_type)


_TEXTS = ["a", None, "", "longer than twelve bytes, so in a data buffer", "é"]
_LISTS = [[1, 2], None, [], [3, None], [4]]


def _unions() -> dict[str, pa.Array]:
    ids = pa.array([0, 1, 0, 1, 0], pa.int8())
    numbers, texts = pa.array([1, 2, 3, 4, 5]), pa.array(["a", "b", "c", "d", "e"])
    offsets = pa.array([0, 0, 1, 1, 2], pa.int32())
    return {
        "sparse_union": pa.UnionArray.from_sparse(ids, [numbers, texts]),
        "dense_union": pa.UnionArray.from_dense(ids, offsets, [numbers[:3], texts[:2]]),
    }


def all_arrays() -> dict[str, pa.Array]:
    """Five rows of every type that pyarrow can make."""
    list_values = pa.array([1, 2, 3, None, 4], pa.int16())
    tag = pa.array(["x", "y", None, "x", "y"]).dictionary_encode()
    return {
        "null": pa.nulls(5),
        "bool": pa.array([True, None, False, True, False]),
        **{
            str(data_type): _numbers(data_type)
            for data_type in (
                pa.int8(),
                pa.int16(),
                pa.int32(),
                pa.int64(),
                pa.uint8(),
                pa.uint64(),
                pa.float32(),
                pa.float64(),
                pa.date32(),
                pa.timestamp("us"),
                pa.timestamp("ns", "Asia/Shanghai"),
                pa.time32("s"),
                pa.time64("us"),
                pa.duration("ms"),
            )
        },
        "float16": pa.array([np.float16(1), None, np.float16(3), np.float16(0), np.float16(2)]),
        "date64": pa.array([0, None, 86_400_000, 0, 0], pa.int64()).view(pa.date64()),
        "decimal128": pa.array([decimal.Decimal("1.5"), None, None, decimal.Decimal("-2.5"), None]),
        "decimal256": pa.array([decimal.Decimal("1.5")] * 5, pa.decimal256(40, 2)),
        "decimal32": pa.array([decimal.Decimal("1.5"), None] * 2 + [None], pa.decimal32(5, 2)),
        "decimal64": pa.array([decimal.Decimal("-1.5"), None] * 2 + [None], pa.decimal64(15, 2)),
        "month_day_nano": pa.array(
            [(1, 2, 3), None, (4, 5, 6), None, (0, 0, 0)], pa.month_day_nano_interval()
        ),
        "fixed_binary": pa.array([b"abc", None, b"def", b"ghi", b"jkl"], pa.binary(3)),
        **{
            str(data_type): pa.array(_TEXTS, data_type)
            for data_type in (pa.string(), pa.large_string(), pa.string_view())
        },
        **{
            str(data_type): pa.array([t and t.encode() for t in _TEXTS], data_type)
            for data_type in (pa.binary(), pa.large_binary(), pa.binary_view())
        },
        "list": pa.array(_LISTS, pa.list_(pa.int32())),
        "large_list": pa.array(_LISTS, pa.large_list(pa.int32())),
        "fixed_list": pa.array([[1, 2], None, [3, 4], [5, 6], [7, 8]], pa.list_(pa.int8(), 2)),
        "list_view": pa.array(_LISTS, pa.list_view(pa.int32())),
        "large_list_view": pa.array(_LISTS, pa.large_list_view(pa.int32())),
        "list_of_views": pa.array([["a"], None, [], _TEXTS, ["b"]], pa.list_(pa.string_view())),
        "map": pa.array(
            [[("k", 1)], None, [], [("a", None)], [("b", 2)]], pa.map_(pa.string(), pa.int32())
        ),
        "struct": pa.array(
            [
                {"a": 1, "b": "x"},
                None,
                {"a": None, "b": "y"},
                {"a": 2, "b": None},
                {"a": 3, "b": ""},
            ]
        ),
        "empty_struct": pa.array([{}, {}, {}, {}, {}], pa.struct([])),
        **_unions(),
        "dictionary": tag,
        "list_of_dictionary": pa.ListArray.from_arrays([0, 1, 1, 3, 4, 5], tag),
        "struct_of_dictionary": pa.StructArray.from_arrays([tag, list_values], ["tag", "n"]),
        "map_of_dictionary": pa.MapArray.from_arrays(
            [0, 1, 2, 3, 4, 5], pa.array(list("abcde")), tag
        ),
        "fixed_list_of_dictionary": pa.FixedSizeListArray.from_arrays(
            pa.array(["x", "y"] * 5).dictionary_encode(), 2
        ),
        "dictionary_of_struct": pa.DictionaryArray.from_arrays(
            pa.array([0, 1, None, 1, 0], pa.int8()), pa.array([{"a": 1}, {"a": 2}])
        ),
        "dictionary_of_dictionary": pa.DictionaryArray.from_arrays(
            pa.array([0, 1, 1, 1, 0], pa.int8()),
            pa.StructArray.from_arrays([pa.array(["p", "q"]).dictionary_encode()], ["inner"]),
        ),
        "sparse_union_of_dictionary": pa.UnionArray.from_sparse(
            pa.array([0, 0, 0, 0, 0], pa.int8()), [tag]
        ),
        "run_end_encoded": pa.RunEndEncodedArray.from_arrays(
            pa.array([2, 3, 5], pa.int32()), pa.array(["r", None, "s"])
        ),
        "run_end_encoded_dictionary": pa.RunEndEncodedArray.from_arrays(
            pa.array([2, 5], pa.int16()), pa.array(["r", "s"]).dictionary_encode()
        ),
        "uuid": pa.ExtensionArray.from_storage(
            pa.uuid(), pa.array([bytes([i]) * 16 for i in range(5)], pa.binary(16))
        ),
        "json_dictionary": pa.array(["1"] * 5, pa.json_()),
    }


ARRAYS = all_arrays()
EVERYTHING = pa.record_batch(list(ARRAYS.values()), names=list(ARRAYS))


def stream_of(batches: Iterable[pa.RecordBatch] | pa.RecordBatch, **options: Any) -> bytes:
    """The stream as pyarrow writes it."""
    if isinstance(batches, pa.RecordBatch):
        batches = [batches]
    batches = list(batches)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(
        sink, batches[0].schema, options=pa.ipc.IpcWriteOptions(**options)
    ) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return bytes(sink.getvalue())


def file_of(batches: Iterable[pa.RecordBatch], schema: pa.Schema, **options: Any) -> bytes:
    """The file as pyarrow writes it."""
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue()


# Widths in bytes of the integers that a value is made of, where that is not its whole width.
_FIELDS = {
    "month_day_nano_interval": [4, 4, 8],
    "fixed_size_binary[3]": [1],
    "bool": [1],
    "extension<arrow.uuid>": [1],
}


def big_endian_stream(batch: pa.RecordBatch) -> bytes:
    """The batch as a big-endian machine writes it; for types without views and run ends."""
    schema, *rest = messages_of(stream_of(batch))
    decoder = lowlevel.BatchDecoder(schema)
    sink = io.BytesIO(as_big_endian(schema.prefix + bytes(schema.metadata)))
    sink.seek(0, io.SEEK_END)
    for message in rest:
        columns = batch.schema.types
        if message.type is lowlevel.MessageType.DICTIONARY_BATCH:
            columns = [decoder.value_type(message.dictionary_batch().id)]
        sink.write(message.prefix + bytes(message.metadata) + _swapped(message, columns))
    return sink.getvalue() + lowlevel.END_OF_STREAM


def _swapped(message: ipc.Message, columns: list[pa.DataType]) -> bytes:
    body = bytearray(message.body)
    layout = BatchLayout(columns)
    types = [t for column in columns for t in _depth_first(column)]
    for index, (start, length) in enumerate(message.record_batch().buffers.tolist()):
        kind, bits = layout._kinds[index], int(layout._bits[index])
        if kind in (BufferKind.VALIDITY, BufferKind.TEXT, BufferKind.TYPE_IDS):
            continue
        name = str(types[int(layout._node_of[index])]) if kind == BufferKind.DATA else ""
        widths = _FIELDS.get(name, [max(1, bits // 8)])
        position = start
        while position < start + length:
            for width in widths:
                body[position : position + width] = body[position : position + width][::-1]
                position += width
    return bytes(body)


def messages_of(data: Any, **options: Any) -> list[ipc.Message]:
    return list(ipc.messages(data, **options))


def numbers(rows: int, start: int = 0) -> pa.RecordBatch:
    """Two columns of ``rows`` rows that tell themselves apart from any other rows."""
    ids = np.arange(start, start + rows)
    return pa.record_batch(
        {"id": ids, "name": pa.array([f"row {i}" for i in ids.tolist()], pa.string())}
    )


def addresses(array: pa.Array) -> list[tuple[int, int]]:
    """Where all of an array's buffers lie: address and size, those of children too."""
    result = [(b.address, b.size) for b in array.buffers() if b is not None and b.size]
    if pa.types.is_dictionary(array.type):
        result += addresses(array.dictionary)
    return result


def lies_inside(array: pa.Array, data: Any) -> bool:
    """Whether each buffer of an array lies inside the memory of ``data``."""
    base = np.frombuffer(data, np.uint8).ctypes.data
    end = base + memoryview(data).nbytes
    return all(base <= address and address + size <= end for address, size in addresses(array))
