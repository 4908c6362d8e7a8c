"""The order of an epoch: every row once, for any number of readers, before and after a resume."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.connectors.sampling import EpochOrder, Interval, Position, remaining_of
from fletching.errors import UsageError


def rows_of(order: EpochOrder, intervals: list[Interval]) -> list[int]:
    """The snapshot's rows of some intervals, in the order of reading."""
    result: list[int] = []
    for interval in intervals:
        block, row = interval.start
        while Position(block, row) < interval.end:
            rows = [n for start, end in order.ranges(block) for n in range(start, end)]
            if order.shuffle:
                rows = [rows[n] for n in order.permutation(block, len(rows))]
            stop = interval.end.row if interval.end.block == block else len(rows)
            result.extend(rows[row:stop])
            block, row = block + 1, 0
    return result


orders = st.builds(
    lambda rows, seed, epoch, shuffle, chunk, per_block: EpochOrder(
        rows, seed, epoch, shuffle, chunk, chunk * per_block
    ),
    st.integers(0, 200),
    st.integers(0, 3),
    st.integers(0, 3),
    st.booleans(),
    st.integers(1, 7),
    st.integers(1, 5),
)


units = st.none() | st.integers(1, 9)


@given(order=orders, count=st.integers(1, 7), unit=units)
def test_readers_share_every_row_once(order: EpochOrder, count: int, unit: int | None) -> None:
    shares = order.shares(order.everything(), count, unit=unit)
    assert len(shares) == count
    result = [rows_of(order, share) for share in shares]
    assert sorted(row for rows in result for row in rows) == list(range(order.rows))
    if unit is not None:
        assert max(map(len, result)) - min(map(len, result)) <= unit
        # No reader but the last that has rows has a part of a unit.
        assert sum(-(-len(rows) // unit) for rows in result) == -(-order.rows // unit)


@given(order=orders, count=st.integers(1, 7), unit=st.integers(1, 9))
def test_equal_shares_leave_out_less_than_one_unit_a_reader(
    order: EpochOrder, count: int, unit: int
) -> None:
    shares = order.shares(order.everything(), count, unit=unit, equal=True)
    result = [rows_of(order, share) for share in shares]
    each = order.rows // unit // count * unit
    assert {len(rows) for rows in result} == {each}
    assert len({row for rows in result for row in rows}) == each * count


@given(
    order=orders,
    counts=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    unit=units,
    data=st.data(),
)
def test_an_interrupted_epoch_goes_on_with_any_number_of_readers(
    order: EpochOrder, counts: tuple[int, int], unit: int | None, data: st.DataObject
) -> None:
    first = order.shares(order.everything(), counts[0], unit=unit)
    read: list[int] = []
    remaining: list[Interval] = []
    for share in first:
        rows = rows_of(order, share)
        taken = data.draw(st.integers(0, len(rows)))
        read.extend(rows[:taken])
        remaining.extend(order.advanced(share, _position(order, share, taken)))
    remaining = remaining_of([(*each.start, *each.end) for each in remaining])
    second = order.shares(remaining, counts[1], unit=unit)
    rest = [row for share in second for row in rows_of(order, share)]
    assert sorted(read + rest) == list(range(order.rows))


def _position(order: EpochOrder, share: list[Interval], taken: int) -> Position:
    """Where a reader stands after `taken` rows of its share."""
    for interval in share:
        block, row = interval.start
        while Position(block, row) < interval.end:
            stop = interval.end.row if interval.end.block == block else order.block_length(block)
            if taken < stop - row:
                return Position(block, row + taken)
            taken -= stop - row
            block, row = block + 1, 0
        if taken == 0:
            return interval.end
    return share[-1].end if share else Position(0, 0)


def test_seed_and_epoch_make_the_order() -> None:
    def rows(seed: int, epoch: int) -> list[int]:
        order = EpochOrder(1000, seed, epoch, True, 10, 100)
        return rows_of(order, order.everything())

    assert rows(1, 0) == rows(1, 0)
    assert rows(1, 0) != rows(2, 0)
    assert rows(1, 0) != rows(1, 1)
    assert rows(1, 0) != list(range(1000))


def test_a_block_draws_from_all_over_the_table() -> None:
    order = EpochOrder(100_000, 1, 0, True, 100, 2_000)
    spread = [end for _, end in order.ranges(0)]
    assert min(spread) < 30_000
    assert max(spread) > 70_000


def test_without_shuffling_the_order_is_the_table_s() -> None:
    order = EpochOrder(25, 1, 0, False, 10, 10)
    assert rows_of(order, order.everything()) == list(range(25))


@pytest.mark.parametrize("sizes", [(0, 10), (10, 15), (10, 0)])
def test_sizes_that_cannot_be_are_refused(sizes: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="multiple"):
        EpochOrder(10, 1, 0, True, *sizes)


@pytest.mark.parametrize(
    "numbers", [[[0, 0, 1]], [[0, 0, 1, -1]], [[0, 0, 1, 0.5]], [[0, True, 1, 1]]]
)
def test_states_that_are_none_are_refused(numbers: list[list[int]]) -> None:
    with pytest.raises(UsageError, match="not an interval"):
        remaining_of(numbers)
