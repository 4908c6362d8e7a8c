"""Attempts of tasks: those that are kept are committed, once, and of the others nothing is seen."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pytest

from fletching.client import Client, Table
from fletching.connectors.task_writes import abort_quietly, begin, commit, write_attempt
from fletching.errors import FletchingError, UsageError


def rows(*numbers: int) -> pa.Table:
    return pa.table({"id": pa.array(numbers, pa.int64())})


@pytest.fixture
def table(client: Client) -> Table:
    table = client.create_table("t", "id BIGINT")
    table.append(rows(0))
    return table


def ids(table: Table) -> list[int]:
    return sorted(table.to_table()["id"].to_pylist())


def test_the_attempts_that_are_kept(table: Table, open_sessions: Any) -> None:
    session = begin(table, "append")
    first = write_attempt(session, [rows(1), rows(2)], task="0", attempt=1)
    again = write_attempt(session, [rows(1), rows(2)], task="0", attempt=2)
    other = write_attempt(session, [rows(3)], task="1")
    nameless = [write_attempt(session, [rows(4)]) for _ in range(2)]
    assert ids(table) == [0]
    assert first.rows == again.rows == 2
    assert commit(session, [again, other, nameless[1]]) == 4
    assert ids(table) == [0, 1, 2, 3, 4]
    assert [each for each in open_sessions() if each.startswith("write")] == []


def test_attempts_run_at_the_same_time(table: Table) -> None:
    session = begin(table, "append")
    with ThreadPoolExecutor(4) as pool:
        attempts = [pool.submit(write_attempt, session, [rows(n % 2)]) for n in range(8)]
        kept = [attempts[0].result(), attempts[5].result()]
    assert commit(session, kept) == 2
    assert ids(table) == [0, 0, 1]


def test_tasks_in_other_processes_get_the_session(http_client: Client) -> None:
    table = http_client.create_table("t", "id BIGINT")
    session = begin(table, "append")
    carried = pickle.loads(pickle.dumps(session))
    message = pickle.loads(pickle.dumps(write_attempt(carried, [rows(7)])))
    assert commit(session, [message]) == 1
    assert ids(table) == [7]


def test_a_write_of_nothing(table: Table) -> None:
    session = begin(table, "append")
    assert commit(session, [write_attempt(session, [])]) == 0
    assert ids(table) == [0]
    assert commit(begin(table, "overwrite"), []) == 0
    assert ids(table) == []


def test_a_key_is_committed_once(table: Table) -> None:
    for parts in ([rows(1, 2)], [rows(1), rows(2)]):
        session = begin(table, "append")
        commit(session, [write_attempt(session, [part]) for part in parts], "epoch-1")
    assert ids(table) == [0, 1, 2]


def test_an_attempt_that_fails_leaves_an_open_stream_that_no_commit_takes(table: Table) -> None:
    session = begin(table, "overwrite")

    def dying() -> Any:
        yield rows(1)
        raise OSError("the task died")

    with pytest.raises(OSError, match="the task died"):
        write_attempt(session, dying(), task="0", attempt=1)
    commit(session, [write_attempt(session, [rows(1)], task="0", attempt=2)])
    assert ids(table) == [1]


def test_what_was_given_up_is_gone(table: Table, open_sessions: Any) -> None:
    session = begin(table, "append")
    message = write_attempt(session, [rows(1)])
    abort_quietly(session)
    abort_quietly(session)
    with pytest.raises(FletchingError):
        commit(session, [message])
    assert ids(table) == [0]
    assert [each for each in open_sessions() if each.startswith("write")] == []


def test_other_modes_are_refused(table: Table) -> None:
    with pytest.raises(UsageError, match="append or overwrite, not 'create'"):
        begin(table, "create")
