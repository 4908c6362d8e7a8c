"""Times of Arrow batches, there and back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from fletching.engine.query.local_times import in_local_time, is_plain_time, moved_times, utc_batch
from fletching.errors import InvalidArgumentError
from fletching.protocol.types.arrow_types import arrow_field
from fletching.protocol.types.odps_types import parse_type

ZONE = "America/New_York"
UTC = [dt.datetime.fromisoformat(f"2024-0{month}-01 02:03:04.005") for month in (1, 7)]
LOCAL = [dt.datetime.fromisoformat(f"2023-12-31 {21:02}:03:04.005"), UTC[1] - dt.timedelta(hours=4)]
"""In winter five hours behind, in summer four."""

T = pa.timestamp("ms")
KINDS: dict[str, tuple[pa.DataType, Callable[[Any], Any]]] = {
    "plain": (T, lambda left: left),
    "list": (pa.list_(T), lambda left: [left, None]),
    "large": (pa.large_list(T), lambda left: [left]),
    "fixed": (pa.list_(T, 2), lambda left: [left, left]),
    "map": (pa.map_(pa.string(), T), lambda left: [("a", left), ("b", None)]),
    "struct": (
        pa.struct([pa.field("x", pa.list_(T)), pa.field("y", pa.int64())]),
        lambda left: {"x": [left], "y": 1},
    ),
    "words": (pa.dictionary(pa.int32(), T), lambda left: left),
}


def local(batch: pa.RecordBatch, zone: str = ZONE) -> pa.RecordBatch:
    fields = {field.name.casefold(): field for field in batch.schema}
    schema, batches = in_local_time((batch.schema, iter([batch])), fields, zone)
    (made,) = batches
    assert made.schema == schema
    made.validate(full=True)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back(kind: str) -> None:
    data_type, around = KINDS[kind]
    values = [None, around(UTC[0]), None, around(UTC[1])]
    words = pa.types.is_dictionary(data_type)
    column = pa.array(values, T).dictionary_encode() if words else pa.array(values, data_type)
    whole = pa.RecordBatch.from_arrays([column], names=["C"])
    for start in range(3):
        batch = whole.slice(start)
        made = local(batch)
        expected = [None, around(LOCAL[0]), None, around(LOCAL[1])][start:]
        assert made.column(0).to_pylist() == expected
        back = utc_batch(made, [0], ZONE)
        back.validate(full=True)
        assert back.equals(batch)


def test_what_has_no_zone_stays() -> None:
    plain = arrow_field("n", parse_type("timestamp_ntz"))
    moments = [pa.array(UTC, plain.type), pa.array([1, 2])]
    batch = pa.RecordBatch.from_arrays(
        moments, schema=pa.schema([plain, pa.field("i", pa.int64())])
    )
    assert is_plain_time(plain)
    assert local(batch).equals(batch)
    assert local(batch, "").equals(batch)
    inside = arrow_field("a", parse_type("array<timestamp_ntz>"))
    with pytest.raises(InvalidArgumentError, match="column a has TIMESTAMP_NTZ inside"):
        is_plain_time(inside)


def test_zoned_columns_lose_their_zone() -> None:
    column = pa.array(UTC, pa.timestamp("us", "Asia/Tokyo"))
    made = local(pa.RecordBatch.from_arrays([column], names=["z"]))
    assert made.schema.field(0).type == pa.timestamp("us")
    assert made.column(0).to_pylist() == LOCAL


def test_clocks_that_are_set() -> None:
    # At six in UTC the clocks of New York go from two back to one.
    hour = dt.timedelta(hours=1)
    at = dt.datetime.fromisoformat("2024-11-03 05:30:00")
    batch = pa.RecordBatch.from_arrays([pa.array([at, at + hour], T)], names=["t"])
    assert local(batch).column(0).to_pylist() == [at - 4 * hour] * 2
    assert utc_batch(local(batch), [0], ZONE).column(0).to_pylist() == [at] * 2
    # In spring half past two never comes.
    never = pa.array([dt.datetime.fromisoformat("2024-03-10 02:30:00")], T)
    batch = pa.RecordBatch.from_arrays([never], names=["t"])
    (moment,) = utc_batch(batch, [0], ZONE).column(0).to_pylist()
    assert dt.datetime.fromisoformat("2024-03-10 06:59:59") < moment
    assert moment <= dt.datetime.fromisoformat("2024-03-10 07:00:00")


EPOCH = dt.datetime.fromisoformat("1970-01-01")
LATE = [2**31 * k // 7 + 86_399 * k for k in range(3, 640, 7)]
"""Seconds, from 1999 to the seventh millennium."""


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [ZONE, "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Tokyo"])
def test_summers_go_on(zone: str, unit: str) -> None:
    """Rules hold on where the database's list of changes ends, as Python has it."""
    seconds = [moment for moment in LATE if unit != "ns" or moment < 9_000_000_000]
    info = ZoneInfo(zone)
    moments = [EPOCH + dt.timedelta(seconds=moment) for moment in seconds]
    clocks = [
        moment.replace(tzinfo=dt.UTC).astimezone(info).replace(tzinfo=None) for moment in moments
    ]
    column = pa.array([None, *moments], pa.timestamp(unit)).slice(1)
    made = moved_times(column, zone)
    assert made.cast(pa.timestamp("us")).to_pylist() == clocks
    back = moved_times(pa.array([*clocks, None], pa.timestamp(unit)), zone, back=True)
    first = [
        moment.replace(tzinfo=info).astimezone(dt.UTC).replace(tzinfo=None) for moment in clocks
    ]
    assert back.cast(pa.timestamp("us")).to_pylist() == [*first, None]


def test_late_clocks_that_are_set() -> None:
    hour, at = dt.timedelta(hours=1), dt.datetime.fromisoformat
    # As in every year: in November an hour comes twice, in March one does not come.
    twice = pa.array([at("2050-11-06 05:30:00.5"), at("2850-11-06 06:30:00.5")], T)
    made = moved_times(twice, ZONE)
    assert made.to_pylist() == [at("2050-11-06 01:30:00.5"), at("2850-11-06 01:30:00.5")]
    moments = moved_times(made, ZONE, back=True).to_pylist()
    assert moments == [at("2050-11-06 05:30:00.5"), at("2850-11-06 06:30:00.5") - hour]
    never = pa.array([at("2050-03-13 02:30:00"), at("2850-03-13 02:30:00")], T)
    last = [at("2050-03-13 06:59:59.999"), at("2850-03-13 06:59:59.999")]
    assert moved_times(never, ZONE, back=True).to_pylist() == last
    with pytest.raises(pa.ArrowInvalid):
        moved_times(pa.array([2**63 - 1], pa.timestamp("ns")), ZONE, back=True)
