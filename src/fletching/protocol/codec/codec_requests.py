"""Each request of the Storage API to HTTP parts and back, by `request_tables`."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping

import msgspec

from fletching.errors import InvalidArgumentError, InvalidParameterError, MethodNotAllowedError
from fletching.protocol.codec.codec_parts import HttpRequest, RequestParts, encode_json
from fletching.protocol.codec.request_tables import (
    REQUEST_TABLES,
    Field,
    Place,
    RequestTable,
    TargetKind,
    Values,
)
from fletching.protocol.codec.wire_kinds import ABSENT, Flag, Integer, Word
from fletching.protocol.http import headers as header_names
from fletching.protocol.http.targets import (
    BLOB_TARGET,
    format_instance,
    format_table,
    parse_instance,
    parse_table,
    storage_path,
)
from fletching.protocol.messages.requests import (
    DEFAULT_SESSION_ID,
    InstanceRequest,
    Request,
    TableRequest,
)
from fletching.protocol.messages.vocabulary import Action, ApiVersion, WriteMode

__all__ = [
    "STREAMING_BODIES",
    "action_of",
    "check_request",
    "decode_request",
    "encode_request",
    "is_left_out",
    "parse_action",
    "sent_value",
    "text_of",
]

STREAMING_BODIES = frozenset({table.action for table in REQUEST_TABLES if table.stream is not None})
"""Actions whose request body is a stream instead of JSON."""

_GET_ALLOWED = frozenset({Action.TABLE_GET_WRITE_STREAM, Action.INSTANCE_GET_READ_SESSION})
_BY_KIND: dict[type[Request], list[RequestTable]] = {}
_BY_ACTION: dict[Action, list[RequestTable]] = {}
for _table in REQUEST_TABLES:
    _BY_KIND.setdefault(_table.kind, []).append(_table)
    _BY_ACTION.setdefault(_table.action, []).append(_table)


def action_of(request: Request) -> Action:
    """The action that carries a request."""
    return _BY_KIND[type(request)][0].action


def parse_action(query: Iterable[tuple[str, str]]) -> Action:
    """The ``Action`` of a query, so that a server knows whether the body is a stream.

    Raises:
        InvalidParameterError: it is missing or not one that is spoken here.
    """
    text = dict(query).get("Action")
    if not text:
        raise InvalidParameterError("query parameter Action is missing")
    try:
        return Action(text)
    except ValueError:
        raise InvalidParameterError(f"Action {text[:60]!r} is not supported") from None


def _is_block(request: Request) -> bool:
    return getattr(request, "write_mode", None) is WriteMode.BATCH_COMPATIBLE


def _form_of(request: Request) -> RequestTable:
    tables = _BY_KIND[type(request)]
    return next(t for t in tables if t.block is None or t.block == _is_block(request))


# --- limits -----------------------------------------------------------------------------------


def check_request(request: Request) -> None:
    """Holds a request to the limits that `decode_request` holds one to that came over HTTP.

    For transports without a wire, and before a request is sent. Requests of table administration have
    no limits here.

    Raises:
        InvalidParameterError: a name or token is missing or too long.
        InvalidArgumentError: another value is out of its range.
    """
    if type(request) in _BY_KIND:
        _check(request, _form_of(request))


def _check(request: Request, table: RequestTable) -> None:
    for field in table.fields:
        value = getattr(request, field.attribute, None) if field.attribute else None
        if value is None:
            if field.required:
                raise InvalidParameterError(f"{field.name} is missing")
            continue
        field.kind.check(value, field.name)


# --- writing ----------------------------------------------------------------------------------


def encode_request(
    request: Request, api_version: ApiVersion, *, route_token: str = ""
) -> HttpRequest:
    """A request as HTTP carries it, unsigned.

    Args:
        request: any request of `requests`.
        api_version: decides the path and which fields are sent.
        route_token: the affinity token last received, if any.

    Raises:
        InvalidParameterError, InvalidArgumentError: as `check_request`.
    """
    table = _form_of(request)
    _check(request, table)
    values = {name: getattr(request, name) for name in request.__struct_fields__}
    if table.write is not None:
        table.write(values)
    query = [("Action", table.action.value), ("Target", _target(request)), *table.constants]
    headers = {header_names.CONTENT_TYPE: table.stream or header_names.JSON}
    body: dict[str, object] = {}
    for field in table.fields:
        value = values.get(field.attribute, ABSENT) if field.attribute else field.constant
        if value is ABSENT or (
            field.since is not None and api_version < field.since and not _is_block(request)
        ):
            continue
        for place in field.places:
            if is_left_out(field, value):
                continue
            if place is Place.JSON:
                body[field.name] = _written(field, value)
            elif text := text_of(field, value):
                if place is Place.HEADER:
                    headers[field.name] = text
                else:
                    query.append((field.name, text))
    project = request.table.project if isinstance(request, TableRequest) else _project(request)
    if project:
        query.append(("curr_project", project))
    if route_token:
        headers[header_names.ROUTE_TOKEN] = route_token
    return HttpRequest(
        method="POST",
        path=storage_path(api_version),
        query=query,
        headers=headers,
        body=b"" if table.stream is not None else encode_json(body),
    )


def _written(field: Field, value: object) -> object:
    return value if value is None or not field.attribute else field.kind.to_json(value)


def text_of(field: Field, value: object) -> str:
    """The value as text of a query parameter or header; empty if it is not to be written there."""
    if isinstance(field.kind, Flag) and Place.JSON in field.places and not value:
        return ""  # the body says it
    written = _written(field, value)
    if isinstance(written, bool):
        return str(written).lower()
    return "" if written is None else str(written)


def is_left_out(field: Field, value: object) -> bool:
    """Whether a value is not written for being empty, false or none, where its field says so."""
    if not field.sparse:
        return False
    if value is None or value is False:
        return True
    if isinstance(field.kind, Integer):
        return bool(value == 0 and field.kind.zero_is is None)
    return not value and not field.empty_is_value


def _target(request: Request) -> str:
    if isinstance(request, TableRequest):
        return format_table(request.table)
    if isinstance(request, InstanceRequest):
        return format_instance(request.project, request.instance_id)
    return BLOB_TARGET


def _project(request: Request) -> str:
    project = getattr(request, "project", "")
    return project if isinstance(project, str) else ""


# --- reading ----------------------------------------------------------------------------------


def decode_request(
    method: str,
    query: Iterable[tuple[str, str]],
    headers: Mapping[str, str] | Iterable[tuple[str, str]],
    body: bytes | memoryview = b"",
) -> Request:
    """What a request of the Storage API asks for.

    The requests of all versions are understood alike, as what is particular to one names itself.

    Args:
        method: the HTTP method.
        query: decoded query parameters in order.
        headers: header fields, names in any case.
        body: the JSON body; ignored for actions whose body is a stream (`STREAMING_BODIES`).

    Raises:
        InvalidParameterError: the request cannot be understood.
        InvalidArgumentError: it is understood, but a value is wrong.
        MethodNotAllowedError: the method does not fit the action.
        PayloadTooLargeError: the JSON body is above the limit.
    """
    pairs = list(query)
    action = parse_action(pairs)
    allowed = ("GET", "POST") if action in _GET_ALLOWED else ("POST",)
    if method.upper() not in allowed:
        raise MethodNotAllowedError.of(action.value, method, allowed)
    parts = RequestParts(pairs, headers, b"" if action in STREAMING_BODIES else body)
    target = parts.query_text("Target")
    if target is None:
        raise InvalidParameterError("query parameter Target is missing")
    mode = parts.query_text("WriteMode")
    table = _form_read(parts, action, mode)
    values = _target_values(parts, table, target)
    for field in table.fields:
        result = sent_value(parts, field)
        if result is ABSENT or not field.attribute:
            if result is ABSENT and field.required:
                raise _missing(field)
            continue
        values.setdefault(field.attribute, result)
    if "write_mode" in _attributes(table.kind) and "write_mode" not in values:
        # The implicit session is always a streaming one.
        implicit = values.get("session_id") == DEFAULT_SESSION_ID
        values["write_mode"] = WriteMode.STREAMING if implicit else WriteMode.BATCH
    if table.read is not None:
        table.read(values)
    request = table.kind(**values)
    _check(request, table)
    return request


def _missing(field: Field) -> Exception:
    if field.attribute == "references":
        return InvalidArgumentError(f"{field.name} is missing or empty")
    return InvalidParameterError(f"{field.name} is missing")


@functools.cache
def _attributes(kind: type[Request]) -> frozenset[str]:
    return frozenset(field.name for field in msgspec.structs.fields(kind))


def _form_read(parts: RequestParts, action: Action, mode: str | None) -> RequestTable:
    tables = _BY_ACTION[action]
    if len(tables) == 1:
        return tables[0]
    if action is Action.TABLE_WRITE_BLOB:
        batch = parts.query_text("Mode")
        if batch is not None and batch.lower() != "batch":
            raise InvalidArgumentError(f"Mode is {batch[:40]!r}, not 'Batch'")
        return next(table for table in tables if bool(table.constants) == (batch is not None))
    known = Word(WriteMode).from_json(mode or "", "WriteMode")
    is_block = known is WriteMode.BATCH_COMPATIBLE
    return next(table for table in tables if table.block == is_block)


def _target_values(parts: RequestParts, table: RequestTable, target: str) -> Values:
    if table.target is TargetKind.TABLE:
        return {"table": parse_table(target)}
    if table.target is TargetKind.INSTANCE:
        instance = parse_instance(target)
        return {"project": instance.project, "instance_id": instance.instance_id}
    if target != BLOB_TARGET:
        raise InvalidParameterError(
            f"Target of {table.action} is {target[:100]!r}, not {BLOB_TARGET!r}"
        )
    return {"project": parts.query_text("curr_project") or ""}


def sent_value(parts: RequestParts, field: Field) -> object:
    """A field's value from the first place that has it; a flag is true if any place says so."""
    result: object = ABSENT
    for place in (*field.places, *field.also):
        if place is Place.JSON:
            value = parts.json.get(field.name)
            here = ABSENT if value is None else field.kind.from_json(value, field.name)
        else:
            source = parts.query if place is Place.QUERY else parts.headers
            text = source.get(field.name) or ""
            here = field.kind.from_text(text, field.name) if text else ABSENT
        if here is ABSENT:
            continue
        if isinstance(field.kind, Flag) and not here:
            result = here
            continue
        return here
    return result
