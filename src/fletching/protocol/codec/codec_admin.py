"""Table administration as JSON over HTTP, both sides: the paths are those of `_ROUTES`, below ``/fletching/v1``.

Names in the path are percent-encoded. What a route lists as its fields travels in the query or, one by one, in
the body. All else is in a body that is the value of `admin` or `changes` as JSON, field by field, bytes as
base64, partitions as text; what the path says is not repeated in the body. Changes and history of a table have
one path per verb.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
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
from fletching.protocol.codec.codec_parts import HttpRequest, RequestParts, encode_json
from fletching.protocol.codec.codec_requests import is_left_out, sent_value, text_of
from fletching.protocol.codec.request_tables import Field, Place, Values
from fletching.protocol.codec.wire_kinds import (
    ABSENT,
    Absent,
    AnyKind,
    Flag,
    Identifier,
    Integer,
    Kind,
    Partition,
    Text,
    parse_partition,
)
from fletching.protocol.http import headers as header_names
from fletching.protocol.http.numbers import parse_seconds
from fletching.protocol.messages import admin, changes
from fletching.protocol.messages.requests import Reply_co, Request, TableRequest, reply_kind
from fletching.protocol.messages.responses import Response
from fletching.types import TableName

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


class _Seconds(Kind[float]):
    """A duration of 0 or more."""

    def from_text(self, text: str, name: str) -> float | Absent:
        """See `parse_seconds`."""
        seconds = parse_seconds(text)
        if seconds is None:
            raise InvalidParameterError(f"{name} is not a number of seconds")
        return seconds


def _asked(name: str, kind: AnyKind, *, sparse: bool = False) -> Field:
    """A value in the query."""
    return Field(name, name, kind, sparse=sparse)


def _needed(name: str, kind: AnyKind, *, wire: str = "") -> Field:
    """A value without which there is no request: it is looked for in the query, then in the body."""
    return Field(name, wire or name, kind, also=(Place.JSON,), required=True)


_NEW_NAME = _needed("table", Identifier(), wire="name")
_VERSION = Integer(least=-(2**62))
_PAGE = (_asked("marker", Text()), _asked("max_items", Integer(least=1)))
_IF_NOT_EXISTS = Field("if_not_exists", "if_not_exists", Flag(), (Place.JSON,))
_KEY = Field("idempotency_key", "idempotency_key", Identifier(), (Place.JSON,), sparse=True)
_ASKED_KEY = _asked("idempotency_key", Identifier(), sparse=True)
_WAIT = (_asked("wait_seconds", _Seconds()),)


@dataclasses.dataclass(frozen=True)
class _Route:
    """Where a request goes, and what answers it.

    Attributes:
        method: of HTTP.
        path: the names in it, in braces, are attributes of the request; ``{table}`` is the table's name.
        kind: the request.
        fields: its values beside those of the path; None where they are the body as a whole.
    """

    method: str
    path: str
    kind: type[Request]
    fields: tuple[Field, ...] | None = None


_PATH_NAMES = ("project", "schema", "instance_id")
_SCHEMA = "/projects/{project}/schemas/{schema}"
_TABLES = f"{_SCHEMA}/tables"
_TABLE = f"{_TABLES}/{{table}}"
_STATEMENTS = f"{_SCHEMA}/statements"
_STATEMENT = f"{_STATEMENTS}/{{instance_id}}"
_PARTITIONS = f"{_TABLE}/partitions"

_ROUTES = (
    _Route(
        "POST",
        "/projects",
        admin.CreateProject,
        (
            _needed("project", Identifier(), wire="name"),
            _IF_NOT_EXISTS,
            _KEY,
        ),
    ),
    _Route("GET", _TABLES, admin.ListTables, (_asked("prefix", Text()), *_PAGE)),
    _Route("POST", _TABLES, admin.CreateTable),
    _Route(
        "GET",
        _TABLE,
        admin.DescribeTable,
        (_asked("version", _VERSION), _asked("tag", Text()), _asked("moment_us", _VERSION)),
    ),
    _Route(
        "DELETE",
        _TABLE,
        admin.DropTable,
        (
            _asked("if_exists", Flag()),
            _asked("table_id", Text()),
            _asked("if_version", _VERSION),
            _ASKED_KEY,
        ),
    ),
    _Route("POST", f"{_TABLE}/columns", admin.AddColumns),
    _Route(
        "GET",
        _PARTITIONS,
        admin.ListPartitions,
        (
            _asked("prefix", Partition()),
            *_PAGE,
            _asked("reverse", Flag()),
            _asked("version", _VERSION),
        ),
    ),
    _Route(
        "POST",
        _PARTITIONS,
        admin.CreatePartition,
        (
            _needed("partition", Partition()),
            _IF_NOT_EXISTS,
            _KEY,
        ),
    ),
    _Route(
        "DELETE",
        _PARTITIONS,
        admin.DropPartition,
        (
            _needed("partition", Partition()),
            _asked("if_exists", Flag()),
            _ASKED_KEY,
        ),
    ),
    _Route("POST", _STATEMENTS, admin.RunStatement),
    _Route("GET", _STATEMENT, admin.GetStatement, _WAIT),
    _Route("DELETE", _STATEMENT, admin.CancelStatement, _WAIT),
    *(
        _Route("POST", f"{_TABLE}/actions/{verb}", kind)
        for verb, kind in (
            ("delete", changes.DeleteRows),
            ("update", changes.UpdateRows),
            ("merge", changes.MergeRows),
            ("replace", changes.ReplaceRows),
            ("truncate", changes.TruncateTable),
            ("restore", changes.RestoreTable),
            ("enforce_key", changes.EnforceKey),
            ("versions", changes.ListVersions),
            ("wait", changes.WaitForVersion),
            ("create_tag", changes.CreateTag),
            ("tags", changes.ListTags),
            ("drop_tag", changes.DropTag),
            ("expire_versions", changes.ExpireVersions),
            ("compact", changes.CompactTable),
            ("drop_columns", changes.DropColumns),
            ("rename_column", changes.RenameColumn),
            ("alter_column", changes.AlterColumn),
            ("rename", changes.RenameTable),
            ("alter", changes.AlterTable),
            ("touch", changes.TouchTable),
        )
    ),
)


def _shape(path: str) -> tuple[str, ...]:
    """The parts of a path, names of projects, schemas, tables and statements as ``{}``."""
    parts = path.removesuffix("/").split("/")[1:]
    return tuple(
        "{}" if number in (1, 3, 5) and part else part for number, part in enumerate(parts)
    )


_BY_KIND = {route.kind: route for route in _ROUTES}
_BY_PATH: dict[tuple[str, ...], dict[str, _Route]] = {}
for _route in _ROUTES:
    _BY_PATH.setdefault(_shape(_route.path), {})[_route.method] = _route

# msgspec looks at a class when values of it are first read, and where two threads do so at once the process
# dies of it: so it looks here, where one thread imports.
_DECODERS: dict[type[msgspec.Struct], msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind)
    for route in _ROUTES
    for kind in (route.kind, reply_kind(route.kind))
}


def is_admin_path(path: str) -> bool:
    """Whether a path belongs to table administration."""
    return path == ADMIN_PREFIX or path.startswith(ADMIN_PREFIX + "/")


def is_admin_request(request: Request) -> bool:
    """Whether a request travels here rather than as a Storage API action."""
    return type(request) in _BY_KIND


# --- requests --------------------------------------------------------------------------------


def encode_admin_request(request: Request) -> HttpRequest:
    """An administration request as HTTP carries it, unsigned."""
    route = _BY_KIND.get(type(request))
    if route is None:
        raise UsageError(f"{type(request).__name__} is not an administration request")
    values: Values = msgspec.to_builtins(request)
    if isinstance(request, TableRequest):
        table = request.table
        names = {"project": table.project, "schema": table.schema, "table": table.name}
    else:
        names = {n: values[n] for n in _PATH_NAMES if f"{{{n}}}" in route.path}
    query: list[tuple[str, str]] = []
    body: dict[str, object] | None = None if route.method != "POST" else {}
    for field in route.fields or ():
        value = getattr(request, field.attribute)
        if body is not None:
            body[field.name] = field.kind.to_json(value)
        elif not is_left_out(field, value) and (text := text_of(field, value)):
            query.append((field.name, text))
    if route.fields is None:
        body = {name: value for name, value in values.items() if name not in names}
        if isinstance(request, admin.CreateTable):
            body["name"] = request.table.name
        if "partition" in body:
            body["partition"] = str(request.partition)  # type: ignore[attr-defined]  # has the field
    return HttpRequest(
        method=route.method,
        path=ADMIN_PREFIX
        + route.path.format(**{n: quote(value, "") for n, value in names.items()}),
        query=query,
        headers={} if body is None else {header_names.CONTENT_TYPE: header_names.JSON},
        body=b"" if body is None else encode_json(body),
    )


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
    below = path.removeprefix(ADMIN_PREFIX)
    routes = _BY_PATH.get(_shape(below)) if is_admin_path(path) else None
    if routes is None:
        raise NotFoundError(f"there is nothing at {path[:200]}")
    route = routes.get(method.upper())
    if route is None:
        raise MethodNotAllowedError.of(path, method, list(routes))
    parts = RequestParts(query, {}, body)
    names = {
        wanted[1:-1]: unquote(given)
        for wanted, given in zip(route.path.split("/"), below.split("/"), strict=False)
        if wanted.startswith("{")
    }
    if route.kind is admin.CreateTable:
        names["table"] = str(_value_of(parts, _NEW_NAME))
    if issubclass(route.kind, TableRequest):
        table = TableName(names["project"], names["table"], names["schema"])
        path_values: Values = {"table": table}
    else:
        path_values = dict(names)
    if route.fields is None:
        return _of_body(route.kind, parts.json, path_values)
    read = {field.attribute: _value_of(parts, field) for field in route.fields}
    values: Values = {name: value for name, value in read.items() if value is not ABSENT}
    if route.fields is _WAIT:
        # Whoever says nothing is answered at once, unlike one who runs a statement.
        values.setdefault("wait_seconds", 0.0)
    return route.kind(**values, **path_values)


def _value_of(parts: RequestParts, field: Field) -> object:
    value = sent_value(parts, field)
    if value is not ABSENT:
        field.kind.check(value, field.name)
    elif field.required:
        raise InvalidParameterError(f"{field.name} is missing")
    return value


def _of_body(kind: type[Request], body: dict[str, object], path_values: Values) -> Request:
    fields = {**body, **msgspec.to_builtins(path_values)}
    partition = fields.get("partition")
    if isinstance(partition, str):
        fields["partition"] = msgspec.to_builtins(parse_partition(partition, "partition"))
    try:
        return msgspec.convert(fields, kind)
    except (msgspec.ValidationError, UsageError) as exc:
        raise InvalidParameterError(f"the body does not fit: {str(exc)[:200]}") from exc


# --- replies ---------------------------------------------------------------------------------


def encode_admin_response(response: Response) -> tuple[dict[str, str], bytes]:
    """Headers and JSON body of a reply."""
    return {header_names.CONTENT_TYPE: "application/json"}, encode_json(response)


def decode_admin_response(request: Request[Reply_co], body: bytes | memoryview) -> Reply_co:
    """The reply to an administration request, read from a 2xx answer.

    Raises:
        ProtocolError: the body is not what the request is answered with.
    """
    try:
        reply: Reply_co = _DECODERS[reply_kind(type(request))].decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, UsageError) as exc:
        raise ProtocolError(f"the reply cannot be read: {str(exc)[:200]}", side="remote") from exc
    return reply
