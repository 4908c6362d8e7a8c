"""Every type that a table can have is appended, scanned, and read where a later column is missing.

All of it over both transports: a type that only one of them served would be data that the other
cannot read.
"""

from __future__ import annotations

import datetime as dt
import decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

import fletching

D = decimal.Decimal
MOMENT = dt.datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001  # most of the columns have no zone
TWO = pa.struct([("x", pa.int32()), ("y", pa.string())])
REE = pa.run_end_encoded(pa.int32(), pa.string())
WORDS = pa.dictionary(pa.int8(), pa.string())

FLAT: list[tuple[Any, Any]] = [
    (pa.null(), None),
    (pa.bool_(), True),
    *((kind, 7) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())),
    *((kind, 7) for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())),
    *((kind, 1.5) for kind in (pa.float16(), pa.float32(), pa.float64())),
    (pa.decimal32(5, 2), D("1.50")),
    (pa.decimal64(12, 2), D("1.50")),
    (pa.decimal128(30, 2), D("1.50")),
    (pa.decimal256(60, 2), D("1.50")),
    *((kind, "text") for kind in (pa.string(), pa.large_string(), pa.string_view())),
    *((kind, b"data") for kind in (pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(4))),
    (pa.date32(), MOMENT.date()),
    (pa.date64(), MOMENT.date()),
    *((pa.timestamp(unit), MOMENT) for unit in ("s", "ms", "us", "ns")),
    (pa.timestamp("us", "Europe/Berlin"), MOMENT.replace(tzinfo=dt.UTC)),
    *((kind, MOMENT.time()) for kind in (pa.time32("s"), pa.time32("ms"), pa.time64("us"))),
    (pa.time64("ns"), MOMENT.time()),
    *((pa.duration(unit), dt.timedelta(hours=1)) for unit in ("s", "ms", "us", "ns")),
    (pa.uuid(), b"u" * 16),
    (pa.json_(), "{}"),
    (WORDS, "text"),
    (REE, "text"),
    (pa.run_end_encoded(pa.int16(), pa.null()), None),
]
NESTED: list[tuple[Any, Any]] = [
    (pa.list_(pa.int8()), [1, None]),
    (pa.large_list(pa.string()), ["a", None]),
    (pa.list_(pa.float32(), 2), [1.0, None]),
    (pa.list_(pa.null()), [None]),
    (pa.list_view(pa.int8()), [1]),
    (pa.large_list_view(pa.string_view()), ["a"]),
    (TWO, {"x": 1, "y": None}),
    (pa.struct([("only null", pa.null())]), {"only null": None}),
    (pa.map_(pa.string(), pa.int64()), [("k", 1)]),
    (pa.map_(pa.string(), TWO), [("k", {"x": 1, "y": "a"})]),
    (pa.list_(REE), ["a", "a"]),
    (pa.struct([("r", REE), ("d", pa.decimal128(9, 2))]), {"r": "a", "d": D("1.50")}),
    (pa.list_(WORDS), ["a", "b"]),
    (pa.struct([("w", WORDS), ("t", pa.time64("ns"))]), {"w": "a", "t": MOMENT.time()}),
    (pa.list_(TWO, 1), [{"x": 1, "y": "a"}]),
    (pa.list_(pa.list_(pa.list_(pa.date64()))), [[[MOMENT.date()], None]]),
    (
        pa.list_(pa.struct([("note", pa.null()), ("price", pa.decimal128(9, 2))])),
        [{"note": None, "price": D("1.50")}],
    ),
    (pa.run_end_encoded(pa.int32(), TWO), {"x": 1, "y": None}),
]
TYPES = FLAT + NESTED


def column_of(data_type: Any, value: Any) -> pa.Array:
    """A value, a null, and the value again."""
    if pa.types.is_run_end_encoded(data_type):
        values = pa.array([value, None, value], data_type.value_type)
        ends = pa.array([1, 2, 3], data_type.run_end_type)
        return pa.RunEndEncodedArray.from_arrays(ends, values)
    if isinstance(data_type, pa.BaseExtensionType):
        return data_type.wrap_array(pa.array([value, None, value], data_type.storage_type))
    if pa.types.is_struct(data_type):
        children = [
            column_of(field.type, value[field.name]).take(pa.array([0, 0, 2]))
            if not pa.types.is_run_end_encoded(field.type)
            else column_of(field.type, value[field.name])
            for field in data_type
        ]
        mask = pa.array([False, True, False])
        return pa.StructArray.from_arrays(children, fields=list(data_type), mask=mask)
    if pa.types.is_list(data_type) and pa.types.is_run_end_encoded(data_type.value_type):
        ends = pa.array([4], data_type.value_type.run_end_type)
        values = pa.RunEndEncodedArray.from_arrays(ends, pa.array(value[:1]))
        return pa.ListArray.from_arrays(pa.array([0, None, 2, 4], pa.int32()), values)
    return pa.array([value, None, value], data_type)


@pytest.mark.parametrize(("data_type", "value"), TYPES, ids=lambda item: str(item)[:40])
def test_every_type_is_stored_and_read_back(
    client: fletching.Client, data_type: Any, value: Any
) -> None:
    column = column_of(data_type, value)
    given = pa.table({"id": [1, 2, 3], "c": column})
    table = client.create_table("t", given.schema)
    table.append(given)
    table.append({"id": [4]})
    result = table.scan().to_table()
    assert result.schema == given.schema
    assert result["c"].to_pylist() == [*column.to_pylist(), None]
    assert table.scan(columns=["c"]).to_table()["c"].to_pylist() == [*column.to_pylist(), None]
    assert table.preview(2)["c"].to_pylist() == column[:2].to_pylist()
    assert table.scan(filter="id > 2").to_table()["c"].to_pylist() == [column[2].as_py(), None]


EXTENSIONS = [
    (fletching.blob(), None),
    (pa.bool8(), 1),
    (pa.opaque(pa.binary(), "a", "b"), b"data"),
]


@pytest.mark.parametrize(
    ("data_type", "value"), [*TYPES, *EXTENSIONS], ids=lambda item: str(item)[:40]
)
def test_frames_have_every_type_as_pyarrow_makes_it(
    data_type: Any, value: Any, tmp_path: Path
) -> None:
    given = pa.table({"id": [1, 2, 3], "c": column_of(data_type, value)})
    with fletching.connect(tmp_path / "data", create=True) as client:
        frame = client.create_table("t", given).scan().to_pandas()
    try:
        expected = given.to_pandas()
    except pa.ArrowNotImplementedError:
        expected = None
    if expected is None or pa.types.is_run_end_encoded(data_type):  # as its values without runs
        values = pa.array(frame["c"], from_pandas=True).to_pylist()
        assert values == given["c"].to_pylist()
    else:
        pd.testing.assert_frame_equal(frame, expected)


def test_columns_of_every_type_can_be_added_later(client: fletching.Client) -> None:
    table = client.create_table("t", pa.schema([("id", pa.int64())]))
    table.append({"id": [1, 2]})
    table.append({"id": [3]})
    added = [(f"c{number}", data_type) for number, (data_type, _) in enumerate(TYPES)]
    table.add_columns(pa.schema(added))
    for name, data_type in added:
        for scan in (table.scan(columns=["id", name]), table.scan(columns=[name])):
            result = scan.to_table()
            assert result.schema.field(name).type == data_type, data_type
            assert result[name].to_pylist() == [None] * 3, data_type
    assert table.scan().to_table().num_rows == 3
    assert table.preview(3).num_rows == 3
    assert table.scan(filter="id = 2").to_table().num_rows == 1
    # rows with the columns, after and among rows without
    table.append(
        pa.table(
            [pa.array([4, 5, 6]), *(column_of(*item) for item in TYPES)],
            schema=pa.schema([("id", pa.int64()), *added]),
        )
    )
    result = table.scan().to_table()
    for (name, _), item in zip(added, TYPES, strict=True):
        assert result[name].to_pylist() == [None] * 3 + column_of(*item).to_pylist(), item
    assert table.preview(6).num_rows == 6
    assert table.scan(filter="id in (2, 5)").to_table().num_rows == 2


@pytest.mark.parametrize(
    "name", ["a,b", "a'b", 'a"b', "a.b", "a b", "ß", "名", "%2C", "a=b", "a/b"]
)
def test_columns_of_any_name_are_found_by_it(client: fletching.Client, name: str) -> None:
    table = client.create_table("t", pa.schema([("a", pa.int64()), (name, pa.int64())]))
    table.append(pa.table([[1], [2]], names=["a", name]))
    assert table.scan(columns=[name]).to_table().to_pydict() == {name: [2]}
    assert table.scan(columns=["a", name]).to_table().to_pydict() == {"a": [1], name: [2]}
    assert table.preview(1, columns=[name]).to_pydict() == {name: [2]}


# --- what does not fit --------------------------------------------------------------------------

FIELDS = pa.struct([("name", pa.string()), ("n", pa.int64())])
RIGHT = [{"name": "X", "n": 1}]


def struct_of(names: list[str], values: list[Any]) -> pa.Array:
    return pa.StructArray.from_arrays([pa.array([value]) for value in values], names)


STRUCTS: dict[str, tuple[pa.Array, list[Any] | None]] = {
    "other case": (struct_of(["Name", "N"], ["X", 1]), RIGHT),
    "other order": (struct_of(["n", "name"], [1, "X"]), RIGHT),
    "extra": (struct_of(["name", "n", "z"], ["X", 1, 5]), None),
    "misspelt": (struct_of(["nmae", "n"], ["X", 1]), None),
    "disjoint": (struct_of(["q"], ["X"]), None),
    "twice": (struct_of(["name", "n", "name"], ["X", 1, "Y"]), None),
    "twice by case": (struct_of(["name", "n", "NAME"], ["X", 1, "Y"]), None),
    "missing": (struct_of(["name"], ["X"]), [{"name": "X", "n": None}]),
    "another type": (struct_of(["name", "n"], ["X", 1.0]), RIGHT),
    "another value": (struct_of(["name", "n"], ["X", 1.5]), None),
}
WRAPS: dict[str, tuple[Any, Any]] = {
    "column": (lambda a: a, lambda v: v),
    "list": (lambda a: pa.ListArray.from_arrays([0, 1], a), lambda v: v[0]),
    "struct": (lambda a: pa.StructArray.from_arrays([a], ["s"]), lambda v: [v[0]["s"]]),
    "map": (
        lambda a: pa.MapArray.from_arrays([0, 1], pa.array(["k"]), a),
        lambda v: [v[0][0][1]],
    ),
    "fixed list": (lambda a: pa.FixedSizeListArray.from_arrays(a, 1), lambda v: v[0]),
    "view": (lambda a: pa.array([a.to_pylist()], pa.list_view(a.type)), lambda v: v[0]),
}


@pytest.mark.parametrize("wrap", WRAPS)
def test_struct_fields_are_found_by_name_or_refused(client: fletching.Client, wrap: str) -> None:
    wrapped, unwrapped = WRAPS[wrap]
    kind = wrapped(pa.array(RIGHT, FIELDS)).type
    table = client.create_table("t", pa.schema([("u", kind)]))
    for name, (array, expected) in STRUCTS.items():
        if wrap == "view" and name.startswith("twice"):
            continue  # cannot be made of Python values
        given = pa.table({"u": wrapped(array)})
        if expected is None:
            with pytest.raises(fletching.FletchingError, match="'u'"):
                table.append(given)
            continue
        table.overwrite(given)
        assert unwrapped(table.scan().to_table()["u"].to_pylist()) == expected, name
    assert table.count_rows() == 1


@pytest.mark.parametrize("pair", [(pa.float64(), 0.1), (pa.timestamp("us"), MOMENT.replace(microsecond=1))])  # fmt: skip
def test_a_refused_append_leaves_nothing(client: fletching.Client, pair: Any) -> None:
    source, value = pair
    target = {pa.float64(): pa.float32(), pa.timestamp("us"): pa.timestamp("ms")}[source]
    table = client.create_table("t", pa.schema([("c", target)]))
    for data in (
        pa.table({"c": pa.array([None, value], source)}),
        {"c": [None, value]},
        [{"c": None}, {"c": value}],
        pa.table({"c": pa.array([None, value], source)}).to_pandas(),
    ):
        with pytest.raises(fletching.FletchingError, match="'c'"):
            table.append(data)
    assert table.count_rows() == 0


def test_nulls_inside_are_refused_where_none_may_be(client: fletching.Client) -> None:
    must = pa.field("m", pa.int64(), nullable=False)
    schema = pa.schema([("s", pa.struct([must])), ("l", pa.list_(must.with_name("item")))])
    table = client.create_table("t", schema)
    table.append([{"s": {"m": 1}, "l": [1]}, {"s": None, "l": None}, {}])
    rows: list[dict[str, Any]] = [{"s": {"m": None}}, {"s": {}}, {"l": [1, None]}]
    for row in rows:
        with pytest.raises(fletching.FletchingError, match="null"):
            table.append([row])
    # the declared schema with nulls all the same, as other writers may send it
    nulls = pa.StructArray.from_arrays([pa.array([None], pa.int64())], fields=[must])
    lists = pa.nulls(1, schema.field("l").type)
    with pytest.raises(fletching.FletchingError, match=r"column 's\.m' has null"):
        table.append(pa.table([nulls, lists], schema=schema))
    assert table.count_rows() == 3
