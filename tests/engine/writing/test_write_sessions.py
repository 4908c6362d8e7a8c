"""Write sessions: streams, versions, commit, abort, overwrite, expiry."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from fletching.errors import (
    ConflictError,
    ExpiredSessionError,
    InvalidArgumentError,
    KeyReusedError,
    NoSuchTableError,
    NotFoundError,
    ThrottledError,
)
from fletching.protocol.messages.admin import DropTable, ListPartitions
from fletching.protocol.messages.requests import CreateReadSession, GetWriteSchema, GetWriteSession
from fletching.protocol.messages.vocabulary import SessionStatus, WriteMode

SCHEMA = pa.schema([("id", pa.int64())])


def ids(*values: int) -> Any:
    return pa.record_batch([pa.array(values, pa.int64())], schema=SCHEMA)


def stored(house: Any, **options: Any) -> list[int]:
    return sorted(house.read(**options)["id"].to_pylist())


def partitions(house: Any) -> list[str]:
    page = house.engine.call(ListPartitions(table=house.table))
    return [str(item.partition) for item in page.partitions]


def test_rows_are_visible_after_commit_and_not_before(house: Any) -> None:
    house.create(SCHEMA)
    session = house.session()
    house.stream(session)
    house.write(ids(1, 2), session)
    house.close(session)
    assert stored(house) == []
    done = house.commit(session)
    assert done.status is SessionStatus.COMMITTED
    assert stored(house) == [1, 2]
    info = house.describe()
    assert (info.rows, info.segments, info.version) == (2, 1, 1)


def test_opening_a_session_does_not_wait_for_the_disk(house: Any, monkeypatch: Any) -> None:
    house.create(SCHEMA)
    database, durable = house.engine.context.database, []

    def write(plain: Any = database.write, **options: Any) -> Any:
        durable.append(options.get("durable", True))
        return plain(**options)

    monkeypatch.setattr(database, "write", write)
    session = house.session()
    assert durable == [False]
    house.stream(session)
    # A new attempt discards what the one before it held.
    assert durable == [False, True]


def test_the_highest_closed_version_of_each_stream_wins(house: Any) -> None:
    house.create(SCHEMA)
    session = house.session()
    script = [
        ("s1", 1, True, 1), ("s2", 1, False, 2), ("s1", 2, True, 3), ("s3", 2, True, 4), ("s3", 3, False, 5),
    ]  # fmt: skip
    for stream, version, closed, value in script:
        house.stream(session, stream, version)
        house.write(ids(value), session, stream, version)
        if closed:
            house.close(session, stream, version)
    session_now = house.engine.call(GetWriteSession(table=house.table, session_id=session))
    assert session_now.streams == {"s1": 2, "s3": 2}
    house.commit(session)
    assert stored(house) == [3, 4]
    # what lost is gone from the store as well
    assert len(house.object_keys()) == 2


def test_commit_with_a_list_takes_exactly_these(house: Any) -> None:
    house.create(SCHEMA)
    session = house.session()
    for stream, version, value in [("a", 1, 1), ("a", 2, 2), ("b", 1, 3)]:
        house.stream(session, stream, version)
        house.write(ids(value), session, stream, version)
        house.close(session, stream, version)
    for wrong in [(("a", 3),), (("c", 1),), (("a", 1), ("a", 2))]:
        with pytest.raises(InvalidArgumentError, match="nothing was committed"):
            house.commit(session, streams=wrong)
    house.commit(session, streams=(("a", 1),))
    assert stored(house) == [1]


def test_an_unclosed_stream_cannot_be_listed(house: Any) -> None:
    house.create(SCHEMA)
    session = house.session()
    house.stream(session)
    with pytest.raises(InvalidArgumentError):
        house.commit(session, streams=(("s", 1),))


def test_a_repeated_commit_gets_the_same_answer_and_adds_nothing(house: Any) -> None:
    house.create(SCHEMA)
    session = house.append(ids(1))
    assert house.commit(session).status is SessionStatus.COMMITTED
    assert stored(house) == [1]
    with pytest.raises(ConflictError):
        house.commit(session, streams=(("s", 1),))
    with pytest.raises(ConflictError):
        house.abort(session)
    with pytest.raises(ConflictError):
        house.stream(session, "late")


def staged(house: Any, *batches: Any, streams: int = 1, **options: Any) -> str:
    """A session whose rows wait for the commit."""
    session: str = house.session(**options)
    for number in range(streams):
        house.stream(session, f"s{number}")
        for batch in batches[number::streams]:
            house.write(batch, session, f"s{number}")
        house.close(session, f"s{number}")
    return session


def test_a_key_is_of_one_commit(house: Any) -> None:
    house.create(SCHEMA, ["pt"])
    rows = [ids(1, 2), ids(3)]
    first = house.commit(staged(house, *rows, partition="pt=a"), idempotency_key="k")
    others = (
        staged(house, *rows, partition="pt=b"),
        staged(house, *rows, partition="pt=a", overwrite=True),
    )
    for other in others:
        with pytest.raises(KeyReusedError, match=r"'k' .* version 1 .* append \(pt=a\)"):
            house.commit(other, idempotency_key="k")
        house.commit(other, idempotency_key=f"of {other}")  # it is as it was
    # A job that is run again may divide its rows otherwise, or find others.
    for again in (rows, rows[::-1], [ids(1, 2, 3)], [ids(4, 5)]):
        for streams in (1, 2):
            session = staged(house, *again, streams=streams, partition="pt=a")
            assert house.commit(session, idempotency_key="k").report == first.report
    assert house.describe().version == 3


def test_a_commit_may_ask_for_a_version(house: Any) -> None:
    house.create(SCHEMA)
    house.append(ids(1))
    session = house.session()
    house.stream(session)
    house.write(ids(2), session)
    house.close(session)
    before = house.describe().version
    house.append(ids(3))
    with pytest.raises(ConflictError, match=f"changed since version {before}"):
        house.commit(session, if_version=before)
    assert stored(house) == [1, 3]
    house.commit(session, if_version=before + 1)
    assert stored(house) == [1, 2, 3]


def test_a_commit_may_say_which_version_it_replaces(house: Any) -> None:
    house.create(SCHEMA)
    house.append(ids(1))
    before = house.describe().version
    session, adding = house.session(overwrite=True), house.session()
    for each in (session, adding):
        house.stream(each)
        house.write(ids(2), each)
        house.close(each)
    house.append(ids(3))
    with pytest.raises(ConflictError, match=f"to be replaced have changed since version {before}"):
        house.commit(session, replaces_version=before)
    with pytest.raises(InvalidArgumentError, match="replaces nothing"):
        house.commit(adding, replaces_version=before + 1)
    assert stored(house) == [1, 3]
    house.commit(session, replaces_version=before + 1)
    assert stored(house) == [2]


def test_creating_a_version_again_discards_what_it_held(house: Any) -> None:
    house.create(SCHEMA)
    session = house.session()
    house.stream(session)
    house.write(ids(1), session)
    house.stream(session)
    assert house.object_keys() == set()
    house.write(ids(2), session)
    house.close(session)
    house.stream(session)  # also from closed
    house.write(ids(3), session)
    house.close(session)
    house.commit(session)
    assert stored(house) == [3]


def test_a_lower_version_is_superseded(house: Any) -> None:
    house.create(SCHEMA)
    session = house.session()
    house.stream(session, "s", 2)
    with pytest.raises(ConflictError, match="superseded"):
        house.stream(session, "s", 1)


def test_a_closed_stream_takes_no_more_and_closing_repeats(house: Any) -> None:
    house.create(SCHEMA)
    session = house.session()
    house.stream(session)
    house.close(session)
    house.close(session)
    with pytest.raises(ConflictError, match="closed"):
        house.write(ids(1), session)


def test_abort_leaves_nothing_and_repeats(house: Any) -> None:
    house.create(SCHEMA)
    session = house.session()
    house.stream(session)
    house.write(ids(1), session)
    house.abort(session)
    house.abort(session)
    assert house.object_keys() == set()
    for call in (house.stream, house.commit, house.close):
        with pytest.raises(ExpiredSessionError, match="aborted"):
            call(session)
    assert stored(house) == []


def test_sessions_expire_when_idle_and_use_keeps_them(open_house: Any, clock: Any) -> None:
    house = open_house(write_session_seconds=100.0)
    house.create(SCHEMA)
    session = house.session()
    clock.advance(99)
    house.stream(session)
    clock.advance(99)
    house.write(ids(1), session)
    clock.advance(101)
    with pytest.raises(ExpiredSessionError, match="expired"):
        house.close(session)


def test_unknown_sessions_streams_and_tables(house: Any) -> None:
    house.create(SCHEMA)
    session = house.session()
    with pytest.raises(NotFoundError):
        house.commit("ws-none")
    with pytest.raises(NotFoundError):
        house.write(ids(1), session, "none")
    with pytest.raises(NotFoundError):
        house.close(session, "none")
    house.engine.call(DropTable(table=house.table))
    with pytest.raises(NoSuchTableError):
        house.commit(session)
    house.create(SCHEMA)
    with pytest.raises(NotFoundError):
        house.commit(session)  # a session of the dropped table is not one of its successor


def test_overwrite_replaces_the_table_or_the_static_partition(house: Any) -> None:
    house.create(SCHEMA, ["pt"])
    house.append(ids(1), "pt=a")
    house.append(ids(2), "pt=b")
    house.append(ids(3), "pt=a", overwrite=True)
    assert stored(house) == [2, 3]
    session = house.session("pt=b", overwrite=True)  # nothing written: the partition is emptied
    house.commit(session)
    assert stored(house) == [3]
    assert partitions(house) == ["pt=a", "pt=b"]
    info = house.describe()
    assert (info.rows, info.segments) == (1, 1)


def test_overwrite_without_partitions(house: Any) -> None:
    house.create(SCHEMA)
    house.append(ids(1, 2))
    house.append(ids(3), overwrite=True)
    assert stored(house) == [3]


def test_dynamic_overwrite_replaces_the_partitions_written(house: Any) -> None:
    house.create(SCHEMA, ["pt"])
    for number, name in enumerate("abc"):
        house.append(ids(number), f"pt={name}")
    rows = pa.table({"id": pa.array([10, 11, 12], pa.int64()), "pt": ["a", "d", "a"]})
    house.append(rows, overwrite=True)
    assert stored(house) == [1, 2, 10, 11, 12]
    assert partitions(house) == ["pt=a", "pt=b", "pt=c", "pt=d"]


def test_streaming_sessions_cannot_overwrite(house: Any) -> None:
    house.create(SCHEMA)
    with pytest.raises(InvalidArgumentError):
        house.session(overwrite=True, write_mode=WriteMode.STREAMING)


def test_an_empty_commit_adds_a_named_partition_but_no_version(house: Any) -> None:
    house.create(SCHEMA, ["pt"])
    house.commit(house.session("pt=a"))
    assert partitions(house) == ["pt=a"]
    assert house.describe().version == 0


def test_the_partition_must_be_the_tables(house: Any) -> None:
    house.create(SCHEMA, ["pt"])
    for text in ("x=1", "pt=a,x=1"):
        with pytest.raises(InvalidArgumentError):
            house.session(text)


@pytest.mark.parametrize(
    ("partition", "data", "rest"),
    [
        ("", ["id", "pt", "hh"], []),
        ("pt=a", ["id", "hh"], ["pt"]),
        ("pt=a,hh=1", ["id"], ["pt", "hh"]),
    ],
)
def test_the_write_schema_has_the_unbound_partition_columns(
    house: Any, partition: str, data: list[str], rest: list[str]
) -> None:
    house.create(SCHEMA, ["pt", "hh"])
    session = house.session(partition)
    schema = house.engine.call(GetWriteSchema(table=house.table, session_id=session)).schema
    assert [column.name for column in schema.data_columns] == data
    assert [column.name for column in schema.partition_columns] == rest
    default = house.engine.call(GetWriteSchema(table=house.table, session_id="default")).schema
    assert [column.name for column in default.data_columns] == ["id", "pt", "hh"]


def test_a_partial_specification_and_the_data_make_the_partition(house: Any) -> None:
    house.create(SCHEMA, ["pt", "hh"])
    house.append(pa.table({"HH": ["1", "2"], "id": pa.array([1, 2], pa.int64())}), "pt=a")
    assert partitions(house) == ["pt=a,hh=1", "pt=a,hh=2"]


def test_commits_of_two_sessions_keep_their_order(house: Any) -> None:
    house.create(SCHEMA)
    first, second = house.session(), house.session()
    for session, streams in ((first, "ba"), (second, "a")):
        for stream in streams:
            house.stream(session, stream)
            for number in range(2):
                house.write(
                    ids(100 * (session == second) + 10 * (stream == "b") + number), session, stream
                )
            house.close(session, stream)
    house.commit(second)
    house.commit(first)
    assert house.read()["id"].to_pylist() == [100, 101, 0, 1, 10, 11]


def test_open_sessions_are_limited_and_ended_ones_do_not_count(open_house: Any) -> None:
    house = open_house(max_write_sessions=2, write_session_seconds=100.0)
    house.create(SCHEMA)
    first, _ = house.session(), house.session()
    with pytest.raises(ThrottledError) as caught:
        house.session()
    assert caught.value.retry_after_seconds
    house.abort(first)
    house.session()
    with pytest.raises(ThrottledError):
        house.session()
    house.clock.now += 101
    house.session()


def test_open_read_sessions_are_limited(open_house: Any) -> None:
    house = open_house(max_read_sessions=2, read_session_seconds=100.0)
    house.create(SCHEMA)
    request = CreateReadSession(table=house.table)
    for _ in range(2):
        house.engine.call(request)
    with pytest.raises(ThrottledError):
        house.engine.call(request)
    house.clock.now += 101
    house.engine.call(request)
