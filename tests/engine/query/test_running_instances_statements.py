"""Statements that wait or run: cancelled before, while and after, and how far they are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fletching.engine.query.running_instances import RunningStatements
from fletching.errors import OperationCancelledError


class Duck:
    progress = 0.25

    def __init__(self) -> None:
        self.interrupted = 0

    def interrupt(self) -> None:
        self.interrupted += 1


def made() -> Any:
    statement = RunningStatements(SimpleNamespace(id="i"))  # type: ignore[arg-type]  # a row
    statement.work = lambda: "done"  # type: ignore[assignment,return-value]
    return statement


def test_cancelled_before_it_begins() -> None:
    run = made()
    ends: list[str] = []

    def work() -> str:
        with pytest.raises(OperationCancelledError):
            run.check()
        ends.append("cancelled")
        return ends[-1]

    run.work = work
    run.cancel()
    # No thread had it yet: it has ended all the same, once.
    assert run.future.result(0) == "cancelled"
    run.begin()
    run.cancel()
    assert ends == ["cancelled"]
    for call in (run.check, lambda: run.began(Duck())):
        with pytest.raises(OperationCancelledError):
            call()


def test_cancelled_while_it_runs() -> None:
    run, duck = made(), Duck()
    run.check()
    assert run.progress == 0.0
    run.began(duck)
    assert run.progress == 0.25
    run.work = run.cancel  # as whoever cancels meets the thread that runs it
    run.begin()
    assert duck.interrupted == 1
    with pytest.raises(OperationCancelledError):
        run.check()


def test_what_it_raises_is_for_whoever_waits() -> None:
    run = made()
    run.work = {}.popitem
    run.begin()
    with pytest.raises(KeyError):
        run.future.result(0)


def test_bytes_of_all_its_queries() -> None:
    run = made()
    assert run.input_bytes == 0
    for size in (3, 4):
        run.ran(SimpleNamespace(statistics=SimpleNamespace(bytes=size)))
    assert run.input_bytes == 7
