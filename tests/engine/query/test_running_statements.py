"""Statements that wait or run: cancelled before, while and after, and how far they are."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from fletching.engine.query.running_statements import RunningStatements
from fletching.errors import OperationCancelledError


class Duck:
    progress = 0.25

    def __init__(self) -> None:
        self.interrupted = 0

    def interrupt(self) -> None:
        self.interrupted += 1


def made() -> Any:
    found = RunningStatements(SimpleNamespace(id="i"))  # type: ignore[arg-type]  # a row
    found.future = Future()
    return found


def test_cancelled_before_it_begins() -> None:
    run = made()
    run.cancel()
    assert run.future.cancelled()
    for call in (run.check, lambda: run.began(Duck())):
        with pytest.raises(OperationCancelledError):
            call()


def test_cancelled_while_it_runs() -> None:
    run, duck = made(), Duck()
    run.check()
    assert run.progress == 0.0
    run.began(duck)
    assert run.progress == 0.25
    run.cancel()
    assert duck.interrupted == 1
    with pytest.raises(OperationCancelledError):
        run.check()


def test_bytes_of_all_its_queries() -> None:
    run = made()
    assert run.input_bytes == 0
    for size in (3, 4):
        run.ran(SimpleNamespace(statistics=SimpleNamespace(bytes=size)))
    assert run.input_bytes == 7
