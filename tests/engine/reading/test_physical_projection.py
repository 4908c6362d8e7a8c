"""How a reply's columns lie in segments of each schema: found by their ids, sent as they are where they may be."""

from __future__ import annotations

import pyarrow as pa
import pytest

from fletching.engine.reading.output_schema import TableColumns, output_columns
from fletching.engine.reading.physical_projection import PhysicalProjection
from fletching.ipc import messages
from fletching.protocol.messages.requests import ArrowOptions

AS_STORED = ArrowOptions(timestamp_unit=None, datetime_unit=None)
A, B, C = pa.field("a", pa.int32()), pa.field("b", pa.string()), pa.field("c", pa.int8())
# Version 2 dropped b and gave its name to another column, version 3 widened a.
VERSIONS = {
    1: TableColumns(pa.schema([A, B]), (("pt", "string"),), ((1,), (2,), (9,))),
    2: TableColumns(pa.schema([A, C.with_name("b")]), (("pt", "string"),), ((1,), (3,), (9,))),
    3: TableColumns(
        pa.schema([A.with_type(pa.int64()), C.with_name("b")]),
        (("pt", "string"),),
        ((1,), (3,), (9,)),
    ),
}


def projection(version: int, *indices: int) -> PhysicalProjection:
    table = VERSIONS[version]
    outputs = output_columns(table, indices, AS_STORED, verbatim_types=True)
    known = {number: columns for number, columns in VERSIONS.items() if number <= version}
    return PhysicalProjection(table, outputs, known)


@pytest.mark.parametrize(
    ("version", "indices", "segment", "source", "flags"),
    [
        # flags: whole, converts, appendable, same, selected
        (1, (0, 1), 1, (0, 1), (True, False, True, True, True)),
        (1, (0,), 1, (0,), (False, False, True, False, True)),
        (1, (1, 0), 1, (1, 0), (False, False, True, False, True)),
        (1, (0, 2), 1, (0, None), (False, False, True, False, False)),
        (1, (2, 0), 1, (None, 0), (False, False, False, False, False)),
        (2, (0, 1), 2, (0, 1), (True, False, True, True, True)),
        (2, (0, 1), 1, (0, None), (False, False, True, False, False)),
        (3, (0, 1), 2, (0, 1), (False, True, True, False, False)),
        (3, (1,), 2, (1,), (False, False, True, False, True)),
    ],
)
def test_columns_are_matched_by_their_ids(
    version: int,
    indices: tuple[int, ...],
    segment: int,
    source: tuple[int | None, ...],
    flags: tuple[bool, ...],
) -> None:
    made = projection(version, *indices)
    result = made.stored(segment)
    assert result is made.stored(segment)
    assert result.source == source
    assert (result.whole, result.converts, result.appendable, result.same, result.selected) == flags


def test_a_segment_with_a_dropped_column_is_not_handed_out_whole() -> None:
    assert projection(1, 0).keeps_columns(1)
    assert not projection(2, 0).keeps_columns(1)
    assert projection(3, 0).keeps_columns(2)


def test_some_columns_are_decoded_alone() -> None:
    stored = projection(1, 0, 1).stored(1)
    batch = pa.record_batch([pa.array([1, 2], pa.int32()), pa.array(["x", None])], stored.schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, stored.schema) as writer:
        writer.write_batch(batch)
    message = list(messages(sink.getvalue()))[1]
    decoder = stored.projected((1,))
    assert decoder is stored.projected((1,))
    assert decoder.decode(message).equals(batch.select([1]))


@pytest.mark.parametrize(
    ("kind", "has"),
    [
        (pa.int8(), False),
        (pa.list_(pa.string()), False),
        (pa.dictionary(pa.int8(), pa.string()), True),
        (pa.list_(pa.dictionary(pa.int8(), pa.string())), True),
        (pa.struct([("a", pa.int8()), ("b", pa.dictionary(pa.int8(), pa.string()))]), True),
        (pa.map_(pa.string(), pa.dictionary(pa.int8(), pa.string())), True),
        (pa.uuid(), False),
    ],
)
def test_dictionaries_are_found_at_any_depth(kind: pa.DataType, has: bool) -> None:
    data = pa.schema([("x", kind)])
    table = TableColumns(data, (), ((1,),))
    outputs = output_columns(table, [0], AS_STORED, verbatim_types=True)
    made = PhysicalProjection(table, outputs, {1: table})
    assert made.has_dictionaries is has
    assert len(made.dictionary_ids_of(made.stored(1))) == int(has)
    assert pa.ipc.read_schema(pa.py_buffer(made.schema_message)) == data
