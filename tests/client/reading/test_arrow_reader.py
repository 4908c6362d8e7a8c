from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from fletching.client.reading.arrow_reader import ArrowReader
from fletching.client.reading.resume_token import ResumeToken
from fletching.errors import (
    ConnectionBrokenError,
    InvalidArgumentError,
    NotFoundError,
    OperationCancelledError,
    ProtocolError,
    ServiceUnavailableError,
    TruncatedStreamError,
    UsageError,
)
from fletching.protocol.messages.requests import ReadTable
from fletching.types import TableName

SCHEMA = pa.schema([("a", pa.int64()), ("b", pa.string())])
TABLE = TableName("p", "t")
BROKEN = ConnectionBrokenError("broke")


def rows(start: int, end: int) -> pa.RecordBatch:
    return pa.record_batch(
        [list(range(start, end)), [str(i) for i in range(start, end)]], schema=SCHEMA
    )


def by_index(**fields: Any) -> ResumeToken:
    return ResumeToken(table=TABLE, session_id="rs-1", index=0, **fields)


def by_offset(length: int, **fields: Any) -> ResumeToken:
    return ResumeToken(table=TABLE, session_id="rs-1", offset=100, length=length, **fields)


class Split:
    """A split of ten rows, whose replies break after given numbers of rows."""

    def __init__(self, source: Any, breaks: list[Any], batch_rows: int = 3) -> None:
        self.source, self.breaks, self.batch_rows = source, list(breaks), batch_rows

    def __call__(self, request: ReadTable) -> Any:
        failure = self.breaks.pop(0) if self.breaks else None
        if isinstance(failure, Exception):
            raise failure
        items: list[Any] = []
        at = request.skip_rows
        end = 10 if failure is None else min(10, at + failure)
        while at < end:
            items.append(rows(at, min(at + self.batch_rows, end)))
            at += items[-1].num_rows
        if failure is not None:
            items.append(BROKEN)
        return self.source(SCHEMA, items)


def test_reads_to_the_end(channel: Any, transport: Any, fake_source: Any) -> None:
    transport.on_read = Split(fake_source, [])
    reader = ArrowReader(channel, by_index())
    assert reader.read_all() == pa.Table.from_batches([rows(0, 10)])
    assert reader.read() is None
    assert transport.sources[0].closed
    assert len(transport.requests) == 1


@pytest.mark.parametrize("batch_rows", [1, 3, 10])
@pytest.mark.parametrize("known_length", [False, True])
@pytest.mark.parametrize(
    "breaks",
    [
        [0],
        [1],
        [3],
        [10],
        [0, 0, 0],
        [3, 0, 3, 0, 3],
        [BROKEN, 4, BROKEN, ServiceUnavailableError("x"), 2],
        [1] * 10,
    ],
    ids=str,
)
def test_every_row_comes_once_however_replies_break(
    channel: Any,
    transport: Any,
    fake_source: Any,
    breaks: list[Any],
    batch_rows: int,
    known_length: bool,
) -> None:
    transport.on_read = Split(fake_source, breaks, batch_rows)
    token = by_offset(10) if known_length else by_index()
    reader = ArrowReader(channel, token)
    assert pa.Table.from_batches(list(reader), SCHEMA) == pa.Table.from_batches([rows(0, 10)])
    assert reader.row == 10
    assert all(source.closed for source in transport.sources)


def test_a_broken_reply_is_resumed_at_the_next_row(
    channel: Any, transport: Any, fake_source: Any
) -> None:
    transport.on_read = Split(fake_source, [4, 2])
    list(ArrowReader(channel, by_index()))
    assert [request.skip_rows for request in transport.requests] == [0, 4, 6]
    assert {(r.index, r.offset, r.count) for r in transport.requests} == {(0, None, None)}


def test_a_token_goes_on_in_another_reader(channel: Any, transport: Any, fake_source: Any) -> None:
    transport.on_read = Split(fake_source, [])
    first = ArrowReader(channel, by_index())
    before = [first.read_next_batch(), first.read_next_batch()]
    text = str(first.token)
    first.close()
    second = ArrowReader(channel, ResumeToken.parse(text))
    assert pa.Table.from_batches([*before, *second]) == pa.Table.from_batches([rows(0, 10)])


def test_a_cut_without_a_broken_connection_is_resumed_too(
    channel: Any, transport: Any, fake_source: Any
) -> None:
    replies = iter([[rows(0, 4), TruncatedStreamError("no marker")], [rows(4, 10)]])
    transport.on_read = lambda request: fake_source(SCHEMA, next(replies))
    assert ArrowReader(channel, by_index()).read_all().num_rows == 10


def test_a_peer_that_never_gets_further_exhausts_the_budget(
    channel: Any, transport: Any, fake_source: Any, clock: Any
) -> None:
    transport.on_read = Split(fake_source, [4] + [0] * 100)
    reader = ArrowReader(channel, by_index())
    with pytest.raises(ConnectionBrokenError):
        list(reader)
    assert reader.row == 4
    assert sum(clock.slept) <= 10
    assert all(source.closed for source in transport.sources)


def test_progress_refills_the_budget(
    channel: Any, transport: Any, fake_source: Any, clock: Any
) -> None:
    transport.on_read = Split(fake_source, [BROKEN, BROKEN, 1] * 10, batch_rows=1)
    assert ArrowReader(channel, by_index()).read_all().num_rows == 10
    assert sum(clock.slept) > 10


@pytest.mark.parametrize("error", [InvalidArgumentError("x"), NotFoundError("x"), UsageError("x")])
def test_refusals_are_not_retried(channel: Any, transport: Any, clock: Any, error: Any) -> None:
    def refuse(_request: ReadTable) -> Any:
        raise error

    transport.on_read = refuse
    with pytest.raises(type(error)):
        ArrowReader(channel, by_index()).read_next_batch()
    assert clock.slept == []
    assert len(transport.requests) == 1


def test_too_few_rows_are_an_error_not_the_end(
    channel: Any, transport: Any, fake_source: Any
) -> None:
    transport.on_read = Split(fake_source, [])
    with pytest.raises(TruncatedStreamError, match="after row 10 of a split of 11"):
        list(ArrowReader(channel, by_offset(11)))


@pytest.mark.parametrize("batch_rows", [1, 3, 10])
def test_too_many_rows_are_an_error(
    channel: Any, transport: Any, fake_source: Any, batch_rows: int
) -> None:
    transport.on_read = Split(fake_source, [], batch_rows)
    with pytest.raises(ProtocolError):
        list(ArrowReader(channel, by_offset(9)))


def test_a_split_that_is_complete_needs_no_marker(
    channel: Any, transport: Any, fake_source: Any
) -> None:
    transport.on_read = Split(fake_source, [10])
    assert ArrowReader(channel, by_offset(10)).read_all().num_rows == 10
    assert len(transport.requests) == 1


def test_a_schema_announced_roughly_is_kept(channel: Any, transport: Any, fake_source: Any) -> None:
    announced = pa.schema([("A", pa.int64()), ("b", pa.large_string())])
    transport.on_read = Split(fake_source, [3])
    reader = ArrowReader(channel, by_index(), schema=announced)
    assert reader.read_all() == pa.Table.from_batches([rows(0, 10)]).cast(
        pa.schema([("a", pa.int64()), ("b", pa.large_string())])
    ).rename_columns(["A", "b"])


def test_a_schema_that_changes_between_requests_is_refused(
    channel: Any, transport: Any, fake_source: Any
) -> None:
    other = pa.schema([("a", pa.list_(pa.int32()))])
    sources = iter([fake_source(SCHEMA, [rows(0, 1), BROKEN]), fake_source(other, [])])
    transport.on_read = lambda request: next(sources)
    reader = ArrowReader(channel, by_index())
    reader.read_next_batch()
    with pytest.raises(ProtocolError, match="not of the schema"):
        reader.read_next_batch()


def test_columns_come_in_the_wanted_order(channel: Any, transport: Any, fake_source: Any) -> None:
    transport.on_read = Split(fake_source, [])
    reader = ArrowReader(channel, by_index(columns=("B", "a")))
    assert reader.schema.names == ["b", "a"]
    assert reader.read_all().column_names == ["b", "a"]


def test_no_columns_still_have_rows(channel: Any, transport: Any, fake_source: Any) -> None:
    transport.on_read = Split(fake_source, [])
    batches = list(ArrowReader(channel, by_index(columns=())))
    assert sum(batch.num_rows for batch in batches) == 10
    assert batches[0].num_columns == 0


def test_a_column_left_out_by_the_service_is_its_fault(
    channel: Any, transport: Any, fake_source: Any
) -> None:
    transport.on_read = Split(fake_source, [])
    with pytest.raises(ProtocolError, match="lacks column zz"):
        ArrowReader(channel, by_index(columns=("zz",))).read_next_batch()


def test_it_is_a_reader_for_pyarrow_and_others(
    channel: Any, transport: Any, fake_source: Any
) -> None:
    transport.on_read = Split(fake_source, [2])
    assert pa.table(ArrowReader(channel, by_index())).num_rows == 10
    transport.on_read = Split(fake_source, [2])
    with ArrowReader(channel, by_index()) as reader:
        assert reader.to_reader().read_all().num_rows == 10


def test_errors_pass_through_pyarrow_unchanged(
    channel: Any, transport: Any, fake_source: Any
) -> None:
    transport.on_read = lambda request: fake_source(SCHEMA, [rows(0, 1), NotFoundError("gone")])
    reader = ArrowReader(channel, by_index()).to_reader()
    assert reader.read_next_batch().num_rows == 1
    with pytest.raises(NotFoundError, match="gone"):
        reader.read_next_batch()


def test_closed_and_cancelled_readers_end(channel: Any, transport: Any, fake_source: Any) -> None:
    transport.on_read = Split(fake_source, [])
    reader = ArrowReader(channel, by_index())
    reader.read_next_batch()
    reader.close()
    assert transport.sources[0].closed
    assert list(reader) == []
    reader = ArrowReader(channel, by_index())
    reader.cancel()
    with pytest.raises(OperationCancelledError, match="cancelled"):
        reader.read_next_batch()
