"""One segment as a read sees it: opened when needed, of the length that the catalog says, decoded in parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fletching.catalog.segment_rows import visible_segments
from fletching.engine.reading.output_schema import TableColumns, output_columns
from fletching.engine.reading.physical_projection import PhysicalProjection
from fletching.engine.reading.segment_reader import DictionaryMessage, SegmentReader
from fletching.errors import CorruptObjectError
from fletching.protocol.messages.requests import ArrowOptions

SCHEMA = pa.schema([("n", pa.int64()), ("s", pa.string())])
BATCH = pa.record_batch({"n": [1, 2, 3], "s": ["a", None, "ccc"]}, SCHEMA)


def reader_of(shelf: Any, **row: Any) -> Any:
    with shelf.database.read() as connection:
        (result,) = visible_segments(connection, shelf.table_id, 1)
    table = TableColumns(SCHEMA, (), ((1,), (2,)))
    outputs = output_columns(
        table, [0, 1], ArrowOptions(timestamp_unit=None, datetime_unit=None), verbatim_types=True
    )
    stored = PhysicalProjection(table, outputs, {1: table}).stored(1)
    return SegmentReader(shelf.store, result._replace(**row), stored)


def message(reader: Any) -> tuple[int, int]:
    offset, metadata, body, _ = np.frombuffer(reader.row.batch_index, "<i8").tolist()
    return offset, offset + metadata + body


@pytest.mark.parametrize("codec", ["", "lz4", "zstd"])
@pytest.mark.parametrize("columns", [(0, 1), (1,), (0,), ()])
def test_columns_of_a_batch(shelf: Any, codec: str, columns: tuple[int, ...]) -> None:
    shelf.create(SCHEMA)
    shelf.add(BATCH, codec=codec)
    reader = reader_of(shelf)
    assert shelf.store.opened == []
    assert reader.decode(*message(reader), columns).equals(BATCH.select(list(columns)))
    reader.decode(*message(reader), columns)
    assert len(shelf.store.opened) == 1
    assert reader.dictionaries(1 << 40) == []


def test_an_object_that_is_gone_or_of_another_length(shelf: Any) -> None:
    shelf.create(SCHEMA)
    key = shelf.add(BATCH)
    with pytest.raises(CorruptObjectError, match="cut or replaced") as caught:
        reader_of(shelf, length=5).unchecked  # noqa: B018 - opens it
    assert caught.value.key == key
    reader = reader_of(shelf)
    start, end = message(reader)
    with pytest.raises(CorruptObjectError):
        reader.decode(start + 8, end, (0, 1))
    del shelf.store.data[key]
    with pytest.raises(CorruptObjectError, match="missing"):
        reader_of(shelf).object  # noqa: B018 - opens it


def test_where_a_message_ends() -> None:
    assert DictionaryMessage(100, 20, 3, 7).end == 123
