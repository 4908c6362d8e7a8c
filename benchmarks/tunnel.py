"""The table tunnel beside PyODPS: who waits for whom, record by record and end to end."""

from __future__ import annotations

import io
import types
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from benchmarks import corpus
from benchmarks.processes import ServerProcess
from benchmarks.rounds import Contender, Outcome
from benchmarks.tables import PROJECT, StoredTable

__all__ = ["codec_contenders", "reading_contenders", "sales", "writing_contenders"]

COLUMNS = {
    "id": "bigint",
    "name": "string",
    "price": "double",
    "sold": "datetime",
    "amount": "bigint",
    "note": "string",
}
STEP_BYTES = 1 << 20
"""What a record body comes in by."""


def sales(rows: int) -> pa.RecordBatch:
    """What everyday tables hold: numbers, a moment, a short and a longer text."""
    import numpy as np

    rng = np.random.default_rng(corpus.SEED)
    moments = pa.array(rng.integers(10**12, 2 * 10**12, rows)).cast(pa.timestamp("ms"))
    return pa.record_batch(
        {
            "id": pa.array(rng.integers(0, 1 << 40, rows)),
            "name": pa.array([f"name {number}" for number in range(rows)]),
            "price": pa.array(rng.random(rows)),
            "sold": moments,
            "amount": pa.array(np.arange(rows)),
            "note": pa.array([f"a note of about forty characters {number}" for number in range(rows)]),
        }
    )  # fmt: skip


def _schema() -> Any:
    from odps.models import TableSchema

    schema = TableSchema.from_lists(list(COLUMNS), list(COLUMNS.values()))
    schema.build_snapshot()
    return schema


def codec_contenders(batch: pa.RecordBatch) -> list[Contender]:
    """Our encoder beside PyODPS's compiled reader, our decoder beside its compiled writer.

    Bytes are those of the Arrow columns in all of them, so that speeds compare.
    """
    from odps.models import Record
    from odps.tunnel.io.reader import TunnelRecordReader
    from odps.tunnel.io.writer import RecordWriter

    from fletching.protocol.http.tunnel_bodies import (
        RecordBodyEncoder,
        TunnelColumn,
        record_body_decoder,
    )
    from fletching.protocol.types.odps_types import parse_type

    kinds = [parse_type(text) for text in COLUMNS.values()]
    columns = [TunnelColumn(name, kind) for name, kind in zip(COLUMNS, kinds, strict=True)]
    schema = _schema()

    def encoded() -> bytes:
        encoder = RecordBodyEncoder(kinds)
        step = max(1, batch.num_rows * 2 * STEP_BYTES // batch.nbytes)
        parts = [
            encoder.encode(batch.slice(start, step)) for start in range(0, batch.num_rows, step)
        ]
        return b"".join([*map(bytes, parts), encoder.finish()])

    stream = encoded()

    def decoded() -> None:
        decoder = record_body_decoder(columns, "")
        for start in range(0, len(stream), STEP_BYTES):
            decoder.feed(stream[start : start + STEP_BYTES])
            for _ in decoder.events():
                pass
        decoder.finish()
        for _ in decoder.events():
            pass

    def consumed() -> None:
        def open_(cursor: int, **_: Any) -> Any:
            return None if cursor else io.BytesIO(stream)

        for _ in TunnelRecordReader(schema, open_):
            pass

    values = zip(*(column.to_pylist() for column in batch.columns), strict=True)
    records = [Record(schema=schema, values=list(row)) for row in values]

    def produced() -> None:
        def upload(data: Iterator[bytes]) -> Any:
            for _ in data:
                pass
            return types.SimpleNamespace(headers={})

        writer = RecordWriter(schema, upload)
        for record in records:
            writer.write(record)
        writer.close()

    return [
        _contender("encode", encoded, batch),
        _contender("PyODPS reads", consumed, batch),
        _contender("decode", decoded, batch),
        _contender("PyODPS writes", produced, batch),
    ]


def _contender(name: str, work: Callable[[], object], batch: pa.RecordBatch) -> Contender:
    def run(_started: float) -> Outcome:
        work()
        return Outcome(batch.nbytes, batch.num_rows)

    return Contender(name, run)


def _tunnel(server: ServerProcess) -> Any:
    from odps import ODPS
    from odps.tunnel import TableTunnel

    url = server.ready["url"]
    entry = ODPS(
        "bench",
        "bench-secret",
        PROJECT,
        endpoint=f"{url}/api",
        tunnel_endpoint=url,
        overwrite_global=False,
    )
    return TableTunnel(entry)


def reading_contenders(server: ServerProcess, table: StoredTable) -> list[Contender]:
    """PyODPS reads a table through its tunnel: every record, and every batch."""
    tunnel = _tunnel(server)

    def records(_started: float) -> Outcome:
        session = tunnel.create_download_session(table.name)
        with session.open_record_reader(0, session.count) as reader:
            rows = sum(1 for _ in reader)
        return Outcome(table.bytes, rows)

    def arrow(_started: float) -> Outcome:
        session = tunnel.create_download_session(table.name)
        with session.open_arrow_reader(0, session.count) as reader:
            rows = reader.read().num_rows
        return Outcome(table.bytes, rows)

    return [
        Contender("PyODPS, Arrow", arrow, server.pid),
        Contender("PyODPS, records", records, server.pid),
    ]


def writing_contenders(server: ServerProcess, table: StoredTable) -> list[Contender]:
    """PyODPS overwrites a table through its tunnel, one block of records or of Arrow."""
    tunnel = _tunnel(server)
    batch = table.batches[0]
    session = tunnel.create_upload_session(table.name)
    values = zip(*(column.to_pylist() for column in batch.columns), strict=True)
    made = [session.new_record(list(row)) for row in values]

    def upload(arrow: bool) -> Outcome:
        upload = tunnel.create_upload_session(table.name, overwrite=True)
        if arrow:
            with upload.open_arrow_writer(0) as writer:
                writer.write(batch)
        else:
            with upload.open_record_writer(0) as writer:
                for record in made:
                    writer.write(record)
        upload.commit([0])
        return Outcome(batch.nbytes, batch.num_rows)

    return [
        Contender("PyODPS, Arrow", lambda _: upload(arrow=True), server.pid),
        Contender("PyODPS, records", lambda _: upload(arrow=False), server.pid),
    ]
