"""The end of a scan's batches: at its limit, and with its session."""

from __future__ import annotations

from collections.abc import Generator

import pyarrow as pa

from fletching.client.reading.read_session import release_quietly
from fletching.client.transports.channel import Channel
from fletching.types import TableName

__all__ = ["first_rows", "released"]


def first_rows(
    batches: Generator[pa.RecordBatch, None, None], limit: int | None
) -> Generator[pa.RecordBatch, None, None]:
    """The first ``limit`` rows; ends the source with itself."""
    remaining = limit
    try:
        while remaining is None or remaining > 0:
            batch = next(batches, None)
            if batch is None:
                return
            if remaining is not None:
                batch = batch.slice(0, remaining)
                remaining -= batch.num_rows
            yield batch
    finally:
        batches.close()


def released(
    batches: Generator[pa.RecordBatch, None, None], channel: Channel, table: TableName, session: str
) -> Generator[pa.RecordBatch, None, None]:
    """The same batches; with their end, or with whoever leaves them, the session ends."""
    try:
        yield from batches
    finally:
        release_quietly(channel, table, session)
