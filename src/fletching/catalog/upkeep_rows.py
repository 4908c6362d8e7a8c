"""The last run of each task of upkeep: what a later reader asks, and whoever ran one records."""

from __future__ import annotations

import dataclasses
import json

from sqlalchemy import Connection, select, update

from fletching.catalog.database import insert_unless_there
from fletching.catalog.schema import upkeep_runs

__all__ = ["UpkeepRun", "last_runs", "record_run"]


@dataclasses.dataclass(frozen=True, slots=True)
class UpkeepRun:
    """A run that has ended. Times are seconds since the epoch."""

    task: str
    started_at: float
    ended_at: float
    place: str
    """The machine, and the process on it, that ran the task."""
    summary: str
    """What it did, in words."""
    problem_count: int
    problems: tuple[str, ...]
    """The first problems that it found."""


def record_run(connection: Connection, run: UpkeepRun) -> None:
    """Puts a run that has ended just now in the place of the one before of its task."""
    values = dataclasses.asdict(run) | {"problems": json.dumps(run.problems)}
    if insert_unless_there(connection, upkeep_runs, **values):
        return
    connection.execute(update(upkeep_runs).where(upkeep_runs.c.task == run.task).values(**values))


def last_runs(connection: Connection) -> dict[str, UpkeepRun]:
    """The last run of each task that was ever run, by task."""
    columns = [upkeep_runs.c[field.name] for field in dataclasses.fields(UpkeepRun)]
    result = {}
    for row in connection.execute(select(*columns)):
        values = row._asdict()
        values["problems"] = tuple(json.loads(values["problems"]))
        result[row.task] = UpkeepRun(**values)
    return result
