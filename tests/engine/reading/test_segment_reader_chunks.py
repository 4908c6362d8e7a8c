"""Reads of remote objects: few requests, the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fletching.catalog.table_rows import get_table
from fletching.engine.reading.message_checks import MessageChecks
from fletching.engine.reading.segment_reader import SegmentReader
from fletching.engine.writing import metadata_index
from fletching.objects.remote_store import RemoteStore

obstore = pytest.importorskip("obstore")

MIB = 1 << 20
COLUMNS = 10
SCHEMA = pa.schema([(f"c{n}", pa.float64()) for n in range(COLUMNS)])
BATCH_ROWS, BATCHES, SEGMENTS = 14_000, 12, 2


class CountingStore(RemoteStore):
    """Counts what is asked of the bucket.

    Attributes:
        requests: bytes of each range that was asked for.
        heads: how many objects were asked for their length.
    """

    def __init__(self) -> None:
        super().__init__(obstore.store.MemoryStore())
        self.requests: list[int] = []
        self.heads = 0

    def get_range(self, key: str, start: int, end: int) -> memoryview:
        self.requests.append(end - start)
        return super().get_range(key, start, end)

    def open(self, key: str, *, length: int | None = None, crc32c: int | None = None) -> Any:
        self.heads += length is None
        return super().open(key, length=length, crc32c=crc32c)

    def reset(self) -> None:
        self.requests.clear()
        self.heads = 0

    def check_few(self, segments: int) -> None:
        """Holds the requests to one for each 4 MiB that are moved, and one for each segment."""
        assert self.heads == 0
        assert len(self.requests) <= sum(self.requests) / (4 * MIB) + segments


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    values = np.random.default_rng(1).random((COLUMNS, BATCH_ROWS * BATCHES * SEGMENTS))
    return pa.table(list(values), schema=SCHEMA)


def filled(open_house: Callable[..., Any], rows: pa.Table, batch_rows: int = BATCH_ROWS) -> Any:
    """A house whose table has its rows in segments of 13 MB each in a bucket."""
    house = open_house(store=CountingStore())
    house.create(SCHEMA)
    size = len(rows) // SEGMENTS
    for start in range(0, len(rows), size):
        part = rows.slice(start, size)
        session = house.session()
        house.stream(session)
        house.send(house.stream_bytes(part.to_batches(max_chunksize=batch_rows), SCHEMA), session)
        house.close(session)
        house.commit(session)
    house.engine.context.store.reset()
    return house


def sent(plan: Any) -> bytes:
    """What a server sends of a plan."""
    from fletching.server.api.response_body import PlanSource

    source, data = PlanSource(plan, 8 * MIB), b""
    while group := source.next_chunk():
        data += b"".join(bytes(each) for each in group)
    source.close()
    return data


@pytest.mark.parametrize(
    "columns", [(), ("c1",), ("c0", "c1", "c9"), ("c7", "c2"), tuple(SCHEMA.names[:6])]
)
def test_columns_of_many_batches_come_in_few_requests(
    open_house: Any, rows: pa.Table, columns: tuple[str, ...]
) -> None:
    house = filled(open_house, rows)
    store = house.engine.context.store
    names = list(columns) or SCHEMA.names
    plan = house.plan(data_columns=columns)
    length = plan.length
    data = sent(plan)
    store.check_few(SEGMENTS)
    assert len(data) == length
    result = pa.ipc.open_stream(data).read_all()
    assert result.select(names).equals(rows.select(names))
    # What a process of its own reads, without a server.
    store.reset()
    batches = list(house.plan(data_columns=columns).batches())
    assert pa.Table.from_batches(batches).equals(result)
    store.check_few(SEGMENTS)


def test_segments_without_an_index_of_their_metadata(
    open_house: Any, rows: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata_index, "LEAST_SEGMENT_BYTES", 1 << 60)
    house = filled(open_house, rows)
    result = pa.ipc.open_stream(sent(house.plan(data_columns=("c3",)))).read_all()
    assert result.equals(rows.select(["c3"]))
    # The metadata of each batch, the ends that have none, and the values.
    assert len(house.engine.context.store.requests) <= SEGMENTS * (BATCHES + 1 + 4)


def test_a_small_segment_is_fetched_whole(open_house: Any, rows: pa.Table) -> None:
    house = filled(open_house, rows.slice(0, 20_000), 500)
    store = house.engine.context.store
    for read in (sent, lambda plan: plan.batches()):
        store.reset()
        assert read(house.plan(data_columns=("c3", "c5")))
        list(house.plan(data_columns=("c3", "c5")).batches())
        assert len(store.requests) <= 2 * SEGMENTS


def test_who_reads_a_segment_goes_on_when_another_fetches_it_whole(
    open_house: Any, rows: pa.Table
) -> None:
    house = filled(open_house, rows.slice(0, 20_000), 500)
    context = house.engine.context
    with context.database.read() as connection:
        table = get_table(connection, house.table)
    scan_schema, snapshot = house.engine._reading.whole_table(table)
    row = snapshot.segments[0]
    stored = scan_schema.projection.stored(row.schema_version)
    reader = SegmentReader(context.store, row, stored, MessageChecks())
    offset, length = int(snapshot.offset[0]), int(snapshot.message_length[0])
    seen, unchecked = reader.object, reader.unchecked
    reader.bring_metadata([(offset, 64)])
    assert bytes(seen.view(offset, offset + length)) == bytes(
        unchecked.view(offset, offset + length)
    )
    assert reader.object is not seen
    whole = tuple(range(COLUMNS))
    assert reader.decode(offset, offset + length, whole).equals(rows.slice(0, 500).to_batches()[0])


def test_a_missing_object_is_damage(open_house: Any, rows: pa.Table) -> None:
    from fletching.errors import CorruptObjectError

    house = filled(open_house, rows)
    store = house.engine.context.store
    for info in list(store.list("tables")):
        store.delete(info.key)
    for columns in ((), ("c1",)):
        with pytest.raises(CorruptObjectError, match="missing"):
            sent(house.plan(data_columns=columns))


def test_damage_of_the_index_is_an_error(open_house: Any, rows: pa.Table) -> None:
    from fletching.errors import CorruptObjectError

    house = filled(open_house, rows)
    store = house.engine.context.store
    (info, _) = list(store.list("tables"))
    data = bytearray(store.open(info.key).read(0, info.length))
    index = data.rindex(metadata_index.METADATA_KEY)
    entry = bytes(data[index - 80 : index + 120])
    start = int(next(word for word in entry.replace(b"\0", b" ").split() if word.isdigit()))
    data[start + 30] ^= 0xFF
    store.delete(info.key)
    with store.create(info.key) as sink:
        sink.write(data)
        sink.commit()
    with pytest.raises(CorruptObjectError, match="metadata index"):
        sent(house.plan(data_columns=("c1",)))
