"""Each request of the Storage API to HTTP parts and back (PROTOCOL section 2).

One encoder per request type and one decoder per action, in `codec_reading` and `codec_writing`; the
two tables here are the whole dispatch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fletching.errors import InvalidParameterError, MethodNotAllowedError
from fletching.protocol.codec import codec_reading as reading
from fletching.protocol.codec import codec_writing as writing
from fletching.protocol.codec.codec_drafts import Draft
from fletching.protocol.codec.codec_parts import HttpRequest, RequestParts, encode_json
from fletching.protocol.http import headers as names
from fletching.protocol.http.targets import storage_path
from fletching.protocol.messages.requests import (
    AbortWriteSession,
    CloseWriteStream,
    CommitWriteSession,
    CreateInstanceReadSession,
    CreateReadSession,
    CreateWriteSession,
    CreateWriteStream,
    GetInstanceReadSession,
    GetReadSession,
    GetWriteSchema,
    GetWriteSession,
    GetWriteStream,
    PreviewTable,
    ReadBlobs,
    ReadInstance,
    ReadTable,
    Request,
    TableRequest,
    WriteBlob,
    WriteBlobs,
    WriteTable,
)
from fletching.protocol.messages.vocabulary import Action, ApiVersion

__all__ = ["STREAMING_BODIES", "action_of", "decode_request", "encode_request", "parse_action"]

STREAMING_BODIES = frozenset({Action.TABLE_WRITE, Action.TABLE_WRITE_BLOB})
"""Actions whose request body is a stream instead of JSON."""

_GET_ALLOWED = frozenset({Action.TABLE_GET_WRITE_STREAM, Action.INSTANCE_GET_READ_SESSION})

_ENCODERS: dict[type[Request], tuple[Action, Callable[[Any, ApiVersion], Draft]]] = {
    CreateReadSession: (Action.TABLE_CREATE_READ_SESSION, reading.encode_create_read_session),
    GetReadSession: (Action.TABLE_GET_READ_SESSION, reading.encode_get_read_session),
    ReadTable: (Action.TABLE_READ, reading.encode_read_table),
    PreviewTable: (Action.TABLE_PREVIEW, reading.encode_preview_table),
    CreateWriteSession: (Action.TABLE_CREATE_WRITE_SESSION, writing.encode_create_write_session),
    GetWriteSession: (Action.TABLE_GET_WRITE_SESSION, writing.encode_get_write_session),
    CommitWriteSession: (Action.TABLE_COMMIT_WRITE_SESSION, writing.encode_commit),
    AbortWriteSession: (Action.TABLE_ABORT_WRITE_SESSION, writing.encode_abort),
    CreateWriteStream: (Action.TABLE_CREATE_WRITE_STREAM, writing.encode_create_stream),
    GetWriteStream: (Action.TABLE_GET_WRITE_STREAM, writing.encode_get_stream),
    CloseWriteStream: (Action.TABLE_CLOSE_WRITE_STREAM, writing.encode_close_stream),
    GetWriteSchema: (Action.TABLE_GET_WRITE_SCHEMA, writing.encode_get_write_schema),
    WriteTable: (Action.TABLE_WRITE, writing.encode_write_table),
    WriteBlob: (Action.TABLE_WRITE_BLOB, writing.encode_write_blob),
    WriteBlobs: (Action.TABLE_WRITE_BLOB, writing.encode_write_blobs),
    ReadBlobs: (Action.BLOB_READ, reading.encode_read_blobs),
    CreateInstanceReadSession: (
        Action.INSTANCE_CREATE_READ_SESSION,
        reading.encode_create_instance,
    ),
    GetInstanceReadSession: (Action.INSTANCE_GET_READ_SESSION, reading.encode_get_instance),
    ReadInstance: (Action.INSTANCE_READ, reading.encode_read_instance),
}

_DECODERS: dict[Action, Callable[[RequestParts, str], Request]] = {
    Action.TABLE_CREATE_READ_SESSION: reading.decode_create_read_session,
    Action.TABLE_GET_READ_SESSION: reading.decode_get_read_session,
    Action.TABLE_READ: reading.decode_read_table,
    Action.TABLE_PREVIEW: reading.decode_preview_table,
    Action.TABLE_CREATE_WRITE_SESSION: writing.decode_create_write_session,
    Action.TABLE_GET_WRITE_SESSION: writing.decode_get_write_session,
    Action.TABLE_COMMIT_WRITE_SESSION: writing.decode_commit,
    Action.TABLE_ABORT_WRITE_SESSION: writing.decode_abort,
    Action.TABLE_CREATE_WRITE_STREAM: writing.decode_create_stream,
    Action.TABLE_GET_WRITE_STREAM: writing.decode_get_stream,
    Action.TABLE_CLOSE_WRITE_STREAM: writing.decode_close_stream,
    Action.TABLE_GET_WRITE_SCHEMA: writing.decode_get_write_schema,
    Action.TABLE_WRITE: writing.decode_write_table,
    Action.TABLE_WRITE_BLOB: writing.decode_write_blob,
    Action.BLOB_READ: reading.decode_read_blobs,
    Action.INSTANCE_CREATE_READ_SESSION: reading.decode_create_instance,
    Action.INSTANCE_GET_READ_SESSION: reading.decode_get_instance,
    Action.INSTANCE_READ: reading.decode_read_instance,
}


def action_of(request: Request) -> Action:
    """The action that carries a request."""
    return _ENCODERS[type(request)][0]


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


def encode_request(
    request: Request, api_version: ApiVersion, *, route_token: str = ""
) -> HttpRequest:
    """A request as HTTP carries it, unsigned.

    Args:
        request: any request of `requests`.
        api_version: decides the path and which fields are sent.
        route_token: the affinity token last received, if any.
    """
    _, encoder = _ENCODERS[type(request)]
    draft: Draft = encoder(request, api_version)
    project = request.table.project if isinstance(request, TableRequest) else _project(request)
    draft.add("curr_project", project or None)
    draft.header(names.ROUTE_TOKEN, route_token)
    return HttpRequest(
        method="POST",
        path=storage_path(api_version),
        query=draft.query,
        headers=draft.headers,
        body=b"" if draft.json is None else encode_json(draft.json),
    )


def _project(request: Request) -> str:
    project = getattr(request, "project", "")
    return project if isinstance(project, str) else ""


def decode_request(
    api_version: ApiVersion,
    method: str,
    query: Iterable[tuple[str, str]],
    headers: Mapping[str, str] | Iterable[tuple[str, str]],
    body: bytes | memoryview = b"",
) -> Request:
    """What a request of the Storage API asks for.

    Args:
        api_version: the version of the path; both versions' requests are understood alike, as what
            is particular to one names itself.
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
    del api_version
    pairs = list(query)
    action = parse_action(pairs)
    allowed = {"GET", "POST"} if action in _GET_ALLOWED else {"POST"}
    if method.upper() not in allowed:
        raise MethodNotAllowedError(
            f"{action} takes {' or '.join(sorted(allowed))}, not {method[:20]}"
        )
    parts = RequestParts(pairs, headers, b"" if action in STREAMING_BODIES else body)
    target = parts.query_text("Target")
    if target is None:
        raise InvalidParameterError("query parameter Target is missing")
    return _DECODERS[action](parts, target)
