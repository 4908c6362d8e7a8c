"""What became of upkeep is seen by whoever opens the folder next."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import fletching
from fletching.catalog import upkeep_rows
from fletching.engine.engine import Engine
from fletching.engine.engine_settings import EngineSettings
from fletching.engine.upkeep.maintenance import MAX_PROBLEMS, last_runs, record_run
from fletching.errors import StorageError

QUIET = EngineSettings(maintenance_seconds=0, compact_min_segments=4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with fletching.connect(tmp_path / "data", project="demo", create=True) as client:
        table = client.create_table("t", "id BIGINT")
        for number in range(6):
            table.append({"id": [number]})
    return tmp_path / "data"


def test_a_verification_is_known_to_every_opening(folder: Path) -> None:
    with (
        Engine.open(folder, settings=QUIET) as engine,
        Engine.open(folder, settings=QUIET) as other,
    ):
        assert engine.operations.tasks() == []
        for _ in engine.verify():
            break  # left before its end: it proves nothing
        assert other.operations.last_run("verification") is None
        verification = engine.verify()
        assert all(not checked.problems for checked in verification)
        run = other.operations.last_run("verification")
        assert run is not None
        assert run.summary == verification.summary
        assert run.summary.startswith("nothing is wrong: 6 objects")
        (state,) = other.operations.tasks()
        assert (state.task, state.summary, state.place) == ("verification", run.summary, run.place)
        assert state.ended_at == run.ended_at
    with Engine.open(folder, settings=QUIET, read_only=True) as later:
        assert later.operations.last_run("verification") == run
        list(later.verify())
        assert later.operations.last_run("verification") == run  # nothing is written there


def test_compaction_and_retention_are_kept_if_they_did_something(folder: Path) -> None:
    with Engine.open(folder, settings=QUIET) as engine:
        engine.collect()
        assert last_runs(engine.context) == {}
        engine.compact()
        assert last_runs(engine.context)["compaction"].summary.startswith("6 segments became 1")
        engine.collect(dry_run=True)
        assert list(last_runs(engine.context)) == ["compaction"]


def test_problems_are_counted_and_the_first_are_kept(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Engine.open(folder, settings=QUIET) as engine:
        record_run(
            engine.context,
            "verification",
            1.0,
            "bad",
            problems=["x" * 5000] * 300,
            problem_count=1234,
        )
        run = last_runs(engine.context)["verification"]
        assert (run.problem_count, len(run.problems), len(run.problems[0])) == (
            1234,
            MAX_PROBLEMS,
            1000,
        )

        def fail(*_: object) -> None:
            raise StorageError("the disk is full")

        monkeypatch.setattr(upkeep_rows, "record_run", fail)
        with caplog.at_level(logging.WARNING):
            assert [item for item in engine.verify() if item.problems] == []
        assert "the disk is full" in caplog.text
