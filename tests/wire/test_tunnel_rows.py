"""Rows put together column by column are what they are one by one."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.folding import folded

from fletching.wire.tunnel_layouts import END_OF_ROW, varint
from fletching.wire.tunnel_rows import SLACK, RowAssembly, copy_strings
from fletching.wire.tunnel_value_bytes import varint_words

END = varint(END_OF_ROW << 3)


@given(st.data())
def test_any_pieces(data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 12))
    assembly = RowAssembly(rows)
    expected = [b""] * rows
    for _ in range(data.draw(st.integers(0, 4))):
        here = data.draw(st.none() | st.lists(st.booleans(), min_size=rows, max_size=rows))
        there = [True] * rows if here is None else here
        if data.draw(st.booleans()):
            tag = data.draw(st.binary(max_size=3))
            numbers = data.draw(st.lists(st.integers(0, 2**64 - 1), min_size=rows, max_size=rows))
            mask = None if here is None else np.array(here)
            assembly.tagged(tag, varint_words(np.array(numbers, np.uint64)), mask)
            values = [tag + varint(number) for number in numbers]
        else:
            value = st.binary(max_size=20) | st.binary(min_size=120, max_size=150)
            values = [data.draw(value) if each else b"" for each in there]
            offsets = np.array([0, *itertools.accumulate(map(len, values))])
            before = data.draw(st.binary(max_size=5))
            assembly.strings(before + b"".join(values), offsets + len(before))
        for row in range(rows):
            if there[row]:
                expected[row] += values[row]
    # Short checksums are those after which a word reaches into the next row.
    sums = data.draw(
        st.lists(st.integers(0, 300) | st.integers(0, 2**32 - 1), min_size=rows, max_size=rows)
    )
    result = bytes(assembly.finish(np.array(sums, np.uint32)))
    wanted = [row + END + varint(crc) for row, crc in zip(expected, sums, strict=True)]
    assert result == b"".join(wanted)


@folded("bits", range(65))
def test_varints_of_every_length(bits: int) -> None:
    numbers = [number for number in ((1 << bits) - 1, 1 << bits, (1 << bits) + 1) if number < 2**64]
    low, lengths, high = varint_words(np.array(numbers, np.uint64))
    for row, number in enumerate(numbers):
        words = int(low[row]) | (int(high[row]) << 64 if high is not None else 0)
        assert words.to_bytes(16, "little")[: lengths[row]] == varint(number)


@given(st.lists(st.binary(max_size=40) | st.binary(min_size=100, max_size=300), max_size=10))
def test_copying(texts: list[bytes]) -> None:
    data = np.frombuffer(b"".join(texts) + bytes(SLACK), np.uint8)
    lengths = np.array([len(text) for text in texts], np.int64)
    starts = np.cumsum(lengths) - lengths
    out = np.zeros(len(data) + 3, np.uint8)
    copy_strings(data, starts, lengths, out, starts + 3)
    assert out[3:-SLACK].tobytes() == b"".join(texts)
