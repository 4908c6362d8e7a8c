"""A catalog and an object store in memory, and a way to put segments into them."""

from __future__ import annotations

import io
import itertools
import shutil
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fletching import ipc
from fletching.catalog import table_rows as catalog_tables
from fletching.catalog.database import Database
from fletching.catalog.namespace_rows import ensure_project
from fletching.catalog.opening import open_catalog
from fletching.catalog.publishing import Publication, publish
from fletching.catalog.segment_rows import encode_partition
from fletching.catalog.write_stream_rows import NewSegment
from fletching.engine.engine_settings import EngineSettings
from fletching.engine.reading.read_calls import Reading
from fletching.errors import ObjectNotFoundError
from fletching.ipc import lowlevel
from fletching.protocol.messages.requests import ArrowOptions, CreateReadSession, ReadTable
from fletching.types import TableName

TABLE = TableName("demo", "events")
AS_STORED = ArrowOptions(timestamp_unit=None, datetime_unit=None)


class MemoryObject:
    def __init__(self, key: str, data: bytes, log: list[tuple[str, int, int]]) -> None:
        self.key = key
        self.length = len(data)
        self._view = memoryview(data)
        self._log = log

    def view(self, start: int, end: int) -> memoryview:
        assert 0 <= start <= end <= self.length
        self._log.append((self.key, start, end))
        return self._view[start:end]

    read = view

    def resident(self, start: int, end: int) -> bool:
        return True

    def load(self, start: int, end: int) -> None:
        pass

    def close(self) -> None:
        pass


class MemoryStore:
    """Objects in a dict; remembers which ranges were asked for."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}
        self.views: list[tuple[str, int, int]] = []
        self.opened: list[str] = []

    def open(
        self, key: str, *, length: int | None = None, crc32c: int | None = None
    ) -> MemoryObject:
        self.opened.append(key)
        if key not in self.data:
            raise ObjectNotFoundError("no such object", key=key)
        return MemoryObject(key, self.data[key], self.views)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Shelf:
    """One table, filled segment by segment, with the reading room over it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.store = MemoryStore()
        self.clock = Clock()
        self.reading = self.process()
        self._numbers = itertools.count()
        self.schema: pa.Schema
        self.table_id = "t1"

    def process(self) -> Reading:
        """Another process over the same data: nothing is cached in it."""
        return Reading(self.database, self.store, clock=self.clock, settings=EngineSettings())  # type: ignore[arg-type]  # a reader needs open() alone

    def create(
        self,
        schema: pa.Schema,
        partition_columns: Sequence[tuple[str, str]] = (),
        *,
        schema_message: bytes | None = None,
    ) -> None:
        self.schema = schema
        count = len(schema) + len(partition_columns)
        with self.database.write() as connection:
            ensure_project(connection, "demo", self.clock())
            catalog_tables.insert_table(
                connection,
                table_id=self.table_id,
                name=TABLE,
                partition_columns=partition_columns,
                arrow_schema=schema_message or lowlevel.encode_schema(schema),
                column_ids=[(number + 1,) for number in range(count)],
                next_column_id=count + 1,
                owner="",
                comment="",
                properties={},
                primary_key=(),
                lifecycle_days=None,
                now=self.clock(),
            )

    def add_columns(self, *fields: pa.Field) -> None:
        self._evolve(pa.schema([*self.schema, *fields]))

    def drop_last_column(self) -> None:
        """Of a table without partition columns, whose ids would else move."""
        self._evolve(self.schema.remove(len(self.schema) - 1))

    def _evolve(self, schema: pa.Schema) -> None:
        self.schema = schema
        with self.database.write() as connection:
            table = catalog_tables.lock_table(connection, self.table_id)
            count = len(self.schema) + len(table.partition_columns)
            catalog_tables.add_schema_version(
                connection,
                table,
                arrow_schema=lowlevel.encode_schema(self.schema),
                column_ids=[(number + 1,) for number in range(count)],
                next_column_id=count + 1,
                now=self.clock(),
            )
            publication = Publication(
                connection, table, "change columns", now=self.clock(), data_change=False
            )
            publication.change_schema(table.schema_version + 1)
            publication.commit()

    def add(
        self,
        batches: Iterable[pa.RecordBatch] | pa.RecordBatch,
        partition: Sequence[str] = (),
        *,
        codec: str = "",
        stream: bytes | None = None,
        statistics: bytes | None = None,
        codecs: str | None = None,
    ) -> str:
        """Commits one segment; returns its object key. ``stream`` is stored message by message."""
        if isinstance(batches, pa.RecordBatch):
            batches = [batches]
        sink = io.BytesIO()
        rows: list[int] = []
        if stream is not None:
            messages = list(ipc.messages(stream))
            writer = ipc.FileWriter(sink, messages[0])
            for message in messages[1:]:
                writer.write_message(message)
                if message.type is lowlevel.MessageType.RECORD_BATCH:
                    rows.append(message.record_batch().length)
        else:
            batches = list(batches)
            schema = batches[0].schema if batches else self.schema
            writer = ipc.FileWriter(sink, schema, compression=codec or None)
            for batch in batches:
                writer.write(batch)
                rows.append(batch.num_rows)
        writer.close()
        data = sink.getvalue()
        ids = [
            message.dictionary_batch().id
            for message in ipc.messages(data)
            if message.type is lowlevel.MessageType.DICTIONARY_BATCH
        ]
        key = f"tables/t1/{next(self._numbers)}"
        self.store.data[key] = data
        with self.database.write() as connection:
            table = catalog_tables.lock_table(connection, self.table_id)
            publish(
                connection,
                table,
                [
                    NewSegment(
                        key=key,
                        partition=encode_partition(partition),
                        schema_version=table.schema_version,
                        rows=sum(rows),
                        length=len(data),
                        crc32c=0,
                        batch_index=_index(writer.batches, rows),
                        dictionary_index=_index(writer.dictionaries, ids),
                        codecs=codec if codecs is None else codecs,
                        statistics=statistics,
                    )
                ],
                now=self.clock(),
            )
        return key

    def session(self, **request: Any) -> Any:
        request.setdefault("verbatim_types", True)
        request.setdefault("arrow_options", AS_STORED)
        return self.reading.create_session(CreateReadSession(table=TABLE, **request))

    def plan(self, session: Any, **request: Any) -> Any:
        return self.reading.read(ReadTable(table=TABLE, session_id=session.session_id, **request))

    def read(self, session: Any = None, **request: Any) -> pa.Table:
        """The rows of a TableRead, after proving that plan, bytes and batches agree."""
        return checked_table(self.plan(session or self.session(), **request))


def _index(blocks: Sequence[Any], last: Sequence[int]) -> bytes:
    return b"".join(
        struct.pack("<4q", *block, value) for block, value in zip(blocks, last, strict=True)
    )


def stream_bytes(plan: Any) -> bytes:
    return b"".join(bytes(buffer) for buffer in plan.buffers())


def checked_table(plan: Any) -> pa.Table:
    """Executes a plan both ways; the announced length, schema and rows must be true."""
    data = stream_bytes(plan)
    if plan.length is not None:
        assert len(data) == plan.length
    walked = ipc.messages(data)
    for _ in walked:
        pass
    assert walked.position == len(data)
    with pa.ipc.open_stream(data) as reader:
        assert reader.schema.equals(plan.schema, check_metadata=True)
        table = reader.read_all()
    table.validate(full=True)
    if plan.rows is not None:
        assert table.num_rows == plan.rows
    batches = list(plan.batches())
    assert same_rows(pa.Table.from_batches(batches, plan.schema), table)
    return table


def same_rows(left: pa.Table, other: pa.Table) -> bool:
    """Equality by values; dictionaries may differ where what they encode does not."""
    if left.schema != other.schema or left.num_rows != other.num_rows:
        return False
    return left.equals(other) or left.to_pylist() == other.to_pylist()


@pytest.fixture(scope="session")
def empty_catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated catalog to copy: migrating takes longer than most tests."""
    path = tmp_path_factory.mktemp("catalog") / "catalog.sqlite"
    open_catalog(path).close()
    return path


@pytest.fixture
def make_shelf(empty_catalog: Path, tmp_path: Path) -> Iterator[Any]:
    """Fresh shelves, for properties that need one per example."""
    opened: list[Database] = []

    def make() -> Shelf:
        path = tmp_path / f"catalog-{len(opened)}.sqlite"
        shutil.copy(empty_catalog, path)
        opened.append(Database.open(path))
        return Shelf(opened[-1])

    yield make
    for database in opened:
        database.close()


@pytest.fixture
def shelf(make_shelf: Any) -> Any:
    return make_shelf()
