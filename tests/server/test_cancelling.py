"""Every handler is cancelled at every await: nothing is torn, leaked or taken back by it.

A request's coroutine is driven by hand, so that its task can be cancelled at each suspension: at once,
while the worker's call is running, and when that call has just returned and nobody has heard of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import functools
import json
import threading
import types
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pyarrow as pa
import pytest
from tests.engine.blobs.conftest import IMAGE, SCHEMA, TABLE, Clock, Shop, frames
from tests.server.asgi_exchanges import serve_over_asgi
from tests.server.tunnel.conftest import ID_AND_TEXT, records, upserts

from fletching.engine.engine import Engine
from fletching.engine.engine_settings import EngineSettings
from fletching.engine.generations import PREFIX as GENERATIONS
from fletching.engine.query.result_segments import RESULTS_PREFIX
from fletching.ipc.lowlevel import encode_schema
from fletching.protocol.messages.admin import CreateTable
from fletching.protocol.messages.requests import (
    CloseWriteStream,
    CommitWriteSession,
    CreateReadSession,
    CreateWriteStream,
)
from fletching.protocol.messages.vocabulary import WriteMode
from fletching.protocol.types.blob_type import blob
from fletching.server.api.response_body import PlanSource
from fletching.server.auth.key_ring import KeyRing, started_keys
from fletching.server.http.app import answer_for
from fletching.server.server_settings import ServerSettings
from fletching.server.service import Service
from fletching.server.workers import Job, Pool
from fletching.sql.statements.statement_kinds import Namespace
from fletching.types import TableName
from fletching.wire.content_coding import ContentCoding, Encoder

ROWS = 5000
PLAIN, KEYED = TableName(TABLE.project, "plain"), TableName(TABLE.project, "keyed")


class When(enum.Enum):
    """When the cancellation comes, relative to what the task waits for."""

    AT_ONCE = "at once"
    RUNNING = "while the worker runs"
    RETURNED = "when the result is there"


@types.coroutine
def stepping(coroutine: Any, on_step: Callable[[Any], None]) -> Generator[Any, Any, None]:
    """Drives a coroutine and calls ``on_step`` before each suspension, with what is waited for."""
    error: BaseException | None = None
    while True:
        try:
            waited = coroutine.send(None) if error is None else coroutine.throw(error)
        except StopIteration:
            return
        error = None
        on_step(waited)
        try:
            yield waited
        except BaseException as exc:  # noqa: BLE001  it goes into the coroutine
            error = exc


class House:
    """A service without sockets, and what is open in it."""

    def __init__(self, folder: Path) -> None:
        clock = Clock()
        engine = Engine.open(folder, settings=EngineSettings(create_projects=True), clock=clock)
        self.shop = Shop(engine, clock, folder)
        self.shop.create_table()
        settings = ServerSettings(allow_anonymous=True, access_log=False)
        keys = KeyRing(started_keys({"a": "b"}), engine.access_keys, refresh_seconds=3600.0)
        keys.refresh()
        self.service = Service(engine, settings, keys)
        self.app = serve_over_asgi(answer_for(self.service), settings)
        self.jobs: set[Job[Any]] = set()
        self.sources: set[PlanSource] = set()
        self.numbers = iter(range(10_000))
        session = self.shop.session()
        for table, key in ((PLAIN, ()), (KEYED, ("id",))):
            schema = encode_schema(ID_AND_TEXT)
            self.engine.call(CreateTable(table=table, arrow_schema=schema, primary_key=key))
        self.references = self.shop.upload_many(session, [bytes([n]) * 3_000_000 for n in range(2)])
        self.shop.write_rows(session, [*self.references])
        self.shop.commit(session)
        self.rows = len(self.references)
        self.unknown = self.orphans()  # what is in a store and in no catalog from the beginning

    @property
    def engine(self) -> Engine:
        return self.service.engine

    def orphans(self) -> set[str]:
        known = {checked.name for checked in self.engine.verify()}
        stored = {info.key for info in self.engine.context.store.list()}
        # Results of statements belong to nobody but their day, whether anybody waited for them or not; and the
        # generation to all.
        return {
            key
            for key in stored - known
            if not key.startswith((f"{RESULTS_PREFIX}/", f"{GENERATIONS}/"))
        }

    def count(self, table: TableName = TABLE) -> int:
        session: Any = self.engine.call(CreateReadSession(table=table))
        return int(session.record_count)

    @functools.cached_property
    def result(self) -> str:
        """The id of a statement that chose rows."""
        instances = self.engine.instances
        row = instances.run(
            f"select id from {TABLE.name}",
            Namespace(TABLE.project, TABLE.schema),
            owner="",
            authorize=lambda request: None,
            visible=lambda response: response,
            wait_seconds=600.0,
        )
        assert row.succeeded
        return str(row.id)


@dataclasses.dataclass
class Case:
    """One request, and what follows from its success."""

    query: dict[str, Any]
    body: bytes = b""
    method: str = "POST"
    path: str = "/api/storage/v2"
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    after: Callable[[House, bool], None] = lambda house, acknowledged: None


def rows_stream() -> bytes:
    sink = pa.BufferOutputStream()
    batch = pa.record_batch(
        [
            pa.array(range(ROWS), pa.int64()),
            pa.ExtensionArray.from_storage(blob(), pa.nulls(ROWS, pa.binary())),
            pa.nulls(ROWS, SCHEMA[2].type),
        ],
        schema=SCHEMA,
    )
    with pa.ipc.new_stream(sink, SCHEMA) as writer:
        for _ in range(3):
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


STREAM = rows_stream()
TARGET = f"projects.{TABLE.project}.tables.{TABLE.name}"


def coded(data: bytes) -> bytes:
    encoder = Encoder(ContentCoding.ZSTD)
    return b"".join(bytes(part) for part in (*encoder.encode(data), *encoder.finish()))


def table_write(house: House, *, compressed: bool = False) -> Case:
    session = house.shop.session()
    where: dict[str, Any] = {"table": TABLE, "session_id": session, "stream_id": "s"}
    house.engine.call(CreateWriteStream(**where))

    def after(house: House, acknowledged: bool) -> None:
        house.engine.call(CloseWriteStream(**where))
        house.engine.call(CommitWriteSession(table=TABLE, session_id=session))
        added = house.count() - house.rows
        # Whether an unacknowledged body is there is open; that all or nothing of it is, is not.
        assert added == 3 * ROWS if acknowledged else added in {0, 3 * ROWS}
        house.rows += added

    query = {"Action": "TableWrite", "SessionId": session, "StreamId": "s", "StreamVersion": 1}
    headers = {"content-encoding": "zstd"} if compressed else {}
    return Case(query, coded(STREAM) if compressed else STREAM, headers=headers, after=after)


def block_write(house: House) -> Case:
    session = house.shop.session(write_mode=WriteMode.BATCH_COMPATIBLE)
    query = {"Action": "TableWrite", "WriteMode": "BatchCompatible", "SessionId": session}
    return Case({**query, "BlockNumber": 1, "AttemptNumber": 1}, STREAM)


def blob_write(house: House) -> Case:
    session = house.shop.session()
    query = {"Action": "TableWriteBlob", "SessionId": session, "StreamId": "s"}
    return Case({**query, "ColumnIndex": IMAGE}, bytes(3_000_000))


def blobs_write(house: House) -> Case:
    session = house.shop.session()
    query = {"Action": "TableWriteBlob", "SessionId": session, "StreamId": "s"}
    return Case({**query, "Mode": "Batch"}, frames([bytes(900_000)] * 4))


def table_read(house: House, **headers: str) -> Case:
    session: Any = house.engine.call(CreateReadSession(table=TABLE))
    query = {"Action": "TableRead", "SessionId": session.session_id, "Index": 0}
    return Case(query, headers=headers)


def sql(text: str) -> bytes:
    return (
        "<Instance><Job><Priority>9</Priority><Tasks><SQL><Name>q</Name><Query><![CDATA["
        f"{text};]]></Query></SQL></Tasks></Job></Instance>"
    ).encode()


ROWS_PATH = f"/fletching/v1/tables/{TABLE.project}/{TABLE.schema}/{TABLE.name}/rows"


def rows_in() -> Case:
    def after(house: House, acknowledged: bool) -> None:
        added = house.count() - house.rows
        assert added == 3 * ROWS if acknowledged else added in {0, 3 * ROWS}
        house.rows += added

    headers = {"content-type": "application/vnd.apache.arrow.stream"}
    return Case({}, STREAM, path=ROWS_PATH, headers=headers, after=after)


METADATA = f"/api/projects/{TABLE.project}"
FIRST_VERSION = f"/api/storage/v1/projects/{TABLE.project}/tables"


# --- the tunnel, whose sessions are made by requests to it ------------------------------------

RECORDS = records([(n, "x" * 50) for n in range(ROWS)])


def tunnel_path(table: TableName, part: str = "") -> str:
    return f"{METADATA}/tables/{table.name}{part}"


def commit_and_count(table: TableName, session: str) -> Callable[[House, bool], None]:
    """Commits what a request wrote: all of its rows are there, or none; all if it was acknowledged."""

    def after(house: House, acknowledged: bool) -> None:
        before = house.count(table)
        look = CommitWriteSession(table=table, session_id=session)
        house.engine.call(msgspec.structs.replace(look, write_mode=WriteMode.BATCH_COMPATIBLE))
        added = house.count(table) - before
        assert added == ROWS if acknowledged else added in {0, ROWS}

    return after


def tunnel_block(house: House, *, compressed: bool = False) -> Case:
    session = house.shop.session(PLAIN, write_mode=WriteMode.BATCH_COMPATIBLE)
    return Case(
        {"uploadid": session, "blockid": 0},
        coded(RECORDS) if compressed else RECORDS,
        method="PUT",
        path=tunnel_path(PLAIN),
        headers={"content-encoding": "zstd"} if compressed else {},
        after=commit_and_count(PLAIN, session),
    )


def tunnel_commit(house: House) -> Case:
    session = house.shop.session(PLAIN, write_mode=WriteMode.BATCH_COMPATIBLE)
    return Case({"uploadid": session}, path=tunnel_path(PLAIN))


def tunnel_stream(house: House) -> Case:
    session = house.shop.session(PLAIN, write_mode=WriteMode.STREAMING)
    streaming = WriteMode.STREAMING
    house.engine.call(
        CreateWriteStream(table=PLAIN, session_id=session, stream_id="0", write_mode=streaming)
    )
    before = house.count(PLAIN)

    def after(house: House, acknowledged: bool) -> None:
        added = house.count(PLAIN) - before
        assert added == ROWS if acknowledged else added in {0, ROWS}

    return Case(
        {"uploadid": session, "slotid": "0"},
        RECORDS,
        method="PUT",
        path=tunnel_path(PLAIN, "/streams"),
        after=after,
    )


def tunnel_upsert(house: House) -> Case:
    session = house.shop.session(KEYED)
    house.engine.call(CreateWriteStream(table=KEYED, session_id=session, stream_id="0"))
    body = upserts([(n, "x", 85) for n in range(10)])
    return Case(
        {"upsertid": session, "bucketid": 0, "slotid": "0"},
        body,
        method="PUT",
        path=tunnel_path(KEYED, "/upserts"),
    )


def tunnel_rows(house: House, **more: str) -> Case:
    session: Any = house.engine.call(CreateReadSession(table=TABLE))
    query = {"data": "", "downloadid": session.session_id, "rowrange": "(0,2)", **more}
    return Case(query, method="GET", path=tunnel_path(TABLE))


def first_version_block(house: House) -> Case:
    session = house.shop.session(write_mode=WriteMode.BATCH_COMPATIBLE)
    path = f"{FIRST_VERSION}/{TABLE.name}/sessions/{session}/data"
    return Case({"block_number": 1, "attempt_number": 1}, STREAM, path=path)


def first_version_rows(house: House) -> Case:
    session: Any = house.engine.call(CreateReadSession(table=TABLE))
    query = {"session_id": session.session_id, "split_index": 0}
    return Case(query, method="GET", path=f"{FIRST_VERSION}/{TABLE.name}/data")


# --- the rest ---------------------------------------------------------------------------------


def text_in(house: House) -> Case:
    before = house.count(PLAIN)

    def after(house: House, acknowledged: bool) -> None:
        added = house.count(PLAIN) - before
        assert added == ROWS if acknowledged else added in {0, ROWS}

    path = ROWS_PATH.replace(TABLE.name, PLAIN.name)
    body = b"id,text\n" + b"".join(b"%d,x\n" % n for n in range(ROWS))
    return Case({}, body, path=path, headers={"content-type": "text/csv"}, after=after)


def page(house: House, path: str, **query: str) -> Case:
    """A page of the console, as programs read it."""
    token = house.engine.access_keys.tokens.sign("a", "b", 4e9)
    headers = {"authorization": f"Bearer {token}"}
    query = {"format": "json", **query}
    return Case(query, method="GET", path=f"/console{path}", headers=headers)


TABLE_PAGE = f"/tables/{TABLE.project}/{TABLE.schema}/{TABLE.name}"

CASES: dict[str, Callable[[House], Case]] = {
    "write": table_write,
    "coded write": lambda house: table_write(house, compressed=True),
    "block": block_write,
    "blob": blob_write,
    "blobs": blobs_write,
    "read": table_read,
    "coded read": lambda house: table_read(
        house, **{"accept-encoding": "zstd", "user-agent": "pyodps/0.13.2"}
    ),
    "preview": lambda _: Case({"Action": "TablePreview", "Limit": 2}),
    "session with rows": lambda _: Case(
        {"Action": "TableCreateReadSession"},
        json.dumps({"SplitOptions": {"SplitMode": "Size"}, "FirstSplit": True}).encode(),
    ),
    "write session": lambda _: Case({"Action": "TableCreateWriteSession"}, b"{}"),
    "blob read": lambda house: Case(
        {"Action": "BlobRead", "Target": "generic.blob"},
        json.dumps({"BlobReferences": house.references}).encode(),
    ),
    "blob get": lambda house: Case(
        {}, method="GET",
        path="/fletching/v1/blobs/" + house.references[0].translate(str.maketrans("+/", "-_")),
    ),
    "blob range": lambda house: Case(
        {}, method="GET", headers={"range": "bytes=5-2000000"},
        path="/fletching/v1/blobs/" + house.references[0].translate(str.maketrans("+/", "-_")),
    ),
    "describe": lambda _: Case({}, method="GET", path=f"{METADATA}/tables/{TABLE.name}"),
    "statement": lambda _: Case({}, sql(f"select * from {TABLE.name}"), path=f"{METADATA}/instances"),
    "admin": lambda _: Case(
        {}, method="GET",
        path=f"/fletching/v1/projects/{TABLE.project}/schemas/default/tables",
    ),
    "rows out": lambda _: Case({"columns": "id", "format": "csv"}, method="GET", path=ROWS_PATH),
    "rows in": lambda _: rows_in(),
    "run": lambda _: Case(
        {}, json.dumps({"text": f"select id from {TABLE.name}", "wait_seconds": 5}).encode(),
        path=f"/fletching/v1/projects/{TABLE.project}/schemas/default/statements",
    ),
    "ready": lambda _: Case({}, method="GET", path="/readyz"),
    "tunnel upload": lambda _: Case({"uploads": ""}, path=tunnel_path(PLAIN)),
    "tunnel block": tunnel_block,
    "tunnel coded block": lambda house: tunnel_block(house, compressed=True),
    "tunnel commit": tunnel_commit,
    "tunnel stream": tunnel_stream,
    "tunnel upsert session": lambda _: Case({}, path=tunnel_path(KEYED, "/upserts")),
    "tunnel upsert": tunnel_upsert,
    "tunnel download": lambda _: Case({"downloads": ""}, path=tunnel_path(TABLE)),
    "tunnel rows": lambda house: tunnel_rows(house, columns="id"),
    "tunnel arrow": lambda house: tunnel_rows(house, arrow=""),
    "tunnel preview": lambda _: Case(
        {"limit": 2}, method="GET", path=tunnel_path(TABLE, "/preview")
    ),
    "tunnel result": lambda house: Case(
        {"data": "", "downloadid": house.result, "rowrange": "(0,9)"}, method="GET",
        path=f"{METADATA}/instances/{house.result}",
    ),
    "instance": lambda house: Case(
        {"result": ""}, method="GET", path=f"{METADATA}/instances/{house.result}"
    ),
    "first version session": lambda _: Case(
        {"session_type": "batch_read"}, b"{}", path=f"{FIRST_VERSION}/{TABLE.name}/sessions"
    ),
    "first version block": first_version_block,
    "first version rows": first_version_rows,
    "text in": text_in,
    "rows page": lambda house: page(house, TABLE_PAGE),
    "segments page": lambda house: page(house, f"{TABLE_PAGE}/segments"),
    "columns page": lambda house: page(house, f"{TABLE_PAGE}/columns", column="id"),
    "overview page": lambda house: page(house, "/overview"),
}  # fmt: skip


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house = House(tmp_path_factory.mktemp("cancelling") / "data")
    job_init, source_init = Job.__init__, PlanSource.__init__

    def opened_job(job: Job[Any], *args: Any) -> None:
        job_init(job, *args)
        house.jobs.add(job)

    def opened_source(source: PlanSource, *args: Any) -> None:
        source_init(source, *args)
        house.sources.add(source)

    def closed_source(source: PlanSource) -> None:
        close(source)
        house.sources.discard(source)

    close = PlanSource.close
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Job, "__init__", opened_job)
        patch.setattr(PlanSource, "__init__", opened_source)
        patch.setattr(PlanSource, "close", closed_source)
        yield house
    house.service.close()


async def attempt(house: House, case: Case, step: int, when: When) -> tuple[bool, bool]:
    """Runs a request and cancels it at a step: (whether it came so far, whether it was answered)."""
    chunks = [case.body[at : at + 700_000] for at in range(0, len(case.body), 700_000)] or [b""]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        if not chunks:
            await asyncio.Event().wait()
        body = chunks.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(chunks)}

    async def send(message: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        sent.append(message)

    query = {"Target": TARGET, **case.query} if "Action" in case.query else case.query
    scope = {
        "type": "http",
        "method": case.method,
        "path": case.path,
        "raw_path": quote(case.path).encode(),
        "query_string": "&".join(f"{k}={quote(str(v))}" for k, v in query.items()).encode(),
        "headers": [(name.encode(), value.encode()) for name, value in case.headers.items()],
        "client": ("127.0.0.1", 1),
    }
    steps = 0
    reached = holding = False
    begun = threading.Event()
    limiters: list[threading.Event] = []
    start = Pool.start
    loop = asyncio.get_running_loop()

    def release() -> None:
        while not holding and limiters:
            limiters.pop().set()

    def held_start(pool: Pool, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Each call stops in its thread until the loop has seen what its task does next."""
        limiter = threading.Event()

        def call() -> Any:
            begun.set()
            assert limiter.wait(600)
            return function(*args, **kwargs)

        begun.clear()
        limiters.append(limiter)
        loop.call_soon(release)
        return start(pool, call)

    def on_step(waited: Any) -> None:
        nonlocal steps, reached, holding
        steps += 1
        if steps != step:
            return
        reached = True
        if when is When.RETURNED and asyncio.isfuture(waited):
            waited.add_done_callback(lambda _: task.cancel())
        elif when is When.RUNNING and limiters:
            holding = True
            asyncio.create_task(cancel_while_running())  # noqa: RUF006  it ends before the loop
        else:
            task.cancel()

    async def cancel_while_running() -> None:
        nonlocal holding
        await asyncio.to_thread(begun.wait, 60)
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done(), "a handler ended beside a call of its own"
        holding = False
        release()

    async def drive() -> None:
        await stepping(house.app(scope, receive, send), on_step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pool, "start", held_start)
        task = asyncio.create_task(drive())
        with contextlib.suppress(asyncio.CancelledError):
            async with asyncio.timeout(60):
                await task
        await asyncio.sleep(0)
    complete = bool(sent) and not sent[-1].get("more_body", True)
    answered = complete and sent[0]["status"] < 300
    assert reached or answered, [bytes(message.get("body", b""))[:500] for message in sent]
    return reached, answered


def check_nothing_is_open(house: House) -> None:
    service = house.service
    for job in house.jobs:
        assert job.owned.ended or job._closed
        assert job._running is None or job._running.returned
    for source in house.sources:
        assert source.ended
    house.jobs.clear()
    house.sources.clear()
    assert (service.bodies.open, service.reads.open, service.calls.open) == (0, 0, 0)
    assert service.memory.held == 0
    folder = house.shop.folder
    assert not [path for path in folder.rglob("*") if path.name.endswith(".tmp")]


@pytest.mark.parametrize("when", When, ids=lambda when: when.name.lower())
@pytest.mark.parametrize("name", CASES)
def test_a_handler_may_be_cancelled_at_every_await(house: House, name: str, when: When) -> None:
    async def run() -> int:
        step = 0
        while True:
            step += 1
            case = CASES[name](house)
            reached, acknowledged = await attempt(house, case, step, when)
            check_nothing_is_open(house)
            case.after(house, acknowledged)
            if not reached:
                return step

    steps = asyncio.run(run())
    assert steps > 2
    problems = [problem for checked in house.engine.verify() for problem in checked.problems]
    assert problems == []
    # What no catalog row speaks of was deleted by whoever cancelled, not left for retention.
    assert house.orphans() == house.unknown
