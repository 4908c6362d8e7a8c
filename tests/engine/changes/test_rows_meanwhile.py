"""A change beside a writer that never rests: it begins anew for rows that it had to know, and for no others."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from tests.engine.changes.conftest import MakeTable, seen

from fletching import faultpoints
from fletching.client import Client, Table
from fletching.engine.changes import rows_meanwhile
from fletching.engine.changes.attempts import Attempts
from fletching.engine.changes.computed_changes import ComputedChanges
from fletching.engine.changes.rows_meanwhile import InsertedKeys, RowsMeanwhile
from fletching.errors import ConflictError, InvalidArgumentError

SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), ("s", pa.string())])
Verb = Callable[[Table], Any]


def rows(*ids: int, s: str = "new") -> pa.Table:
    return pa.table({"id": list(ids), "s": [s] * len(ids)}, SCHEMA)


def content(table: Table) -> list[tuple[Any, ...]]:
    return sorted(tuple(row.values()) for row in table.scan().to_table().to_pylist())


def statement(text: str) -> Verb:
    def run(table: Table) -> None:
        Client(table.channel, project=table.full_name.project).sql(text.format(t=table.name))

    return run


SOURCE = "merge into {t} using (select 2 as i, 'm' as x union all select 20, 'n') s on "
CLAUSES = (
    " when matched then update set s = s.x when not matched then insert (id, s) values (s.i, s.x)"
)
VERBS: dict[str, Verb] = {
    "merge": lambda table: table.merge(rows(2, 20), on=["id"]),
    "sync": lambda table: table.merge(rows(2, 20), on=["id"], when_not_matched_by_source="delete"),
    "replace": lambda table: table.overwrite(rows(2, 20), where="id IN (2, 20)"),
    "statement": statement(SOURCE + "{t}.id = s.i" + CLAUSES),
    "two columns": statement(SOURCE + "{t}.id = s.i and {t}.s = s.x" + CLAUSES),
}


@pytest.mark.parametrize("keyed", [False, True])
def test_rows_that_match_nothing_are_in_no_way(
    new_table: MakeTable, monkeypatch: pytest.MonkeyPatch, keyed: bool
) -> None:
    for name, verb in VERBS.items():
        if keyed and name == "two columns":
            continue  # would put 2 beside 2
        table = new_table(SCHEMA, rows(1, 2, 3, s="old"), primary_key=["id"] if keyed else ())
        came: list[int] = []

        def reach(point: str, table: Table = table, came: list[int] = came) -> None:
            if point == "change.segments_durable":
                came.append(100 + len(came))
                table.append(rows(came[-1], s="came"))

        with monkeypatch.context() as patch:
            patch.setattr(faultpoints, "reach", reach)
            verb(table)
        assert came == [100], name
        ids = [row[0] for row in content(table)]
        kept = [2] if name == "sync" else [1, 2, 3]
        if name == "two columns":
            kept = [1, 2, 2, 3]
        assert ids == [*kept, 20, 100], name


@pytest.mark.parametrize("keyed", [False, True])
def test_rows_that_match_are_seen(
    new_table: MakeTable, monkeypatch: pytest.MonkeyPatch, keyed: bool
) -> None:
    for name, verb in VERBS.items():
        if name == "two columns":
            continue  # what came is another row there
        table = new_table(SCHEMA, rows(1, 2, 3, s="old"), primary_key=["id"] if keyed else ())
        waiting = [rows(20, s="came")]

        def reach(point: str, table: Table = table, waiting: list[pa.Table] = waiting) -> None:
            if point == "change.segments_durable" and waiting:
                table.append(waiting.pop())

        with monkeypatch.context() as patch:
            patch.setattr(faultpoints, "reach", reach)
            verb(table)
        stored = content(table)
        assert [row[0] for row in stored] == ([2, 20] if name == "sync" else [1, 2, 3, 20]), name
        assert dict(stored)[20] != "came", name


def test_the_last_rows_are_seen_with_the_table_locked(
    new_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that come after the look without a lock, and before the transaction."""
    look = RowsMeanwhile.look
    for name in ("merge", "replace", "statement"):
        table = new_table(SCHEMA, rows(1, 2, 3, s="old"))
        waiting = [rows(20, s="came")]

        def looked(
            self: RowsMeanwhile,
            database: Any,
            table: Table = table,
            waiting: list[pa.Table] = waiting,
        ) -> None:
            look(self, database)
            if waiting:
                table.append(waiting.pop())

        with monkeypatch.context() as patch:
            patch.setattr(RowsMeanwhile, "look", looked)
            VERBS[name](table)
        stored = content(table)
        assert [row[0] for row in stored] == [1, 2, 3, 20], name
        assert dict(stored)[20] != "came", name


def test_a_row_that_came_with_the_key_of_another_is_seen_where_nothing_else_matches(
    new_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_text = "merge into {t} using (select 20 as i, 'x' as x) s on {t}.s = s.x"
    for name, verb, refused in (
        ("merge", lambda table: table.merge(rows(20), on=["s"]), True),
        (
            "statement",
            statement(by_text + " when not matched then insert (id, s) values (s.i, s.x)"),
            True,
        ),
        ("replace", lambda table: table.overwrite(rows(20), where="s = 'new'"), False),
    ):
        table = new_table(SCHEMA, rows(1, 2, 3, s="old"), primary_key=["id"])
        waiting = [rows(20, s="came")]

        def reach(point: str, table: Table = table, waiting: list[pa.Table] = waiting) -> None:
            if point == "change.segments_durable" and waiting:
                table.append(waiting.pop())

        with monkeypatch.context() as patch:
            patch.setattr(faultpoints, "reach", reach)
            if refused:
                with pytest.raises(InvalidArgumentError, match="beside another"):
                    verb(table)
            else:
                verb(table)
        assert dict(content(table))[20] == ("came" if refused else "new"), name
        assert len(content(table)) == 4, name


def test_a_lookup_stays_short_with_the_table_locked(
    new_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came before is looked at without a lock; only what came since must be little."""
    monkeypatch.setattr(rows_meanwhile, "_FEW_ROWS", 2)
    table = new_table(SCHEMA, rows(1, 2, 3))
    waiting = [rows(*range(100, 110))]

    def reach(point: str) -> None:
        if point == "change.segments_durable" and waiting:
            table.append(waiting.pop())

    attempts: list[str] = []
    pin = Attempts._pin

    def pinned(self: Attempts, request: Any, intent: Any) -> Any:
        attempts.append("")
        return pin(self, request, intent)

    with monkeypatch.context() as patch:
        patch.setattr(faultpoints, "reach", reach)
        patch.setattr(Attempts, "_pin", pinned)
        VERBS["merge"](table)
        assert len(attempts) == 1
        patch.setattr(rows_meanwhile, "_MANY_ROWS", 2)
        waiting.append(rows(*range(200, 210)))
        VERBS["merge"](table)
    assert len(attempts) == 3
    assert len(content(table)) == 24


def test_who_never_stops_to_take_the_rows_is_told_of(
    new_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = new_table(SCHEMA, rows(1, 2, 3))
    monkeypatch.setattr("fletching.engine.changes.attempts.MAX_ATTEMPTS", 2)

    def reach(point: str) -> None:
        if point == "change.segments_durable":
            table.append(rows(2))

    with monkeypatch.context() as patch:
        patch.setattr(faultpoints, "reach", reach)
        with pytest.raises(ConflictError, match="2 times"):
            VERBS["merge"](table)
    assert len(content(table)) == 5


DAY = dt.date(2026, 1, 1)


@pytest.mark.parametrize(
    ("columns", "inserted", "expected"),
    [
        ({"n": pa.int32()}, {"n": pa.array([7, None], pa.int64())}, True),
        ({"n": pa.int32()}, {"n": pa.array([8, None], pa.int64())}, False),
        ({"n": pa.int32()}, {"n": pa.array([8.0])}, True),  # nobody knows
        ({"n": pa.int32()}, {"n": pa.array([], pa.float64())}, False),
        ({"s": pa.string()}, {"s": pa.array(["x   "], pa.large_string())}, True),
        ({"s": pa.string()}, {"s": pa.array(["X"]).dictionary_encode()}, False),
        ({"d": pa.date32()}, {"d": pa.array([DAY])}, True),
        ({"d": pa.date32()}, {"d": pa.array([dt.date(2026, 1, 2)])}, False),
        (
            {"n": pa.int32(), "s": pa.string()},
            {"n": pa.array([7]), "s": pa.array(["y"])},
            False,
        ),
        (
            {"n": pa.int32(), "s": pa.string()},
            {"n": pa.array([7]), "s": pa.array([1.5])},  # told by the other alone
            True,
        ),
    ],
)
def test_keys_of_rows_that_are_inserted(
    new_table: MakeTable, columns: dict[str, pa.DataType], inserted: dict[str, Any], expected: bool
) -> None:
    there = {"n": [7, None], "s": ["x", None], "d": [DAY, None]}
    schema = pa.schema(columns)
    table = new_table(schema, pa.table({name: there[name] for name in columns}, schema))

    def look(computed: ComputedChanges) -> bool:
        keys = InsertedKeys(computed.view, range(len(columns)), b"0" * 16)
        keys.add(list(inserted.values()))
        return keys.among(computed.view)

    assert seen(table, look) is expected
