from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fletching
from fletching.client.retry import RetrySequence
from fletching.client.writing.stream_writer import StreamingWriter
from fletching.errors import (
    ConflictError,
    ConnectError,
    ConnectionBrokenError,
    InternalServerError,
    NoPermissionError,
    RowOffsetError,
    ServiceError,
    ThrottledError,
    UsageError,
)
from fletching.ipc.encoding import encode_schema
from fletching.protocol.messages.requests import (
    CreateWriteStream,
    GetWriteStream,
    Request,
    WriteTable,
)
from fletching.protocol.messages.responses import Response, TableSchema, WriteResult, WriteStream
from fletching.protocol.messages.vocabulary import WriteMode
from fletching.types import TableName

TABLE = TableName("p", "t")
SCHEMA = pa.schema([("n", pa.int64())])


def numbers(start: int, end: int) -> pa.RecordBatch:
    return pa.record_batch([pa.array(range(start, end), pa.int64())], schema=SCHEMA)


class Service:
    """A model of one exactly-once stream, with failures before and after the deed."""

    def __init__(self, tells_offset_freely: bool = True) -> None:
        self.rows: list[int] = []
        self.token = 0
        self.free = tells_offset_freely
        self.failures: list[tuple[str, Exception] | None] = []
        self.asked = 0

    def failure(self) -> tuple[str, Exception] | None:
        return self.failures.pop(0) if self.failures else None

    def call(self, request: Request, attempt: RetrySequence) -> Response:
        failure = self.failure()
        if failure and failure[0] == "before":
            raise failure[1]
        assert isinstance(request, CreateWriteStream | GetWriteStream)
        if isinstance(request, GetWriteStream):
            self.asked += 1
        if request.exactly_once:
            self.token += 1
        tells = request.exactly_once or self.free
        if failure:
            raise failure[1]
        return WriteStream(
            table_id="id",
            schema_version=1,
            latest_schema_version=1,
            schema=TableSchema(),
            arrow_schema=encode_schema(SCHEMA),
            access_token=str(self.token) if request.exactly_once else None,
            row_offset=len(self.rows) if tells else None,
        )

    def write(
        self, request: WriteTable, batches: Sequence[Any], attempt: RetrySequence
    ) -> WriteResult:
        failure = self.failure()
        if failure and failure[0] == "before":
            raise failure[1]
        if request.access_token != str(self.token):
            raise NoPermissionError("superseded")
        new = [value for batch in batches for value in batch.column(0).to_pylist()]
        offset, expected = request.row_offset, len(self.rows)
        assert offset is not None
        assert request.write_mode is WriteMode.STREAMING
        assert request.session_id == "default"
        if offset == expected:
            self.rows += new
        elif offset + len(new) > expected:
            raise RowOffsetError("gap or overlap", expected_offset=expected)
        if failure:
            raise failure[1]
        return WriteResult(
            rows=len(new), exactly_once_row_offset=len(self.rows), staging_id=f"{expected:08d}"
        )


@pytest.fixture
def service(transport: Any) -> Service:
    service = Service()
    transport.on_call, transport.on_write = service.call, service.write
    return service


BROKEN = ConnectionBrokenError("broke")


def test_rows_are_numbered_as_they_are_acknowledged(channel: Any, service: Service) -> None:
    with StreamingWriter(channel, TABLE, "w") as writer:
        assert writer.write(numbers(0, 5)) == 5
        assert writer.row_offset == 0
        assert writer.flush() == 5
        writer.write(numbers(5, 7))
        assert writer.staging_id == "00000000"
    assert writer.row_offset == 7
    assert writer.staging_id == "00000005"
    assert service.rows == list(range(7))
    assert service.asked == 0


def test_rows_that_are_dropped_are_warned_of(channel: Any, service: Service) -> None:
    writer = StreamingWriter(channel, TABLE, "s")
    writer.write(numbers(0, 3))
    with pytest.warns(ResourceWarning, match=r"'s' was dropped with 3 rows that were never sent"):
        del writer
    for leave in (StreamingWriter.flush, StreamingWriter.close):
        writer = StreamingWriter(channel, TABLE, "s", resume=True)
        writer.write(numbers(0, 3))
        leave(writer)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            del writer


UNKNOWN = [BROKEN, InternalServerError("x"), ServiceError("x", http_status=504)]


@pytest.mark.parametrize("error", UNKNOWN, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("tells_freely", [True, False])
def test_a_lost_answer_is_settled_by_asking(
    channel: Any,
    transport: Any,
    service: Service,
    error: Exception,
    when: str,
    tells_freely: bool,
) -> None:
    service.free = tells_freely
    with StreamingWriter(channel, TABLE, "w") as writer:
        writer.write(numbers(0, 5))
        writer.flush()
        service.failures = [(when, error)]
        writer.write(numbers(5, 9))
        assert writer.flush() == 9
        assert service.asked == (1 if tells_freely else 2)
    assert service.rows == list(range(9))
    writes = [request for request in transport.requests if isinstance(request, WriteTable)]
    assert len(writes) == (2 if when == "after" else 3), "what is stored is not sent again"


@pytest.mark.parametrize("error", [ConnectError("x"), ThrottledError("x")])
def test_what_was_not_done_is_sent_again_without_asking(
    channel: Any, service: Service, error: Exception
) -> None:
    with StreamingWriter(channel, TABLE, "w") as writer:
        service.failures = [("before", error)] * 2
        writer.write(numbers(0, 5))
    assert service.rows == list(range(5))
    assert service.asked == 0


def test_asking_is_not_forgotten_when_the_service_cannot_be_reached_then(
    channel: Any, transport: Any, service: Service
) -> None:
    writes = 0
    stored = service.write

    def write(*arguments: Any) -> WriteResult:
        nonlocal writes
        writes += 1
        return stored(*arguments)

    transport.on_write = write
    with StreamingWriter(channel, TABLE, "w") as writer:
        # The rows arrive and the answer does not; then nobody is there to be asked; then somebody is.
        service.failures = [("after", BROKEN), ("before", ConnectError("x")), ("before", BROKEN)]
        writer.write(numbers(0, 5))
    assert service.rows == list(range(5))
    assert service.asked == 1
    # A service may take a repetition for what it is, and need not: the rows were sent once.
    assert writes == 1


_FAILURE = st.none() | st.tuples(
    st.sampled_from(["before", "after"]), st.sampled_from([BROKEN, InternalServerError("x")])
)


@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    failures=st.lists(_FAILURE, max_size=30),
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=8),
    free=st.booleans(),
)
def test_whatever_fails_every_acknowledged_row_is_there_once(
    channel: Any,
    transport: Any,
    failures: list[tuple[str, Exception] | None],
    sizes: list[int],
    free: bool,
) -> None:
    service = Service(free)
    transport.on_call, transport.on_write = service.call, service.write
    written = 0
    acknowledged = 0
    service.failures = failures
    resume = False
    while True:
        try:
            with StreamingWriter(channel, TABLE, "w", resume=resume) as writer:
                resume = True
                acknowledged = max(acknowledged, writer.row_offset)
                done, total = writer.row_offset, sum(sizes)
                for size in sizes:
                    start, written = written, written + size
                    if written <= done:
                        continue
                    writer.write(numbers(max(start, done), written))
                    acknowledged = writer.flush()
            assert written == total
            break
        except (ConnectionBrokenError, InternalServerError, UsageError):
            # The process restarts, and begins its source again.
            written = 0
            resume = True
    assert acknowledged == sum(sizes)
    assert service.rows == list(range(sum(sizes)))


def test_a_writer_that_was_replaced_fails_and_takes_nothing_back(
    channel: Any, service: Service
) -> None:
    zombie = StreamingWriter(channel, TABLE, "w")
    zombie.write(numbers(0, 3))
    zombie.flush()
    successor = StreamingWriter(channel, TABLE, "w", resume=True)
    assert successor.row_offset == 3
    zombie.write(numbers(3, 4))
    with pytest.raises(NoPermissionError):
        zombie.flush()
    with pytest.raises(UsageError, match="resume=True"):
        zombie.write(numbers(3, 4))
    zombie.close()
    successor.write(numbers(3, 5))
    assert successor.flush() == 5
    assert service.rows == list(range(5))


def test_a_zombie_that_asks_does_not_fence_its_successor(channel: Any, service: Service) -> None:
    zombie = StreamingWriter(channel, TABLE, "w")
    successor = StreamingWriter(channel, TABLE, "w", resume=True)
    service.failures = [("before", BROKEN)]
    zombie.write(numbers(0, 2))
    with pytest.raises(NoPermissionError):
        zombie.flush()
    successor.write(numbers(0, 2))
    assert successor.flush() == 2


def test_rows_of_another_writer_are_an_error_not_a_guess(channel: Any, service: Service) -> None:
    writer = StreamingWriter(channel, TABLE, "w")
    writer.write(numbers(0, 4))
    service.rows = [99]
    service.failures = [("before", BROKEN)]
    with pytest.raises(RowOffsetError) as caught:
        writer.flush()
    assert caught.value.expected_offset == 1
    assert service.rows == [99]


def test_rows_taken_for_repetitions_are_an_error(channel: Any, service: Service) -> None:
    writer = StreamingWriter(channel, TABLE, "w")
    service.rows = [97, 98, 99]
    writer.write(numbers(0, 2))
    with pytest.raises(RowOffsetError, match="row offset 3"):
        writer.flush()
    assert writer.row_offset == 0


def test_a_stream_with_rows_must_be_resumed(channel: Any, service: Service) -> None:
    service.rows = [1, 2]
    writer = StreamingWriter(channel, TABLE, "w")
    with pytest.raises(ConflictError, match="already has 2 rows"):
        writer.write(numbers(0, 1))
    assert StreamingWriter(channel, TABLE, "w", resume=True).row_offset == 2


def test_a_block_that_raises_drops_what_it_did_not_flush(channel: Any, service: Service) -> None:
    writer = StreamingWriter(channel, TABLE, "w")

    def fail() -> None:
        with writer:
            writer.write(numbers(0, 3))
            writer.flush()
            writer.write(numbers(3, 5))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert service.rows == [0, 1, 2]
    with pytest.raises(UsageError):
        writer.write(numbers(3, 5))


def test_the_budget_ends(channel: Any, service: Service, clock: Any) -> None:
    writer = StreamingWriter(channel, TABLE, "w")
    service.failures = [("before", BROKEN)] * 100
    writer.write(numbers(0, 1))
    with pytest.raises(ConnectionBrokenError):
        writer.flush()
    assert sum(clock.slept) <= 10


def test_meaningless_combinations_are_refused(channel: Any, service: Service) -> None:
    with pytest.raises(UsageError):
        StreamingWriter(channel, TABLE, "w", exactly_once=False, resume=True)
    with pytest.raises(UsageError):
        StreamingWriter(channel, TABLE, "w", write_mode=WriteMode.BATCH)


def test_a_service_that_hides_the_offset_cannot_be_resumed(
    channel: Any, transport: Any, service: Service
) -> None:
    def silent(request: Request, attempt: RetrySequence) -> Response:
        reply = service.call(request, attempt)
        return WriteStream(
            table_id="id",
            schema_version=1,
            latest_schema_version=1,
            schema=TableSchema(),
            arrow_schema=encode_schema(SCHEMA),
            access_token=getattr(reply, "access_token", None),
        )

    transport.on_call = silent
    with pytest.raises(ConflictError, match="does not tell"):
        StreamingWriter(channel, TABLE, "w", resume=True)


# --- over both transports ---------------------------------------------------------------------


@pytest.fixture
def table(client: fletching.Client) -> fletching.Table:
    return client.create_table("t", pa.schema([("n", pa.int64())]))


def test_rows_are_visible_when_a_flush_returns(table: fletching.Table) -> None:
    with table.stream_writer("worker-3") as writer:
        for start in range(0, 30, 10):
            writer.write(numbers(start, start + 10))
            assert writer.flush() == start + 10 == table.count_rows()
    assert sorted(table.to_table()["n"].to_pylist()) == list(range(30))


def test_staging_ids_compare(table: fletching.Table) -> None:
    ids = []
    with table.stream_writer("worker-3") as writer:
        for start in range(12):
            writer.write(numbers(start, start + 1))
            writer.flush()
            ids.append(writer.staging_id)
    assert None not in ids
    assert ids == sorted(set(ids))  # type: ignore[type-var]  # none is None


def test_resuming_goes_on_and_fences(table: fletching.Table) -> None:
    first = table.stream_writer("worker-3", exactly_once=True)
    first.write(numbers(0, 4))
    first.flush()
    second = table.stream_writer("worker-3", exactly_once=True, resume=True)
    assert second.row_offset == 4
    first.write(numbers(4, 5))
    with pytest.raises(NoPermissionError):
        first.flush()
    second.write(numbers(4, 6))
    second.close()
    assert sorted(table.to_table()["n"].to_pylist()) == list(range(6))


def test_a_stream_that_never_was_can_be_resumed(table: fletching.Table) -> None:
    with table.stream_writer("new", resume=True) as writer:
        assert writer.row_offset == 0
        writer.write(numbers(0, 2))
    assert table.count_rows() == 2


def test_without_offsets(table: fletching.Table) -> None:
    with table.stream_writer("plain", exactly_once=False) as writer:
        writer.write(numbers(0, 2))
        assert writer.flush() == 2
    with table.stream_writer("plain", exactly_once=False) as writer:
        writer.write(numbers(2, 3))
    assert table.count_rows() == 3


def test_a_stream_reopened_without_resume_refuses_new_rows(table: fletching.Table) -> None:
    with table.stream_writer("w") as writer:
        writer.write(numbers(0, 2))
    writer = table.stream_writer("w")
    with pytest.raises(ConflictError):
        writer.write(numbers(0, 2))
    assert table.count_rows() == 2


def test_partitions_of_streams(events: fletching.Table) -> None:
    with events.stream_writer("fixed", partition="pt=a") as writer:
        writer.write({"id": [1], "text": ["x"]})
    with events.stream_writer("dynamic") as writer:
        writer.write({"id": [2, 3], "text": ["y", "z"], "pt": ["a", "b"]})
    assert events.partitions() == ["pt=a", "pt=b"]
    assert events.count_rows("pt=a") == 2


def test_realtime(table: fletching.Table) -> None:
    with table.stream_writer("w", realtime=True) as writer:
        writer.write(numbers(0, 2))
        writer.flush()
        assert table.count_rows() == 2
