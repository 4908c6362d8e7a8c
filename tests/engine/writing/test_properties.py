"""Whatever is written is what is read: any schema, any batches, any chunking, any partitions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.processes import folder_in_memory

from fletching.engine.engine import Engine
from fletching.protocol.messages.requests import ArrowOptions, WriteTable
from fletching.testing.strategies import record_batches, schemas
from fletching.types import TableName

AS_STORED = ArrowOptions(timestamp_unit=None, datetime_unit=None)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """One folder for all examples, in memory where that is possible; a table for each."""
    with folder_in_memory() as path:
        yield path


@pytest.fixture
def house(folder: Path, open_house: Any) -> Iterator[Any]:
    kind = type(open_house())
    with Engine.open(folder) as engine:
        yield kind(engine, None)


COUNTER = iter(range(1_000_000))


def feed(house: Any, table: TableName, session: str, body: bytes, cuts: list[int]) -> int:
    ingest = house.engine.open_ingest(WriteTable(table=table, session_id=session, stream_id="s"))
    start = 0
    for end in [*sorted(cut % (len(body) + 1) for cut in cuts), len(body)]:
        ingest.decoder.feed(body[start:end])
        messages = list(ingest.decoder)
        if messages:
            ingest.accept(messages)
        start = end
    return int(ingest.finish().rows)


def canonical(table: Any) -> list[str]:
    return [repr(row) for row in table.to_pylist()]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    data=st.data(),
    schema=schemas(),
    compression=st.sampled_from([None, "lz4", "zstd"]),
    cuts=st.lists(st.integers(0, 100_000), max_size=5),
)
def test_any_table_comes_back(
    house: Any, data: Any, schema: Any, compression: str | None, cuts: list[int]
) -> None:
    batches = data.draw(st.lists(record_batches(schema), max_size=4))
    table = TableName("demo", f"any{next(COUNTER)}")
    house.create(schema, table=table)
    session = house.session(table=table)
    house.stream(session, table=table)
    body = house.stream_bytes(batches, schema, compression=compression)
    expected = pa.Table.from_batches(batches, schema)
    assert feed(house, table, session, body, cuts) == expected.num_rows
    house.close(session, table=table)
    house.commit(session, table=table)
    rows = house.read(table, arrow_options=AS_STORED)
    assert rows.schema.equals(schema)
    assert canonical(rows) == canonical(expected)
    # and through a merge of whatever segments that made
    house.engine.compact(table, min_segments=2)
    assert canonical(house.read(table, arrow_options=AS_STORED)) == canonical(expected)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    data=st.data(),
    schema=schemas(3, 1),
    sizes=st.lists(st.integers(0, 6), min_size=1, max_size=4),
)
def test_any_rows_find_their_partitions(
    house: Any, data: Any, schema: Any, sizes: list[int]
) -> None:
    table = TableName("demo", f"dynamic{next(COUNTER)}")
    house.create(schema, ["zz_one", "zz_two"], table=table)
    names = ["a", "b", "c d"]
    batches = []
    for size in sizes:
        batch = data.draw(record_batches(schema, min_rows=size, max_rows=size))
        for column in ("zz_one", "zz_two"):
            values = data.draw(st.lists(st.sampled_from(names), min_size=size, max_size=size))
            batch = batch.append_column(column, pa.array(values, pa.string()))
        batches.append(batch)
    full = batches[0].schema
    order = data.draw(st.permutations(range(len(full))))
    moved = [batch.select(order) for batch in batches]
    session = house.session(table=table)
    house.stream(session, table=table)
    body = house.stream_bytes(moved, moved[0].schema)
    rows = feed(house, table, session, body, [])
    house.close(session, table=table)
    house.commit(session, table=table)
    expected = pa.Table.from_batches(batches, full)
    assert rows == expected.num_rows
    stored = house.read(table, arrow_options=AS_STORED)
    assert sorted(canonical(stored)) == sorted(canonical(expected))
    # within a partition the order is that of the body
    key = ["zz_one", "zz_two"]
    for values in {tuple(row[k] for k in key) for row in expected.select(key).to_pylist()}:

        def of(left: Any, values: tuple[str, ...] = values) -> list[str]:
            return [repr(row) for row in left.to_pylist() if tuple(row[k] for k in key) == values]

        assert of(stored) == of(expected)
