"""Tenants, projects, and where the storage API is."""

from __future__ import annotations

from email.utils import formatdate
from xml.etree import ElementTree as ET

from fletching.server.metadata import security_resources as security
from fletching.server.metadata.documents import element
from fletching.server.metadata.scope import Scope

__all__ = ["catalog_host", "describe", "list_projects", "system", "take_logs", "tenant", "tunnel"]

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
    await scope.reply_json(body)


async def tunnel(scope: Scope) -> None:
    """Endpoint discovery: host and port, without scheme, path or newline."""
    host = scope.service.settings.public_host or scope.exchange.header("host")
    await scope.exchange.reply(host.encode(), content_type="text/plain")


async def catalog_host(scope: Scope) -> None:
    """Where the catalog service is: here."""
    await tunnel(scope)


async def take_logs(scope: Scope) -> None:
    """Clients report their own use; nobody here reads it."""
    await scope.exchange.read_body(_LOG_BYTES)
    await scope.exchange.reply(b"", content_type="text/plain")


async def describe(scope: Scope) -> None:
    """A project, its policy, or how access to it is decided.

    Raises:
        NoSuchProjectError: there is none of this name.
    """
    if "policy" in scope.query:
        await security.policy(scope)
        return
    if "security_configuration" in scope.query:
        await security.configuration(scope)
        return
    result = await scope.require_project()
    schemas = "true" if scope.service.settings.schemas_enabled else "false"
    properties = {"odps.schema.model.enabled": schemas, "odps.sql.type.system.odps2": "true"}
    await scope.reply(
        element(
            "Project",
            element("Name", text=result),
            element("Type", text="managed"),
            element("Comment", text=""),
            element("State", text="AVAILABLE"),
            element("Properties", *_properties(properties)),
            element("ExtendedProperties", *_properties({"odps.table.lifecycle": "optional"})),
        ),
        headers={
            "x-odps-owner": "",
            "x-odps-creation-time": _LONG_AGO,
            "last-modified": _LONG_AGO,
        },
    )


def _properties(values: dict[str, str]) -> list[ET.Element]:
    return [
        element("Property", element("Name", text=name), element("Value", text=value))
        for name, value in values.items()
    ]


async def system(scope: Scope) -> None:
    """What a project's operators are told elsewhere; here there is nothing to be told apart."""
    await scope.reply_json({"Name": await scope.require_project()})


async def list_projects(scope: Scope) -> None:
    """The projects that the caller may know of."""
    everything = await scope.work(scope.service.engine.projects)
    prefix = scope.query.get("name", "").casefold()
    names = [
        name
        for name in everything
        if scope.service.may_enter(scope.exchange, name) and name.casefold().startswith(prefix)
    ]
    await scope.reply(
        element(
            "Projects",
            element("Marker", text=""),
            element("MaxItems", text=str(len(names))),
            *(element("Project", element("Name", text=name)) for name in names),
        )
    )
