"""Updates: new values are worked out from the old row, moved where their partition is, refused whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.engine.changes.conftest import MakeTable

import fletching
from fletching.client import Table
from fletching.engine.changes.row_update import by_partition
from fletching.engine.reading.message_checks import _SegmentChecks
from fletching.errors import ConflictError, FletchingError, InvalidArgumentError, UsageError

SCHEMA = pa.schema(
    [pa.field("id", pa.int64(), nullable=False), ("n", pa.int32()), ("s", pa.string())]
)


def rows(*ids: int) -> pa.Table:
    return pa.table({"id": ids, "n": [10 * i for i in ids], "s": [f"s{i}" for i in ids]}, SCHEMA)


def content(table: Table) -> list[tuple[Any, ...]]:
    return sorted(tuple(row.values()) for row in table.scan().to_table().to_pylist())


def test_every_value_is_worked_out_from_the_old_row(new_table: MakeTable) -> None:
    table = new_table(SCHEMA, rows(1, 2), rows(3))
    report = table.update({"id": "n", "n": "CAST(id AS INT)"}, where="id <> 2")
    assert (report.rows_updated, report.rows_inserted, report.rows_deleted) == (2, 0, 0)
    assert content(table) == [(2, 20, "s2"), (10, 1, "s1"), (30, 3, "s3")]


def test_nothing_chosen_is_nothing_changed(new_table: MakeTable) -> None:
    table = new_table(SCHEMA, rows(1))
    assert table.update({"n": "n + 1"}, where="id > 5").rows_updated == 0
    assert content(table) == [(1, 10, "s1")]


@pytest.mark.parametrize(
    "assignments",
    [
        {"nothing": "1"}, {"n": "unknown + 1"}, {"n": "s"}, {"id": "NULL"}, {"n": "n * 1000000000"},
        {}, {"n": ""}, {"n": "1", "N": "2"},
    ],
)  # fmt: skip
def test_what_cannot_be_stored_changes_nothing(
    new_table: MakeTable, assignments: dict[str, str]
) -> None:
    table = new_table(SCHEMA, rows(1, 2))
    with pytest.raises((InvalidArgumentError, UsageError)):
        table.update(assignments, where="id > 0")
    assert content(table) == content(new_table(SCHEMA, rows(1, 2)))
    assert table.versions()[0].version == 1


def test_rows_move_with_their_partition_value(new_table: MakeTable) -> None:
    table = new_table(SCHEMA, partition_by=["pt"])
    table.append(rows(1, 2), partition="pt=a")
    table.update({"pt": "concat('p', CAST(id AS STRING))"}, where="id = 2")
    assert content(table) == [(1, 10, "s1", "a"), (2, 20, "s2", "p2")]
    with pytest.raises(InvalidArgumentError, match="would be null"):
        table.update({"pt": "nullif(pt, 'a')"})


def test_a_key_is_not_assigned_and_not_moved_beside_another(new_table: MakeTable) -> None:
    table = new_table(SCHEMA, partition_by=["pt"], primary_key=["id"])
    table.append(rows(1), partition="pt=a")
    table.append(rows(1, 2), partition="pt=b")
    with pytest.raises(InvalidArgumentError, match="primary key"):
        table.update({"ID": "id + 1"})
    with pytest.raises(ConflictError, match="has a row with its key"):
        table.update({"pt": "'a'"}, where="pt = 'b'")
    table.update({"pt": "'a'"}, where="pt = 'b' AND id = 2")
    assert content(table) == [(1, 10, "s1", "a"), (1, 10, "s1", "b"), (2, 20, "s2", "a")]


def test_damaged_rows_are_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that is written again is proven, by each process once: a file that changed is another."""
    proven: list[int] = []
    compare = _SegmentChecks.compare

    def counted(checks: _SegmentChecks, number: int, checksum: int, key: str) -> None:
        proven.append(number)
        compare(checks, number, checksum, key)

    monkeypatch.setattr(_SegmentChecks, "compare", counted)
    with fletching.connect(tmp_path / "data", create=True) as client:
        table = client.create_table("t", SCHEMA)
        table.append(rows(*range(100)))
        table.update({"n": "n + 1"}, where="id = 7")
        assert len(proven) == 1
        table.update({"n": "n + 1"}, where="id = 8")
        assert len(proven) == 1
        before = content(table)
        (first, *_) = sorted(
            (tmp_path / "data").rglob("*.arrow"), key=lambda path: -path.stat().st_size
        )
        data = bytearray(first.read_bytes())
        data[data.index(b"s55")] ^= 1
        first.chmod(0o600)
        first.write_bytes(data)
        with pytest.raises(FletchingError, match="checksum"):
            table.update({"n": "n + 1"}, where="id = 9")
        assert table.versions()[0].version == 3
        first.write_bytes(bytes(data).replace(b"r55", b"s55"))
        assert content(table) == before


def test_rows_by_partition() -> None:
    columns = [("pt", "string"), ("hh", "bigint")]
    arrays = [pa.array(["b", "a", "b", "b"]), pa.array([1, 1, 1, 2])]
    by_text = {text: rows.tolist() for text, rows in by_partition(columns, arrays)}
    assert by_text == {'["b","1"]': [0, 2], '["a","1"]': [1], '["b","2"]': [3]}
    assert sum(map(len, by_text.values())) == 4
    with pytest.raises(InvalidArgumentError, match="column hh would be null"):
        by_partition(columns, [pa.array(["a"]), pa.array([None], pa.int64())])


@pytest.mark.parametrize(
    ("kind", "expression"),
    [
        ("varchar(3)", "'abcdef'"),
        ("array<varchar(2)>", "l"),
        ("struct<A:char(2),b:bigint>", "s"),
        ("struct<b:bigint>", "s"),
        ("bigint", "' 12 '"),
        ("bigint", "'1_0'"),
        ("bigint", "1.5"),
        ("bigint", "'x'"),
        ("double", "'0x10'"),
        ("decimal(5,2)", "'1.239'"),
        ("decimal(5,2)", "123456"),
        ("date", "'2024-02-30'"),
        ("date", "'epoch'"),
        ("date", "'2024-03-01'"),
        ("string", "2"),
        ("array<bigint>", "'[1]'"),
    ],
)
def test_a_column_takes_what_it_takes_of_a_statement(
    tmp_path: Path, kind: str, expression: str
) -> None:
    client = fletching.connect(tmp_path / "data", create=True)

    def outcome(change: Callable[[Table], object]) -> object:
        client.drop_table("t", if_exists=True)
        columns = f"id BIGINT, x {kind}, l ARRAY<STRING>, s STRUCT<B:BIGINT,a:STRING>"
        table = client.create_table("t", columns)
        table.append([{"id": 1, "l": ["abc", None], "s": {"B": 7, "a": "xyz"}}])
        try:
            change(table)
        except FletchingError as error:
            return type(error)
        return table.to_table()["x"].to_pylist()

    with client:
        text = f"update t set x = {expression} where id > 0"
        by_statement = outcome(lambda _: client.sql(text))
        assert outcome(lambda table: table.update({"x": expression})) == by_statement
