"""Projects and schemas: the names that tables are found under."""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, insert, select

from fletching.catalog.database import insert_unless_there
from fletching.catalog.schema import projects, schemas
from fletching.errors import NoSuchProjectError

__all__ = [
    "check_project",
    "drop_schema",
    "ensure_project",
    "ensure_schema",
    "hold_project",
    "list_projects",
    "list_schemas",
]

_PROJECT_LOCKS = 19_371
"""The first half of PostgreSQL's locks on names of projects that have no row; any number that nothing else uses."""


def ensure_project(connection: Connection, project: str, now: float) -> None:
    """Creates a project unless it exists."""
    insert_unless_there(
        connection, projects, name_key=project.casefold(), name=project, created_at=now
    )


def check_project(connection: Connection, project: str) -> None:
    """Looks whether there is a project.

    Raises:
        NoSuchProjectError: there is none.
    """
    known = select(projects.c.name).where(projects.c.name_key == project.casefold())
    if connection.execute(known).first() is None:
        raise NoSuchProjectError(f"there is no project {project}")


def hold_project(connection: Connection, project: str) -> bool:
    """Whether there is a project; of several who change what has names in it, the later ones wait for the first.

    So do those who ask for a project that is still to be made, and they find it when it is.
    """
    held = select(projects.c.name).where(projects.c.name_key == project.casefold())
    held = held.with_for_update()
    if connection.execute(held).first() is not None:
        return True
    if connection.dialect.name != "postgresql":
        return False  # SQLite has one writer at a time
    name = func.hashtext(project.casefold())
    connection.execute(select(func.pg_advisory_xact_lock(_PROJECT_LOCKS, name)))
    return connection.execute(held).first() is not None


def ensure_schema(connection: Connection, project: str, schema: str, now: float) -> None:
    """Creates a schema unless it exists.

    Raises:
        NoSuchProjectError: there is no such project.
    """
    project_key, key = project.casefold(), schema.casefold()
    if not hold_project(connection, project):
        raise NoSuchProjectError(
            f"there is no project {project}; it is made by fletching.connect(..., create=True)"
        )
    result = connection.execute(
        select(schemas.c.name).where(
            schemas.c.project_key == project_key, schemas.c.name_key == key
        )
    ).first()
    if result is None:
        connection.execute(
            insert(schemas).values(
                project_key=project_key, name_key=key, name=schema, created_at=now
            )
        )


def list_schemas(connection: Connection, project: str) -> list[tuple[str, float]]:
    """Names and creation times of a project's schemas.

    Raises:
        NoSuchProjectError: there is no such project.
    """
    check_project(connection, project)
    rows = connection.execute(
        select(schemas.c.name, schemas.c.created_at)
        .where(schemas.c.project_key == project.casefold())
        .order_by(schemas.c.name_key)
    )
    return [(name, created_at) for name, created_at in rows]


def drop_schema(connection: Connection, project: str, schema: str) -> None:
    """Forgets a schema; that it has no tables is the caller's business."""
    connection.execute(
        delete(schemas).where(
            schemas.c.project_key == project.casefold(), schemas.c.name_key == schema.casefold()
        )
    )


def list_projects(connection: Connection) -> list[str]:
    """Names of all projects, in order."""
    return list(connection.execute(select(projects.c.name).order_by(projects.c.name_key)).scalars())
