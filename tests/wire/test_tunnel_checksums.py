"""Checksums of many rows at once are those of each row by itself."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from fletching.wire.tunnel_checksums import RowChecksums


@given(st.data())
def test_any_pieces(data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 20))
    checksums = RowChecksums(rows)
    covered = [b""] * rows
    for _ in range(data.draw(st.integers(0, 4))):
        number = data.draw(st.integers(0, 4095))
        here = data.draw(st.none() | st.lists(st.booleans(), min_size=rows, max_size=rows))
        mask = None if here is None else np.array(here)
        there = [True] * rows if here is None else here
        if data.draw(st.booleans()):
            kinds = data.draw(st.sampled_from([["<i8"], ["u1"], ["<f4"], ["<f8"], ["<i8", "<i4"]]))
            raw = data.draw(st.binary(min_size=12 * rows, max_size=12 * rows))
            parts = [np.frombuffer(raw, kind, rows) for kind in kinds]
            values = [b"".join(part[row].tobytes() for part in parts) for row in range(rows)]
            checksums.fixed(number, list(parts), mask)
        else:
            value = st.binary(max_size=30) | st.binary(min_size=90, max_size=120)
            values = [data.draw(value) if each else b"" for each in there]
            offsets = np.array([0, *itertools.accumulate(map(len, values))])
            before = data.draw(st.binary(max_size=5))
            content = np.frombuffer(before + b"".join(values), np.uint8)
            checksums.strings(number, content, offsets + len(before), mask)
        for row in range(rows):
            if there[row]:
                covered[row] += number.to_bytes(4, "little") + values[row]
    assert checksums.sums.tolist() == [crc32c(each) for each in covered]


def test_the_check_value() -> None:
    checksums = RowChecksums(1)
    text = np.frombuffer(b"56789", np.uint8)
    offsets: Any = np.array([0, 5])
    checksums.strings(int.from_bytes(b"1234", "little"), text, offsets, None)
    assert checksums.sums.tolist() == [0xE3069283]
