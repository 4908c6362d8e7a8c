"""Some rows of a segment, in any order and repeated, from as few batches as have them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.engine.changes.conftest import MakeTable, engine_of, seen

from fletching.client import Table
from fletching.engine.changes.row_reading import rows_of_segment
from fletching.engine.reading.segment_reader import SegmentReader
from fletching.errors import CorruptObjectError

SCHEMA = pa.schema([("n", pa.int64()), ("s", pa.string()), ("l", pa.list_(pa.int8()))])
BATCHES = [
    pa.record_batch(
        [
            pa.array(range(start, start + count)),
            pa.array([None if n % 4 == 0 else f"s{n}" for n in range(start, start + count)]),
            pa.array([[n % 3] * (n % 4) for n in range(start, start + count)], pa.list_(pa.int8())),
        ],
        SCHEMA,
    )
    for start, count in ((0, 5), (5, 1), (6, 14))
]
WHOLE = pa.Table.from_batches(BATCHES)


@pytest.fixture(scope="module")
def _kept() -> dict[str, Table]:
    return {}


@pytest.fixture
def table(new_table: MakeTable, _kept: dict[str, Table]) -> Table:
    if not _kept:
        _kept["t"] = new_table(SCHEMA, WHOLE)
    return _kept["t"]


def read(table: Table, columns: list[int], rows: list[int]) -> pa.RecordBatch:
    def look(computed: Any) -> Any:
        (segment,) = computed.view.snapshot.segments
        store = engine_of(table).context.store
        return rows_of_segment(store, segment, SCHEMA, columns, np.array(rows, np.uint32))

    return seen(table, look)


@settings(
    deadline=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    columns=st.permutations([0, 1, 2]).flatmap(
        lambda places: st.integers(1, 3).map(lambda count: places[:count])
    ),
    rows=st.lists(st.integers(0, 19), max_size=12),
)
def test_rows_come_as_they_were_asked_for(
    table: Table, columns: list[int], rows: list[int]
) -> None:
    expected = WHOLE.take(pa.array(rows, pa.int64())).select(columns)
    found = pa.Table.from_batches([read(table, columns, rows)])
    assert found.schema.names == expected.schema.names
    assert found.to_pylist() == expected.to_pylist()


@pytest.mark.parametrize(("rows", "decoded"), [([], 0), ([0, 4], 1), ([5], 1), ([19, 0, 19], 2)])
def test_only_batches_that_have_them_are_decoded(
    table: Table, monkeypatch: pytest.MonkeyPatch, rows: list[int], decoded: int
) -> None:
    calls = []
    original = SegmentReader.decode

    def counting(self: SegmentReader, *where: Any) -> Any:
        calls.append(where)
        return original(self, *where)

    monkeypatch.setattr(SegmentReader, "decode", counting)
    assert read(table, [0], rows)["n"].to_pylist() == rows
    assert len(calls) == decoded


def test_a_row_beyond_the_last_is_damage(table: Table) -> None:
    assert read(table, [0], [19])["n"].to_pylist() == [19]
    with pytest.raises(CorruptObjectError, match="fewer rows"):
        read(table, [0], [3, 20])
