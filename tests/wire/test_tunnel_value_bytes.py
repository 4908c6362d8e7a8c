"""Values as byte strings: what is sent, and what the checksum covers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fletching.errors import UsageError
from fletching.wire.tunnel_layouts import MOMENT_TYPE, Kind, RecordLayout
from fletching.wire.tunnel_value_bytes import (
    covered_by_checksum,
    list_counts,
    sent_value,
    varint_words,
)

I64, BIN = pa.int64(), pa.binary()
NUMBER, TEXT = RecordLayout(Kind.INTEGER, I64), RecordLayout(Kind.BYTES, BIN)
FLOAT = RecordLayout(Kind.FLOAT, pa.float32())


def of(kind: Kind, data_type: pa.DataType, *children: RecordLayout) -> RecordLayout:
    return RecordLayout(kind, data_type, children)


CASES: list[tuple[RecordLayout, list[Any], list[str], list[str]]] = [
    (NUMBER, [-1, None, 64], ["01", "", "8001"], ["ff" * 8, "", "40" + "00" * 7]),
    (of(Kind.BOOLEAN, pa.bool_()), [True, None], ["01", ""], ["01", ""]),
    (TEXT, [b"ab", None, b""], ["026162", "", "00"], ["6162", "", ""]),
    (
        of(Kind.MOMENT, MOMENT_TYPE),
        [{"sec": 1, "nano": 2}, None],
        ["0204", ""],
        ["01" + "00" * 7 + "02000000", ""],
    ),
    (
        of(Kind.LIST, pa.list_(I64), NUMBER),
        [[1, None], None, []],
        ["02000201", "", "00"],
        ["01" + "00" * 7, "", ""],
    ),
    (
        of(Kind.LIST, pa.list_(pa.list_(BIN)), of(Kind.LIST, pa.list_(BIN), TEXT)),
        [[[b"x"], None]],
        ["02000100017801"],
        ["78"],
    ),
    (
        of(Kind.MAP, pa.map_(BIN, I64), TEXT, NUMBER),
        [[(b"k", 1)], None],
        ["0100016b010002", ""],
        ["6b01" + "00" * 7, ""],
    ),
    (
        of(Kind.STRUCT, pa.struct([("x", I64), ("y", BIN)]), NUMBER, TEXT),
        [{"x": None, "y": b"z"}, None],
        ["0100017a", ""],
        ["7a", ""],
    ),
    (of(Kind.VECTOR, pa.list_(pa.float32()), FLOAT), [[1.0], None], ["010000803f", ""], ["0000803f", ""]),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[str(case[0].type) for case in CASES])
def test_known_bytes(case: tuple[RecordLayout, list[Any], list[str], list[str]]) -> None:
    layout, values, sent, covered = case
    array = pa.array([*values, *values], layout.type)
    for part in (array.slice(0, len(values)), array.slice(len(values))):
        assert [each.hex() for each in sent_value(layout, part).to_pylist()] == sent
        assert [each.hex() for each in covered_by_checksum(layout, part).to_pylist()] == covered


def varint(value: int) -> bytes:
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])


@pytest.mark.parametrize("bits", [7, 14, 56, 63, 64])
def test_varints_of_every_length(bits: int) -> None:
    edges = {
        value for bit in range(bits + 1) for value in ((1 << bit) - 1, (1 << bit) % (1 << bits))
    }
    values = sorted(edges)
    words, lengths, more = varint_words(np.array(values, np.uint64))
    highs = [0] * len(values) if more is None else more.tolist()
    for value, word, length, high in zip(
        values, words.tolist(), lengths.tolist(), highs, strict=True
    ):
        assert (word | high << 64).to_bytes(16, "little")[:length] == varint(value)


def test_where_lists_begin_and_end() -> None:
    array = pa.array([[1], None, [2, 3]], pa.list_(I64))
    starts, ends = list_counts(array)
    assert (ends - starts).tolist() == [1, 0, 2]
    assert list_counts(array.slice(0, 0))[0].tolist() == []


def test_a_vector_has_no_nulls() -> None:
    layout = of(Kind.VECTOR, pa.list_(pa.float32()), FLOAT)
    with pytest.raises(UsageError, match="null"):
        sent_value(layout, pa.array([[None]], layout.type))
