"""The Storage API's first version, which PyODPS still has beside its successors (``odps.apis.storage_api``).

It asks for the same things by path instead of by action, with the same JSON, so that each request is
turned into the one that means it and answered like it. Blocks are those of block mode.

::

    R = /api/storage/v1/projects/{p}/schemas/{s}/tables/{t}

    POST  R/sessions?session_type=batch_read               opens a read session                    201
    GET   R/sessions/{id}?session_type=batch_read[&session_refresh=true]      looks it up
    GET   R/data?session_id&split_index&row_index&row_count&max_batch_rows    a split, or rows of a
                                                           session that is divided by rows
    POST  R/sessions?session_type=batch_write              opens a write session
    GET   R/sessions/{id}?session_type=batch_write         looks it up
    POST  R/sessions/{id}/data?block_number&attempt_number a block, an Arrow stream
    POST  R/commit?session_id                              commits blocks by what was answered     201

Clients take any other answer to the two with 201 for one that they have to wait for.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

import msgspec

from fletching.errors import InvalidArgumentError, MethodNotAllowedError, NotFoundError
from fletching.protocol.codec import check_data_format, decode_request, encode_response
from fletching.protocol.http.headers import ACCEPT_ENCODING
from fletching.protocol.http.numbers import parse_count
from fletching.protocol.http.targets import format_table
from fletching.protocol.messages.requests import (
    CreateReadSession,
    GetReadSession,
    ReadTable,
    Request,
    SplitOptions,
    WriteByPosition,
)
from fletching.protocol.messages.vocabulary import Action, SplitMode
from fletching.server.api.dispatch import HANDLERS, write_rows
from fletching.server.http.exchange import Exchange
from fletching.server.server_settings import ReplyCompression
from fletching.server.service import Service
from fletching.types import DEFAULT_SCHEMA, TableName

__all__ = ["handle_first_version", "is_first_version_path"]

_PATH = re.compile(
    r"(?:/api){0,2}/storage/v1/projects/(?P<project>[^/]+)(?:/schemas/(?P<schema>[^/]+))?"
    r"/tables/(?P<name>[^/]+)/(?P<what>sessions|data|commit)(?:/(?P<id>[^/]+)(?P<block>/data)?)?/?"
)

_BLOCKS = [("WriteMode", "BatchCompatible")]
_CREATED = 201
MIN_SPLIT_BYTES = 1 << 10
"""The least size of splits in this version: a smaller one is the number of splits, under the wrong mode.

Its clients expect a refusal where MaxCompute has a least size of its own. That is larger, and would
leave nothing to try with small tables; later versions of the API take any size.
"""
_BUFFER_CODECS = {"zstd": "zstd", "lz4_frame": "lz4"}
"""Arrow's compressions of buffers, by the names that clients accept them by."""


def is_first_version_path(raw_path: str) -> bool:
    """Whether a path belongs to the first version."""
    return _PATH.fullmatch(raw_path) is not None


async def handle_first_version(exchange: Exchange, service: Service) -> None:
    """Answers a request to such a path; raises what becomes its error reply.

    Raises:
        FletchingError: the request is wrong, refused, or failed.
    """
    match = _PATH.fullmatch(exchange.raw_path)
    assert match is not None
    names = {key: unquote(value) for key, value in match.groupdict().items() if value is not None}
    table = TableName(names["project"], names["name"], names.get("schema") or DEFAULT_SCHEMA)
    query = dict(exchange.query)
    session_id = names.get("id") or query.get("session_id", "")
    match (names["what"], "id" in names, "block" in names, exchange.verb):
        case ("sessions", False, False, "POST"):
            await _open_session(exchange, service, table)
        case ("sessions", True, False, "GET"):
            reads = _reads(query)
            action = Action.TABLE_GET_READ_SESSION if reads else Action.TABLE_GET_WRITE_SESSION
            more = (
                [("session_refresh", query.get("session_refresh", "false"))] if reads else _BLOCKS
            )
            look = _request(exchange, table, action, [("SessionId", session_id), *more])
            await _answer(exchange, service, look)
        case ("data", False, False, "GET"):
            await _send_rows(exchange, service, table, session_id)
        case ("sessions", True, True, "POST"):
            await _take_block(exchange, service, table, session_id)
        case ("commit", False, False, "POST"):
            async with service.small_body(exchange) as body:
                given = [("SessionId", session_id), *_BLOCKS]
                action = Action.TABLE_COMMIT_WRITE_SESSION
                request = _request(exchange, table, action, given, body)
                await _answer(exchange, service, request, status=_CREATED)
        case ("commit" | "data", False, False, _) | ("sessions", _, _, _) as path:
            allowed = "GET" if path[0] == "data" or path[1:3] == (True, False) else "POST"
            raise MethodNotAllowedError.of(exchange.raw_path, exchange.method, [allowed])
        case _:
            raise NotFoundError(f"there is nothing at {exchange.raw_path[:200]}")


def _reads(query: dict[str, str]) -> bool:
    kind = query.get("session_type", "")
    if kind not in {"batch_read", "batch_write"}:
        raise InvalidArgumentError(f"session_type is {kind[:40]!r}, not batch_read or batch_write")
    return kind == "batch_read"


def _request(
    exchange: Exchange,
    table: TableName,
    action: Action,
    query: list[tuple[str, str]],
    body: bytes = b"{}",
) -> Any:
    """The request of the later versions that means the same."""
    exchange.action = action
    pairs = [("Action", action.value), ("Target", format_table(table)), *query]
    return decode_request("POST", pairs, exchange.header_list, body)


async def _answer(
    exchange: Exchange, service: Service, request: Request, *, status: int = 200
) -> None:
    service.authorize(exchange, request)
    with service.calls.enter():
        headers, reply = encode_response(await service.call(request), request)
    await exchange.reply(reply, status=status, headers=headers)


async def _open_session(exchange: Exchange, service: Service, table: TableName) -> None:
    reads = _reads(dict(exchange.query))
    action = Action.TABLE_CREATE_READ_SESSION if reads else Action.TABLE_CREATE_WRITE_SESSION
    async with service.small_body(exchange) as body:
        given = [] if reads else _BLOCKS
        status = _CREATED if reads else 200
        request = _request(exchange, table, action, given, body)
        if isinstance(request, CreateReadSession):
            _check_split_bytes(request.split_options)
        await _answer(exchange, service, request, status=status)


def _check_split_bytes(options: SplitOptions) -> None:
    if options.split_mode is SplitMode.SIZE and options.split_number < MIN_SPLIT_BYTES:
        raise InvalidArgumentError(
            f"splits have {MIN_SPLIT_BYTES} bytes or more in this version, not {options.split_number}",
            limit=MIN_SPLIT_BYTES,
        )


async def _send_rows(
    exchange: Exchange, service: Service, table: TableName, session_id: str
) -> None:
    """Sends a split by its index, or the rows named if the session has no splits of its own."""
    look = _request(exchange, table, Action.TABLE_GET_READ_SESSION, [("SessionId", session_id)])
    assert isinstance(look, GetReadSession)
    service.authorize(exchange, look)
    session = await service.call(look)
    if session.split_mode is SplitMode.ROW_OFFSET:
        where = [("Offset", "row_index"), ("Count", "row_count")]
    else:
        where = [("Index", "split_index")]
    query = dict(exchange.query)
    given = [("SessionId", session_id), *((name, query.get(own, "0")) for name, own in where)]
    most = parse_count(query.get("max_batch_rows") or "0")
    if most is None:
        raise InvalidArgumentError("max_batch_rows is not a count")
    options = {"MaxBatchRows": most, "DataFormat": _data_format(query)}
    body = msgspec.json.encode(options)
    read = _request(exchange, table, Action.TABLE_READ, given, body)
    assert isinstance(read, ReadTable)
    service.authorize(exchange, read)
    codec = None
    if service.settings.reply_compression is not ReplyCompression.OFF:
        codec = _BUFFER_CODECS.get(exchange.header(ACCEPT_ENCODING).strip().lower())
    # Its accepted codings are Arrow's: the body as a whole is never compressed.
    read = msgspec.structs.replace(read, accept_encoding=(), buffer_codec=codec)
    await HANDLERS[ReadTable](exchange, service, read)


async def _take_block(
    exchange: Exchange, service: Service, table: TableName, session_id: str
) -> None:
    query = dict(exchange.query)
    given = [
        ("SessionId", session_id),
        ("BlockNumber", query.get("block_number", "0")),
        ("AttemptNumber", query.get("attempt_number", "0")),
        *_BLOCKS,
    ]
    check_data_format(_data_format(query), "data_format")
    write = _request(exchange, table, Action.TABLE_WRITE, given)
    service.authorize(exchange, write)
    # Clients of this version name columns as they like, and need not end the stream before the body.
    placed = WriteByPosition(**msgspec.structs.asdict(write))
    await write_rows(exchange, service, placed, unmarked=True)


def _data_format(query: dict[str, str]) -> dict[str, str | None]:
    return {"Type": query.get("data_format_type"), "Version": query.get("data_format_version")}
