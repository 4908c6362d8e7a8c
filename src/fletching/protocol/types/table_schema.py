"""Table schemas in every form the project meets: column text, Arrow, and the protocol's two JSON forms.

- *column text*, as in SQL: ``id BIGINT NOT NULL, image BLOB, tags ARRAY<STRING> COMMENT 'x'``
- an Arrow schema, the form tables are stored with
- `responses.TableSchema`, the columns as ODPS sees them, with 1-based depth-first column ids
- the *read form*: a type string per column
- the *write form*: a tree of type numbers and column ids
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import pyarrow as pa

from fletching.errors import ProtocolError, UsageError
from fletching.protocol.messages.responses import Column, TableSchema
from fletching.protocol.types.arrow_types import (
    COMMENT_KEY,
    ODPS_TYPE_KEY,
    arrow_field,
    arrow_type,
    field_comment,
    odps_type_of,
    odps_type_of_field,
    reply_type,
)
from fletching.protocol.types.odps_types import (
    MAX_TYPE_DEPTH,
    OdpsField,
    OdpsType,
    TypeCode,
    TypeScanner,
    format_type,
    parse_type,
    quote_name,
)

__all__ = [
    "COMMENT_KEY",
    "ODPS_TYPE_KEY",
    "OdpsField",
    "OdpsType",
    "TypeCode",
    "arrow_field",
    "arrow_schema",
    "arrow_type",
    "depth_first_ids",
    "field_comment",
    "format_type",
    "from_read_form",
    "from_write_form",
    "odps_type_of",
    "odps_type_of_field",
    "parse_columns",
    "parse_type",
    "quote_name",
    "read_form",
    "reply_type",
    "storable_type",
    "table_schema",
    "write_form",
]


def parse_columns(text: str) -> pa.Schema:
    """Reads columns as SQL writes them into an Arrow schema.

    Raises:
        UsageError: the text is not a column list, names a column twice, or has a type that cannot
            be stored.
    """
    scanner = TypeScanner(text)
    fields: list[pa.Field] = []
    seen: set[str] = set()
    while True:
        name = scanner.name()
        if name.lower() in seen:
            raise scanner.error(f"names the column {name!r} twice")
        seen.add(name.lower())
        odps_type = scanner.type()
        nullable, comment = scanner.constraints()
        fields.append(arrow_field(name, odps_type, nullable=nullable, comment=comment))
        if not scanner.accept(","):
            break
    if scanner.kind != "end":
        raise scanner.error("goes on after the last column")
    return pa.schema(fields)


def storable_type(field: pa.Field) -> OdpsType:
    """The ODPS type of a column that a table may have: one that every client can name and read.

    Raises:
        UsageError: an Arrow type without ODPS type, a struct whose fields are unnamed or share a
            name, or nesting that the type's text cannot be read back from.
    """
    try:
        odps_type = odps_type_of_field(field)
        parse_type(format_type(odps_type))
    except (UsageError, RecursionError) as error:
        why = error.message if isinstance(error, UsageError) else "it nests too deep"
        raise UsageError(f"column {field.name!r} cannot be {_shown(field.type)}: {why}") from error
    return odps_type


def _shown(data_type: pa.DataType) -> str:
    text = str(data_type)
    return text if len(text) <= 200 else text[:200] + "..."


def _node_count(field: pa.Field) -> int:
    """Nodes of a column: as ODPS counts them, or else as Arrow nests them."""
    try:
        return odps_type_of_field(field).node_count
    except UsageError:
        return 1 + sum(_node_count(field.type.field(i)) for i in range(field.type.num_fields))


def depth_first_ids(fields: Iterable[pa.Field], first: int) -> tuple[list[tuple[int, ...]], int]:
    """Ids of every node of every column, depth-first from ``first``, and the next free one."""
    ids: list[tuple[int, ...]] = []
    for field in fields:
        count = _node_count(field)
        ids.append(tuple(range(first, first + count)))
        first += count
    return ids, first


def table_schema(
    schema: pa.Schema,
    partition_columns: Sequence[tuple[str, str]] = (),
    *,
    partition_comments: Sequence[str] = (),
    primary_key: Sequence[str] = (),
    column_ids: Sequence[tuple[int, ...]] | None = None,
    indices: Iterable[int] | None = None,
) -> TableSchema:
    """The ODPS view of a table's columns: the one place that makes it.

    Args:
        schema: Arrow schema of the data columns.
        partition_columns: (name, ODPS type) of the partition columns.
        partition_comments: a comment for each of them; none by default.
        primary_key: names of data columns, in any case.
        column_ids: per data column, then per partition column, the ids of its nodes; by default
            they count depth-first from 1, the ids both PyODPS suites expect.
        indices: which columns, by their number among data, then partition columns; all by default.

    Raises:
        UsageError: a partition column's type is not an ODPS type. A data column whose Arrow type
            ODPS lacks, as tables of earlier releases may have, has Arrow's name for it, which ODPS
            clients refuse.
    """
    keys = {name.casefold() for name in primary_key}
    count = len(schema)
    if column_ids is None:
        ids, following = depth_first_ids(schema, 1)
        column_ids = [*ids, *((following + i,) for i in range(len(partition_columns)))]
    data: list[Column] = []
    partitions: list[Column] = []
    for column_index in (
        range(count + len(partition_columns)) if indices is None else sorted(indices)
    ):
        if column_index >= count:
            name, type_text = partition_columns[column_index - count]
            partitions.append(
                Column(
                    name=name,
                    type=format_type(parse_type(type_text)),
                    comment=partition_comments[column_index - count] if partition_comments else "",
                    column_ids=tuple(column_ids[column_index]),
                )
            )
            continue
        field = schema.field(column_index)
        try:
            text = format_type(odps_type_of_field(field))
        except UsageError:
            text = str(field.type)
        data.append(
            Column(
                name=field.name,
                type=text,
                nullable=field.nullable,
                comment=field_comment(field),
                column_ids=tuple(column_ids[column_index]),
                primary_key=field.name.casefold() in keys,
            )
        )
    return TableSchema(data_columns=tuple(data), partition_columns=tuple(partitions))


def arrow_schema(columns: Iterable[Column]) -> pa.Schema:
    """The Arrow schema of ODPS columns, as tables store them.

    Raises:
        UsageError: a type string is not an ODPS type or has no Arrow form.
    """
    return pa.schema(
        [
            arrow_field(
                column.name,
                parse_type(column.type),
                nullable=column.nullable,
                comment=column.comment,
            )
            for column in columns
        ]
    )


# --- the read form ---------------------------------------------------------------------------


def read_form(schema: TableSchema) -> dict[str, object]:
    """The schema in the read form."""

    def column(item: Column) -> dict[str, object]:
        return {
            "Name": item.name,
            "Type": item.type,
            "Comment": item.comment,
            "Nullable": item.nullable,
            "ColumnId": item.column_ids[0] if item.column_ids else -1,
        }

    return {
        "DataColumns": [column(item) for item in schema.data_columns],
        "PartitionColumns": [column(item) for item in schema.partition_columns],
        "SystemColumns": [column(item) for item in schema.system_columns],
    }


def from_read_form(value: object) -> TableSchema:
    """Reads a schema in the read form; missing or null lists are empty.

    The ids of nested nodes follow their column's, as they are always numbered depth-first.

    Raises:
        ProtocolError: the value is not of this form.
    """
    body = _mapping(value, "DataSchema")

    def column(item: object) -> Column:
        fields = _mapping(item, "column")
        type_text = _string(fields, "Type")
        column_id = fields.get("ColumnId")
        ids: tuple[int, ...] = ()
        if isinstance(column_id, int) and column_id >= 0:
            try:
                count = parse_type(type_text).node_count
            except UsageError:
                count = 1  # a type newer than this release: the column still has its own id
            ids = tuple(range(column_id, column_id + count))
        return Column(
            name=_string(fields, "Name"),
            type=type_text,
            nullable=fields.get("Nullable") is not False,
            comment=_string(fields, "Comment", ""),
            column_ids=ids,
        )

    return TableSchema(
        data_columns=tuple(column(item) for item in _list(body, "DataColumns")),
        partition_columns=tuple(column(item) for item in _list(body, "PartitionColumns")),
        system_columns=tuple(column(item) for item in _list(body, "SystemColumns")),
    )


# --- the write form --------------------------------------------------------------------------


def write_form(schema: TableSchema) -> dict[str, object]:
    """The schema in the write form.

    Raises:
        UsageError: a column's type string is not an ODPS type.
    """

    def column(item: Column) -> dict[str, object]:
        ids = iter(item.column_ids)
        node = _node(item.name, parse_type(item.type), ids, nullable=item.nullable)
        if item.primary_key:
            node["IsDistributionKey"] = True
        return {"comment": item.comment, "label": "", "columnType": node}

    form: dict[str, object] = {
        "DataColumns": [column(item) for item in schema.data_columns],
        "PartitionColumns": [column(item) for item in schema.partition_columns],
        "SystemColumns": [column(item) for item in schema.system_columns],
    }
    if schema.max_field_bytes is not None:
        form["MaxFieldSize"] = schema.max_field_bytes
    return form


def _node(
    name: str, odps_type: OdpsType, ids: Iterator[int], *, nullable: bool
) -> dict[str, object]:
    node: dict[str, object] = {
        "MemberName": name,
        "ColumnId": next(ids, -1),
        "Nullable": nullable,
        "Type": odps_type.code.wire,
    }
    if odps_type.code is TypeCode.DECIMAL:
        node["Precision"] = odps_type.precision
        node["Scale"] = odps_type.scale
    elif odps_type.code in {TypeCode.CHAR, TypeCode.VARCHAR}:
        node["SpecifiedLength"] = odps_type.length
    if odps_type.fields:
        node["SubTypes"] = [
            _node(field.name, field.type, ids, nullable=field.nullable)
            for field in odps_type.fields
        ]
    return node


def from_write_form(value: object) -> TableSchema:
    """Reads a schema in the write form; a type number that is not known reads as STRING.

    Raises:
        ProtocolError: the value is not of this form.
    """
    body = _mapping(value, "TableSchema")

    def column(item: object) -> Column:
        fields = _mapping(item, "column")
        node = _mapping(fields.get("columnType"), "columnType")
        ids: list[int] = []
        odps_type = _type_of_node(node, ids, 0)
        return Column(
            name=_string(node, "MemberName"),
            type=format_type(odps_type),
            nullable=node.get("Nullable") is not False,
            comment=_string(fields, "comment", ""),
            column_ids=tuple(ids) if all(number >= 0 for number in ids) else (),
            primary_key=node.get("IsDistributionKey") is True,
        )

    size = body.get("MaxFieldSize")
    return TableSchema(
        data_columns=tuple(column(item) for item in _list(body, "DataColumns")),
        partition_columns=tuple(column(item) for item in _list(body, "PartitionColumns")),
        system_columns=tuple(column(item) for item in _list(body, "SystemColumns")),
        max_field_bytes=size if isinstance(size, int) else None,
    )


_WIRE_CODES = frozenset(code.value for code in TypeCode)


def _type_of_node(node: Mapping[str, object], ids: list[int], depth: int) -> OdpsType:
    if depth > MAX_TYPE_DEPTH:
        raise ProtocolError(f"a column type nests deeper than {MAX_TYPE_DEPTH}", side="remote")
    column_id = node.get("ColumnId")
    ids.append(column_id if isinstance(column_id, int) else -1)
    wire = node.get("Type", TypeCode.STRING)
    if not isinstance(wire, int) or wire not in _WIRE_CODES:
        return OdpsType(TypeCode.STRING)
    code = TypeCode(wire)
    if code is TypeCode.DECIMAL:
        return OdpsType(code, precision=_integer(node, "Precision"), scale=_integer(node, "Scale"))
    if code in {TypeCode.CHAR, TypeCode.VARCHAR}:
        return OdpsType(code, length=_integer(node, "SpecifiedLength"))
    if code not in {TypeCode.ARRAY, TypeCode.MAP, TypeCode.STRUCT}:
        return OdpsType(code)
    children = [_mapping(child, "SubTypes") for child in _list(node, "SubTypes")]
    wanted = {TypeCode.ARRAY: 1, TypeCode.MAP: 2}.get(code)
    if not children or (wanted is not None and len(children) != wanted):
        raise ProtocolError(f"{code.name} has {len(children)} sub-types", side="remote")
    names = {TypeCode.ARRAY: ("element",), TypeCode.MAP: ("key", "value")}.get(code)
    return OdpsType(
        code,
        fields=tuple(
            OdpsField(
                names[index] if names else _string(child, "MemberName"),
                _type_of_node(child, ids, depth + 1),
                nullable=child.get("Nullable") is not False,
            )
            for index, child in enumerate(children)
        ),
    )


# --- narrowing of decoded JSON ---------------------------------------------------------------


def _mapping(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise ProtocolError(f"{what} is not a JSON object", side="remote")
    return value


def _list(value: Mapping[str, object], key: str) -> list[object]:
    items = value.get(key)
    if items is None:
        return []
    if not isinstance(items, list):
        raise ProtocolError(f"{key} is not a JSON list", side="remote")
    return items


def _string(value: Mapping[str, object], key: str, default: str | None = None) -> str:
    item = value.get(key, default)
    if item is None and default is not None:
        return default
    if not isinstance(item, str):
        raise ProtocolError(f"{key} is not a JSON string", side="remote")
    return item


def _integer(value: Mapping[str, object], key: str) -> int:
    item = value.get(key)
    if not isinstance(item, int):
        raise ProtocolError(f"{key} is not a JSON integer", side="remote")
    return item
