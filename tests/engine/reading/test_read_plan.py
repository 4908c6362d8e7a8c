"""A plan gives its pieces in order, as often as it is asked, and not a byte more than was announced."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from fletching.engine.reading.read_plan import Computed, Extent, Literal, ReadPlan, run_checked
from fletching.errors import CorruptObjectError
from fletching.objects.remote_object import HeldObject

STORED = HeldObject("k", memoryview(b"0123456789"))


def plan(*pieces: Any, length: Any = None) -> ReadPlan:
    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"n": [1]})

    return ReadPlan(
        schema=pa.schema([("n", pa.int64())]), rows=1, length=length, pieces=pieces, batches=batches
    )


def test_pieces_are_joined_in_order_and_again() -> None:
    computed = Computed(lambda: [b"ab", memoryview(b"cd")], 4)
    made = plan(Literal(b"head"), Extent(STORED, 2, 5), computed, Literal(b""))
    for _ in range(2):
        assert b"".join(map(bytes, made.buffers())) == b"head234abcd"
    assert [piece.length for piece in made.pieces] == [4, 3, 4, 0]


def test_lengths_count_bytes() -> None:
    assert Literal(memoryview(bytes(12)).cast("i")).length == 12


@pytest.mark.parametrize("length", [3, 5, 0])
def test_a_computed_piece_of_another_length_breaks_no_framing(length: int) -> None:
    with pytest.raises(CorruptObjectError, match=f"4 bytes where {length} were announced"):
        run_checked(Computed(lambda: [b"ab", b"cd"], length))
    assert run_checked(Computed(lambda: [b"ab"], None)) == [b"ab"]
    with pytest.raises(CorruptObjectError):
        list(plan(Computed(lambda: [b"abcd"], length)).buffers())


def test_a_length_that_takes_work_is_found_once() -> None:
    asked: list[int] = []

    def length() -> int:
        asked.append(1)
        return 7

    made = plan(length=length)
    assert asked == []
    assert (made.length, made.length, asked) == (7, 7, [1])
    assert plan(length=5).length == 5
    assert plan().length is None
