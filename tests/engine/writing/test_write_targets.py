"""What a write request is about: names, tokens and the states of sessions."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from fletching.engine.writing.states import SessionEvent, SessionState
from fletching.engine.writing.write_targets import (
    FAR_FUTURE,
    check_stream_name,
    check_token,
    find_session,
    find_stream,
    session_state,
    stream_name,
    token_digest,
)
from fletching.errors import (
    ConflictError,
    ExpiredSessionError,
    InvalidArgumentError,
    NoPermissionError,
    NoSuchTableError,
    NotFoundError,
)
from fletching.protocol.messages.vocabulary import WriteMode
from fletching.types import TableName

SCHEMA = pa.schema([("id", pa.int64())])


def find(house: Any, session: str, mode: WriteMode = WriteMode.BATCH, **options: Any) -> Any:
    options = {"event": SessionEvent.WRITE, "lock": False, **options}
    database = house.engine.context.database
    with database.write() if options["lock"] else database.read() as connection:
        return find_session(
            connection,
            house.engine.context,
            options.pop("table", house.table),
            session,
            mode,
            **options,
        )


@pytest.mark.parametrize("name", ["s", "a b", "名", "x" * 255])
def test_stream_names(name: str) -> None:
    check_stream_name(name, 0)
    check_stream_name(name, 2**63 - 1)


@pytest.mark.parametrize(
    ("name", "version"), [("", 1), ("x" * 256, 1), ("a\n", 1), ("\x7f", 1), ("s", -1), ("s", 2**63)]
)
def test_stream_names_that_cannot_be(name: str, version: int) -> None:
    with pytest.raises(InvalidArgumentError):
        check_stream_name(name, version)


def test_how_messages_call_a_stream() -> None:
    assert stream_name("s", 3) == "'s' version 3"


def test_a_session_is_found_with_its_table_and_its_own_mode(house: Any) -> None:
    house.create(SCHEMA)
    session = house.session()
    target = find(house, session, WriteMode.STREAMING)
    assert (target.table.name, target.session.id) == (house.table, session)
    assert target.mode is WriteMode.BATCH
    assert not target.is_default
    with pytest.raises(NotFoundError, match="no write session 'nope'"):
        find(house, "nope")
    with pytest.raises(NoSuchTableError):
        find(house, session, table=TableName("demo", "other"))


def test_a_session_belongs_to_one_table(house: Any) -> None:
    other = TableName("demo", "other")
    house.create(SCHEMA)
    house.create(SCHEMA, table=other)
    with pytest.raises(NotFoundError):
        find(house, house.session(), table=other)


def test_the_default_session_comes_into_being_with_the_lock_only(house: Any) -> None:
    house.create(SCHEMA)
    with pytest.raises(NotFoundError):
        find(house, "default")
    made = find(house, "default", lock=True)
    assert made.is_default
    # whoever only says "default" means streaming
    assert made.mode is WriteMode.STREAMING
    assert made.session.expires_at == FAR_FUTURE
    assert find(house, "default").session.pk == made.session.pk
    realtime = find(house, "default", WriteMode.STREAMING_REALTIME, lock=True)
    assert realtime.session.pk != made.session.pk


def test_states_follow_the_clock_and_decide(house: Any, clock: Any) -> None:
    house.create(SCHEMA)
    session = house.session()
    row = find(house, session).session
    assert session_state(row, row.expires_at - 0.1) is SessionState.NORMAL
    assert session_state(row, row.expires_at) is SessionState.EXPIRED
    clock.now = row.expires_at
    with pytest.raises(ExpiredSessionError):
        find(house, session)
    committed = house.append(pa.table({"id": [1]}))
    with pytest.raises(ConflictError):
        find(house, committed)


def test_tokens_open_their_stream_only(house: Any) -> None:
    house.create(SCHEMA)
    session = house.session()
    tokens = {
        name: house.stream(session, name, exactly_once=True).access_token for name in ("a", "b")
    }
    house.stream(session, "free")
    database = house.engine.context.database
    with database.read() as connection:
        target = find_session(
            connection,
            house.engine.context,
            house.table,
            session,
            WriteMode.BATCH,
            event=SessionEvent.WRITE,
            lock=False,
        )
        rows = {name: find_stream(connection, target, name, 1) for name in ("a", "b", "free")}
        with pytest.raises(NotFoundError):
            find_stream(connection, target, "a", 2)
    check_token(rows["a"], tokens["a"])
    check_token(rows["free"], None)
    for row, token in (
        (rows["a"], tokens["b"]),
        (rows["a"], None),
        (rows["a"], ""),
        (rows["a"], tokens["a"] + "x"),
        (rows["free"], "any"),
    ):
        with pytest.raises(NoPermissionError):
            check_token(row, token)
    assert token_digest(tokens["a"]) != tokens["a"]
