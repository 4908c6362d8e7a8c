"""A table stored once, in every form the contenders read: segments, Parquet, Lance."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

import fletching
from fletching.engine.engine import Engine

PROJECT = "bench"


@dataclasses.dataclass
class StoredTable:
    """A table in a data folder, and what it is made of."""

    folder: Path
    name: str
    schema: pa.Schema
    rows: int
    batches: Sequence[pa.RecordBatch]

    @functools.cached_property
    def bytes(self) -> int:
        """Bytes of the record batch messages: what a read of everything moves."""
        sizes = {id(batch): pa.ipc.get_record_batch_size(batch) for batch in self.batches}
        return sum(sizes[id(batch)] for batch in self.batches)

    @functools.cached_property
    def segments(self) -> list[Path]:
        """The segment files of this table, in row order."""
        with Engine.open(self.folder) as engine:
            return segment_paths(engine, self.name, self.folder)

    def parquet(self, folder: Path) -> Path:
        """The same rows as an uncompressed Parquet file."""
        import pyarrow.parquet as pq

        path = folder / f"{self.name}.parquet"
        if not path.exists():
            with pq.ParquetWriter(path, self.schema, compression="none") as writer:
                for batch in self.batches:
                    writer.write_batch(batch)
        return path

    def lance(self, folder: Path) -> Path:
        """The same rows as a Lance dataset."""
        import lance

        path = folder / f"{self.name}.lance"
        if not path.exists():
            reader = pa.RecordBatchReader.from_batches(self.schema, iter(self.batches))
            lance.write_dataset(reader, str(path))
        return path


def segment_paths(engine: Engine, name: str, folder: Path) -> list[Path]:
    """Where a table's visible segments lie."""
    from fletching.catalog.segment_rows import visible_segments
    from fletching.catalog.table_rows import get_table
    from fletching.types import TableName

    with engine.context.database.read() as connection:
        table = get_table(connection, TableName(PROJECT, name))
        rows = visible_segments(connection, table.id, table.version)
    return [folder / "objects" / row.key for row in rows]


def store(folder: Path, name: str, batches: Sequence[pa.RecordBatch]) -> StoredTable:
    """Writes a table through the embedded client, one segment per body."""
    schema = batches[0].schema
    with fletching.connect(str(folder), project=PROJECT, create=True) as client:
        table = client.create_table(name, schema)
        table.append(pa.RecordBatchReader.from_batches(schema, iter(batches)))
    return StoredTable(folder, name, schema, sum(batch.num_rows for batch in batches), batches)
