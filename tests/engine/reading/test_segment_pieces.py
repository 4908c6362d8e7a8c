"""Projected reads of a remote object: few requests, the same bytes."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from fletching.objects.remote_store import RemoteStore

COLUMNS = 10
SCHEMA = pa.schema([(f"c{n}", pa.int64()) for n in range(COLUMNS)])


class CountingStore(RemoteStore):
    """Counts what is asked of the bucket."""

    requests = 0

    def get_range(self, key: str, start: int, end: int) -> memoryview:
        self.requests += 1
        return super().get_range(key, start, end)

    def get_ranges(self, key: str, ranges: Any) -> Any:
        self.requests += 1
        return super().get_ranges(key, ranges)


@pytest.mark.parametrize("columns", [("c1",), ("c0", "c1", "c9"), ("c2", "c7")])
def test_columns_of_many_batches_come_in_few_requests(
    open_house: Any, columns: tuple[str, ...]
) -> None:
    obstore = pytest.importorskip("obstore")
    store = CountingStore(obstore.store.MemoryStore())
    house = open_house(store=store)
    house.create(SCHEMA)
    table = pa.table({name: pa.array(range(20_000), pa.int64()) for name in SCHEMA.names})
    session = house.session()
    house.stream(session)
    house.send(house.stream_bytes(table.to_batches(max_chunksize=1000), SCHEMA), session)
    house.close(session)
    house.commit(session)
    store.requests = 0
    plan = house.plan(data_columns=columns)
    length = plan.length
    data = b"".join(bytes(piece) for piece in plan.buffers())
    assert len(data) == length
    assert store.requests <= 2  # the metadata of all batches, then the wanted buffers of all
    found = pa.ipc.open_stream(data).read_all()
    assert found.column_names == list(columns)
    assert found.equals(table.select(list(columns)))
