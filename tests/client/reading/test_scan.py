from __future__ import annotations

import pickle
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import fletching
from fletching.client.reading.parallel import read_in_order
from fletching.client.reading.scan import Scan
from fletching.client.transports.channel import Channel
from fletching.errors import (
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    ReadTimeoutError,
    UsageError,
)
from fletching.protocol.messages.admin import TableInfo
from fletching.protocol.messages.requests import CreateReadSession, GetReadSession
from fletching.protocol.messages.responses import Column, ReadSession, TableSchema
from fletching.protocol.messages.session_details import SessionDetails
from fletching.protocol.messages.vocabulary import SessionStatus
from fletching.types import TableName

DAYS = ["20260101", "20260102", "20260103"]


@pytest.fixture
def filled(events: fletching.Table) -> fletching.Table:
    """300 rows in three partitions, several batches each."""
    for number, day in enumerate(DAYS):
        with events.write_session(partition=f"pt={day}") as session, session.writer() as writer:
            for start in range(number * 100, number * 100 + 100, 25):
                ids = range(start, start + 25)
                writer.write({"id": list(ids), "text": [f"row {i}" for i in ids]})
    return events


def ids(data: Any) -> list[int]:
    return [int(value) for value in pa.table(data)["id"].to_pylist()]


def test_a_scan_returns_what_was_written_in_order(filled: fletching.Table) -> None:
    table = filled.scan().to_table()
    assert table.schema == filled.schema == filled.scan().schema
    assert ids(table) == list(range(300))
    assert table["text"].to_pylist() == [f"row {i}" for i in range(300)]
    assert table["pt"].to_pylist() == [day for day in DAYS for _ in range(100)]


class Reply:
    """The rows that came with a session."""

    def __init__(self, rows: Any) -> None:
        self.rows, self.closed = rows, False

    def __iter__(self) -> Any:
        return iter(self.rows)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rows, name)

    def close(self) -> None:
        self.closed = True
        self.rows.close()


@pytest.mark.parametrize("read", [
    lambda table: table.scan().to_batches(),
    lambda table: table.scan().to_batches(progress=lambda _: None),
    lambda table: table.scan().to_reader(),
    lambda table: table.scan(filter=pc.utf8_length(pc.field("text")) > 0).to_batches(),
])  # fmt: skip
@pytest.mark.parametrize("client", ["http"], indirect=True)
def test_what_a_scan_has_begun_ends_with_rows_that_nobody_asked_for(
    filled: fletching.Table, monkeypatch: pytest.MonkeyPatch, read: Any
) -> None:
    """The call begins the read: its connection is not left to the garbage collector."""
    replies: list[Reply] = []
    plain = Channel.open_session

    def noting(*arguments: Any) -> Any:
        session, rows = plain(*arguments)
        replies.append(Reply(rows))
        return session, replies[-1]

    monkeypatch.setattr(Channel, "open_session", noting)
    rows = read(filled)
    assert [each.closed for each in replies] == [False]
    rows.close()
    del rows
    assert [each.closed for each in replies] == [True]
    assert len(ids(filled.scan().to_reader())) == 300
    assert [each.closed for each in replies] == [True, True]


def test_all_ways_of_reading_agree(filled: fletching.Table) -> None:
    scan, table = filled.scan(), filled.to_table()
    assert pa.Table.from_batches(list(scan.to_batches()), scan.schema) == table
    reader = scan.to_reader()
    assert isinstance(reader, pa.RecordBatchReader)
    assert reader.schema == scan.schema
    assert reader.read_all() == table
    assert pa.table(scan) == table
    assert pa.table(filled) == table
    assert pl.DataFrame(scan)["id"].to_list() == list(range(300))
    splits = scan.splits()
    assert pa.concat_tables([split.to_table() for split in splits]) == table
    assert pa.concat_tables([split.reader().read_all() for split in splits]) == table
    assert pa.concat_tables([pa.table(split) for split in splits]) == table
    batches = [batch for split in splits for batch in split.to_batches()]
    assert pa.Table.from_batches(batches) == table


@pytest.mark.parametrize(
    "columns",
    [["id"], ["text", "id"], ["pt"], ["pt", "id"], ["text", "pt", "id"], ["ID", "Pt"]],
    ids=str,
)
def test_columns_come_as_wanted(filled: fletching.Table, columns: list[str]) -> None:
    scan = filled.scan(columns=columns)
    table = scan.to_table()
    assert [name.lower() for name in table.column_names] == [name.lower() for name in columns]
    assert table.schema == scan.schema
    whole = filled.to_table()
    assert table == whole.select(table.column_names)
    assert pa.concat_tables([split.to_table() for split in scan.splits()]) == table


def test_no_columns_are_rows_only(filled: fletching.Table) -> None:
    table = filled.scan(columns=[]).to_table()
    assert table.num_columns == 0
    batches = list(filled.scan(columns=[]).to_batches())
    assert sum(batch.num_rows for batch in batches) == 300


def test_partitions_narrow(filled: fletching.Table) -> None:
    assert ids(filled.scan(partitions=["pt=20260102"])) == list(range(100, 200))
    assert ids(filled.scan(partitions="pt=20260102")) == list(range(100, 200))
    assert ids(filled.scan(partitions=[{"pt": "20260101"}, "pt='20260103'"])) == [
        *range(100),
        *range(200, 300),
    ]


@pytest.mark.parametrize("limit", [0, 1, 24, 25, 26, 100, 101, 299, 300, 1000])
def test_a_limit_takes_the_first_rows(filled: fletching.Table, limit: int) -> None:
    scan = filled.scan(limit=limit)
    expected = list(range(min(limit, 300)))
    assert ids(scan) == expected
    splits = scan.splits(3)
    assert [i for split in splits for i in ids(split)] == expected
    assert sum(split.row_count or 0 for split in splits) == len(expected)
    assert ids(filled.scan(limit=limit).with_options(split_bytes=700)) == expected


def test_splits_say_how_many_rows_they_have(filled: fletching.Table) -> None:
    filled.delete("id % 7 = 3")
    for splits in (
        filled.scan().splits(),
        filled.scan().splits(7),
        filled.scan(columns=[]).splits(4),
        filled.scan().splits(split_bytes=700),
        filled.scan(limit=50).splits(3),
        filled.scan(partitions=[f"pt={DAYS[1]}"]).splits(2),
    ):
        assert splits
        for split in splits:
            rows = sum(batch.num_rows for batch in split.to_batches())
            assert split.row_count == rows
            assert pickle.loads(pickle.dumps(split)).row_count == rows
            known = split.partition
            if split.schema.names:
                values = set(split.to_table()["pt"].to_pylist())
                assert values == {known.values[0]} if known is not None else len(values) != 1
    # Of a filter's rows only reading tells.
    assert [split.row_count for split in filled.scan(filter="id > 5").splits(2)] == [None, None]
    filled.truncate()
    filtered = filled.scan(filter="id > 5").splits(2)
    assert [split.row_count for split in filtered] == [0, 0]


def test_splits_say_about_how_large_they_are(filled: fletching.Table) -> None:
    with filled.scan().session() as session:
        size = session.byte_size
    for splits in (
        filled.scan().splits(),
        filled.scan().splits(3),
        filled.scan().splits(split_bytes=700),
        filled.scan(limit=1000).splits(3),
        filled.scan(filter="id > 5").splits(2),
    ):
        sizes = [split.byte_size or 0 for split in splits]
        assert size - len(splits) < sum(sizes) <= size
        # Whole batches of about one size, whichever split they are in.
        assert max(sizes) - min(sizes) <= max(sizes) // 8
        assert all(pickle.loads(pickle.dumps(split)).byte_size for split in splits)
    few = [split.byte_size or 0 for split in filled.scan(limit=30).splits(2)]
    assert size // 10 - 2 < sum(few) <= size // 10
    assert filled.scan(limit=0).splits() == []


def test_a_filter_is_exact(filled: fletching.Table) -> None:
    assert ids(filled.scan(filter="id >= 98 and id < 103")) == [98, 99, 100, 101, 102]
    assert ids(filled.scan(filter="pt = '20260103' and id < 202")) == [200, 201]
    assert ids(filled.scan(columns=["id"], filter="text = 'row 7'")) == [7]
    assert ids(filled.scan(filter="id > 1000")) == []
    assert ids(filled.scan(filter="id >= 98", limit=4)) == [98, 99, 100, 101]
    with pytest.raises(UsageError):
        filled.scan(filter="id > 1", limit=2).splits()


def test_a_filtered_split_is_resumed_at_the_row_of_the_result(filled: fletching.Table) -> None:
    wanted = [i for i in range(300) if i % 7 == 0]
    text = ", ".join(map(str, wanted))
    for split in filled.scan(filter=f"id in ({text})").splits():
        whole = ids(split)
        for row in range(len(whole)):
            with split.reader(row) as reader:
                assert ids(reader) == whole[row:]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 300])
def test_splits_by_count_cover_everything_once(filled: fletching.Table, count: int) -> None:
    splits = filled.scan().splits(count)
    assert [i for split in splits for i in ids(split)] == list(range(300))
    assert len(splits) <= count


def test_small_splits_by_size(filled: fletching.Table) -> None:
    splits = filled.scan().splits(split_bytes=1)
    assert len(splits) == 12
    assert [i for split in splits for i in ids(split)] == list(range(300))
    scan = filled.scan().with_options(split_bytes=1, connections=3, read_ahead_bytes=0)
    assert ids(scan) == list(range(300))


def test_a_split_goes_on_from_any_row(filled: fletching.Table) -> None:
    split = filled.scan(columns=["pt", "id"]).splits(2)[1]
    whole = split.to_table()
    for row in (0, 1, 24, 25, 26, whole.num_rows):
        with split.reader(row) as reader:
            assert reader.read_all() == whole.slice(row)


def test_tokens_and_splits_travel(client: fletching.Client, filled: fletching.Table) -> None:
    split = pickle.loads(pickle.dumps(filled.scan(columns=["text", "id"]).splits(2)[0]))
    whole = split.to_table()
    reader = split.reader()
    first = reader.read_next_batch()
    text = str(reader.token)
    reader.close()
    rest = client.resume(text).read_all()
    assert pa.concat_tables([pa.Table.from_batches([first]), rest]) == whole
    again = pickle.loads(pickle.dumps(client)).resume(text).read_all()
    assert again == rest


def test_a_scan_is_a_snapshot(filled: fletching.Table) -> None:
    splits = filled.scan().splits()
    batches = filled.scan().to_batches()
    filled.append({"id": [999], "text": ["later"]}, partition="pt=20260101")
    filled.overwrite({"id": [998], "text": ["other"]}, partition="pt=20260102")
    assert [i for split in splits for i in ids(split)] == list(range(300))
    assert sum(batch.num_rows for batch in batches) == 300
    assert 999 in ids(filled.scan())


def test_an_empty_table_has_a_schema(events: fletching.Table) -> None:
    assert events.scan().to_table() == events.schema.empty_table()
    assert events.scan(columns=["pt", "id"]).to_reader().schema.names == ["pt", "id"]
    assert events.scan().splits() == []
    assert events.preview().num_rows == 0
    assert events.preview().schema == events.schema


def test_previews(filled: fletching.Table) -> None:
    assert filled.preview(10) == filled.to_table().slice(0, 10)
    assert ids(filled.preview(3, partition="pt=20260102")) == [100, 101, 102]
    assert filled.preview(2, columns=["text"]).to_pydict() == {"text": ["row 0", "row 1"]}


def test_the_bytes_of_a_split_are_an_arrow_stream(filled: fletching.Table) -> None:
    (split,) = filled.scan().splits()
    with split.raw_reader() as file, pa.ipc.open_stream(file) as stream:
        assert stream.read_all() == split.to_table()


@pytest.mark.parametrize(
    "arguments",
    [
        {"limit": -1},
        {"columns": ["id", "ID"]},
        {"columns": "id"},
        {"partitions": ["no equals sign"]},
    ],
    ids=str,
)
def test_meaningless_scans_are_refused_before_the_service_is_asked(
    events: fletching.Table, arguments: dict[str, Any]
) -> None:
    with pytest.raises(UsageError):
        events.scan(**arguments)


def test_refusals_of_the_service(filled: fletching.Table) -> None:
    with pytest.raises(InvalidArgumentError):
        filled.scan(columns=["no_such"]).to_table()
    with pytest.raises(UsageError, match="no column no_such; it has id, text, pt"):
        _ = filled.scan(columns=["no_such"]).schema
    with pytest.raises(InvalidArgumentError):
        filled.scan(filter="id >").to_table()
    token = filled.scan().splits()[0].token
    with pytest.raises(NotFoundError):
        filled.channel.transport.read(
            fletching.client.ResumeToken(
                table=token.table, session_id="rs-no-such", index=0
            ).request(),
            filled.channel.sequence(),
        )
    with pytest.raises(UsageError):
        filled.scan().splits(0)


# --- a service that is not ours ----------------------------------------------------------------


def foreign_table(channel: Any) -> fletching.Table:
    schema = pa.schema([("id", pa.int64())])
    info = TableInfo(
        table=TableName("p", "t"),
        table_id="id",
        schema=TableSchema(
            data_columns=(Column(name="id", type="bigint"),),
            partition_columns=(Column(name="pt", type="string"),),
        ),
        arrow_schema=schema.serialize().to_pybytes(),
    )
    return fletching.Table(channel, info)


def reply(**fields: Any) -> ReadSession:
    schema = TableSchema(
        data_columns=(Column(name="id", type="bigint"),),
        partition_columns=(Column(name="pt", type="string"),),
    )
    return ReadSession(session_id="rs-1", schema=schema, **fields)


def test_a_service_without_our_extensions_is_understood(
    channel: Any, transport: Any, fake_source: Any
) -> None:
    schema = pa.schema([("id", pa.int64()), ("pt", pa.string())])
    batch = pa.record_batch([[1, 2], ["a", "a"]], schema=schema)
    transport.on_call = lambda request, attempt: reply(splits_count=1)
    transport.on_read = lambda request: fake_source(schema, [batch])
    assert ids(foreign_table(channel).scan()) == [1, 2]


@pytest.mark.parametrize("limit", [None, 50])
def test_splits_are_told_with_their_session(
    filled: fletching.Table, monkeypatch: pytest.MonkeyPatch, limit: int | None
) -> None:
    transport = type(filled.channel.transport)
    sent: list[object] = []
    call = transport.call

    def recorded(self: Any, request: Any, *rest: Any) -> Any:
        sent.append(request)
        return call(self, request, *rest)

    scan = filled.scan(limit=limit)
    _ = filled.schema
    with monkeypatch.context() as patched:
        patched.setattr(transport, "call", recorded)
        splits = scan.splits(3)
    assert [type(request) for request in sent] == [CreateReadSession]
    assert sum(split.row_count or 0 for split in splits) == (limit or 300)
    assert [str(split.partition) for split in splits] == [
        "pt=20260101" if limit else f"pt={day}" for day in DAYS
    ]


def test_splits_are_asked_for_where_the_session_does_not_tell(channel: Any, transport: Any) -> None:
    """As a service does that has no such field, or that was preparing the session still."""
    details = SessionDetails(split_rows=(3, 4), split_bytes=(30, 40))

    def answer(request: Any, _attempt: object) -> ReadSession:
        asked = isinstance(request, GetReadSession) and request.with_splits
        return reply(splits_count=2, details=details if asked else None)

    transport.on_call = answer
    splits = foreign_table(channel).scan().splits()
    assert [(each.row_count, each.byte_size) for each in splits] == [(3, 30), (4, 40)]
    assert [type(request) for request in transport.requests] == [CreateReadSession, GetReadSession]


def test_a_session_in_preparation_is_waited_for(channel: Any, transport: Any, clock: Any) -> None:
    states = [SessionStatus.INIT, SessionStatus.INIT, SessionStatus.NORMAL]
    transport.on_call = lambda request, attempt: reply(status=states.pop(0))
    assert foreign_table(channel).scan().splits() == []
    assert [type(request) for request in transport.requests] == [
        CreateReadSession,
        GetReadSession,
        GetReadSession,
    ]
    assert clock.slept == [1.0, 1.0]


def test_a_session_that_never_gets_ready_is_given_up(channel: Any, transport: Any) -> None:
    transport.on_call = lambda request, attempt: reply(status=SessionStatus.INIT)
    with pytest.raises(ReadTimeoutError, match="still in preparation"):
        foreign_table(channel).scan().splits()


def test_a_session_that_failed_says_why(channel: Any, transport: Any) -> None:
    transport.on_call = lambda request, attempt: reply(
        status=SessionStatus.CRITICAL, message="no quota"
    )
    with pytest.raises(ConflictError, match="CRITICAL: no quota"):
        foreign_table(channel).scan().to_table()


def test_our_session_asks_for_batches_as_stored(channel: Any, transport: Any) -> None:
    transport.on_call = lambda request, attempt: reply()
    Scan(foreign_table(channel)).splits()
    (request,) = transport.requests
    assert request.verbatim_types
    assert request.arrow_options.timestamp_unit is request.arrow_options.datetime_unit is None


@pytest.mark.parametrize(
    "arguments",
    [
        {"columns": "id"},
        {"columns": 3},
        {"columns": [3]},
        {"columns": [None]},
        {"partitions": 7},
        {"partitions": [7]},
        {"filter": 3},
        {"filter": b"id > 1"},
        {"limit": "3"},
        {"limit": 1.5},
        {"limit": True},
        {"limit": -1},
    ],
    ids=str,
)
def test_values_of_other_types_are_refused(
    events: fletching.Table, arguments: dict[str, Any]
) -> None:
    with pytest.raises(UsageError):
        events.scan(**arguments)


@pytest.mark.parametrize("arguments", [(0,), ("3",), (1.5,), (True,), (None, 0), (None, "1")])
def test_splits_are_counted_in_whole_numbers(
    events: fletching.Table, arguments: tuple[Any, ...]
) -> None:
    count, size = (*arguments, None)[:2]
    with pytest.raises(UsageError):
        events.scan().splits(count, split_bytes=size)


@pytest.mark.parametrize(
    "arguments", [{"limit": -1}, {"limit": "1"}, {"columns": "id"}, {"columns": [3]}], ids=str
)
def test_previews_are_asked_for_in_words_that_mean_something(
    events: fletching.Table, arguments: dict[str, Any]
) -> None:
    with pytest.raises(UsageError):
        events.preview(**arguments)


def test_dask_names_a_split_alike_in_every_process(events: fletching.Table) -> None:
    events.append({"id": [1, 2], "text": ["a", "b"]}, partition="pt=1")
    split, *_ = events.scan().splits(1)
    copy = pickle.loads(pickle.dumps(split))
    assert split.__dask_tokenize__() == copy.__dask_tokenize__()
    assert repr(split.__dask_tokenize__()) == repr(copy.__dask_tokenize__())
    (other,) = events.scan(columns=["id"]).splits(1)
    assert split.__dask_tokenize__() != other.__dask_tokenize__()
    copy._channel.transport.close()


@pytest.mark.parametrize(
    ("options", "chunks"),
    [
        ({"connections": 1}, 1),
        ({"connections": 2, "split_bytes": 1 << 30, "read_ahead_bytes": 1 << 30}, 1),
        ({"connections": 4, "split_bytes": 8 << 20}, 4),
        # Held bytes are shared by the connections, so that each may be in a piece of its own.
        ({"connections": 4, "read_ahead_bytes": 32 << 20}, 4),
        ({"connections": 4, "read_ahead_bytes": 0}, 4),
    ],
    ids=str,
)
def test_pieces_are_as_large_as_may_be_held(
    client: fletching.Client,
    options: Any,
    chunks: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not client.channel.transport.supports_parallel_reads:
        pytest.skip("mapped pages come as fast to one thread")
    table = client.create_table("t", "n BIGINT")
    batch = pa.record_batch({"n": range(1 << 17)})  # 1 MiB
    with table.write_session() as session, session.writer() as writer:
        for _ in range(32):
            writer.write(batch)
    counts: list[int] = []

    def spy(openers: Any, **how: Any) -> Any:
        counts.append(len(openers))
        return read_in_order(openers, **how)

    monkeypatch.setattr("fletching.client.reading.scan.read_in_order", spy)
    assert table.with_options(**options).scan().to_table().num_rows == 32 << 17
    assert abs(counts[0] - chunks) <= 1


def test_filters_leave_moments_inside_columns_in_their_units(client: fletching.Client) -> None:
    first = -62_135_596_800_000_000  # the year 1, which nanoseconds do not reach
    kind = pa.struct([("at", pa.timestamp("us")), ("n", pa.int64())])
    rows = pa.table(
        {
            "id": [1, 2],
            "st": pa.array([{"at": first, "n": 1}, None], kind),
            "li": pa.array([[first], None], pa.list_(pa.timestamp("us"))),
        }
    )
    table = client.create_table("moments", rows)
    for condition, wanted in (
        ("st.n = 1", [1]),
        ("st.at < '1500-01-01'", [1]),
        ("st.at = '0001-01-01'", [1]),
        ("st IS NULL", [2]),
        ("li IS NOT NULL", [1]),
    ):
        assert table.scan(["id"], filter=condition).to_table()["id"].to_pylist() == wanted
