"""Slots of runs: no number that a run has is said to be absent, and of others nearly all are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap

from fletching.engine.changes.block_search import Sought
from fletching.engine.changes.key_slots import greatest_in_slots, slot_shift, slots_of, taken_slots

MOST = (1 << 64) - 1


@settings(deadline=None)
@given(
    stored=st.lists(st.integers(0, 40) | st.integers(0, MOST), min_size=1, max_size=80),
    wanted=st.lists(st.integers(0, 40) | st.integers(0, MOST), min_size=1, max_size=80),
    shared=st.integers(0, 40),
    step=st.sampled_from([1, 7, 100]),
)
def test_no_number_of_a_run_is_said_to_be_absent(
    stored: list[int], wanted: list[int], shared: int, step: int
) -> None:
    values = np.sort(np.array(stored, dtype=np.uint64))
    asked = np.sort(np.array([*wanted, *stored[:shared]], dtype=np.uint64))
    parts = [values[start : start + step] for start in range(0, len(values), step)]
    slots = slots_of(parts, len(values), int(values[-1]))
    if slots.taken is None:
        assert len(set((values >> np.uint64(slots.shift)).tolist())) < len(values) / 2
        assert Sought(asked).near(slots) is None
        return
    near = Sought(asked).near(slots)
    assert near is not None
    taken = set(slots.taken)
    expected = [
        index for index, number in enumerate(asked.tolist()) if number >> slots.shift in taken
    ]
    assert near.tolist() == expected
    assert {number >> slots.shift for number in stored} == taken


@pytest.mark.parametrize("greatest", [5_000, 200_000, 1 << 24, 1 << 40, MOST])
@pytest.mark.parametrize("count", [1, 4_000, 100_000])
def test_slots_are_those_of_their_numbers(greatest: int, count: int) -> None:
    random = np.random.default_rng(count)
    numbers = np.sort(random.integers(0, greatest, count, dtype=np.uint64, endpoint=True))
    shift = slot_shift(count, int(numbers[-1]))
    expected = BitMap((numbers >> np.uint64(shift)).astype(np.uint32))
    assert taken_slots(numbers, shift) == expected
    assert int(numbers[-1]) <= greatest_in_slots(shift)
    assert taken_slots(numbers[:0], shift) == BitMap()


def test_absent_keys_are_in_few_slots() -> None:
    random = np.random.default_rng(3)
    stored, asked = (
        np.sort(random.integers(0, MOST, count, dtype=np.uint64)) for count in (200_000, 150_000)
    )
    slots = slots_of([stored], len(stored), int(stored[-1]))
    near = Sought(asked).near(slots)
    assert near is not None
    assert 0 < len(near) < len(asked) / 200
    assert slots.weight < 3 * len(stored)


def test_what_has_no_slot_is_in_no_run() -> None:
    """Runs of numbers that are not large: what is looked for may be larger than any slot says."""
    stored = np.arange(0, 1 << 20, 16, dtype=np.uint64)
    slots = slots_of([stored], len(stored), int(stored[-1]))
    sought = Sought(np.array([16, 17, 1 << 32, (1 << 32) + 16, MOST], dtype=np.uint64))
    near = sought.near(slots)
    assert near is not None
    assert near.tolist() == [0]


def test_runs_of_about_one_size_have_the_same_slots() -> None:
    shifts = {slot_shift(entries, MOST) for entries in (600_000, 1_000_000)}
    assert len(shifts) == 1
    assert slot_shift(1 << 40, MOST) == 32
