"""Schemas: the namespaces of a project."""

from __future__ import annotations

from email.utils import formatdate

from fletching.errors import InvalidParameterError, NotFoundError
from fletching.protocol.messages.admin import CreateSchema, DropSchema, ListSchemas, SchemaInfo
from fletching.server.metadata.documents import element, parse_root
from fletching.server.metadata.scope import Scope

__all__ = ["create", "describe", "drop", "list_schemas"]

MAX_DOCUMENT_BYTES = 64 * 1024


async def list_schemas(scope: Scope) -> None:
    """All schemas of the project; ``name`` is a prefix."""
    result = await scope.call(ListSchemas(project=scope.project))
    prefix = scope.query.get("name", "").casefold()
    await scope.reply(
        element(
            "Schemas",
            element("Marker", text=""),
            element("MaxItems", text=str(len(result.schemas))),
            *(
                element(
                    "Schema", element("Name", text=info.schema), element("Type", text="MANAGED")
                )
                for info in result.schemas
                if info.schema.casefold().startswith(prefix)
            ),
        )
    )


async def create(scope: Scope) -> None:
    """Adds a schema; its name comes in the body.

    Raises:
        InvalidParameterError: the body has no name.
    """
    root = parse_root(await scope.exchange.read_body(MAX_DOCUMENT_BYTES), "Schema")
    name = (root.findtext("Name") or "").strip()
    if not name:
        raise InvalidParameterError("the schema's Name is missing")
    await scope.call(CreateSchema(project=scope.project, schema=name))
    await scope.exchange.reply(b"", status=201, content_type="application/xml")


async def describe(scope: Scope) -> None:
    """A schema.

    Raises:
        NotFoundError: there is none of this name; clients take only NoSuchObject for that.
    """
    result = await scope.call(ListSchemas(project=scope.project))
    wanted = scope.name.casefold()
    info: SchemaInfo | None = next(
        (item for item in result.schemas if item.schema.casefold() == wanted), None
    )
    if info is None:
        raise NotFoundError(f"there is no schema {scope.name} in project {scope.project}")
    created = formatdate(info.created_at, usegmt=True)
    await scope.reply(
        element("Schema", element("Name", text=info.schema), element("Type", text="MANAGED")),
        headers={
            "x-odps-owner": "",
            "x-odps-creation-time": created,
            "last-modified": created,
        },
    )


async def drop(scope: Scope) -> None:
    """Removes a schema without tables."""
    await scope.call(DropSchema(project=scope.project, schema=scope.name))
    await scope.exchange.reply(b"", content_type="application/xml")
