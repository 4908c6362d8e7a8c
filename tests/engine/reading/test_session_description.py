"""Details of sessions agree with what reading the same session gives."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from tests.engine.reading.conftest import TABLE, Shelf
from tests.engine.reading.test_splits import segment

from fletching.engine.reading.read_calls import Reading
from fletching.engine.reading.session_description import session_details
from fletching.engine.reading.snapshot import Snapshot
from fletching.engine.reading.splits import Splits
from fletching.engine.tables.statistics import StatisticsBuilder
from fletching.protocol.messages.requests import GetReadSession, SplitOptions
from fletching.protocol.messages.session_details import ColumnDetails, SessionDetails
from fletching.protocol.messages.vocabulary import SplitMode

PARTS = (("pt", "STRING"), ("n", "BIGINT"))


def asked_details(shelf: Shelf, session: Any, **what: bool) -> SessionDetails:
    look = GetReadSession(table=TABLE, session_id=session.session_id, **what)
    result = shelf.reading.get_session(look).details
    assert isinstance(result, SessionDetails)
    return result


def statistics(*batches: pa.RecordBatch) -> bytes:
    builder = StatisticsBuilder(batches[0].schema)
    for batch in batches:
        builder.add(batch.columns)
    return builder.encode()


@pytest.mark.parametrize("grid", [False, True])
@pytest.mark.parametrize("cross_partition", [True, False])
@pytest.mark.parametrize("mode", [SplitMode.SIZE, SplitMode.PARALLELISM])
def test_sizes_of_splits_are_those_of_their_rows(
    mode: SplitMode, cross_partition: bool, grid: bool
) -> None:
    snapshots = [
        Snapshot.of([]),
        Snapshot.of([segment(1, [(10, 1 << 19)] * 9, "a"), segment(2, [(7, 1 << 21)], "b")]),
        Snapshot.of([segment(1, [(0, 40), (5, 60), (0, 8)], "a"), segment(2, [(3, 9)], "a")]),
    ]
    for snapshot in snapshots:
        for number in (1, 3, 50, 1 << 20, 1 << 40):
            if mode is SplitMode.PARALLELISM and number > 60:
                continue
            options = SplitOptions(
                split_mode=mode, split_number=number, cross_partition=cross_partition
            )
            splits = Splits(options, snapshot, grid=grid)
            details = session_details(snapshot, splits=splits, total_bytes=12_345)
            rows = [splits.rows(index, snapshot) for index in range(splits.count)]
            assert list(details.split_rows or ()) == [each.length for each in rows]
            assert len(details.split_bytes or ()) == splits.count
            assert sum(details.split_bytes or ()) == (12_345 if snapshot.row_count else 0)


def test_bytes_inside_a_batch_are_shared_by_its_rows() -> None:
    snapshot = Snapshot.of([segment(1, [(100, 1000)])])
    options = SplitOptions(split_mode=SplitMode.PARALLELISM, split_number=4)
    splits = Splits(options, snapshot, grid=False)
    details = session_details(snapshot, splits=splits, total_bytes=2000)
    assert (details.split_rows, details.split_bytes) == ((25,) * 4, (500,) * 4)


def test_partitions_are_told_in_the_order_of_the_rows(shelf: Shelf) -> None:
    shelf.create(pa.schema([("a", pa.int64())]), PARTS)
    for values, rows in ((("y", "10"), 3), (("x", "9"), 4), (("y", "10"), 2), (("x", "10"), 1)):
        shelf.add(pa.record_batch({"a": list(range(rows))}), values)
    session = shelf.session()
    details = asked_details(shelf, session, with_partitions=True, with_statistics=True)
    assert details.partition_columns == ("pt", "n")
    order = [(each.values, each.rows) for each in details.partitions or ()]
    whole = shelf.read(session)
    position = 0
    for (pt, n), rows in order:
        part = whole.slice(position, rows)
        assert set(part["pt"].to_pylist()) == {pt}
        assert set(part["n"].to_pylist()) == {int(n)}
        position += rows
    assert position == whole.num_rows == 10
    assert details.columns is not None
    assert details.columns[1:] == (
        ColumnDetails(name="pt", lower="x", upper="y", null_count=0),
        ColumnDetails(name="n", lower=9, upper=10, null_count=0),
    )


def test_what_was_not_asked_for_is_not_told(shelf: Shelf) -> None:
    shelf.create(pa.schema([("a", pa.int64())]))
    shelf.add(pa.record_batch({"a": [1, 2]}))
    session = shelf.session()
    look = GetReadSession(table=TABLE, session_id=session.session_id)
    assert shelf.reading.get_session(look).details is None
    assert asked_details(shelf, session, with_splits=True) == SessionDetails(
        split_rows=(2,),
        split_bytes=(asked_details(shelf, session, with_splits=True).split_bytes or ()),
    )
    by_rows = shelf.session(
        split_options=SplitOptions(split_mode=SplitMode.ROW_OFFSET, split_number=1)
    )
    # A billion splits of one row each are not listed.
    assert asked_details(shelf, by_rows, with_splits=True).split_rows is None


def test_columns_of_several_segments_and_schema_versions(shelf: Shelf) -> None:
    shelf.create(
        pa.schema(
            [
                ("i", pa.int64()),
                ("f", pa.float64()),
                ("d", pa.date32()),
                ("m", pa.decimal128(10, 2)),
                ("s", pa.string()),
                ("l", pa.list_(pa.int8())),
            ]
        )
    )

    def batch(*rows: tuple[Any, ...]) -> pa.RecordBatch:
        columns = [list(each) for each in zip(*rows, strict=True)]
        arrays = [
            pa.array(values, field.type)
            for values, field in zip(columns, shelf.schema, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=shelf.schema)

    day = dt.date(1970, 1, 11)
    first = batch(
        (5, 1.5, day, Decimal("1.25"), "a", [1]), (None, float("nan"), None, None, None, None)
    )
    second = batch((-3, 0.5, day, Decimal(-7), "b", [2]))
    shelf.add(first, statistics=statistics(first))
    shelf.add(second, statistics=statistics(second))
    shelf.add_columns(pa.field("late", pa.int32()))
    third = batch((9, 2.5, day, Decimal(2), "c", [3], 4))
    shelf.add(third, statistics=statistics(third))
    details = asked_details(shelf, shelf.session(), with_statistics=True).columns
    assert details == (
        ColumnDetails(name="i", lower=-3, upper=9, null_count=1),
        ColumnDetails(name="f", lower=0.5, upper=2.5, null_count=0, has_nan=True),
        ColumnDetails(name="d", lower=10, upper=10, null_count=1),
        ColumnDetails(name="m", lower=-700, upper=200, null_count=1),
        ColumnDetails(name="s", null_count=1),
        ColumnDetails(name="l"),
        ColumnDetails(name="late", lower=4, upper=4, null_count=3),
    )
    # A segment of which nothing is recorded, or no count of nulls, can hold anything.
    shelf.add(third, statistics=b'{"i": [0, 1, true, true, false], "late": [1, 2, false, true]}')
    details = asked_details(shelf, shelf.session(), with_statistics=True).columns
    assert details is not None
    assert details[0] == ColumnDetails(name="i", lower=-3, upper=9)
    assert details[1] == ColumnDetails(name="f", has_nan=True)
    assert details[2] == ColumnDetails(name="d")
    assert details[6] == ColumnDetails(name="late", lower=1, upper=4, null_count=3)


def test_only_the_columns_of_the_session_are_told(shelf: Shelf) -> None:
    shelf.create(pa.schema([("a", pa.int64()), ("b", pa.int64())]))
    batch = pa.record_batch({"a": [1], "b": [2]})
    shelf.add(batch, statistics=statistics(batch))
    session = shelf.session(required_data_columns=("b",))
    details = asked_details(shelf, session, with_statistics=True).columns
    assert details == (ColumnDetails(name="b", lower=2, upper=2, null_count=0),)


def test_fields_of_structs_have_their_own(shelf: Shelf) -> None:
    inner = pa.struct([("k", pa.int64()), ("k", pa.int64()), ("t", pa.string())])
    kind = pa.struct([("x", pa.int32()), ("q", inner)])
    shelf.create(pa.schema([("a", pa.int64())]))
    before = pa.record_batch({"a": [1, 2]})
    shelf.add(before, statistics=statistics(before))
    shelf.add_columns(pa.field("p", kind))
    values = pa.array([None, {"x": 7, "q": None}, {"x": None, "q": None}], kind)
    rows = pa.record_batch({"a": [1, 2, 3], "p": values})
    shelf.add(rows, statistics=statistics(rows))
    details = asked_details(shelf, shelf.session(), with_statistics=True).columns
    assert details is not None
    # A field counts as null with its struct; of two fields of one name nothing is told.
    text = ColumnDetails(name="t", null_count=5)
    assert details[1].fields == (
        ColumnDetails(name="x", lower=7, upper=7, null_count=4),
        ColumnDetails(name="q", fields=(text,)),
    )
    shelf.add(rows, statistics=None)
    details = asked_details(shelf, shelf.session(), with_statistics=True).columns
    assert details is not None
    assert details[1].fields[0] == ColumnDetails(name="x")


def test_a_table_without_rows(shelf: Shelf) -> None:
    shelf.create(pa.schema([("a", pa.int64())]), PARTS)
    session = shelf.session()
    details = asked_details(
        shelf, session, with_splits=True, with_partitions=True, with_statistics=True
    )
    assert (details.split_rows, details.partitions, details.deleted_rows) == ((), (), 0)
    assert details.columns is not None
    assert {(each.lower, each.upper, each.null_count) for each in details.columns} == {
        (None, None, 0)
    }
    assert isinstance(shelf.reading, Reading)
