"""Rows that a change brings: in segments of their own, checked, and gone again if the change fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from tests.engine.changes.conftest import MakeTable, engine_of, seen

from fletching.client import Table
from fletching.engine.changes.row_writer import RowWriter
from fletching.errors import InvalidArgumentError

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
        found = {each.segment.partition: each.segment for each in staged}
        assert {key: segment.rows for key, segment in found.items()} == {'["a"]': 3, '["b"]': 1}
        assert not any(each.deletes or each.superseded for each in staged)
        assert found['["b"]'].codecs == "zstd"
        assert {segment.key for segment in found.values()} <= keys_of(table)
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
        written(table, lambda writer: writer.write("[]", batch(1, None), None))


def test_what_was_written_can_be_dropped(new_table: MakeTable) -> None:
    table = new_table(SCHEMA)
    before = keys_of(table)

    def work(writer: RowWriter) -> None:
        writer.write("[]", batch(*range(1000)), None)
        writer.abort()

    written(table, work)
    assert keys_of(table) == before
