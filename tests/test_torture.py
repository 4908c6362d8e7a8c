"""The torture run's checker knows a bad history when it sees one."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


def history() -> list[dict[str, Any]]:
    """A history that can be: one stream, two sessions, a register, snapshots of both."""
    events: list[tuple[float, str, str, dict[str, Any]]] = [
        (1, "eo0", "look", {"offset": 0}),
        (2, "eo0", "append", {"offset": 0, "count": 4}),
        (3, "eo0", "appended", {"offset": 4}),
        (2, "b0", "session", {"src": "b0.1", "session": "x", "total": 6}),
        (3, "b0", "commit", {"src": "b0.1"}),
        (4, "b0", "commited", {"src": "b0.1"}),
        (4.1, "b0", "session", {"src": "b0.2", "session": "y", "total": 3}),
        (4.2, "b0", "abort", {"src": "b0.2"}),
        (4, "register0", "set", {"value": 1}),
        (5, "register0", "was set", {"value": 1}),
        (6, "register0", "set", {"value": 2}),
        (7, "r0", "snapshot", {"table": "main", "before": 5, "after": 6, "contents": {
            "eo0": [4, 4, 3, 0], "b0.1": [6, 6, 5, 6]}}),
        (7, "r0", "snapshot", {"table": "register", "before": 6.5, "after": 7, "contents": {
            "register": [3, 1, 2, 3]}}),
    ]  # fmt: skip
    return [{"t": at, "who": who, "event": event, **details} for at, who, event, details in events]


def check(events: list[dict[str, Any]]) -> list[str]:
    sys.path.insert(0, str(ROOT))
    try:
        from torture.checker import Checker
    finally:
        sys.path.remove(str(ROOT))
    problems: list[str] = Checker(sorted(events, key=lambda event: event["t"])).check()
    return problems


def soaked(**ends: tuple[float, float]) -> list[str]:
    """What a soak complains of in which these have grown evenly, from the first value to the second."""
    sys.path.insert(0, str(ROOT))
    try:
        from torture.usage import growth
    finally:
        sys.path.remove(str(ROOT))
    level = dict.fromkeys(("descriptors", "threads", "catalog_mb"), (20.0, 20.0))
    samples = [
        {"seconds": 60.0 * n}
        | {name: a + (b - a) * n / 120 for name, (a, b) in {**level, **ends}.items()}
        for n in range(121)
    ]
    lines, problems = growth(samples, 7200.0)
    assert len(lines) == 6
    return [problem.split(" ")[0] for problem in problems]


def test_a_soak_tells_what_is_remembered_of_tables_from_a_leak() -> None:
    assert soaked(memory_mb=(150, 240), remembered_mb=(10, 100)) == []
    assert soaked(memory_mb=(150, 240), remembered_mb=(10, 20)) == ["memory_mb"]
    assert soaked(memory_mb=(150, 240), remembered_mb=(100, 10)) == ["memory_mb"]
    assert soaked(memory_mb=(150, 152), remembered_mb=(0, 90), threads=(20, 40)) == ["threads"]


def contents(events: list[dict[str, Any]], number: int = 0) -> dict[str, Any]:
    snapshots = [event for event in events if event["event"] == "snapshot"]
    result: dict[str, Any] = snapshots[number]["contents"]
    return result


def change(event: str, **details: Any) -> Callable[[list[dict[str, Any]]], None]:
    def apply(events: list[dict[str, Any]]) -> None:
        next(e for e in events if e["event"] == event).update(details)

    return apply


def test_a_good_history_has_no_problems() -> None:
    assert check(history()) == []


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda e: contents(e).pop("eo0"), "0 are there"),
        (lambda e: contents(e).update(eo0=[3, 3, 2, 0]), "3 are there"),
        (lambda e: contents(e).update(eo0=[5, 4, 3, 0]), "there twice"),
        (lambda e: contents(e).update(eo0=[4, 4, 4, 0]), "some are missing"),
        (lambda e: contents(e).update(eo0=[5, 5, 4, 0]), "more than were ever sent"),
        (lambda e: contents(e).update({"?": [1, 0, 0, 0]}), "wrong payloads"),
        (lambda e: contents(e).update({"b0.1!": [5, 5, 4, 5]}), "never closed"),
        (lambda e: contents(e).update({"b0.1": [5, 5, 4, 6]}), "5 of the 6 rows"),
        (lambda e: contents(e).update({"b0.1": [12, 6, 5, 6]}), "there twice"),
        (lambda e: contents(e).pop("b0.1"), "committed before"),
        (lambda e: contents(e).update({"b0.2": [3, 3, 2, 3]}), "aborted or left"),
        (change("commit", t=6.5), "before its commit was asked for"),
        (lambda e: contents(e, 1).clear(), "empty"),
        (lambda e: contents(e, 1).update(register=[2, 1, 2, 3]), "2 rows of 1 values"),
        (lambda e: contents(e, 1).update(register=[3, 2, 2, 3]), "3 rows of 2 values"),
        (lambda e: contents(e, 1).update(register=[3, 1, 3, 3]), "not from 1 to 2"),
        (lambda e: contents(e, 1).update(register=[3, 1, 0, 3]), "not from 1 to 2"),
        (lambda e: e.append({"t": 9, "who": "x", "event": "violation", "what": "boom"}), "boom"),
        (lambda e: e.append({"t": 9, "who": "x", "event": "unexpected", "error": "bang"}), "bang"),
    ],
)
def test_a_bad_history_is_told(spoil: Callable[[Any], Any], problem: str) -> None:
    events = history()
    spoil(events)
    assert any(problem in result for result in check(events))


def ledger(events: list[tuple[str, str, int]], now: str, at: dict[int, str]) -> list[str]:
    """What is wrong with a history of changes: (event, rows, version) each, and what is there."""
    from collections import Counter

    sys.path.insert(0, str(ROOT))
    try:
        final_ledger = importlib.import_module("torture.ledger").final_ledger
    finally:
        sys.path.remove(str(ROOT))

    def rows(text: str) -> Counter[tuple[int, int]]:
        pairs = [item.split(":") for item in text.split()]
        return Counter((int(number), int(n)) for number, n in pairs)

    history = [
        {"event": event, "rows": text, "version": version, "kind": "upsert"}
        for event, text, version in events
    ]
    problems: list[str] = final_ledger(history, rows(now), lambda version: rows(at[version]))
    return problems


def test_a_ledger_is_what_its_changes_made() -> None:
    done = [("change", "1:1", 0), ("changed", "1:1", 1), ("watched", "1:1", 1)]
    at = {1: "1:1"}
    assert ledger(done, "1:1", at) == []
    # A change that nobody answered was done, or was not.
    begun = [*done, ("change", "1:1 2:2", 0)]
    assert ledger(begun, "1:1", at) == []
    assert ledger(begun, "1:1 2:2", at) == []
    assert ledger(begun, "2:2", at)
    assert ledger(done, "", at)
    assert ledger(done, "1:1", {1: "1:2"})
    assert ledger([*done, ("watched", "1:1 1:1", 1)], "1:1", at)
