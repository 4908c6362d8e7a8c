"""A pinned table: which rows a predicate chooses in whatever segments, and the values that they have."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.engine.changes.conftest import MakeTable, engine_of, seen

from fletching.client import Table
from fletching.engine.changes.pinned_table import PinnedTable
from fletching.errors import InvalidArgumentError

SCHEMA = pa.schema([("n", pa.int64()), ("s", pa.string())])


def rows(*numbers: int | None) -> pa.Table:
    return pa.table({"n": list(numbers), "s": [f"s{n}" for n in numbers]}, SCHEMA)


@pytest.fixture(scope="module")
def _kept() -> dict[str, Table]:
    return {}


@pytest.fixture
def table(new_table: MakeTable, _kept: dict[str, Table]) -> Table:
    """Segments of 0..9 in three batches, of 10..19 without 12 and 13, and of a null; nobody changes it."""
    if not _kept:
        first = pa.Table.from_batches(
            [rows(*range(start, end)).to_batches()[0] for start, end in ((0, 3), (3, 7), (7, 10))]
        )
        _kept["t"] = new_table(SCHEMA, first, rows(*range(10, 20)), rows(None))
        _kept["t"].delete("n IN (12, 13)")
    return _kept["t"]


def view(table: Table, look: Any) -> Any:
    return seen(table, lambda computed: look(computed.view))


ALL = [*range(12), *range(14, 20), None]


@pytest.mark.parametrize(
    ("where", "chosen"),
    [
        ("", ALL),
        ("n >= 0", [n for n in ALL if n is not None]),
        ("n BETWEEN 6 AND 14", [6, 7, 8, 9, 10, 11, 14]),
        ("n IS NULL", [None]),
        ("n IN (12, 13)", []),
        ("NOT n < 18", [18, 19]),
        ("s LIKE 's1%'", [1, 10, 11, 14, 15, 16, 17, 18, 19]),
        ("n % 7 = 0", [0, 7, 14]),  # arithmetic is DuckDB's
        ("length(s) = 2 AND n > 7", [8, 9]),
    ],
)
def test_rows_that_are_chosen(table: Table, where: str, chosen: list[int | None]) -> None:
    def look(pinned: PinnedTable) -> tuple[list[Any], dict[int, list[int]]]:
        condition = pinned.filter(where)
        by_segment: dict[int, list[int]] = {}
        values: list[Any] = []
        matches = list(pinned.matches(condition))
        for each, batch in pinned.rows(iter(matches), pinned.projection([0, 1])):
            assert batch.schema.names == ["n", "s"]
            assert batch["s"].to_pylist() == [f"s{n}" for n in batch["n"].to_pylist()]
            values += batch["n"].to_pylist()
            start, numbers = pinned.positions(each)
            by_segment.setdefault(pinned.snapshot.segments[start].id, []).extend(numbers.tolist())
        at_once = list(pinned.chosen_rows(condition, pinned.projection([0, 1])))
        assert [each.batch for each, _ in at_once] == [each.batch for each in matches]
        assert [n for _, batch in at_once for n in batch["n"].to_pylist()] == values
        bitmaps = {number: list(chosen) for number, chosen in pinned.chosen(where).items()}
        assert bitmaps == by_segment
        return values, bitmaps

    values, bitmaps = view(table, look)
    assert values == chosen
    assert sum(map(len, bitmaps.values())) == len(chosen)


@settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(low=st.integers(-1, 20), high=st.integers(-1, 20))
def test_both_ways_of_choosing_agree(table: Table, low: int, high: int) -> None:
    """Bounds and zones on the one side, an expression that nothing is known of on the other."""
    plain, computed = view(
        table,
        lambda pinned: (
            pinned.chosen(f"n > {low} AND n <= {high}"),
            pinned.chosen(f"n + 0 > {low} AND n + 0 <= {high}"),
        ),
    )
    assert plain == computed


def test_row_numbers_count_stored_rows(table: Table) -> None:
    def look(pinned: PinnedTable) -> Any:
        starts = pinned.batch_starts(0).tolist()
        firsts = [pinned.first_row(batch) for batch in range(len(pinned.snapshot.rows))]
        return starts, firsts

    starts, firsts = view(table, look)
    assert starts == [0, 3, 7]
    assert firsts == [0, 3, 7, 0, 0]


def test_segments_that_bounds_rule_out_are_not_opened(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = engine_of(table).context.store
    opened: list[str] = []
    original = type(store).open

    def counting(self: Any, key: str, **options: Any) -> Any:
        opened.append(key)
        return original(self, key, **options)

    monkeypatch.setattr(type(store), "open", counting)
    assert view(table, lambda pinned: len(pinned.chosen("n > 100"))) == 0
    assert view(table, lambda pinned: len(pinned.chosen("n >= 10 OR n < 0"))) == 1
    assert opened == []  # of the second all rows that are shown are chosen
    view(table, lambda pinned: pinned.chosen("n = 5"))
    assert len(set(opened)) == 1


@pytest.mark.parametrize("where", ["nothing = 1", "n +", "n", "frobnicate(n) = 1", "s = 's' AND"])
def test_what_is_no_predicate_is_refused(table: Table, where: str) -> None:
    with pytest.raises(InvalidArgumentError):
        view(table, lambda pinned: pinned.chosen(where))


def test_new_values_are_made_the_column_s(table: Table) -> None:
    def look(pinned: PinnedTable) -> Any:
        return pinned.stored_value(pa.array([1, None], pa.int8()), 0)

    assert view(table, look) == pa.array([1, None], pa.int64())
    with pytest.raises(InvalidArgumentError, match="n"):
        view(table, lambda pinned: pinned.stored_value(pa.array(["text"]), 0))
