"""XML and JSON documents of the metadata endpoints: what clients parse, built and read safely."""

from __future__ import annotations

import json
from collections.abc import Iterable
from email.utils import formatdate
from xml.etree import ElementTree as ET

from fletching.engine.query.printing import VIEW_MATERIALIZED, VIEW_TEXT
from fletching.errors import InvalidParameterError
from fletching.protocol.http.numbers import parse_count
from fletching.protocol.messages.admin import PartitionInfo, TableInfo
from fletching.protocol.messages.responses import Column
from fletching.sql.functions.generated_partitions import GENERATED, generated_partition
from fletching.sql.statements.clusterings import CLUSTERING, declared_clustering
from fletching.sql.statements.table_properties import SHARD_PROPERTIES, STORAGE_TIER, partition_tier

__all__ = [
    "element",
    "parse_root",
    "partition_document",
    "partition_page",
    "render",
    "table_document",
    "table_json",
    "table_page",
    "type_of",
]

MANAGED_TABLE, VIRTUAL_VIEW = "MANAGED_TABLE", "VIRTUAL_VIEW"
MATERIALIZED_VIEW = "MATERIALIZED_VIEW"

_OURS = "fletching."
"""What properties begin with that are shown in another way, or not at all."""


def type_of(info: TableInfo) -> str:
    """What a table is, as clients name it."""
    if VIEW_MATERIALIZED in info.properties:
        return MATERIALIZED_VIEW
    return VIRTUAL_VIEW if VIEW_TEXT in info.properties else MANAGED_TABLE


def element(
    tag: str, *children: ET.Element, text: str | None = None, **attributes: str
) -> ET.Element:
    """An XML element."""
    made = ET.Element(tag, attributes)
    if text is not None:
        made.text = _xml_text(text)
    made.extend(children)
    return made


def _xml_text(text: str) -> str:
    """Text with the characters that XML 1.0 cannot hold replaced."""
    if text.isprintable():
        return text
    return "".join(
        character
        if character in "\t\n\r" or " " <= character <= "\ud7ff" or character >= "\ue000"
        else "\ufffd"
        for character in text
    )


def render(root: ET.Element) -> bytes:
    """The document as bytes."""
    return ET.tostring(root, encoding="utf-8", xml_declaration=True)


def parse_root(body: bytes, tag: str) -> ET.Element:
    """Reads a client's XML document.

    Raises:
        InvalidParameterError: it is not XML, declares entities, or has another root.
    """
    # No document of the protocol has a DOCTYPE; without one there are no entities to blow up.
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
        raise InvalidParameterError("the XML body has a DOCTYPE, which is not allowed")
    try:
        root = ET.fromstring(body)  # noqa: S314 - entities are refused above
    except ET.ParseError as error:
        raise InvalidParameterError(f"the body is not XML: {str(error)[:200]}") from error
    if root.tag != tag:
        raise InvalidParameterError(f"the XML body is a {root.tag[:40]}, not a {tag}")
    return root


# --- tables ----------------------------------------------------------------------------------


def _column_json(column: Column) -> dict[str, object]:
    return {
        "name": column.name,
        "type": column.type,
        "comment": column.comment,
        "label": "",
        "isNullable": column.nullable,
        "hasDefaultValue": False,
    }


def _partition_key_json(column: Column, info: TableInfo) -> dict[str, object]:
    described = _column_json(column)
    kinds = {each.name.casefold(): each.type for each in info.schema.data_columns}
    made = generated_partition(
        info.properties.get(GENERATED), kinds, (each.name for each in info.schema.partition_columns)
    )
    if made is not None:
        described["generateExpression"] = made.client_text(kinds[made.column.casefold()])
    return described


def table_json(info: TableInfo, *, extended: bool) -> dict[str, object]:
    """The JSON inside a table's XML; ``extended`` adds the attributes clients ask for apart."""
    view_text = info.properties.get(VIEW_TEXT)
    properties = {k: v for k, v in info.properties.items() if not k.startswith(_OURS)}
    document: dict[str, object] = {
        "columns": [_column_json(column) for column in info.schema.data_columns],
        "partitionKeys": [
            _partition_key_json(column, info) for column in info.schema.partition_columns
        ],
        "tableName": info.table.name,
        "comment": info.comment,
        "owner": info.owner,
        "createTime": int(info.created_at),
        "lastModifiedTime": int(info.modified_at),
        "lastDDLTime": int(info.modified_at),
        "tableLabel": "",
        "isVirtualView": type_of(info) == VIRTUAL_VIEW,
        "isMaterializedView": type_of(info) == MATERIALIZED_VIEW,
        "isExternal": False,
        "lifecycle": -1 if info.lifecycle_days is None else info.lifecycle_days,
        "size": info.bytes,
        "recordNum": info.rows,
    }
    if view_text is not None:
        document |= {"viewText": view_text, "viewExpandedText": view_text}
    # Whoever may alter a table may set any of its properties, to anything.
    shards, lifecycle = (
        parse_count(info.properties.get(name, "")) for name in SHARD_PROPERTIES.values()
    )
    document["shardExist"] = shards is not None
    if shards is not None:
        document["shardInfo"] = {
            "ShardNum": shards,
            "HubLifecycle": lifecycle or 0,
            "DistributeCols": [],
            "SortCols": [],
        }
    if properties:
        # JSON text inside JSON, as clients parse it.
        document["tableProperties"] = json.dumps(properties)
    if extended:
        transactional = info.properties.get("transactional", "").lower() == "true"
        reserved: dict[str, object] = {
            "Transactional": "true" if transactional or info.primary_key else "false",
            "PrimaryKey": list(info.primary_key),
            "schema_version": str(info.schema_version),
        }
        names = [column.name for column in info.schema.data_columns]
        reserved |= declared_clustering(info.properties.get(CLUSTERING), names) or {}
        if STORAGE_TIER in info.properties:
            reserved["StorageTier"] = info.properties[STORAGE_TIER]
        document["Reserved"] = json.dumps(reserved)
        document |= {
            "IsArchived": False,
            "PhysicalSize": info.bytes,
            "FileNum": info.segments,
        }
    return document


def table_document(info: TableInfo, *, extended: bool) -> ET.Element:
    """A table's XML."""
    text = json.dumps(table_json(info, extended=extended), ensure_ascii=False)
    return element(
        "Table",
        element("Name", text=info.table.name),
        element("TableId", text=info.table_id),
        element("Project", text=info.table.project),
        element("Schema", text=text, format="Json"),
        element("Owner", text=info.owner),
        element("Comment", text=info.comment),
        element("Type", text=type_of(info)),
        element("CreationTime", text=formatdate(info.created_at, usegmt=True)),
        element("LastModifiedTime", text=formatdate(info.modified_at, usegmt=True)),
    )


def table_page(tables: Iterable[TableInfo], marker: str, max_items: int) -> ET.Element:
    """A page of tables."""
    return element(
        "Tables",
        element("Marker", text=marker),
        element("MaxItems", text=str(max_items)),
        *(
            element(
                "Table",
                element("Name", text=info.table.name),
                element("TableId", text=info.table_id),
                element("Owner", text=info.owner),
                element("Type", text=type_of(info)),
            )
            for info in tables
        ),
    )


# --- partitions ------------------------------------------------------------------------------


def partition_page(partitions: Iterable[PartitionInfo], marker: str, max_items: int) -> ET.Element:
    """A page of partitions."""
    return element(
        "Partitions",
        element("Marker", text=marker),
        element("MaxItems", text=str(max_items)),
        *(
            element(
                "Partition",
                *(
                    element("Column", Name=name, Value=_xml_text(value))
                    for name, value in info.partition
                ),
                element("CreationTime", text=str(int(info.created_at))),
                element("LastDDLTime", text=str(int(info.modified_at))),
                element("LastModifiedTime", text=str(int(info.modified_at))),
                element("PartitionSize", text=str(info.bytes)),
                element("PartitionRecordCount", text=str(info.rows)),
            )
            for info in partitions
        ),
    )


def partition_document(
    info: PartitionInfo, *, extended: bool, tiers: str | None = None
) -> ET.Element:
    """A partition's XML; ``extended`` asks for other attributes instead, as clients keep both kinds apart.

    A client that was told all of them at once would never learn that it has the first kind. ``tiers`` is
    the table's property that says its partitions' tiers.
    """
    tier = partition_tier(tiers, tuple(value for _, value in info.partition), info.created_at)
    document: dict[str, object] = (
        {
            "IsArchived": False,
            "IsExstore": False,
            "LifeCycle": -1,
            "PhysicalSize": info.bytes,
            "FileNum": 0,
            "Reserved": json.dumps({"StorageTier": tier} if tier else {}),
        }
        if extended
        else {
            "createTime": int(info.created_at),
            "lastDDLTime": int(info.modified_at),
            "lastModifiedTime": int(info.modified_at),
            "partitionSize": info.bytes,
            "partitionRecordNum": info.rows,
        }
    )
    return element(
        "Partition",
        *(element("Column", Name=name, Value=_xml_text(value)) for name, value in info.partition),
        element("Schema", text=json.dumps(document)),
    )
