"""Paths of the metadata endpoints, and who answers each.

::

    GET   /tenants, /catalogapi
    GET   /connection/mcqa, /quotas[/{q}]           query acceleration, second generation
    GET   /projects/{p}[?policy | ?security_configuration]
    PUT   /projects/{p}/logs                        taken and dropped
    GET   /projects/{p}/tunnel?service, /system
    GET   /projects/{p}/tables
    GET   /projects/{p}/tables/{t}[?extended | ?partitions | ?partition= | ?data]
    GET   /projects/{p}/instances, /cachedinstances
    POST  /projects/{p}/instances
    GET   /projects/{p}/instances/{id}[?..]         instance_reports.py has what may be asked
    PUT   /projects/{p}/instances/{id}[?info]       cancel; tell a session
    POST  /projects/{p}/authorization               security queries, tokens
    GET   /projects/{p}/users[/{u}], /roles[/{r}]
    GET   /projects/{p}/schemas[/{s}]               also POST and DELETE
    GET   /projects/{p}/functions, /resources, ..   none: absent_resources.py
    GET   /catalog/v1alpha/projects/{p}/schemas/{s}/models[/{m}]    none, likewise

Clients put the path of their endpoint before these, usually ``/api``, and ``/mcqa`` before those of an
instance that is to be accelerated.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from urllib.parse import unquote

from fletching.errors import MethodNotAllowedError, NotFoundError
from fletching.server.http.exchange import Exchange
from fletching.server.metadata import absent_resources as absent
from fletching.server.metadata import instance_resources as instances
from fletching.server.metadata import interactive_resources as interactive
from fletching.server.metadata import project_resources as projects
from fletching.server.metadata import schema_resources as schemas
from fletching.server.metadata import security_resources as security
from fletching.server.metadata import table_resources as tables
from fletching.server.metadata.scope import Scope
from fletching.server.service import Service

__all__ = ["handle_metadata", "is_metadata_path"]

Handler = Callable[[Scope], Coroutine[object, object, None]]

_PREFIX = re.compile(
    r"(?:/api){0,2}(?:/mcqa(?=/projects/))?"
    r"(?=/(?:projects|tenants|connection|quotas|catalogapi|catalog)(?:/|\Z))"
)

_HANDLERS: tuple[tuple[str, dict[str, Handler]], ...] = (
    (r"/tenants(?:/[^/]+)?", {"GET": projects.tenant}),
    (r"/catalogapi", {"GET": projects.catalog_host}),
    (r"/connection/mcqa", {"GET": interactive.connection}),
    (r"/quotas(?:/(?P<name>[^/]+))?", {"GET": interactive.list_quotas}),
    (r"/projects", {"GET": projects.list_projects}),
    (r"/projects/(?P<project>[^/]+)", {"GET": projects.describe}),
    (r"/projects/(?P<project>[^/]+)/logs", {"PUT": projects.take_logs}),
    (r"/projects/(?P<project>[^/]+)/tunnel", {"GET": projects.tunnel}),
    (r"/projects/(?P<project>[^/]+)/system", {"GET": projects.system}),
    (r"/projects/(?P<project>[^/]+)/tables", {"GET": tables.list_tables}),
    (
        r"/projects/(?P<project>[^/]+)/tables/(?P<name>[^/]+)",
        {"GET": tables.get_table},
    ),
    (
        r"/projects/(?P<project>[^/]+)/instances",
        {"GET": instances.list_instances, "POST": instances.create},
    ),
    (
        r"/projects/(?P<project>[^/]+)/instances/(?P<name>[^/]+)",
        {"GET": instances.get_instance, "PUT": instances.change},
    ),
    (r"/projects/(?P<project>[^/]+)/cachedinstances", {"GET": instances.list_queueing}),
    (r"/projects/(?P<project>[^/]+)/authorization", {"POST": security.authorization}),
    (r"/projects/(?P<project>[^/]+)/users", {"GET": security.users}),
    (r"/projects/(?P<project>[^/]+)/users/(?P<name>[^/]+)", {"GET": security.user}),
    (r"/projects/(?P<project>[^/]+)/roles", {"GET": security.roles}),
    (r"/projects/(?P<project>[^/]+)/roles/(?P<name>[^/]+)", {"GET": security.role}),
    (
        r"/projects/(?P<project>[^/]+)/schemas",
        {"GET": schemas.list_schemas, "POST": schemas.create},
    ),
    (
        r"/projects/(?P<project>[^/]+)/schemas/(?P<name>[^/]+)",
        {"GET": schemas.describe, "DELETE": schemas.drop},
    ),
)

_KINDS = "|".join(kind.replace("/", "(?:/|%2[Ff])") for kind in absent.ABSENT)

_ABSENT: tuple[tuple[str, dict[str, Handler]], ...] = (
    (
        rf"/projects/(?P<project>[^/]+)/(?:{_KINDS})",
        {"GET": absent.none_of_it, "POST": absent.refuse, "PUT": absent.refuse},
    ),
    (
        rf"/projects/(?P<project>[^/]+)/(?:{_KINDS})/(?P<name>.+)",
        {
            "GET": absent.not_there,
            "DELETE": absent.not_there,
            "POST": absent.refuse,
            "PUT": absent.refuse,
        },
    ),
)

_MODELS = r"/catalog/v[0-9a-z]{1,20}/projects/(?P<project>[^/]+)/schemas/[^/]+/models"

_ABSENT_MODELS: tuple[tuple[str, dict[str, Handler]], ...] = (
    (_MODELS, {"GET": absent.no_models, "POST": absent.refuse}),
    (
        rf"{_MODELS}/(?P<name>.+)",
        {
            "GET": absent.not_there,
            "DELETE": absent.not_there,
            "POST": absent.refuse,
            "PUT": absent.refuse,
            "PATCH": absent.refuse,
        },
    ),
)

_ROUTES = tuple(
    (re.compile(pattern), handlers) for pattern, handlers in (*_HANDLERS, *_ABSENT, *_ABSENT_MODELS)
)


def is_metadata_path(path: str) -> bool:
    """Whether a path belongs to the metadata endpoints."""
    return _PREFIX.match(path) is not None


async def handle_metadata(exchange: Exchange, service: Service) -> None:
    """Answers a metadata request; raises what becomes its error reply.

    Raises:
        FletchingError: the request is wrong, refused, or failed.
    """
    # The raw path: a name may hold an encoded slash.
    prefix = _PREFIX.match(exchange.raw_path)
    path = exchange.raw_path[prefix.end() :] if prefix is not None else exchange.raw_path
    path = path.rstrip("/")
    for pattern, handlers in _ROUTES:
        match = pattern.fullmatch(path)
        if match is None:
            continue
        handler = handlers.get(exchange.verb)
        if handler is None:
            raise MethodNotAllowedError.of(path, exchange.method, handlers)
        names = {key: unquote(value) for key, value in match.groupdict().items() if value}
        exchange.action = f"{handler.__module__.rsplit('.', 1)[-1]}.{handler.__name__}"
        scope = Scope(exchange, service, names.get("project", ""), names.get("name", ""))
        with service.calls.enter():
            await handler(scope)
        return
    raise NotFoundError(f"there is nothing at {exchange.path[:200]}")
