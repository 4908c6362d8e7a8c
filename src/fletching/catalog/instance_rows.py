"""SQL instances: statements that were run, and what came of them."""

from __future__ import annotations

import dataclasses

from sqlalchemy import Connection, delete, insert, select, update

from fletching.catalog.schema import instances

__all__ = [
    "InstanceRow",
    "find_instance",
    "forget_instances",
    "insert_instance",
    "list_instances",
    "update_instance",
]


@dataclasses.dataclass(frozen=True, slots=True)
class InstanceRow:
    """A row of ``instances``. Times are seconds since the epoch; ``ended_at`` is 0 while it runs."""

    id: str
    project_key: str
    owner: str
    task_name: str
    statement: str
    succeeded: bool
    result: str
    selection: bytes | None
    created_at: float
    ended_at: float


def insert_instance(connection: Connection, row: InstanceRow) -> None:
    """Keeps an instance."""
    connection.execute(insert(instances).values(**dataclasses.asdict(row)))


def update_instance(connection: Connection, row: InstanceRow) -> None:
    """Keeps what came of an instance that was kept while it ran."""
    connection.execute(
        update(instances).where(instances.c.id == row.id).values(**dataclasses.asdict(row))
    )


def find_instance(connection: Connection, project: str, instance_id: str) -> InstanceRow | None:
    """Looks an instance of a project up; None if there is none."""
    row = connection.execute(
        select(instances).where(
            instances.c.id == instance_id, instances.c.project_key == project.casefold()
        )
    ).first()
    return None if row is None else InstanceRow(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name


def list_instances(connection: Connection, project: str, limit: int) -> list[InstanceRow]:
    """The newest instances of a project, newest first."""
    rows = connection.execute(
        select(instances)
        .where(instances.c.project_key == project.casefold())
        .order_by(instances.c.created_at.desc())
        .limit(limit)
    )
    return [InstanceRow(**row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's public name


def forget_instances(connection: Connection, before: float) -> None:
    """Removes instances that were created before a moment."""
    connection.execute(delete(instances).where(instances.c.created_at < before))
