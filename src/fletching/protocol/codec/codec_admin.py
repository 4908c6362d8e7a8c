"""Table administration as JSON over HTTP, both sides.

======  ====================================================  ===================  ================
method  path below ``/fletching/v1/projects/{p}/schemas/{s}``  request              reply
======  ====================================================  ===================  ================
GET     ``/tables?prefix&marker&max_items``                   `ListTables`         `TablePage`
POST    ``/tables``                                           `CreateTable`        `TableInfo`
GET     ``/tables/{t}``                                       `DescribeTable`      `TableInfo`
DELETE  ``/tables/{t}?if_exists&…``                           `DropTable`          `Done`
POST    ``/tables/{t}/columns``                               `AddColumns`         `TableInfo`
GET     ``/tables/{t}/partitions?prefix&marker&…``            `ListPartitions`     `PartitionPage`
POST    ``/tables/{t}/partitions``                            `CreatePartition`    `PartitionInfo`
DELETE  ``/tables/{t}/partitions?partition&if_exists&…``      `DropPartition`      `Done`
POST    ``/tables/{t}/actions/{verb}``                        one of `_ACTIONS`
POST    ``/statements``                                       `RunStatement`       `StatementState`
GET     ``/statements/{i}?wait_seconds``                      `GetStatement`       `StatementState`
DELETE  ``/statements/{i}``                                   `CancelStatement`    `StatementState`
======  ====================================================  ===================  ================

``POST /fletching/v1/projects`` is `CreateProject`, answered by `Done`.

Names in the path are percent-encoded. Bodies are the values of `admin` as JSON, field by field, bytes
as base64, partitions as text; what the path says is not repeated in the body. Changes and history of a
table have one path per verb.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from fletching.errors import (
    InvalidParameterError,
    MethodNotAllowedError,
    NotFoundError,
    ProtocolError,
    UsageError,
)
from fletching.protocol.codec.codec_parts import (
    HttpRequest,
    RequestParts,
    encode_json,
)
from fletching.protocol.codec.wire_kinds import parse_partition
from fletching.protocol.http import headers as header_names
from fletching.protocol.http.numbers import parse_seconds
from fletching.protocol.messages import changes
from fletching.protocol.messages.admin import (
    AddColumns,
    CancelStatement,
    CreatePartition,
    CreateProject,
    CreateTable,
    DescribeTable,
    DropPartition,
    DropTable,
    GetStatement,
    ListPartitions,
    ListTables,
    PartitionInfo,
    PartitionPage,
    RunStatement,
    StatementRequest,
    StatementState,
    TableInfo,
    TablePage,
)
from fletching.protocol.messages.requests import Request, TableRequest
from fletching.protocol.messages.responses import Done, Response
from fletching.types import DEFAULT_SCHEMA, TableName

__all__ = [
    "ADMIN_PREFIX",
    "decode_admin_request",
    "decode_admin_response",
    "encode_admin_request",
    "encode_admin_response",
    "is_admin_path",
    "is_admin_request",
]

ADMIN_PREFIX = "/fletching/v1"

_MOMENTS = ("version", "tag", "moment_us")

_ACTIONS: dict[str, tuple[type[Request], type[Response]]] = {
    "delete": (changes.DeleteRows, changes.Changed),
    "update": (changes.UpdateRows, changes.Changed),
    "merge": (changes.MergeRows, changes.Changed),
    "replace": (changes.ReplaceRows, changes.Changed),
    "truncate": (changes.TruncateTable, changes.Changed),
    "restore": (changes.RestoreTable, changes.Changed),
    "enforce_key": (changes.EnforceKey, changes.Changed),
    "versions": (changes.ListVersions, changes.VersionPage),
    "wait": (changes.WaitForVersion, changes.VersionPage),
    "create_tag": (changes.CreateTag, changes.TagList),
    "tags": (changes.ListTags, changes.TagList),
    "drop_tag": (changes.DropTag, changes.TagList),
    "expire_versions": (changes.ExpireVersions, changes.Expired),
    "compact": (changes.CompactTable, Done),
    "drop_columns": (changes.DropColumns, TableInfo),
    "rename_column": (changes.RenameColumn, TableInfo),
    "alter_column": (changes.AlterColumn, TableInfo),
    "rename": (changes.RenameTable, TableInfo),
    "alter": (changes.AlterTable, TableInfo),
    "touch": (changes.TouchTable, TableInfo),
}
_NAMES = {request: name for name, (request, _) in _ACTIONS.items()}

_ACTION_REPLIES: dict[type[Request], type[Response]] = dict(_ACTIONS.values())
"""What each request is answered with."""

MAX_PAGE_ITEMS = 10_000
"""Most tables or partitions of one page."""

_PATH = re.compile(
    re.escape(ADMIN_PREFIX)
    + r"/projects/(?P<project>[^/]+)/schemas/(?P<schema>[^/]+)/tables"
    + r"(?:/(?P<table>[^/]+)(?:/(?P<part>columns|partitions|actions/(?P<action>[a-z_]+)))?)?/?"
)

_STATEMENTS_PATH = re.compile(
    re.escape(ADMIN_PREFIX)
    + r"/projects/(?P<project>[^/]+)/schemas/(?P<schema>[^/]+)/statements(?:/(?P<id>[^/]+))?/?"
)

_PROJECTS_PATH = f"{ADMIN_PREFIX}/projects"

_REPLIES: dict[type[Request], type[Response]] = {
    CreateProject: Done,
    ListTables: TablePage,
    CreateTable: TableInfo,
    DescribeTable: TableInfo,
    DropTable: Done,
    AddColumns: TableInfo,
    ListPartitions: PartitionPage,
    CreatePartition: PartitionInfo,
    DropPartition: Done,
    **_ACTION_REPLIES,
    RunStatement: StatementState,
    GetStatement: StatementState,
    CancelStatement: StatementState,
}

# msgspec looks at a class when values of it are first read, and where two threads do so at once the process
# dies of it: so it looks here, where one thread imports.
_DECODERS: dict[type[msgspec.Struct], msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind) for kind in {*_REPLIES, *_REPLIES.values()}
}


def is_admin_path(path: str) -> bool:
    """Whether a path belongs to table administration."""
    return path == ADMIN_PREFIX or path.startswith(ADMIN_PREFIX + "/")


def is_admin_request(request: Request) -> bool:
    """Whether a request travels here rather than as a Storage API action."""
    return type(request) in _REPLIES


# --- requests --------------------------------------------------------------------------------


def encode_admin_request(request: Request) -> HttpRequest:
    """An administration request as HTTP carries it, unsigned."""
    if isinstance(request, CreateProject):
        return HttpRequest(
            method="POST",
            path=_PROJECTS_PATH,
            query=[],
            headers={header_names.CONTENT_TYPE: header_names.JSON},
            body=encode_json({"name": request.project, "if_not_exists": request.if_not_exists}),
        )
    if isinstance(request, StatementRequest):
        return _encode_statement(request)
    if isinstance(request, ListTables):
        project, schema, table = request.project, request.schema, None
    else:
        assert isinstance(request, TableRequest)
        project, schema = request.table.project, request.table.schema
        table = None if isinstance(request, CreateTable) else request.table.name
    path = f"{ADMIN_PREFIX}/projects/{quote(project, '')}/schemas/{quote(schema, '')}/tables"
    if table is not None:
        path += f"/{quote(table, '')}"
    query: list[tuple[str, str]] = []
    body: dict[str, object] | None = None
    match request:
        case ListTables():
            method = "GET"
            query = _pairs(request, "prefix", "marker", "max_items")
        case CreateTable():
            method, body = "POST", {"name": request.table.name, **_fields(request)}
        case DescribeTable():
            method = "GET"
            query = [pair for pair in _pairs(request, *_MOMENTS) if pair[1] != "None"]
        case DropTable():
            method, query = "DELETE", _pairs(request, "if_exists", "table_id", "if_version")
            query = [pair for pair in query if pair[1] != "None"]
        case AddColumns():
            method, path, body = "POST", path + "/columns", _fields(request)
        case ListPartitions():
            method, path = "GET", path + "/partitions"
            query = _pairs(request, "prefix", "marker", "max_items", "reverse", "version")
            query = [pair for pair in query if pair != ("version", "None")]
        case CreatePartition():
            method, path = "POST", path + "/partitions"
            body = {"partition": str(request.partition), "if_not_exists": request.if_not_exists}
        case DropPartition():
            method, path = "DELETE", path + "/partitions"
            query = _pairs(request, "partition", "if_exists", *(("if_empty",) * request.if_empty))
        case _ if type(request) in _ACTION_REPLIES:
            method, path, body = "POST", path + _action_path(request), _action_body(request)
        case _:
            raise UsageError(f"{type(request).__name__} is not an administration request")
    return HttpRequest(
        method=method,
        path=path,
        query=query,
        headers={} if body is None else {header_names.CONTENT_TYPE: header_names.JSON},
        body=b"" if body is None else encode_json(body),
    )


def _encode_statement(request: StatementRequest) -> HttpRequest:
    project, schema = quote(request.project, ""), quote(request.schema, "")
    path = f"{ADMIN_PREFIX}/projects/{project}/schemas/{schema}/statements"
    if isinstance(request, RunStatement):
        return HttpRequest(
            method="POST",
            path=path,
            query=[],
            headers={header_names.CONTENT_TYPE: header_names.JSON},
            body=encode_json(
                {
                    "text": request.text,
                    "wait_seconds": request.wait_seconds,
                    "instance_id": request.instance_id,
                }
            ),
        )
    assert isinstance(request, GetStatement | CancelStatement)
    return HttpRequest(
        method="DELETE" if isinstance(request, CancelStatement) else "GET",
        path=f"{path}/{quote(request.instance_id, '')}",
        query=[("wait_seconds", str(request.wait_seconds))],
        headers={},
        body=b"",
    )


def _decode_statement(method: str, match: re.Match[str], parts: RequestParts) -> Request:
    path_fields = {"project": unquote(match["project"]), "schema": unquote(match["schema"])}
    try:
        if match["id"] is None and method == "POST":
            return msgspec.convert({**parts.json, **path_fields}, RunStatement)
        seconds = parse_seconds(parts.query.get("wait_seconds") or "0")
        if seconds is None:
            raise InvalidParameterError("wait_seconds is not a number of seconds")
        named = {**path_fields, "wait_seconds": seconds, "instance_id": unquote(match["id"] or "")}
        if match["id"] is not None and method in {"GET", "DELETE"}:
            kind = GetStatement if method == "GET" else CancelStatement
            return msgspec.convert(named, kind)
    except (msgspec.ValidationError, UsageError, ValueError) as exc:
        raise InvalidParameterError(f"the request does not fit: {str(exc)[:200]}") from exc
    allowed = ["POST"] if match["id"] is None else ["GET", "DELETE"]
    raise MethodNotAllowedError.of("a path of statements", method, allowed)


def _fields(request: Request) -> dict[str, object]:
    fields: dict[str, object] = msgspec.to_builtins(request)
    del fields["table"]
    return fields


def _pairs(request: Request, *attributes: str) -> list[tuple[str, str]]:
    pairs = []
    for name in attributes:
        value = getattr(request, name)
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if text:
            pairs.append((name, text))
    return pairs


def decode_admin_request(
    method: str,
    path: str,
    query: Iterable[tuple[str, str]],
    body: bytes | memoryview = b"",
) -> Request:
    """What an administration request asks for.

    Args:
        method: the HTTP method.
        path: the raw path, still percent-encoded.
        query: decoded query parameters.
        body: the JSON body.

    Raises:
        NotFoundError: there is nothing at this path.
        MethodNotAllowedError: the method does not fit the path.
        InvalidParameterError: query or body cannot be understood.
        InvalidArgumentError: they are understood, but a value is wrong.
        PayloadTooLargeError: the body is above the limit.
    """
    match = _PATH.fullmatch(path)
    if match is None and path.rstrip("/") == _PROJECTS_PATH:
        if method.upper() != "POST":
            raise MethodNotAllowedError.of(path, method, ["POST"])
        parts = RequestParts(query, {}, body)
        return CreateProject(
            project=parts.identifier("name"), if_not_exists=parts.json_bool("if_not_exists")
        )
    statement = _STATEMENTS_PATH.fullmatch(path)
    if statement is not None:
        return _decode_statement(method.upper(), statement, RequestParts(query, {}, body))
    if match is None:
        raise NotFoundError(f"there is nothing at {path[:200]}")
    project, schema = unquote(match["project"]), unquote(match["schema"]) or DEFAULT_SCHEMA
    parts = RequestParts(query, {}, body)
    method = method.upper()
    if match["table"] is None:
        if method == "GET":
            return ListTables(
                project=project,
                schema=schema,
                prefix=parts.query.get("prefix", ""),
                marker=parts.query.get("marker", ""),
                max_items=_max_items(parts),
            )
        if method == "POST":
            name = parts.identifier("name")
            fields = {key: value for key, value in parts.json.items() if key != "name"}
            return _build(CreateTable, TableName(project, name, schema), fields)
        raise MethodNotAllowedError.of(path, method, ["GET", "POST"])
    table = TableName(project, unquote(match["table"]), schema)
    if match["part"] is None:
        if method == "GET":
            return DescribeTable(
                table=table,
                version=parts.query_int("version", least=-(2**62)),
                tag=parts.query.get("tag"),
                moment_us=parts.query_int("moment_us", least=-(2**62)),
            )
        if method == "DELETE":
            return DropTable(
                table=table,
                if_exists=parts.query_bool("if_exists"),
                table_id=parts.query.get("table_id", ""),
                if_version=parts.query_int("if_version", least=-(2**62)),
            )
        raise MethodNotAllowedError.of(path, method, ["GET", "DELETE"])
    if match["part"] == "columns":
        if method == "POST":
            return _build(AddColumns, table, parts.json)
        raise MethodNotAllowedError.of(path, method, ["POST"])
    if match["action"] is not None:
        if method == "POST":
            return _request_of_action(
                match["action"], parts.json, lambda kind, fields: _build(kind, table, fields)
            )
        raise MethodNotAllowedError.of(path, method, ["POST"])
    return _partition_request(method, path, table, parts)


def _partition_request(method: str, path: str, table: TableName, parts: RequestParts) -> Request:
    if method == "GET":
        return ListPartitions(
            table=table,
            prefix=parse_partition(parts.query.get("prefix", ""), "prefix"),
            marker=parts.query.get("marker", ""),
            max_items=_max_items(parts),
            reverse=parts.query_bool("reverse"),
            version=parts.query_int("version", least=-(2**62)),
        )
    if method == "POST":
        return CreatePartition(
            table=table,
            partition=parse_partition(parts.identifier("partition"), "partition"),
            if_not_exists=parts.json_bool("if_not_exists"),
        )
    if method == "DELETE":
        return DropPartition(
            table=table,
            partition=parse_partition(parts.identifier("partition"), "partition"),
            if_exists=parts.query_bool("if_exists"),
            if_empty=parts.query_bool("if_empty"),
        )
    raise MethodNotAllowedError.of(path, method, ["GET", "POST", "DELETE"])


def _max_items(parts: RequestParts) -> int:
    items = parts.query_int("max_items", least=1)
    return ListTables(project="").max_items if items is None else min(items, MAX_PAGE_ITEMS)


def _build(kind: type[Request], table: TableName, fields: dict[str, object]) -> Request:
    named = {"project": table.project, "name": table.name, "schema": table.schema}
    try:
        return msgspec.convert({**fields, "table": named}, kind)
    except (msgspec.ValidationError, UsageError) as exc:
        raise InvalidParameterError(f"the body does not fit: {str(exc)[:200]}") from exc


# --- replies ---------------------------------------------------------------------------------


def encode_admin_response(response: Response) -> tuple[dict[str, str], bytes]:
    """Headers and JSON body of a reply."""
    return {header_names.CONTENT_TYPE: "application/json"}, encode_json(response)


def decode_admin_response(request: Request, body: bytes | memoryview) -> Response:
    """The reply to an administration request, read from a 2xx answer.

    Raises:
        ProtocolError: the body is not what the request is answered with.
    """
    try:
        reply: Response = _DECODERS[_REPLIES[type(request)]].decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, UsageError) as exc:
        raise ProtocolError(f"the reply cannot be read: {str(exc)[:200]}", side="remote") from exc
    return reply


def _action_path(request: Request) -> str:
    """The path of a request below its table's."""
    return f"/actions/{_NAMES[type(request)]}"


def _action_of(name: str) -> type[Request]:
    """The request of a verb.

    Raises:
        NotFoundError: there is no such verb.
    """
    if name not in _ACTIONS:
        raise NotFoundError(f"there is no action {name[:100]!r}")
    return _ACTIONS[name][0]


def _action_body(request: Request) -> dict[str, object]:
    """The JSON body of a request: its fields, without those that say nothing."""
    fields: dict[str, object] = msgspec.to_builtins(request)
    del fields["table"]
    partition = fields.get("partition")
    if partition is not None:
        fields["partition"] = str(request.partition)  # type: ignore[attr-defined]  # has the field
    return fields


def _request_of_action(
    name: str,
    fields: dict[str, object],
    build: Callable[[type[Request], dict[str, object]], Request],
) -> Request:
    """A request from its verb and JSON body; ``build`` makes it and reports what does not fit."""
    kind = _action_of(name)
    partition = fields.get("partition")
    if isinstance(partition, str):
        spec = parse_partition(partition, "partition")
        fields = {**fields, "partition": msgspec.to_builtins(spec)}
    request: Request = build(kind, fields)
    return request
