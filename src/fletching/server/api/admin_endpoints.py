"""Table administration of our own: JSON under ``/fletching/v1``."""

from __future__ import annotations

import asyncio
import functools
import re

import msgspec

from fletching.errors import InvalidParameterError
from fletching.protocol.codec import decode_admin_request, encode_admin_response
from fletching.protocol.messages.admin import (
    CancelStatement,
    GetStatement,
    RunStatement,
    StatementRequest,
)
from fletching.protocol.messages.changes import VersionPage, WaitForVersion
from fletching.protocol.messages.responses import Response
from fletching.protocol.messages.vocabulary import MAX_WAIT_SECONDS
from fletching.server.http.exchange import Exchange
from fletching.server.service import Service

__all__ = ["answer_statement", "handle_admin"]

FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 0.05, 0.5
"""Between two looks for one: growing, so that a table where nothing happens costs little."""


async def handle_admin(exchange: Exchange, service: Service) -> None:
    """Answers an administration request; raises what becomes its error reply.

    Raises:
        FletchingError: the request is wrong, refused, or failed.
    """
    async with service.small_body(exchange) as body:
        request = decode_admin_request(exchange.verb, exchange.raw_path, exchange.query, body)
        exchange.action = type(request).__name__
        service.authorize(exchange, request)
        if isinstance(request, StatementRequest):
            state = await answer_statement(exchange, service, request)
            headers, reply = encode_admin_response(state)
        elif isinstance(request, WaitForVersion):
            headers, reply = encode_admin_response(await _awaited_versions(service, request))
        else:
            with service.calls.enter():
                response = await service.call(request)
                headers, reply = encode_admin_response(service.visible(exchange, response))
    await exchange.reply(reply, headers=headers)


MAX_STATEMENT_SECONDS = 30.0
"""How long a reply waits for the end of statements at most."""

_BLOCKING_SECONDS = 0.1
"""How long that occupies a worker; the rest of the time nothing but the exchange waits."""


async def answer_statement(
    exchange: Exchange, service: Service, request: StatementRequest
) -> Response:
    """Runs, looks up or cancels statements, waiting for their end as long as is asked for."""
    # Not among the short calls: what a statement comes to is written to the catalog.
    run = service.workers.query.run
    instances = await run(lambda: service.engine.instances)
    rest = min(max(request.wait_seconds, 0.0), MAX_STATEMENT_SECONDS)
    if isinstance(request, RunStatement):
        row = await run(
            functools.partial(
                instances.run,
                request.text,
                instances.namespace(request),
                owner=exchange.access_id,
                authorize=functools.partial(service.authorize, exchange),
                visible=functools.partial(service.visible, exchange),
                wait_seconds=min(rest, _BLOCKING_SECONDS),
                instance_id=_given_id(request),
            )
        )
    else:
        assert isinstance(request, GetStatement | CancelStatement)
        row = await run(instances.get, request.project, request.instance_id)
        service.authorize_instance(exchange, row)
        if isinstance(request, CancelStatement) and not row.ended_at:
            await run(instances.cancel, row)
            row = await run(instances.get, request.project, request.instance_id)
    pause = 0.01
    while not row.ended_at and rest > 0:
        await asyncio.sleep(min(pause, rest))
        rest, pause = rest - pause, min(pause * 1.5, 0.5)
        row = await run(instances.get, request.project, row.id)
    return await run(instances.state, row)


_INSTANCE_ID = re.compile(r"\d{17}[0-9a-f]{12}")


def _given_id(request: RunStatement) -> str | None:
    """The id that a client has made for its statements.

    Raises:
        InvalidParameterError: it is not of the form that ids have.
    """
    if request.instance_id and not _INSTANCE_ID.fullmatch(request.instance_id):
        raise InvalidParameterError("instance_id is 17 digits of a time and 12 hexadecimal ones")
    return request.instance_id or None


async def _awaited_versions(service: Service, request: WaitForVersion) -> VersionPage:
    """Looks for new versions until there are some or the time is over; no thread waits meanwhile."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + min(max(request.timeout_ms, 0) / 1000, MAX_WAIT_SECONDS)
    look = msgspec.structs.replace(request, timeout_ms=0)
    pause = FIRST_PAUSE_SECONDS
    while True:
        with service.calls.enter():
            response = await service.call(look)
        left = deadline - loop.time()
        if response.versions or left <= 0 or service.draining:
            return response
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 1.5, LAST_PAUSE_SECONDS)
