from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest

from fletching.errors import InvalidParameterError
from fletching.protocol.messages.admin import PartitionInfo, TableInfo
from fletching.protocol.messages.responses import Column, TableSchema
from fletching.server.metadata.documents import (
    element,
    parse_root,
    partition_document,
    partition_page,
    render,
    table_document,
    table_page,
)
from fletching.types import PartitionSpec, TableName

INFO = TableInfo(
    table=TableName("p", "t"),
    table_id="id",
    schema=TableSchema(
        data_columns=(Column(name="a", type="bigint", nullable=False, comment="]]> & <x>"),),
        partition_columns=(Column(name="pt", type="string"),),
    ),
    arrow_schema=b"",
    rows=5,
    bytes=7,
    segments=2,
    created_at=1_700_000_000.9,
    modified_at=1_700_000_001.0,
    owner="ann",
    comment="c\x00\x1f",
    properties={"transactional": "true", "k": "v"},
    primary_key=("a",),
    lifecycle_days=3,
)


def test_a_tables_xml_has_its_json_inside() -> None:
    root = ET.fromstring(render(table_document(INFO, extended=True)))
    assert root.findtext("Name") == "t"
    assert root.findtext("Type") == "MANAGED_TABLE"
    assert root.findtext("Comment") == "c\ufffd\ufffd"
    assert root.findtext("CreationTime") == "Tue, 14 Nov 2023 22:13:20 GMT"
    schema = root.find("Schema")
    assert schema is not None
    assert schema.get("format") == "Json"
    document = json.loads(schema.text or "")
    assert document["columns"][0]["comment"] == "]]> & <x>"
    assert document["columns"][0]["isNullable"] is False
    assert [column["name"] for column in document["partitionKeys"]] == ["pt"]
    assert document["createTime"] == 1_700_000_000
    assert document["lifecycle"] == 3
    assert json.loads(document["tableProperties"])["k"] == "v"
    reserved = json.loads(document["Reserved"])
    assert reserved["Transactional"] == "true"
    assert reserved["PrimaryKey"] == ["a"]
    plain = ET.fromstring(render(table_document(INFO, extended=False))).findtext("Schema")
    assert "Reserved" not in json.loads(plain or "")


def test_pages() -> None:
    root = ET.fromstring(render(table_page([INFO], "next", 10)))
    assert root.findtext("Marker") == "next"
    assert root.findtext("Table/Name") == "t"
    info = PartitionInfo(partition=PartitionSpec((("pt", 'x"<&'),)), rows=1, bytes=2)
    root = ET.fromstring(render(partition_page([info], "", 10)))
    column = root.find("Partition/Column")
    assert column is not None
    assert column.attrib == {"Name": "pt", "Value": 'x"<&'}
    plain, more = (
        json.loads(ET.fromstring(render(document)).findtext("Schema") or "")
        for document in (partition_document(info, extended=x) for x in (False, True))
    )
    assert (plain["partitionRecordNum"], more["PhysicalSize"]) == (1, 2)
    # A client that finds both kinds in one reply never asks for the other.
    assert not plain.keys() & more.keys()


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("", "not XML"),
        ("<Instance>", "not XML"),
        ("<Job/>", "is a Job, not a Instance"),
        ("<!DOCTYPE x><Instance/>", "DOCTYPE"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><Instance/>', "DOCTYPE"),
    ],
)
def test_other_documents_are_refused(body: str, complaint: str) -> None:
    with pytest.raises(InvalidParameterError, match=complaint):
        parse_root(body.encode(), "Instance")


def test_text_survives() -> None:
    root = parse_root(render(element("A", text="ä\t\n<&>漢")), "A")
    assert root.text == "ä\t\n<&>漢"
