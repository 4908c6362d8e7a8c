"""Who the caller is, tokens that stand for him, and the little there is to say of roles and policies.

Access is granted with ``fletching keys``; nothing here changes it, and what would is refused.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from fletching.engine.access.permissions import AccessKey
from fletching.errors import (
    InvalidParameterError,
    NotFoundError,
    UnauthorizedError,
)
from fletching.server.metadata.documents import element, parse_root
from fletching.server.metadata.jobs import parse_settings
from fletching.server.metadata.scope import Scope
from fletching.server.metadata.security_queries import SECURITY_OPTIONS, answer, known_users

if TYPE_CHECKING:
    import xml.etree.ElementTree as ET

__all__ = ["authorization", "configuration", "policy", "role", "roles", "user", "users"]

MAX_QUERY_BYTES = 64 * 1024
MAX_TOKEN_HOURS = 24 * 365

_INSTANCE = re.compile(r"acs:odps:\*:projects/([^/*]+)/instances/([^/*]+)")
_EVERYTHING = frozenset({"*", "acs:odps:*:*"})
_READING = frozenset({"odps:read", "odps:*", "*"})
_ALL = frozenset({"odps:*", "*"})


async def authorization(scope: Scope) -> None:
    """Answers a security query, or signs a token.

    Raises:
        NoPermissionError: the caller has a token for one instance, or no grant in the project.
        NoSuchProjectError: there is no such project.
        FletchingError: what `answer` raises.
    """
    scope.service.authorize_more(scope.exchange)
    body = await scope.exchange.read_body(MAX_QUERY_BYTES)
    await scope.require_project()
    if "sign_bearer_token" in scope.query:
        result = _signed(scope, body)
    else:
        root = parse_root(body, "Authorization")
        settings = parse_settings(root.findtext("Settings") or "")
        result = json.dumps(await answer(scope, root.findtext("Query") or "", settings))
    await scope.reply(element("Authorization", element("Result", text=result)))


# --- tokens ----------------------------------------------------------------------------------


def _signed(scope: Scope, body: bytes) -> str:
    """A bearer token by a policy: for one instance, or for whatever the caller may do."""
    try:
        document = json.loads(body)
        hours = document["expires_in_hours"]
        statements = (document.get("policy") or {})["Statement"]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise InvalidParameterError(
            "a token takes JSON with expires_in_hours and a policy"
        ) from None
    number = isinstance(hours, int | float) and not isinstance(hours, bool)
    if not number or not 0 < hours <= MAX_TOKEN_HOURS:
        raise InvalidParameterError(f"a token lasts up to {MAX_TOKEN_HOURS} hours")
    principal = scope.exchange.principal
    if principal is None or principal.key is None:
        raise UnauthorizedError("a token stands for an access key, and the request has none")
    engine = scope.service.engine
    expires_at = engine.context.clock() + hours * 3600
    if principal.token_expires_at is not None:
        # Else a token that leaked would never end.
        expires_at = min(expires_at, principal.token_expires_at)
    secret = principal.key.secret
    return engine.access_keys.tokens.sign(
        principal.access_id, secret, expires_at, _instance_of(statements)
    )


def _instance_of(statements: object) -> tuple[str, str] | None:
    """The one instance that a policy is about; None for a policy that allows everything."""
    if isinstance(statements, list) and len(statements) == 1 and isinstance(statements[0], dict):
        statement = statements[0]
        actions = {str(action).casefold() for action in _listed(statement.get("Action"))}
        resources = [str(resource) for resource in _listed(statement.get("Resource"))]
        allows = statement.get("Effect") == "Allow" and len(resources) == 1
        if allows and resources[0] in _EVERYTHING and actions & _ALL:
            return None
        match = _INSTANCE.fullmatch(resources[0]) if allows else None
        if match is not None and actions & _READING:
            return match[1].casefold(), match[2]
    raise InvalidParameterError(
        "a token's policy allows odps:Read of one instance, or odps:* of acs:odps:*:*"
    )


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


# --- users, roles, policies ------------------------------------------------------------------


def _user(key: AccessKey) -> ET.Element:
    return element(
        "User",
        element("ID", text=key.access_id),
        element("DisplayName", text=key.owner),
        element("Comment", text=key.comment),
    )


async def users(scope: Scope) -> None:
    """The users that the caller may know of."""
    scope.service.authorize_more(scope.exchange)
    await scope.require_project()
    await scope.reply(element("Users", *(_user(key) for key, _ in known_users(scope))))


async def user(scope: Scope) -> None:
    """A user, or his roles.

    Raises:
        NotFoundError: there is none, or the caller may not know of him.
    """
    scope.service.authorize_more(scope.exchange)
    await scope.require_project()
    result = [key for key, _ in known_users(scope) if scope.name in {key.access_id, key.owner}]
    if not result:
        raise NotFoundError(f"there is no user {scope.name[:100]}")
    if "roles" in scope.query:
        await scope.reply(element("Roles"))
        return
    await scope.reply(_user(result[0]))


async def roles(scope: Scope) -> None:
    """There are no roles."""
    await scope.require_project()
    await scope.reply(element("Roles"))


async def role(scope: Scope) -> None:
    """A role.

    Raises:
        NotFoundError: always: there are none.
    """
    await scope.require_project()
    raise NotFoundError(f"there is no role {scope.name[:100]}")


async def policy(scope: Scope) -> None:
    """The project's policy: none."""
    await scope.require_project()
    await scope.exchange.reply(b"", content_type="text/plain")


async def configuration(scope: Scope) -> None:
    """How access is decided: by grants alone."""
    await scope.require_project()
    await scope.reply(
        element(
            "SecurityConfiguration",
            *(element(tag, text=str(on).lower()) for tag, on in SECURITY_OPTIONS.items()),
            element("ProjectProtection", Protected="false"),
        )
    )
