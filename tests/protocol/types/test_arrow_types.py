from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from fletching.errors import UsageError
from fletching.protocol.messages.vocabulary import TimeUnit
from fletching.protocol.types.arrow_types import (
    COMMENT_KEY,
    ODPS_TYPE_KEY,
    arrow_field,
    arrow_type,
    field_comment,
    narrowest,
    odps_type_of,
    odps_type_of_field,
    reply_type,
)
from fletching.protocol.types.blob_type import blob
from fletching.protocol.types.odps_types import format_type, parse_type

INTERVAL = pa.struct([("sec", pa.int64()), ("nano", pa.int32())])

# ODPS text, Arrow type, and whether the Arrow type alone tells the ODPS type
TABLE: list[tuple[str, Any, bool]] = [
    ("bigint", pa.int64(), True),
    ("double", pa.float64(), True),
    ("boolean", pa.bool_(), True),
    ("datetime", pa.timestamp("ms"), True),
    ("string", pa.string(), True),
    ("decimal(10,2)", pa.decimal128(10, 2), True),
    ("decimal(38,18)", pa.decimal128(38, 18), True),
    ("decimal(39,18)", pa.decimal256(39, 18), True),
    ("decimal(54,18)", pa.decimal256(54, 18), True),
    ("tinyint", pa.int8(), True),
    ("smallint", pa.int16(), True),
    ("int", pa.int32(), True),
    ("char(3)", pa.string(), False),
    ("varchar(10)", pa.string(), False),
    ("binary", pa.binary(), True),
    ("date", pa.date32(), True),
    ("timestamp", pa.timestamp("ns"), True),
    ("float", pa.float32(), True),
    ("interval_year_month", pa.int32(), False),
    ("interval_day_time", INTERVAL, False),
    ("array<bigint>", pa.list_(pa.int64()), True),
    ("map<string,double>", pa.map_(pa.string(), pa.float64()), True),
    ("struct<a:int,b:string>", pa.struct([("a", pa.int32()), ("b", pa.string())]), True),
    ("json", pa.string(), False),
    ("timestamp_ntz", pa.timestamp("ns"), False),
    ("blob", blob(), True),
    ("vector(float,3)", pa.list_(pa.float32()), False),
    ("array<varchar(9)>", pa.list_(pa.string()), False),
    ("array<blob>", pa.list_(blob()), True),
]


@pytest.mark.parametrize(("text", "expected", "tells"), TABLE, ids=[case[0] for case in TABLE])
def test_each_odps_type_survives_an_arrow_field(text: str, expected: Any, tells: bool) -> None:
    odps_type = parse_type(text)
    field = arrow_field("c", odps_type, nullable=False, comment="why")
    assert field.type == expected
    assert not field.nullable
    assert field_comment(field) == "why"
    assert (ODPS_TYPE_KEY in field.metadata) is not tells
    assert format_type(odps_type_of_field(field)) == text
    assert reply_type(field) == arrow_type(odps_type, plain_blobs=True)


@pytest.mark.parametrize(
    ("data_type", "text"),
    [
        (pa.uint8(), "smallint"),
        (pa.uint16(), "int"),
        (pa.uint32(), "bigint"),
        (pa.uint64(), "decimal(20,0)"),
        (pa.float16(), "float"),
        (pa.large_string(), "string"),
        (pa.string_view(), "string"),
        (pa.large_binary(), "binary"),
        (pa.binary_view(), "binary"),
        (pa.binary(16), "binary"),
        (pa.date64(), "date"),
        (pa.time32("ms"), "int"),
        (pa.time64("us"), "bigint"),
        (pa.duration("s"), "bigint"),
        (pa.timestamp("s"), "datetime"),
        (pa.timestamp("us"), "timestamp"),
        (pa.timestamp("ms", "UTC"), "timestamp"),
        (pa.null(), "string"),
        (pa.dictionary(pa.int8(), pa.string()), "string"),
        (pa.run_end_encoded(pa.int32(), pa.int16()), "smallint"),
        (pa.large_list(pa.uint8()), "array<smallint>"),
        (pa.list_(pa.float32(), 4), "array<float>"),
        (pa.list_view(pa.string()), "array<string>"),
        (pa.large_list_view(pa.string()), "array<string>"),
        (pa.struct([("a", pa.large_string())]), "struct<a:string>"),
        (pa.uuid(), "binary"),
        (pa.json_(), "json"),
        (pa.bool8(), "boolean"),
        (pa.decimal32(5, 2), "decimal(5,2)"),
        (pa.decimal256(76, 0), "decimal(76,0)"),
    ],
    ids=str,
)
def test_arrow_types_that_odps_lacks_map_to_the_nearest(data_type: Any, text: str) -> None:
    odps_type = odps_type_of(data_type)
    assert format_type(odps_type) == text
    if not isinstance(data_type, pa.BaseExtensionType) and "list" not in str(data_type):
        # the nearest type is one that a plain cast reaches
        empty = pa.nulls(2, data_type)
        if pa.types.is_run_end_encoded(data_type):
            empty = pc.run_end_decode(empty)
        assert empty.cast(arrow_type(odps_type)).null_count == 2


@pytest.mark.parametrize(
    "data_type",
    [
        pa.sparse_union([pa.field("a", pa.int8())]),
        pa.month_day_nano_interval(),
        pa.decimal128(5, -2),
        pa.struct([]),
        pa.list_(pa.month_day_nano_interval()),
    ],
    ids=str,
)
def test_arrow_types_without_a_neighbour_are_refused(data_type: Any) -> None:
    with pytest.raises(UsageError, match="no ODPS type"):
        odps_type_of(data_type)


def test_variant_has_no_arrow_type() -> None:
    with pytest.raises(UsageError, match="VARIANT"):
        arrow_type(parse_type("array<variant>"))


@pytest.mark.parametrize(
    ("data_type", "text"),
    [
        (pa.int64(), b"varchar(3)"),
        (pa.string(), b"no type"),
        (pa.string(), b"\xff"),
        (pa.struct([("a", pa.int32())]), b"interval_day_time"),
        (pa.list_(pa.int64()), b"array<string>"),
    ],
    ids=str,
)
def test_metadata_that_does_not_fit_the_arrow_type_is_not_believed(
    data_type: Any, text: bytes
) -> None:
    field = pa.field("c", data_type, metadata={ODPS_TYPE_KEY: text, COMMENT_KEY: b"\xff"})
    assert odps_type_of_field(field) == odps_type_of(data_type)
    assert field_comment(field) == "�"


def test_metadata_of_nested_fields_counts() -> None:
    inner = arrow_field("a", parse_type("varchar(5)"))
    assert format_type(odps_type_of(pa.struct([inner]))) == "struct<a:varchar(5)>"
    assert format_type(odps_type_of(pa.list_(inner))) == "array<varchar(5)>"


def test_reply_units_follow_the_request() -> None:
    instant = arrow_field("t", parse_type("timestamp"))
    moment = arrow_field("d", parse_type("datetime"))
    units = {"timestamp_unit": TimeUnit.MICRO, "datetime_unit": TimeUnit.SECOND}
    assert reply_type(instant, **units) == pa.timestamp("us")
    assert reply_type(moment, **units) == pa.timestamp("s")
    stored = pa.field("t", pa.timestamp("us"))
    assert reply_type(stored, timestamp_unit=None, datetime_unit=None) == pa.timestamp("us")
    for nested in (
        pa.struct([("a", pa.timestamp("us")), ("b", pa.map_(pa.string(), pa.timestamp("s")))]),
        pa.list_(pa.list_(pa.timestamp("ms"))),
    ):
        kept = reply_type(pa.field("n", nested), timestamp_unit=None, datetime_unit=None)
        assert kept == nested
    odd = pa.list_view(pa.dictionary(pa.int8(), pa.timestamp("us")))
    kept = reply_type(pa.field("n", odd), timestamp_unit=None, datetime_unit=None)
    assert kept == pa.list_(pa.timestamp("us"))
    assert reply_type(pa.field("l", pa.list_(pa.timestamp("ns")))) == pa.list_(pa.timestamp("ns"))


def test_blobs_reply_as_plain_binary() -> None:
    assert reply_type(pa.field("b", pa.list_(blob()))) == pa.list_(pa.binary())


@pytest.mark.parametrize(("name", "comment"), [("\ud800", ""), ("a", "\udfff")])
def test_half_of_a_character_names_no_column(name: str, comment: str) -> None:
    with pytest.raises(UsageError, match="half of a character"):
        arrow_field(name, parse_type("INT"), comment=comment)


def test_the_narrowest_column() -> None:
    schema = pa.schema([("a", pa.string()), ("b", pa.int64()), ("c", pa.bool_())])
    assert narrowest(schema) == "c"
    assert narrowest(schema.remove(2)) == "b"
    assert narrowest(pa.schema([("only", pa.list_(pa.string()))])) == "only"
