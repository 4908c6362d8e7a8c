"""Queries over tables of tests, translated."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from fletching.protocol.types.arrow_types import arrow_field
from fletching.protocol.types.odps_types import parse_type
from fletching.sql.parsing.dialect import parse_one
from fletching.sql.queries.query_sources import Source, SourceView
from fletching.sql.queries.translation import Translation, translate
from fletching.sql.statements.statement_kinds import Namespace
from fletching.sql.statements.table_definitions import table_name

COLUMNS = {
    "id": "bigint",
    "s": "string",
    "n": "int",
    "d": "decimal(10,2)",
    "x": "double",
    "at": "datetime",
    "day": "date",
    "tags": "array<string>",
    "m": "map<string,bigint>",
    "st": "struct<a:bigint,b:string>",
    "pt": "string",
}


def resolve(node: Any) -> Source | SourceView:
    name = table_name(node, Namespace("demo", "default"))
    if name.name == "v":
        return SourceView(name, parse_one("select id from t where pt = '1'"), ("vid",))
    fields: dict[str, pa.Field] = {
        column: arrow_field(column, parse_type(kind)) for column, kind in COLUMNS.items()
    }
    return Source(name, fields)


def written(text: str) -> Translation:
    """A query translated at a fixed moment."""
    return translate(parse_one(text), resolve, now="TIMESTAMP '2024-01-01 00:00:00'")


def item(text: str) -> str:
    """What an expression becomes, over the table ``t``."""
    sql = written(f"select {text} as r from t").sql
    return sql[len("SELECT ") : sql.index(' AS "r"')]
