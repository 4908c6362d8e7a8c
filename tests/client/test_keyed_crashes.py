"""Writers of keyed tables that are killed at any point and repeat: every key has its last value, once.

All processes are forked by one that runs this file, has no threads, and opens nothing itself.
"""

from __future__ import annotations

import functools
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from tests.processes import folder_in_memory, forked

import fletching
from fletching import faultpoints
from fletching.client import Table
from fletching.errors import FletchingError
from fletching.protocol.messages.requests import CommitWriteSession

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), ("n", pa.int64())])
FLUSHES, ROWS, KEYS = 4, 5, 7
EVERY = bool(os.environ.get("FLETCHING_TEST_EXHAUSTIVE"))
STREAM_POINTS = (
    [
        f"{point}:{number}"
        for point in ("object.written", "object.durable", "write.staging", "write.staged")
        for number in range(1, FLUSHES + 1)
    ]
    if EVERY
    else ["object.durable:2", "write.staged:1"]
) + [f"write.accepted:{number}" for number in (range(1, FLUSHES + 1) if EVERY else (FLUSHES,))]
COMMIT_POINTS = ["commit.begun"] * EVERY + ["commit.changed", "commit.done"]


def sent(start: int, end: int) -> pa.Table:
    """Rows of the whole stream by their places; keys come again and again."""
    return pa.table({"id": [n % KEYS for n in range(start, end)], "n": range(start, end)}, SCHEMA)


def upsert_exactly_once(table: Table) -> None:
    try:
        writer = table.stream_writer("one", resume=True)
    except FletchingError:
        writer = table.stream_writer("one")
    with writer:
        assert writer.row_offset % ROWS == 0
        for start in range(writer.row_offset, FLUSHES * ROWS, ROWS):
            writer.write(sent(start, start + ROWS))
            assert writer.flush() == start + ROWS


def check_exactly_once(table: Table) -> None:
    result = table.scan().to_table()
    state = dict(zip(result["id"].to_pylist(), result["n"].to_pylist(), strict=True))
    whole = sent(0, FLUSHES * ROWS)
    assert state == dict(zip(whole["id"].to_pylist(), whole["n"].to_pylist(), strict=True))
    assert result.num_rows == table.count_rows() == KEYS
    versions = [each for each in table.versions() if each.version and each.data_change]
    assert len(versions) == FLUSHES, versions
    with table.stream_writer("one", resume=True) as writer:
        assert writer.row_offset == FLUSHES * ROWS
    check_stored(table)


def commit_four_streams(table: Table) -> None:
    note = Path(os.environ["NOTE"])
    if not note.exists():
        session = table.write_session()
        writers = [session.writer(f"s{number}") for number in range(4)]
        for number in (2, 0, 3, 1):
            writers[number].write({"id": [7, number], "n": [number, number]})
        for writer in writers:
            writer.close()
        note.write_text(session.id)
    streams = tuple((f"s{number}", 1) for number in range(4))
    request = CommitWriteSession(
        table=table.full_name, session_id=note.read_text(), streams=streams
    )
    for _ in range(2):
        table.channel.call(request)


def check_four_streams(table: Table) -> None:
    result = table.scan().to_table().to_pylist()
    assert sorted((row["id"], row["n"]) for row in result) == [
        (0, 0),
        (1, 1),
        (2, 2),
        (3, 3),
        (7, 3),
    ]
    assert len([each for each in table.versions() if each.version and each.data_change]) == 1
    check_stored(table)


def check_stored(table: Table) -> None:
    engine = table.channel.transport.engine  # type: ignore[attr-defined]  # an embedded one
    assert [item for item in engine.verify() if item.problems] == []


CASES: dict[str, tuple[list[str], Callable[[Table], None], Callable[[Table], None]]] = {
    "exactly once": (STREAM_POINTS, upsert_exactly_once, check_exactly_once),
    "four streams": (COMMIT_POINTS, commit_four_streams, check_four_streams),
}


def do(work: Callable[[Table], None], folder: Path, point: str | None = None) -> None:
    fresh = not folder.exists()
    with fletching.connect(folder, create=True) as client:
        if fresh:
            client.create_table("t", SCHEMA, primary_key=["id"])
        faultpoints.arm(point)
        work(client.table("t"))


@pytest.mark.parametrize("name", CASES)
def test_what_is_repeated_after_a_crash_is_there_once(name: str) -> None:
    with folder_in_memory() as folder:
        ran = subprocess.run(
            [sys.executable, "-m", "tests.client.test_keyed_crashes", name, folder],
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
            timeout=600,
        )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def main(name: str, folder: Path) -> None:
    # Each child has what this process has: imports take longer than all the rest.
    import fletching.client.transports.embedded.embedded_transport
    import fletching.engine.engine  # noqa: F401

    points, work, check = CASES[name]
    for number, point in zip(itertools.count(), points, strict=False):
        os.environ["NOTE"] = str(folder / f"session-{number}")
        data = folder / f"data-{number}"
        died = forked(functools.partial(do, work, data, point))
        assert died == -signal.SIGKILL, (point, died)

        def again(table: Table) -> None:
            work(table)
            check(table)

        assert forked(functools.partial(do, again, data)) == 0, point


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
