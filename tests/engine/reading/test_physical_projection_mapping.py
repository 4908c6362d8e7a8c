"""What ODPS clients get: their types and units, computed only where the stored bytes differ."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import pyarrow as pa
import pytest

from fletching.engine.reading.read_plan import Computed
from fletching.errors import InvalidArgumentError
from fletching.protocol.messages.requests import ArrowOptions
from fletching.protocol.messages.vocabulary import TimeUnit
from fletching.protocol.types.blob_type import blob
from fletching.protocol.types.conversion import convert_for_reply, sent_as_stored

D = decimal.Decimal
MICRO = dt.datetime.fromisoformat("1970-01-01T00:00:00.000001")
MILLI = dt.datetime.fromisoformat("1970-01-01T00:00:00.001")

# stored column, type sent, values sent, whether the stored bytes go as they are
CASES: dict[str, tuple[pa.Array, pa.DataType, list[Any], bool]] = {
    "int64": (pa.array([1, None]), pa.int64(), [1, None], True),
    "uint8": (pa.array([1, None], pa.uint8()), pa.int16(), [1, None], False),
    "uint32": (pa.array([1, 2**32 - 1], pa.uint32()), pa.int64(), [1, 2**32 - 1], False),
    "uint64": (
        pa.array([1, 2**64 - 1], pa.uint64()),
        pa.decimal128(20, 0),
        [D(1), D(2**64 - 1)],
        False,
    ),
    "large_string": (pa.array(["a", None], pa.large_string()), pa.string(), ["a", None], False),
    "string_view": (pa.array(["a" * 20], pa.string_view()), pa.string(), ["a" * 20], False),
    "fixed": (pa.array([b"ab"], pa.binary(2)), pa.binary(), [b"ab"], False),
    "time32": (pa.array([7, None], pa.time32("ms")), pa.int32(), [7, None], True),
    "time64": (pa.array([7, None], pa.time64("us")), pa.int64(), [7, None], True),
    "duration": (pa.array([7, None], pa.duration("s")), pa.int64(), [7, None], True),
    "date64": (
        pa.array([dt.date(2020, 1, 2)], pa.date64()),
        pa.date32(),
        [dt.date(2020, 1, 2)],
        False,
    ),
    "dictionary": (
        pa.array(["x", "y", None, "x"]).dictionary_encode(),
        pa.string(),
        ["x", "y", None, "x"],
        False,
    ),
    "dictionary_in_list": (
        pa.ListArray.from_arrays(
            pa.array([0, None, 2, 3], pa.int32()), pa.array(["x", "y", "x"]).dictionary_encode()
        ),
        pa.list_(pa.string()),
        [["x", "y"], None, ["x"]],
        False,
    ),
    "run_end": (
        pa.RunEndEncodedArray.from_arrays([2, 3], pa.array([5, None], pa.int32())),
        pa.int32(),
        [5, 5, None],
        False,
    ),
    "large_list": (
        pa.array([[1], None, [2, None]], pa.large_list(pa.int64())),
        pa.list_(pa.int64()),
        [[1], None, [2, None]],
        False,
    ),
    "fixed_list_of_views": (
        pa.array([["a", "b"], ["c", None]], pa.list_(pa.string_view(), 2)),
        pa.list_(pa.string()),
        [["a", "b"], ["c", None]],
        False,
    ),
    "list_view": (
        pa.array([[1], [], [2, 3]], pa.list_view(pa.int32())),
        pa.list_(pa.int32()),
        [[1], [], [2, 3]],
        False,
    ),
    "struct": (
        pa.array([{"a": 1, "b": "x"}, None], pa.struct([("a", pa.uint8()), ("b", pa.string())])),
        pa.struct([("a", pa.int16()), ("b", pa.string())]),
        [{"a": 1, "b": "x"}, None],
        False,
    ),
    "map": (
        pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.uint16())),
        pa.map_(pa.string(), pa.int32()),
        [[("k", 1)], None, []],
        False,
    ),
    "uuid": (
        pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"x" * 16], pa.binary(16))),
        pa.binary(),
        [b"x" * 16],
        False,
    ),
    "json": (
        pa.ExtensionArray.from_storage(pa.json_(), pa.array(["{}"])),
        pa.string(),
        ["{}"],
        True,
    ),
    "blob": (
        pa.ExtensionArray.from_storage(blob(), pa.array([b"ref"], pa.binary())),
        pa.binary(),
        [b"ref"],
        True,
    ),
    "blobs": (
        pa.array([[b"ref"]], pa.list_(pa.binary())).cast(pa.list_(blob())),
        pa.list_(pa.binary()),
        [[b"ref"]],
        True,
    ),
    "null": (pa.nulls(2), pa.string(), [None, None], False),
    "ts_ns": (
        pa.array([1_000, None], pa.timestamp("ns")),
        pa.timestamp("ns"),
        [MICRO, None],
        True,
    ),
    "ts_us": (
        pa.array([1, None], pa.timestamp("us")),
        pa.timestamp("ns"),
        [MICRO, None],
        False,
    ),
    "ts_ms": (
        pa.array([1], pa.timestamp("ms")),
        pa.timestamp("ms"),
        [MILLI],
        True,
    ),
    "zoned": (
        pa.array([1_000], pa.timestamp("ns", "UTC")),
        pa.timestamp("ns"),
        [MICRO],
        True,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_odps_clients_get_the_nearest_type(shelf: Any, name: str) -> None:
    column, sent, values, as_stored = CASES[name]
    assert sent_as_stored(column.type, sent) is as_stored
    batch = pa.record_batch({"c": column})
    shelf.create(batch.schema)
    shelf.add([batch])
    session = shelf.session(verbatim_types=False, arrow_options=ArrowOptions())
    table = shelf.read(session)
    assert table.schema.field("c").type == sent
    assert plain(table.column("c").to_pylist()) == plain(values)
    computed = any(isinstance(piece, Computed) for piece in shelf.plan(session).pieces)
    assert computed is not as_stored
    if len(column) > 1:
        tail = shelf.read(session, offset=1)
        assert plain(tail.column("c").to_pylist()) == plain(values[1:])
    # Our own client gets what is stored.
    own = shelf.session()
    assert shelf.read(own).schema.field("c").type == column.type


def plain(values: list[Any]) -> list[Any]:
    """Nanosecond timestamps come as pandas values where pandas is installed."""
    return [item.to_pydatetime() if hasattr(item, "to_pydatetime") else item for item in values]


@pytest.mark.parametrize("unit", list(TimeUnit))
def test_units_are_those_asked_for(shelf: Any, unit: TimeUnit) -> None:
    moment = dt.datetime.fromisoformat("2024-05-06T07:08:09.123456")
    batch = pa.record_batch(
        {
            "stamp": pa.array([moment, None], pa.timestamp("us")),
            "date": pa.array([moment, None], pa.timestamp("ms")),
            "n": pa.array([1, 2]),
        }
    )
    shelf.create(batch.schema)
    shelf.add([batch])
    options = ArrowOptions(timestamp_unit=unit, datetime_unit=unit)
    for verbatim in (False, True):
        session = shelf.session(verbatim_types=verbatim, arrow_options=options)
        table = shelf.read(session)
        assert table.schema.field("stamp").type == pa.timestamp(unit.arrow)
        assert table.schema.field("date").type == pa.timestamp(unit.arrow)
        digits = {"s": 0, "ms": 123_000, "us": 123_456, "ns": 123_456}
        kept = moment.replace(microsecond=digits[unit.arrow])
        assert plain(table.column("stamp").to_pylist()) == [kept, None]
        coarse = moment.replace(microsecond=min(digits[unit.arrow], 123_000))
        assert plain(table.column("date").to_pylist()) == [coarse, None]


def test_a_moment_that_nanoseconds_cannot_count_is_refused(shelf: Any) -> None:
    batch = pa.record_batch(
        {"t": pa.array([dt.datetime.fromisoformat("9999-01-01")], pa.timestamp("us"))}
    )
    shelf.create(batch.schema)
    shelf.add([batch])
    session = shelf.session(verbatim_types=False, arrow_options=ArrowOptions())
    with pytest.raises(InvalidArgumentError, match="column 't'"):
        _ = shelf.plan(session).length
    assert shelf.read(shelf.session()).num_rows == 1


def test_a_slice_converts_like_the_whole() -> None:
    for column, sent, values, _ in CASES.values():
        for start in range(len(column)):
            part = convert_for_reply(column.slice(start), sent, "c")
            part.validate(full=True)
            assert part.type == sent
            assert plain(part.to_pylist()) == plain(values[start:])
