"""Drills with servers as processes: they are replaced one by one under load, and lost with everything."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.balancer import Balancer, free_port
from tests.postgresql import Databases, admin, programs
from tests.seaweedfs import ObjectStorage

import fletching
from fletching.errors import IdentityError

pytestmark = pytest.mark.cluster
KEY = "ab" * 32
DEADLINE_SECONDS = 300.0


class ServerProcess:
    """``fletching serve`` on a port of its own, over what the environment says."""

    def __init__(self, variables: dict[str, str]) -> None:
        self.port = free_port()
        self._variables = {
            **os.environ,
            **variables,
            "FLETCHING_SERVER_KEY": KEY,
            "FLETCHING_SERVER_ACCESS_KEY": "ak:sk",
            "FLETCHING_PORT": str(self.port),
            "FLETCHING_ACCESS_LOG": "off",
            # More than the five seconds after which nginx closes idle connections.
            "FLETCHING_DRAIN_IDLE_SECONDS": "6",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fletching", "serve", "--json"],
            env=self._variables, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def await_ready(self) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            assert self._process is not None
            assert self._process.poll() is None, "the server did not start"
            url = f"http://127.0.0.1:{self.port}/readyz"
            with (
                contextlib.suppress(OSError, urllib.error.URLError),
                urllib.request.urlopen(url, timeout=600),
            ):
                return
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def drain(self) -> None:
        """As an operator would: nothing that was begun is lost."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(DEADLINE_SECONDS) == 0

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def data_set(postgresql: Databases, s3: ObjectStorage) -> dict[str, str]:
    return {"FLETCHING_CATALOG": postgresql.create(), "FLETCHING_OBJECTS": s3.create()}


@pytest.fixture
def servers(data_set: dict[str, str]) -> Iterator[list[ServerProcess]]:
    result = [ServerProcess(data_set) for _ in range(3)]
    try:
        for each in result:
            each.start()
        for each in result:
            each.await_ready()
        yield result
    finally:
        for each in result:
            each.kill()


class Load:
    """Callers that do one thing after another until they are told to end; no call may fail."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self.failures: list[str] = []
        self.counts: dict[str, int] = {}
        self._threads: list[threading.Thread] = []

    def add(self, name: str, call: Callable[[int], object]) -> None:
        def run() -> None:
            number = 0
            while not self._ended.is_set():
                try:
                    call(number)
                except Exception as error:  # noqa: BLE001 - whatever it is, the call failed
                    self.failures.append(f"{name} {number}: {error!r}")
                    return
                number += 1
                self.counts[name] = number

        self._threads.append(threading.Thread(target=run, name=name, daemon=True))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def await_progress(self) -> None:
        """Until every caller has done something more."""
        before = dict(self.counts)
        deadline = time.monotonic() + DEADLINE_SECONDS
        names = [thread.name for thread in self._threads]
        while any(self.counts.get(name, 0) <= before.get(name, 0) for name in names):
            assert not self.failures
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(DEADLINE_SECONDS)
            assert not thread.is_alive()


@pytest.mark.timeout(1800)
def test_three_servers_are_replaced_under_load_without_one_failed_call(
    servers: list[ServerProcess],
) -> None:
    odps = pytest.importorskip("odps")
    maxstorage = pytest.importorskip("odps.maxstorage")
    schema = pa.schema([("id", pa.int64()), ("text", pa.string())])

    def rows(number: int) -> pa.Table:
        return pa.table({"id": [number] * 10, "text": [f"row {number}"] * 10}, schema=schema)

    with contextlib.ExitStack() as stack:
        front = stack.enter_context(Balancer([each.port for each in servers]))

        def connect() -> fletching.Client:
            return stack.enter_context(
                # One try each: what the balancer and the servers do must be enough.
                fletching.connect(
                    front.url, access_id="ak", access_key="sk", retry=fletching.NO_RETRIES
                )
            )

        setup = connect()
        for name in ("appended", "written"):
            setup.create_table(name, schema)
        entry = odps.ODPS("ak", "sk", project="demo", endpoint=f"{front.url}/api")
        storage = maxstorage.MaxStorageClient(entry, api_version="3")
        load = Load()

        appending = connect().table("appended")
        load.add("append", lambda number: appending.append(rows(number)))

        reading = connect().table("appended")
        seen = [0]

        def read(_number: int) -> None:
            table = reading.to_table()
            assert table.num_rows % 10 == 0
            assert table.num_rows >= seen[0]
            seen[0] = table.num_rows

        load.add("read", read)

        asking = connect()
        load.add("sql", lambda _number: asking.sql("select count(*) c from appended"))

        def write(number: int) -> None:
            session = storage.create_table_write_session("written")
            with session.open_arrow_writer("s0") as writer:
                writer.write_batch(rows(number).to_batches()[0])
            session.commit()

        load.add("PyODPS write", write)

        def scan(_number: int) -> None:
            session = storage.create_table_read_session("written")
            count = 0
            for split in session.splits:
                with session.open_arrow_reader(split) as stream:
                    count += sum(batch.num_rows for batch in stream)
            assert count == session.record_count

        load.add("PyODPS read", scan)
        load.add("PyODPS metadata", lambda _number: entry.get_table("written").reload())

        load.start()
        load.await_progress()
        for each in servers:
            each.drain()
            load.await_progress()
            each.start()
            each.await_ready()
            load.await_progress()
        load.end()
        assert load.failures == []
        assert setup.table("appended").count_rows() == 10 * load.counts["append"]
        assert setup.table("written").count_rows() == 10 * load.counts["PyODPS write"]


def freeze_in_a_transaction(server: ServerProcess, database: str) -> None:
    """Stops a server while it holds a table's row, as a host that is moved or swaps may be stopped."""
    held = """
        SELECT count(*) FROM pg_stat_activity JOIN pg_locks USING (pid)
        WHERE state = 'idle in transaction' AND mode = 'RowShareLock' AND relation = 'tables'::regclass
    """
    with admin(database) as connection:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            server.signal(signal.SIGSTOP)
            # Twice, a moment apart: another server's is over by then.
            if all(connection.execute(held).fetchone()[0] for _ in range(2)):
                time.sleep(1.0)
                if connection.execute(held).fetchone()[0]:
                    return
            server.signal(signal.SIGCONT)
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.timeout(1800)
def test_a_server_that_freezes_in_a_commit_keeps_nobody_and_does_nothing_twice(
    servers: list[ServerProcess], data_set: dict[str, str]
) -> None:
    """Longer than its lease: others go on, take its work over, and when it wakes it is fenced."""
    schema = pa.schema([("id", pa.int64())])
    frozen, other, _ = servers
    with contextlib.ExitStack() as stack:

        def table(server: ServerProcess) -> fletching.Table:
            url = f"http://127.0.0.1:{server.port}"
            client = stack.enter_context(
                fletching.connect(url, access_id="ak", access_key="sk", direct="never")
            )
            return client.create_table("t", schema, if_not_exists=True)

        load, going_on = Load(), Load()
        stopping, writing = table(frozen), table(other)
        for number in range(3):
            load.add(
                f"frozen {number}",
                lambda _: stopping.append(pa.table({"id": [1]}, schema=schema)),
            )
        going_on.add("other", lambda _: writing.append(pa.table({"id": [2]}, schema=schema)))
        load.start()
        load.await_progress()
        freeze_in_a_transaction(frozen, data_set["FLETCHING_CATALOG"])
        going_on.start()
        for _ in range(3):
            going_on.await_progress()
        # It is silent, and was dead to the others for longer than its leases last.
        with admin(data_set["FLETCHING_CATALOG"]) as connection:
            seen = "SELECT seen_at FROM writers ORDER BY seen_at LIMIT 1"
            now = "SELECT extract(epoch FROM clock_timestamp())"
            while (
                float(connection.execute(now).fetchone()[0])
                - connection.execute(seen).fetchone()[0]
                < 15
            ):
                time.sleep(0.2)
        frozen.signal(signal.SIGCONT)
        load.await_progress()
        frozen.await_ready()
        for each in (load, going_on):
            each.end()
            assert each.failures == []
        ids = writing.to_table()["id"].to_pylist()
        assert ids.count(1) == sum(load.counts.values())
        assert ids.count(2) == going_on.counts["other"]


def copy_objects(source: str, target: str) -> int:
    """Copies every object from one place to another, whichever kinds of stores they are in."""
    from obstore.store import from_url

    there, here = from_url(source), from_url(target)
    count = 0
    for page in there.list():
        for item in page:
            here.put(item["path"], bytes(there.get(item["path"]).bytes()))
            count += 1
    return count


def run_program(name: str, *words: str) -> None:
    folder = programs()
    assert folder is not None
    subprocess.run([str(folder / name), *words], check=True, timeout=300)


def test_a_backup_survives_the_loss_of_everything(
    postgresql: Databases, s3: ObjectStorage, tmp_path: Path
) -> None:
    """The catalog's dump first, then the objects; all is destroyed; restored elsewhere, all is there."""
    key_file = tmp_path / "server.key"
    key_file.write_text(KEY)

    def serve(catalog: str, objects: str) -> fletching.Server:
        return fletching.serve(
            catalog=catalog,
            objects=objects,
            server_key_file=key_file,
            access_keys={"ak": "sk"},
            maintenance=False,  # as while a backup is made
            drain_idle_seconds=0.05,
        )

    def connect(server: fletching.Server) -> fletching.Client:
        return fletching.connect(server.url, access_id="ak", access_key="sk")

    catalog, objects = postgresql.create(), s3.create()
    table = pa.table({"id": pa.array(range(1000)), "text": [f"row {n}" for n in range(1000)]})
    picture = os.urandom(200_000)
    with serve(catalog, objects) as server, connect(server) as client:
        client.create_table("t", table, primary_key=["id"])
        client.table("t").create_tag("v1")
        client.table("t").delete("id >= 900")
        client.create_table("pictures", pa.schema([("image", fletching.blob())]))
        client.table("pictures").append([{"image": picture}])
        dump = tmp_path / "catalog.dump"
        run_program("pg_dump", "-Fc", "-d", plain(catalog), "-f", str(dump))
        # Written while the backup runs: its objects are copied, and its row is not in the dump.
        client.table("t").upsert(pa.table({"id": [5000], "text": ["too late"]}))
        copied = copy_objects(objects, f"file://{made(tmp_path / 'objects')}")
        assert copied >= 4

    # --- all is lost ---
    from obstore.store import from_url

    lost = from_url(objects)
    for page in list(lost.list()):
        for item in page:
            lost.delete(item["path"])
    postgresql.drop_all()
    with pytest.raises(fletching.FletchingError):
        serve(catalog, objects)

    # --- and comes back somewhere else ---
    restored, storage = postgresql.create(migrated=False), s3.create()
    run_program("pg_restore", "--no-owner", "-d", plain(restored), str(dump))
    assert copy_objects(f"file://{tmp_path / 'objects'}", storage) == copied
    with serve(restored, storage) as server, connect(server) as client:
        assert (
            client.table("t").to_table().sort_by("id").to_pylist()
            == table.slice(0, 900).to_pylist()
        )
        assert (
            client.table("t").as_of("v1").to_table().sort_by("id").to_pylist() == table.to_pylist()
        )
        (reference,) = client.table("pictures").to_table()["image"].to_pylist()
        assert bytes(client.get_blob(reference).data) == picture
        # What came after the dump is not there, and can be written again.
        client.table("t").upsert(pa.table({"id": [5000], "text": ["again"]}))
        assert client.table("t").count_rows() == 901
    where: dict[str, Any] = {"catalog": restored, "objects": storage, "server_key_file": key_file}
    from fletching.engine.engine import Engine
    from fletching.engine.engine_settings import EngineSettings
    from fletching.settings import storage_settings

    settings = EngineSettings.of(storage_settings(**where)[0])
    with Engine.open(None, settings=settings) as engine:
        assert [item for item in engine.verify() if item.problems] == []
        assert engine.collect().refused == ""
    # A dump beside the objects of another data set is not a pair.
    other = s3.create()
    with serve(postgresql.create(), other):
        pass
    with pytest.raises(IdentityError):
        serve(restored, other)


def plain(url: str) -> str:
    """A URL as PostgreSQL's own programs take it."""
    return url.replace("postgresql+psycopg://", "postgresql://")


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder
