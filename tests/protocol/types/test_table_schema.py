from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from fletching.errors import ProtocolError, UsageError
from fletching.protocol.messages.responses import Column, TableSchema
from fletching.protocol.types.blob_type import blob
from fletching.protocol.types.table_schema import (
    arrow_schema,
    from_read_form,
    from_write_form,
    parse_columns,
    parse_type,
    read_form,
    storable_type,
    table_schema,
    write_form,
)

COLUMNS = """
    id BIGINT NOT NULL COMMENT 'it''s', image BLOB, tags ARRAY<STRING>, d DECIMAL, v varchar(10),
    `a b` struct<x:int, `y z`:map<string,array<blob>>>, t datetime, i interval_day_time, j json
"""


def test_column_text_becomes_an_arrow_schema() -> None:
    schema = parse_columns("id BIGINT NOT NULL, image BLOB, tags ARRAY<STRING> COMMENT 'x'")
    assert schema.equals(
        pa.schema(
            [
                pa.field("id", pa.int64(), nullable=False),
                pa.field("image", blob()),
                pa.field("tags", pa.list_(pa.string()), metadata={b"comment": b"x"}),
            ]
        ),
        check_metadata=True,
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "lacks a name"),
        ("a", "lacks a type name"),
        ("a bigint b", "goes on"),
        ("a bigint,", "lacks a name"),
        ("a bigint, A string", "twice"),
        ("a variant", "VARIANT has no Arrow type"),
        ("a bigint; drop table t", "cannot be read"),
    ],
)
def test_other_text_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        parse_columns(text)


def test_ids_count_nested_nodes_depth_first_from_one() -> None:
    schema = table_schema(parse_columns(COLUMNS), [("pt", "STRING"), ("n", "BIGINT")])
    ids = {column.name: column.column_ids for column in schema.data_columns}
    assert ids["id"] == (1,)
    assert ids["image"] == (2,)
    assert ids["tags"] == (3, 4)
    assert ids["a b"] == (7, 8, 9, 10, 11, 12)
    assert ids["t"] == (13,)
    assert [column.column_ids for column in schema.partition_columns] == [(16,), (17,)]


def test_both_json_forms_give_the_schema_back() -> None:
    arrow = parse_columns(COLUMNS)
    schema = table_schema(arrow, [("pt", "string")], primary_key=["ID"])
    assert schema.data_columns[0].primary_key
    assert from_write_form(write_form(schema)) == schema
    from_read = from_read_form(read_form(schema))
    assert [c.column_ids for c in from_read.data_columns] == [
        c.column_ids for c in schema.data_columns
    ]
    assert arrow_schema(from_read.data_columns).equals(arrow, check_metadata=True)


def test_the_read_form_is_as_the_protocol_writes_it() -> None:
    schema = table_schema(pa.schema([pa.field("a", pa.int64())]), [("pt", "STRING")])
    assert read_form(schema) == {
        "DataColumns": [
            {"Name": "a", "Type": "bigint", "Comment": "", "Nullable": True, "ColumnId": 1}
        ],
        "PartitionColumns": [
            {"Name": "pt", "Type": "string", "Comment": "", "Nullable": True, "ColumnId": 2}
        ],
        "SystemColumns": [],
    }


def test_the_write_form_is_as_the_protocol_writes_it() -> None:
    schema = table_schema(
        parse_columns("k BIGINT NOT NULL, c CHAR(2), d DECIMAL(5,1), m MAP<STRING,ARRAY<BLOB>>"),
        primary_key=["k"],
    )
    assert write_form(schema) == {
        "DataColumns": [
            {
                "comment": "",
                "label": "",
                "columnType": {
                    "MemberName": "k",
                    "ColumnId": 1,
                    "Nullable": False,
                    "Type": 0,
                    "IsDistributionKey": True,
                },
            },
            {
                "comment": "",
                "label": "",
                "columnType": {
                    "MemberName": "c",
                    "ColumnId": 2,
                    "Nullable": True,
                    "Type": 9,
                    "SpecifiedLength": 2,
                },
            },
            {
                "comment": "",
                "label": "",
                "columnType": {
                    "MemberName": "d",
                    "ColumnId": 3,
                    "Nullable": True,
                    "Type": 5,
                    "Precision": 5,
                    "Scale": 1,
                },
            },
            {
                "comment": "",
                "label": "",
                "columnType": {
                    "MemberName": "m",
                    "ColumnId": 4,
                    "Nullable": True,
                    "Type": 18,
                    "SubTypes": [
                        {"MemberName": "key", "ColumnId": 5, "Nullable": False, "Type": 4},
                        {
                            "MemberName": "value",
                            "ColumnId": 6,
                            "Nullable": True,
                            "Type": 17,
                            "SubTypes": [
                                {
                                    "MemberName": "element",
                                    "ColumnId": 7,
                                    "Nullable": True,
                                    "Type": 22,
                                }
                            ],
                        },
                    ],
                },
            },
        ],
        "PartitionColumns": [],
        "SystemColumns": [],
    }
    sized = TableSchema(max_field_bytes=1024)
    assert write_form(sized)["MaxFieldSize"] == 1024
    assert from_write_form(write_form(sized)) == sized


def node(**fields: Any) -> dict[str, Any]:
    return {"DataColumns": [{"columnType": {"MemberName": "c", **fields}}]}


def test_unknown_type_numbers_read_as_string_and_unknown_fields_are_ignored() -> None:
    schema = from_write_form({**node(Type=99, Extra=1), "More": {}, "PartitionColumns": None})
    assert schema.data_columns == (Column(name="c", type="string"),)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (None, "TableSchema is not a JSON object"),
        ({"DataColumns": 1}, "DataColumns is not a JSON list"),
        ({"DataColumns": [1]}, "column is not a JSON object"),
        ({"DataColumns": [{}]}, "columnType is not"),
        (node(Type=17), "0 sub-types"),
        (node(Type=18, SubTypes=[{}]), "1 sub-types"),
        (node(Type=19, SubTypes=[{"Type": 0}]), "MemberName"),
        (node(Type=5), "Precision"),
        ({"DataColumns": [{"columnType": {"Type": 0}}]}, "MemberName"),
    ],
)
def test_a_broken_write_form_is_refused(value: object, complaint: str) -> None:
    with pytest.raises(ProtocolError, match=complaint):
        from_write_form(value)


def test_a_write_form_nested_without_end_is_refused() -> None:
    column: dict[str, Any] = {"MemberName": "element", "Type": 0}
    for _ in range(40):
        column = {"MemberName": "element", "Type": 17, "SubTypes": [column]}
    with pytest.raises(ProtocolError, match="deeper"):
        from_write_form({"DataColumns": [{"columnType": column}]})


def test_a_read_form_with_missing_lists_is_empty_and_with_wrong_ones_refused() -> None:
    assert from_read_form({"PartitionColumns": None}) == TableSchema()
    with pytest.raises(ProtocolError, match="Name"):
        from_read_form({"DataColumns": [{"Type": "bigint"}]})
    newer = {"DataColumns": [{"Name": "x", "Type": "quantum", "ColumnId": 4, "Comment": None}]}
    assert from_read_form(newer).data_columns[0].column_ids == (4,)


@pytest.mark.parametrize("number", [-1, None, "7", 1.0])
def test_a_column_id_that_is_none_is_left_out(number: object) -> None:
    body = {"DataColumns": [{"Name": "x", "Type": "bigint", "ColumnId": number}]}
    assert from_read_form(body).data_columns[0].column_ids == ()


def test_a_type_without_odps_type_has_its_arrow_name() -> None:
    """Tables of earlier releases may have one: they can still be described."""
    union = pa.dense_union([pa.field("a", pa.int8()), pa.field("b", pa.string())])
    schema = table_schema(pa.schema([("u", union), ("n", pa.int8())]), [("pt", "string")])
    first, second = schema.data_columns
    assert "union" in first.type
    assert (first.column_ids, second.column_ids) == ((1, 2, 3), (4,))
    assert schema.partition_columns[0].column_ids == (5,)


def test_some_columns_keep_the_ids_that_they_have() -> None:
    arrow = pa.schema([("a", pa.int8()), ("b", pa.list_(pa.int8())), ("c", pa.int8())])
    ids = [(7,), (9, 10), (3,), (20,)]
    schema = table_schema(
        arrow, [("pt", "STRING")], primary_key=["C"], column_ids=ids, indices=[3, 1, 2]
    )
    assert [(c.name, c.column_ids, c.primary_key) for c in schema.data_columns] == [
        ("b", (9, 10), False),
        ("c", (3,), True),
    ]
    assert [(c.name, c.type, c.column_ids) for c in schema.partition_columns] == [
        ("pt", "string", (20,))
    ]


@pytest.mark.parametrize(
    "data_type",
    [pa.dense_union([pa.field("a", pa.int8())]), pa.struct([("", pa.int8())]), pa.struct([])],
    ids=str,
)
def test_storable_types_can_be_named(data_type: Any) -> None:
    assert storable_type(pa.field("c", pa.list_(pa.int8()))) == parse_type("array<tinyint>")
    with pytest.raises(UsageError, match="column 'c' cannot be"):
        storable_type(pa.field("c", pa.list_(data_type)))
