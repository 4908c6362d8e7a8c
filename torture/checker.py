"""Decides whether a history can be: what was acknowledged is there once, the rest is not.

A snapshot is taken somewhere between the moment its session was asked for and the moment that was
answered. So it must have all that was acknowledged before, may have what was asked for before the
end, and nothing else; and a session's rows are there all together or not at all.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any


def load(folder: Path) -> list[dict[str, Any]]:
    events = []
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            try:
                events.append(json.loads(line))
            except json.JSONDecodeError:
                continue  # the last line of a worker that was ended while it wrote
    return sorted(events, key=lambda event: event["t"])


class Checker:
    """What the writers say, by source and time, and what snapshots may hold because of it."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        self.events = events
        self.problems: list[str] = []
        self.totals: dict[str, int] = {}
        self.committing: dict[str, float] = {}
        self.committed: dict[str, float] = {}
        self.aborted: set[str] = set()
        # (time, offset) pairs, both rising: acknowledged, and asked for
        self.acknowledged: dict[str, list[tuple[float, int]]] = defaultdict(list)
        self.attempted: dict[str, list[tuple[float, int]]] = defaultdict(list)
        self.register: list[tuple[float, int]] = []
        self.register_done: list[tuple[float, int]] = []
        for event in events:
            self.note(event)

    def note(self, event: dict[str, Any]) -> None:
        kind, who, at = event["event"], event["who"], event["t"]
        if kind in {"violation", "unexpected"}:
            self.problems.append(f"{who}: {event.get('what') or event.get('error')}")
        elif kind == "session":
            self.totals[event["src"]] = event["total"]
        elif kind == "commit":
            self.committing[event["src"]] = at
        elif kind == "commited":
            self.committed[event["src"]] = at
        elif kind in {"abort", "left"}:
            self.aborted.add(event["src"])
        elif kind == "append":
            self.attempted[who].append((at, event["offset"] + event["count"]))
        elif kind in {"appended", "look"}:
            self.acknowledged[who].append((at, event["offset"]))
        elif kind == "set":
            self.register.append((at, event["value"]))
        elif kind == "was set":
            self.register_done.append((at, event["value"]))

    def check(self) -> list[str]:
        for event in self.events:
            if event["event"] == "snapshot":
                label = f"{event['who']} at {event['after']:.3f}"
                check = {
                    "main": self.check_main,
                    "pictures": self.check_pictures,
                    "register": self.check_register,
                }[event["table"]]
                check(label, event["contents"], event["before"], event["after"])
        return self.problems

    def problem(self, label: str, what: str) -> None:
        self.problems.append(f"snapshot of {label}: {what}")

    def check_main(
        self, label: str, contents: dict[str, list[int]], before: float, after: float
    ) -> None:
        for src, (rows, distinct, highest, total) in contents.items():
            if src == "?":
                self.problem(label, f"{rows} rows with wrong payloads")
            elif src.endswith("!"):
                self.problem(label, f"{rows} rows of {src}, whose stream was never closed")
            elif rows != distinct:
                self.problem(label, f"{rows - distinct} rows of {src} are there twice")
            elif "." in src:
                self.check_session(label, src, rows, total, after)
            elif highest + 1 != rows:
                self.problem(
                    label, f"{src} has {rows} rows up to number {highest}: some are missing"
                )
            elif rows > last(self.attempted[src], after):
                self.problem(label, f"{src} has {rows} rows, more than were ever sent")
        self.check_committed(label, contents, before, pictures=False)
        for src, offsets in self.acknowledged.items():
            known = last(offsets, before)
            result = contents.get(src, [0])[0]
            if result < known:
                self.problem(
                    label, f"{src}: {known} rows were acknowledged before, {result} are there"
                )

    def check_committed(
        self, label: str, contents: dict[str, list[int]], before: float, *, pictures: bool
    ) -> None:
        for src, at in self.committed.items():
            if src.startswith("blob") is pictures and at < before and src not in contents:
                self.problem(label, f"{src} was committed before, and is not there")

    def check_pictures(
        self, label: str, contents: dict[str, list[int]], before: float, after: float
    ) -> None:
        for src, (rows, _, highest, total) in contents.items():
            if highest + 1 != rows:
                self.problem(label, f"{src} has {rows} rows up to number {highest}")
            self.check_session(label, src, rows, total, after)
        self.check_committed(label, contents, before, pictures=True)

    def check_session(self, label: str, src: str, rows: int, total: int, after: float) -> None:
        if rows != total or self.totals.get(src) != total:
            self.problem(label, f"{rows} of the {self.totals.get(src)} rows of session {src}")
        if src in self.aborted:
            self.problem(label, f"session {src} was aborted or left, and its rows are there")
        elif self.committing.get(src, float("inf")) > after:
            self.problem(label, f"session {src} is visible before its commit was asked for")

    def check_register(
        self, label: str, contents: dict[str, list[int]], before: float, after: float
    ) -> None:
        least = last(self.register_done, before)
        most = last(self.register, after)
        if not contents:
            if least:
                self.problem(label, f"the register is empty after {least} was set")
            return
        rows, distinct, value, total = contents["register"]
        if distinct != 1 or rows != total or set(contents) != {"register"}:
            self.problem(label, f"{rows} rows of {distinct} values where one write has {total}")
        if not least <= value <= most:
            self.problem(label, f"the register is {value}, which is not from {least} to {most}")


def last(pairs: list[tuple[float, int]], at: float) -> int:
    """The highest number noted until a time."""
    return max((number for time, number in pairs if time <= at), default=0)
