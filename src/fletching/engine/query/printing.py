"""What statements print: names, descriptions, failures as clients read them."""

from __future__ import annotations

import datetime as dt
import fnmatch
import json
from xml.sax.saxutils import escape

import pyarrow as pa

from fletching.engine.tables.schema_checks import VIEW_MATERIALIZED, VIEW_TEXT
from fletching.errors import InvalidArgumentError
from fletching.protocol.messages.admin import PartitionInfo, SchemaInfo, TableInfo
from fletching.sql.functions.generated_partitions import GENERATED, generated_partition
from fletching.sql.statements.clusterings import CLUSTERING, clustering_clause, declared_clustering
from fletching.sql.statements.table_definitions import DEFAULT_KEY
from fletching.sql.statements.table_properties import INTERNAL, SHARD_PROPERTIES

__all__ = [
    "VIEW_MATERIALIZED",
    "VIEW_TEXT",
    "bounded_text",
    "creating_statement",
    "description",
    "failure_text",
    "matches",
    "partition_description",
    "schema_description",
]


def failure_text(code: str, message: str) -> str:
    """A failure as clients read it: the XML form of an error, from which they take the class."""
    name = {"ParseError": "ODPS-0130161"}.get(code, code)
    return f"<Error><Code>{escape(name)}</Code><Message>{escape(message)}</Message></Error>"


def matches(name: str, pattern: str | None) -> bool:
    """Whether SHOW TABLES with this pattern lists a name; any does without a pattern."""
    if pattern is None:
        return True
    return any(
        fnmatch.fnmatchcase(name.casefold(), choice.strip().replace("%", "*").casefold())
        for choice in pattern.split("|")
    )


def description(info: TableInfo, *, extended: bool = False) -> str:
    """What DESC prints; ``extended`` adds when, how much and by which key."""
    lines = [f"Table: {info.table}", f"Owner: {info.owner}"]
    if info.comment:
        lines.append(f"Comment: {info.comment}")
    lines += [f"Rows: {info.rows}", f"Bytes: {info.bytes}", "", "Columns:"]
    lines += [
        "  "
        + " ".join(
            [column.name, column.type]
            + ([] if column.nullable else ["not null"])
            + ([f"comment {json.dumps(column.comment)}"] if column.comment else [])
        )
        for column in info.schema.data_columns
    ]
    if info.schema.partition_columns:
        lines += ["", "Partition columns:"]
        lines += [f"  {column.name} {column.type}" for column in info.schema.partition_columns]
    if info.lifecycle_days is not None:
        lines += ["", f"Lifecycle: {info.lifecycle_days} days"]
    if extended:
        lines += [
            "",
            f"Created: {_moment(info.created_at)}",
            f"Modified: {_moment(info.modified_at)}",
            f"Version: {info.version}",
            f"Segments: {info.segments}",
        ]
        if info.primary_key:
            lines.append(f"Primary key: {', '.join(info.primary_key)}")
        shown = {k: v for k, v in info.properties.items() if k != VIEW_TEXT}
        lines += [f"Property {key}: {value}" for key, value in sorted(shown.items())]
    if VIEW_TEXT in info.properties:
        lines += ["", f"View: {info.properties[VIEW_TEXT]}"]
    return "\n".join(lines)


def partition_description(info: PartitionInfo, *, stays: bool = False) -> str:
    """What DESC .. PARTITION prints; ``stays`` if the table's lifecycle is not the partition's."""
    name = "/".join(f"{key}={value}" for key, value in info.partition)
    return "\n".join(
        [
            f"Partition: {name}",
            f"Rows: {info.rows}",
            f"Bytes: {info.bytes}",
            f"Created: {_moment(info.created_at)}",
            f"Modified: {_moment(info.modified_at)}",
            *(["Lifecycle: disabled"] if stays else []),
        ]
    )


def schema_description(info: SchemaInfo) -> str:
    """What DESC SCHEMA prints: JSON, which clients parse."""
    created = _moment(info.created_at)
    described = {
        "name": info.schema,
        "owner": "",
        "type": "MANAGED",
        "createTime": created,
        "modifyTime": created,
    }
    return json.dumps(described, ensure_ascii=False)


def _moment(seconds: float) -> str:
    return f"{dt.datetime.fromtimestamp(seconds, dt.UTC):%Y-%m-%d %H:%M:%S}"


def creating_statement(info: TableInfo) -> str:
    """What SHOW CREATE TABLE prints; of a view, what created it."""
    if VIEW_TEXT in info.properties:
        names = ", ".join(f"`{column.name}`" for column in info.schema.data_columns)
        comment = f" COMMENT {_quoted(info.comment)}" if info.comment else ""
        text, what, clauses = info.properties[VIEW_TEXT], "VIEW", ""
        if VIEW_MATERIALIZED in info.properties:
            on = ", ".join(f"`{name}`" for name in json.loads(info.properties[VIEW_MATERIALIZED]))
            what = "MATERIALIZED VIEW"
            clauses = " DISABLE REWRITE" + (f" PARTITIONED ON ({on})" if on else "")
        return f"CREATE {what} IF NOT EXISTS {info.table} ({names}){comment}{clauses} AS {text};"
    stored = pa.ipc.read_schema(pa.py_buffer(info.arrow_schema))
    defaults = {
        field.name: field.metadata[DEFAULT_KEY].decode()
        for field in stored
        if DEFAULT_KEY in (field.metadata or {})
    }
    columns = [
        f"  `{column.name}` {column.type}"
        + ("" if column.nullable else " NOT NULL")
        + (f" DEFAULT {defaults[column.name]}" if column.name in defaults else "")
        + (f" COMMENT {_quoted(column.comment)}" if column.comment else "")
        for column in info.schema.data_columns
    ]
    if info.primary_key:
        columns.append(f"  PRIMARY KEY ({', '.join(f'`{name}`' for name in info.primary_key)})")
    lines = [f"CREATE TABLE IF NOT EXISTS {info.table} (", ",\n".join(columns), ")"]
    if info.comment:
        lines.append(f"COMMENT {_quoted(info.comment)}")
    if info.schema.partition_columns:
        parts = [
            f"`{column.name}` {column.type}"
            + (f" COMMENT {_quoted(column.comment)}" if column.comment else "")
            for column in info.schema.partition_columns
        ]
        made = generated_partition(
            info.properties.get(GENERATED),
            (column.name for column in info.schema.data_columns),
            (column.name for column in info.schema.partition_columns),
        )
        if made is None:
            lines.append(f"PARTITIONED BY ({', '.join(parts)})")
        else:
            (column,) = info.schema.partition_columns
            comment = f" COMMENT {_quoted(column.comment)}" if column.comment else ""
            lines.append(f"AUTO PARTITIONED BY ({made.text()} AS `{made.name}`{comment})")
    lines += _own_clauses(info)
    pairs = [
        f"{_quoted(key)}={_quoted(value)}"
        for key, value in info.properties.items()
        if not key.startswith(INTERNAL)
    ]
    if pairs:
        lines.append(f"TBLPROPERTIES ({', '.join(pairs)})")
    if info.lifecycle_days is not None:
        lines.append(f"LIFECYCLE {info.lifecycle_days}")
    return "\n".join(lines) + ";"


def _own_clauses(info: TableInfo) -> list[str]:
    """The clauses that are kept as properties of the service's own."""
    columns = [column.name for column in info.schema.data_columns]
    result = declared_clustering(info.properties.get(CLUSTERING), columns)
    clauses = [] if result is None else [clustering_clause(result)]
    shards, days = (info.properties.get(key) for key in SHARD_PROPERTIES.values())
    if shards is not None:
        clauses.append(f"INTO {shards} SHARDS")
    if days is not None:
        clauses.append(f"HUBLIFECYCLE {days}")
    return clauses


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


MAX_RESULT_CHARACTERS = 8 * 1024 * 1024
"""Longest printed result that is kept."""


def bounded_text(printed: str) -> str:
    """What a statement printed.

    Raises:
        InvalidArgumentError: it is too long to be kept.
    """
    if len(printed) > MAX_RESULT_CHARACTERS:
        raise InvalidArgumentError(
            f"the result has {len(printed)} characters, above the limit of {MAX_RESULT_CHARACTERS}"
        )
    return printed
