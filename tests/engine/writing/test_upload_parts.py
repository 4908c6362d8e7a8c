"""Block mode: numbered blocks, attempts, commit messages."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from fletching.engine.writing.upload_parts import BlockMessage
from fletching.errors import ConflictError, InvalidArgumentError, TruncatedStreamError
from fletching.protocol.messages.requests import CreateWriteSession, WriteTable
from fletching.protocol.messages.vocabulary import SessionStatus, WriteMode
from fletching.types import PartitionSpec

SCHEMA = pa.schema([("id", pa.int64())])


def ids(*values: int) -> Any:
    return pa.record_batch([pa.array(values, pa.int64())], schema=SCHEMA)


@pytest.fixture
def session(house: Any) -> str:
    house.create(SCHEMA, ["pt"])
    return str(house.session("pt=a", write_mode=WriteMode.BATCH_COMPATIBLE))


def block(house: Any, session: str, number: int, attempt: int, *values: int, **options: Any) -> Any:
    return house.write(
        ids(*values), session, "", 0, block_number=number, attempt_number=attempt,
        write_mode=WriteMode.BATCH_COMPATIBLE, **options,
    )  # fmt: skip


def test_blocks_are_committed_by_their_messages_in_the_order_of_their_numbers(
    house: Any, session: str
) -> None:
    late = block(house, session, 10, 0, 100)
    first = block(house, session, 0, 0, 1, 2)
    second = block(house, session, 2, 1, 20)
    block(house, session, 3, 0, 999)  # written, and not in the list
    assert (first.rows, second.rows) == (2, 1)
    wire = json.loads(first.commit_message)
    assert (wire["BlockNumber"], wire["AttemptNumber"], wire["WriterStats"]["RecordNum"]) == (
        0,
        0,
        2,
    )
    messages = (late.commit_message, first.commit_message, second.commit_message)
    done = house.commit(session, commit_messages=messages)
    assert done.status is SessionStatus.COMMITTED
    assert done.session_id == session
    assert house.read()["id"].to_pylist() == [1, 2, 20, 100]
    assert house.commit(session, commit_messages=messages[::-1]).status is SessionStatus.COMMITTED
    with pytest.raises(ConflictError):
        house.commit(session, commit_messages=messages[:1])


def test_no_messages_are_an_empty_write(house: Any, session: str) -> None:
    block(house, session, 0, 0, 1)
    assert house.commit(session, commit_messages=()).status is SessionStatus.COMMITTED
    assert house.read().num_rows == 0
    assert house.object_keys() == set()


def test_an_attempt_written_again_replaces_itself(house: Any, session: str) -> None:
    house.stream(session, "block-0-attempt-0", write_mode=WriteMode.BATCH_COMPATIBLE)  # reserved
    block(house, session, 0, 0, 1)
    message = block(house, session, 0, 0, 2).commit_message
    house.commit(session, commit_messages=(message,))
    assert house.read()["id"].to_pylist() == [2]


def test_a_repeated_request_drops_nothing_even_if_its_body_breaks(house: Any, session: str) -> None:
    from fletching.protocol.messages.requests import WriteTable

    first = block(house, session, 0, 0, 1, retry_trace_id="t")
    twin = house.engine.open_ingest(
        WriteTable(
            table=house.table, session_id=session, stream_id="", block_number=0, attempt_number=0,
            retry_trace_id="t", write_mode=WriteMode.BATCH_COMPATIBLE,
        )
    )  # fmt: skip
    twin.abort()
    assert block(house, session, 0, 0, 1, retry_trace_id="t") == first
    house.commit(session, commit_messages=(first.commit_message,))
    assert house.read()["id"].to_pylist() == [1]


def test_the_session_says_what_its_clients_need(house: Any, session: str) -> None:
    reply = house.engine.call(
        CreateWriteSession(
            table=house.table, write_mode=WriteMode.BATCH_COMPATIBLE, partition=PartitionSpec(),
            enhance_write_check=True,
        )
    )  # fmt: skip
    # a writer's schema is the data columns and then the partition columns that nobody bound
    assert [c.name for c in reply.schema.data_columns] == ["id"]
    assert [c.name for c in reply.schema.partition_columns] == ["pt"]
    assert (reply.max_block_number, reply.enhance_write_check) == (0, True)
    assert reply.route_token
    stream = house.stream(session, "block-0-attempt-0", write_mode=WriteMode.BATCH_COMPATIBLE)
    assert stream.quota_token
    assert stream.route_token


@pytest.mark.parametrize("message", ["", "{}", "[]", "junk", '{"SessionId":"x"}'])
def test_messages_that_are_none(house: Any, session: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError):
        house.commit(session, commit_messages=(message,))


def test_messages_of_another_session_or_of_no_block(house: Any, session: str) -> None:
    other = house.session("pt=a", write_mode=WriteMode.BATCH_COMPATIBLE)
    foreign = block(house, other, 0, 0, 1).commit_message
    with pytest.raises(InvalidArgumentError, match="another session"):
        house.commit(session, commit_messages=(foreign,))
    made_up = BlockMessage(session, 7, 0, 1).format()
    with pytest.raises(InvalidArgumentError, match="not a closed stream"):
        house.commit(session, commit_messages=(made_up,))
    good = block(house, session, 0, 0, 1).commit_message
    with pytest.raises(InvalidArgumentError, match="twice"):
        house.commit(session, commit_messages=(good, good))
    house.commit(session, commit_messages=(good,))


def test_messages_round_trip() -> None:
    message = BlockMessage("ws", 3, 1, 7)
    assert BlockMessage.parse(message.format(), "ws") == message
    assert message.stream == ("block-3-attempt-1", 1)


@pytest.mark.parametrize("end", ["abort", "cut"])
def test_a_repeated_block_that_breaks_off_leaves_the_first(
    house: Any, session: str, end: str
) -> None:
    """The repetition must not drop what this very request stored."""
    message = block(house, session, 0, 0, 1, 2, retry_trace_id="t").commit_message
    repeated = house.engine.open_ingest(
        WriteTable(
            table=house.table,
            session_id=session,
            stream_id="",
            block_number=0,
            attempt_number=0,
            write_mode=WriteMode.BATCH_COMPATIBLE,
            retry_trace_id="t",
        )
    )
    body = house.stream_bytes([ids(1, 2)], SCHEMA)
    repeated.decoder.feed(body[: len(body) // 2])
    if end == "abort":
        assert repeated.abort()
    else:
        with pytest.raises(TruncatedStreamError):
            repeated.finish()
    house.commit(session, commit_messages=(message,))
    assert house.read()["id"].to_pylist() == [1, 2]


def test_another_request_for_a_block_begins_it_afresh(house: Any, session: str) -> None:
    block(house, session, 0, 0, 1, 2, retry_trace_id="t")
    message = block(house, session, 0, 0, 3, retry_trace_id="u").commit_message
    house.commit(session, commit_messages=(message,))
    assert house.read()["id"].to_pylist() == [3]
