"""Dictionaries: every segment's own, under the reply's ids."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import pyarrow as pa
import pytest

from fletching import ipc
from fletching.engine.reading.read_plan import Computed
from fletching.ipc import lowlevel
from fletching.ipc.renumbering import renumbered

SCHEMA = pa.schema(
    [
        ("a", pa.dictionary(pa.int8(), pa.string())),
        ("n", pa.int64()),
        ("b", pa.dictionary(pa.int16(), pa.string())),
    ]
)


def batch(prefix: str, rows: int = 9) -> pa.RecordBatch:
    return pa.record_batch(
        [
            pa.array([f"{prefix}{n % 3}" for n in range(rows)])
            .dictionary_encode()
            .cast(SCHEMA[0].type),
            pa.array(range(rows), pa.int64()),
            pa.array([f"{prefix}b{n % 2}" for n in range(rows)])
            .dictionary_encode()
            .cast(SCHEMA[2].type),
        ],
        schema=SCHEMA,
    )


def foreign_stream(batches: list[pa.RecordBatch], ids: list[int]) -> bytes:
    """A stream whose writer numbered its dictionaries otherwise."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    pieces: list[bytes] = [lowlevel.encode_schema(batches[0].schema, dictionary_ids=ids)]
    for message in itertools.islice(ipc.messages(sink.getvalue()), 1, None):
        framed = b"".join(bytes(piece) for piece in message.frame())
        if message.type is lowlevel.MessageType.DICTIONARY_BATCH:
            new = renumbered(
                memoryview(framed)[: message.metadata_length], ids[message.dictionary_batch().id]
            )
            framed = new + framed[message.metadata_length :]
        pieces.append(framed)
    stream = b"".join(pieces) + lowlevel.END_OF_STREAM
    with pa.ipc.open_stream(stream) as reader:  # an independent reader takes it for what it was
        assert reader.read_all().to_pylist() == pa.Table.from_batches(batches).to_pylist()
    return stream


def expected(*batches: pa.RecordBatch) -> list[Any]:
    return [row for batch in batches for row in batch.to_pylist()]


def test_each_segment_brings_its_dictionaries_unchanged(shelf: Any) -> None:
    shelf.create(SCHEMA)
    first, second = batch("x"), batch("y")
    shelf.add(first)
    shelf.add([second, second.slice(2, 3)])
    assert shelf.read().to_pylist() == expected(first, second, second.slice(2, 3))
    assert not any(isinstance(piece, Computed) for piece in shelf.plan(shelf.session()).pieces)


@pytest.mark.parametrize("ids", [[1, 0], [5, 7], [0, 3]])
def test_ids_of_other_writers_are_rewritten(shelf: Any, ids: list[int]) -> None:
    shelf.create(SCHEMA)
    first, second = batch("x"), batch("y")
    shelf.add([], stream=foreign_stream([first], ids))
    shelf.add(second)
    session = shelf.session()
    assert shelf.read(session).to_pylist() == expected(first, second)
    alone = shelf.read(session, data_columns=("b",))
    assert alone.to_pylist() == [{"b": row["b"]} for row in expected(first, second)]
    assert shelf.read(session, max_batch_rows=4).to_pylist() == expected(first, second)


def test_the_tables_own_schema_message_decides_nothing_but_the_numbering(shelf: Any) -> None:
    shelf.create(SCHEMA, schema_message=lowlevel.encode_schema(SCHEMA, dictionary_ids=[9, 4]))
    stored = batch("x")
    shelf.add([], stream=foreign_stream([stored], [9, 4]))
    assert shelf.read().to_pylist() == expected(stored)


def test_a_range_in_the_middle_gets_the_dictionaries_it_needs(shelf: Any) -> None:
    shelf.create(SCHEMA)
    whole = batch("x", 12)
    shelf.add([whole.slice(0, 4), whole.slice(4, 4), whole.slice(8, 4)])
    session = shelf.session()
    assert shelf.read(session, offset=5, count=5).to_pylist() == expected(whole)[5:10]
    assert shelf.read(session, offset=8).to_pylist() == expected(whole)[8:]


def delta_stream(schema: pa.Schema) -> bytes:
    """Two values, then a third as a delta: p q | r p q | r p q."""
    short = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int8()), ["p", "q"])
    longer = pa.DictionaryArray.from_arrays(pa.array([2, 0, 1], pa.int8()), ["p", "q", "r"])
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    with pa.ipc.new_stream(sink, schema, options=options) as writer:
        for column in (short, longer, longer):
            writer.write_batch(pa.record_batch([column], schema=schema))
    return bytes(sink.getvalue().to_pybytes())


def test_deltas_are_sent_once_and_before_their_batches(shelf: Any) -> None:
    schema = pa.schema([("a", pa.dictionary(pa.int8(), pa.string()))])
    shelf.create(schema)
    shelf.add([], stream=delta_stream(schema))
    values = ["p", "q", "r", "p", "q", "r", "p", "q"]
    session = shelf.session()
    assert shelf.read(session).column("a").to_pylist() == values
    for request in ({"offset": 1, "count": 5}, {"max_batch_rows": 2}, {"offset": 2, "count": 3}):
        start = request.get("offset", 0)
        rows = shelf.read(session, **request).column("a").to_pylist()
        assert rows == values[start : start + request.get("count", 99)]


def test_unread_dictionaries_are_left_out(shelf: Any) -> None:
    shelf.create(SCHEMA)
    shelf.add(batch("x"))
    sent = b"".join(map(bytes, shelf.plan(shelf.session(), data_columns=("n",)).buffers()))
    kinds = [message.type for message in ipc.messages(sent)]
    assert lowlevel.MessageType.DICTIONARY_BATCH not in kinds


@pytest.mark.parametrize("kept", [["a", "n", "b", "late"], ["late", "n"], ["n", "late", "b"]])
def test_columns_that_were_added_later_have_empty_dictionaries(shelf: Any, kept: list[str]) -> None:
    shelf.create(SCHEMA)
    first = batch("x")
    shelf.add(first)
    late = pa.dictionary(pa.int8(), pa.list_(pa.dictionary(pa.int8(), pa.string())))
    shelf.add_columns(pa.field("late", late))
    inner = pa.array(["u", "v"]).dictionary_encode().cast(late.value_type.value_type)
    values = pa.ListArray.from_arrays([0, 2], inner)
    codes = pa.array([0], pa.int8())
    second = pa.record_batch(
        [*batch("y", 1).columns, pa.DictionaryArray.from_arrays(codes, values)], shelf.schema
    )
    shelf.add(second)
    session = shelf.session(verbatim_types=True)
    rows = [{**row, "late": None} for row in first.to_pylist()] + second.to_pylist()
    wanted = [{name: row[name] for name in kept} for row in rows]
    read = functools.partial(
        shelf.read, session, data_columns=tuple(kept), data_columns_unordered=True
    )
    assert read().to_pylist() == wanted
    assert read(offset=2, count=6).to_pylist() == wanted[2:8]
    assert read(offset=9, count=1).to_pylist() == wanted[9:]
