"""Killing the process at every named point: what was acknowledged is there, the rest is not."""

from __future__ import annotations

import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.engine.conftest import ELSEWHERE
from tests.processes import folder_in_memory
from tests.seaweedfs import ObjectStorage

from fletching import faultpoints
from fletching.engine.engine import Engine
from fletching.engine.engine_settings import EngineSettings
from fletching.protocol.messages.requests import (
    AppendRows,
    CommitWriteSession,
    CreateReadSession,
    GetWriteStream,
    ReadTable,
)
from fletching.types import TableName

T = TableName("demo", "t")
_scenario = runpy.run_path(str(Path(__file__).with_name("crash_scenario.py")))
body, objects_of = _scenario["body"], _scenario["objects_of"]
# What the scenario does: it makes no table of a query, uploads no blobs and deletes, updates and restores no rows, tags nothing, its
# table has no key, and its segments are small.
NOT_REACHED: tuple[str, ...] = (
    "blobs.",
    "change.",
    "restore.",
    "runs.",
    "table.",
    "tag.",
    "object.claimed",
)
if ELSEWHERE:
    # Steps of a local file alone.
    NOT_REACHED += ("object.synced", "object.published")
POINTS = [point for point in faultpoints.POINTS if not point.startswith(NOT_REACHED)]
AGAIN = {
    "object.durable": (2, 5),
    "object.deleted": (2, 5),
    # the twelfth is the first append in one request
    "write.staging": (12,),
    "write.staged": (2, 5, 12),
    "write.accepted": (2, 5, 12),
    "commit.changed": (2, 3),
}
TARGETS = ["nowhere", *POINTS, *(f"{point}:{n}" for point, times in AGAIN.items() for n in times)]


@pytest.fixture(scope="module")
def elsewhere(request: pytest.FixtureRequest) -> Iterator[None]:
    """Lets the scenarios keep objects in S3, in runs that keep them there."""
    if not ELSEWHERE:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        s3 = ObjectStorage(request.getfixturevalue("_s3_url"), patch)
        patch.setenv("FLETCHING_TEST_OBJECTS", s3.create())
        yield


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    with folder_in_memory() as folder:
        yield folder


@pytest.fixture(scope="module")
def scenarios(memory: Path, elsewhere: None) -> Iterator[subprocess.Popen[str]]:
    """The process that forks for each target."""
    script = Path(__file__).with_name("crash_scenario.py")
    scratch = memory / "scratch"
    scratch.mkdir()
    # It ends when its input does.
    with subprocess.Popen(
        [sys.executable, str(script), str(scratch)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        yield running


@pytest.fixture(params=["postgresql"] if ELSEWHERE else ["sqlite", "postgresql"])
def crashed(
    request: pytest.FixtureRequest,
    scenarios: subprocess.Popen[str],
    memory: Path,
    target: str,
) -> Iterator[tuple[Path, str | None]]:
    """A folder of a process that died at the target, and the URL of its catalog."""
    url = None
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql").create()
    assert scenarios.stdin is not None
    assert scenarios.stdout is not None
    with tempfile.TemporaryDirectory(dir=memory) as made:
        scenarios.stdin.write(f"{target}\t{made}\t{url or ''}\n")
        scenarios.stdin.flush()
        ended = int(scenarios.stdout.readline())
        folder = Path(made)
        failure = folder / "failed"
        assert not failure.exists(), failure.read_text()
        assert ended == (0 if target == "nowhere" else -signal.SIGKILL)
        yield folder, url


class History:
    """What a child said before it died."""

    def __init__(self, path: Path) -> None:
        lines = [line.split() for line in path.read_text().splitlines()]
        self.time = float(lines[-1][0])
        self.done = [line[2:] for line in lines if line[1] == "done"]
        self.begun = lines[-1][2:] if lines[-1][1] == "begin" else None

    def rows(self, *, with_begun: bool) -> set[int]:
        """Visible rows, by the acknowledged events and, if wanted, the one under way."""
        events = [*self.done]
        if with_begun and self.begun:
            events.append(self.begun)
        visible: set[int] = set()
        for event in events:
            if event[0] in {"append", "direct"}:
                visible |= span(int(event[1]))
            elif event[0] == "commit":
                if event[1] == "fourth":  # overwrites both partitions
                    visible = set()
                for start in event[3:]:
                    visible |= span(int(start))
        return visible


def span(start: int) -> set[int]:
    return set(range(start, start + 10))


def read(engine: Engine) -> list[int]:
    session: Any = engine.call(CreateReadSession(table=T))
    plan = engine.read(ReadTable(table=T, session_id=session.session_id))
    data = b"".join(bytes(piece) for piece in plan.buffers())
    return list(pa.ipc.open_stream(data).read_all()["id"].to_pylist())


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("target", TARGETS)
def test_nothing_acknowledged_is_lost_and_nothing_else_is_there(
    crashed: tuple[Path, str | None], target: str
) -> None:
    folder, url = crashed
    history = History(folder / "log")
    if ["create"] not in history.done:
        pytest.skip("died before there was a table")
    settings = EngineSettings(
        catalog_url=url,
        objects_url=objects_of(target),
        write_session_seconds=1000.0,
        removed_seconds=10.0,
        retain_seconds=10.0,
    )
    with Engine.open(folder / "data", settings=settings, clock=lambda: history.time) as engine:
        # opening needed no manual step, and left nothing of the dead process behind
        assert not list((folder / "data" / "objects" / ".staging").glob("*/*"))
        rows = read(engine)
        assert len(rows) == len(set(rows))
        assert set(rows) in (history.rows(with_begun=False), history.rows(with_begun=True))
        assert [item for item in engine.verify() if item.problems] == []

        # a client that repeats what it has no answer to gets it done once
        begun = history.begun
        if begun and begun[0] == "commit":
            engine.call(CommitWriteSession(table=T, session_id=begun[2]))
            assert set(read(engine)) == history.rows(with_begun=True)
        if begun and begun[0] == "direct":
            start = int(begun[1])
            ingest = engine.open_ingest(AppendRows(table=T, retry_trace_id=f"direct-{start}"))
            ingest.decoder.feed(body(start, 10))
            ingest.accept(list(ingest.decoder))
            ingest.finish()
            assert sorted(read(engine)) == sorted(history.rows(with_begun=True))
        if begun and begun[0] == "append":
            stream: Any = engine.call(
                GetWriteStream(table=T, session_id="default", stream_id="eo", exactly_once=True)
            )
            assert stream.row_offset in (int(begun[1]) - 1000, int(begun[1]) - 990)
            assert (int(begun[1]) in read(engine)) == (stream.row_offset == int(begun[1]) - 990)

    # once every lifetime is over, what the catalog does not need is gone
    with Engine.open(folder / "data", settings=settings, clock=lambda: 1_900_000_000.0) as engine:
        before = read(engine)
        engine.collect()
        assert sorted(read(engine)) == sorted(before)
        checked = list(engine.verify())
        assert [item for item in checked if item.problems] == []
        assert {info.key for info in engine.context.store.list("tables")} == {
            item.name for item in checked
        }
