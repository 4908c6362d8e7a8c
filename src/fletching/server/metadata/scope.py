"""What a metadata handler works with: the request, the names in its path, replies in XML."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TypeVar
from xml.etree import ElementTree as ET

import msgspec

from fletching.errors import (
    InvalidArgumentError,
    InvalidParameterError,
    NoSuchProjectError,
    NotFoundError,
    UsageError,
)
from fletching.protocol.http.numbers import parse_count
from fletching.protocol.messages.admin import ListSchemas
from fletching.protocol.messages.requests import Reply_co, Request
from fletching.server.http.exchange import Exchange
from fletching.server.metadata.documents import render
from fletching.server.service import Service
from fletching.sql.statements.statement_kinds import Namespace
from fletching.sql.statements.table_properties import TIERED
from fletching.types import DEFAULT_SCHEMA, PartitionSpec, TableName

__all__ = ["Scope", "namespace_of"]

_Result = TypeVar("_Result")

MAX_PAGE = 1000


@dataclasses.dataclass(frozen=True)
class Scope:
    """One metadata request.

    Attributes:
        exchange: the request and its reply.
        service: the engine and its limits.
        project: from the path.
        name: of the table, instance or schema in the path, or nothing.
        resolved_schema: in place of the one in the query; see `with_schema`.
    """

    exchange: Exchange
    service: Service
    project: str
    name: str
    resolved_schema: str = ""

    @property
    def query(self) -> dict[str, str]:
        """The query parameters; flags like ``?extended`` have an empty value."""
        return dict(self.exchange.query)

    @property
    def schema(self) -> str:
        """The schema that the request is about: ``curr_schema``, or the default."""
        query = self.query
        return (
            self.resolved_schema
            or query.get("curr_schema")
            or query.get("schema_name")
            or DEFAULT_SCHEMA
        )

    @property
    def table(self) -> TableName:
        """The table in the path."""
        return TableName(self.project, self.name, self.schema)

    @property
    def max_items(self) -> int:
        """How many items a page may have."""
        text = self.query.get("maxitems") or str(MAX_PAGE)
        items = parse_count(text)
        if not items:
            raise InvalidParameterError(f"maxitems is {text[:20]!r}, not a count")
        return min(items, MAX_PAGE)

    def partition(self, text: str) -> PartitionSpec:
        """Reads a partition parameter: ``pt='x',n='1'``.

        Raises:
            InvalidArgumentError: it has another form.
        """
        try:
            return PartitionSpec.parse(text)
        except UsageError as error:
            raise InvalidArgumentError(error.message[:300]) from error

    async def require_project(self) -> str:
        """The project in the path, spelt as it was created.

        Raises:
            NoSuchProjectError: there is none, or the caller may not know of it.
        """
        names = await self.work(self.service.engine.projects)
        wanted = self.project.casefold()
        result = next((name for name in names if name.casefold() == wanted), None)
        if result is None or not self.service.may_enter(self.exchange, result):
            raise NoSuchProjectError(f"there is no project {self.project}")
        return result

    async def with_schema(self) -> Scope:
        """The same, with the schema that its tables are in.

        Clients of databases know two names before a table's: where schemas are no namespaces the first
        is the project, also for those that send it as a schema.
        """
        if self.schema.casefold() != self.project.casefold() or await self._has_schema():
            return self
        return dataclasses.replace(self, resolved_schema=DEFAULT_SCHEMA)

    async def require_schema(self) -> None:
        """Checks the schema that the request is about.

        Raises:
            NotFoundError: there is none; clients take only NoSuchObject for that.
        """
        if not await self._has_schema():
            raise NotFoundError(f"there is no schema {self.schema[:100]} in project {self.project}")

    async def _has_schema(self) -> bool:
        wanted = self.schema.casefold()
        if wanted == DEFAULT_SCHEMA:
            return True
        page = await self.call(ListSchemas(project=self.project))
        return any(info.schema.casefold() == wanted for info in page.schemas)

    async def call(self, request: Request[Reply_co]) -> Reply_co:
        """Asks the engine, if the caller may; what the caller may not know of is left out."""
        self.service.authorize(self.exchange, request)
        response = await self.service.call(request)
        return self.service.visible(self.exchange, response)

    async def work(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        """Runs something short that reads the catalog in a worker."""
        return await self.service.workers.io.run(function, *arguments)

    async def long_work(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        """Runs something that takes as long as its data is large in a worker."""
        return await self.service.workers.query.run(function, *arguments)

    async def reply(
        self, root: ET.Element, *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        """Answers with an XML document."""
        await self.exchange.reply(
            render(root), status=status, content_type="application/xml", headers=headers
        )

    async def reply_json(
        self, document: object, *, headers: Mapping[str, str] | None = None
    ) -> None:
        """Answers with a JSON document."""
        await self.exchange.reply(msgspec.json.encode(document), headers=headers)


def namespace_of(scope: Scope, settings: Mapping[str, str]) -> Namespace:
    """Where names in a statement belong that have no project or schema, by the client's settings."""

    def enabled(name: str) -> bool:
        return settings.get(name, "").lower() == "true"

    return Namespace(
        project=scope.project,
        schema=settings.get("odps.default.schema") or scope.schema,
        schemas_enabled=enabled("odps.namespace.schema")
        or enabled("odps.sql.allow.namespace.schema")
        or scope.service.settings.schemas_enabled,
        tiered=enabled(TIERED),
    )
