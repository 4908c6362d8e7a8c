"""Table administration of our own: JSON under ``/fletching/v1`` and the DDL's meaning.

The metadata REST and the SQL statements are other spellings of the same requests; the engine knows only
these.
"""

from __future__ import annotations

import builtins
import datetime as dt
import secrets
from collections.abc import Callable, Iterator
from typing import TypeVar

import msgspec

from fletching.protocol.messages.requests import Request, TableRequest
from fletching.protocol.messages.responses import Done, Response, TableSchema
from fletching.types import DEFAULT_SCHEMA, PartitionSpec, TableName

__all__ = [
    "AddColumns",
    "CancelStatement",
    "CreatePartition",
    "CreateProject",
    "CreateSchema",
    "CreateTable",
    "DescribeTable",
    "DropPartition",
    "DropSchema",
    "DropTable",
    "GetStatement",
    "ListPartitions",
    "ListSchemas",
    "ListTables",
    "PartitionInfo",
    "PartitionPage",
    "RunStatement",
    "SchemaInfo",
    "SchemaPage",
    "StatementRequest",
    "StatementState",
    "TableInfo",
    "TablePage",
    "new_instance_id",
    "pages",
]


class StatementState(Response, frozen=True, kw_only=True):
    """What has come of SQL statements.

    Attributes:
        instance_id: their instance; its rows are read with `ReadInstance`, whose session has the
            same id.
        running: whether they have not ended yet.
        progress: how far they are, from 0 to 1.
        printed: what the last one printed.
        arrow_schema: an encapsulated schema message of the rows of the last one, if it is a query.
        rows: how many rows that has.
        affected_rows: how many rows the last one changed; None if it changes none.
        error: (HTTP status, code, message) of a failure.
    """

    instance_id: str
    running: bool = False
    progress: float = 1.0
    printed: str = ""
    arrow_schema: builtins.bytes | None = None
    rows: int = 0
    affected_rows: int | None = None
    error: tuple[int, str, str] | None = None


class SchemaInfo(Response, frozen=True, kw_only=True):
    """What the catalog knows of a schema. Times are seconds since the epoch."""

    project: str
    schema: str
    created_at: float = 0.0


class SchemaPage(Response, frozen=True, kw_only=True):
    """All schemas of a project."""

    schemas: tuple[SchemaInfo, ...]


class TableInfo(Response, frozen=True, kw_only=True):
    """What the catalog knows of a table. Times are seconds since the epoch.

    ``builtins.bytes`` because the field ``bytes`` hides the type from whoever resolves annotations.
    """

    table: TableName
    table_id: str
    schema: TableSchema
    arrow_schema: builtins.bytes
    version: int = 0
    schema_version: int = 1
    rows: int = 0
    bytes: int = 0
    segments: int = 0
    created_at: float = 0.0
    modified_at: float = 0.0
    owner: str = ""
    comment: str = ""
    properties: dict[str, str] = msgspec.field(default_factory=dict)
    primary_key: tuple[str, ...] = ()
    keyed: bool = False
    """Whether the primary key is kept unique: not in tables of releases that only noted it."""
    lifecycle_days: int | None = None


class TablePage(Response, frozen=True, kw_only=True):
    """One page of tables; ``marker`` is empty on the last."""

    tables: tuple[TableInfo, ...]
    marker: str = ""


class PartitionInfo(Response, frozen=True, kw_only=True):
    """What the catalog knows of a partition."""

    partition: PartitionSpec
    rows: int = 0
    bytes: int = 0
    created_at: float = 0.0
    modified_at: float = 0.0


class PartitionPage(Response, frozen=True, kw_only=True):
    """One page of partitions; ``marker`` is empty on the last."""

    partitions: tuple[PartitionInfo, ...]
    marker: str = ""


_Page = TypeVar("_Page", TablePage, PartitionPage)


def pages(call: Callable[[Request[_Page]], _Page], request: Request[_Page]) -> Iterator[_Page]:
    """The pages from a request's on; each is asked for when the one before it is used up."""
    while True:
        page = call(request)
        yield page
        if not page.marker:
            return
        request = msgspec.structs.replace(request, marker=page.marker)


class CreateProject(Request[Done], frozen=True, kw_only=True):
    """Creates a project: nothing else does, so that a mistyped one is an error."""

    project: str
    if_not_exists: bool = False
    idempotency_key: str | None = None


class CreateTable(TableRequest[TableInfo], frozen=True, kw_only=True):
    """Creates a table from an Arrow schema message (data columns only) and its partition columns.

    ``arrow_schema`` is an encapsulated Arrow schema message (``ipc.encode_schema``); BLOB columns
    have the extension type ``fletching.blob``. Partition columns are (name, ODPS type) pairs;
    ``partition_comments`` has a comment for each, or is empty.

    An ``unlisted`` table is one to fill before anybody sees it: the reply has a name of its own for it, which no
    listing has, and `RenameTable` gives it the name that is asked for here. One that nobody writes to any more
    is dropped by retention.
    """

    arrow_schema: bytes
    partition_columns: tuple[tuple[str, str], ...] = ()
    partition_comments: tuple[str, ...] = ()
    comment: str = ""
    properties: dict[str, str] = msgspec.field(default_factory=dict)
    primary_key: tuple[str, ...] = ()
    lifecycle_days: int | None = None
    if_not_exists: bool = False
    unlisted: bool = False
    idempotency_key: str | None = None
    """A repetition with the key of the first is answered like it, instead of finding its own table there."""


class DescribeTable(TableRequest[TableInfo], frozen=True, kw_only=True):
    """Looks a table up, as it is or as it was: by version, tag, or microseconds since the epoch."""

    version: int | None = None
    tag: str | None = None
    moment_us: int | None = None


class DropTable(TableRequest[Done], frozen=True, kw_only=True):
    """Drops a table; its bytes go after retention.

    With ``table_id`` another table that has the name by now is as if it were not there, and with
    ``if_version`` one to which anything but upkeep has happened since stays: for whoever takes back what it has
    made.
    """

    if_exists: bool = False
    table_id: str = ""
    if_version: int | None = None
    idempotency_key: str | None = None


class AddColumns(TableRequest[TableInfo], frozen=True, kw_only=True):
    """Appends nullable columns; older rows read as null there.

    With ``if_not_exists`` those whose name is taken are left out. A repetition with the key of the first is
    answered like it, instead of finding its own columns there.
    """

    arrow_schema: bytes
    if_not_exists: bool = False
    idempotency_key: str | None = None


class ListTables(Request[TablePage], frozen=True, kw_only=True):
    """Tables of a schema in name order, one page."""

    project: str
    schema: str = DEFAULT_SCHEMA
    prefix: str = ""
    marker: str = ""
    max_items: int = 1000


class ListPartitions(TableRequest[PartitionPage], frozen=True, kw_only=True):
    """Partitions in value order, one page; ``prefix`` narrows to a leading part.

    With ``version`` those that had rows in that version, without times.
    """

    prefix: PartitionSpec = PartitionSpec()
    marker: str = ""
    max_items: int = 1000
    reverse: bool = False
    version: int | None = None


class CreatePartition(TableRequest[PartitionInfo], frozen=True, kw_only=True):
    """Adds an empty partition; a repetition with the key of the first is answered like it."""

    partition: PartitionSpec
    if_not_exists: bool = False
    idempotency_key: str | None = None


class DropPartition(TableRequest[Done], frozen=True, kw_only=True):
    """Removes a partition and its rows in one new table version."""

    partition: PartitionSpec
    if_exists: bool = False
    idempotency_key: str | None = None


class StatementRequest(Request[StatementState], frozen=True, kw_only=True):
    """A request about SQL statements of one project.

    ``wait_seconds`` is how long the reply waits for their end; a service may answer earlier.
    """

    project: str
    schema: str = DEFAULT_SCHEMA
    wait_seconds: float = 10.0


class RunStatement(StatementRequest, frozen=True, kw_only=True):
    """Runs SQL statements; they go on when the reply does not wait for their end.

    ``instance_id``, as `new_instance_id` makes it, is what they are known by; the service makes one where
    it is empty. Whoever gives one can cancel them before there is an answer; asked again while the service
    lives, the same text under the same id is run once.
    """

    text: str
    instance_id: str = ""


def new_instance_id(now: float) -> str:
    """An id of statements that sorts by time, as the real service's do; ``now`` in seconds since the epoch."""
    moment = dt.datetime.fromtimestamp(now, dt.UTC)
    return f"{moment:%Y%m%d%H%M%S}{moment.microsecond // 1000:03d}{secrets.token_hex(6)}"


class GetStatement(StatementRequest, frozen=True, kw_only=True):
    """What has come of statements so far."""

    instance_id: str


class CancelStatement(StatementRequest, frozen=True, kw_only=True):
    """Ends statements that run; those that have ended stay as they are."""

    instance_id: str


class ListSchemas(Request[SchemaPage], frozen=True, kw_only=True):
    """The schemas (namespaces) of a project, in name order."""

    project: str


class CreateSchema(Request[SchemaInfo], frozen=True, kw_only=True):
    """Adds an empty schema."""

    project: str
    schema: str
    if_not_exists: bool = False
    idempotency_key: str | None = None


class DropSchema(Request[Done], frozen=True, kw_only=True):
    """Removes a schema without tables; the default one stays."""

    project: str
    schema: str
    if_exists: bool = False
    idempotency_key: str | None = None
