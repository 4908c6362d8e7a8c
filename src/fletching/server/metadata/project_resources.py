"""Tenants, projects, and where the storage API is."""

from __future__ import annotations

from email.utils import formatdate

import msgspec

from fletching.errors import NoSuchProjectError
from fletching.server.metadata.documents import element
from fletching.server.metadata.scope import Scope

__all__ = ["describe", "page", "take_logs", "tenant", "tunnel"]

_LOG_BYTES = 1024 * 1024
_LONG_AGO = formatdate(0, usegmt=True)
"""Projects come into being with the folder or with their first table; nobody notes when."""


async def tenant(scope: Scope) -> None:
    """Says whether names may have a schema: clients ask once."""
    enabled = scope.service.settings.schemas_enabled
    body = {
        "Name": "fletching",
        "OwnerId": "fletching",
        "TenantId": "1",
        "TenantState": "NORMAL",
        "CreateTime": 0,
        "UpdateTime": 0,
        "TenantMeta": "",
        "Parameters": {"odps.namespace.schema": "true" if enabled else "false"},
    }
    await scope.exchange.reply(msgspec.json.encode(body))


async def tunnel(scope: Scope) -> None:
    """Endpoint discovery: host and port, without scheme, path or newline."""
    host = scope.service.settings.public_host or scope.exchange.header("host")
    await scope.exchange.reply(host.encode(), content_type="text/plain")


async def take_logs(scope: Scope) -> None:
    """Clients report their own use; nobody here reads it."""
    await scope.exchange.read_body(_LOG_BYTES)
    await scope.exchange.reply(b"", content_type="text/plain")


async def describe(scope: Scope) -> None:
    """A project.

    Raises:
        NoSuchProjectError: there is none of this name.
    """
    names = await scope.work(scope.service.engine.projects)
    found = next((name for name in names if name.casefold() == scope.project.casefold()), None)
    if found is None or not scope.service.may_enter(scope.exchange, found):
        raise NoSuchProjectError(f"there is no project {scope.project}")
    await scope.reply(
        element(
            "Project",
            element("Name", text=found),
            element("Type", text="managed"),
            element("Comment", text=""),
            element("State", text="AVAILABLE"),
            element("Properties"),
            element("ExtendedProperties"),
        ),
        headers={
            "x-odps-owner": "",
            "x-odps-creation-time": _LONG_AGO,
            "last-modified": _LONG_AGO,
        },
    )


async def page(scope: Scope) -> None:
    """The projects that the caller may know of."""
    everything = await scope.work(scope.service.engine.projects)
    names = [name for name in everything if scope.service.may_enter(scope.exchange, name)]
    await scope.reply(
        element(
            "Projects",
            element("Marker", text=""),
            element("MaxItems", text=str(len(names))),
            *(element("Project", element("Name", text=name)) for name in names),
        )
    )
