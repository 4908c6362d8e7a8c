"""Two operations on one table at once: every pair, one of them paused inside its transaction.

Two engines stand for two servers over one catalog. The first operation is stopped at a named point of
its n-th transaction, right after it began or right before it commits; the second one runs until it is
done, or has to wait; then the first goes on. Whoever wins, what was acknowledged holds, nothing else
shows, and nobody meets a deadlock.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest
from tests.engine.conftest import House, ManualClock, stream_bytes

from fletching.errors import FletchingError, ServiceError, ServiceUnavailableError
from fletching.protocol.messages.admin import DropTable
from fletching.protocol.messages.requests import (
    AbortWriteSession,
    CloseWriteStream,
    CommitWriteSession,
    CreateReadSession,
    GetReadSession,
    ReadTable,
    WriteTable,
)
from fletching.types import TableName

SCHEMA = pa.schema([("id", pa.int64())])
DAY = 86_400.0
WAITS_SECONDS = 0.03
"""A second operation that is not done by then is taken to wait for the first. Too short is only less
of a test: it then runs on while the first does."""


def ids(*values: int) -> Any:
    return pa.record_batch([pa.array(values, pa.int64())], schema=SCHEMA)


class Pause:
    """Stops the first operation at a point of its n-th transaction."""

    def __init__(self, point: str, number: int) -> None:
        self.point, self.number = point, number
        self.seen = 0
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def arrive(self, point: str) -> None:
        if point != self.point:
            return
        self.seen += 1
        if self.seen == self.number:
            self.reached.set()
            assert self.go_on.wait(600)


@contextlib.contextmanager
def paused(house: House, pause: Pause) -> Iterator[None]:
    database = house.engine.context.database
    write = database.write
    mine = threading.get_ident()

    @contextlib.contextmanager
    def stopping(**options: Any) -> Iterator[Any]:
        with write(**options) as connection:
            if threading.get_ident() == mine:
                pause.arrive("begun")
            yield connection
            if threading.get_ident() == mine:
                pause.arrive("changed")

    database.write = stopping  # type: ignore[method-assign]  # the point is inside
    try:
        yield
    finally:
        del database.write  # back to the class's


class Scene:
    """A table with two small segments, a session with a closed and an open stream, one that
    overwrites, and a reader."""

    def __init__(self, house: House, number: int) -> None:
        self.table = TableName("demo", f"t{number}")
        call: Any = house.engine.call
        house.create(SCHEMA, table=self.table)
        house.append(ids(1), table=self.table)
        house.append(ids(2), table=self.table)
        self.session = house.session(table=self.table)
        self.overwriting = house.session(table=self.table, overwrite=True)
        for session, row in ((self.session, 10), (self.overwriting, 20)):
            house.stream(session, table=self.table)
            house.write(ids(row), session, table=self.table)
            house.close(session, table=self.table)
        house.stream(self.session, "late", table=self.table)
        self.reader = str(call(CreateReadSession(table=self.table)).session_id)

    def rows(self, house: House, session: str | None = None) -> list[int]:
        call: Any = house.engine.call
        if session is None:
            session = call(CreateReadSession(table=self.table)).session_id
        plan = house.engine.read(ReadTable(table=self.table, session_id=session))
        data = b"".join(bytes(piece) for piece in plan.buffers())
        return sorted(pa.ipc.open_stream(data).read_all()["id"].to_pylist())

    def stage(self, house: House) -> None:
        ingest = house.engine.open_ingest(
            WriteTable(table=self.table, session_id=self.session, stream_id="late")
        )
        try:
            ingest.decoder.feed(stream_bytes([ids(11)], SCHEMA))
            ingest.accept(list(ingest.decoder))
            ingest.finish()
        finally:
            ingest.abort()

    def expire(self, house: House) -> None:
        """Retention of a server whose clock is two seconds ahead of the others."""
        clock: Any = house.clock
        clock.advance(2)
        try:
            house.engine.collect()
        finally:
            clock.advance(-2)


Operation = Callable[[House, Scene], Any]
OPERATIONS: dict[str, Operation] = {
    "commit": lambda house, scene: house.engine.call(
        CommitWriteSession(table=scene.table, session_id=scene.session)
    ),
    "abort": lambda house, scene: house.engine.call(
        AbortWriteSession(table=scene.table, session_id=scene.session)
    ),
    "expire": lambda house, scene: scene.expire(house),
    "stage": lambda house, scene: scene.stage(house),
    "close": lambda house, scene: house.engine.call(
        CloseWriteStream(table=scene.table, session_id=scene.session, stream_id="late")
    ),
    "drop": lambda house, scene: house.engine.call(DropTable(table=scene.table)),
    "overwrite": lambda house, scene: house.engine.call(
        CommitWriteSession(table=scene.table, session_id=scene.overwriting)
    ),
    "compact": lambda house, scene: house.engine.compact(scene.table, min_segments=2),
    "collect": lambda house, scene: house.engine.collect(),
    "open": lambda house, scene: scene.rows(house),
    "refresh": lambda house, scene: house.engine.call(
        GetReadSession(table=scene.table, session_id=scene.reader, refresh=True)
    ),
}
POINTS = [("changed", 1)]
SECOND = ["commit", "abort", "expire", "drop", "overwrite", "compact"]
# On SQLite one transaction excludes the next: these show that nothing else goes between.
ON_SQLITE = ["commit", "expire", "drop", "compact"]
if os.environ.get("FLETCHING_TEST_EXHAUSTIVE"):  # `make test-exhaustive`
    POINTS += [("begun", 1), ("changed", 2)]
    SECOND = ON_SQLITE = list(OPERATIONS)
PAIRS = [("postgresql", name) for name in OPERATIONS] + [("sqlite", name) for name in ON_SQLITE]


def attempt(
    operation: Operation, house: House, scene: Scene, results: dict[str, Any], name: str
) -> None:
    try:
        results[name] = operation(house, scene)
    except FletchingError as error:
        results[name] = error
    except BaseException as error:  # noqa: BLE001 - for the test to see
        results[name] = error


def interleave(
    first: str, second: str, houses: tuple[House, House], scene: Scene, pause: Pause
) -> dict[str, Any]:
    """What became of both; keys are ``1`` and ``2``."""
    results: dict[str, Any] = {}

    def run_first() -> None:
        with paused(houses[0], pause):
            attempt(OPERATIONS[first], houses[0], scene, results, "1")
        pause.reached.set()

    left = threading.Thread(target=run_first)
    left.start()
    pause.reached.wait()
    right = threading.Thread(
        target=attempt, args=(OPERATIONS[second], houses[1], scene, results, "2")
    )
    right.start()
    right.join(WAITS_SECONDS)
    pause.go_on.set()
    left.join()
    right.join()
    return results


def check(first: str, second: str, results: dict[str, Any], house: House, scene: Scene) -> None:
    what = f"{first} / {second}: {results}"
    done = set()
    for name, result in zip((first, second), results.values(), strict=True):
        if isinstance(result, BaseException):
            # Refused for a reason, or told to come again; never a fault, never a deadlock.
            assert isinstance(result, ServiceError), what
            assert result.http_status < 500 or isinstance(result, ServiceUnavailableError), what
            assert "deadlock" not in str(result), what
        else:
            done.add(name)
    assert "drop" not in (first, second) or "drop" in done, what
    if "drop" in done:
        return
    rows = scene.rows(house)
    assert house.describe(scene.table).rows == len(rows), what
    late = [11] if 11 in rows else []
    allowed = [[1, 2], [1, 2, 10], [20], [10, 20]]
    assert [row for row in rows if row != 11] in allowed, what
    assert ("commit" in done) == (10 in rows) or "overwrite" in done, what
    assert not late or {"stage", "close"} & done, what
    assert ("overwrite" in done) == (20 in rows), what
    if "commit" in done:
        assert "abort" not in done, what
        if "overwrite" not in done:
            again: Any = OPERATIONS["commit"](house, scene)  # its repetition is told the same
            assert again.session_id == scene.session, what
            assert scene.rows(house) == rows, what
    for name, result in zip((first, second), results.values(), strict=True):
        if name == "open" and isinstance(result, list):
            assert [row for row in result if row != 11] in allowed, what


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("catalog", "first"), PAIRS, indirect=["catalog"])
def test_every_pair_of_operations_at_every_point(open_house: Any, first: str) -> None:
    settings = {"busy_timeout_seconds": 60.0}
    houses: tuple[House, House] = (open_house(**settings), open_house(**settings))
    for house in houses:
        clock = ManualClock()
        house.clock = clock
        object.__setattr__(house.engine.context, "clock", clock)
    number = 0
    for second in SECOND:
        for point, count in POINTS:
            number += 1
            scene = Scene(houses[0], number)
            for each in houses:  # the sessions' last second
                each.clock.advance(DAY - 1)
            pause = Pause(point, count)
            results = interleave(first, second, houses, scene, pause)
            check(first, second, dict(sorted(results.items())), houses[1], scene)
            pause.go_on.set()
    problems = [item for item in houses[0].engine.verify() if item.problems]
    assert problems == []
