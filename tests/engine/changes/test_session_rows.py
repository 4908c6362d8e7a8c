"""A change takes the rows of a session as a commit would, and ends it; nothing else may have happened to it."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from fletching.engine.changes.attempts import Draft
from fletching.engine.changes.made_changes import Intent
from fletching.engine.changes.session_rows import SessionRows
from fletching.errors import ConflictError, ExpiredSessionError, InvalidArgumentError, NotFoundError
from fletching.protocol.messages.changes import DeleteRows
from fletching.types import TableName

T = TableName("demo", "t")
SCHEMA = pa.schema([("n", pa.int64())])


@pytest.fixture
def house(house: Any) -> Any:
    house.create(SCHEMA)
    return house


def write(house: Any, session: str, number: int, stream: str, *, close: bool = True) -> None:
    house.stream(session, stream)
    house.write(pa.record_batch({"n": [number]}), session, stream)
    if close:
        house.close(session, stream)


def rows_of(house: Any, session: str) -> SessionRows:
    return SessionRows.of(house.engine.context, T, session)


def take(house: Any, taken: SessionRows) -> Any:
    draft = Draft(staged=[each.segment for each in taken.staged])
    return house.engine.compute_changes(
        DeleteRows(table=T, where="x"), Intent(operation="merge"), lambda _: taken.ended_by(draft)
    )


def test_closed_streams_in_the_order_of_a_commit(house: Any) -> None:
    session = house.session()
    for stream, number in (("b", 1), ("a", 2), ("open", 3)):
        write(house, session, number, stream, close=stream != "open")
    taken = rows_of(house, session)
    report = take(house, taken)
    assert report.rows_inserted == 2
    assert house.read()["n"].to_pylist() == [2, 1]
    with pytest.raises(ConflictError, match="is committed"):
        rows_of(house, session)


def test_a_session_that_was_written_to_meanwhile_is_refused(house: Any) -> None:
    session = house.session()
    write(house, session, 1, "a")
    taken = rows_of(house, session)
    write(house, session, 2, "b")
    with pytest.raises(ConflictError, match="written to meanwhile"):
        take(house, taken)
    assert house.describe().version == 0
    take(house, rows_of(house, session))
    assert sorted(house.read()["n"].to_pylist()) == [1, 2]


def test_what_is_no_session_of_rows(house: Any) -> None:
    with pytest.raises(NotFoundError):
        rows_of(house, "none")
    with pytest.raises(InvalidArgumentError, match="appends"):
        rows_of(house, house.session(overwrite=True))
    session = house.session()
    house.abort(session)
    with pytest.raises((NotFoundError, ConflictError, ExpiredSessionError)):
        rows_of(house, session)
    late = house.session()
    house.clock.advance(365 * 86400)
    with pytest.raises((NotFoundError, ExpiredSessionError)):
        rows_of(house, late)
