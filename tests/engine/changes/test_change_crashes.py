"""A process that dies in the middle of a change leaves the table as before it or as after it."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pytest
from tests.processes import folder_in_memory, forked

import fletching
from fletching import faultpoints
from fletching.client import Table
from fletching.engine.upkeep import run_merging

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), ("n", pa.int64())])
CASES = [
    ("delete", "change.planned"),
    ("update", "change.segments_durable"),
    ("update", "change.committing"),
    ("update", "change.done"),
    ("merge", "change.committing"),
    ("upsert", "write.staging"),
    ("upsert", "write.staged"),
    ("upsert", "write.accepted"),
    ("session", "commit.changed"),
    ("session", "commit.done"),
    ("delete_keys", "write.staged"),
    ("overwrite", "change.committing"),
    ("truncate", "change.committing"),
    ("tag", "tag.created"),
    ("restore", "restore.changed"),
    ("compact", "compact.written"),
    ("compact", "compact.remapped"),
    ("compact", "compact.done"),
    ("runs", "runs.written"),
    ("runs", "runs.merged"),
    ("expire", "retention.horizon"),
    ("expire", "retention.forgotten"),
]


def rows(*ids: int, n: int = 0) -> pa.Table:
    return pa.table({"id": list(ids), "n": [n] * len(ids)}, SCHEMA)


def engine_of(table: Table) -> Any:
    transport: Any = table.channel.transport  # an embedded one
    return transport.engine


def change(table: Table, verb: str) -> None:
    engine = engine_of(table)
    match verb:
        case "delete":
            table.delete("id > 3")
        case "update":
            table.update({"n": "n + 1"}, where="id > 3")
        case "merge":
            table.merge(rows(2, 9, n=5), on=["id"])
        case "upsert":
            table.upsert(rows(2, 9, n=6))
        case "session":
            table.append(rows(2, 9, n=6), streams=2)
        case "delete_keys":
            table.delete_keys({"id": [2, 99]})
        case "overwrite":
            table.overwrite(rows(4, 8, n=7), where="id > 3")
        case "truncate":
            table.truncate()
        case "tag":
            table.create_tag("kept", 1, replace=True)
        case "restore":
            table.restore(1)
        case "compact":
            table.compact(purge=True)
        case "runs":
            with mock.patch.object(run_merging, "MOST_RUNS", 1):
                engine.compact(table.full_name, min_segments=1000)
        case _:
            table.set_properties({"acid.data.retain.hours": "0"})
            engine.collect()


def content(table: Table) -> list[tuple[int, int]]:
    rows = table.scan().to_table()
    return sorted(zip(rows["id"].to_pylist(), rows["n"].to_pylist(), strict=True))


def build(folder: Path) -> None:
    with fletching.connect(folder, create=True) as client:
        table = client.create_table("t", SCHEMA, primary_key=["id"])
        table.append(rows(1, 2, 3))
        table.append(rows(4, 5, 6))
        table.delete("id = 5")


@pytest.fixture
def folder() -> Iterator[Path]:
    with folder_in_memory() as made:
        yield made / "data"


@pytest.fixture(scope="module")
def killing() -> Iterator[subprocess.Popen[str]]:
    """The process that forks for each case: imports take longer than all the rest."""
    # It ends when its input does.
    with subprocess.Popen(
        [sys.executable, "-m", "tests.engine.changes.test_change_crashes"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        yield running


@pytest.mark.slow
@pytest.mark.parametrize(("verb", "point"), CASES)
def test_a_table_is_as_before_or_as_after(
    killing: subprocess.Popen[str], folder: Path, verb: str, point: str
) -> None:
    build(folder)
    with fletching.connect(folder) as client:
        before = content(client.table("t"))
    assert killing.stdin is not None
    assert killing.stdout is not None
    killing.stdin.write(f"{point}\t{folder}\t{verb}\n")
    killing.stdin.flush()
    assert int(killing.stdout.readline()) == -signal.SIGKILL
    with fletching.connect(folder) as client:
        table = client.table("t")
        engine = engine_of(table)
        now = content(table)
        done = point.endswith((".done", ".accepted"))
        if not done:
            assert now == before
        assert [item for item in engine.verify() if item.problems] == []
        change(table, verb)
        after = content(table)
        if done:
            assert now == (after if verb != "update" else [(i, n - (i > 3)) for i, n in after])
        engine.collect()
        checked = list(engine.verify())
        assert [item for item in checked if item.problems] == []
        stored = {info.key for info in engine.context.store.list("tables")}
        assert stored == {item.name for item in checked if item.name.startswith("tables/")}


def change_and_die(point: str, folder: str, verb: str) -> None:
    os.environ[faultpoints.VARIABLE] = point
    with fletching.connect(Path(folder)) as opened:
        change(opened.table("t"), verb)


def main() -> None:
    # Each child has what this process has.
    import fletching.client.transports.embedded.embedded_transport
    import fletching.engine.engine  # noqa: F401

    for line in sys.stdin:
        print(forked(functools.partial(change_and_die, *line.rstrip("\n").split("\t"))), flush=True)


if __name__ == "__main__":
    main()
