"""Who the caller is, tokens that stand for him, and the little there is to say of roles and policies.

Access is granted with ``fletching keys``; nothing here changes it, and what would is refused.
"""

from __future__ import annotations

import json
import re
from typing import Any

from fletching.errors import (
    InvalidParameterError,
    MethodNotAllowedError,
    NotFoundError,
    UnauthorizedError,
)
from fletching.server.metadata.documents import element, parse_root
from fletching.server.metadata.scope import Scope

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
        MethodNotAllowedError: a query that nothing here answers.
    """
    scope.service.authorize_more(scope.exchange)
    body = await scope.exchange.read_body(MAX_QUERY_BYTES)
    await scope.require_project()
    if "sign_bearer_token" in scope.query:
        result = _signed(scope, body)
    else:
        root = parse_root(body, "Authorization")
        result = _answer(scope, root.findtext("Query") or "")
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
    return engine.access_keys.tokens.sign(principal.access_id, expires_at, _instance_of(statements))


def _instance_of(statements: Any) -> tuple[str, str] | None:
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


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


# --- queries ---------------------------------------------------------------------------------


def _answer(scope: Scope, query: str) -> str:
    words = " ".join(query.strip().rstrip(";").split()).casefold()
    me = scope.exchange.access_id
    if words == "whoami":
        key = scope.exchange.principal.key if scope.exchange.principal is not None else None
        owner = me if key is None else key.owner
        return json.dumps({"ID": me, "DisplayName": owner, "UserID": me, "Project": scope.project})
    if words == "list accountproviders":
        return json.dumps("ALIYUN")
    if words == "list users":
        return json.dumps([{"ID": me, "DisplayName": me}])
    if words == "list roles":
        return json.dumps([])
    raise MethodNotAllowedError(
        f"nothing here answers {words[:60]!r}: access is granted with `fletching keys`"
    )


# --- users, roles, policies ------------------------------------------------------------------


def _user(access_id: str) -> Any:
    return element(
        "User",
        element("ID", text=access_id),
        element("DisplayName", text=access_id),
        element("Comment", text=""),
    )


async def users(scope: Scope) -> None:
    """The users that the caller may know of: himself."""
    await scope.require_project()
    await scope.reply(element("Users", _user(scope.exchange.access_id)))


async def user(scope: Scope) -> None:
    """A user, or his roles.

    Raises:
        NotFoundError: there is none, or the caller may not know of him.
    """
    await scope.require_project()
    if scope.name != scope.exchange.access_id:
        raise NotFoundError(f"there is no user {scope.name[:100]}")
    if "roles" in scope.query:
        await scope.reply(element("Roles"))
        return
    await scope.reply(_user(scope.name))


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
    answers = {
        "CheckPermissionUsingAcl": "true",
        "CheckPermissionUsingPolicy": "false",
        "LabelSecurity": "false",
        "ObjectCreatorHasAccessPermission": "false",
        "ObjectCreatorHasGrantPermission": "false",
        "SupportACL": "true",
        "SupportPolicy": "false",
        "SupportPackage": "false",
    }
    await scope.reply(
        element(
            "SecurityConfiguration",
            *(element(tag, text=text) for tag, text in answers.items()),
            element("ProjectProtection", Protected="false"),
        )
    )
