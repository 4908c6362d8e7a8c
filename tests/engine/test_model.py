"""Random histories of an engine against a model made of dicts.

The model knows, per table version, which rows are visible; per session what is staged; per stream
the offset. Everything is checked again after reopening, compaction and retention.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)
from tests.engine.conftest import ELSEWHERE
from tests.postgresql import Databases
from tests.processes import memory_or_disk
from tests.seaweedfs import ObjectStorage

from fletching.engine.engine import Engine
from fletching.engine.engine_settings import EngineSettings
from fletching.errors import (
    ConflictError,
    InvalidArgumentError,
    NoPermissionError,
    NotFoundError,
    RowOffsetError,
)
from fletching.ipc import lowlevel
from fletching.protocol.messages.admin import (
    CreateTable,
    DescribeTable,
    DropPartition,
    ListPartitions,
)
from fletching.protocol.messages.requests import (
    AbortWriteSession,
    CloseWriteStream,
    CommitWriteSession,
    CreateReadSession,
    CreateWriteSession,
    CreateWriteStream,
    GetWriteSession,
    GetWriteStream,
    ReadTable,
    WriteTable,
)
from fletching.types import PartitionSpec, TableName

T = TableName("demo", "t")
PARTITIONS = ("a", "b", "c")
DATA = pa.schema([("id", pa.int64()), ("pt", pa.string())])
SETTINGS = EngineSettings(
    write_session_seconds=1000.0,
    read_session_seconds=1000.0,
    removed_seconds=50.0,
    retain_seconds=50.0,
    orphan_seconds=50.0,
)

Row = tuple[int, str]


@dataclasses.dataclass
class Attempt:
    rows: list[Row]
    closed: bool = False
    traces: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Session:
    id: str
    partition: str | None
    overwrite: bool
    expires: float
    state: str = "open"
    request: Any = None
    attempts: dict[tuple[str, int], Attempt] = dataclasses.field(default_factory=dict)


class EngineMachine(RuleBasedStateMachine):
    sessions = Bundle("sessions")
    readers = Bundle("readers")

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=memory_or_disk()))
        self.now = 1_800_000_000.0
        self.visible: Counter[Row] = Counter()
        self.partitions: set[str] = set()
        self.next_id = 0
        self.offset = 0
        self.token: str | None = None
        self.old_tokens: list[str] = []
        self.history: list[list[Row]] = []
        self.prepare()
        self.engine = self.open()
        self.call(
            CreateTable(
                table=T,
                arrow_schema=lowlevel.encode_schema(pa.schema([DATA.field(0)])),
                partition_columns=(("pt", "string"),),
            )
        )

    empty: Path
    settings_: EngineSettings = SETTINGS

    def prepare(self) -> None:
        shutil.copytree(type(self).empty, self.folder, dirs_exist_ok=True)

    def open(self) -> Engine:
        return Engine.open(self.folder, settings=self.settings_, clock=lambda: self.now)

    def call(self, request: Any) -> Any:
        return self.engine.call(request)

    def rows(self, count: int, partition: str | None, pick: int) -> list[Row]:
        made = []
        for number in range(count):
            name = partition or PARTITIONS[(pick + number * (pick % 3)) % 3]
            made.append((self.next_id + number, name))
        self.next_id += count
        return made

    def body(self, rows: list[Row], *, dynamic: bool) -> bytes:
        columns = {"id": pa.array([row[0] for row in rows], pa.int64())}
        if dynamic:
            columns["pt"] = pa.array([row[1] for row in rows], pa.string())
        table = pa.table(columns)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=3)
        return sink.getvalue().to_pybytes()

    def send(self, rows: list[Row], *, dynamic: bool, **request: Any) -> Any:
        ingest = self.engine.open_ingest(WriteTable(table=T, **request))
        try:
            ingest.decoder.feed(self.body(rows, dynamic=dynamic))
            ingest.accept(list(ingest.decoder))
            return ingest.finish()
        except BaseException:
            ingest.abort()
            raise

    # --- batch sessions ---

    @rule(target=sessions, partition=st.sampled_from([None, *PARTITIONS]), overwrite=st.booleans())
    def create_session(self, partition: str | None, overwrite: bool) -> Session:
        spec = PartitionSpec() if partition is None else PartitionSpec((("pt", partition),))
        reply = self.call(CreateWriteSession(table=T, partition=spec, overwrite=overwrite))
        return Session(reply.session_id, partition, overwrite, self.now + 1000)

    def refused(self, session: Session) -> type[Exception] | None:
        """What any further use of the session deserves."""
        if session.state == "open" and session.expires <= self.now:
            session.state = "expired"
        return {"open": None, "committed": ConflictError}.get(session.state, NotFoundError)

    @rule(session=sessions, stream=st.sampled_from("xy"), version=st.integers(1, 3))
    def create_stream(self, session: Session, stream: str, version: int) -> None:
        request = CreateWriteStream(
            table=T, session_id=session.id, stream_id=stream, stream_version=version
        )
        newest = max((v for s, v in session.attempts if s == stream), default=0)
        error = self.refused(session) or (ConflictError if version < newest else None)
        if error:
            with pytest.raises(error):
                self.call(request)
            return
        self.call(request)
        session.attempts[stream, version] = Attempt([])
        session.expires = self.now + 1000

    @rule(
        session=sessions,
        stream=st.sampled_from("xy"),
        version=st.integers(1, 3),
        count=st.integers(0, 7),
        pick=st.integers(0, 8),
        trace=st.sampled_from([None, "t1", "t2"]),
    )
    def write(
        self, session: Session, stream: str, version: int, count: int, pick: int, trace: str | None
    ) -> None:
        rows = self.rows(count, session.partition, pick)
        attempt = session.attempts.get((stream, version))
        request: dict[str, Any] = {
            "session_id": session.id, "stream_id": stream, "stream_version": version,
            "retry_trace_id": trace, "dynamic": session.partition is None,
        }  # fmt: skip
        error = self.refused(session)
        if error is None and attempt is None:
            error = NotFoundError
        if error is None and attempt and trace in attempt.traces:
            assert self.send(rows, **request).rows == attempt.traces[trace]
            return
        if error is None and attempt and attempt.closed:
            error = ConflictError
        if error:
            with pytest.raises(error):
                self.send(rows, **request)
            return
        assert attempt is not None
        assert self.send(rows, **request).rows == count
        attempt.rows += rows
        if trace:
            attempt.traces[trace] = count
        session.expires = self.now + 1000

    @rule(session=sessions, stream=st.sampled_from("xy"), version=st.integers(1, 3))
    def close(self, session: Session, stream: str, version: int) -> None:
        request = CloseWriteStream(
            table=T, session_id=session.id, stream_id=stream, stream_version=version
        )
        attempt = session.attempts.get((stream, version))
        error = self.refused(session) or (NotFoundError if attempt is None else None)
        if error:
            with pytest.raises(error):
                self.call(request)
            return
        self.call(request)
        assert attempt is not None
        attempt.closed = True
        session.expires = self.now + 1000

    @rule(
        session=sessions,
        listed=st.one_of(
            st.none(), st.sets(st.tuples(st.sampled_from("xy"), st.integers(1, 3)), max_size=2)
        ),
    )
    def commit(self, session: Session, listed: set[tuple[str, int]] | None) -> None:
        streams = None if listed is None else tuple(sorted(listed))
        request = CommitWriteSession(table=T, session_id=session.id, streams=streams)
        error = self.refused(session)
        if session.state == "committed":
            error = None if session.request == streams else ConflictError
            if error is None:
                self.call(request)  # a retry: nothing may change
                return
        best: dict[str, int] = {}
        for (name, version), attempt in session.attempts.items():
            if attempt.closed:
                best[name] = max(best.get(name, 0), version)
        chosen = set(best.items()) if listed is None else listed
        if error is None and (
            len({name for name, _ in chosen}) < len(chosen)
            or any(
                pair not in session.attempts or not session.attempts[pair].closed for pair in chosen
            )
        ):
            error = InvalidArgumentError
        if error:
            with pytest.raises(error):
                self.call(request)
            return
        self.call(request)
        rows = [row for pair in chosen for row in session.attempts[pair].rows]
        if session.overwrite:
            gone = {session.partition} if session.partition else {row[1] for row in rows}
            self.visible = Counter({r: n for r, n in self.visible.items() if r[1] not in gone})
        self.visible.update(rows)
        self.partitions |= {row[1] for row in rows}
        if session.partition:
            self.partitions.add(session.partition)
        session.state, session.request = "committed", streams

    @rule(session=sessions)
    def abort(self, session: Session) -> None:
        self.refused(session)
        request = AbortWriteSession(table=T, session_id=session.id)
        if session.state == "committed":
            with pytest.raises(ConflictError):
                self.call(request)
            return
        if session.state == "forgotten":
            with pytest.raises(NotFoundError):
                self.call(request)
            return
        self.call(request)
        if session.state == "open":
            session.state = "aborted"

    @rule(session=sessions)
    def look(self, session: Session) -> None:
        error = self.refused(session)
        request = GetWriteSession(table=T, session_id=session.id)
        if error is NotFoundError:
            with pytest.raises(NotFoundError):
                self.call(request)
            return
        closed: dict[str, int] = {}
        for (name, version), attempt in session.attempts.items():
            if attempt.closed:
                closed[name] = max(closed.get(name, 0), version)
        assert self.call(request).streams == closed

    # --- an exactly-once stream of the default session ---

    @rule()
    def take_over(self) -> None:
        reply = self.call(
            GetWriteStream(table=T, session_id="default", stream_id="eo", exactly_once=True)
        )
        assert reply.row_offset == self.offset
        if self.token:
            self.old_tokens.append(self.token)
        self.token = reply.access_token

    @precondition(lambda self: self.token is not None)
    @rule(
        count=st.integers(0, 5), pick=st.integers(0, 8), shift=st.sampled_from([0, 0, 0, -1, -4, 1])
    )
    def append(self, count: int, pick: int, shift: int) -> None:
        offset = max(0, self.offset + shift)
        request: dict[str, Any] = {
            "session_id": "default", "stream_id": "eo", "access_token": self.token,
            "row_offset": offset, "dynamic": True,
        }  # fmt: skip
        rows = self.rows(count, None, pick)
        if offset == self.offset:
            assert self.send(rows, **request).exactly_once_row_offset == offset + count
            self.offset += count
            self.visible.update(rows)
            self.partitions |= {row[1] for row in rows}
        elif offset + count <= self.offset:
            assert self.send(rows, **request).exactly_once_row_offset == self.offset
        else:
            with pytest.raises(RowOffsetError) as caught:
                self.send(rows, **request)
            assert caught.value.expected_offset == self.offset

    @precondition(lambda self: self.old_tokens)
    @rule()
    def zombie(self) -> None:
        with pytest.raises(NoPermissionError):
            self.send(
                self.rows(1, None, 0), dynamic=True, session_id="default", stream_id="eo",
                access_token=self.old_tokens[-1], row_offset=self.offset,
            )  # fmt: skip

    # --- readers ---

    def read(self, session_id: str) -> list[Row]:
        plan = self.engine.read(ReadTable(table=T, session_id=session_id))
        table = pa.ipc.open_stream(b"".join(bytes(piece) for piece in plan.buffers())).read_all()
        return list(zip(table["id"].to_pylist(), table["pt"].to_pylist(), strict=True))

    @rule(target=readers)
    def open_reader(self) -> Any:
        session = self.call(CreateReadSession(table=T)).session_id
        rows = self.read(session)
        assert Counter(rows) == self.visible
        return multiple((session, rows, self.now + 1000))

    @rule(reader=readers)
    def read_again(self, reader: tuple[str, list[Row], float]) -> None:
        session, rows, expires = reader
        if expires > self.now:
            assert self.read(session) == rows

    # --- upkeep ---

    @rule(partition=st.sampled_from(PARTITIONS))
    def drop_partition(self, partition: str) -> None:
        spec = PartitionSpec((("pt", partition),))
        self.call(DropPartition(table=T, partition=spec, if_exists=True))
        self.visible = Counter({r: n for r, n in self.visible.items() if r[1] != partition})
        self.partitions.discard(partition)

    @rule()
    def compact(self) -> None:
        (report,) = self.engine.compact(T, min_segments=2)
        assert not report.damaged

    @rule(seconds=st.sampled_from([1.0, 60.0, 500.0, 1200.0]))
    def wait_and_collect(self, seconds: float) -> None:
        self.now += seconds
        would = self.engine.collect(dry_run=True).counts()
        assert self.engine.collect().counts() == would
        assert self.engine.collect().collected == ()

    @rule()
    def reopen(self) -> None:
        self.engine.close()
        self.engine = self.open()

    # --- always ---

    @invariant()
    def totals_agree(self) -> None:
        if not hasattr(self, "engine"):
            return
        info = self.call(DescribeTable(table=T))
        assert info.rows == self.visible.total()
        page = self.call(ListPartitions(table=T)).partitions
        assert {item.partition.values[0] for item in page} == self.partitions
        assert sum(item.rows for item in page) == info.rows

    def teardown(self) -> None:
        if not hasattr(self, "engine"):
            return
        try:
            checked = list(self.engine.verify())
            assert [item for item in checked if item.problems] == []
            keys = {info.key for info in self.engine.context.store.list("tables")}
            assert keys == {item.name for item in checked}
        finally:
            self.engine.close()
            shutil.rmtree(self.folder)


# Sessions that ended are forgotten by collection one lifetime later; the model does not date that.
class ForgetfulMachine(EngineMachine):
    def refused(self, session: Session) -> type[Exception] | None:
        error = super().refused(session)
        if session.state != "open":
            with self.engine.context.database.read() as connection:
                from fletching.catalog import table_rows as tables
                from fletching.catalog import write_session_rows as write_sessions

                table = tables.get_table(connection, T)
                if write_sessions.find_write_session(connection, table.id, session.id) is None:
                    session.state = "forgotten"
                    return NotFoundError
        return error


@pytest.fixture(scope="module", autouse=True)
def template(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("template") / "data"
    Engine.open(folder).close()
    EngineMachine.empty = folder


TestEngine = pytest.mark.slow(ForgetfulMachine.TestCase)
TestEngine.settings = settings(
    max_examples=20,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class PostgresMachine(ForgetfulMachine):
    """The same over PostgreSQL, each history in a database of its own."""

    databases: Databases
    s3: ObjectStorage | None = None

    def prepare(self) -> None:
        self.settings_ = dataclasses.replace(
            SETTINGS,
            catalog_url=self.databases.create(),
            objects_url=None if self.s3 is None else self.s3.create(),
        )


@pytest.fixture
def _databases_of_the_machine(postgresql: Databases, request: pytest.FixtureRequest) -> None:
    PostgresMachine.databases = postgresql
    PostgresMachine.s3 = request.getfixturevalue("s3") if ELSEWHERE else None


TestEngineOverPostgres = pytest.mark.slow(
    pytest.mark.usefixtures("_databases_of_the_machine")(PostgresMachine.TestCase)
)
TestEngineOverPostgres.settings = settings(TestEngine.settings, max_examples=5)
