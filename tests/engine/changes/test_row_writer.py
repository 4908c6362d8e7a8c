"""Rows that a change brings: in segments of their own, checked, and gone again if the change fails."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from tests.engine.changes.conftest import MakeTable, engine_of, seen

from fletching.client import Table
from fletching.engine.changes.row_writer import RowWriter
from fletching.engine.writing import keyed_rows
from fletching.errors import InvalidArgumentError
from fletching.protocol.types.arrow_types import arrow_field
from fletching.protocol.types.odps_types import parse_type

SCHEMA = pa.schema([pa.field("k", pa.int64(), nullable=False), ("v", pa.string())])


def batch(*keys: int | None) -> pa.RecordBatch:
    return pa.record_batch([pa.array(keys, pa.int64()), pa.array([str(k) for k in keys])], SCHEMA)


def written(table: Table, work: Callable[[RowWriter], Any]) -> Any:
    context = engine_of(table).context
    return seen(table, lambda computed: work(RowWriter(context, computed.view)))


def keys_of(table: Table) -> set[str]:
    return {info.key for info in engine_of(table).context.store.list("tables")}


def test_each_partition_has_segments_of_its_own(new_table: MakeTable) -> None:
    table = new_table(SCHEMA, partition_by=["pt"])

    def work(writer: RowWriter) -> Any:
        writer.write('["a"]', batch(1, 2), None)
        writer.write('["b"]', batch(3), "zstd")
        writer.write('["a"]', batch(4), "other")
        staged = writer.finish()
        segments = {each.segment.partition: each.segment for each in staged}
        assert {key: segment.rows for key, segment in segments.items()} == {'["a"]': 3, '["b"]': 1}
        assert not any(each.deletes or each.superseded for each in staged)
        assert segments['["b"]'].codecs == "zstd"
        assert {segment.key for segment in segments.values()} <= keys_of(table)
        assert writer.packs is None
        return staged

    written(table, work)


def test_nothing_written_is_no_segment(new_table: MakeTable) -> None:
    assert written(new_table(SCHEMA), lambda writer: writer.finish()) == []


def test_of_a_key_the_last_row_counts(new_table: MakeTable) -> None:
    table = new_table(SCHEMA, primary_key=["k"])

    def work(writer: RowWriter) -> Any:
        writer.write("[]", batch(1, 2, 1), None)
        writer.write("[]", batch(2, 3), None)
        return [(each.segment.rows, list(each.superseded)) for each in writer.finish()]

    assert written(table, work) == [(5, [0, 1])]


def test_nulls_are_refused_where_there_may_be_none(new_table: MakeTable) -> None:
    table = new_table(SCHEMA)
    with pytest.raises(InvalidArgumentError, match="k"):
        written(table, lambda writer: writer.write("[]", batch(1, None), None, new=[0, 1]))


def test_values_that_were_stored_before_are_not_looked_at_again(new_table: MakeTable) -> None:
    schema = pa.schema([("k", pa.int64()), arrow_field("v", parse_type("json"))])
    table = new_table(schema)
    rows = pa.record_batch([pa.array([1]), pa.array(["{"])], schema)

    def work(writer: RowWriter) -> int:
        writer.write("[]", rows, None, new=[0])
        return sum(each.segment.rows for each in writer.finish())

    assert written(table, work) == 1
    with pytest.raises(InvalidArgumentError, match="takes JSON"):
        written(table, lambda writer: writer.write("[]", rows, None, new=[1]))


class Checker:
    """Looks at cells for the packs that they refer to, and refuses text it does not know."""

    def __init__(self) -> None:
        self.packs: frozenset[str] = frozenset()

    def check_batch(self, batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
        assert schema == SCHEMA
        texts = batch.column(1).to_pylist()
        if "9" in texts:
            raise InvalidArgumentError("no reference of this server's")
        self.packs |= set(texts)
        return batch


def test_packs_that_rows_refer_to_are_known_or_said_to_be_unknown(new_table: MakeTable) -> None:
    """What no row is known to refer to is deleted: a pack that is not named here would be lost."""
    table = new_table(SCHEMA)

    def work(writer: RowWriter) -> Any:
        writer.write("[]", batch(1, 2), None)
        writer.write("[]", batch(3), None)
        known = writer.packs
        writer.write("[]", batch(9), None)  # kept as it is
        writer.write("[]", batch(4), None)
        rows = sum(each.segment.rows for each in writer.finish())
        unknown = writer.packs
        writer.abort()
        return known, unknown, rows

    def look(computed: Any) -> Any:
        view = dataclasses.replace(computed.view, checker=Checker())
        return work(RowWriter(engine_of(table).context, view))

    assert seen(table, look) == ({"1", "2", "3"}, None, 5)


def test_what_was_written_can_be_dropped(new_table: MakeTable) -> None:
    table = new_table(SCHEMA)
    before = keys_of(table)

    def work(writer: RowWriter) -> None:
        writer.write("[]", batch(*range(1000)), None)
        writer.abort()

    written(table, work)
    assert keys_of(table) == before


def test_memory_holds_the_keys_of_some_rows_at_a_time(
    new_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change of many rows ends segments before it is done: its keys are found, or gone with it."""
    monkeypatch.setattr(keyed_rows, "KEYS_AT_ONCE", 4)
    table = new_table(SCHEMA, primary_key=["k"], partition_by=["pt"])
    before = keys_of(table)

    def work(writer: RowWriter) -> Any:
        for keys in ((1, 2), (3, 1), (4,), (5, 5)):
            writer.write('["a"]', batch(*keys), None)
            writer.write('["b"]', batch(*keys), None)
        staged = writer.finish()
        assert len({each.segment.key for each in staged}) == len(keys_of(table) - before)
        values = [
            (each.segment.partition, each.segment.rows, len(each.superseded)) for each in staged
        ]
        writer.abort()
        return values

    assert written(table, work) == [
        ('["a"]', 2, 0),
        ('["b"]', 2, 0),
        ('["a"]', 2, 0),
        ('["b"]', 2, 0),
        ('["a"]', 3, 1),
        ('["b"]', 1, 0),
        ('["b"]', 2, 1),
    ]
    assert keys_of(table) == before
    for value in ("a", "b"):
        table.append([{"k": key, "v": "old"} for key in range(10)], partition=f"pt={value}")
    assert table.update({"v": "concat(v, pt)"}).rows_updated == 20
    assert table.update(values={"v": "new"}, where="pt = 'a'").rows_updated == 10
    table.upsert([{"k": 9, "v": "last", "pt": "a"}, {"k": 10, "v": "more", "pt": "b"}])
    values = {(row["pt"], row["k"]): row["v"] for row in table.scan().to_table().to_pylist()}
    assert values == {
        **{("a", key): "new" for key in range(9)},
        **{("b", key): "oldb" for key in range(10)},
        ("a", 9): "last",
        ("b", 10): "more",
    }
    assert [item for item in engine_of(table).verify() if item.problems] == []
