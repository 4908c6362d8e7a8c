"""Several processes behind one port: one service to its clients, in limits, sessions and stopping."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.waiting import until

import fletching
from fletching.errors import FletchingError, StorageError, TransportError, UsageError
from fletching.server import worker_processes
from fletching.server.server import bind
from fletching.server.server_settings import ServerSettings
from fletching.server.worker_processes import DIVIDED, WorkerServer, _Task, _Worker, share_of

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="SO_REUSEPORT")

KEY: dict[str, Any] = {"access_id": "id", "access_key": "secret"}
PATIENCE_SECONDS = 120.0


def answering(url: str, asks: int = 60) -> set[str]:
    """Which processes answer: their request ids begin alike. Each request is a connection of its own."""
    result = set()
    for _ in range(asks):
        with urllib.request.urlopen(f"{url}/healthz") as reply:
            result.add(reply.headers["x-odps-request-id"].split("-")[0])
    return result


def is_alive(pid: int) -> bool:
    try:
        return not Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].startswith(" Z")
    except OSError:
        return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerServer]:
    folder = tmp_path_factory.mktemp("workers")
    with fletching.serve(folder, workers=2, access_keys={"id": "secret"}) as running:
        assert isinstance(running, WorkerServer)
        yield running


def test_every_process_answers_at_the_one_port(server: WorkerServer) -> None:
    assert len(set(server.pids)) == 2
    assert len(answering(server.url)) == 2


def test_what_one_has_done_all_know(server: WorkerServer) -> None:
    """Each client has connections of its own, so that requests of a job go to both."""
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(fletching.connect(server.url, **KEY, direct=direct))
            for direct in ("never", "auto") * 4
        ]
        table = clients[0].create_table("t", pa.schema([("n", pa.int64())]))
        for number, client in enumerate(clients):
            client.table("t").append(pa.table({"n": [number]}))
        for client in clients:
            assert client.table("t").scan().to_table()["n"].to_pylist() == list(range(8))
        # A session that one has opened is read, extended and ended by any.
        session = table.scan().session()
        for client in clients:
            reader = client.resume(session.splits(1)[0].reader().token)
            assert reader.read_all()["n"].to_pylist() == list(range(8))
        session.refresh()
        session.release()


def test_a_process_that_dies_is_replaced(server: WorkerServer) -> None:
    before = answering(server.url)
    pids = server.pids
    os.kill(pids[0], signal.SIGKILL)
    until(lambda: server.pids[0] != pids[0] and len(answering_or_none(server.url)) == 2)
    assert len(before & answering(server.url)) == 1
    with fletching.connect(server.url, **KEY) as client:
        client.create_table("later", pa.table({"n": [1]}), if_not_exists=True)


def answering_or_none(url: str) -> set[str]:
    try:
        return answering(url)
    except OSError:
        return set()


def command(folder: Path) -> tuple[subprocess.Popen[str], dict[str, Any], list[int]]:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "fletching", "serve", str(folder), "--port", "0", "--json"),
            *("--workers", "2", "--access-key", "id:secret", "--no-access-log"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    text = ""
    while "}" not in text:
        line = process.stdout.readline()
        assert line, "the server ended"
        text += line
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return process, json.loads(text), [int(pid) for pid in children]


def test_stopping_finishes_what_is_under_way_and_ends_every_process(tmp_path: Path) -> None:
    process, report, pids = command(tmp_path)
    try:
        assert len(pids) == 2
        with fletching.connect(report["url"], **KEY, direct="never") as client:
            table = client.create_table("t", pa.table({"n": range(4_000_000)}))
            batches = table.scan().to_batches()
            count = next(batches).num_rows
            process.send_signal(signal.SIGTERM)
            # The port is closed while the reply goes on.
            until(lambda: not answering_or_none(report["url"]))
            count += sum(batch.num_rows for batch in batches)
        assert count == 4_000_000
        assert process.wait(PATIENCE_SECONDS) == 0
        assert not any(map(is_alive, pids))
    finally:
        process.kill()
        process.communicate()


def test_no_process_outlives_the_one_that_started_it(tmp_path: Path) -> None:
    task = _Task(tmp_path, {"id": "secret"}, ServerSettings(port=0), None)
    worker = _Worker(task)
    assert worker.wait_until_ready()["access_keys"] == {"id": "secret"}
    worker.stop()  # its pipe ends, as it does when this process is killed
    assert worker.end(PATIENCE_SECONDS) == 0


# --- what is divided, refused ----------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2, 3, 7, 64])
def test_limits_are_those_of_all_processes_together(workers: int) -> None:
    settings = ServerSettings(workers=workers)
    shares = [share_of(settings, number) for number in range(workers)]
    for name in DIVIDED:
        whole = getattr(settings, name)
        total = sum(getattr(share, name) for share in shares)
        assert whole <= total < whole + workers, name
    assert [share.maintenance for share in shares] == [True] + [False] * (workers - 1)
    assert all(share.workers == 1 for share in shares)


def test_a_port_that_somebody_has_is_refused(tmp_path: Path) -> None:
    with bind(ServerSettings(port=0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(TransportError, match="another process listens"):
            fletching.serve(tmp_path, port=port, workers=2)


def test_why_a_process_cannot_serve_is_said(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("no folder")
    with pytest.raises(FletchingError, match="file") as caught:
        fletching.serve(path, workers=2)
    assert isinstance(caught.value, StorageError | UsageError)


def test_other_systems_serve_with_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UsageError, match="needs Linux"):
        WorkerServer(tmp_path, None, ServerSettings(workers=2))


def test_processes_that_die_at_once_end_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_processes, "QUICK_DEATH_SECONDS", 0.2)
    monkeypatch.setattr(worker_processes, "MOST_QUICK_DEATHS", -1)
    server = WorkerServer(
        tmp_path, {"id": "secret"}, ServerSettings(port=0, workers=1, drain_idle_seconds=0.0)
    )
    server._workers[0].started_at = time.monotonic() + 3600
    os.kill(server.pids[0], signal.SIGKILL)
    with pytest.raises(TransportError, match="die as soon"):
        server.run()
