"""What an operator sees of a folder, and what he starts."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fletching
from fletching.engine.engine import Engine
from fletching.engine.engine_settings import EngineSettings
from fletching.engine.upkeep.operations import TASKS
from fletching.errors import ConflictError, NotFoundError
from fletching.protocol.messages.requests import CreateReadSession, CreateWriteSession
from fletching.protocol.messages.responses import ReadSession, WriteSession
from fletching.types import TableName

TABLE = TableName("demo", "t")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    folder = tmp_path / "data"
    with fletching.connect(str(folder), project="demo", create=True) as client:
        table = client.create_table("t", "id BIGINT")
        for number in range(12):
            table.append({"id": [number]})
        client.create_table("small", "id BIGINT").append({"id": [1]})
    with Engine.open(folder, settings=EngineSettings(maintenance_seconds=0)) as result:
        yield result


def finished(engine: Engine, task: str) -> Any:
    deadline = time.monotonic() + 600
    while True:
        state = next(state for state in engine.operations.tasks() if state.task == task)
        if state.ended_at is not None:
            return state
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_tables_are_listed_by_size_and_added_up(engine: Engine) -> None:
    operations = engine.operations
    assert [str(each.table) for each in operations.largest_tables()] == [
        "demo.default.t",
        "demo.default.small",
    ]
    totals = operations.totals()
    assert (totals["tables"], totals["rows"], totals["segments"]) == (2, 13, 13)
    assert operations.debt()["compaction_segments"] == 12
    free, total = operations.disk() or (0, 0)
    assert 0 < free <= total


def test_sessions_are_seen_and_ended(engine: Engine) -> None:
    read = engine.call(CreateReadSession(table=TABLE))
    write = engine.call(CreateWriteSession(table=TABLE))
    assert isinstance(read, ReadSession)
    assert isinstance(write, WriteSession)
    sessions = {session.id: session for session in engine.operations.sessions()}
    assert sessions[read.session_id].version == 12
    assert sessions[write.session_id].kind == "write"
    for session in sessions.values():
        engine.operations.end_session(session.id, session.kind)
    assert engine.operations.sessions() == []
    with pytest.raises(NotFoundError):
        engine.operations.end_session(read.session_id, "read")
    with pytest.raises(NotFoundError):
        engine.operations.end_session(write.session_id, "read")


def test_segments_are_listed_and_looked_into(engine: Engine) -> None:
    rows = engine.operations.segments(TABLE)
    assert sum(row.rows for row in rows) == 12
    row, report = engine.operations.inspect_segment(TABLE, rows[0].id)
    assert (row.key, report.ok, report.length) == (rows[0].key, True, rows[0].length)
    other = engine.operations.segments(TableName("demo", "small"))[0]
    with pytest.raises(NotFoundError):
        engine.operations.inspect_segment(TABLE, other.id)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("compaction", "12 segments became 1"),
        ("retention", "nothing to do"),
        ("verification", "nothing is wrong: 13 objects"),
    ],
)
def test_tasks_say_what_they_did(engine: Engine, task: str, words: str) -> None:
    engine.operations.start(task)
    state = finished(engine, task)
    assert words in state.summary
    assert state.problems == []
    # Another server, and who opens the folder later, see the same.
    run = engine.operations.last_run(task)
    assert run is not None
    assert (run.summary, run.ended_at >= state.started_at) == (state.summary, True)


def test_verification_says_what_is_wrong(engine: Engine) -> None:
    row = engine.operations.segments(TABLE)[0]
    root = getattr(engine.context.store, "root")  # noqa: B009 - only a folder has one
    path = Path(root) / row.key
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    engine.operations.start("verification")
    state = finished(engine, "verification")
    assert "problems" in state.summary
    assert row.key in state.problems[0]
    run = engine.operations.last_run("verification")
    assert run is not None
    assert (run.problems, run.problem_count) == (tuple(state.problems), state.problem_count)


def test_one_task_at_a_time_and_none_that_is_not_known(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFoundError, match=", ".join(TASKS)):
        engine.operations.start("format the disk")
    going, begun = threading.Event(), threading.Event()

    def collect(**_: object) -> Any:
        begun.set()
        going.wait(600)
        raise NotFoundError("gone")

    monkeypatch.setattr(engine, "collect", collect)
    engine.operations.start("retention")
    assert begun.wait(600)
    with pytest.raises(ConflictError):
        engine.operations.start("verification")
    going.set()
    assert finished(engine, "retention").summary.startswith("failed: gone")


def test_upkeep_tells_how_far_it_is(engine: Engine) -> None:
    progress: list[tuple[int, int]] = []
    engine.collect(progress=lambda done, total: progress.append((done, total)))
    assert [done for done, _ in progress] == list(range(progress[-1][1] + 1))
    assert len({total for _, total in progress}) == 1
    progress.clear()
    engine.compact(progress=lambda done, total: progress.append((done, total)))
    assert progress == [(1, 1)]
