"""Contenders that write a table: ours, Flight DoPut, and `write` + `fsync` of the same bytes."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.processes import ServerProcess
from benchmarks.reading import connect
from benchmarks.rounds import Contender, Outcome
from benchmarks.tables import StoredTable
from fletching.ipc import lowlevel


def stream_pieces(table: StoredTable) -> list[Any]:
    """The table's IPC stream as pieces; bodies are views of the batches."""
    encoder = lowlevel.BatchEncoder(table.schema)
    pieces: list[Any] = [encoder.schema_message]
    for batch in table.batches:
        for message in encoder.encode(batch):
            pieces.extend(message)
    pieces.append(lowlevel.END_OF_STREAM)
    return pieces


def write_fsync(folder: Path, table: StoredTable) -> Contender:
    """The floor of durable writes: the same bytes into one file, then fsync of file and folder."""
    path = folder / "floor.bin"
    views = [memoryview(piece).cast("B") for piece in stream_pieces(table)]

    def prepare() -> None:
        path.unlink(missing_ok=True)

    def run(_started: float) -> Outcome:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            for start in range(0, len(views), 512):
                _write_all(descriptor, views[start : start + 512])
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        parent = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
        return Outcome(table.bytes, table.rows)

    return Contender("write + fsync", run, None, prepare)


def _write_all(descriptor: int, views: list[memoryview]) -> None:
    while views:
        written = os.writev(descriptor, views)
        while views and written >= views[0].nbytes:
            written -= views.pop(0).nbytes
        if written:
            views[0] = views[0][written:]


def fletching_write(
    server: ServerProcess, folder: Path, table: StoredTable, *, streams: int = 1
) -> Contender:
    """Our client and server: durable and validated; each run appends to a table of its own."""
    client = connect(server)
    numbers = itertools.count()
    names: list[str] = []

    def prepare() -> None:
        for name in names:
            client.drop_table(name)
        # As the floor's file, so that both write to pages that were in use a moment ago: a dropped
        # table's bytes stay for an hour, and memory that a virtual machine never touched is slow.
        for path in (folder / "objects" / "tables").rglob("*.arrow"):
            path.unlink()
        names[:] = [f"{table.name}_w{streams}_{next(numbers)}"]
        client.create_table(names[0], table.schema)

    def run(_started: float) -> Outcome:
        reader = pa.RecordBatchReader.from_batches(table.schema, iter(table.batches))
        rows = client.table(names[0]).append(reader, streams=streams)
        return Outcome(table.bytes, rows)

    label = "fletching" if streams == 1 else f"fletching, {streams} streams"
    return Contender(label, run, server.pid, prepare, client.close)


def flight_put(server: ServerProcess, table: StoredTable) -> Contender:
    """Arrow Flight DoPut to a server that keeps nothing."""
    from pyarrow import flight

    client = flight.connect(f"grpc://127.0.0.1:{server.ready['port']}")

    def run(_started: float) -> Outcome:
        descriptor = flight.FlightDescriptor.for_path("t")
        writer, reader = client.do_put(descriptor, table.schema)
        for batch in table.batches:
            writer.write_batch(batch)
        writer.done_writing()
        reader.read()
        writer.close()
        return Outcome(table.bytes, table.rows)

    return Contender("Flight DoPut", run, server.pid, close=client.close)
