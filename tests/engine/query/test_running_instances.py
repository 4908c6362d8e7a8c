"""Instances in this process: so many at once, so many waiting, found until they end, cancelled at the end."""

from __future__ import annotations

import contextvars
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from fletching.engine.query import running_instances
from fletching.engine.query.running_instances import RunningInstances, RunningStatements
from fletching.errors import ConflictError, ThrottledError


def statements(name: str) -> Any:
    return RunningStatements(SimpleNamespace(id=name))  # type: ignore[arg-type]  # a row


def test_found_until_forgotten_and_run_in_the_caller_s_context() -> None:
    running = RunningInstances(None, 1)  # type: ignore[arg-type]  # nobody is watched
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("who")
    variable.set("ann")
    run = statements("a")
    running.begin(run, variable.get)  # type: ignore[arg-type]
    assert run.future.result(600) == "ann"
    assert running.find("a") is run
    assert run is not None
    running.forget(run)
    running.forget(run)
    assert running.find("a") is None
    running.close()


def test_too_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_instances, "MAX_WAITING", 2)
    running = RunningInstances(None, 1)  # type: ignore[arg-type]
    release = threading.Event()
    for name in "ab":
        running.begin(statements(name), lambda: release.wait(600))  # type: ignore[arg-type,return-value]
    with pytest.raises(ThrottledError):
        running.begin(statements("c"), lambda: None)  # type: ignore[arg-type,return-value]
    release.set()
    running.close()


def test_an_id_runs_once() -> None:
    running = RunningInstances(None, 1)  # type: ignore[arg-type]
    release = threading.Event()
    first = statements("a")
    running.begin(first, lambda: release.wait(600))  # type: ignore[arg-type,return-value]
    with pytest.raises(ConflictError, match="instance a runs already"):
        running.begin(statements("a"), lambda: None)  # type: ignore[arg-type,return-value]
    assert running.find("a") is first
    release.set()
    running.close()


def test_closing_cancels_what_runs() -> None:
    running = RunningInstances(None, 1)  # type: ignore[arg-type]
    run, waiting = statements("a"), statements("b")
    ended = threading.Event()
    run.cancel = ended.set
    running.begin(run, lambda: ended.wait(600))  # type: ignore[arg-type,return-value]
    running.begin(waiting, lambda: None)  # type: ignore[arg-type,return-value]
    running.close()
    running.close()
    assert ended.is_set()
    assert waiting.future.result(0) is None
