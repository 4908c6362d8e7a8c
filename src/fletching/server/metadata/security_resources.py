"""Who the caller is, tokens that stand for him, and the little there is to say of roles and policies.

Security queries tell it from access keys and their grants::

    whoami
    list users | roles | trustedprojects | accountproviders
    show grants [for [user] NAME]
    show grants on [table] T, show acl for T [on type table]
    show packages | label grants | securityconfiguration
    get policy
    desc role R, show principals R

Grants are told as the statements of a policy, MaxCompute's actions standing for our permissions. Whoever
administers a whole project is told of everybody, others of themselves. There are no roles, packages,
labels or policies. Access is granted with ``fletching keys``; nothing here changes it, and what would is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from fletching.engine.access.permissions import AccessKey, Grant, Permission
from fletching.errors import (
    InvalidArgumentError,
    InvalidParameterError,
    MethodNotAllowedError,
    NotFoundError,
    UnauthorizedError,
)
from fletching.protocol.messages.admin import DescribeTable
from fletching.server.metadata.documents import element, parse_root
from fletching.server.metadata.jobs import parse_settings
from fletching.server.metadata.scope import Scope, namespace_of
from fletching.types import TableName

if TYPE_CHECKING:
    import xml.etree.ElementTree as ET

__all__ = [
    "SECURITY_OPTIONS",
    "answer",
    "authorization",
    "configuration",
    "known_users",
    "policy",
    "role",
    "roles",
    "user",
    "users",
]


SECURITY_OPTIONS = {
    "CheckPermissionUsingAcl": True,
    "CheckPermissionUsingPolicy": False,
    "LabelSecurity": False,
    "ObjectCreatorHasAccessPermission": False,
    "ObjectCreatorHasGrantPermission": False,
    "SupportACL": True,
    "SupportPolicy": False,
    "SupportPackage": False,
}
"""How access is decided: by grants alone."""

_READ = ("odps:Describe", "odps:Select", "odps:Download")
_ACTIONS = {
    Permission.READ: _READ,
    Permission.WRITE: (*_READ, "odps:Update"),
    Permission.ADMIN: (*_READ, "odps:Update", "odps:Alter", "odps:Drop"),
}

Json = Mapping[str, object] | Sequence[object]
"""A JSON object or list."""

_Settings = dict[str, str]
_Answer = Callable[[Scope, re.Match[str], _Settings], Awaitable[Json]]


async def answer(scope: Scope, query: str, settings: _Settings) -> Json:
    """What a query is answered with, as plain data.

    Raises:
        NoSuchTableError: there is no such table, or the caller may not know of it.
        NotFoundError: there is no such user or role, or likewise.
        MethodNotAllowedError: a query that nothing here answers, or that would change something.
    """
    text = " ".join(query.strip().rstrip(";").split())
    for pattern, result in _QUERIES:
        match = pattern.fullmatch(text)
        if match is not None:
            return await result(scope, match, settings)
    raise MethodNotAllowedError(
        f"nothing here answers {text[:60]!r}: access is granted with `fletching keys`, and"
        " docs/conformance.md says what may be asked"
    )


# --- users -----------------------------------------------------------------------------------


def known_users(scope: Scope) -> list[tuple[AccessKey, Sequence[Grant]]]:
    """The keys of a project that the caller may know of, and what each may do in it."""
    principal = scope.exchange.principal
    mine = principal.access_id
    result = [
        (key, [grant for grant in grants if grant.covers_project(scope.project)])
        for key, grants in scope.service.keys.granted()
    ]
    # Without keys there is nobody to keep anything from.
    everybody = principal.key is None or any(
        grant.permission is Permission.ADMIN and grant.covers_all(scope.project)
        for key, grants in result
        for grant in grants
        if key.access_id == mine
    )
    return [
        (key, grants) for key, grants in result if grants and (everybody or key.access_id == mine)
    ]


def _statements(users: Iterable[tuple[AccessKey, Sequence[Grant]]], project: str) -> list[object]:
    return [
        {
            "Effect": "Allow",
            "Principal": f"user/{key.access_id}",
            "Action": list(_ACTIONS[grant.permission]),
            "Resource": f"acs:odps:*:projects/{project}/tables/{grant.table}",
        }
        for key, grants in users
        for grant in grants
    ]


async def _whoami(scope: Scope, _match: re.Match[str], _settings: _Settings) -> Json:
    me = scope.exchange.access_id
    key = scope.exchange.principal.key
    owner = me if key is None else key.owner
    return {"ID": me, "DisplayName": owner, "UserID": me, "Project": scope.project}


async def _users(scope: Scope, _match: re.Match[str], _settings: _Settings) -> Json:
    return [{"ID": key.access_id, "DisplayName": key.owner} for key, _ in known_users(scope)]


async def _grants(scope: Scope, match: re.Match[str], _settings: _Settings) -> Json:
    wanted = (match["user"] or scope.exchange.access_id).strip("`'\"")
    users = known_users(scope)
    chosen = [item for item in users if wanted in {item[0].access_id, item[0].owner}]
    if match["user"] and not chosen:
        raise NotFoundError(f"there is no user {wanted[:100]}")
    return {"ACL": _statements(chosen, scope.project), "Roles": []}


async def _table_grants(scope: Scope, match: re.Match[str], settings: _Settings) -> Json:
    table = _table(scope, match["table"], settings)
    info = await scope.call(DescribeTable(table=table))
    covering = [
        (key, [grant for grant in grants if grant.covers(info.table)])
        for key, grants in known_users(scope)
    ]
    return {"ACL": _statements(covering, scope.project)}


def _table(scope: Scope, text: str, settings: _Settings) -> TableName:
    space = namespace_of(scope, settings)
    match [part.strip("`") for part in text.split(".")]:
        case [name]:
            result = TableName(space.project, name, space.schema)
        case [schema, name] if space.schemas_enabled:
            result = TableName(space.project, name, schema)
        case [project, name]:
            result = TableName(project, name, space.schema)
        case [project, schema, name]:
            result = TableName(project, name, schema)
        case _:
            raise InvalidArgumentError(f"{text[:100]!r} names no table")
    if result.project.casefold() != scope.project.casefold():
        raise InvalidArgumentError(f"{text[:100]!r} is of another project than {scope.project}")
    return result


async def _role(_scope: Scope, match: re.Match[str], _settings: _Settings) -> Json:
    raise NotFoundError(f"there is no role {match['role'][:100]}")


def _always(value: Json) -> _Answer:
    async def answer_always(_scope: Scope, _match: re.Match[str], _settings: _Settings) -> Json:
        return value

    return answer_always


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text.replace(" ", r"\s"), re.IGNORECASE)


_QUERIES: tuple[tuple[re.Pattern[str], _Answer], ...] = (
    (_pattern(r"whoami"), _whoami),
    (_pattern(r"(?:list|show) users"), _users),
    (_pattern(r"(?:list|show) roles"), _always([])),
    (_pattern(r"list accountproviders"), _always("ALIYUN")),
    (_pattern(r"list trustedprojects"), _always([])),
    (_pattern(r"show packages"), _always([])),
    (_pattern(r"show label grants(?: .*)?"), _always([])),
    (_pattern(r"show securityconfiguration"), _always(SECURITY_OPTIONS)),
    (_pattern(r"get policy"), _always({"Version": "1", "Statement": []})),
    (_pattern(r"show grants on (?:table )?(?P<table>\S+)"), _table_grants),
    (_pattern(r"show acl for (?:table )?(?P<table>\S+)(?: on type table)?"), _table_grants),
    (_pattern(r"show grants(?: for(?: user)? (?P<user>\S+))?"), _grants),
    (_pattern(r"(?:desc|describe|show) role (?P<role>\S+)"), _role),
    (_pattern(r"show principals (?P<role>\S+)"), _role),
)


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
    if principal.key is None:
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
