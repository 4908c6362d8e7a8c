from __future__ import annotations

import pickle
import threading
from typing import Any

import pyarrow as pa
import pytest

import fletching
from fletching.client import CommitMessage
from fletching.errors import FletchingError, NotFoundError, ServiceError, UsageError
from fletching.ipc.encoding import encode_schema


@pytest.fixture
def table(client: fletching.Client) -> fletching.Table:
    return client.create_table("t", pa.schema([("n", pa.int64())]))


def numbers(table: fletching.Table) -> list[int]:
    return sorted(table.to_table()["n"].to_pylist())


def test_a_session_commits_all_streams_at_its_end(table: fletching.Table) -> None:
    with table.write_session() as session:
        for number in range(3):
            with session.writer(f"stream-{number}") as writer:
                writer.write({"n": [number]})
        assert table.count_rows() == 0
        assert session.closed_streams() == {"stream-0": 1, "stream-1": 1, "stream-2": 1}
    assert numbers(table) == [0, 1, 2]


def test_a_session_that_raises_leaves_nothing(table: fletching.Table) -> None:
    session = table.write_session()

    def fail() -> None:
        with session, session.writer() as writer:
            writer.write({"n": [1]})
            writer.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert table.count_rows() == 0
    with pytest.raises(UsageError, match="was aborted"):
        session.commit()
    with pytest.raises(UsageError):
        session.writer()


def test_streams_are_numbered(table: fletching.Table) -> None:
    with table.write_session() as session:
        ids = []
        for name in (None, "stream-1", None, "mine", None):
            with session.writer(name) as writer:
                ids.append(writer.stream_id)
    assert ids == ["stream-0", "stream-1", "stream-2", "mine", "stream-4"]


def test_an_open_writer_stops_the_commit(table: fletching.Table) -> None:
    with pytest.raises(UsageError, match="forgotten would be left out"), table.write_session() as s:
        s.writer("forgotten").write({"n": [1]})
    assert table.count_rows() == 0


def test_a_failed_stream_must_be_written_anew(table: fletching.Table) -> None:
    def fail(session: fletching.client.WriteSession) -> None:
        with session.writer("s") as writer:
            writer.write({"n": [1]})
            writer.flush()
            raise ZeroDivisionError

    session = table.write_session()
    with pytest.raises(ZeroDivisionError):
        fail(session)
    with pytest.raises(UsageError, match="s would be left out"):
        session.commit()
    with session.writer("s") as writer:
        assert writer.stream_version == 2
        writer.write({"n": [7]})
    session.commit()
    assert numbers(table) == [7]


def test_an_abandoned_stream_is_left_out(table: fletching.Table) -> None:
    with table.write_session() as session:
        with session.writer("kept") as writer:
            writer.write({"n": [1]})
        dropped = session.writer("dropped")
        dropped.write({"n": [2]})
        dropped.flush()
        dropped.abandon()
        with pytest.raises(UsageError):
            dropped.write({"n": [3]})
    assert numbers(table) == [1]


def test_an_explicit_list_of_streams_is_committed_exactly(table: fletching.Table) -> None:
    session = table.write_session()
    for name in ("a", "b"):
        with session.writer(name) as writer:
            writer.write({"n": [ord(name)]})
    session.commit([("b", 1)])
    assert numbers(table) == [ord("b")]


def test_the_highest_closed_version_wins(table: fletching.Table) -> None:
    with table.write_session() as session:
        for value in (1, 2):
            with session.writer("s") as writer:
                writer.write({"n": [value]})
    assert numbers(table) == [2]


def test_commit_and_abort_can_be_repeated(table: fletching.Table) -> None:
    session = table.write_session()
    with session.writer() as writer:
        writer.write({"n": [1]})
    session.commit()
    session.commit()
    with pytest.raises(UsageError):
        session.abort()
    assert numbers(table) == [1]
    # another object of the same session asks the service
    table.open_write_session(session.id).commit()
    assert numbers(table) == [1]
    other = table.write_session()
    other.abort()
    other.abort()


def test_an_aborted_session_is_gone(table: fletching.Table) -> None:
    session = table.write_session()
    session.abort()
    with pytest.raises(ServiceError):
        table.open_write_session(session.id).writer()


def test_an_unknown_session(table: fletching.Table) -> None:
    with pytest.raises(NotFoundError):
        table.open_write_session("ws-no-such").writer()


def test_other_processes_write_streams_of_a_session(table: fletching.Table) -> None:
    session = table.write_session()
    copy = pickle.loads(pickle.dumps(session))
    assert copy.id == session.id
    with copy.writer("theirs") as writer:
        writer.write({"n": [1]})
    with table.open_write_session(session.id).writer("more") as writer:
        writer.write({"n": [2]})
    with session.writer("mine") as writer:
        writer.write({"n": [3]})
    session.commit()
    assert numbers(table) == [1, 2, 3]


def test_streams_can_be_written_by_threads(table: fletching.Table) -> None:
    failures = []
    with table.write_session() as session:

        def write(number: int) -> None:
            try:
                with session.writer(f"s-{number}") as writer:
                    for value in range(10):
                        writer.write({"n": [number * 10 + value]})
                        writer.flush()
            except BaseException as exc:  # noqa: BLE001  # reported below
                failures.append(exc)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    assert numbers(table) == list(range(40))


def test_raw_streams(table: fletching.Table) -> None:
    with table.write_session() as session, session.writer("raw") as writer:
        with session.raw_writer("raw") as file:
            stream = pa.ipc.new_stream(file, writer.schema)
            stream.write_batch(pa.record_batch({"n": [1, 2]}))
            stream.close()
            assert file.finish().rows == 2
            assert file.finish().rows == 2
        with session.raw_writer("raw") as file:
            file.write(encode_schema(writer.schema))
    assert numbers(table) == [1, 2]


def test_partitions_static_dynamic_and_partial(client: fletching.Client) -> None:
    table = client.create_table("t", "n BIGINT", partition_by=["day", "region"])
    table.append({"n": [1]}, partition="day=1,region=eu")
    table.append({"n": [2, 3], "region": ["eu", "us"]}, partition="day=2")
    table.append({"n": [4, 5], "day": ["3", "1"], "region": ["eu", "us"]})
    assert table.partitions() == [
        "day=1,region=eu",
        "day=1,region=us",
        "day=2,region=eu",
        "day=2,region=us",
        "day=3,region=eu",
    ]
    assert table.count_rows("day=1") == 2
    assert table.partitions("day=2")[0].values == ("2", "eu")
    table.overwrite({"n": [9], "day": ["1"], "region": ["eu"]})
    assert numbers(table) == [2, 3, 4, 5, 9]


def test_overwriting_a_whole_table(table: fletching.Table) -> None:
    table.append({"n": [1, 2]})
    assert table.overwrite({"n": [3]}) == 1
    assert numbers(table) == [3]

    def fail() -> None:
        with table.write_session(overwrite=True) as session:
            with session.writer() as writer:
                writer.write({"n": [4]})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert numbers(table) == [3]


def attempt(session: Any, task: str, number: int, values: list[int]) -> CommitMessage:
    """What a task does: an attempt at its rows, in whatever process."""
    with pickle.loads(pickle.dumps(session)).writer(task, version=number) as writer:
        writer.write({"n": values})
    message = pickle.loads(pickle.dumps(writer.message))
    assert isinstance(message, CommitMessage)
    return message


def test_what_messages_name_is_committed_and_nothing_else(table: fletching.Table) -> None:
    session = table.write_session()
    kept = [attempt(session, "task-0", 1, [1, 2]), attempt(session, "task-1", 1, [3])]
    # Run twice, by speculation: the later attempt was too late.
    attempt(session, "task-1", 5, [3])
    attempt(session, "task-2", 1, [4])
    dead = session.writer("task-3", version=1)
    dead.write({"n": [5]})
    with pytest.raises(UsageError, match="not closed"):
        _ = dead.message
    assert kept[0] == CommitMessage(session.id, "task-0", 1, 2)
    driver = table.open_write_session(session.id)
    report = driver.commit(kept)
    assert report is not None
    assert report.rows_inserted == 3
    assert sorted(table.to_table()["n"].to_pylist()) == [1, 2, 3]
    # A repeated commit, also of another process, is the first one.
    again = table.open_write_session(session.id).commit(kept)
    assert again is not None
    assert again.version == report.version
    assert table.count_rows() == 3


def test_an_epoch_is_committed_once_whatever_its_parts(table: fletching.Table) -> None:
    first = table.write_session()
    messages = [attempt(first, f"task-{n}", 1, [n]) for n in range(3)]
    done = first.commit(messages, idempotency_key="query-epoch-7")
    # Its driver died before it could note that: the epoch comes again, in one part.
    second = table.write_session()
    message = attempt(second, "task-0", 1, [0, 1, 2])
    replayed = second.commit([message], idempotency_key="query-epoch-7")
    assert done is not None
    assert replayed is not None
    assert replayed.version == done.version
    assert table.count_rows() == 3
    with pytest.raises(FletchingError):
        second.writer("task-9")
    third = table.write_session()
    third.commit([attempt(third, "task-0", 1, [3])], idempotency_key="query-epoch-8")
    assert table.count_rows() == 4


def test_messages_that_do_not_belong_together(table: fletching.Table) -> None:
    session, other = table.write_session(), table.write_session()
    mine, theirs = attempt(session, "a", 1, [1]), attempt(other, "a", 1, [2])
    with pytest.raises(UsageError, match="was written in session"):
        session.commit([mine, theirs])
    with pytest.raises(UsageError, match="two attempts"):
        session.commit([mine, attempt(session, "a", 2, [1])])
    assert table.count_rows() == 0
    session.abort()
    other.abort()


def test_the_names_of_earlier_programs_work_and_warn_nobody(table: fletching.Table) -> None:
    with table.write_session() as session, session.writer("raw") as writer:
        with session.open_stream("raw") as file:
            file.write(encode_schema(writer.schema))
        with pytest.raises(UsageError):
            session.open_blob("n")
        with pytest.raises(UsageError):
            session.blob_writer("n")
