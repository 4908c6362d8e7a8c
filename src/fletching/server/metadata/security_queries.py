"""Security queries: who there is, and what each may do, told from access keys and their grants.

::

    whoami
    list users | roles | trustedprojects | accountproviders
    show grants [for [user] NAME]
    show grants on [table] T, show acl for T [on type table]
    show packages | label grants | securityconfiguration
    get policy
    desc role R, show principals R

Grants are told as the statements of a policy, MaxCompute's actions standing for our permissions. Whoever
administers a whole project is told of everybody, others of themselves. There are no roles, packages,
labels or policies. What would change something is refused: access is granted with ``fletching keys``.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from fletching.engine.access.permissions import AccessKey, Grant, Permission
from fletching.errors import InvalidArgumentError, MethodNotAllowedError, NotFoundError
from fletching.protocol.messages.admin import DescribeTable, TableInfo
from fletching.server.metadata.scope import Scope, namespace_of
from fletching.types import TableName

__all__ = ["SECURITY_OPTIONS", "answer", "known_users"]

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
    assert principal is not None
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
    key = scope.exchange.principal.key if scope.exchange.principal is not None else None
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
    info: TableInfo = await scope.call(DescribeTable(table=table))
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
