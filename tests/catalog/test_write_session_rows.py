"""Write sessions: one of an id, moved from state to state once."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection
from tests.catalog.conftest import MakeTable

from fletching.catalog.write_session_rows import (
    WriteSessionRow,
    count_open_write_sessions,
    end_write_session,
    ensure_default_session,
    extend_write_session,
    find_default_session,
    find_write_session,
    insert_write_session,
)
from fletching.errors import ConflictError


def insert(rows: Connection, session: str, expires_at: float = 100.0) -> WriteSessionRow:
    return insert_write_session(
        rows, session_id=session, table_id="t", write_mode="batch", state="NORMAL",
        partition_spec=(("pt", "a"), ("h", "1")), overwrite=True, enhance_write_check=False,
        flags={"x": "y"}, schema_version=3, now=1.0, expires_at=expires_at,
    )  # fmt: skip


def test_a_session_is_found_as_it_was_made(rows: Connection, new_table: MakeTable) -> None:
    new_table()
    row = insert(rows, "s")
    assert find_write_session(rows, "t", "s") == row
    assert find_write_session(rows, "t", "s", lock=True) == row
    assert find_write_session(rows, "other", "s") is None
    assert find_write_session(rows, "t", "S") is None
    assert row.partition_spec == (("pt", "a"), ("h", "1"))
    assert (row.flags, row.overwrite, row.schema_version) == ({"x": "y"}, True, 3)


def test_open_ones_are_counted_up_to_a_limit(rows: Connection, new_table: MakeTable) -> None:
    new_table()
    for number in range(4):
        insert(rows, f"s{number}", 100.0 + number)
    assert count_open_write_sessions(rows, "NORMAL", 0.0, 10) == 4
    assert count_open_write_sessions(rows, "NORMAL", 0.0, 3) == 3
    assert count_open_write_sessions(rows, "NORMAL", 101.0, 10) == 2  # at its end it is over
    assert count_open_write_sessions(rows, "COMMITTED", 0.0, 10) == 0


def test_a_session_ends_once(rows: Connection, new_table: MakeTable) -> None:
    new_table()
    row = insert(rows, "s")
    extend_write_session(rows, row.pk, 200.0)
    end_write_session(
        rows, row.pk, from_state="NORMAL", state="COMMITTED", now=9.0, committed_version=7,
        commit_request="wanted",
    )  # fmt: skip
    with pytest.raises(ConflictError, match="ended meanwhile"):
        end_write_session(rows, row.pk, from_state="NORMAL", state="ABORTED", now=10.0)
    extend_write_session(rows, row.pk, 900.0)  # one that has ended lives no longer
    session = find_write_session(rows, "t", "s")
    assert session is not None
    assert (session.state, session.committed_version, session.commit_request) == (
        "COMMITTED",
        7,
        "wanted",
    )
    assert session.expires_at == 200.0


def test_the_implicit_session_is_made_once_for_each_mode(
    rows: Connection, new_table: MakeTable
) -> None:
    new_table()

    def ensure(mode: str) -> int:
        return ensure_default_session(
            rows, session_id="default", table_id="t", write_mode=mode, state="NORMAL",
            schema_version=1, now=1.0, expires_at=9.0,
        ).pk  # fmt: skip

    assert find_default_session(rows, "t", "default", "batch") is None
    first = ensure("batch")
    assert ensure("batch") == first
    assert ensure("streaming") != first
    session = find_default_session(rows, "t", "default", "batch")
    assert session is not None
    assert session.pk == first
