"""Times of Arrow batches, there and back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from fletching.engine.query.local_times import in_local_time, is_plain_time, utc_batch
from fletching.errors import InvalidArgumentError
from fletching.protocol.types.arrow_types import arrow_field
from fletching.protocol.types.odps_types import parse_type

ZONE = "America/New_York"
UTC = [dt.datetime.fromisoformat(f"2024-0{month}-01 02:03:04.005") for month in (1, 7)]
LOCAL = [dt.datetime.fromisoformat(f"2023-12-31 {21:02}:03:04.005"), UTC[1] - dt.timedelta(hours=4)]
"""In winter five hours behind, in summer four."""

T = pa.timestamp("ms")
KINDS: dict[str, tuple[pa.DataType, Callable[[Any], Any]]] = {
    "plain": (T, lambda one: one),
    "list": (pa.list_(T), lambda one: [one, None]),
    "large": (pa.large_list(T), lambda one: [one]),
    "fixed": (pa.list_(T, 2), lambda one: [one, one]),
    "map": (pa.map_(pa.string(), T), lambda one: [("a", one), ("b", None)]),
    "struct": (
        pa.struct([pa.field("x", pa.list_(T)), pa.field("y", pa.int64())]),
        lambda one: {"x": [one], "y": 1},
    ),
    "words": (pa.dictionary(pa.int32(), T), lambda one: one),
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
    (found,) = utc_batch(batch, [0], ZONE).column(0).to_pylist()
    assert dt.datetime.fromisoformat("2024-03-10 06:59:59") < found
    assert found <= dt.datetime.fromisoformat("2024-03-10 07:00:00")
