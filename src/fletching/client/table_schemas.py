"""The Arrow schemas of tables, scans and writes, from what the service says of them.

Our own service sends the exact Arrow schema message; from any other the ODPS columns say it. A
partition column has the Arrow type of its declared ODPS type, utf8 unless the table says otherwise, and
is never null.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from fletching.errors import ProtocolError, UsageError
from fletching.protocol.messages.admin import TableInfo
from fletching.protocol.messages.responses import ReadSession, TableSchema, WriteStream
from fletching.protocol.types.table_schema import arrow_schema, parse_columns

__all__ = [
    "columns_of",
    "gives_columns",
    "partition_fields",
    "read_schema_message",
    "scan_schema",
    "table_schemas",
    "write_schema",
]


def columns_of(columns: object) -> pa.Schema:
    """Columns as a caller gives them: an Arrow schema, text as in SQL, or what has or makes a schema.

    Raises:
        UsageError: none of these, or text that does not parse.
    """
    if isinstance(columns, str):
        return parse_columns(columns)
    if isinstance(columns, pa.Schema):
        return columns
    if hasattr(columns, "__arrow_c_schema__"):
        return pa.schema(columns)
    if isinstance(columns, list | tuple | dict):
        try:
            return pa.schema(columns)
        except (TypeError, ValueError, pa.ArrowException) as exc:
            raise UsageError(f"the columns do not make a schema: {exc}") from exc
    raise UsageError(
        f"columns are an Arrow schema or text such as 'id BIGINT, name STRING', "
        f"not {type(columns).__name__}"
    )


def gives_columns(given: object) -> bool:
    """Whether this says what columns there are, as `columns_of` reads it, and is not rows."""
    if isinstance(given, str | pa.Schema):
        return True
    if isinstance(given, Mapping):
        return all(isinstance(kind, str | pa.DataType) for kind in given.values())
    if isinstance(given, list | tuple):
        return all(
            isinstance(each, pa.Field) or (isinstance(each, tuple) and len(each) == 2)
            for each in given
        )
    rows = any(hasattr(given, name) for name in ("__arrow_c_stream__", "__arrow_c_array__"))
    return hasattr(given, "__arrow_c_schema__") and not rows


def read_schema_message(message: bytes) -> pa.Schema:
    """Reads an encapsulated schema message.

    Raises:
        ProtocolError: it is not one.
    """
    try:
        return pa.ipc.read_schema(pa.py_buffer(message))
    except (pa.ArrowException, OSError, EOFError) as exc:
        raise ProtocolError(
            f"the service sent a schema that Arrow cannot read: {exc}", side="remote"
        ) from exc


def partition_fields(schema: TableSchema) -> list[pa.Field]:
    """The partition columns as Arrow fields, in order."""
    return [field.with_nullable(nullable=False) for field in arrow_schema(schema.partition_columns)]


def table_schemas(info: TableInfo) -> tuple[pa.Schema, pa.Schema]:
    """A table's data columns, and all its columns: data columns, then partition columns."""
    data = read_schema_message(info.arrow_schema)
    return data, pa.schema([*data, *partition_fields(info.schema)])


def scan_schema(session: ReadSession) -> pa.Schema:
    """What the replies of a read session look like."""
    if session.arrow_schema is not None:
        return read_schema_message(session.arrow_schema)
    # Another service says neither whether its partition columns are nullable nor anything exact.
    return arrow_schema((*session.schema.data_columns, *session.schema.partition_columns))


def write_schema(stream: WriteStream) -> pa.Schema:
    """What a write stream takes and stores as it comes."""
    if stream.arrow_schema is not None:
        return read_schema_message(stream.arrow_schema)
    return arrow_schema(stream.schema.data_columns)
