"""Read sessions: snapshots that any process can answer for, and requests that are refused."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from fletching.engine.engine_settings import EngineSettings
from fletching.engine.reading import read_sessions as sessions
from fletching.engine.reading.splits import GRID_SEGMENTS
from fletching.errors import (
    CorruptObjectError,
    ExpiredSessionError,
    InvalidArgumentError,
    NoSuchPartitionError,
    NoSuchTableError,
    NotFoundError,
    ServiceError,
)
from fletching.protocol.messages.requests import (
    ArrowOptions,
    CreateReadSession,
    GetReadSession,
    ReadTable,
    SplitOptions,
)
from fletching.protocol.messages.vocabulary import SplitMode
from fletching.types import PartitionSpec, TableName

READ_SESSION_SECONDS = EngineSettings().read_session_seconds
SCHEMA = pa.schema([("id", pa.int64()), ("Text", pa.string())])
TABLE = TableName("demo", "events")


def batch(start: int, rows: int) -> pa.RecordBatch:
    numbers = range(start, start + rows)
    return pa.record_batch(
        {"id": pa.array(numbers, pa.int64()), "Text": [str(n) for n in numbers]}, schema=SCHEMA
    )


def ids(table: pa.Table) -> list[int]:
    return list(table.column("id").to_pylist())


@pytest.fixture
def days(shelf: Any) -> Any:
    """Two partition columns; rows 0-9 in mon/a, 10-14 in mon/b, 15-20 in tue/a."""
    shelf.create(SCHEMA, [("day", "string"), ("part", "string")])
    shelf.add([batch(0, 6), batch(6, 4)], ["mon", "a"])
    shelf.add(batch(15, 6), ["tue", "a"])
    shelf.add(batch(10, 5), ["mon", "b"])
    return shelf


# --- snapshots -------------------------------------------------------------------------------


def test_a_session_sees_what_was_there_when_it_was_opened(shelf: Any) -> None:
    shelf.create(SCHEMA)
    shelf.add(batch(0, 3))
    before = shelf.session()
    shelf.add(batch(3, 3))
    after = shelf.session()
    for process in (shelf.reading, shelf.process()):
        shelf.reading = process
        assert ids(shelf.read(before)) == [0, 1, 2]
        assert ids(shelf.read(after)) == [0, 1, 2, 3, 4, 5]
    assert (before.record_count, after.record_count) == (3, 6)
    assert after.latest_version == before.latest_version + 1


@pytest.mark.parametrize("mode", [SplitMode.SIZE, SplitMode.ROW_OFFSET, SplitMode.PARALLELISM])
@pytest.mark.parametrize("cross", [True, False])
@pytest.mark.parametrize("grid_above", [GRID_SEGMENTS, 0])
def test_every_process_finds_the_same_splits(
    days: Any, mode: SplitMode, cross: bool, grid_above: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "GRID_SEGMENTS", grid_above)
    monkeypatch.setattr("fletching.engine.reading.splits.MIN_GRID_BYTES", 64)
    number = {SplitMode.SIZE: 300, SplitMode.ROW_OFFSET: 4, SplitMode.PARALLELISM: 5}[mode]
    session = days.session(
        split_options=SplitOptions(split_mode=mode, split_number=number, cross_partition=cross)
    )
    assert session.record_count == 21
    assert session.splits_count > 1
    read: list[int] = []
    for index in range(session.splits_count):
        days.reading = days.process()
        table = days.read(session, index=index)
        read += ids(table)
        if not cross and table.num_rows:
            assert len({(row["day"], row["part"]) for row in table.to_pylist()}) == 1
    assert read == list(range(21))


def test_an_index_with_an_offset_counts_inside_the_split(shelf: Any) -> None:
    shelf.create(SCHEMA)
    shelf.add([batch(0, 10), batch(10, 10)])
    session = shelf.session(split_options=SplitOptions(split_number=1))
    assert session.splits_count == 2
    assert ids(shelf.read(session, index=1, offset=3, count=4)) == [13, 14, 15, 16]
    assert ids(shelf.read(session, index=1, offset=8, count=40)) == [18, 19]
    assert ids(shelf.read(session, index=0, skip_rows=7)) == [7, 8, 9]
    assert ids(shelf.read(session, offset=17)) == [17, 18, 19]
    assert ids(shelf.read(session, skip_rows=100)) == []


def test_reading_asks_the_catalog_nothing(shelf: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.create(SCHEMA)
    shelf.add(batch(0, 3))
    session = shelf.session()
    shelf.read(session)

    def refuse() -> None:
        raise AssertionError("the catalog was asked")

    monkeypatch.setattr(shelf.database, "read", refuse)
    monkeypatch.setattr(shelf.database, "write", refuse)
    assert ids(shelf.read(session, offset=1)) == [1, 2]


def test_totals_that_disagree_with_the_segments_are_reported(
    shelf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "GRID_SEGMENTS", 0)
    shelf.create(SCHEMA)
    shelf.add(batch(0, 3))
    session = shelf.session()
    with shelf.database.write() as connection:
        connection.exec_driver_sql("update segments set removed_version = 1")
    shelf.reading = shelf.process()
    with pytest.raises(CorruptObjectError):
        shelf.plan(session, index=0)


# --- time ------------------------------------------------------------------------------------


def test_a_session_expires_and_can_be_revived(shelf: Any) -> None:
    shelf.create(SCHEMA)
    shelf.add(batch(0, 3))
    session = shelf.session()
    assert session.expiration_time_ms == int((shelf.clock.now + READ_SESSION_SECONDS) * 1000)
    get = GetReadSession(table=TABLE, session_id=session.session_id)
    assert shelf.reading.get_session(get) == session

    shelf.clock.now += READ_SESSION_SECONDS
    for process in (shelf.reading, shelf.process()):
        shelf.reading = process
        with pytest.raises(ExpiredSessionError):
            process.get_session(get)
        with pytest.raises(ExpiredSessionError):
            shelf.plan(session)

    other = shelf.process()
    revived = other.get_session(
        GetReadSession(table=TABLE, session_id=session.session_id, refresh=True)
    )
    assert revived.expiration_time_ms == int((shelf.clock.now + READ_SESSION_SECONDS) * 1000)
    # The process that has the expired one in its memory looks again.
    assert ids(shelf.read(session)) == [0, 1, 2]


def test_refreshing_what_retention_removed_is_refused(shelf: Any) -> None:
    shelf.create(SCHEMA)
    session = shelf.session()
    with shelf.database.write() as connection:
        connection.exec_driver_sql("delete from read_sessions")
    with pytest.raises(NotFoundError):
        shelf.reading.get_session(
            GetReadSession(table=TABLE, session_id=session.session_id, refresh=True)
        )


# --- partitions and columns ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("specs", "expected"),
    [
        (["day=mon,part=a"], list(range(10))),
        (["day=mon"], list(range(15))),
        (["part=a"], [*range(10), *range(15, 21)]),
        (["day='mon'/part=\"b\"", "DAY=tue"], list(range(10, 21))),
        (["day=mon,part=a", "day=mon"], list(range(15))),
        (["day=wed"], []),
        ([""], list(range(21))),
    ],
)
def test_partitions_are_filtered(days: Any, specs: list[str], expected: list[int]) -> None:
    session = days.session(required_partitions=tuple(map(PartitionSpec.parse, specs)))
    assert session.record_count == len(expected)
    assert ids(days.read(session)) == expected
    days.reading = days.process()
    assert ids(days.read(session)) == expected


@pytest.mark.parametrize(
    ("request_", "names"),
    [
        ({}, ["id", "Text", "day", "part"]),
        ({"required_data_columns": ("TEXT", "ID")}, ["id", "Text"]),
        ({"required_partition_columns": ("part",)}, ["part"]),
        (
            {"required_data_columns": ("text",), "required_partition_columns": ("part", "day")},
            ["Text", "day", "part"],
        ),
    ],
)
def test_columns_of_a_session(days: Any, request_: dict[str, Any], names: list[str]) -> None:
    session = days.session(**request_)
    assert [column.name for column in session.schema.data_columns] + [
        column.name for column in session.schema.partition_columns
    ] == names
    message = pa.ipc.read_schema(pa.py_buffer(session.arrow_schema))
    assert message.names == names
    assert days.read(session).column_names == names


def test_the_schema_tells_odps_types_and_ids(days: Any) -> None:
    session = days.session(verbatim_types=False, arrow_options=ArrowOptions())
    assert [(c.name, c.type, c.column_ids) for c in session.schema.data_columns] == [
        ("id", "bigint", (1,)),
        ("Text", "string", (2,)),
    ]
    assert [(c.name, c.type, c.column_ids) for c in session.schema.partition_columns] == [
        ("day", "string", (3,)),
        ("part", "string", (4,)),
    ]


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"table": TableName("demo", "nothing")}, NoSuchTableError),
        ({"required_data_columns": ("nope",)}, InvalidArgumentError),
        ({"required_data_columns": ("id", "ID")}, InvalidArgumentError),
        ({"required_data_columns": ("day",)}, InvalidArgumentError),
        ({"required_partition_columns": ("id",)}, InvalidArgumentError),
        ({"required_partitions": (PartitionSpec((("id", "1"),)),)}, InvalidArgumentError),
        (
            {"required_partitions": (PartitionSpec.parse("day=mon,part=zzz"),)},
            NoSuchPartitionError,
        ),
        ({"required_bucket_ids": (1,)}, InvalidArgumentError),
        ({"incremental": True}, InvalidArgumentError),
        ({"split_options": SplitOptions(split_number=0)}, InvalidArgumentError),
        ({"split_options": SplitOptions(split_mode=SplitMode.BUCKET)}, InvalidArgumentError),
    ],
)
def test_a_session_that_means_nothing_is_refused_and_leaves_nothing(
    days: Any, request_: dict[str, Any], error: type[ServiceError]
) -> None:
    with pytest.raises(error):
        days.reading.create_session(CreateReadSession(**{"table": TABLE, **request_}))
    with days.database.read() as connection:
        assert connection.exec_driver_sql("select count(*) from read_sessions").scalar() == 0


@pytest.mark.parametrize(
    "request_",
    [
        {"index": 1},
        {"index": -1},
        {"offset": 22},
        {"offset": -1},
        {"count": -1},
        {"skip_rows": -1},
        {"max_batch_rows": 20_001},
        {"max_batch_rows": -1},
        {"max_batch_bytes": 1000},
        {"max_batch_bytes": (256 << 20) + 1},
        {"max_batch_bytes": -1},
        {"data_columns": ("nope",)},
        {"data_columns": ("id", "Id")},
        {"buffer_codec": "gzip"},
    ],
)
def test_a_read_outside_the_limits_is_refused(days: Any, request_: dict[str, Any]) -> None:
    session = days.session()
    with pytest.raises(InvalidArgumentError):
        days.plan(session, **request_)


def test_a_column_outside_the_session_is_refused(days: Any) -> None:
    session = days.session(required_data_columns=("id",))
    with pytest.raises(InvalidArgumentError, match="not among the read session's columns"):
        days.plan(session, data_columns=("Text",))


def test_limits_at_their_edges_are_taken(days: Any) -> None:
    session = days.session()
    for request_ in (
        {"max_batch_rows": 20_000, "max_batch_bytes": 1 << 20},
        {"max_batch_rows": 0, "max_batch_bytes": 256 << 20},
        {"max_batch_rows": 1},
        {"offset": 21},
    ):
        assert days.read(session, **request_).num_rows == (0 if "offset" in request_ else 21)


@pytest.mark.parametrize("session_id", ["", "nope", "x" * 10_000, "' or 1=1"])
def test_an_unknown_session_is_refused(days: Any, session_id: str) -> None:
    with pytest.raises(NotFoundError) as error:
        days.reading.read(ReadTable(table=TABLE, session_id=session_id))
    assert len(str(error.value)) < 300


def test_a_session_belongs_to_its_table(days: Any) -> None:
    session = days.session()
    other = TableName("demo", "others")
    with pytest.raises(NotFoundError):
        days.reading.read(ReadTable(table=other, session_id=session.session_id))
    with pytest.raises(NotFoundError):
        days.reading.get_session(GetReadSession(table=other, session_id=session.session_id))
    same = TableName("DEMO", "Events")
    assert days.reading.read(ReadTable(table=same, session_id=session.session_id)).rows == 21
