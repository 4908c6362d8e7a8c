"""What an engine reads: rows of sessions, of pinned tables, of no session, and what each request may ask."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from tests.engine.conftest import T, in_a_folder

from fletching.engine.reading.read_calls import Reading
from fletching.errors import (
    CorruptObjectError,
    ExpiredSessionError,
    InvalidArgumentError,
    NoSuchTableError,
    NotFoundError,
)
from fletching.protocol.messages.manifest import SourceKind
from fletching.protocol.messages.requests import (
    CreateReadSession,
    PreviewTable,
    ReadTable,
    SplitOptions,
)
from fletching.protocol.messages.vocabulary import SplitMode
from fletching.sql.predicates.predicate_compiler import compile_predicate
from fletching.types import PartitionSpec, TableName

SCHEMA = pa.schema([("id", pa.int64()), ("s", pa.string())])


def batch(start: int, rows: int) -> pa.RecordBatch:
    numbers = range(start, start + rows)
    return pa.record_batch([list(numbers), [f"r{n}" for n in numbers]], schema=SCHEMA)


@pytest.fixture
def filled(house: Any) -> Any:
    house.create(SCHEMA, ["pt"])
    house.append([batch(0, 6), batch(6, 4)], "pt=a")
    house.append(batch(10, 10), "pt=b")
    return house


@pytest.fixture
def reading(filled: Any) -> Reading:
    result: Reading = filled.engine._reading
    return result


def ids(plan: Any) -> list[int]:
    table = pa.Table.from_batches(list(plan.batches()), plan.schema)
    data = b"".join(bytes(piece) for piece in plan.buffers())
    assert pa.ipc.open_stream(data).read_all() == table, "the same rows, executed and sent"
    return list(table["id"].to_pylist())


def split_request(session: str, **options: Any) -> ReadTable:
    return ReadTable(table=T, session_id=session, **options)


def test_rows_of_a_session_by_offset_count_and_split(filled: Any, reading: Reading) -> None:
    session = filled.open_read(
        split_options=SplitOptions(split_mode=SplitMode.PARALLELISM, split_number=2)
    )
    parts = [ids(reading.read(split_request(session, index=index))) for index in (0, 1)]
    assert parts[0] + parts[1] == list(range(20))
    assert ids(reading.read(split_request(session, index=1, skip_rows=3))) == parts[1][3:]
    session = filled.open_read()
    assert ids(reading.read(split_request(session, offset=4, count=3))) == [4, 5, 6]
    assert ids(reading.read(split_request(session, offset=18, count=99))) == [18, 19]
    assert ids(reading.read(split_request(session, offset=20))) == []


def test_open_sessions_keep_no_snapshots(
    filled: Any, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept of snapshots is bounded by bytes, however many sessions are open and were read."""
    monkeypatch.setattr(reading._snapshots.cache.budget, "capacity", 1)
    made = []
    for number in range(6):
        filled.append(batch(100 + number, 1), "pt=c")
        session = filled.open_read(
            split_options=SplitOptions(split_mode=SplitMode.PARALLELISM, split_number=3)
        )
        parts = [ids(reading.read(split_request(session, index=index))) for index in range(3)]
        assert sum(map(len, parts)) == 21 + number
        made.append(weakref.ref(reading._snapshot_of(reading._sessions.find(session, T))))
    gc.collect()
    assert len([each for each in made if each() is not None]) <= 2


@pytest.mark.parametrize(
    "wrong",
    [{"offset": 21}, {"offset": -1}, {"count": -1}, {"skip_rows": -1}, {"max_batch_rows": -1}, {"index": 9}, {"data_columns": ("none",)}],
    ids=str,
)  # fmt: skip
def test_what_a_session_has_not_is_refused(filled: Any, reading: Reading, wrong: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        reading.read(split_request(filled.open_read(), **wrong))


def test_sessions_belong_to_their_table_and_end(filled: Any, reading: Reading) -> None:
    session = filled.open_read()
    other = TableName("demo", "other")
    with pytest.raises(NotFoundError):
        reading.read(ReadTable(table=other, session_id=session))
    with pytest.raises(NotFoundError):
        reading.read(split_request("none"))
    filled.clock.advance(10 * 24 * 3600)
    with pytest.raises(ExpiredSessionError):
        reading.read(split_request(session))


def test_pinned_tables_read_what_a_predicate_chooses_until_they_are_let_go(
    filled: Any, reading: Reading
) -> None:
    (table,) = reading.pin([(T, None)])
    filled.append(batch(100, 5), "pt=a")
    schema, batches = table.batches(["id"], compile_predicate("id in (3, 13)", table.fields))
    assert schema.names == ["id"]
    # Of numbers the whole batch may come: whoever asks, asks its conditions again.
    assert {3, 13} <= {n for each in batches for n in each["id"].to_pylist()} < set(range(20))
    _, batches = table.batches(["s"], compile_predicate("id = 13", table.fields))
    assert [n for each in batches for n in each["s"].to_pylist()] == ["r13"]
    _, batches = table.batches(["id"], None)
    assert sum(each.num_rows for each in batches) == 20
    assert list(table.fields) == ["id", "s", "pt"]
    kept = table.kept(compile_predicate("pt = 'b'", table.fields))
    assert kept != table.kept(None)
    reading.unpin([table])
    with pytest.raises(ExpiredSessionError):
        reading.read(split_request(table.session.row.id))


def test_several_tables_are_pinned_at_one_moment_or_none(filled: Any, reading: Reading) -> None:
    with pytest.raises(NoSuchTableError):
        reading.pin([(T, None), (TableName("demo", "none"), None)])


def test_rows_without_a_session_leave_nothing_in_the_catalog(filled: Any, reading: Reading) -> None:
    result = reading.snapshot_rows(CreateReadSession(table=T), offset=4, count=3)
    assert ids(result.plan) == [4, 5, 6]
    assert result.total == 20
    assert ids(reading.snapshot_rows(CreateReadSession(table=T), offset=99).plan) == []
    chosen = CreateReadSession(
        table=T,
        filter_predicate="id > 17",
        required_partitions=(PartitionSpec.parse("pt=b"),),
    )
    result = reading.snapshot_rows(chosen)
    assert (ids(result.plan), result.total) == ([18, 19], 10)
    older = reading.snapshot_rows(CreateReadSession(table=T, version=result.version - 1))
    assert ids(older.plan) == list(range(10))
    assert all(len(cache) == 0 for name, cache in reading.caches() if name == "sessions")


def test_a_preview_is_the_first_rows(filled: Any, reading: Reading) -> None:
    assert ids(reading.preview(PreviewTable(table=T, limit=3))) == [0, 1, 2]
    of_b = PreviewTable(table=T, limit=2, partition=PartitionSpec.parse("pt=b"))
    assert ids(reading.preview(of_b)) == [10, 11]
    none = PreviewTable(table=T, limit=2, partition=PartitionSpec.parse("pt=none"))
    assert ids(reading.preview(none)) == []
    plan = reading.preview(PreviewTable(table=T, limit=1, columns=("s",)))
    assert plan.schema.names == ["s"]
    with pytest.raises(InvalidArgumentError):
        reading.preview(PreviewTable(table=T, limit=1, columns=("none",)))


@in_a_folder
def test_where_rows_lie_is_told_only_of_rows_as_they_are_stored(
    filled: Any, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fletching.engine.reading.segment_sharing.LEAST_BYTES", 0)
    session = filled.open_read()
    shared = reading.share(split_request(session, skip_rows=3))
    assert shared is not None
    assert shared.message.rows == 17
    shared.close()
    assert reading.share(split_request(session, max_batch_rows=2)) is None
    assert reading.share(split_request(filled.open_read(filter_predicate="id = 1"))) is None


@in_a_folder
def test_a_folder_signs_nothing(filled: Any, reading: Reading) -> None:
    session = filled.open_read()
    request = split_request(session, sources=(SourceKind.SIGNED,))
    assert reading.direct_read(request, reading.read(request), least_bytes=0) is None


def test_a_session_whose_rows_are_others_than_it_says_is_damage(
    filled: Any, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = filled.open_read()
    result = reading._sessions.find(session, T)
    wrong = dataclasses.replace(result, totals=msgspec.structs.replace(result.totals, rows=19))
    monkeypatch.setattr(reading._sessions, "find", lambda *_: wrong)
    with pytest.raises(CorruptObjectError, match="20 rows where the session has 19"):
        reading.read(split_request(session))
