from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.ipc.conftest import EVERYTHING, messages_of, numbers, stream_of

from fletching import ipc
from fletching.errors import UsageError
from fletching.ipc.encoding import BatchEncoder, encode_batch, encode_schema

LEGACY = pa.ipc.IpcWriteOptions(use_legacy_format=True)
V4 = pa.ipc.IpcWriteOptions(metadata_version=pa.ipc.MetadataVersion.V4)


def tagged(values: list[str], index: int = 0) -> pa.RecordBatch:
    return pa.record_batch(
        {"t": pa.DictionaryArray.from_arrays(pa.array([index], pa.int8()), values)}
    )


def joined(encoder: BatchEncoder, encoded: list[list[list[Any]]]) -> bytes:
    chunks = [bytes(chunk) for messages in encoded for message in messages for chunk in message]
    return b"".join([encoder.schema_message, *chunks, encoder.end_of_stream])


# --- options -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        LEGACY,
        V4,
        pa.ipc.IpcWriteOptions(use_legacy_format=True, metadata_version=pa.ipc.MetadataVersion.V4),
        pa.ipc.IpcWriteOptions(compression="zstd", use_legacy_format=True),
        pa.ipc.IpcWriteOptions(compression="lz4"),
        pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True),
    ],
)
def test_every_option_gives_a_stream_as_pyarrow_writes_it(options: pa.ipc.IpcWriteOptions) -> None:
    batches = [EVERYTHING, EVERYTHING]
    sink = io.BytesIO()
    assert ipc.write_stream(batches, sink, options=options) == len(sink.getvalue())
    theirs = io.BytesIO()
    with pa.ipc.new_stream(theirs, EVERYTHING.schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    assert sink.getvalue() == theirs.getvalue()
    assert list(ipc.read_stream(sink.getvalue())) == batches
    file = io.BytesIO()
    with ipc.FileWriter(file, EVERYTHING.schema, options=options) as writer:
        for batch in batches:
            writer.write(batch)
    assert list(ipc.open_file(file.getvalue())) == batches
    opened = pa.ipc.open_file(file.getvalue())
    assert [opened.get_batch(index) for index in range(2)] == batches


def test_options_and_compression_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="not both"):
        BatchEncoder(numbers(0).schema, compression="lz4", options=V4)
    with pytest.raises(UsageError, match="no such compression"):
        BatchEncoder(numbers(0).schema, compression="rot13")


# --- what cannot be written ------------------------------------------------------------------------------

UUIDS = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(16)] * 2, pa.binary(16)))
INNER = pa.array(["p", "q"]).dictionary_encode()


def dictionary(values: pa.Array) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int8()), values)


UNWRITABLE = {
    "dictionary": dictionary(INNER),
    "extension": dictionary(UUIDS),
    "below a list": pa.ListArray.from_arrays([0, 1, 2], dictionary(UUIDS)),
    "below a struct": pa.StructArray.from_arrays([dictionary(INNER)], ["d"]),
    "below a dictionary": dictionary(pa.StructArray.from_arrays([dictionary(INNER)], ["d"])),
    "below a run": pa.RunEndEncodedArray.from_arrays(
        pa.array([1, 2], pa.int32()), dictionary(UUIDS)
    ),
}


@pytest.mark.parametrize("name", UNWRITABLE)
def test_types_that_could_not_be_read_are_refused_before_anything_is_written(name: str) -> None:
    batch = pa.record_batch({"x": UNWRITABLE[name]})
    sink = io.BytesIO()
    for write in (
        lambda: ipc.write_stream(batch, sink),
        lambda: ipc.FileWriter(sink, batch.schema),
        lambda: encode_schema(batch.schema),
        lambda: encode_batch(batch),
    ):
        with pytest.raises(UsageError, match="'x' cannot be written"):
            write()
    assert sink.getvalue() == b""


@pytest.mark.parametrize(
    "array",
    [
        dictionary(pa.StructArray.from_arrays([UUIDS], ["u"])),
        dictionary(pa.StructArray.from_arrays([INNER], ["d"])),
        dictionary(pa.RunEndEncodedArray.from_arrays(pa.array([1, 2], pa.int32()), [1, 2])),
        pa.ListArray.from_arrays([0, 1, 2], UUIDS),
    ],
)
def test_types_beside_them_are_written(array: pa.Array) -> None:
    batch = pa.record_batch({"x": array})
    sink = io.BytesIO()
    ipc.write_stream(batch, sink)
    (read,) = ipc.read_stream(sink.getvalue())
    assert read.schema.equals(batch.schema, check_metadata=True)
    assert read.equals(batch)


# --- after a batch that was refused ------------------------------------------------------------------------


def test_a_refused_batch_leaves_no_pieces_behind() -> None:
    encoder = BatchEncoder(tagged(["a"]).schema)
    first = encoder.encode(tagged(["a"]))
    with pytest.raises(UsageError, match="cannot be encoded"):
        encoder.encode(numbers(3))
    second = encoder.encode(tagged(["a"]))
    assert [len(first), len(second)] == [2, 1]
    data = joined(encoder, [first, second])
    assert list(ipc.read_stream(data)) == [tagged(["a"])] * 2


def test_what_is_undone_is_encoded_again() -> None:
    encoder = BatchEncoder(tagged(["a"]).schema)
    first = encoder.encode(tagged(["a"]))
    encoder.encode(tagged(["z"]))
    encoder.undo()
    same, other = encoder.encode(tagged(["a"])), encoder.encode(tagged(["z"]))
    assert [len(first), len(same), len(other)] == [2, 1, 2]
    data = joined(encoder, [first, same, other])
    assert [b["t"].to_pylist() for b in ipc.read_stream(data)] == [["a"], ["a"], ["z"]]
    encoder = BatchEncoder(tagged(["a"]).schema)
    encoder.encode(tagged(["z"]))
    encoder.undo()
    assert len(encoder.encode(tagged(["z"]))) == 2


# --- custom metadata -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_batches_carry_custom_metadata(compression: str | None) -> None:
    pairs = {b"k": b"v", b"": b"\xff"}
    batches = [(numbers(3), pairs), numbers(2), (numbers(1), None)]
    sink = io.BytesIO()
    ipc.write_stream(batches, sink, compression=compression)
    _, *rest = messages_of(sink.getvalue())
    assert [m.custom_metadata() for m in rest] == [pairs, {}, {}]
    reader = pa.ipc.open_stream(sink.getvalue())
    read = list(reader.iter_batches_with_custom_metadata())
    assert [dict(b.custom_metadata or {}) for b in read] == [pairs, {}, {}]
    # What pyarrow reads with metadata can be handed on.
    again = io.BytesIO()
    ipc.write_stream([(b.batch, b.custom_metadata) for b in read], again, compression=compression)
    assert again.getvalue() == sink.getvalue()


def test_keys_that_occur_twice_are_kept() -> None:
    sink = io.BytesIO()
    ipc.write_stream([(numbers(1), [(b"k", b"1"), (b"k", b"2")])], sink)
    header = messages_of(sink.getvalue())[1].header
    assert header.key_values() == ((b"k", b"1"), (b"k", b"2"))
    assert header.custom_metadata() == {b"k": b"2"}


# --- many small columns --------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [1, 15, 16, 300])
@pytest.mark.parametrize("rows", [0, 1, 100, 10_000])
def test_copied_or_not_the_bytes_are_the_same(columns: int, rows: int) -> None:
    batch = pa.record_batch({f"c{i}": np.arange(rows) for i in range(columns)})
    sink = io.BytesIO()
    ipc.write_stream([batch, batch], sink)
    assert sink.getvalue() == stream_of([batch, batch])


def test_a_batch_of_another_schema_is_refused_on_both_ways() -> None:
    for columns in (2, 40):
        batch = pa.record_batch({f"c{i}": [1] for i in range(columns)})
        encoder = BatchEncoder(batch.schema)
        with pytest.raises(UsageError, match="cannot be encoded"):
            encoder.encode(batch.rename_columns([f"d{i}" for i in range(columns)]))
        assert len(encoder.encode(batch)) == 1
