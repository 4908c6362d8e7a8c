"""Every operation with every single call under it failing in turn: done or not done, and in our words.

What is acknowledged is there once. What is refused is there as a whole or not at all, and repeating it
with the same key does it once. Nothing is left behind: no damage, file descriptor, thread or lock.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import logging
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests import waiting
from tests.failing_calls import (
    BUCKET,
    CATALOG,
    FOLDER,
    POSTGRESQL,
    Calls,
    bucket_of,
    failing_bucket,
    failing_catalog,
    failing_folder,
    failing_postgresql,
)
from tests.postgresql import Databases, admin, programs
from tests.processes import folder_in_memory

from fletching.catalog.writer_rows import list_writers
from fletching.client import Client, result
from fletching.client.call_options import CallOptions
from fletching.client.retry import Timing
from fletching.client.transports.channel import Channel
from fletching.client.transports.embedded.embedded_transport import EmbeddedTransport
from fletching.engine.changes import attempts
from fletching.engine.engine import Engine
from fletching.engine.engine_settings import EngineSettings
from fletching.errors import FletchingError, NoSuchTableError, OutcomeUnknownError, SettingsError
from fletching.ipc.encoding import encode_schema
from fletching.protocol.http.error_codec import to_service_error
from fletching.protocol.messages.admin import AddColumns, CreateTable, DropTable
from fletching.protocol.messages.changes import CreateTag, RenameTable
from fletching.protocol.types.blob_type import blob

EVERY = os.environ.get("FLETCHING_TEST_EXHAUSTIVE", "")
"""Set where every call is to fail, in one of its ways; another value chooses other ways."""
START = 1_800_000_000.0
ROWS = pa.schema([("id", pa.int64()), ("text", pa.string())])
TABLES = ("plain", "keyed", "parts", "pictures", "made", "gone")

PATIENCE = 60.0
"""Seconds until something that is still open counts as left behind."""

State = dict[str, Any]


class Clock:
    """The time of an engine, moved by whoever waits for upkeep."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@dataclasses.dataclass
class House:
    """A client of an engine of its own."""

    client: Client
    engine: Engine
    clock: Clock
    open_also: Callable[[str], None]
    """Opens the same folder once more, or a folder of a name in it, which is made."""

    def table(self, name: str) -> Any:
        return self.client.table(name)


@dataclasses.dataclass(frozen=True)
class Location:
    """Where there are a catalog and objects: in a folder, or elsewhere."""

    folder: Path
    bucket: bool
    """Whether the objects are asked for by requests."""
    databases: dict[str, str] = dataclasses.field(default_factory=dict)
    """URLs of PostgreSQL for the catalog and the one of a new folder; none where they are files."""


@contextlib.contextmanager
def house(location: Location) -> Iterator[House]:
    """Opened over a location."""
    folder = location.folder
    clock = Clock()
    is_new = not (folder / "server.key").exists()

    def opened(name: str = "") -> Engine:
        return Engine.open(
            folder / name,
            settings=EngineSettings(
                retain_seconds=10.0, removed_seconds=10.0, busy_timeout_seconds=5.0,
                compact_min_segments=2, catalog_url=location.databases.get(name),
            ),
            clock=clock,
            store=bucket_of(folder / f"bucket{name}") if location.bucket else None,
            create=is_new or bool(name),
        )  # fmt: skip

    engine = opened()
    share_compiled_statements(engine)
    options = CallOptions().changed(retry={"budget_seconds": 0})
    channel = Channel(EmbeddedTransport(folder, engine=engine), options, Timing(), None)
    with Client(channel, "demo") as client:
        yield House(client, engine, clock, lambda name: opened(name).close())


_dialects: dict[str, Any] = {}


def share_compiled_statements(engine: Engine) -> None:
    """Has all engines compile each statement once: that takes longer than everything else here."""
    connections = engine.context.database._engine
    name = connections.dialect.name
    connections.dialect = _dialects.setdefault(name, connections.dialect)
    connections._compiled_cache = _compiled.setdefault(name, connections._compiled_cache)


_compiled: dict[str, Any] = {}


def rows(start: int, end: int) -> pa.Table:
    return pa.table(
        {"id": range(start, end), "text": [f"new {n}" for n in range(start, end)]}, ROWS
    )


def prepare(made: House) -> None:
    """Tables with something for each operation to change."""
    made.client.create_project(if_not_exists=True)
    create = made.client.create_table
    plain = create("plain", ROWS)
    keyed = create("keyed", pa.schema([ROWS.field(0).with_nullable(False), ROWS.field(1)]), primary_key=["id"])  # fmt: skip
    parts = create("parts", ROWS, partition_by=["p"])
    pictures = create("pictures", pa.schema([("id", pa.int64()), ("image", blob())]))
    for start in (0, 10, 20):
        plain.append(rows(start, start + 10))
        keyed.upsert(rows(start // 2, start // 2 + 10))
        parts.append(rows(start, start + 10), partition={"p": str(start)})
    pictures.append({"id": [1], "image": [b"old picture"]})
    plain.delete("id = 3")
    create("gone", ROWS).append(rows(0, 5))


def state_of(made: House) -> State:
    """All that users see."""
    result: State = {}
    for name in TABLES:
        try:
            table = made.table(name)
        except NoSuchTableError:
            continue
        selected = table.scan().to_table()
        contents = selected.to_pylist()
        if name == "pictures":
            data = [each.data for each in made.client.get_blobs(selected["image"]) if each]
            contents = list(zip(selected["id"].to_pylist(), data, strict=True))
        result[name] = sorted(map(repr, contents))
        assert table.count_rows() == len(contents)
        if name == "plain":
            result["tags"] = table.tags()
        if name == "parts":
            result["partitions"] = sorted(str(each.spec) for each in table.partitions())
    return result


# --- the operations ---------------------------------------------------------------------------


def collect(made: House) -> None:
    made.clock.now = START + 7_200
    made.engine.collect(force=True)


def write_in_a_session(made: House) -> None:
    with made.table("plain").write_session() as session:
        with session.writer() as writer:
            writer.write(rows(100, 105))
        session.commit(idempotency_key="k")


def write_exactly_once(made: House) -> None:
    table = made.table("plain")
    try:
        writer = table.stream_writer("one", resume=True)
    except FletchingError:
        writer = table.stream_writer("one")
    with writer:
        writer.write(rows(100 + writer.row_offset, 110))
        writer.flush()


def keyed(made: House, kind: Any, table: str, **values: Any) -> None:
    """A request with the key that a client gives it, here the same whenever it is repeated."""
    name = made.client.table_name(table)
    made.client.channel.call(kind(table=name, idempotency_key="k", **values))


def statement(made: House, text: str) -> None:
    """A statement that keeps its id, and whose failure is not kept as its outcome."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(result, "_FIRST_SECONDS", 600.0)
        patch.setattr(result, "new_instance_id", lambda _: "statement")
        made.client.sql(text)


OPERATIONS: dict[str, Callable[[House], Any]] = {
    "append": lambda made: made.table("plain").append(rows(100, 105), idempotency_key="k"),
    "append to partitions": lambda made: made.table("parts").append(
        rows(100, 105).append_column("p", pa.array(["0", "x", "y", "x", "10"])),
        idempotency_key="k",
    ),
    "upsert": lambda made: made.table("keyed").upsert(rows(5, 25), idempotency_key="k"),
    "update": lambda made: made.table("plain").update(
        {"text": "upper(text)"}, where="id < 12", idempotency_key="k"
    ),
    "delete": lambda made: made.table("plain").delete("id % 3 = 1", idempotency_key="k"),
    "delete keys": lambda made: made.table("keyed").delete_keys({"id": [1, 2, 99]}, idempotency_key="k"),
    "merge": lambda made: made.table("plain").merge(rows(5, 35), on=["id"], idempotency_key="k"),
    "upload of blobs": lambda made: made.table("pictures").append(
        {"id": [2, 3], "image": [b"x" * 5000, b"y"]}, idempotency_key="k"
    ),
    "write session": write_in_a_session,
    "exactly once": write_exactly_once,
    "create table as": lambda made: statement(
        made, "create table made as select id, upper(text) as text from plain where id > 4"
    ),
    "insert overwrite": lambda made: made.client.sql(
        "insert overwrite table plain select id, text from keyed"
    ),
    "overwrite": lambda made: made.table("parts").overwrite(
        rows(50, 55), partition={"p": "10"}, idempotency_key="k"
    ),
    "compact": lambda made: made.engine.compact(made.table("plain").full_name, min_segments=2),
    "compact a keyed table": lambda made: made.engine.compact(made.table("keyed").full_name, purge=True),
    "collect": collect,
    "create table": lambda made: keyed(
        made, CreateTable, "made", arrow_schema=encode_schema(ROWS)
    ),
    "drop table": lambda made: keyed(made, DropTable, "gone"),
    "rename table": lambda made: keyed(made, RenameTable, "gone", new_name="made"),
    "rename partition": lambda made: statement(
        made, "alter table parts partition (p='10') rename to partition (p='z')"
    ),
    "drop partitions": lambda made: statement(made, "alter table parts drop partition (p<='10')"),
    "statements": lambda made: statement(
        made, "insert into gone values (7, 'x'); create table made as select * from gone; drop table gone"
    ),
    "add columns": lambda made: keyed(
        made, AddColumns, "plain", arrow_schema=encode_schema(pa.schema([("more", pa.int32())]))
    ),
    "restore": lambda made: made.table("plain").restore(2, idempotency_key="k"),
    "tag": lambda made: keyed(made, CreateTag, "plain", name="now"),
    "scan": state_of,
    "select": lambda made: made.client.sql("select count(*) as n, max(text) from plain").to_table(),
    "open": lambda made: made.open_also(""),
    "open a new folder": lambda made: made.open_also("new"),
    "verify": lambda made: list(made.engine.verify()),
}  # fmt: skip

OPENING = {"open", "open a new folder"}
"""Which nobody answers with a status: what is wrong is said to who starts a server."""
DECIDED = {"update", "delete", "merge", "insert overwrite", "create table as", "rename partition"}
"""Of which the service itself finds out whether a commit was made that was not answered."""
IN_STEPS = {"drop partitions", "statements"}
"""Which may end half done: what is left is done when they are repeated."""


# --- a case -----------------------------------------------------------------------------------

STORES: dict[str, tuple[str, tuple[str, ...]]] = {
    "folder": ("folder", FOLDER),
    "catalog": ("folder", CATALOG),
    "bucket": ("bucket", BUCKET),
    "bucket of parts": ("bucket", BUCKET),
    "postgresql": ("postgresql", POSTGRESQL),
}
"""Whose calls fail: over which template, and how."""


@contextlib.contextmanager
def failing(kind: str, calls: Calls, folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            attempts, "_ASKED_SECONDS", 0.0
        )  # a catalog that fails on is asked often enough
        with _failing(kind, calls, folder):
            yield


@contextlib.contextmanager
def _failing(kind: str, calls: Calls, folder: Path) -> Iterator[None]:
    if kind == "folder":
        with failing_folder(calls, folder):
            yield
    elif kind == "catalog":
        with failing_catalog(calls):
            yield
    elif kind == "postgresql":
        with failing_postgresql(calls):
            yield
    else:
        with failing_bucket(calls, part_bytes=512 if kind == "bucket of parts" else None):
            yield


NO_ROOM = {"ENOSPC", "database or disk is full", "no room"}
"""Of which a server answers 507, and of every other fault 503."""


class Template:
    """A folder with the tables, to be copied, and what is in it.

    Attributes:
        state: what is in it.
    """

    def __init__(self, folder: Path, kind: str, databases: Databases | None) -> None:
        folder.mkdir()
        self._databases = databases
        made = {} if databases is None else {"": databases.create()}
        self._location = Location(folder, kind != "folder", made)
        with house(self._location) as opened:
            prepare(opened)
            self.state = state_of(opened)
        # What is there by now stays: the looks for garbage after failures pass it by.
        gc.collect()
        gc.freeze()

    @contextlib.contextmanager
    def copied(self, operation: str) -> Iterator[Location]:
        """A copy of it for an operation; nobody has anything of it open at the end."""
        with folder_in_memory() as memory:
            location = dataclasses.replace(self._location, folder=memory / "data", databases={})
            shutil.copytree(self._location.folder, location.folder)
            if self._databases is not None:
                location.databases[""] = self._databases.create(like=self._location.databases[""])
                if operation == "open a new folder":
                    location.databases["new"] = self._databases.create(migrated=False)
            yield location
            # DuckDB's own threads let go of what they scanned a moment after the statement has failed.
            waiting.until(lambda: nothing_open_in(location.folder), PATIENCE)
            for url in location.databases.values():
                assert self._databases is not None
                self._databases.drop(url)


@pytest.fixture(scope="module", autouse=True)
def _unlogged() -> Iterator[None]:
    """What is logged of a failure keeps the files open that were mapped where it happened."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def template_of(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Template]]:
    """The templates, each made when it is asked for first."""
    with folder_in_memory() as memory:

        @functools.cache
        def template(kind: str) -> Template:
            needed = kind == "postgresql"
            databases = request.getfixturevalue("_databases") if needed else None
            return Template(memory / kind, kind, databases)

        yield template


def nothing_open_in(folder: Path) -> bool:
    if any(name.startswith(str(folder)) for name in descriptors()):
        gc.collect()
        return False
    return True


def descriptors() -> list[str]:
    """The files that this process has open."""
    result = []
    for name in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            result.append(str(name.readlink()))
    return result


@dataclasses.dataclass(frozen=True)
class Case:
    """One operation and the call under it that fails; None of a run without a fault."""

    kind: str
    operation: str
    fault: str = ""
    at: int | None = None
    onwards: bool = False


def run_case(template: Template, case: Case, after: State | None = None) -> tuple[list[str], State]:
    """Runs a case in a copy of the template.

    Args:
        template: what there is before.
        case: the operation, and which call of it fails how.
        after: the state when it is done, to compare with; only a run without a fault can do without.

    Returns:
        What was called, and the state at the end.
    """
    calls = Calls()
    work = OPERATIONS[case.operation]
    with template.copied(case.operation) as location, failing(case.kind, calls, location.folder):
        with house(location) as made:
            error: BaseException | None = None
            calls.begin(case.at, case.fault, onwards=case.onwards)
            try:
                work(made)
            except (Exception, KeyboardInterrupt) as caught:  # noqa: BLE001 - looked at below
                error = caught
            finally:
                calls.end()
            check_error(case, error)
            for url in location.databases.values():
                waiting.until(functools.partial(nothing_held_in, url), PATIENCE)
            now = state_of(made)
            if case.at is None:
                return calls.names, now
            if calls.failed[:1] == ["COMMIT"] and case.fault in LOST and error is not None:
                assert isinstance(error, OutcomeUnknownError | SettingsError), repr(error)
            answer_lost = case.fault == "answer lost" and calls.failed == ["COMMIT"]
            if answer_lost and case.operation in DECIDED:
                assert (error is None) == (now == after), repr(error)
            if error is None:
                assert now == after, "acknowledged, and not done"
            else:
                if now != template.state and case.operation not in IN_STEPS:
                    assert now == after, "half done"
                check_stored(made)
                work(made)
                assert state_of(made) == after, "repeated, and not done once"
            error = None  # it refers to what was open
        with house(location) as made:
            assert check_lasting(made) == after, "opened again, something else"
    return calls.names, now


def nothing_held_in(url: str) -> bool:
    """Whether no transaction goes on in a database of PostgreSQL, which would keep its locks."""
    with admin(url) as connection:
        held = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
        )
        return held.fetchone()[0] == 0


def check_error(case: Case, error: BaseException | None) -> None:
    """Whether an operation may end like this."""
    if case.fault in {"", "short"}:
        assert error is None, repr(error)
    elif case.fault == "interrupt":
        assert error is None or isinstance(error, KeyboardInterrupt), repr(error)
    elif error is not None:
        assert isinstance(error, FletchingError), repr(error)
        if case.operation in OPENING and isinstance(error, SettingsError):
            return
        answered = to_service_error(error, "")
        status = 507 if case.fault in NO_ROOM else 503
        assert answered.http_status == status, (answered.http_status, repr(error))
        assert answered.retryable == (status == 503), repr(error)


def check_lasting(made: House) -> State:
    """Once every lifetime is over, what the catalog does not need is gone; returns what is there."""
    store = made.engine.context.store
    # What nobody knows is found in one pass, and goes in a later one.
    for hours in (30, 60):
        made.clock.now = START + hours * 3_600
        made.engine.collect(force=True)
        known = check_stored(made)
        unknown = {info.key for info in store.list("tables")} - known
        if not unknown:
            break
    assert not unknown, "objects without an owner"
    with made.engine.context.database.read() as connection:
        assert not list_writers(connection), "a writer that has ended is known"
    return state_of(made)


def check_stored(made: House) -> set[str]:
    """What is stored is whole; the names of it."""
    checked = list(made.engine.verify())
    assert [item for item in checked if item.problems] == []
    return {item.name for item in checked}


TRANSFERS = {"write", "writev", "read", "preadv", "pread"}
WRITING = {"open", "write", "writev", "fsync", "link", "rename", "mkdir"}
READING = ("SELECT", "PRAGMA", "WITH")
LOST = {"answer lost", "answer late"}


def can_meet(fault: str, call: str) -> bool:
    """Whether a call can fail like this at all."""
    if (call == "CHECK OUT") != (fault == "no connection free"):
        return False
    if call == "CONNECT":
        return fault in {"connection lost", "shut down"}
    if call[:1].isupper():  # a statement
        if fault in LOST:
            return call == "COMMIT"
        return fault != "database or disk is full" or not call.startswith(READING)
    if fault == "short":
        return call in TRANSFERS
    if fault == "ENOSPC":
        return call in WRITING
    return fault != "EMFILE" or call in {"open", "scandir", "mmap"}


def cases_of(kind: str, operation: str, names: list[str]) -> list[Case]:
    """For each call one way in which it fails, alone or with all that follow, and each commit unanswered.

    Of a short run one of the calls, and the commit of the longest transaction.
    """
    draw = random.Random(f"{EVERY}/{kind}/{operation}")
    cases, unanswered, longest = [], [], 0
    begun = 0
    for at, call in enumerate(names):
        possible = [each for each in STORES[kind][1] if can_meet(each, call)]
        fault = draw.choice([each for each in possible if call != "COMMIT" or each not in LOST])
        onwards = fault == "short" or (fault != "interrupt" and draw.random() < 0.5)
        cases.append(Case(kind, operation, fault, at, onwards))
        if call == "COMMIT":
            lost = [Case(kind, operation, each, at) for each in possible if each in LOST]
            if EVERY:
                unanswered += lost
            elif at - begun > longest:
                unanswered, longest = [draw.choice(lost)], at - begun
            begun = at
    return [*(cases if EVERY else draw.sample(cases, min(1, len(cases)))), *unanswered]


# A short run has each operation under one kind of catalog and one of store.
HERE = programs() is not None
SHORT = [("catalog", "bucket"), ("postgresql" if HERE else "catalog", "folder")]
KINDS = [kind for kind in STORES if HERE or kind != "postgresql"]
PAIRS = [
    (kind, operation)
    for number, operation in enumerate(OPERATIONS)
    for kind in (KINDS if EVERY else SHORT[number % 2])
]


@pytest.mark.parametrize(("kind", "operation"), PAIRS)
def test_an_operation_under_which_a_call_fails(
    template_of: Callable[[str], Template], kind: str, operation: str
) -> None:
    template = template_of(STORES[kind][0])
    names, after = run_case(template, Case(kind, operation))
    failures = []
    for case in cases_of(kind, operation, names):
        try:
            run_case(template, case, after)
        except Exception as error:  # noqa: BLE001 - each is told with its case
            error.add_note(f"{names[case.at or 0]!r} of {case}")
            failures.append(error)
    if failures:
        failures[0].add_note(f"{len(failures)} cases: {[e.__notes__[-1] for e in failures[:20]]}")
        raise failures[0]
