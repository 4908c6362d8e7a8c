"""Tokens for reading one session, or one table: what they allow, and who is given one.

Whoever opens a session may ask for its token, and hands that to the processes that read the session's
splits, in place of a secret; or for one of its table, to processes that open sessions of their own. It
ends when the session would. Its holder may keep the session for another while, and take a later token,
up to `RENEWABLE_SECONDS` after a key asked for the first: so a job that lasts goes on, and a token that
leaked ends. The key's grants are looked at in every request as before;
a key that is revoked ends its tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from fletching.engine.access.bearer_tokens import BearerTokens, ReadScope
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

__all__ = ["RENEWABLE_SECONDS", "check_reading", "is_table_of", "with_read_token"]

RENEWABLE_SECONDS = 7 * 86_400
"""How long the token of a session can be exchanged for a later one by its holder."""


def is_table_of(scope: ReadScope, table: TableName) -> bool:
    """Whether a table is the one that the session reads; names are equal as the catalog compares them."""
    return _folded(scope.table) == _folded(table)


def check_reading(scope: ReadScope, request: Request, now: Callable[[], float] = time.time) -> None:
    """Refuses a request that is not part of what the token reads.

    Which blobs are read is not known yet; their tables are compared when the references are read.

    Raises:
        NoPermissionError: it is not, or the session can no longer be kept by this token.
    """
    if isinstance(request, ReadBlobs):
        return
    kinds = ReadTable | GetReadSession | CreateReadSession
    if not (isinstance(request, kinds) and is_table_of(scope, request.table)):
        raise NoPermissionError(f"this token is for reading {scope}")
    if isinstance(request, CreateReadSession):
        allowed = scope.session_id is None
        renews = request.with_token or request.with_table_token
    else:
        allowed = scope.session_id in {None, request.session_id}
        renews = isinstance(request, GetReadSession) and (request.refresh or request.with_token)
    if not allowed:
        raise NoPermissionError(f"this token is for reading {scope}")
    if scope.session_id is not None and isinstance(request, GetReadSession):
        if request.release:
            raise NoPermissionError("a token for reading a session does not release it")
        if request.with_splits or request.with_partitions or request.with_statistics:
            # They tell of rows that the session's filter leaves out.
            raise NoPermissionError(
                "a token for reading a session reads its rows alone: ask for details where it was opened"
            )
    if renews and now() >= scope.renewable_until:
        raise NoPermissionError(
            f"the token for reading {scope} cannot be renewed any longer: refresh the session, or plan "
            "the read anew, where the key is, and hand out its parts again"
        )


def with_read_token(
    tokens: BearerTokens,
    principal: Principal,
    request: Request,
    response: Response,
    now: Callable[[], float] = time.time,
) -> Response:
    """The reply with the token that its request asks for.

    None for a caller without a key: it needs no token either.
    """
    if not isinstance(request, CreateReadSession | GetReadSession):
        return response
    of_table = isinstance(request, CreateReadSession) and request.with_table_token
    if not (of_table or request.with_token):
        return response
    if not isinstance(response, ReadSession) or principal.key is None:
        return response
    held = principal.reading
    scope = ReadScope(
        request.table,
        None if of_table else response.session_id,
        int(now() + RENEWABLE_SECONDS) if held is None else held.renewable_until,
    )
    expires_at = response.expiration_time_ms / 1000
    if principal.key.expires_at is not None:
        expires_at = min(expires_at, principal.key.expires_at)
    token = tokens.sign(principal.key.access_id, principal.key.secret, expires_at, reading=scope)
    return msgspec.structs.replace(response, session_token=token)


def _folded(table: TableName) -> tuple[str, str, str]:
    return table.project.casefold(), table.schema.casefold(), table.name.casefold()
