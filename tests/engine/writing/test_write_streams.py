"""Exactly-once streams, streaming modes, replays."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from fletching.errors import (
    ConflictError,
    InvalidArgumentError,
    KeyReusedError,
    NoPermissionError,
    NotFoundError,
    RowOffsetError,
    TruncatedStreamError,
)
from fletching.protocol.messages.requests import GetWriteSession, WriteTable
from fletching.protocol.messages.vocabulary import WriteMode

SCHEMA = pa.schema([("id", pa.int64())])


def ids(*values: int) -> Any:
    return pa.record_batch([pa.array(values, pa.int64())], schema=SCHEMA)


def stored(house: Any) -> list[int]:
    return list(house.read()["id"].to_pylist())


@pytest.fixture(params=["default", "batch"])
def session(request: pytest.FixtureRequest, house: Any) -> str:
    house.create(SCHEMA)
    return "default" if request.param == "default" else house.session()


def test_offsets_append_repeat_and_refuse(house: Any, session: str) -> None:
    token = house.stream(session, exactly_once=True).access_token
    assert (
        house.write(ids(1, 2), session, row_offset=0, access_token=token).exactly_once_row_offset
        == 2
    )
    assert (
        house.write(ids(3), session, row_offset=2, access_token=token).exactly_once_row_offset == 3
    )
    # full duplicates, of one write or of several at once, change nothing
    for rows, offset in ((ids(1, 2), 0), (ids(3), 2), (ids(1, 2, 3), 0), (ids(2), 1)):
        again = house.write(rows, session, row_offset=offset, access_token=token)
        assert again.exactly_once_row_offset == 3
    # a gap, and an overlap that would have to be cut
    for rows, offset in ((ids(9), 4), (ids(3, 4), 2)):
        with pytest.raises(RowOffsetError) as caught:
            house.write(rows, session, row_offset=offset, access_token=token)
        assert caught.value.expected_offset == 3
        assert caught.value.http_status == 409
        assert "offset 3" in str(caught.value)
    if session != "default":
        house.close(session)
        house.commit(session)
    assert stored(house) == [1, 2, 3]
    assert len(house.object_keys()) == 2


def test_an_empty_body_keeps_the_offset(house: Any, session: str) -> None:
    token = house.stream(session, exactly_once=True).access_token
    body = house.stream_bytes([], SCHEMA)
    assert house.send(body, session, row_offset=0, access_token=token).exactly_once_row_offset == 0


def test_looking_a_stream_up_takes_it_over(house: Any, session: str) -> None:
    old = house.stream(session, exactly_once=True).access_token
    house.write(ids(1), session, row_offset=0, access_token=old)
    taken = house.look(session, exactly_once=True)
    assert taken.row_offset == 1
    for token in (old, None, "", "guess"):
        with pytest.raises(NoPermissionError):
            house.write(ids(2), session, row_offset=1, access_token=token)
    house.write(ids(2), session, row_offset=1, access_token=taken.access_token)
    # merely looking at it changes nothing
    assert house.look(session).access_token is None
    house.write(ids(3), session, row_offset=2, access_token=taken.access_token)


def test_the_zombie_is_fenced_off_in_mid_body(house: Any, session: str) -> None:
    token = house.stream(session, exactly_once=True).access_token
    zombie = house.engine.open_ingest(
        WriteTable(
            table=house.table, session_id=session, stream_id="s", row_offset=0, access_token=token
        )
    )
    zombie.decoder.feed(house.stream_bytes([ids(7)], SCHEMA))
    zombie.accept(list(zombie.decoder))
    house.look(session, exactly_once=True)
    with pytest.raises(NoPermissionError):
        zombie.finish()
    assert house.object_keys() == set()


def test_creating_an_exactly_once_stream_again_goes_on(house: Any, session: str) -> None:
    old = house.stream(session, exactly_once=True).access_token
    house.write(ids(1), session, row_offset=0, access_token=old)
    new = house.stream(session, exactly_once=True).access_token
    with pytest.raises(RowOffsetError):
        house.write(ids(2), session, row_offset=2, access_token=new)
    house.write(ids(2), session, row_offset=1, access_token=new)
    with pytest.raises(NoPermissionError):
        house.write(ids(3), session, row_offset=2, access_token=old)


def test_offsets_and_tokens_belong_to_exactly_once_streams(house: Any, session: str) -> None:
    house.stream(session)
    with pytest.raises(InvalidArgumentError):
        house.write(ids(1), session, row_offset=0)
    with pytest.raises(NoPermissionError):
        house.write(ids(1), session, access_token="stale")
    token = house.stream(session, "e", exactly_once=True).access_token
    for offset in (None, -1):
        with pytest.raises(InvalidArgumentError):
            house.write(ids(1), session, "e", row_offset=offset, access_token=token)


def test_two_bodies_at_one_offset_become_one(house: Any, session: str) -> None:
    token = house.stream(session, exactly_once=True).access_token
    request = WriteTable(
        table=house.table, session_id=session, stream_id="s", row_offset=0, access_token=token
    )
    body = house.stream_bytes([ids(1, 2)], SCHEMA)
    twins = [house.engine.open_ingest(request) for _ in range(2)]
    for twin in twins:
        twin.decoder.feed(body)
        twin.accept(list(twin.decoder))
    assert [twin.finish().exactly_once_row_offset for twin in twins] == [2, 2]
    assert len(house.object_keys()) == 1


def test_the_token_is_kept_as_a_digest(house: Any, session: str, tmp_path: Any) -> None:
    token = house.stream(session, exactly_once=True).access_token
    house.engine.close()
    for path in tmp_path.rglob("catalog.sqlite*"):
        assert token.encode() not in path.read_bytes()


# --- streaming ---


def test_streaming_rows_are_visible_when_the_write_returns(house: Any) -> None:
    house.create(SCHEMA)
    house.stream("default")
    staging = []
    for number in range(3):
        result = house.write(ids(number), "default", retry_trace_id=f"t{number}")
        staging.append(result.staging_id)
        assert stored(house) == list(range(number + 1))
    assert staging == sorted(staging)
    assert len(set(staging)) == 3
    session = house.engine.call(GetWriteSession(table=house.table, session_id="default"))
    assert session.min_uncommitted_staging_id is None
    assert house.commit("default").session_id == "default"  # harmless
    with pytest.raises(ConflictError):
        house.abort("default")


def test_the_implicit_session_is_one_per_mode(house: Any) -> None:
    house.create(SCHEMA)
    house.stream("default", write_mode=WriteMode.STREAMING)
    with pytest.raises(NotFoundError):
        house.write(ids(1), "default", write_mode=WriteMode.STREAMING_REALTIME)
    # a version 2 client says no mode, and means streaming
    house.write(ids(1), "default", write_mode=WriteMode.BATCH)
    assert stored(house) == [1]


def test_streaming_with_a_session_of_its_own(house: Any) -> None:
    house.create(SCHEMA, ["pt"])
    session = house.session("pt=a", write_mode=WriteMode.STREAMING)
    house.stream(session)
    house.write(ids(1), session)
    assert house.read()["pt"].to_pylist() == ["a"]
    house.close(session)
    house.commit(session)
    assert stored(house) == [1]


def test_a_stream_that_was_never_created_comes_into_being_when_looked_up(house: Any) -> None:
    house.create(SCHEMA)
    assert house.look("default", "worker-7", exactly_once=True).row_offset == 0
    assert house.look("default", "worker-8").row_offset is None
    house.write(ids(1), "default", "worker-8")


# --- replays ---


def test_a_repeated_request_is_answered_from_memory(house: Any, session: str) -> None:
    house.stream(session)
    first = house.write(ids(1, 2), session, retry_trace_id="abc")
    assert house.write(ids(1, 2), session, retry_trace_id="abc") == first
    house.write(ids(3), session, retry_trace_id="def")
    house.write(ids(4), session)
    if session != "default":
        house.close(session)
        # its reply was lost, and the stream closed by another hand since: still the same answer
        assert house.write(ids(1, 2), session, retry_trace_id="abc") == first
        house.commit(session)
    assert stored(house) == [1, 2, 3, 4]


def test_a_trace_id_is_of_one_body(house: Any, session: str) -> None:
    """Another body with it would be acknowledged and not be stored."""
    house.stream(session)
    first = house.write(ids(1, 2), session, retry_trace_id="abc")
    for other in (ids(1), ids(1, 3), ids(1, 2, 3), ids()):
        with pytest.raises(KeyReusedError, match=f"'abc' .* of 2 rows; .* of {len(other)} rows"):
            house.write(other, session, retry_trace_id="abc")
    assert house.write([ids(1), ids(2)], session, retry_trace_id="abc") == first
    if session != "default":
        house.close(session)
        house.commit(session)
    assert stored(house) == [1, 2]


def test_two_bodies_of_one_request_become_one(house: Any, session: str) -> None:
    house.stream(session)
    request = WriteTable(table=house.table, session_id=session, stream_id="s", retry_trace_id="abc")
    twins = [house.engine.open_ingest(request) for _ in range(2)]
    for twin in twins:
        twin.decoder.feed(house.stream_bytes([ids(1)], SCHEMA))
        twin.accept(list(twin.decoder))
    assert twins[0].finish() == twins[1].finish()
    assert len(house.object_keys()) == 1


def test_a_new_attempt_has_no_memory_of_the_last(house: Any) -> None:
    house.create(SCHEMA)
    session = house.session()
    house.stream(session)
    house.write(ids(1), session, retry_trace_id="abc")
    house.stream(session)
    house.write(ids(2), session, retry_trace_id="abc")
    house.close(session)
    house.commit(session)
    assert stored(house) == [2]


def test_an_attempt_begun_again_in_mid_body_keeps_the_body_out(house: Any) -> None:
    house.create(SCHEMA)
    session = house.session()
    house.stream(session)
    ingest = house.engine.open_ingest(
        WriteTable(table=house.table, session_id=session, stream_id="s")
    )
    ingest.decoder.feed(house.stream_bytes([ids(1)], SCHEMA))
    ingest.accept(list(ingest.decoder))
    house.stream(session)
    with pytest.raises(ConflictError, match="begun again"):
        ingest.finish()
    assert house.object_keys() == set()


def test_stream_names_and_versions_have_limits(open_house: Any) -> None:
    house = open_house(max_session_streams=2)
    house.create(SCHEMA)
    session = house.session()
    for name in ("", "x" * 256, "a\nb"):
        with pytest.raises(InvalidArgumentError):
            house.stream(session, name)
    with pytest.raises(InvalidArgumentError):
        house.stream(session, "s", -1)
    house.stream(session, "a")
    house.stream(session, "b")
    from fletching.errors import LimitExceededError

    with pytest.raises(LimitExceededError):
        house.stream(session, "c")


def test_a_creation_that_is_repeated_late_drops_nothing(house: Any) -> None:
    house.create(SCHEMA)
    session = house.session()
    for trace in ("first", "second"):
        house.stream(session, retry_trace_id=trace)
    house.write(ids(1), session)
    for trace in ("first", "second"):
        assert house.stream(session, retry_trace_id=trace).record_count == 1
    house.close(session)
    house.stream(session, retry_trace_id="first")  # nor does it open what was closed
    house.commit(session)
    assert stored(house) == [1]
    session = house.session()
    house.stream(session, retry_trace_id="first")
    house.write(ids(2), session)
    house.stream(session, retry_trace_id="new")
    house.close(session)
    house.commit(session)
    assert stored(house) == [1]


@pytest.mark.parametrize("length", [1, 64, 65, 200])
def test_retry_trace_ids_that_share_a_beginning_are_different(house: Any, length: int) -> None:
    house.create(SCHEMA)
    house.stream("default")
    for last in "ab":
        house.write(ids(1), "default", retry_trace_id="x" * (length - 1) + last)
        house.write(ids(1), "default", retry_trace_id="x" * (length - 1) + last)
    assert house.read().num_rows == 2


def test_a_retry_trace_id_that_is_too_long_is_refused(house: Any) -> None:
    house.create(SCHEMA)
    house.stream("default")
    calls: list[Any] = [
        lambda: house.write(ids(1), "default", retry_trace_id="x" * 201),
        lambda: house.stream("default", "other", retry_trace_id="x" * 201),
    ]
    for call in calls:
        with pytest.raises(InvalidArgumentError, match="at most 200 characters, not 201"):
            call()
    assert house.read().num_rows == 0


def test_the_same_trace_id_on_two_streams_is_two_writes(house: Any) -> None:
    house.create(SCHEMA)
    for stream in ("one", "two"):
        house.stream("default", stream)
        house.write(ids(1), "default", stream, retry_trace_id="same")
    assert house.read().num_rows == 2


def begin(house: Any, session: str, *batches: Any, **options: Any) -> Any:
    """A body that has come in whole and is not finished."""
    ingest = house.engine.open_ingest(
        WriteTable(table=house.table, session_id=session, stream_id="s", **options)
    )
    ingest.decoder.feed(house.stream_bytes(list(batches), SCHEMA))
    ingest.accept(list(ingest.decoder))
    return ingest


@pytest.mark.parametrize("exactly_once", [False, True])
def test_a_stream_closed_in_mid_body_takes_nothing_more(house: Any, exactly_once: bool) -> None:
    house.create(SCHEMA)
    session = house.session()
    token = house.stream(session, exactly_once=exactly_once).access_token
    options = {"row_offset": 0, "access_token": token} if exactly_once else {}
    house.write(ids(1), session, **options)
    options = {"row_offset": 1, "access_token": token} if exactly_once else {}
    late = begin(house, session, ids(2), **options)
    house.close(session)
    with pytest.raises(ConflictError):
        late.finish()
    assert len(house.object_keys()) == 1
    house.commit(session)
    assert stored(house) == [1]


def test_a_fenced_off_writer_is_not_told_that_its_rows_are_there(house: Any, session: str) -> None:
    """All of them are, but what comes after them is another writer's."""
    token = house.stream(session, exactly_once=True).access_token
    house.write(ids(1, 2), session, row_offset=0, access_token=token)
    again = begin(house, session, ids(1, 2), row_offset=0, access_token=token)
    house.look(session, exactly_once=True)
    with pytest.raises(NoPermissionError):
        again.finish()


def test_a_counted_body_that_has_more_rows_is_refused(house: Any, session: str) -> None:
    token = house.stream(session, exactly_once=True).access_token
    house.write(ids(1, 2), session, row_offset=0, access_token=token)
    again = begin(house, session, ids(1, 2), ids(3), row_offset=0, access_token=token)
    with pytest.raises(RowOffsetError) as caught:
        again.finish()
    assert caught.value.expected_offset == 2


@pytest.mark.parametrize("end", ["abort", "cut", "finish"])
def test_a_repeated_body_that_breaks_off_leaves_the_first(
    house: Any, session: str, end: str
) -> None:
    house.stream(session)
    house.write(ids(1), session, retry_trace_id="t")
    repeated = begin(house, session, ids(1), retry_trace_id="t")
    if end == "abort":
        repeated.abort()
    elif end == "finish":
        assert repeated.finish().rows == 1
    else:
        cut = house.engine.open_ingest(
            WriteTable(table=house.table, session_id=session, stream_id="s", retry_trace_id="t")
        )
        cut.decoder.feed(house.stream_bytes([ids(1)], SCHEMA)[:-8])
        cut.accept(list(cut.decoder))
        with pytest.raises(TruncatedStreamError):
            cut.finish()
    if session != "default":
        house.close(session)
        house.commit(session)
    assert stored(house) == [1]
