"""Tables of one statement: pinned once, at one moment, let go of at the end, and counted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from fletching.engine.query import table_readers
from fletching.engine.query.table_readers import RelationReader, Statistics, TableReaders
from fletching.errors import NoSuchTableError
from fletching.types import TableName

T = TableName("demo", "t")
BATCH = pa.record_batch({"n": range(5)})


def test_one_version_for_every_mention(house: Any) -> None:
    house.create(BATCH.schema)
    house.append(BATCH)
    with TableReaders(
        house.engine.reading if hasattr(house.engine, "reading") else house.engine._reading
    ) as readers:
        readers.pin([(T, None), (TableName("DEMO", "T"), None), (T, 0)])
        house.append(BATCH)
        readers.pin([(T, None)])
        assert list(readers.fields(TableName("Demo", "T"))) == ["n"]
        for version, rows in ((None, 5), (0, 0)):
            source = SimpleNamespace(name=T, version=version, fields={"n": BATCH.schema.field(0)})
            scan: Any = SimpleNamespace(
                source=source, columns=("n",), predicate=None, relation="r0", pushed=[]
            )
            statistics = Statistics()
            _, batches = readers.reader(scan, statistics).open()
            assert sum(each.num_rows for each in batches) == rows
            assert statistics.rows == rows
        with pytest.raises(NoSuchTableError):
            readers.pin([(TableName("demo", "none"), None)])
    readers.close()


def test_large_batches_are_cut_and_all_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_readers, "SLICE_ROWS", 2)
    statistics = Statistics()
    reader = RelationReader(
        lambda: (BATCH.schema, iter([BATCH, BATCH.slice(0, 0)])), "r", statistics
    )
    for times in (1, 2):
        schema, batches = reader.open()
        assert schema.names == ["n"]
        assert [each.num_rows for each in batches] == [2, 2, 1, 0]
        assert (statistics.rows, statistics.tables) == (5 * times, {"r": 5 * times})
    assert statistics.bytes == 2 * BATCH.nbytes
