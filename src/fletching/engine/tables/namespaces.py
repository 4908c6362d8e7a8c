"""Projects, and schemas: namespaces of tables inside a project. The default one is always there."""

from __future__ import annotations

import re
from collections.abc import MutableSequence

from sqlalchemy import Connection

from fletching.catalog import namespace_rows as catalog_namespaces
from fletching.catalog import table_rows as catalog
from fletching.engine.changes.made_changes import check_key, intent_of, remember, replayed, scope_of
from fletching.engine.context import EngineContext
from fletching.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidArgumentError,
    NoSuchProjectError,
    NoSuchSchemaError,
)
from fletching.protocol.messages.admin import (
    CreateProject,
    CreateSchema,
    DropSchema,
    ListSchemas,
    SchemaInfo,
    SchemaPage,
)
from fletching.protocol.messages.responses import Changed, Done
from fletching.types import DEFAULT_SCHEMA

__all__ = ["Namespaces"]

_NAME = re.compile(r"[A-Za-z0-9_]{1,128}")


class Namespaces:
    """Lists, creates and drops schemas, and creates projects. Thread-safe."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context

    def list(self, request: ListSchemas) -> SchemaPage:
        """All schemas of a project in name order.

        Raises:
            NoSuchProjectError: there is no such project.
        """
        with self._context.database.read() as connection:
            result = self._schemas(connection, request.project)
        if DEFAULT_SCHEMA not in {name.casefold() for name, _ in result}:
            result.append((DEFAULT_SCHEMA, 0.0))
        return SchemaPage(
            schemas=tuple(
                SchemaInfo(project=request.project, schema=name, created_at=created_at)
                for name, created_at in sorted(result, key=lambda item: item[0].casefold())
            )
        )

    def _schemas(self, connection: Connection, project: str) -> MutableSequence[tuple[str, float]]:
        """Names and creation times; where projects come into being by use, an unused one is an empty one."""
        try:
            return catalog_namespaces.list_schemas(connection, project)
        except NoSuchProjectError:
            if not self._context.settings.create_projects:
                raise
            return []

    def create_project(self, request: CreateProject) -> Done:
        """Adds a project without tables.

        Raises:
            InvalidArgumentError: the name has other characters than letters, digits and ``_``.
            AlreadyExistsError: it is there, unless ``if_not_exists``.
        """
        if not _NAME.fullmatch(request.project):
            raise InvalidArgumentError(
                f"project name {request.project[:40]!r} is not 1 to 128 letters, digits or _"
            )
        now, key = self._context.clock(), request.idempotency_key
        check_key(key)
        scope, intent = scope_of(request.project), intent_of(request, "create project")
        with self._context.database.write() as connection:
            is_there = catalog_namespaces.hold_project(connection, request.project)
            if replayed(connection, scope, key, intent):
                return Done()
            if is_there and not request.if_not_exists:
                raise AlreadyExistsError(f"project {request.project} already exists")
            catalog_namespaces.ensure_project(connection, request.project, now)
            remember(connection, scope, key, Changed(version=0), intent, now=now)
        return Done()

    def create(self, request: CreateSchema) -> SchemaInfo:
        """Adds an empty schema.

        Raises:
            InvalidArgumentError: the name has other characters than letters, digits and ``_``.
            NoSuchProjectError: there is no such project.
            AlreadyExistsError: it is there, unless ``if_not_exists``.
        """
        if not _NAME.fullmatch(request.schema):
            raise InvalidArgumentError(
                f"schema name {request.schema[:40]!r} is not 1 to 128 letters, digits or _"
            )
        name, key = request.schema.casefold(), request.idempotency_key
        now = self._context.clock()
        check_key(key)
        scope = scope_of(f"{request.project}.{request.schema}")
        intent = intent_of(request, "create schema")
        with self._context.database.write() as connection:
            if self._context.settings.create_projects:
                catalog_namespaces.ensure_project(connection, request.project, now)
            catalog_namespaces.hold_project(connection, request.project)
            known = {
                name.casefold(): created_at
                for name, created_at in catalog_namespaces.list_schemas(connection, request.project)
            }
            if replayed(connection, scope, key, intent) is None:
                if (name in known or name == DEFAULT_SCHEMA) and not request.if_not_exists:
                    raise AlreadyExistsError(f"schema {request.schema} already exists")
                catalog_namespaces.ensure_schema(connection, request.project, request.schema, now)
                remember(connection, scope, key, Changed(version=0), intent, now=now)
        created_at = known.get(name, now)
        return SchemaInfo(project=request.project, schema=request.schema, created_at=created_at)

    def drop(self, request: DropSchema) -> Done:
        """Removes a schema without tables.

        Raises:
            InvalidArgumentError: it is the default schema.
            NoSuchProjectError: there is no such project.
            NoSuchSchemaError: there is no such schema, unless ``if_exists``.
            ConflictError: it still has tables.
        """
        key, now = request.idempotency_key, self._context.clock()
        if request.schema.casefold() == DEFAULT_SCHEMA:
            raise InvalidArgumentError("the default schema cannot be dropped")
        check_key(key)
        scope = scope_of(f"{request.project}.{request.schema}")
        intent = intent_of(request, "drop schema")
        with self._context.database.write() as connection:
            # Also so that nobody makes a table in it meanwhile.
            catalog_namespaces.hold_project(connection, request.project)
            if replayed(connection, scope, key, intent) is None:
                self._drop(connection, request)
                remember(connection, scope, key, Changed(version=0), intent, now=now)
        return Done()

    def _drop(self, connection: Connection, request: DropSchema) -> None:
        known = {name.casefold() for name, _ in self._schemas(connection, request.project)}
        if request.schema.casefold() not in known:
            if request.if_exists:
                return
            raise NoSuchSchemaError(
                f"there is no schema {request.schema} in project {request.project}"
            )
        tables = catalog.list_tables(
            connection, request.project, request.schema, prefix="", marker="", limit=1
        )
        if tables:
            raise ConflictError(
                f"schema {request.schema} still has tables, such as {tables[0].name.name}"
            )
        catalog_namespaces.drop_schema(connection, request.project, request.schema)
