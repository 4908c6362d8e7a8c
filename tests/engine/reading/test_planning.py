"""Plans: what is sent as stored, what is picked out, what is computed, and that nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.engine.reading.conftest import checked_table

from fletching import ipc
from fletching.engine.reading import physical_projection, planning
from fletching.engine.reading.computed_batches import BatchComputation
from fletching.engine.reading.read_plan import Computed, Extent, Literal, run_checked
from fletching.errors import CorruptObjectError
from fletching.ipc import lowlevel
from fletching.protocol.messages.changes import DeleteRows, RenameColumn

SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string()), ("value", pa.float64())])


def batch(start: int, rows: int) -> pa.RecordBatch:
    numbers = range(start, start + rows)
    return pa.record_batch(
        {
            "id": pa.array(numbers, pa.int64()),
            "text": pa.array([f"row {n}" * (n % 3) for n in numbers], pa.string()),
            "value": pa.array([n / 2 if n % 5 else None for n in numbers], pa.float64()),
        },
        schema=SCHEMA,
    )


def stored_messages(data: bytes) -> list[bytes]:
    return [
        bytes(data[message.offset : message.end])
        for message in ipc.messages(data)
        if message.type is lowlevel.MessageType.RECORD_BATCH
    ]


def extents(plan: Any) -> list[Extent]:
    return [piece for piece in plan.pieces if isinstance(piece, Extent)]


# --- verbatim --------------------------------------------------------------------------------


def test_batches_as_stored_are_one_extent_per_segment_with_the_stored_bytes(shelf: Any) -> None:
    shelf.create(SCHEMA)
    keys = [shelf.add([batch(0, 10), batch(10, 20)]), shelf.add([batch(30, 5)])]
    plan = shelf.plan(shelf.session())
    first, second, third, last = plan.pieces
    assert isinstance(first, Literal)
    assert isinstance(last, Literal)
    assert bytes(last.data) == lowlevel.END_OF_STREAM
    for extent, key in ((second, keys[0]), (third, keys[1])):
        assert isinstance(extent, Extent)
        sent = bytes(extent.object.view(extent.start, extent.end))
        assert sent == b"".join(stored_messages(shelf.store.data[key]))
    assert plan.rows == 35


def test_a_plan_of_stored_batches_opens_nothing_until_it_is_executed(shelf: Any) -> None:
    shelf.create(SCHEMA)
    for number in range(20):
        shelf.add(batch(number, 3))
    session = shelf.session()
    plan = shelf.plan(session)
    assert plan.length is not None
    assert shelf.store.opened == []
    pieces = iter(plan.pieces)
    next(pieces)
    next(pieces)
    assert len(shelf.store.opened) == 1


def test_compressed_batches_are_sent_as_stored(shelf: Any) -> None:
    shelf.create(SCHEMA)
    key = shelf.add([batch(0, 500)], codec="zstd")
    plan = shelf.plan(shelf.session())
    assert [extent.length for extent in extents(plan)] == [
        len(stored_messages(shelf.store.data[key])[0])
    ]
    assert not any(isinstance(piece, Computed) for piece in plan.pieces)


def test_only_what_is_cut_is_computed(shelf: Any) -> None:
    shelf.create(SCHEMA)
    shelf.add([batch(0, 10), batch(10, 10), batch(20, 10)])
    kinds = [type(piece) for piece in shelf.plan(shelf.session(), offset=5, count=20).pieces]
    assert kinds == [Literal, Computed, Extent, Computed, Literal]


def test_batches_within_the_row_limit_stay_as_stored(shelf: Any) -> None:
    shelf.create(SCHEMA)
    shelf.add([batch(0, 10), batch(10, 30), batch(40, 10)])
    session = shelf.session()
    plan = shelf.plan(session, max_batch_rows=16)
    assert [type(piece) for piece in plan.pieces] == [Literal, Extent, Computed, Extent, Literal]
    with pa.ipc.open_stream(b"".join(map(bytes, plan.buffers()))) as reader:
        assert [b.num_rows for b in reader] == [10, 16, 14, 10]


# --- projection ------------------------------------------------------------------------------


def test_a_projection_moves_only_the_wanted_columns_bytes(shelf: Any) -> None:
    rows = 4096
    wide = pa.record_batch({f"c{n}": pa.array(range(rows), pa.int64()) for n in range(5)})
    shelf.create(wide.schema)
    shelf.add([wide, wide])
    session = shelf.session()
    shelf.store.views.clear()
    plan = shelf.plan(session, data_columns=("c1", "c4"))
    moved = sum(extent.length for extent in extents(plan))
    assert moved == 2 * 2 * rows * 8
    touched = sum(end - start for _, start, end in shelf.store.views)
    assert touched < 4096  # planning reads metadata alone
    assert shelf.read(session, data_columns=("c1", "c4")).num_rows == 2 * rows


def test_partition_columns_are_appended_with_the_type_of_the_table(shelf: Any) -> None:
    shelf.create(SCHEMA, [("day", "string"), ("hour", "bigint")])
    shelf.add(batch(0, 3), ["mon", "7"])
    shelf.add(batch(3, 2), ["tue", "8"])
    table = shelf.read()
    assert table.column("day").to_pylist() == ["mon"] * 3 + ["tue"] * 2
    assert table.column("hour").to_pylist() == [7] * 3 + [8] * 2
    assert not any(isinstance(piece, Computed) for piece in shelf.plan(shelf.session()).pieces)


def test_partition_columns_alone_need_no_stored_body(shelf: Any) -> None:
    shelf.create(SCHEMA, [("day", "string")])
    shelf.add(batch(0, 3), ["mon"])
    session = shelf.session(required_partition_columns=("day",))
    assert extents(shelf.plan(session)) == []
    assert shelf.read(session).to_pydict() == {"day": ["mon"] * 3}


def test_columns_added_later_are_null_in_older_segments(shelf: Any) -> None:
    shelf.create(SCHEMA, [("day", "string")])
    shelf.add(batch(0, 3), ["mon"])
    before = shelf.session()
    shelf.add_columns(pa.field("extra", pa.string()), pa.field("n", pa.list_(pa.int32())))
    newer = batch(3, 2).append_column("extra", pa.array(["x", None]))
    newer = newer.append_column("n", pa.array([[1], None], pa.list_(pa.int32())))
    shelf.add(newer, ["tue"])

    table = shelf.read()
    assert table.column("extra").to_pylist() == [None, None, None, "x", None]
    assert table.column("n").to_pylist() == [None, None, None, [1], None]
    assert table.column("day").to_pylist() == ["mon"] * 3 + ["tue"] * 2
    swapped = shelf.read(data_columns=("extra", "id"), data_columns_unordered=True)
    assert swapped.column_names == ["extra", "id"]
    assert swapped.column("id").to_pylist() == [0, 1, 2, 3, 4]
    # A session from before does not see them, in any process.
    shelf.reading = shelf.process()
    assert shelf.read(before).column_names == ["id", "text", "value", "day"]


def test_columns_come_in_table_order_unless_another_is_asked_for(shelf: Any) -> None:
    shelf.create(SCHEMA)
    shelf.add(batch(0, 4))
    session = shelf.session()
    assert shelf.read(session, data_columns=("VALUE", "Id")).column_names == ["id", "value"]
    unordered = shelf.read(session, data_columns=("VALUE", "Id"), data_columns_unordered=True)
    assert unordered.column_names == ["value", "id"]
    assert unordered.column("id").to_pylist() == [0, 1, 2, 3]


# --- limits ----------------------------------------------------------------------------------


def test_no_batch_is_above_the_byte_limit(shelf: Any) -> None:
    texts = ["x" * 300_000 if n % 10 == 0 else "y" for n in range(64)]
    big = pa.record_batch({"text": texts})
    shelf.create(big.schema)
    shelf.add([big])
    limit = 1 << 20
    plan = shelf.plan(shelf.session(), max_batch_bytes=limit)
    sent = b"".join(map(bytes, plan.buffers()))
    sizes = [
        m.end - m.offset for m in ipc.messages(sent) if m.type is lowlevel.MessageType.RECORD_BATCH
    ]
    assert len(sizes) > 1
    assert max(sizes) <= limit
    assert shelf.read(max_batch_bytes=limit).column("text").to_pylist() == texts


def test_a_row_above_the_byte_limit_is_a_batch_of_its_own(shelf: Any) -> None:
    big = pa.record_batch({"text": ["a", "x" * (2 << 20), "b"]})
    shelf.create(big.schema)
    shelf.add([big])
    assert shelf.read(max_batch_bytes=1 << 20).to_pydict() == big.to_pydict()


def test_an_empty_table_is_a_schema_and_an_end(shelf: Any) -> None:
    shelf.create(SCHEMA, [("day", "string")])
    session = shelf.session()
    assert (session.record_count, session.splits_count) == (0, 0)
    table = shelf.read(session)
    assert table.num_rows == 0
    assert table.column_names == ["id", "text", "value", "day"]


def test_batches_without_rows_do_no_harm(shelf: Any) -> None:
    shelf.create(SCHEMA)
    shelf.add([batch(0, 0), batch(0, 3), batch(3, 0), batch(3, 4), batch(7, 0)])
    session = shelf.session()
    whole = pa.Table.from_batches([batch(0, 7)])
    for request in ({}, {"max_batch_rows": 2}, {"data_columns": ("id", "text", "value")}):
        assert shelf.read(session, **request).equals(whole)
    assert shelf.read(session, offset=3, count=4).equals(whole.slice(3))
    assert shelf.read(session, offset=7).num_rows == 0


def test_lengths_are_left_out_when_measuring_takes_longer_than_sending(
    shelf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fletching.engine.reading.planning.AHEAD_MESSAGES", 2)
    shelf.create(SCHEMA)
    shelf.add([batch(0, 4), batch(4, 4), batch(8, 4)])
    session = shelf.session()
    assert shelf.plan(session).length is not None
    assert shelf.plan(session, data_columns=("id",)).length is None
    assert shelf.read(session, data_columns=("id",)).num_rows == 12


def test_a_reply_has_a_length_where_few_batches_lost_rows(house: Any) -> None:
    house.create(SCHEMA)
    house.append([batch(start, 2_000) for start in range(0, 80_000, 2_000)])
    for where, known in (("id = 3", True), ("id % 7 = 3", False)):
        house.engine.call(DeleteRows(table=house.table, where=where))
        plan = house.plan()
        assert (plan.length is not None) is known
        assert checked_table(plan).num_rows == house.describe().rows


def test_a_renamed_column_has_another_name_and_nothing_else(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> Any:
        raise AssertionError("no value is looked at")

    house.create(SCHEMA)
    house.append([batch(0, 200), batch(200, 200)])
    (before, _) = house.plan().batches()
    house.engine.call(RenameColumn(table=house.table, name="text", new_name="words"))
    house.engine.call(DeleteRows(table=house.table, where="id % 7 = 3 AND id >= 200"))
    monkeypatch.setattr(physical_projection, "convert_for_reply", refused)
    plan = house.plan()
    stored, left = plan.batches()
    assert stored.schema.equals(plan.schema, check_metadata=True)
    assert left.schema.equals(plan.schema, check_metadata=True)
    assert stored.schema.names == ["id", "words", "value"]
    assert stored["words"].buffers()[2].address == before["text"].buffers()[2].address
    assert left["id"].to_pylist() == [n for n in range(200, 400) if n % 7 != 3]


@pytest.mark.parametrize("helpers", [1, 2])
def test_one_helper_is_not_asked_to_copy_what_is_left(
    house: Any, monkeypatch: pytest.MonkeyPatch, helpers: int
) -> None:
    ahead: list[int] = []

    def recorded(computations: Iterator[BatchComputation]) -> Iterator[pa.RecordBatch]:
        for number, each in enumerate(computations):
            ahead.append(number)
            yield from each.batches()

    monkeypatch.setattr(planning, "HELPERS", helpers)
    monkeypatch.setattr(planning, "THREADS_BYTES", 1)
    monkeypatch.setattr(planning, "computed_ahead", recorded)
    house.create(SCHEMA)
    house.append([batch(start, 200) for start in range(0, 1_000, 200)])
    house.engine.call(DeleteRows(table=house.table, where="id % 7 = 3"))
    rows = sum(each.num_rows for each in house.plan().batches())
    assert rows == house.describe().rows
    assert len(ahead) == (5 if helpers > 1 else 0)


# --- faults ----------------------------------------------------------------------------------


def test_a_missing_segment_is_reported_by_its_key(shelf: Any) -> None:
    shelf.create(SCHEMA)
    key = shelf.add(batch(0, 4))
    del shelf.store.data[key]
    plan = shelf.plan(shelf.session())
    with pytest.raises(CorruptObjectError) as error:
        list(plan.buffers())
    assert error.value.key == key


def test_damaged_metadata_is_reported_not_sent(shelf: Any) -> None:
    shelf.create(SCHEMA)
    key = shelf.add(batch(0, 4))
    session = shelf.session()
    data = bytearray(shelf.store.data[key])
    start = next(
        m for m in ipc.messages(bytes(data)) if m.type is lowlevel.MessageType.RECORD_BATCH
    )
    data[start.offset + 8 : start.offset + 40] = b"\xee" * 32
    shelf.store.data[key] = bytes(data)
    for request in ({"data_columns": ("id",)}, {"max_batch_rows": 2}):
        with pytest.raises(CorruptObjectError) as error:
            _ = shelf.plan(session, **request).length
        assert error.value.key == key


def test_a_batch_of_other_rows_than_the_catalog_has_is_reported(shelf: Any) -> None:
    """As when a segment was replaced by another of the same layout."""
    flags = [pa.record_batch({"flag": [True] * rows}) for rows in (4, 4, 3)]
    shelf.create(flags[0].schema)
    key = shelf.add(flags[:2])
    _, second = stored_messages(shelf.store.data[key])
    shorter = b"".join(bytes(p) for p in lowlevel.BatchEncoder(flags[0].schema).encode(flags[2])[0])
    assert len(shorter) == len(second)
    data = shelf.store.data[key]
    start = data.rindex(second)
    shelf.store.data[key] = data[:start] + shorter + data[start + len(second) :]
    batches = shelf.plan(shelf.session()).batches()
    assert next(batches).equals(flags[0])
    with pytest.raises(CorruptObjectError, match="3 rows where the catalog has 4") as error:
        next(batches)
    assert error.value.key == key


def test_a_computed_piece_of_another_length_is_not_sent() -> None:
    with pytest.raises(CorruptObjectError):
        run_checked(Computed(lambda: [b"12", b"3"], 4))
    assert run_checked(Computed(lambda: [b"12", b"3"], None)) == [b"12", b"3"]


# --- any range -------------------------------------------------------------------------------


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_range_of_rows_is_those_rows(make_shelf: Any, data: st.DataObject) -> None:
    shelf = make_shelf()
    partitioned = data.draw(st.booleans())
    shelf.create(SCHEMA, [("day", "string")] if partitioned else [])
    segments = data.draw(
        st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4), min_size=1, max_size=4)
    )
    start = 0
    for number, sizes in enumerate(segments):
        batches = []
        for rows in sizes:
            batches.append(batch(start, rows))
            start += rows
        shelf.add(batches, [f"d{number}"] if partitioned else [])
    session = shelf.session()
    assert session.record_count == start
    whole = shelf.read(session)
    assert whole.column("id").to_pylist() == list(range(start))
    offset = data.draw(st.integers(0, start))
    count = data.draw(st.integers(0, start + 3))
    skip = data.draw(st.integers(0, 12))
    table = shelf.read(
        session,
        offset=offset,
        count=count,
        skip_rows=skip,
        max_batch_rows=data.draw(st.sampled_from([None, 1, 3, 8])),
        data_columns=data.draw(st.sampled_from([(), ("id",), ("text", "id")])),
        buffer_codec=data.draw(st.sampled_from([None, "lz4"])),
    )
    expected = whole.slice(min(offset + skip, offset + count), max(count - skip, 0))
    assert table.column("id").to_pylist() == expected.column("id").to_pylist()
    if "text" in table.column_names:
        assert table.column("text").to_pylist() == expected.column("text").to_pylist()


def test_columns_that_are_not_read_are_not_decompressed(
    shelf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = 5000
    wide = pa.record_batch({f"c{n}": pa.array(range(rows), pa.int64()) for n in range(8)})
    shelf.create(wide.schema)
    shelf.add([wide], codec="zstd")
    session = shelf.session(required_data_columns=("c3", "c6"))
    table = shelf.read(session, max_batch_rows=1000)
    assert table.column("c6").to_pylist() == list(range(rows))
    before = pa.total_allocated_bytes()
    (batch_,) = shelf.plan(session).batches()
    assert pa.total_allocated_bytes() - before < 3 * rows * 8
    assert batch_.schema.names == ["c3", "c6"]


# --- limits and codecs of what is stored ------------------------------------------------------


def test_the_limit_of_bytes_is_on_uncompressed_ones(shelf: Any) -> None:
    schema = pa.schema([("text", pa.string())])
    shelf.create(schema)
    wide = pa.record_batch([pa.array(["x" * 100] * 30_000)], schema)
    key = shelf.add([wide], codec="lz4", codecs="lz4")
    stored = len(stored_messages(shelf.store.data[key])[0])
    limit = 1 << 20
    assert stored < limit < wide.nbytes
    plan = shelf.plan(shelf.session(), max_batch_bytes=limit)
    batches = list(plan.batches())
    assert sum(batch.num_rows for batch in batches) == 30_000
    assert all(batch.nbytes <= limit for batch in batches)
    assert extents(plan) == []


@pytest.mark.parametrize("stored", ["zstd", "lz4", "lz4,none", ""])
@pytest.mark.parametrize("asked", ["lz4", "zstd"])
def test_what_is_sent_has_the_codec_that_was_asked_for(shelf: Any, stored: str, asked: str) -> None:
    shelf.create(SCHEMA)
    shelf.add([batch(0, 500)], codec=stored.split(",", maxsplit=1)[0], codecs=stored)
    plan = shelf.plan(shelf.session(), buffer_codec=asked)
    data = b"".join(bytes(buffer) for buffer in plan.buffers())
    sent = [
        message
        for message in ipc.messages(data)
        if message.type is lowlevel.MessageType.RECORD_BATCH
    ]
    assert {str(message.record_batch().compression).split(".")[-1].lower() for message in sent} & {
        asked,
        f"{asked}_frame",
    }
    assert bool(extents(plan)) is (stored == asked)
