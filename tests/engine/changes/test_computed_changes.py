"""Changes that a query works out: it sees named rows, and what it says of them is done once or not at all."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from tests.engine.changes.conftest import MakeTable, engine_of, seen

from fletching.client import Table
from fletching.engine.changes.computed_changes import ComputedChanges
from fletching.engine.changes.made_changes import Intent
from fletching.errors import ConflictError, InvalidArgumentError
from fletching.protocol.messages.changes import DeleteRows

SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), ("s", pa.string())])
HIDDEN = ("the segment", "the row")


@dataclasses.dataclass(frozen=True)
class Action:
    kind: str
    columns: tuple[str, ...] = ()


def rows(*ids: int) -> pa.Table:
    return pa.table({"id": ids, "s": [f"s{i}" for i in ids]}, SCHEMA)


def content(table: Table) -> list[tuple[Any, ...]]:
    return sorted(tuple(row.values()) for row in table.scan().to_table().to_pylist())


def change(table: Table, actions: Sequence[Action], decide: Any) -> Any:
    """Decides about each row of the table: (action, its values) or None; {None: ...} inserts."""

    def compute(computed: ComputedChanges) -> Any:
        _, batches = computed.batches(["id", *HIDDEN], HIDDEN, None)
        there = pa.Table.from_batches(list(batches)).to_pylist()
        chosen = [
            (row[HIDDEN[0]], row[HIDDEN[1]], *each) for row in there for each in decide(row["id"])
        ]
        chosen += [(None, None, *each) for each in decide(None)]
        chosen.sort(key=lambda row: (row[0] is None, row[0] or 0, row[1] or 0))
        made = [list(column) for column in zip(*chosen, strict=True)] or [[], [], []]
        kinds = [pa.int64(), pa.int64(), pa.int32()]
        arrays = [pa.array(made[n], kinds[n] if n < 3 else None) for n in range(len(made))]
        batch = pa.record_batch(arrays, [f"c{n}" for n in range(len(arrays))])
        cut = batch.num_rows // 2
        parts = [batch.slice(0, cut), batch.slice(cut)]  # a decision may fall between two batches
        return computed.work(iter(parts), actions)

    request = DeleteRows(table=table.full_name, where="x")
    return engine_of(table).compute_changes(request, Intent(operation="merge"), compute)


def test_a_query_sees_the_rows_with_their_places(new_table: MakeTable) -> None:
    table = new_table(SCHEMA, rows(1, 2, 3), rows(4, 5))
    table.delete("id = 2")

    def look(computed: ComputedChanges) -> Any:
        schema, batches = computed.batches(["s", *HIDDEN], HIDDEN, None)
        assert schema.names == ["s", *HIDDEN]
        rows = pa.Table.from_batches(list(batches), schema).to_pylist()
        ids = [segment.id for segment in computed.view.snapshot.segments]
        return [(row["s"], ids.index(row[HIDDEN[0]]), row[HIDDEN[1]]) for row in rows]

    assert seen(table, look) == [("s1", 0, 0), ("s3", 0, 2), ("s4", 1, 0), ("s5", 1, 1)]


def test_rows_go_change_and_come_in_one_version(new_table: MakeTable) -> None:
    table = new_table(SCHEMA, rows(1, 2, 3), rows(4, 5))
    actions = [Action("delete"), Action("update", ("s",)), Action("insert", ("id", "s"))]

    def decide(number: int | None) -> list[Any]:
        if number is None:
            return [(3, None, 9, "new")]
        return [(1, *[None] * 3)] if number in {1, 4} else [(2, f"u{number}", None, None)]

    report = change(table, actions, decide)
    assert (report.rows_inserted, report.rows_updated, report.rows_deleted) == (1, 3, 2)
    assert content(table) == [(2, "u2"), (3, "u3"), (5, "u5"), (9, "new")]
    assert table.versions()[0].version == 3


def test_two_deletes_of_a_row_are_one(new_table: MakeTable) -> None:
    table = new_table(SCHEMA, rows(1, 2))
    report = change(table, [Action("delete")], lambda n: [(1,), (1,)] if n == 2 else [])
    assert report.rows_deleted == 1
    assert content(table) == [(1, "s1")]


@pytest.mark.parametrize("decisions", [[(1, "a"), (1, "b")], [(1, "a"), (2, None)]])
@pytest.mark.parametrize("others", [0, 1])
def test_two_values_for_a_row_are_refused(
    new_table: MakeTable, decisions: list[Any], others: int
) -> None:
    table = new_table(SCHEMA, rows(1, 2))
    actions = [Action("update", ("s",)), Action("delete")]

    def decide(number: int | None) -> list[Any]:
        return decisions if number == 1 else [(1, "c")] * others if number == 2 else []

    with pytest.raises(InvalidArgumentError, match="several rows of the source"):
        change(table, actions, decide)
    assert content(table) == [(1, "s1"), (2, "s2")]


def test_columns_that_are_not_given_are_null_and_may_have_to_be_given(new_table: MakeTable) -> None:
    table = new_table(SCHEMA, rows(1))
    change(table, [Action("insert", ("id",))], lambda n: [(1, 7)] if n is None else [])
    assert content(table)[1] == (7, None)
    with pytest.raises(InvalidArgumentError, match="id"):
        change(table, [Action("insert", ("s",))], lambda n: [(1, "x")] if n is None else [])


def test_a_key_stays_unique(new_table: MakeTable) -> None:
    table = new_table(SCHEMA, rows(1, 2), primary_key=["id"])
    insert = [Action("insert", ("id", "s"))]
    for taken in (2, 3):
        values = [(1, taken, "x")] * (2 if taken == 3 else 1)
        with pytest.raises((InvalidArgumentError, ConflictError), match="beside another"):
            change(table, insert, lambda n, v=values: v if n is None else [])
    with pytest.raises(InvalidArgumentError, match="primary key"):
        change(table, [Action("update", ("ID",))], lambda n: [])
    # A row may come in the place of one that goes.
    both = [*insert, Action("delete")]
    change(
        table, both, lambda n: [(1, 2, "x")] if n is None else [(2, None, None)] if n == 2 else []
    )
    assert content(table) == [(1, "s1"), (2, "x")]
