"""Writes by tasks that are repeated, doubled and lost: exactly the kept attempts become rows."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

import fletching
from fletching.client import Table
from fletching.connectors.task_writes import abort_quietly, begin, commit, write_attempt
from fletching.errors import UsageError


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    with fletching.connect(tmp_path / "data", create=True) as client:
        yield client.create_table("t", "n BIGINT")


def rows(*numbers: int) -> list[pa.Table]:
    return [pa.table({"n": pa.array(numbers, pa.int64())})]


def content(table: Table) -> list[int]:
    return sorted(table.scan().to_table()["n"].to_pylist())


def test_only_kept_attempts_count(table: Table) -> None:
    session = begin(table, "append")
    write_attempt(session, rows(1), task="0", attempt=1)
    kept = [
        write_attempt(session, rows(1), task="0", attempt=2),
        write_attempt(session, rows(2, 3)),
    ]
    write_attempt(session, rows(2, 3))  # the same task once more, elsewhere
    assert content(table) == []
    messages = pickle.loads(pickle.dumps(kept))
    assert messages == kept
    assert commit(session, messages) == 3
    assert content(table) == [1, 2, 3]


def test_overwriting_and_giving_up(table: Table) -> None:
    table.append(rows(7)[0])
    session = begin(table, "overwrite")
    write_attempt(session, rows(8))
    abort_quietly(session)
    abort_quietly(session)
    assert content(table) == [7]
    session = begin(table, "overwrite")
    commit(session, [write_attempt(session, rows(9))])
    assert content(table) == [9]
    with pytest.raises(UsageError, match="append or overwrite"):
        begin(table, "replace")
