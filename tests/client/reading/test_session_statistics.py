"""What a session says of its columns is true of what reading it gives."""

from __future__ import annotations

import datetime as dt
import pickle
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import fletching
from fletching.client import ColumnStatistics, SessionStatistics
from fletching.client.reading.session_statistics import (
    partition_bounds,
    partition_of,
    session_statistics,
)
from fletching.errors import UsageError
from fletching.protocol.messages.session_details import (
    ColumnDetails,
    PartitionDetails,
    SessionDetails,
)
from fletching.types import PartitionSpec

ROWS = pa.table(
    {
        "i": pa.array([3, None, -5, 8], pa.int32()),
        "u": pa.array([1, 2, 3, None], pa.uint8()),
        "f": pa.array([0.5, float("nan"), None, 2.5], pa.float32()),
        "b": pa.array([True, True, None, True]),
        "d": pa.array([dt.date(2026, 1, day) for day in (3, 1, 2, 9)], pa.date32()),
        "t": pa.array([1, None, 3, 4], pa.timestamp("ns", "UTC")),
        "m": pa.array([Decimal("-1.20"), None, Decimal("99.99"), Decimal(0)], pa.decimal128(9, 2)),
        "s": pa.array(["x", None, "y", "z"]),
        "v": pa.array(["w" * 400 + "a", "w" * 500, None, "x" * 400]),
        "n": pa.array([[1], None, [], [2]], pa.list_(pa.int64())),
        "p": pa.array(
            [{"x": 1, "q": {"k": 2.5}}, None, {"x": None, "q": None}, {"x": -4, "q": {"k": -1.0}}],
            pa.struct([("x", pa.int16()), ("q", pa.struct([("k", pa.float64())]))]),
        ),
        "e": pa.nulls(4, pa.int64()),
    }
)


@pytest.fixture
def table(client: fletching.Client) -> fletching.Table:
    made = client.create_table("facts", ROWS.schema)
    for start in (0, 2):
        made.append(ROWS.slice(start, 2))
    return made


def check(known: SessionStatistics, rows: pa.Table, *, exact: bool) -> None:
    """No value is outside of its column's bounds, and no more are null than it says."""
    for name, column in known.columns.items():
        check_column(column, rows[name], exact=exact)


def check_column(column: ColumnStatistics, rows: pa.ChunkedArray, *, exact: bool) -> None:
    """The same of one column, and of the fields that it has."""
    for name, field in column.fields.items():
        check_column(field, pc.struct_field(rows, name), exact=exact)
    values = rows.drop_null()
    if pa.types.is_floating(values.type):
        if pc.any(pc.is_nan(values)).as_py():
            assert column.has_nan
        values = values.filter(pc.invert(pc.is_nan(values)))
    if column.null_count is not None:
        assert column.null_count >= rows.null_count
        assert not exact or column.null_count == rows.null_count
    for bound, least in ((column.lower, True), (column.upper, False)):
        if bound is None or not len(values):
            continue
        assert bound.type == values.type
        ends = pc.min_max(values)
        end = ends["min" if least else "max"]
        assert bound.as_py() <= end.as_py() if least else bound.as_py() >= end.as_py()
        if exact and not pa.types.is_string(values.type):
            assert bound == end


def test_statistics_of_every_type(table: fletching.Table) -> None:
    with table.scan().session() as session:
        known = session.statistics()
        assert session.statistics() is known  # asked once
        rows = session.to_table()
    assert (known.row_count, known.deleted_rows) == (4, 0)
    assert known.byte_size == session.byte_size > 0
    assert list(known.columns) == ROWS.column_names
    check(known, rows, exact=True)
    nulls = {name: column.null_count for name, column in known.columns.items()}
    assert nulls.pop("n") is nulls.pop("p") is None
    assert nulls == {name: ROWS[name].null_count for name in nulls}
    unknown = [name for name, column in known.columns.items() if column.lower is None]
    assert unknown == ["s", "n", "p", "e"]
    x, q = known.columns["p"].fields["x"], known.columns["p"].fields["q"]
    assert (x.lower, x.upper, x.null_count) == (
        pa.scalar(-4, pa.int16()),
        pa.scalar(1, pa.int16()),
        2,
    )
    assert (q.fields["k"].lower, q.fields["k"].null_count) == (pa.scalar(-1.0), 2)
    assert known.columns["t"].upper == pa.scalar(4, pa.timestamp("ns", "UTC"))
    # A bound of a long text is cut, and above it nothing is known.
    assert known.columns["v"].lower == pa.scalar("w" * 64)
    assert known.columns["v"].upper is None


def test_deleted_rows_still_count(table: fletching.Table) -> None:
    table.delete("i = 8 or i is null")
    with table.scan().session() as session:
        known, rows = session.statistics(), session.to_table()
    assert (known.row_count, known.deleted_rows) == (2, 2)
    assert known.columns["i"].upper == pa.scalar(8, pa.int32())
    assert known.columns["i"].null_count == 1
    check(known, rows, exact=False)
    # Written anew without them, they count no longer.
    table.compact(purge=True)
    with table.scan().session() as session:
        known = session.statistics()
    assert known.deleted_rows == 0
    check(known, rows, exact=True)


def test_neither_filter_nor_limit_narrows_them(table: fletching.Table) -> None:
    for scan in (table.scan(["f", "i"], filter="i > 5"), table.scan(["f", "i"], limit=1)):
        with scan.session() as session:
            known = session.statistics()
        assert list(known.columns) == ["f", "i"]
        assert known.columns["i"].lower == pa.scalar(-5, pa.int32())
        assert known.row_count == session.row_count
    with table.scan([]).session() as session:
        assert session.statistics().columns == {}


def test_old_versions_and_changes_have_their_own(table: fletching.Table) -> None:
    table.append(ROWS.slice(0, 1).set_column(0, "i", pa.array([1000], pa.int32())))
    with table.scan(version=2).session() as session:
        assert session.statistics().columns["i"].upper == pa.scalar(8, pa.int32())
    with table.scan().session() as session:
        assert session.statistics().columns["i"].upper == pa.scalar(1000, pa.int32())
    with table.changes(since=2).session() as session:
        known, rows = session.statistics(), session.to_table()
        assert known.columns["i"].lower == pa.scalar(1000, pa.int32())
        assert known.columns["_commit_version"].lower == pa.scalar(3, pa.int64())
        check(known, rows, exact=True)


def test_they_travel_if_they_were_asked_for(table: fletching.Table) -> None:
    session = table.scan().session()
    if session.channel.transport.supports_parallel_reads:
        with pytest.raises(UsageError, match="where the session was opened"):
            pickle.loads(pickle.dumps(session)).statistics()
    known = session.statistics()
    assert pickle.loads(pickle.dumps(session)).statistics() == known


def test_a_service_that_says_nothing() -> None:
    known = session_statistics(None, ROWS.schema, 4, 100)
    assert known == SessionStatistics(4, 100, 0, {})
    details = SessionDetails(columns=(ColumnDetails(name="i", lower="no number"),))
    assert session_statistics(details, ROWS.schema, 4, 100).columns["i"].lower is None


def test_partitions_of_rows() -> None:
    assert partition_bounds(None) == partition_bounds(SessionDetails()) == []
    bounds = partition_bounds(
        SessionDetails(
            partition_columns=("pt",),
            partitions=tuple(
                PartitionDetails(values=(v,), rows=n) for v, n in (("a", 2), ("b", 3))
            ),
        )
    )
    a, b = (PartitionSpec((("pt", value),)) for value in "ab")
    assert bounds == [(a, 0, 2), (b, 2, 5)]
    cases: list[tuple[int, int, Any]] = [
        (0, 2, a), (1, 2, a), (0, 3, None), (2, 5, b), (4, 5, b), (2, 2, None), (5, 6, None),
    ]  # fmt: skip
    for start, end, expected in cases:
        assert partition_of(bounds, start, end) == expected
    assert partition_of([], 0, 1) is None
