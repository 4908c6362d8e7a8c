"""Lists of segments: as tuples are, whatever is inserted where."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fletching.engine.reading import chunked_lists
from fletching.engine.reading.chunked_lists import SegmentList


@settings(max_examples=50)
@given(st.lists(st.lists(st.integers(0, 60), max_size=12), max_size=6), st.integers(1, 5))
def test_inserting_is_as_into_a_list(steps: list[list[int]], chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunked_lists, "SEGMENTS", chunk)
        number: Any = 0
        made = SegmentList.of([])
        expected: list[Any] = []
        for step in steps:
            at = sorted(min(index, len(expected)) for index in step)
            rows: list[Any] = list(range(number, number + len(at)))
            number += len(at)
            made = made.inserted(at, rows)
            for count, (index, row) in enumerate(zip(at, rows, strict=True)):
                expected.insert(index + count, row)
            assert list(made) == expected
            assert len(made) == len(expected)
            assert [made[n] for n in range(len(made))] == expected
            assert [made[-1 - n] for n in range(len(made))] == expected[::-1]
            assert list(made[1:4]) == expected[1:4]
    with pytest.raises(IndexError):
        made[len(made)]
