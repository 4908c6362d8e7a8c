"""What names, columns, keys and properties of a table may be, and how its schema is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pyarrow as pa

from fletching import ipc
from fletching.catalog.table_rows import TableRow
from fletching.engine.cache import remembered
from fletching.engine.changes.key_values import check_key_type
from fletching.engine.engine_settings import EngineSettings
from fletching.errors import InvalidArgumentError, UsageError, WireError
from fletching.ipc.schema_header import read_schema
from fletching.protocol.types.table_schema import storable_type

MAX_TABLE_NAME_LENGTH = 128
MAX_COLUMN_NAME_LENGTH = 255
MAX_SCHEMA_BYTES = 4 << 20
MAX_COMMENT_LENGTH = 8192
MAX_OWNER_LENGTH = 256
MAX_PROPERTIES = 1000
MAX_KEY_COLUMNS = 16

_TABLE_NAME = re.compile(r"[A-Za-z0-9_]+")
_COLUMN_NAME = re.compile(r"[^\x00-\x1f\x7f`]+")

_NUMBER = re.compile(r"[0-9]{1,19}(?:\.[0-9]{0,21})?(?:[eE][+-]?[0-9]{1,3})?")
RETAIN_PROPERTY = "acid.data.retain.hours"
"""MaxCompute's name for how many hours a table's history stays readable."""


VIEW_PREFIX = "fletching.view."
"""What the names of those properties begin with that make a table a view."""

VIEW_TEXT = VIEW_PREFIX + "text"
"""The property that is a view's query."""

VIEW_MATERIALIZED = VIEW_PREFIX + "materialized"
"""Property of a view that was made as a materialized one: the columns of PARTITIONED ON, as JSON.

It is computed when it is read, as every view, and so never behind its tables.
"""


def check_no_view(table: TableRow) -> TableRow:
    """A table as it is, if it has rows of its own: what is written into a view nobody would ever see.

    Raises:
        InvalidArgumentError: it is a view.
    """
    if VIEW_TEXT in table.properties:
        raise InvalidArgumentError(f"{table.name} is a view, whose rows are its query's: use SQL")
    return table


def check_properties(properties: Mapping[str, str]) -> None:
    """Refuses properties that mean something and do not.

    Raises:
        InvalidArgumentError: which.
    """
    hours = properties.get(RETAIN_PROPERTY)
    if hours is None:
        return
    # Python's float takes more than a number, like 1_0.
    if not (_NUMBER.fullmatch(hours) and float(hours) < float("inf")):
        raise InvalidArgumentError(
            f"{RETAIN_PROPERTY} is {hours[:100]!r}; expected hours, from 0 on"
        )


def read_arrow_schema(message: bytes) -> pa.Schema:
    """The Arrow schema in an encapsulated schema message that a client sent.

    Raises:
        InvalidArgumentError: it is not one, or too large.
    """
    if len(message) > MAX_SCHEMA_BYTES:
        raise InvalidArgumentError(
            f"the Arrow schema has {len(message)} bytes; {MAX_SCHEMA_BYTES} are allowed"
        )
    try:
        return _schema_once(message)
    except WireError as error:
        raise InvalidArgumentError(f"the Arrow schema cannot be read: {error}") from error


def _read_schema_message(message: bytes) -> pa.Schema:
    result = list(ipc.messages(message))
    if len(result) != 1:
        raise InvalidArgumentError(f"expected one schema message, got {len(result)} messages")
    return read_schema(result[0])


# Every request about a table reads its schema.
_schema_once = remembered(_read_schema_message, growth=2)


def check_table_name(name: str) -> None:
    """Refuses what a project, a schema or a table cannot be called.

    Raises:
        InvalidArgumentError: what a name is.
    """
    if not _TABLE_NAME.fullmatch(name) or len(name) > MAX_TABLE_NAME_LENGTH:
        near = re.sub(r"\W+", "_", name[:MAX_TABLE_NAME_LENGTH], flags=re.ASCII).strip("_")
        raise InvalidArgumentError(
            f"{name[:MAX_TABLE_NAME_LENGTH]!r} is not a name: 1 to "
            f"{MAX_TABLE_NAME_LENGTH} letters, digits and underscores"
            + (f", such as {near}" if near else "")
        )


def check_columns(
    settings: EngineSettings, schema: pa.Schema, partition_names: Sequence[str]
) -> None:
    """Refuses more columns than tables may have, and names that are none or occur twice.

    Raises:
        InvalidArgumentError: which.
    """
    if not 1 <= len(schema) <= settings.max_columns:
        raise InvalidArgumentError(
            f"a table has 1 to {settings.max_columns} data columns, not {len(schema)}"
        )
    if len(partition_names) > settings.max_partition_columns:
        raise InvalidArgumentError(
            f"a table has at most {settings.max_partition_columns} partition columns, "
            f"not {len(partition_names)}"
        )
    seen: set[str] = set()
    for name in [*schema.names, *partition_names]:
        if not _COLUMN_NAME.fullmatch(name) or len(name) > MAX_COLUMN_NAME_LENGTH:
            raise InvalidArgumentError(
                f"{name[:MAX_COLUMN_NAME_LENGTH]!r} is not a column name: 1 to "
                f"{MAX_COLUMN_NAME_LENGTH} characters without control characters and backquotes"
            )
        if name.casefold() in seen:
            raise InvalidArgumentError(f"column {name} occurs twice (case does not count)")
        seen.add(name.casefold())


def primary_key_names(schema: pa.Schema, names: Sequence[str]) -> tuple[str, ...]:
    """The key's columns under the names that the schema gives them.

    Raises:
        InvalidArgumentError: one is no data column, occurs twice or has a type that is no key.
    """
    known = {field.name.casefold(): field for field in schema}
    result = []
    for name in names:
        field = known.get(name.casefold())
        if field is None:
            raise InvalidArgumentError(f"primary key column {name} is not a data column")
        result.append(field.name)
        check_key_type(field.name, field.type)
    if len(set(result)) != len(result):
        raise InvalidArgumentError("the primary key names a column twice")
    if len(result) > MAX_KEY_COLUMNS:
        raise InvalidArgumentError(f"a primary key has at most {MAX_KEY_COLUMNS} columns")
    return tuple(result)


def with_required(schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
    """The schema with key columns that may not be null."""
    if not names:
        return schema
    fields = [
        field.with_nullable(nullable=False) if field.name in names else field for field in schema
    ]
    return pa.schema(fields, metadata=schema.metadata)


def check_new_columns(schema: pa.Schema, partition_names: Sequence[str] = ()) -> None:
    """What tables of earlier releases may have and new columns may not.

    A type that only some clients can name would make a table that the others can neither write nor
    scan, and a blank at the end of a name is lost where names stand in a list or a specification.
    """
    for name in [*schema.names, *partition_names]:
        if name != name.strip():
            raise InvalidArgumentError(
                f"{name!r} is not a column name: it begins or ends with a blank"
            )
    for field in schema:
        try:
            storable_type(field)
        except UsageError as error:
            raise InvalidArgumentError(error.message) from error
