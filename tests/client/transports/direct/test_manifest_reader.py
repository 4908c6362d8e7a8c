"""Reads by manifest: the rows are those of a plain read, whatever the object store does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

import fletching
from fletching.errors import ChecksumMismatchError

ROWS = 3000


def batches(count: int = 6, start: int = 0) -> list[pa.RecordBatch]:
    return [
        pa.record_batch(
            {
                "id": pa.array(range(start + at * 500, start + at * 500 + 500), pa.int64()),
                "text": [f"row {start + at * 500 + n}" for n in range(500)],
                "word": pa.array(
                    [("a", "b", None)[n % 3] for n in range(500)], pa.string()
                ).dictionary_encode(),
            }
        )
        for at in range(count)
    ]


@pytest.fixture
def table(connect: Callable[..., fletching.Client]) -> fletching.Table:
    made = batches()
    table = connect().create_table("t", made[0].schema)
    table.append(pa.Table.from_batches(made))
    table.append(pa.Table.from_batches(batches(2, start=ROWS)))
    return table


def plain(table: fletching.Table) -> fletching.Table:
    return table.with_options(direct="never")


def test_rows_are_those_of_a_plain_read(table: fletching.Table, bucket: Any) -> None:
    expected = plain(table).scan().to_table()
    assert bucket.requests == []
    assert table.scan().to_table().equals(expected)
    assert bucket.requests


@pytest.mark.parametrize("columns", [["id"], ["text", "id"], ["word"], ["word", "text"]])
def test_some_columns(table: fletching.Table, bucket: Any, columns: list[str]) -> None:
    received = table.scan(columns).to_table()
    assert received.equals(plain(table).scan(columns).to_table())
    assert bucket.requests


@pytest.mark.parametrize("limit", [1, 499, 501, 1700, ROWS + 600])
def test_rows_that_begin_or_end_inside_a_batch(
    table: fletching.Table, bucket: Any, limit: int
) -> None:
    assert table.scan(limit=limit).to_table().equals(plain(table).scan(limit=limit).to_table())
    splits = table.scan(limit=limit).splits(3)
    rows = pa.concat_tables([split.to_table() for split in splits])
    assert rows.equals(plain(table).scan(limit=limit).to_table())


def test_a_resumed_read(table: fletching.Table, bucket: Any) -> None:
    (split,) = table.scan().splits(1)
    with split.reader(1234) as reader:
        rows = reader.read_all()
    assert rows.equals(plain(table).scan().to_table().slice(1234))
    assert bucket.requests


def test_a_filter_is_the_services(table: fletching.Table, bucket: Any) -> None:
    assert table.scan(filter="id > 100").to_table().num_rows == ROWS + 1000 - 101
    assert bucket.requests == []


def test_no_byte_of_a_segment_that_lost_rows_is_handed_out(
    table: fletching.Table, bucket: Any
) -> None:
    table.delete(f"id = {ROWS + 3}")
    rows = table.scan().to_table()
    assert rows.equals(plain(table).scan().to_table())
    assert rows.num_rows == ROWS + 999
    assert len({key for key, _, _ in bucket.requests}) == 1
    table.delete("id = 3")
    bucket.requests.clear()
    assert table.scan().to_table().num_rows == ROWS + 998
    assert bucket.requests == []


def test_partition_columns(connect: Callable[..., fletching.Client], bucket: Any) -> None:
    table = connect().create_table("parts", pa.schema([("id", pa.int64())]), partition_by=["day"])
    for day in ("1", "2"):
        table.append(pa.table({"id": list(range(700))}), partition={"day": day})
    rows = table.scan().to_table()
    assert rows.equals(plain(table).scan().to_table())
    assert bucket.requests
    bucket.requests.clear()
    second = table.scan(partitions=[{"day": "2"}]).to_table()
    assert second.column("day").unique().to_pylist() == ["2"]
    assert len({key for key, _, _ in bucket.requests}) == 1


def test_signatures_that_expire_are_asked_for_anew(table: fletching.Table, bucket: Any) -> None:
    bucket.good_for = 1
    expected = plain(table).scan().to_table()
    small = table.with_options(read_ahead_bytes=0)
    before = bucket.signed
    assert small.scan().to_table().equals(expected)
    assert bucket.signed > before


@pytest.mark.parametrize("status", [301, 403, 404, 500, 503, 200])
def test_a_store_that_refuses_is_done_without(
    table: fletching.Table, bucket: Any, status: int
) -> None:
    bucket.spoil = lambda _status, _body: (status, b"no")
    expected = plain(table).scan().to_table()
    assert table.scan().to_table().equals(expected)
    asked = len(bucket.requests)
    assert table.scan().to_table().equals(expected)
    assert len(bucket.requests) == asked, "it is not tried again for a while"


def test_a_store_out_of_reach_is_done_without(
    table: fletching.Table, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "url", "http://127.0.0.1:1")
    assert table.scan().to_table().equals(plain(table).scan().to_table())


def test_short_bodies_are_asked_for_again(table: fletching.Table, bucket: Any) -> None:
    seen: list[int] = []

    def cut(status: int, body: bytes) -> tuple[int, bytes]:
        seen.append(1)
        return status, body[:-1] if len(seen) == 1 else body

    bucket.spoil = cut
    assert table.scan().to_table().equals(plain(table).scan().to_table())


def test_damage_is_an_error_and_not_a_reason_to_look_elsewhere(
    table: fletching.Table, bucket: Any
) -> None:
    bucket.spoil = lambda status, body: (status, body[:-9] + bytes([body[-9] ^ 1]) + body[-8:])
    with pytest.raises(ChecksumMismatchError):
        table.scan().to_table()


def test_damage_on_the_way_is_mended(table: fletching.Table, bucket: Any) -> None:
    seen: list[int] = []

    def damage(status: int, body: bytes) -> tuple[int, bytes]:
        seen.append(1)
        return status, body if len(seen) > 1 else bytes(len(body))

    bucket.spoil = damage
    assert table.scan().to_table().equals(plain(table).scan().to_table())


def test_the_client_may_want_none(
    connect: Callable[..., fletching.Client], table: fletching.Table, bucket: Any
) -> None:
    client = connect(direct="never")
    assert client.table("t").scan().to_table().num_rows == ROWS + 1000
    assert bucket.requests == []


def test_a_reader_that_is_left_ends_its_threads(table: fletching.Table, bucket: Any) -> None:
    import threading

    for _ in table.scan().to_batches():
        break
    assert not [each for each in threading.enumerate() if each.name.startswith("fletching-fetch")]


def test_compression_is_the_services(table: fletching.Table, bucket: Any) -> None:
    rows = table.with_options(compression="zstd").scan().to_table()
    assert rows.equals(plain(table).scan().to_table())
    assert bucket.requests == []


def test_several_connections(table: fletching.Table, bucket: Any) -> None:
    wide = table.with_options(connections=3, split_bytes=20_000)
    assert wide.scan().to_table().equals(plain(table).scan().to_table())
    assert bucket.requests
