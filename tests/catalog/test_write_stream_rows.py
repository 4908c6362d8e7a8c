"""Attempts of streams, what they hold, and the replies that repetitions get."""

from __future__ import annotations

import pytest
from pyroaring import BitMap
from sqlalchemy import Connection
from tests.catalog.conftest import MakeSegment, MakeTable

from fletching.catalog.write_session_rows import insert_write_session
from fletching.catalog.write_stream_rows import (
    StagedRows,
    WriteStreamRow,
    accepted_write,
    discard_staged,
    find_write_stream,
    insert_staged,
    insert_write_stream,
    list_write_streams,
    remember_write,
    staged_of_streams,
    update_write_stream,
)


@pytest.fixture
def session(rows: Connection, new_table: MakeTable) -> int:
    new_table()
    return insert_write_session(
        rows, session_id="s", table_id="t", write_mode="batch", state="NORMAL", partition_spec=(),
        overwrite=False, enhance_write_check=False, flags={}, schema_version=1, now=1.0,
        expires_at=99.0,
    ).pk  # fmt: skip


def stream(rows: Connection, session: int, name: str = "a", version: int = 0) -> WriteStreamRow:
    return insert_write_stream(
        rows, session_pk=session, stream_id=name, stream_version=version, state="OPEN",
        exactly_once=True, token_digest=b"d", create_traces=["x", "y"], now=2.0,
    )  # fmt: skip


def test_attempts_are_found_and_listed_in_order(rows: Connection, session: int) -> None:
    for name, version in (("b", 0), ("a", 2), ("a", 1)):
        stream(rows, session, name, version)
    listed = [(row.stream_id, row.stream_version) for row in list_write_streams(rows, session)]
    assert listed == [("a", 1), ("a", 2), ("b", 0)]
    assert [row.stream_version for row in list_write_streams(rows, session, "a")] == [1, 2]
    row = find_write_stream(rows, session, "a", 2)
    assert row is not None
    assert (row.exactly_once, row.token_digest, row.create_traces) == (True, b"d", ("x", "y"))
    assert (row.rows, row.row_offset, row.writes, row.attempt) == (0, 0, 0, 1)
    assert find_write_stream(rows, session, "a", 3) is None
    update_write_stream(rows, row.pk, rows=5, row_offset=5, state="CLOSED")
    row = find_write_stream(rows, session, "a", 2)
    assert row is not None
    assert (row.rows, row.row_offset, row.state) == (5, 5, "CLOSED")


def test_what_is_staged_comes_back_in_write_order(
    rows: Connection, session: int, new_segment: MakeSegment
) -> None:
    first, second = stream(rows, session, "a"), stream(rows, session, "b")
    x, y, three, gone = (
        new_segment("x", 3),
        new_segment("y"),
        new_segment("x"),
        new_segment("x"),
    )
    insert_staged(rows, second.pk, 0, [StagedRows(three)], 3.0)
    insert_staged(rows, first.pk, 1, [StagedRows(y)], 3.0)
    insert_staged(
        rows,
        first.pk,
        0,
        [StagedRows(x, superseded=BitMap([1, 2])), StagedRows(gone, deletes=True)],
        3.0,
    )
    insert_staged(rows, first.pk, 2, [], 3.0)
    staged = staged_of_streams(rows, [first.pk, second.pk])
    assert [row.segment for row in staged] == [x, gone, y, three]
    assert [row.kind for row in staged] == ["", "deletes", "", ""]
    superseded = staged[0].superseded
    assert superseded is not None
    assert set(BitMap.deserialize(superseded)) == {1, 2}
    assert staged[1].superseded is None
    assert staged_of_streams(rows, []) == []


def test_what_is_discarded_is_told_and_gone(
    rows: Connection, session: int, new_segment: MakeSegment
) -> None:
    first, second = stream(rows, session, "a"), stream(rows, session, "b")
    x, y = new_segment(), new_segment()
    insert_staged(rows, first.pk, 0, [StagedRows(x)], 3.0)
    insert_staged(rows, second.pk, 0, [StagedRows(y)], 3.0)
    remember_write(rows, first.pk, "trace", b"reply", 3.0)
    remember_write(rows, second.pk, "trace", b"other", 3.0)
    assert accepted_write(rows, first.pk, "trace") == b"reply"
    assert accepted_write(rows, first.pk, "another") is None
    assert discard_staged(rows, [first.pk]) == [x.key]
    assert discard_staged(rows, [first.pk]) == []
    assert accepted_write(rows, first.pk, "trace") is None
    assert accepted_write(rows, second.pk, "trace") == b"other"
    assert [row.segment for row in staged_of_streams(rows, [first.pk, second.pk])] == [y]
