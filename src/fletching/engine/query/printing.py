"""What statements print: names, descriptions, failures as clients read them."""

from __future__ import annotations

import fnmatch
import json
from xml.sax.saxutils import escape

from fletching.protocol.messages.admin import TableInfo

__all__ = ["creating_statement", "description", "failure_text", "matches"]


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


def description(info: TableInfo) -> str:
    """What DESC prints."""
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
    return "\n".join(lines)


def creating_statement(info: TableInfo) -> str:
    """What SHOW CREATE TABLE prints."""
    columns = [
        f"  `{column.name}` {column.type}"
        + ("" if column.nullable else " NOT NULL")
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
        lines.append(f"PARTITIONED BY ({', '.join(parts)})")
    if info.properties:
        pairs = [f"{_quoted(key)}={_quoted(value)}" for key, value in info.properties.items()]
        lines.append(f"TBLPROPERTIES ({', '.join(pairs)})")
    if info.lifecycle_days is not None:
        lines.append(f"LIFECYCLE {info.lifecycle_days}")
    return "\n".join(lines) + ";"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
