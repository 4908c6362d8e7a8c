"""Upkeep in the background: each task in its rounds, failures put up with, an end that waits."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from fletching.engine.upkeep.maintenance import Maintenance, Task
from fletching.errors import StorageError


def failing(error: Exception) -> Callable[[], None]:
    def run() -> None:
        raise error

    return run


def test_tasks_run_in_their_rounds() -> None:
    done: list[str] = []
    tasks = [Task("a", lambda: done.append("a")), Task("b", lambda: done.append("b"), every=3)]
    upkeep = Maintenance(tasks, interval_seconds=3600)
    for _ in range(6):
        upkeep.run_once()
    upkeep.stop()
    assert done == ["a", "a", "a", "b", "a", "a", "a", "b"]
    upkeep.run_once()
    assert len(done) == 8  # nothing begins after the end


def test_a_task_that_fails_is_tried_again_and_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    done: list[int] = []
    tasks = [
        Task("storage", failing(StorageError("the disk"))),
        Task("mistake", failing(ZeroDivisionError())),
        Task("last", lambda: done.append(1)),
    ]
    upkeep = Maintenance(tasks, interval_seconds=3600)
    upkeep.run_once()
    upkeep.run_once()
    upkeep.stop()
    assert done == [1, 1]
    records = [(record.levelname, bool(record.exc_info)) for record in caplog.records]
    assert records == [("WARNING", False), ("ERROR", True)] * 2
    assert "storage failed and will be tried again: the disk" in caplog.text


def test_a_round_comes_when_it_is_woken_and_the_end_waits_for_it() -> None:
    begun, release, ended = threading.Event(), threading.Event(), []

    def work() -> None:
        begun.set()
        assert release.wait(600)
        ended.append(1)

    upkeep = Maintenance(
        [Task("work", work), Task("more", lambda: ended.append(2))], interval_seconds=3600
    )
    upkeep.wake()
    assert begun.wait(600)
    stopping = threading.Thread(target=upkeep.stop)
    stopping.start()
    stopping.join(0.02)
    assert stopping.is_alive()
    release.set()
    stopping.join(600)
    assert ended == [1]  # the next task of the round did not begin
    upkeep.stop()


def test_a_task_may_end_it() -> None:
    upkeep = Maintenance([], interval_seconds=3600)
    upkeep._tasks = (Task("end", upkeep.stop),)
    upkeep.wake()
    upkeep._thread.join(600)
    assert not upkeep._thread.is_alive()
