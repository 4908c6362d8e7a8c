"""Rows that wait: in their newest form, tried again whatever comes, and once more at the end."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.engine.conftest import House
from tests.waiting import until

from fletching.engine import waiting_rows
from fletching.engine.waiting_rows import WaitingRows


@dataclasses.dataclass(frozen=True)
class Row:
    id: str
    value: int


class Written:
    """Takes the rows that are written, and fails as often as it is told."""

    def __init__(self) -> None:
        self.rows: list[tuple[Row, bool]] = []
        self.failures = 0
        self.goes_on = threading.Event()
        self.goes_on.set()

    def __call__(self, _connection: Any, row: Row, new: bool) -> None:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("the catalog fails")
        self.goes_on.wait(60)
        self.rows.append((row, new))


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Written:
    monkeypatch.setattr(waiting_rows, "_FAILURE_PAUSE_SECONDS", 0.01)
    return Written()


@pytest.fixture
def rows(house: House, written: Written) -> Iterator[WaitingRows[Row]]:
    made = WaitingRows(house.engine.context.database, written, what="rows")
    yield made
    made.close()


def test_a_row_is_answered_for_until_it_is_written(
    rows: WaitingRows[Row], written: Written
) -> None:
    written.goes_on.clear()
    rows.put(Row("a", 1), new=True)
    assert rows.find("a") == Row("a", 1)
    assert rows.rows() == [Row("a", 1)]
    written.goes_on.set()
    until(lambda: not rows)
    assert rows.find("a") is None
    assert written.rows == [(Row("a", 1), True)]


def test_of_a_row_that_is_put_again_the_newest_is_written(
    rows: WaitingRows[Row], written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting_rows, "_GATHER_SECONDS", 0.3)
    rows.put(Row("a", 1), new=True)
    rows.put(Row("a", 2), new=False)
    until(lambda: not rows)
    assert written.rows == [(Row("a", 2), True)]


def test_a_row_that_is_put_again_while_it_is_written_is_new_no_more(
    rows: WaitingRows[Row], written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()

    def write(connection: Any, row: Row, new: bool) -> None:
        begun.set()
        written(connection, row, new)

    monkeypatch.setattr(rows, "_write_row", write)
    written.goes_on.clear()
    rows.put(Row("a", 1), new=True)
    assert begun.wait(60)
    rows.put(Row("a", 2), new=False)
    written.goes_on.set()
    until(lambda: not rows)
    assert written.rows == [(Row("a", 1), True), (Row("a", 2), False)]


def test_what_fails_is_tried_again(rows: WaitingRows[Row], written: Written) -> None:
    written.failures = 3
    rows.put(Row("a", 1), new=True)
    until(lambda: not rows)
    assert written.rows == [(Row("a", 1), True)]
    assert not rows.locked_out


def test_closing_tries_once_more(rows: WaitingRows[Row], written: Written) -> None:
    written.failures = 10**9
    rows.put(Row("a", 1), new=True)
    until(lambda: rows.locked_out)
    written.failures = 0
    rows.close()
    assert written.rows == [(Row("a", 1), True)]
