"""Going over values one after the other."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from fletching.errors import MalformedFrameError
from fletching.wire.tunnel_layouts import Kind, RecordLayout
from fletching.wire.tunnel_scalars import IncompleteRowError, skip_elements, skip_value, take_varint

NUMBER = RecordLayout(Kind.INTEGER, pa.int64())
TEXT = RecordLayout(Kind.BYTES, pa.binary())
LIST = RecordLayout(Kind.LIST, pa.list_(pa.int64()), (NUMBER,))
MAP = RecordLayout(Kind.MAP, pa.map_(pa.binary(), pa.int64()), (TEXT, NUMBER))
STRUCT = RecordLayout(Kind.STRUCT, pa.struct([("a", pa.int64())]), (NUMBER,))
MOMENT = RecordLayout(Kind.MOMENT, pa.struct([("sec", pa.int64()), ("nano", pa.int32())]))
VECTOR = RecordLayout(
    Kind.VECTOR, pa.list_(pa.float32()), (RecordLayout(Kind.FLOAT, pa.float32()),)
)
VALUES = [
    (NUMBER, "8001"),
    (TEXT, "026162"),
    (LIST, "0200800101"),
    (MAP, "01000161010002"),
    (STRUCT, "0005"),
    (MOMENT, "80010a"),
    (VECTOR, "0200000000ffffffff"),
]


@pytest.mark.parametrize(("layout", "text"), VALUES, ids=[str(each.kind) for each, _ in VALUES])
def test_where_values_end(layout: RecordLayout, text: str) -> None:
    value = bytes.fromhex(text)
    assert skip_value(layout, b"xx" + value + b"yy", 2, 100) == 2 + len(value)
    for end in range(len(value)):
        with pytest.raises(IncompleteRowError):
            skip_value(layout, value[:end], 0, end)


def test_varints() -> None:
    assert take_varint(b"\xff" * 9 + b"\x01", 0, 10) == (2**64 - 1, 10)
    with pytest.raises(MalformedFrameError, match="ten bytes"):
        take_varint(b"\xff" * 11, 0, 11)


def test_elements_and_where_they_stand() -> None:
    at, here = np.zeros(3, np.int64), np.zeros(3, np.bool_)
    data = bytes.fromhex("0002018001"[:6] + "008001")
    assert skip_elements(NUMBER, data, 0, len(data), at, here) == len(data)
    assert (at.tolist(), here.tolist()) == ([1, 3, 4], [True, False, True])
    with pytest.raises(MalformedFrameError, match="neither null nor there"):
        skip_elements(NUMBER, b"\x02", 0, 1, 1)


def test_keys_of_maps_are_there() -> None:
    with pytest.raises(MalformedFrameError, match="key of a map is null"):
        skip_value(MAP, bytes.fromhex("0101010002"), 0, 5)
    assert skip_value(MAP, bytes.fromhex("010001610101"), 0, 6) == 6
