from __future__ import annotations

import importlib.util
import io
import pickle
import subprocess
import sys
from typing import Any

import pyarrow as pa
import pytest

import fletching
from fletching.protocol.types import blob_type
from fletching.protocol.types.blob_type import (
    BLOB_EXTENSION_NAME,
    BlobType,
    blob,
    contains_blob,
    is_blob,
    storage_type,
)


def stream_of(schema: Any, *columns: Any) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        if columns:
            writer.write_batch(pa.record_batch(list(columns), schema=schema))
    return sink.getvalue()


def test_a_stream_keeps_the_type_and_the_values() -> None:
    values = pa.ExtensionArray.from_storage(blob(), pa.array([b"cmVm", None], pa.binary()))
    schema = pa.schema([pa.field("image", blob()), pa.field("n", pa.list_(blob()))])
    nested = pa.array([[b"a", b"b"], None], pa.list_(pa.binary())).cast(pa.list_(blob()))
    table = pa.ipc.open_stream(stream_of(schema, values, nested)).read_all()
    assert isinstance(table.schema.field("image").type, BlobType)
    assert table["image"].to_pylist() == [b"cmVm", None]
    assert contains_blob(table.schema.field("n").type)


def test_all_instances_are_equal_and_pickle() -> None:
    assert blob() == BlobType()
    assert len({blob(), BlobType()}) == 1
    assert pickle.loads(pickle.dumps(blob())) == blob()
    assert blob().storage_type == pa.binary()
    assert fletching.blob() == blob()


def test_a_second_import_under_another_name_is_harmless() -> None:
    spec = importlib.util.spec_from_file_location("again", blob_type.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert is_blob(module.blob())


def test_another_storage_is_refused() -> None:
    metadata = {"ARROW:extension:name": BLOB_EXTENSION_NAME, "ARROW:extension:metadata": ""}
    schema = pa.schema([pa.field("x", pa.utf8(), metadata=metadata)])
    with pytest.raises(pa.ArrowInvalid, match="binary"):
        pa.ipc.open_stream(stream_of(schema))


def test_a_process_without_the_type_reads_plain_binary() -> None:
    values = pa.ExtensionArray.from_storage(blob(), pa.array([b"cmVm"], pa.binary()))
    stream = stream_of(pa.schema([pa.field("x", blob())]), values)
    code = (
        "import sys, pyarrow as pa; t = pa.ipc.open_stream(sys.stdin.buffer.read()).read_all();"
        "assert t.schema.field('x').type == pa.binary(), t.schema; print(t['x'].to_pylist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, input=stream, capture_output=True
    )
    assert done.stdout.strip() == b"[b'cmVm']", done.stderr


@pytest.mark.parametrize(
    ("data_type", "expected"),
    [
        (pa.binary(), False),
        (pa.list_(pa.int64()), False),
        (blob(), True),
        (pa.list_(blob()), True),
        (pa.large_list(blob()), True),
        (pa.struct([("a", pa.int8()), ("b", pa.list_(blob()))]), True),
        (pa.map_(pa.string(), blob()), True),
        (pa.map_(pa.string(), pa.string()), False),
        (pa.dictionary(pa.int32(), pa.string()), False),
        (pa.json_(), False),
    ],
    ids=str,
)
def test_blobs_are_found_at_any_depth(data_type: Any, expected: bool) -> None:
    assert contains_blob(data_type) is expected


@pytest.mark.parametrize(
    ("data_type", "expected"),
    [
        (pa.int8(), pa.int8()),
        (blob(), pa.binary()),
        (pa.list_(pa.field("e", blob(), nullable=False)), None),
        (pa.large_list(blob()), pa.large_list(pa.binary())),
        (pa.list_(blob(), 2), pa.list_(pa.binary(), 2)),
        (pa.map_(pa.string(), pa.list_(blob())), pa.map_(pa.string(), pa.list_(pa.binary()))),
        (
            pa.struct([("a", pa.int8()), ("b", blob())]),
            pa.struct([("a", pa.int8()), ("b", pa.binary())]),
        ),
    ],
    ids=str,
)
def test_storage_types(data_type: Any, expected: Any) -> None:
    if expected is None:
        expected = pa.list_(pa.field("e", pa.binary(), nullable=False))
    assert storage_type(data_type) == expected
    assert not contains_blob(storage_type(data_type))


def test_what_blobs_cannot_stand_in_is_refused() -> None:
    with pytest.raises(pa.ArrowInvalid):
        storage_type(pa.run_end_encoded(pa.int32(), blob()))
