"""Data that fits one body is appended by one request; everything else by a session, unseen by the caller."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

import fletching
from fletching.client.retry import RetrySequence
from fletching.errors import (
    ConnectionBrokenError,
    InvalidParameterError,
    PayloadTooLargeError,
    UsageError,
)
from fletching.protocol.messages.requests import AppendRows, CommitWriteSession, WriteTable

SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string())])


class Watch:
    """Sees what a transport is asked for, and may break it."""

    def __init__(self, client: fletching.Client, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests: list[type] = []
        self.fail_before: list[Exception] = []
        self.fail_after: list[Exception] = []
        transport: Any = client.channel.transport
        call, write = transport.call, transport.write

        def watched_call(request: Any, attempt: RetrySequence) -> Any:
            self.requests.append(type(request))
            return call(request, attempt)

        def watched_write(request: Any, *rest: Any) -> Any:
            self.requests.append(type(request))
            if self.fail_before and isinstance(request, AppendRows):
                raise self.fail_before.pop()
            answer = write(request, *rest)
            if self.fail_after:
                raise self.fail_after.pop()
            return answer

        monkeypatch.setattr(transport, "call", watched_call)
        monkeypatch.setattr(transport, "write", watched_write)


@pytest.fixture
def table(client: fletching.Client) -> fletching.Table:
    return client.create_table("t", SCHEMA)


@pytest.fixture
def watch(
    client: fletching.Client, table: fletching.Table, monkeypatch: pytest.MonkeyPatch
) -> Watch:
    return Watch(client, monkeypatch)


def test_one_request_and_the_rows_are_there(table: fletching.Table, watch: Watch) -> None:
    report = table.append([{"id": 1, "text": "a"}, {"id": 2}])
    assert watch.requests == [AppendRows]
    assert report == 2
    assert report.rows_inserted == 2
    assert report.version >= 1
    assert table.scan().to_table().to_pydict() == {"id": [1, 2], "text": ["a", None]}


def test_several_batches_are_one_request_too(table: fletching.Table, watch: Watch) -> None:
    batches = pa.table({"ID": pa.array(range(10), pa.int8())}).to_batches(max_chunksize=2)
    table.append(iter(batches))
    assert watch.requests == [AppendRows]
    assert table.scan().to_table()["id"].to_pylist() == list(range(10))


def test_an_answer_that_is_lost_changes_nothing(table: fletching.Table, watch: Watch) -> None:
    watch.fail_after = [ConnectionBrokenError("lost")] * 2
    assert table.append({"id": [1, 2]}) == 2
    assert watch.requests == [AppendRows] * 3
    assert table.scan().to_table()["id"].to_pylist() == [1, 2]


def test_what_does_not_fit_one_body_goes_into_a_session(
    table: fletching.Table, watch: Watch
) -> None:
    small = table.with_options(write_body_bytes=1000)
    rows = ({"id": n, "text": "x" * 50} for n in range(9000))
    assert small.append(rows) == 9000
    assert AppendRows not in watch.requests
    assert watch.requests.count(WriteTable) > 1
    assert watch.requests.count(CommitWriteSession) == 1
    assert table.scan().to_table()["id"].to_pylist() == list(range(9000))


@pytest.mark.parametrize(
    "refusal",
    [
        InvalidParameterError("Action 'TableAppend' is not supported"),
        PayloadTooLargeError("too large", limit=10, actual=20),
    ],
    ids=["unknown", "too large"],
)
def test_where_the_service_does_not_take_it_a_session_does(
    table: fletching.Table, watch: Watch, refusal: Exception
) -> None:
    watch.fail_before = [refusal]
    assert table.append({"id": [1, 2]}) == 2
    assert watch.requests[0] is AppendRows
    assert watch.requests[-1] is CommitWriteSession
    assert table.scan().to_table()["id"].to_pylist() == [1, 2]


def test_nothing_is_appended_of_no_rows(table: fletching.Table, watch: Watch) -> None:
    assert table.append({"id": pa.array([], pa.int64())}) == 0
    assert AppendRows not in watch.requests
    assert table.count_rows() == 0


def test_a_table_that_has_changed_since_it_was_opened(
    client: fletching.Client, table: fletching.Table
) -> None:
    client.table("t").add_columns("x BIGINT")
    table.append({"id": [1]})
    table.append({"id": [2], "x": [7]})
    rows = client.table("t").scan().to_table().to_pylist()
    assert rows == [{"id": 1, "text": None, "x": None}, {"id": 2, "text": None, "x": 7}]


def test_what_does_not_fit_the_table_is_refused(table: fletching.Table) -> None:
    for data in ({"id": ["x"]}, {"nope": [1]}, [{"id": 1.5}]):
        with pytest.raises(UsageError):
            table.append(data)
    assert table.count_rows() == 0


def test_keys_and_versions_hold(table: fletching.Table, watch: Watch) -> None:
    first = table.append({"id": [1]}, idempotency_key="k")
    again = table.append({"id": [1]}, idempotency_key="k")
    assert again.version == first.version
    with pytest.raises(fletching.FletchingError):
        table.append({"id": [2]}, if_version=first.version - 1)
    assert watch.requests == [AppendRows] * 3
    assert table.count_rows() == 1


@pytest.mark.parametrize("partition", ["pt=a", None])
def test_partitions(
    client: fletching.Client, monkeypatch: pytest.MonkeyPatch, partition: str | None
) -> None:
    parted = client.create_table("p", SCHEMA, partition_by=["pt"])
    watch = Watch(client, monkeypatch)
    data = {"id": [1, 2]} if partition else {"id": [1, 2], "PT": ["a", "a"]}
    parted.append(data, partition=partition)
    assert watch.requests == [AppendRows]
    assert parted.partitions() == ["pt=a"]
    assert parted.scan().to_table()["id"].to_pylist() == [1, 2]


def test_tables_with_blobs_upload_first(
    client: fletching.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = client.create_table("b", "id BIGINT, image BLOB")
    watch = Watch(client, monkeypatch)
    pictures.append({"id": [1], "image": [b"x"]})
    assert AppendRows not in watch.requests
    assert pictures.count_rows() == 1
