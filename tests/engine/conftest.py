"""An engine in a temporary folder with a clock that tests move, and short ways to talk to it."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fletching.engine.engine import Engine
from fletching.engine.engine_settings import EngineSettings
from fletching.ipc import lowlevel
from fletching.objects.store import IDENTITY_KEY
from fletching.protocol.messages.admin import CreateTable, DescribeTable, TableInfo
from fletching.protocol.messages.requests import (
    AbortWriteSession,
    CloseWriteStream,
    CommitWriteSession,
    CreateReadSession,
    CreateWriteSession,
    CreateWriteStream,
    GetWriteStream,
    ReadTable,
    WriteTable,
)
from fletching.protocol.messages.responses import WriteResult
from fletching.types import PartitionSpec, TableName

T = TableName("demo", "t")


class ManualClock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def stream_bytes(batches: Sequence[Any], schema: Any, **options: Any) -> bytes:
    """An Arrow IPC stream, as a client sends it."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


class House:
    """An engine and the calls tests make again and again."""

    table = T
    stream_bytes = staticmethod(stream_bytes)

    def __init__(self, engine: Engine, clock: ManualClock) -> None:
        self.engine = engine
        self.clock = clock

    def create(
        self, schema: Any, partition_by: Sequence[str] = (), table: TableName = T, **options: Any
    ) -> TableInfo:
        request = CreateTable(
            table=table,
            arrow_schema=lowlevel.encode_schema(schema),
            partition_columns=tuple((name, "string") for name in partition_by),
            **options,
        )
        info = self.engine.call(request)
        assert isinstance(info, TableInfo)
        return info

    def describe(self, table: TableName = T) -> TableInfo:
        info = self.engine.call(DescribeTable(table=table))
        assert isinstance(info, TableInfo)
        return info

    def session(self, partition: str = "", table: TableName = T, **options: Any) -> str:
        request = CreateWriteSession(
            table=table, partition=PartitionSpec.parse(partition), **options
        )
        return str(self.engine.call(request).session_id)

    def stream(self, session: str, stream: str = "s", version: int = 1, **options: Any) -> Any:
        return self.engine.call(
            CreateWriteStream(
                table=options.pop("table", T),
                session_id=session,
                stream_id=stream,
                stream_version=version,
                **options,
            )
        )

    def look(self, session: str, stream: str = "s", version: int = 1, **options: Any) -> Any:
        return self.engine.call(
            GetWriteStream(
                table=T, session_id=session, stream_id=stream, stream_version=version, **options
            )
        )

    def close(self, session: str, stream: str = "s", version: int = 1, table: TableName = T) -> Any:
        return self.engine.call(
            CloseWriteStream(
                table=table, session_id=session, stream_id=stream, stream_version=version
            )
        )

    def commit(self, session: str, table: TableName = T, **options: Any) -> Any:
        return self.engine.call(CommitWriteSession(table=table, session_id=session, **options))

    def abort(self, session: str, table: TableName = T) -> Any:
        return self.engine.call(AbortWriteSession(table=table, session_id=session))

    def send(
        self, body: bytes, session: str, stream: str = "s", version: int = 1, **options: Any
    ) -> WriteResult:
        """One TableWrite, its body fed as one chunk."""
        ingest = self.engine.open_ingest(
            WriteTable(
                table=options.pop("table", T),
                session_id=session,
                stream_id=stream,
                stream_version=version,
                **options,
            )
        )
        try:
            ingest.decoder.feed(body)
            ingest.accept(list(ingest.decoder))
            return ingest.finish()
        except BaseException:
            ingest.abort()
            raise

    def write(
        self, data: Any, session: str, stream: str = "s", version: int = 1, **options: Any
    ) -> WriteResult:
        """One TableWrite of a table, batch or list of batches."""
        if isinstance(data, pa.RecordBatch):
            data = [data]
        batches = data.to_batches() if isinstance(data, pa.Table) else list(data)
        schema = data.schema if isinstance(data, pa.Table) else batches[0].schema
        return self.send(stream_bytes(batches, schema), session, stream, version, **options)

    def append(self, data: Any, partition: str = "", table: TableName = T, **options: Any) -> str:
        """A whole write session: one stream, committed."""
        session = self.session(partition, table=table, **options)
        self.stream(session, table=table)
        self.write(data, session, table=table)
        self.close(session, table=table)
        self.commit(session, table=table)
        return session

    def open_read(self, table: TableName = T, **options: Any) -> str:
        request = CreateReadSession(table=table, verbatim_types=True, **options)
        return str(self.engine.call(request).session_id)

    def read_session(self, session: str, table: TableName = T) -> Any:
        plan = self.engine.read(ReadTable(table=table, session_id=session))
        return pa.ipc.open_stream(b"".join(bytes(piece) for piece in plan.buffers())).read_all()

    def plan(self, table: TableName = T, **options: Any) -> Any:
        """The plan of a read of a new session; options as of `ReadTable`."""
        session = self.open_read(table)
        return self.engine.read(ReadTable(table=table, session_id=session, **options))

    def read(self, table: TableName = T, **options: Any) -> Any:
        return self.read_session(self.open_read(table, **options), table)

    def object_keys(self) -> set[str]:
        """Every object in the store."""
        return {info.key for info in self.engine.context.store.list("tables")}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


Opener = Callable[..., House]


@pytest.fixture(scope="session")
def empty_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty data folder to copy: running the migrations takes most of a short test's time."""
    folder = tmp_path_factory.mktemp("empty") / "data"
    Engine.open(folder).close()
    return folder


@pytest.fixture
def catalog(request: pytest.FixtureRequest) -> str:
    """Which database keeps the catalog; `on_both_databases` asks for each."""
    return str(getattr(request, "param", "postgresql" if ELSEWHERE else "sqlite"))


on_both_databases = pytest.mark.parametrize("catalog", ["sqlite", "postgresql"], indirect=True)


# Runs of `make test-cluster` keep every catalog in PostgreSQL and every object in S3, where a test does
# not say otherwise; those that look into the folder's files are left out.
ELSEWHERE = os.environ.get("FLETCHING_TEST_ELSEWHERE") == "1"
in_a_folder = pytest.mark.skipif(ELSEWHERE, reason="looks at the files of a data folder")


@pytest.fixture
def objects_url(request: pytest.FixtureRequest) -> Callable[[Path], str | None]:
    """The setting ``objects_url`` of a folder: None, or a place in S3 for each folder."""
    if not ELSEWHERE:
        return lambda _folder: None
    s3 = request.getfixturevalue("s3")
    urls: dict[Path, str] = {}
    return lambda folder: urls.setdefault(folder, s3.create())


@pytest.fixture
def catalog_url(catalog: str, request: pytest.FixtureRequest) -> Callable[[Path], str | None]:
    """The setting ``catalog_url`` of a folder: None for SQLite, else a database for each folder."""
    if catalog == "sqlite":
        return lambda _folder: None
    databases = request.getfixturevalue("postgresql")
    urls: dict[Path, str] = {}

    def of(folder: Path) -> str:
        if folder not in urls:
            urls[folder] = databases.create()
        return urls[folder]

    return of


@pytest.fixture
def open_house(
    tmp_path: Path,
    clock: ManualClock,
    empty_folder: Path,
    catalog_url: Callable[[Path], str | None],
    objects_url: Callable[[Path], str | None],
) -> Iterator[Opener]:
    engines: list[Engine] = []

    def open_(folder: str = "data", **settings: Any) -> House:
        store = settings.pop("store", None)
        settings.setdefault("catalog_url", catalog_url(tmp_path / folder))
        if store is None:
            settings.setdefault("objects_url", objects_url(tmp_path / folder))
        catalog = tmp_path / folder / "catalog.sqlite"
        if not catalog.exists() and settings["catalog_url"] is None:
            shutil.copytree(empty_folder, tmp_path / folder, dirs_exist_ok=True)
            if store is not None or settings["objects_url"] is not None:
                # Objects are somewhere else, which has no identity yet; as in an opening that was cut short.
                (tmp_path / folder / "objects" / IDENTITY_KEY).unlink()
                with contextlib.closing(sqlite3.connect(catalog)) as made:
                    made.execute("UPDATE store_identity SET key_fingerprint = NULL")
                    made.commit()
        engine = Engine.open(
            tmp_path / folder, settings=EngineSettings(**settings), clock=clock, store=store
        )
        engines.append(engine)
        return House(engine, clock)

    yield open_
    for engine in engines:
        engine.close()


@pytest.fixture
def house(open_house: Opener) -> House:
    return open_house()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The write lock, in the hands of somebody else."""
    connection = sqlite3.connect(folder / "catalog.sqlite", isolation_level=None, timeout=600)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()
