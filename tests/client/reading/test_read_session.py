from __future__ import annotations

import pickle
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import fletching
from fletching.client import ReadSession
from fletching.errors import ExpiredSessionError, UsageError


@pytest.fixture
def table(client: fletching.Client) -> fletching.Table:
    made = client.create_table("numbers", "n BIGINT, s STRING")
    with made.write_session() as session, session.writer() as writer:
        for start in range(0, 100, 10):
            values = range(start, start + 10)
            writer.write(pa.record_batch({"n": values, "s": [f"s{n}" for n in values]}))
    return made


def numbers(splits: Any) -> list[int]:
    return [n for split in splits for n in split.to_table()["n"].to_pylist()]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100, 130])
def test_there_are_as_many_splits_as_asked_for(table: fletching.Table, count: int) -> None:
    session = table.scan().session()
    splits = session.splits(count)
    assert len(splits) == count
    assert sum(split.row_count or 0 for split in splits) == 100
    assert numbers(splits) == list(range(100))
    assert all(split.partition is None for split in splits)
    # The same in every process, however often.
    again = pickle.loads(pickle.dumps(session))
    assert [str(split.token) for split in again.splits(count)] == [
        str(split.token) for split in splits
    ]


def test_what_planners_want_to_know(table: fletching.Table) -> None:
    with table.scan(columns=["n"]).session() as session:
        assert isinstance(session, ReadSession)
        assert session.schema == pa.schema([("n", pa.int64())])
        assert session.row_count == 100
        assert session.byte_size > 0
        assert (session.pushed, session.residual) == (None, None)
        assert session.version is not None
        assert (session.expires_at or 0) > 1e9
        first, second = session.splits(2)
        assert first.byte_size == second.byte_size == session.byte_size // 2
        assert session.to_table()["n"].to_pylist() == list(range(100))
        assert sum(batch.num_rows for batch in session) == 100
        assert "100 rows" in repr(session)


def test_a_session_is_a_snapshot(table: fletching.Table) -> None:
    session = table.scan().session()
    table.append({"n": [1000], "s": ["new"]})
    assert session.row_count == 100
    assert numbers(session.splits(3)) == list(range(100))
    assert table.count_rows() == 101
    assert numbers(pickle.loads(pickle.dumps(session)).splits(2)) == list(range(100))


@pytest.mark.parametrize("count", [1, 3, 100])
def test_filters_are_evaluated_by_the_service(table: fletching.Table, count: int) -> None:
    session = table.scan(filter="s like '%3'").session()
    assert session.pushed == "s like '%3'"
    assert session.residual is None
    splits = session.splits(count)
    assert all(split.row_count is None for split in splits)
    assert numbers(splits) == list(range(3, 100, 10))
    # A reader goes on in the middle of what the filter lets through.
    split = next(each for each in splits if each.to_table().num_rows)
    reader = split.reader()
    batch = reader.read_next_batch()
    token = str(reader.token)
    reader.close()
    channel = split._channel
    rest = fletching.Client(channel, "p").resume(token).read_all()
    assert batch.num_rows + rest.num_rows == split.to_table().num_rows


def test_nothing_of_a_filter_remains_for_who_reads(table: fletching.Table) -> None:
    result = table.scan(filter=(pc.field("n") >= 97) & pc.field("s").is_valid()).session()
    assert result.pushed is not None
    assert result.residual is None
    assert numbers(result.splits(2)) == [97, 98, 99]


def test_a_limit_bounds_the_session(table: fletching.Table) -> None:
    session = table.scan(limit=15).session()
    assert session.row_count == 15
    assert numbers(session.splits(4)) == list(range(15))
    assert table.scan(limit=1000).session().row_count == 100
    assert table.scan(limit=0).session().splits(2)[1].to_table().num_rows == 0
    with pytest.raises(UsageError, match="limit"):
        table.scan(filter="n = 1", limit=3).session()


@pytest.mark.parametrize("count", [0, -1, 1.5, "2", True, None])
def test_a_number_of_splits_is_a_whole_one(table: fletching.Table, count: Any) -> None:
    with pytest.raises(UsageError):
        table.scan().session().splits(count)


def test_a_released_session_is_over(table: fletching.Table) -> None:
    with table.scan().session() as session:
        (split,) = session.splits(1)
        assert split.to_table().num_rows == 100
    session.release()
    with pytest.raises(UsageError, match="released"):
        session.splits(1)
    with pytest.raises(ExpiredSessionError):
        split.to_table()
    # Whoever finds out that it is needed after all takes it up again.
    assert session.refresh().splits(1)[0].to_table().num_rows == 100


def test_refreshing_moves_the_end(table: fletching.Table) -> None:
    session = table.scan().session()
    before = session.expires_at or 0.0
    assert (session.refresh().expires_at or 0.0) >= before


def test_splits_know_their_partition(events: fletching.Table) -> None:
    for pt, rows in (("b", 20), ("a", 10), ("10", 5), ("9", 5)):
        values = list(range(rows))
        events.append({"id": values, "text": [pt] * rows}, partition=f"pt={pt}")
    session = events.scan().session()
    for split in session.splits(8):
        result = set(split.to_table()["pt"].to_pylist())
        if split.partition is None:
            assert len(result) != 1
        else:
            assert result == {split.partition.values[0]}
    assert [str(split.partition) for split in session.splits(8)] == [
        "pt=10", "pt=9", "pt=a", "pt=a", "pt=b", "pt=b", "pt=b", "pt=b",
    ]  # fmt: skip
    chosen = events.scan(partitions=["pt=b"]).session()
    assert {str(split.partition) for split in chosen.splits(3)} == {"pt=b"}
    assert (
        pickle.loads(pickle.dumps(chosen.splits(3)[1])).partition == chosen.splits(3)[1].partition
    )
    # They are the snapshot's, whatever becomes of the table.
    late = events.scan().session()
    events.append({"id": [1], "text": ["x"]}, partition="pt=a")
    assert [str(split.partition) for split in late.splits(4)] == ["None", "pt=a", "pt=b", "pt=b"]
    # Whoever has the session's token is told what was known when it was pickled.
    assert pickle.loads(pickle.dumps(late)).splits(4) == late.splits(4)
    assert [str(s.partition) for s in pickle.loads(pickle.dumps(late)).splits(4)][1:] == [
        "pt=a", "pt=b", "pt=b",
    ]  # fmt: skip


def test_an_empty_table_has_a_session(client: fletching.Client) -> None:
    table = client.create_table("empty", "n BIGINT")
    session = table.scan().session()
    assert session.row_count == 0
    assert numbers(session.splits(3)) == []
    assert session.to_table() == table.schema.empty_table()


def test_splits_of_some_columns(table: fletching.Table) -> None:
    with table.scan().session() as session:
        (split,) = session.splits(1, columns=["s", "n"])
        assert split.to_table().column_names == ["s", "n"]
        assert split.schema.names == ["s", "n"]
        part = pickle.loads(pickle.dumps(session.rows(10, 20, columns=["S"])))
        assert part.to_table().to_pydict() == {"s": [f"s{n}" for n in range(10, 20)]}
        assert part.reader(3).read_all().num_rows == 7
        # The place of a reader survives as text, and with it what is asked for.
        assert type(part.token).parse(str(part.token)) == part.token
        none = session.rows(0, 30, columns=[])
        assert sum(batch.num_rows for batch in none.to_batches()) == 30
        assert none.schema.names == []
        with pytest.raises(UsageError, match="no column x"):
            session.rows(0, 1, columns=["x"])
        with pytest.raises(UsageError, match="twice"):
            session.rows(0, 1, columns=["s", "S"])
    with table.scan(columns=[]).session() as session:
        assert sum(b.num_rows for b in session.rows(0, 30, columns=[]).to_batches()) == 30


def test_equal_splits_are_equal_everywhere(table: fletching.Table) -> None:
    session = table.scan().session()
    again = pickle.loads(pickle.dumps(session))
    assert again == session
    assert hash(again) == hash(session)
    assert again != table.scan().session()
    for mine, other in zip(session.splits(3), again.splits(3), strict=True):
        assert mine == other
        assert hash(mine) == hash(other)
        assert mine.__dask_tokenize__() == other.__dask_tokenize__()
        assert len(mine.locations) == 1
    assert len({*session.splits(3), *again.splits(3)}) == 3
