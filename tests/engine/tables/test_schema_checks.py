"""What names, keys and properties of tables may be."""

from __future__ import annotations

import pyarrow as pa
import pytest

from fletching.engine.engine_settings import EngineSettings
from fletching.engine.tables.schema_checks import (
    MAX_SCHEMA_BYTES,
    MAX_TABLE_NAME_LENGTH,
    check_columns,
    check_new_columns,
    check_properties,
    check_table_name,
    primary_key_names,
    read_arrow_schema,
    with_required,
)
from fletching.errors import InvalidArgumentError
from fletching.ipc.encoding import encode_schema

SCHEMA = pa.schema([("id", pa.int64()), ("Name", pa.string())], metadata={"a": "b"})


def test_a_schema_message_is_read_whole() -> None:
    assert read_arrow_schema(encode_schema(SCHEMA)).equals(SCHEMA, check_metadata=True)


@pytest.mark.parametrize(
    "message",
    [b"", b"not a message", encode_schema(SCHEMA)[:-8], encode_schema(SCHEMA) * 2],
)
def test_what_is_no_schema_message_is_refused(message: bytes) -> None:
    with pytest.raises(InvalidArgumentError):
        read_arrow_schema(message)


def test_a_schema_above_the_limit_is_not_looked_into() -> None:
    with pytest.raises(InvalidArgumentError, match=str(MAX_SCHEMA_BYTES)):
        read_arrow_schema(bytes(MAX_SCHEMA_BYTES + 1))


@pytest.mark.parametrize("name", ["t", "T_1", "_", "9", "x" * MAX_TABLE_NAME_LENGTH])
def test_names(name: str) -> None:
    check_table_name(name)


@pytest.mark.parametrize(
    "name", ["", "a b", "a.b", "t-1", "é", "a\n", "x" * (MAX_TABLE_NAME_LENGTH + 1)]
)
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="is not a name"):
        check_table_name(name)


@pytest.mark.parametrize("hours", ["0", "24", "0.5", "1e3"])
def test_hours_of_history(hours: str) -> None:
    check_properties({"acid.data.retain.hours": hours, "other": "anything"})


@pytest.mark.parametrize("hours", ["", "-1", "nan", "inf", "a day", "1_0", " 1", "\u0661", "1e999"])
def test_what_is_no_hours(hours: str) -> None:
    with pytest.raises(InvalidArgumentError, match="expected hours"):
        check_properties({"acid.data.retain.hours": hours})


def test_columns_are_bounded_and_differ() -> None:
    settings = EngineSettings(max_columns=2, max_partition_columns=1)
    check_columns(settings, SCHEMA, ["pt"])
    for schema, partitions, why in (
        (pa.schema([]), [], "1 to 2 data columns, not 0"),
        (SCHEMA.append(pa.field("c", pa.int8())), [], "not 3"),
        (SCHEMA, ["a", "b"], "at most 1 partition columns"),
        (SCHEMA, ["NAME"], "occurs twice"),
        (pa.schema([("a`b", pa.int8())]), [], "is not a column name"),
        (pa.schema([("x" * 256, pa.int8())]), [], "is not a column name"),
    ):
        with pytest.raises(InvalidArgumentError, match=why):
            check_columns(settings, schema, partitions)


def test_keys_are_named_as_the_schema_names_them() -> None:
    assert primary_key_names(SCHEMA, ["NAME", "id"]) == ("Name", "id")
    assert primary_key_names(SCHEMA, []) == ()
    with pytest.raises(InvalidArgumentError, match="not a data column"):
        primary_key_names(SCHEMA, ["none"])
    with pytest.raises(InvalidArgumentError, match="twice"):
        primary_key_names(SCHEMA, ["id", "ID"])
    with pytest.raises(InvalidArgumentError, match="cannot be part of a primary key"):
        primary_key_names(pa.schema([("f", pa.float64())]), ["f"])
    wide = pa.schema([(f"c{number}", pa.int8()) for number in range(17)])
    with pytest.raises(InvalidArgumentError, match="at most 16"):
        primary_key_names(wide, wide.names)
    assert primary_key_names(wide, wide.names[:16]) == tuple(wide.names[:16])


def test_key_columns_may_not_be_null() -> None:
    required = with_required(SCHEMA, ["id"])
    assert [field.nullable for field in required] == [False, True]
    assert required.metadata == SCHEMA.metadata
    assert with_required(SCHEMA, []) is SCHEMA


def test_new_columns_have_types_that_every_client_can_name() -> None:
    check_new_columns(SCHEMA, ["pt"])
    for schema, partitions in (
        (pa.schema([(" a", pa.int8())]), []),
        (SCHEMA, ["pt "]),
        (pa.schema([("u", pa.dense_union([pa.field("x", pa.int8())]))]), []),
    ):
        with pytest.raises(InvalidArgumentError):
            check_new_columns(schema, partitions)
