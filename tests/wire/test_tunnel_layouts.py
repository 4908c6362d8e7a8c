"""How columns of a record stream are laid out: tags, varints, and what a null takes."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.folding import folded

from fletching.errors import UsageError
from fletching.wire.tunnel_layouts import (
    END_OF_ROW,
    MOMENT_TYPE,
    ROW_COUNT,
    STREAM_CHECKSUM,
    Kind,
    RecordLayout,
    record_tag,
    varint,
)

INTEGER = RecordLayout(Kind.INTEGER, pa.int64())
MOMENT = RecordLayout(Kind.MOMENT, MOMENT_TYPE)
DOUBLE = RecordLayout(Kind.DOUBLE, pa.float64())


def struct(*children: RecordLayout) -> RecordLayout:
    fields = [(f"f{n}", child.type) for n, child in enumerate(children)]
    return RecordLayout(Kind.STRUCT, pa.struct(fields), children)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (0, "00"),
        (127, "7f"),
        (128, "8001"),
        (300, "ac02"),
        (16383, "ff7f"),
        (16384, "808001"),
        (2**64 - 1, "ff" * 9 + "01"),
        (END_OF_ROW << 3, "80c0ff7f"),
        (ROW_COUNT << 3, "f0ffff7f"),
        (STREAM_CHECKSUM << 3, "f8ffff7f"),
    ],
)
def test_varints(value: int, data: str) -> None:
    assert varint(value).hex() == data


@given(st.integers(0, 2**64 - 1))
def test_a_varint_is_its_value_seven_bits_at_a_time(value: int) -> None:
    data = varint(value)
    assert sum((byte & 0x7F) << 7 * position for position, byte in enumerate(data)) == value
    assert all(byte & 0x80 for byte in data[:-1])
    assert not data[-1] & 0x80


@folded("kind, wire", [(kind, {Kind.INTEGER: 0, Kind.BOOLEAN: 0, Kind.FLOAT: 5, Kind.DOUBLE: 1}.get(kind, 2)) for kind in Kind])  # fmt: skip
@folded("number", [1, 15, 16, 2047, 2048, 4095])
def test_tags(kind: Kind, wire: int, number: int) -> None:
    children = (DOUBLE,) if kind is Kind.VECTOR else ()
    tag = record_tag(number, RecordLayout(kind, pa.null(), children))
    assert tag == varint(8 * number + wire)
    assert len(tag) == (1 if number < 16 else 2 if number < 2048 else 3)


@pytest.mark.parametrize(
    ("layout", "bytes_of_a_null"),
    [
        (INTEGER, 8),
        (RecordLayout(Kind.BYTES, pa.binary()), 8),
        (RecordLayout(Kind.LIST, pa.list_(pa.int64()), (INTEGER,)), 8),
        (MOMENT, 16),
        (struct(), 1),
        (struct(INTEGER), 9),
        (struct(INTEGER, MOMENT), 25),
        (struct(struct(INTEGER), DOUBLE), 18),
    ],
)
def test_what_a_null_takes_in_memory(layout: RecordLayout, bytes_of_a_null: int) -> None:
    assert layout.width == bytes_of_a_null


def test_vectors_hold_floats_and_doubles_alone() -> None:
    RecordLayout(Kind.VECTOR, pa.list_(pa.float64()), (DOUBLE,))
    with pytest.raises(UsageError, match="floats or doubles"):
        RecordLayout(Kind.VECTOR, pa.list_(pa.int64()), (INTEGER,))
