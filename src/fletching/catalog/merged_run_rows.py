"""Which key runs of many segments there are, and of which segments each has the entries."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, delete, insert, select

from fletching.catalog.parameter_chunks import IN_LIMIT, chunks
from fletching.catalog.schema import merged_runs
from fletching.errors import CorruptObjectError

__all__ = [
    "MergedRunRow",
    "encode_owners",
    "every_merged_run",
    "forget_merged_runs",
    "insert_merged_run",
    "is_known_run",
    "merged_runs_of",
]


class MergedRunRow(NamedTuple):
    """A key run of many segments of one partition."""

    id: int
    key: str
    partition: str
    """JSON array of partition values."""
    entries: int
    length: int
    """Bytes of the object, all of which are the run."""
    owners: bytes

    def owner_keys(self) -> list[str]:
        """The segments' keys; entries name them by their places in this list.

        Raises:
            CorruptObjectError: what the catalog has is no list of keys.
        """
        try:
            return zlib.decompress(self.owners).decode().split("\n")
        except (zlib.error, UnicodeDecodeError) as error:
            raise CorruptObjectError(
                "the list of a merged key run's segments is damaged", key=self.key
            ) from error


_COLUMNS = [merged_runs.c[{"length": "bytes"}.get(name, name)] for name in MergedRunRow._fields]


def encode_owners(keys: Sequence[str]) -> bytes:
    """What the catalog keeps of the segments' keys."""
    return zlib.compress("\n".join(keys).encode())


def merged_runs_of(
    connection: Connection, table_id: str, partitions: Collection[str] | None = None
) -> list[MergedRunRow]:
    """The merged runs of a table, of some partitions (the catalog's text) or all."""
    statement = select(*_COLUMNS).where(merged_runs.c.table_id == table_id)
    if partitions is not None and len(partitions) <= IN_LIMIT:
        statement = statement.where(merged_runs.c.partition.in_(sorted(partitions)))
    return [MergedRunRow._make(row) for row in connection.execute(statement)]


def every_merged_run(connection: Connection) -> list[tuple[str, MergedRunRow]]:
    """All merged runs of all tables, with their tables' ids."""
    result = connection.execute(select(merged_runs.c.table_id, *_COLUMNS))
    return [(table_id, MergedRunRow._make(row)) for table_id, *row in result]


def is_known_run(connection: Connection, key: str) -> bool:
    """Whether the catalog has a merged run."""
    result = connection.execute(select(merged_runs.c.id).where(merged_runs.c.key == key))
    return result.first() is not None


def insert_merged_run(connection: Connection, table_id: str, row: MergedRunRow) -> None:
    """Adds a run, whose object is durable; the row's id is not looked at."""
    values = {"bytes" if name == "length" else name: part for name, part in row._asdict().items()}
    del values["id"]
    connection.execute(insert(merged_runs).values(table_id=table_id, **values))


def forget_merged_runs(connection: Connection, ids: Collection[int]) -> None:
    """Forgets runs; their objects are the caller's to delete after the transaction."""
    for chunk in chunks(sorted(ids)):
        connection.execute(delete(merged_runs).where(merged_runs.c.id.in_(chunk)))
