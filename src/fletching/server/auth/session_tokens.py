"""Tokens that read one session: what they allow, and who is given one.

Whoever opens a session may ask for its token, and hands that to the processes that read the session's
splits, in place of a secret. It ends with the session. Its holder may keep the session for another
while, and take a later token, up to `RENEWABLE_SECONDS` after a key asked for the first: so a job that
lasts goes on, and a token that leaked ends. The key's grants are looked at in every request as before;
a key that is revoked ends its tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from fletching.engine.access.bearer_tokens import BearerTokens, SessionScope
from fletching.errors import NoPermissionError
from fletching.protocol.messages.requests import (
    CreateReadSession,
    GetReadSession,
    ReadBlobs,
    ReadTable,
    Request,
)
from fletching.protocol.messages.responses import ReadSession, Response
from fletching.server.auth.principal import Principal
from fletching.types import TableName

__all__ = ["RENEWABLE_SECONDS", "check_session_request", "is_table_of", "with_session_token"]

RENEWABLE_SECONDS = 7 * 86_400
"""How long the token of a session can be exchanged for a later one by its holder."""


def is_table_of(scope: SessionScope, table: TableName) -> bool:
    """Whether a table is the one that the session reads; names are equal as the catalog compares them."""
    return _folded(scope.table) == _folded(table)


def check_session_request(
    scope: SessionScope, request: Request, now: Callable[[], float] = time.time
) -> None:
    """Refuses a request that is not part of reading the one session.

    Which blobs are read is not known yet; their tables are compared when the references are read.

    Raises:
        NoPermissionError: it is not, or the session can no longer be kept by this token.
    """
    if isinstance(request, ReadBlobs):
        return
    if not (
        isinstance(request, ReadTable | GetReadSession)
        and request.session_id == scope.session_id
        and is_table_of(scope, request.table)
    ):
        raise NoPermissionError(f"this token is for reading session {scope.session_id}")
    if isinstance(request, ReadTable):
        return
    if request.release:
        raise NoPermissionError("a token for reading a session does not release it")
    if (request.refresh or request.with_token) and now() >= scope.renewable_until:
        raise NoPermissionError(
            f"the token of read session {scope.session_id} cannot be renewed any longer: refresh the "
            "session where it was opened, and hand out splits of it anew"
        )


def with_session_token(
    tokens: BearerTokens,
    principal: Principal,
    request: Request,
    response: Response,
    now: Callable[[], float] = time.time,
) -> Response:
    """The reply with the token that its request asks for.

    None for a caller without a key: it needs no token either.
    """
    if not isinstance(request, CreateReadSession | GetReadSession) or not request.with_token:
        return response
    if not isinstance(response, ReadSession) or principal.key is None:
        return response
    held = principal.session
    scope = SessionScope(
        request.table,
        response.session_id,
        int(now() + RENEWABLE_SECONDS) if held is None else held.renewable_until,
    )
    expires_at = response.expiration_time_ms / 1000
    if principal.key.expires_at is not None:
        expires_at = min(expires_at, principal.key.expires_at)
    token = tokens.sign(principal.key.access_id, expires_at, session=scope)
    return msgspec.structs.replace(response, session_token=token)


def _folded(table: TableName) -> tuple[str, str, str]:
    return table.project.casefold(), table.schema.casefold(), table.name.casefold()
