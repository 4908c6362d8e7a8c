"""How often payload is copied on its way from the socket to an array: once, by the kernel."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import fletching
from fletching.client.transports.http import arrow_response as arrow_reply
from fletching.client.transports.http.http_response import Reply

ROWS = 200_000


def address_of(buffer: Any) -> int:
    return int(np.frombuffer(buffer, np.uint8).ctypes.data)


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(address, length) of every piece of memory that the client received into."""
    pieces: list[tuple[int, int]] = []
    readinto = Reply.readinto

    def recording(self: Reply, buffer: Any, **how: Any) -> int:
        count = readinto(self, buffer, **how)
        if count:
            pieces.append((address_of(buffer), count))
        return count

    monkeypatch.setattr(Reply, "readinto", recording)
    return pieces


def in_place(batches: list[pa.RecordBatch], received: list[tuple[int, int]]) -> tuple[int, int]:
    """Bytes of payload, and how many of them lie where they were received."""
    payload = result = 0
    for batch in batches:
        for column in batch.columns:
            for buffer in column.buffers():
                if buffer is None or not buffer.size:
                    continue
                payload += buffer.size
                start, end = buffer.address, buffer.address + buffer.size
                result += sum(
                    max(0, min(end, at + length) - max(start, at)) for at, length in received
                )
    assert result <= payload
    return payload, result


def test_received_payload_is_not_copied_again(
    tmp_path: Path, received: list[tuple[int, int]]
) -> None:
    schema = pa.schema([("n", pa.int64()), ("x", pa.float64()), ("t", pa.string())])
    batch = pa.record_batch(
        [range(ROWS), np.arange(ROWS) / 2, [f"row {n}" for n in range(ROWS)]], schema=schema
    )
    with (
        fletching.serve(tmp_path, port=0, access_keys={"id": "secret"}, project="p") as server,
        fletching.connect(
            server.url,
            project="p",
            access_id="id",
            access_key="secret",
            create=True,
            direct="never",
        ) as client,
    ):
        table = client.create_table("t", schema)
        table.append([batch, batch])
        received.clear()
        batches = list(table.scan().to_batches())
    assert [b.num_rows for b in batches] == [ROWS, ROWS]
    assert all(actual.equals(batch) for actual in batches)
    payload, kept = in_place(batches, received)
    # What came together with a message's metadata is the only part that Python moved.
    assert payload > 2 * ROWS * 16
    assert payload - kept <= len(batches) * arrow_reply.METADATA_BYTES


@pytest.mark.parametrize("rows", [2_000, 20_000])
def test_small_batches_lie_where_they_were_received(
    tmp_path: Path, received: list[tuple[int, int]], rows: int
) -> None:
    batch = pa.record_batch({"n": np.arange(rows), "x": np.arange(rows) / 2})
    count = 6_000_000 // batch.nbytes
    with (
        fletching.serve(tmp_path, port=0, access_keys={"id": "secret"}, project="p") as server,
        fletching.connect(
            server.url,
            project="p",
            access_id="id",
            access_key="secret",
            create=True,
            direct="never",
        ) as client,
    ):
        table = client.create_table("t", batch.schema)
        with table.write_session() as session, session.writer() as writer:
            for _ in range(count):
                writer.write(batch)
        received.clear()
        batches = list(table.scan().to_batches())
    assert [b.num_rows for b in batches] == [rows] * count
    assert all(actual.equals(batch) for actual in batches)
    payload, kept = in_place(batches, received)
    # A message that began at the end of what had come is moved: less than one per receive.
    blocks = sum(length > arrow_reply.METADATA_BYTES for _, length in received)
    moved = arrow_reply.SMALL_BYTES + blocks * (batch.nbytes + arrow_reply.METADATA_BYTES)
    assert payload - kept <= moved
    if batch.nbytes < arrow_reply.WAKE_BYTES:
        # Batches of one block lie in one piece of memory, one behind the other.
        starts = [b.column(0).buffers()[1].address for b in batches]
        neighbours = itertools.pairwise(starts)
        assert any(0 < after - before < 2 * batch.nbytes for before, after in neighbours)


def test_an_embedded_read_copies_nothing(tmp_path: Path) -> None:
    batch = pa.record_batch({"n": pa.array(range(ROWS), pa.int64()), "x": np.arange(ROWS) / 2})
    with fletching.connect(str(tmp_path), project="p", create=True) as client:
        table = client.create_table("t", batch.schema)
        table.append(batch)
        before = pa.total_allocated_bytes()
        columns = [table.scan(columns=["x"]).to_table() for _ in range(3)]
        # The same memory each time, and none of pyarrow's own.
        assert pa.total_allocated_bytes() - before < 64 * 1024
        assert all(
            column["x"].to_numpy().sum() == columns[0]["x"].to_numpy().sum() for column in columns
        )
        assert columns[0]["x"].to_pylist() == batch["x"].to_pylist()
