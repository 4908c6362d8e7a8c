"""The key of rows is read whatever the schema that their segment was written in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.engine.changes.conftest import MakeTable, engine_of, seen

from fletching.catalog.segment_rows import visible_segments
from fletching.catalog.table_rows import get_table
from fletching.client import Table
from fletching.engine.changes.key_columns import KeyColumns, rows_of_segment
from fletching.engine.reading.segment_reader import SegmentReader
from fletching.errors import CorruptObjectError

SCHEMA = pa.schema(
    [
        ("note", pa.string()),
        pa.field("Id", pa.int32(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
    ]
)


def keys(table: Table, wanted: list[int]) -> Any:
    """The key columns of some rows of each segment."""
    context = engine_of(table).context
    name = seen(table, lambda computed: computed.view.table.name)
    with context.database.read() as connection:
        row = get_table(connection, name)
        columns = KeyColumns(context.store, connection, row)
        segments = visible_segments(connection, row.id, row.version)
    results = [columns.columns(segment, np.array(wanted)) for segment in segments]
    return columns, [[column.to_pylist() for column in each] for each in results]


def rows(first: int) -> pa.Table:
    return pa.table(
        {
            "note": ["x", "y", "z"],
            "Id": pa.array([first, first + 1, first + 2], pa.int32()),
            "name": [f"n{first}", f"n{first + 1}", f"n{first + 2}"],
        }
    )


@pytest.mark.parametrize("primary_key", [["id"], ["name", "ID"]])
def test_the_key_follows_its_columns(new_table: MakeTable, primary_key: list[str]) -> None:
    table = new_table(SCHEMA, rows(1), primary_key=primary_key)
    table.rename_column("note", "remark")
    table.drop_columns("remark")
    table.add_columns("late INT")
    table.append(pa.table({"Id": pa.array([7, 8, 9], pa.int32()), "name": ["n7", "n8", "n9"]}))
    columns, values = keys(table, [2, 0, 0])
    expected = [
        {"id": [3, 1, 1], "name": ["n3", "n1", "n1"]},
        {"id": [9, 7, 7], "name": ["n9", "n7", "n7"]},
    ]
    assert values == [[each[name.casefold()] for name in primary_key] for each in expected]
    assert columns.exact is (primary_key == ["id"])
    assert [str(kind) for kind in columns.types] == [
        {"id": "int32", "name": "string"}[name.casefold()] for name in primary_key
    ]


def test_no_rows_have_no_keys(new_table: MakeTable) -> None:
    table = new_table(SCHEMA, rows(1), primary_key=["id"])
    columns, values = keys(table, [])
    assert values == [[[]]]
    assert columns.types == [pa.int32()]


STORED = pa.schema([("n", pa.int64()), ("s", pa.string()), ("l", pa.list_(pa.int8()))])
BATCHES = [
    pa.record_batch(
        [
            pa.array(range(start, start + count)),
            pa.array([None if n % 4 == 0 else f"s{n}" for n in range(start, start + count)]),
            pa.array([[n % 3] * (n % 4) for n in range(start, start + count)], pa.list_(pa.int8())),
        ],
        STORED,
    )
    for start, count in ((0, 5), (5, 1), (6, 14))
]
WHOLE = pa.Table.from_batches(BATCHES)


@pytest.fixture(scope="module")
def _kept() -> dict[str, Table]:
    return {}


@pytest.fixture
def segments(new_table: MakeTable, _kept: dict[str, Table]) -> Table:
    if not _kept:
        _kept["t"] = new_table(STORED, WHOLE)
    return _kept["t"]


def read(segments: Table, columns: list[int], rows: list[int]) -> pa.RecordBatch:
    def look(computed: Any) -> Any:
        (segment,) = computed.view.snapshot.segments
        store = engine_of(segments).context.store
        return rows_of_segment(store, segment, STORED, columns, np.array(rows, np.uint32))

    return seen(segments, look)


@settings(
    deadline=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    columns=st.permutations([0, 1, 2]).flatmap(
        lambda rows: st.integers(1, 3).map(lambda count: rows[:count])
    ),
    rows=st.lists(st.integers(0, 19), max_size=12),
)
def test_rows_come_as_they_were_asked_for(
    segments: Table, columns: list[int], rows: list[int]
) -> None:
    expected = WHOLE.take(pa.array(rows, pa.int64())).select(columns)
    table = pa.Table.from_batches([read(segments, columns, rows)])
    assert table.schema.names == expected.schema.names
    assert table.to_pylist() == expected.to_pylist()


@pytest.mark.parametrize(("rows", "decoded"), [([], 0), ([0, 4], 1), ([5], 1), ([19, 0, 19], 2)])
def test_only_batches_that_have_them_are_decoded(
    segments: Table, monkeypatch: pytest.MonkeyPatch, rows: list[int], decoded: int
) -> None:
    calls = []
    original = SegmentReader.decode

    def counting(self: SegmentReader, *where: Any) -> Any:
        calls.append(where)
        return original(self, *where)

    monkeypatch.setattr(SegmentReader, "decode", counting)
    assert read(segments, [0], rows)["n"].to_pylist() == rows
    assert len(calls) == decoded


def test_a_row_beyond_the_last_is_damage(segments: Table) -> None:
    assert read(segments, [0], [19])["n"].to_pylist() == [19]
    with pytest.raises(CorruptObjectError, match="fewer rows"):
        read(segments, [0], [3, 20])
