"""Rounds: every contender once per round, in another order each time, so that nobody follows the same one always."""

from __future__ import annotations

import dataclasses
import gc
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import processes

ROUND_SECONDS = 0.2
"""A shorter run is repeated until a round has about so much, and the median counts: one run of 3 ms is mostly
chance."""
MAX_REPEATS = 50


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one run of a contender moved; ``first_seconds`` until its first batch was usable."""

    bytes: int
    rows: int
    first_seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way to do the job.

    Attributes:
        name: as it stands in the tables.
        run: does the job once; told the time it starts at.
        pid: its server's process, if it has one.
        prepare: puts things back before a run, outside the measured time; such a run is not repeated.
        close: ends connections of its own, after the last run.
    """

    name: str
    run: Callable[[float], Outcome]
    pid: int | None = None
    prepare: Callable[[], object] | None = None
    close: Callable[[], object] = lambda: None


@dataclasses.dataclass
class Result:
    """What the rounds of one contender gave; all seconds are those of one run, CPU's added up."""

    question: str
    case: str
    name: str
    bytes: int
    rows: int
    seconds: list[float]
    first_seconds: list[float]
    client_cpu_seconds: float
    server_cpu_seconds: float | None
    client_peak_bytes: int
    server_peak_bytes: int | None
    repeats: int = 1

    @property
    def median(self) -> float:
        """Median seconds of a round."""
        return statistics.median(self.seconds)

    @property
    def bytes_per_second(self) -> float:
        """From the median."""
        return self.bytes / self.median

    @property
    def spread(self) -> float:
        """(slowest - fastest) / median."""
        return (max(self.seconds) - min(self.seconds)) / self.median

    def as_json(self) -> dict[str, Any]:
        """Everything, and what follows from it."""
        moved = self.bytes * len(self.seconds) / 1e9
        return {
            **dataclasses.asdict(self),
            "median_seconds": self.median,
            "spread": self.spread,
            "bytes_per_second": self.bytes_per_second,
            "rows_per_second": self.rows / self.median,
            "first_batch_seconds": statistics.median(self.first_seconds)
            if self.first_seconds
            else None,
            "client_cpu_seconds_per_gb": self.client_cpu_seconds / moved if moved else None,
            "server_cpu_seconds_per_gb": self.server_cpu_seconds / moved
            if moved and self.server_cpu_seconds is not None
            else None,
        }


def compare(question: str, case: str, contenders: Sequence[Contender], rounds: int) -> list[Result]:
    """Runs every contender once to warm up, then ``rounds`` times, and closes them."""
    try:
        return _compare(question, case, contenders, rounds)
    finally:
        for contender in contenders:
            contender.close()


def _compare(
    question: str, case: str, contenders: Sequence[Contender], rounds: int
) -> list[Result]:
    results: list[Result] = []
    for contender in contenders:
        _prepare(contender)
        started = time.perf_counter()
        outcome = contender.run(started)
        seconds = time.perf_counter() - started
        results.append(
            Result(
                question=question,
                case=case,
                name=contender.name,
                bytes=outcome.bytes,
                rows=outcome.rows,
                seconds=[],
                first_seconds=[],
                client_cpu_seconds=0.0,
                server_cpu_seconds=None if contender.pid is None else 0.0,
                client_peak_bytes=0,
                server_peak_bytes=None if contender.pid is None else 0,
                repeats=_repeats(contender, seconds),
            )
        )
    # The tables were just written: what the system still owes the disk would be paid in the first rounds.
    os.sync()
    # What lives by now lives on. Looking through all of it before each run would put the processor's
    # caches into a state that no user's process has.
    gc.collect()
    gc.freeze()
    for number in range(rounds):
        for place in turns(len(contenders), number):
            _measure(contenders[place], results[place])
    return results


def turns(count: int, number: int) -> list[int]:
    """The order of ``count`` contenders in a round.

    What a contender leaves behind (the processor's caches, memory that is given back) is paid by whoever comes
    next: in as many rounds as there are contenders, or twice as many if that number is odd, each comes
    equally often behind each other one.
    """
    # A row of a balanced Latin square: 0, 1, n - 1, 2, n - 2, ..., each moved on by the round's number.
    first = [(place + 1) // 2 if place % 2 else -(place // 2) for place in range(count)]
    row = [(place + number) % count for place in first]
    return row if number % 2 == 0 or count % 2 == 0 else row[::-1]


def _repeats(contender: Contender, seconds: float) -> int:
    if contender.prepare is not None:
        return 1
    return min(max(round(ROUND_SECONDS / seconds), 1), MAX_REPEATS)


def _prepare(contender: Contender) -> None:
    if contender.prepare is not None:
        contender.prepare()


def _measure(contender: Contender, result: Result) -> None:
    _prepare(contender)
    gc.collect()
    own = os.getpid()
    for pid in (own, contender.pid):
        if pid is not None:
            processes.reset_peak(pid)
    server_before = None if contender.pid is None else processes.cpu_seconds(contender.pid)
    cpu_before = processes.own_cpu_seconds()
    seconds: list[float] = []
    first_seconds: list[float] = []
    for _ in range(result.repeats):
        started = time.perf_counter()
        outcome = contender.run(started)
        seconds.append(time.perf_counter() - started)
        if outcome.first_seconds is not None:
            first_seconds.append(outcome.first_seconds)
        assert outcome.rows == result.rows, f"{contender.name} gave {outcome.rows} rows"
    result.seconds.append(statistics.median(seconds))
    if first_seconds:
        result.first_seconds.append(statistics.median(first_seconds))
    result.client_cpu_seconds += (processes.own_cpu_seconds() - cpu_before) / result.repeats
    result.client_peak_bytes = max(result.client_peak_bytes, processes.peak_bytes(own))
    if contender.pid is not None and server_before is not None:
        used = processes.cpu_seconds(contender.pid) - server_before
        result.server_cpu_seconds = (result.server_cpu_seconds or 0.0) + used / result.repeats
        result.server_peak_bytes = max(
            result.server_peak_bytes or 0, processes.peak_bytes(contender.pid)
        )
