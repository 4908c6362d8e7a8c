"""SQL instances: statements that were run, and what came of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from sqlalchemy import Connection, delete, insert, select, tuple_, update

from fletching.catalog.parameter_chunks import chunks
from fletching.catalog.schema import instances

__all__ = [
    "InstanceFilter",
    "InstanceRow",
    "ask_to_cancel",
    "asked_to_cancel",
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
    kind: str = "SQL"
    source: str = ""
    server: str = ""
    cancel_asked: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class InstanceFilter:
    """Which instances of a project are wanted.

    Attributes:
        running: those that run, or that have ended; None for both.
        since, until: when they began, in seconds since the epoch; ``until`` is not included.
        owner: who ran them; None for anybody.
        task_name: what their client called them; None for anything.
        without_kind: a kind that is not wanted.
    """

    running: bool | None = None
    since: float | None = None
    until: float | None = None
    owner: str | None = None
    task_name: str | None = None
    without_kind: str = "SQLRT"


def insert_instance(connection: Connection, row: InstanceRow) -> None:
    """Keeps an instance."""
    connection.execute(insert(instances).values(**dataclasses.asdict(row)))


def update_instance(connection: Connection, row: InstanceRow) -> None:
    """Keeps what came of an instance that was kept while it ran; the first outcome stays."""
    connection.execute(
        update(instances)
        .where(instances.c.id == row.id, instances.c.ended_at == 0)
        .values(**dataclasses.asdict(row))
    )


def replace_instance(connection: Connection, known: InstanceRow, row: InstanceRow) -> bool:
    """Begins an instance anew in the place of what is known of it; False if that has changed."""
    result = connection.execute(
        update(instances)
        .where(
            instances.c.id == known.id,
            instances.c.ended_at == known.ended_at,
            instances.c.created_at == known.created_at,
            instances.c.server == known.server,
        )
        .values(**dataclasses.asdict(row))
        .returning(instances.c.id)
    )
    return result.first() is not None


def ask_to_cancel(connection: Connection, instance_id: str) -> bool:
    """Asks whoever runs an instance to end it; False if it has ended."""
    result = connection.execute(
        update(instances)
        .where(instances.c.id == instance_id, instances.c.ended_at == 0)
        .values(cancel_asked=True)
        .returning(instances.c.id)
    )
    return result.first() is not None


def asked_to_cancel(connection: Connection, ids: Collection[str]) -> list[str]:
    """Which of some instances somebody wants to end."""
    result: list[str] = []
    for chunk in chunks(sorted(ids)):
        asked = select(instances.c.id).where(instances.c.id.in_(chunk), instances.c.cancel_asked)
        result += connection.execute(asked).scalars()
    return result


def find_instance(
    connection: Connection, project: str | None, instance_id: str
) -> InstanceRow | None:
    """Looks an instance of a project up, or of any project; None if there is none."""
    query = select(instances).where(instances.c.id == instance_id)
    if project is not None:
        query = query.where(instances.c.project_key == project.casefold())
    row = connection.execute(query).first()
    return None if row is None else InstanceRow(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name


def list_instances(
    connection: Connection,
    project: str,
    limit: int,
    wanted: InstanceFilter,
    after: tuple[float, str] | None = None,
) -> list[InstanceRow]:
    """The newest instances of a project, newest first.

    Args:
        connection: to read with.
        project: whose.
        limit: how many at most.
        wanted: which of them.
        after: (``created_at``, ``id``) of the last one that the caller has.
    """
    table = instances.c
    query = select(instances).where(
        table.project_key == project.casefold(), table.kind != wanted.without_kind
    )
    if wanted.running is not None:
        query = query.where(table.ended_at == 0 if wanted.running else table.ended_at != 0)
    if wanted.since is not None:
        query = query.where(table.created_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(table.created_at < wanted.until)
    if wanted.owner is not None:
        query = query.where(table.owner == wanted.owner)
    if wanted.task_name is not None:
        query = query.where(table.task_name == wanted.task_name)
    if after is not None:
        query = query.where(tuple_(table.created_at, table.id) < tuple_(*after))
    rows = connection.execute(query.order_by(table.created_at.desc(), table.id.desc()).limit(limit))
    return [InstanceRow(**row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's public name


def forget_instances(connection: Connection, before: float) -> None:
    """Removes instances that were created before a moment."""
    connection.execute(delete(instances).where(instances.c.created_at < before))
