"""Columns that come, go and change, over HTTP and over a folder alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from fletching.client import Client, Table
from fletching.errors import AlreadyExistsError, ConflictError, InvalidArgumentError

SCHEMA = pa.schema(
    [
        pa.field("a", pa.int32(), nullable=False),
        ("b", pa.string()),
        ("s", pa.struct([("x", pa.int64())])),
    ]
)


def rows(*numbers: int) -> pa.Table:
    return pa.table(
        {
            "a": list(numbers),
            "b": [f"b{number}" for number in numbers],
            "s": [{"x": number} for number in numbers],
        },
        SCHEMA,
    )


@pytest.fixture
def table(client: Client) -> Table:
    made = client.create_table("evolving", SCHEMA)
    made.append(rows(1, 2, 3))
    return made


def content(source: Any) -> dict[str, list[Any]]:
    result = source.scan() if isinstance(source, Table) else source
    read: dict[str, list[Any]] = result.to_table().to_pydict()
    return read


def test_a_renamed_column_keeps_its_values_and_old_versions_their_names(table: Table) -> None:
    table.rename_column("a", "id")
    table.delete("id = 2")
    assert content(table) == {"id": [1, 3], "b": ["b1", "b3"], "s": [{"x": 1}, {"x": 3}]}
    assert content(table.as_of(1).scan(["a"], filter="a > 1")) == {"a": [2, 3]}
    with pytest.raises(InvalidArgumentError):
        table.scan(filter="a = 1").to_table()
    with pytest.raises(InvalidArgumentError):
        table.as_of(1).scan(filter="id = 1").to_table()
    table.restore(1)
    assert table.reload().schema.names == ["a", "b", "s"]
    assert content(table)["a"] == [1, 2, 3]


def test_a_name_that_is_used_again_is_another_column(table: Table) -> None:
    table.drop_columns(["b"])
    table.add_columns("b STRING")
    assert content(table)["b"] == [None, None, None]
    table.append({"a": [4], "s": [None], "b": ["new"]})
    assert content(table.scan(["a"], filter="b = 'new'")) == {"a": [4]}
    assert content(table.scan(["a"], filter="b = 'b1'")) == {"a": []}
    assert content(table.as_of(1))["b"] == ["b1", "b2", "b3"]
    table.restore(1)
    assert content(table.reload())["b"] == ["b1", "b2", "b3"]
    table.add_columns("c STRING")
    assert content(table)["c"] == [None, None, None]


@pytest.mark.parametrize("nested", [False, True])
def test_values_that_a_restore_brings_back_are_changes(table: Table, nested: bool) -> None:
    if nested:
        table.add_columns(pa.schema([("s.y", pa.string())]))
        table.append({"a": [4], "b": ["b4"], "s": [{"x": 4, "y": "y4"}]})
        whole = table.versions(limit=1)[0].version
        table.restore(2)
        table.restore(1)
    else:
        whole = 1
        table.drop_columns(["b"])
        table.delete("a = 1")
    before = table.versions(limit=1)[0].version
    # Whoever has the rows of that version has seen no values of the column.
    names = table.reload().schema.names
    seen = {row["a"]: row for row in table.scan().to_table().to_pylist()}
    report = table.restore(whole)
    for change in table.reload().changes(before).to_table().to_pylist():
        row = {name: change[name] for name in ("a", "b", "s")}
        if change["_change_type"] == "insert":
            seen[row["a"]] = row
        else:
            gone = seen.pop(row["a"])
            assert nested or {name: row[name] for name in names} == gone
    assert sorted(seen.values(), key=lambda row: row["a"]) == table.scan().to_table().to_pylist()
    # Upkeep may have made a version in between.
    assert [each.version for each in table.watch(before, timeout=0)] == [report.version]


def test_rows_that_went_with_fields_that_a_restore_took_are_in_the_feed(table: Table) -> None:
    table.add_columns(pa.schema([("s.y", pa.string())]))
    table.append({"a": [4, 5], "b": ["b", "c"], "s": [{"x": 4, "y": "gone"}, None]})
    table.restore(1)
    # Another field of that name, and of another type.
    table.add_columns(pa.schema([("s.y", pa.int64())]))
    table.append({"a": [6], "b": ["d"], "s": [{"x": 6, "y": 7}]})
    changes = table.changes(2).to_table().select(["_change_type", "a", "s"]).to_pylist()
    assert [tuple(change.values()) for change in changes] == [
        ("insert", 4, {"x": 4, "y": None}),
        ("insert", 5, None),
        ("delete", 4, {"x": 4, "y": None}),
        ("delete", 5, None),
        ("insert", 6, {"x": 6, "y": 7}),
    ]
    assert table.changes(2, 4).to_table()["s"].to_pylist() == [{"x": 4}, None] * 2


def test_names_may_change_places(table: Table) -> None:
    table.rename_column("b", "t")
    table.add_columns("b INT")
    table.append({"a": [9], "t": ["text"], "s": [None], "b": [7]})
    assert content(table.scan(["b", "t"])) == {
        "b": [None, None, None, 7],
        "t": ["b1", "b2", "b3", "text"],
    }
    assert content(table.scan(["a"], filter="b = 7")) == {"a": [9]}


def test_a_widened_column_reads_old_and_new_segments(table: Table) -> None:
    table.delete("a = 2")
    table.alter_column("a", type="BIGINT")
    big = 1 << 40
    table.append({"a": [big], "b": ["big"], "s": [None]})
    assert table.schema.field("a").type == pa.int64()
    assert content(table)["a"] == [1, 3, big]
    assert content(table.scan(["b"], filter=f"a > {1 << 33}")) == {"b": ["big"]}
    assert content(table.scan(["b"], filter="a < 3")) == {"b": ["b1"]}
    table.update({"b": "concat(b, '!')"}, where="a = 1")
    table.compact(purge=True)
    assert sorted(content(table)["a"]) == [1, 3, big]
    assert table.as_of(1).schema.field("a").type == pa.int32()
    assert content(table.changes(0))["a"][:3] == [1, 2, 3]
    for narrower in ("INT", "STRING", "DOUBLE"):
        with pytest.raises(InvalidArgumentError):
            table.alter_column("a", type=narrower)


def test_order_comments_and_nulls(table: Table) -> None:
    table.alter_column("s", after="")
    table.alter_column("a", after="b", nullable=True, comment="the number")
    assert table.schema.names == ["s", "b", "a"]
    table.append({"s": [None], "b": ["x"], "a": [None]})
    assert content(table)["a"] == [1, 2, 3, None]
    assert content(table.scan(["a", "b"], limit=1)) == {"a": [1], "b": ["b1"]}
    assert table.info.schema.data_columns[2].comment == "the number"
    with pytest.raises(InvalidArgumentError):
        table.alter_column("a", nullable=False)


def test_a_struct_gets_a_field(table: Table) -> None:
    table.add_columns(pa.schema([("s.y", pa.string())]))
    table.append({"a": [4], "b": ["b"], "s": [{"x": 4, "y": "new"}]})
    assert content(table.scan(["s"]))["s"] == [
        {"x": 1, "y": None},
        {"x": 2, "y": None},
        {"x": 3, "y": None},
        {"x": 4, "y": "new"},
    ]
    assert content(table.as_of(1).scan(["s"]))["s"][0] == {"x": 1}


def test_changes_of_columns_are_versions_that_change_no_data(table: Table) -> None:
    table.add_columns("c INT")
    table.rename_column("c", "d")
    table.alter_column("d", type="BIGINT")
    table.drop_columns("d")
    newest = table.versions(limit=4)
    assert [each.operation for each in reversed(newest)] == [
        "add columns",
        "rename column",
        "alter column",
        "drop columns",
    ]
    assert not any(each.data_change for each in newest)
    assert content(table.changes(1)) == {
        name: [] for name in (*SCHEMA.names, "_change_type", "_commit_version", "_commit_timestamp")
    }
    with pytest.raises(ConflictError):
        table.delete("a = 1", if_version=1)
    with pytest.raises(ConflictError):
        table.drop_columns(["b"], if_version=1)


def test_what_columns_cannot_become_is_refused(client: Client, table: Table) -> None:
    keyed = client.create_table("keyed", SCHEMA, primary_key=["a"])
    refused: list[Callable[[], object]] = [
        lambda: table.drop_columns(["nothing"]),
        lambda: table.drop_columns(["a", "b", "s"]),
        lambda: table.drop_columns(["a", "A"]),
        lambda: table.rename_column("nothing", "x"),
        lambda: table.rename_column("a", "B"),
        lambda: table.rename_column("a", ""),
        lambda: table.alter_column("nothing", nullable=True),
        lambda: table.alter_column("a", after="nothing"),
        lambda: table.alter_column("a", after="a"),
        lambda: table.alter_column("a", type="nothing"),
        lambda: table.add_columns("a INT"),
        lambda: table.add_columns(pa.schema([("s.x", pa.int64())])),
        lambda: keyed.drop_columns(["a"]),
        lambda: keyed.alter_column("a", nullable=True),
    ]
    for change in refused:
        with pytest.raises(InvalidArgumentError):
            change()
    assert len(table.versions()) == 2
    keyed.append(rows(1, 2))
    keyed.rename_column("a", "key")
    keyed.alter_column("key", type="BIGINT")
    assert keyed.upsert({"key": [2], "b": ["new"], "s": [None]}).rows_updated == 1
    assert keyed.delete_keys({"key": [1]}).rows_deleted == 1
    assert content(keyed.scan(["key", "b"])) == {"key": [2], "b": ["new"]}


def test_a_table_gets_another_name_and_properties(client: Client, table: Table) -> None:
    client.create_table("taken", SCHEMA)
    with pytest.raises(AlreadyExistsError):
        table.rename("taken")
    with pytest.raises(InvalidArgumentError):
        table.rename("no name")
    renamed = client.rename_table("evolving", "renamed")
    assert renamed.name == "renamed"
    assert content(client.table("renamed"))["a"] == [1, 2, 3]
    renamed.set_properties({"x": "1", "acid.data.retain.hours": "48"})
    others: dict[str, object] = {"on": True, "part": 0.5}
    renamed.set_properties(others)
    assert renamed.properties["on"] == "true"
    renamed.remove_properties(["x", "nothing", "on", "part"])
    assert renamed.properties == {"acid.data.retain.hours": "48"}
    for wrong in ("-1", "soon", "nan"):
        with pytest.raises(InvalidArgumentError):
            renamed.set_properties({"acid.data.retain.hours": wrong})
    # What makes a table a view is not set beside its making, nor taken from a view.
    with pytest.raises(InvalidArgumentError, match="CREATE OR REPLACE VIEW"):
        renamed.set_properties({"fletching.view.text": "select 1"})
    with pytest.raises(InvalidArgumentError, match="CREATE OR REPLACE VIEW"):
        renamed.remove_properties(["fletching.view.namespace"])
    assert content(client.table("renamed"))["a"] == [1, 2, 3]
