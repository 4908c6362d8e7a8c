"""A whole data set into one write session, through one stream or several at once."""

from __future__ import annotations

import contextlib
import queue
import threading

import pyarrow as pa

from fletching.client.argument_checks import whole_number
from fletching.client.cancellation import join_within
from fletching.client.progress import ProgressMeter
from fletching.client.tabular.tabular_data import batches_of
from fletching.client.writing.write_session import WriteSession

__all__ = ["append_rows"]

_QUEUED_BATCHES = 2
"""Batches waiting for each stream: enough to keep it busy, few enough to bound memory."""


def append_rows(
    session: WriteSession, data: object, streams: int, meter: ProgressMeter | None = None
) -> int:
    """Writes all rows and closes the streams; returns the rows. The caller commits.

    Args:
        session: where to; not yet written to.
        data: anything tabular, see `fletching.client.tabular.tabular_data`.
        streams: how many streams to write at once; with more than one, batches are dealt out in
            turn and the order of rows is that of the streams.
        meter: counts the rows that are handed over.

    Raises:
        UsageError: data that does not fit, or fewer than one stream.
        FletchingError: what a writer raised.
    """
    whole_number("streams", streams, least=1)
    if streams == 1:
        with session.writer() as writer:
            return writer.write(data if meter is None else meter.data(data, writer.schema))
    return _deal(session, data, streams, meter)


def _deal(session: WriteSession, data: object, streams: int, meter: ProgressMeter | None) -> int:
    """Deals batches out to several writers, each in a thread of its own."""
    waiting: queue.Queue[pa.RecordBatch | None] = queue.Queue(_QUEUED_BATCHES * streams)
    errors: list[BaseException] = []
    writers = [session.writer() for _ in range(streams)]

    def drain(number: int) -> None:
        # Ends for good with the one None that is this thread's: another's must be left for that.
        dealt = iter(waiting.get, None)
        try:
            with writers[number] as writer:
                for batch in dealt:
                    writer.write(batch)
        except BaseException as exc:  # noqa: BLE001  # raised in the caller's thread, below
            errors.append(exc)
            # Keep taking, so that the thread that deals never waits for a stream that has ended.
            for _ in dealt:
                pass

    threads = [
        threading.Thread(
            target=drain, args=(number,), name=f"fletching-write-{number}", daemon=True
        )
        for number in range(streams)
    ]
    rows = 0
    for thread in threads:
        thread.start()
    try:
        schema = writers[0].schema
        for batch in batches_of(data, schema) if meter is None else meter.data(data, schema):
            if errors:
                break
            waiting.put(batch)
            rows += batch.num_rows
        for _ in threads:
            waiting.put(None)
        for thread in threads:
            thread.join()
    except BaseException:
        # The data failed, or the caller was interrupted: nothing of this is committed, and nobody
        # waits for a peer to take it.
        for writer in writers:
            writer.cancel()
        with contextlib.suppress(queue.Empty):
            while True:
                waiting.get_nowait()
        for _ in threads:
            with contextlib.suppress(queue.Full):
                waiting.put_nowait(None)
        join_within(threads)
        raise
    if errors:
        raise errors[0]
    return rows
