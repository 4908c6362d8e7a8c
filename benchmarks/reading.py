"""Contenders that read a table: ours, the rivals, the floors."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import urllib3

import fletching
from benchmarks.processes import ServerProcess
from benchmarks.rounds import Contender, Outcome
from benchmarks.tables import PROJECT, StoredTable

RECEIVE_BYTES = 4 << 20


def drain(batches: Iterable[pa.RecordBatch], started: float, length: int) -> Outcome:
    """Takes every batch and drops it; the first one is timed."""
    rows, first = 0, None
    for batch in batches:
        if first is None:
            first = time.perf_counter() - started
        rows += batch.num_rows
    return Outcome(length, rows, first)


def connect(server: ServerProcess, **options: Any) -> Any:
    """Our client of a server of this run; it is sent what it reads, as from another host."""
    options = {"direct": "never", **options}
    return fletching.connect(
        server.ready["url"],
        project=PROJECT,
        access_id="bench",
        access_key="bench-secret",
        **options,
    )


def fletching_http(
    server: ServerProcess,
    client: Any,
    table: StoredTable,
    *,
    name: str = "fletching",
    columns: Sequence[str] | None = None,
    length: int | None = None,
    splits: int = 1,
) -> Contender:
    """Our client and server; with two splits, over two connections at once, in the table's order."""
    size = max(1, -(-table.bytes // splits)) + (1 << 20) if splits > 1 else 1 << 50
    handle = client.table(table.name)

    def run(started: float) -> Outcome:
        scan = handle.scan(columns=columns)
        scan = scan.with_options(split_bytes=size, connections=splits)
        return drain(scan.to_batches(), started, table.bytes if length is None else length)

    return Contender(name, run, server.pid)


def fletching_splits(
    server: ServerProcess, client: Any, table: StoredTable, *, name: str, splits: int
) -> Contender:
    """Splits read side by side, each by a thread of its own, as workers of a training job do."""
    handle = client.table(table.name)

    def run(_started: float) -> Outcome:
        # About so many: splits end where batches do.
        parts = handle.scan().splits(splits)
        with ThreadPoolExecutor(splits) as pool:
            rows = sum(pool.map(count_rows, parts))
        return Outcome(table.bytes, rows)

    return Contender(name, run, server.pid)


def count_rows(split: Any) -> int:
    """Reads a split and drops its batches."""
    with split.reader() as batches:
        return sum(batch.num_rows for batch in batches)


def fletching_read(
    server: ServerProcess, client: Any, table: StoredTable, *, name: str, **fields: Any
) -> Contender:
    """Our client with fields of TableRead that a scan does not set."""
    from fletching.client.retry import RetrySequence
    from fletching.protocol.messages.requests import ReadTable, SplitOptions

    handle = client.table(table.name)

    def run(started: float) -> Outcome:
        scan = handle.scan()
        session = scan._session(SplitOptions(split_number=1 << 50))
        way = scan.channel
        request = ReadTable(
            table=scan.table.full_name, session_id=session.session_id, index=0, **fields
        )
        attempt = RetrySequence(way.options, way.timing)
        source = way.transport.read(request, attempt)
        try:
            return drain(source, started, table.bytes)
        finally:
            source.close()

    return Contender(name, run, server.pid)


def raw_socket(server: ServerProcess, table: StoredTable) -> Contender:
    """The floor: the mapped file through a socket into one buffer."""
    import socket

    length = server.ready["length"]
    peer = socket.create_connection(("127.0.0.1", server.ready["port"]))
    target = memoryview(bytearray(RECEIVE_BYTES))

    def run(_started: float) -> Outcome:
        peer.sendall(b"x")
        left = length
        while left:
            left -= peer.recv_into(target, min(left, RECEIVE_BYTES))
        return Outcome(length, table.rows)

    return Contender("raw socket", run, server.pid, close=peer.close)


def raw_socket_kept(server: ServerProcess, table: StoredTable) -> Contender:
    """The floor of whatever keeps what it receives: the same bytes into memory that is asked for as it is filled."""
    import socket

    length = server.ready["length"]
    peer = socket.create_connection(("127.0.0.1", server.ready["port"]))

    def run(_started: float) -> Outcome:
        peer.sendall(b"x")
        kept: list[memoryview] = []
        left = length
        while left:
            block = memoryview(pa.allocate_buffer(min(left, RECEIVE_BYTES))).cast("B")
            filled = 0
            while filled < len(block):
                filled += peer.recv_into(block[filled:])
            kept.append(block)
            left -= filled
        return Outcome(length, table.rows)

    return Contender("raw socket, all kept", run, server.pid, close=peer.close)


def flight(
    server: ServerProcess,
    table: StoredTable,
    *,
    columns: Sequence[str] | None = None,
    length: int | None = None,
) -> Contender:
    """Arrow Flight DoGet of the same mapped segments."""
    from pyarrow import flight as rpc

    client = rpc.connect(f"grpc://127.0.0.1:{server.ready['port']}")
    ticket = rpc.Ticket(json.dumps(columns).encode())

    def run(started: float) -> Outcome:
        reader = client.do_get(ticket)
        batches = (chunk.data for chunk in reader)
        return drain(batches, started, table.bytes if length is None else length)

    return Contender("Flight DoGet", run, server.pid, close=client.close)


def pyodps(
    server: ServerProcess, table: StoredTable, *, max_batch_rows: int, name: str
) -> Contender:
    """PyODPS against our own server."""
    from odps.accounts import CloudAccount
    from odps.maxstorage import MaxStorageClient, SplitOptions

    client = MaxStorageClient(
        account=CloudAccount("bench", "bench-secret"),
        tunnel_endpoint=server.ready["url"],
        project=PROJECT,
    )
    options = SplitOptions(split_number=1 << 50)

    def run(started: float) -> Outcome:
        session = client.create_table_read_session(table.name, split_options=options)
        return drain(batches(session), started, table.bytes)

    def batches(session: Any) -> Iterator[pa.RecordBatch]:
        for split in session.splits:
            reader = session.open_arrow_reader(split, max_batch_rows=max_batch_rows)
            try:
                while (batch := reader.read()) is not None:
                    yield batch
            finally:
                reader.close()

    def close() -> None:
        client.storage_rest.session.close()

    return Contender(name, run, server.pid, close=close)


def parquet_http(server: ServerProcess, path: Path, table: StoredTable) -> Contender:
    """A Parquet file over plain HTTP, decoded when it is here."""
    import pyarrow.parquet as pq

    pool: Any = urllib3.PoolManager()
    url = f"http://127.0.0.1:{server.ready['port']}/{path.name}"

    def run(started: float) -> Outcome:
        reply = pool.request("GET", url, preload_content=False)
        data = pa.allocate_buffer(int(reply.headers["content-length"]))
        view, filled = memoryview(data), 0
        while filled < len(view):
            filled += reply._fp.readinto(view[filled : filled + RECEIVE_BYTES])
        reply.release_conn()
        return drain(pq.ParquetFile(pa.BufferReader(data)).iter_batches(), started, table.bytes)

    return Contender("Parquet over HTTP", run, server.pid, close=pool.clear)


def memcpy(table: StoredTable) -> Contender:
    """The other floor: the same bytes copied once in memory."""
    import numpy as np

    source = np.ones(min(table.bytes, 64 << 20), np.uint8)
    target = np.empty_like(source)
    times = max(1, round(table.bytes / source.nbytes))

    def run(_started: float) -> Outcome:
        for _ in range(times):
            np.copyto(target, source)
        return Outcome(times * source.nbytes, table.rows)

    return Contender("memcpy", run)
