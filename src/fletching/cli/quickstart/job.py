"""The main job: create, write through parallel streams, read back three ways, compare every value."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from fletching.cli.quickstart.compare import Difference, first_difference
from fletching.cli.quickstart.sources import Load, Source
from fletching.types import PartitionSpec

if TYPE_CHECKING:
    from fletching.client import Client, Table
    from fletching.client.writing.write_session import WriteSession

__all__ = ["STREAMS", "Meter", "Mismatch", "Report", "Step", "move_table"]

STREAMS = 2
"""Write streams per table; batch i goes to stream i mod STREAMS."""

SPLIT_BYTES = 8 * 1024 * 1024
"""Size of the splits that are read in parallel: small, so that small input has several too."""

QUEUED_BATCHES = 4
"""Batches waiting per stream: enough to keep it busy, few enough to bound memory."""


class Mismatch(Exception):  # noqa: N818  # it is an outcome of the comparison, not a fault of the program
    """What came back is not what was written."""

    def __init__(self, table: str, step: str, difference: Difference) -> None:
        super().__init__(f"{table}: {step}: {difference}")


@dataclasses.dataclass(frozen=True)
class Step:
    """One measured step; ``bytes`` counts Arrow buffers, so the steps of a table compare."""

    table: str
    name: str
    rows: int
    bytes: int
    seconds: float

    @property
    def gigabytes_per_second(self) -> float:
        """Decimal gigabytes per second."""
        return self.bytes / self.seconds / 1e9 if self.seconds else 0.0


Report = Callable[[str, int, int], None]
"""Called as ``report(step name, rows, bytes)`` for each batch that moved."""


class Meter:
    """Counts rows and bytes of one step and times it, from its making to `step`. Thread-safe."""

    def __init__(self, table: str, name: str, report: Report) -> None:
        self._table, self._name, self._report = table, name, report
        self._lock = threading.Lock()  # write streams count from their own threads
        self._started = time.perf_counter()
        self.rows = self.bytes = 0

    def add(self, rows: int, size: int) -> None:
        """Counts rows and their bytes, and reports them."""
        with self._lock:
            self.rows += rows
            self.bytes += size
        self._report(self._name, rows, size)

    def count(self, batch: pa.RecordBatch) -> None:
        """Counts a batch."""
        self.add(batch.num_rows, batch.nbytes)

    def counted(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Passes batches on and counts them."""
        for batch in batches:
            self.count(batch)
            yield batch

    def step(self) -> Step:
        """The finished step."""
        elapsed = time.perf_counter() - self._started
        return Step(self._table, self._name, self.rows, self.bytes, elapsed)


def move_table(client: Client, source: Source, report: Report) -> Iterator[Step]:
    """Moves one table in and out and yields each finished step.

    Raises:
        Mismatch: a value, row, column or type did not come back as it was written.
    """
    client.drop_table(source.table, if_exists=True)  # a table of an earlier run
    table = client.create_table(
        source.table, source.schema, partition_by=list(source.partition_by) or None
    )

    table = table.with_options(split_bytes=SPLIT_BYTES)
    meter = Meter(source.table, f"write, {STREAMS} streams", report)
    for load in source.loads:
        with table.write_session(partition=load.partition) as session:
            _write(session, load, meter)
    yield meter.step()

    every = source.schema.names
    scan = table.scan()
    splits = len(scan.splits())
    meter = Meter(source.table, f"read all, {splits} split{'s' * (splits != 1)}", report)
    for batch in scan.to_batches():
        meter.count(batch)
    yield meter.step()
    yield _compared(source, table, "compare all", columns=every, partition=None, report=report)

    half = every[: max(1, len(every) // 2)]
    meter = Meter(source.table, f"read {len(half)} of {len(every)} columns", report)
    for batch in table.scan(columns=half).to_batches():
        meter.count(batch)
    yield meter.step()
    yield _compared(source, table, "compare columns", columns=half, partition=None, report=report)

    if source.sample_partition:
        meter = Meter(source.table, "read one partition", report)
        for batch in table.scan(partitions=[source.sample_partition]).to_batches():
            meter.count(batch)
        yield meter.step()
        yield _compared(
            source,
            table,
            "compare partition",
            columns=every,
            partition=source.sample_partition,
            report=report,
        )


# --- writing ---------------------------------------------------------------------------------


def _write(session: WriteSession, load: Load, meter: Meter) -> None:
    """Feeds STREAMS writers from one iterator, each in its own thread."""
    queues = [queue.Queue[pa.RecordBatch | None](QUEUED_BATCHES) for _ in range(STREAMS)]
    failures: list[BaseException] = []

    def drain(index: int) -> None:
        fed = iter(queues[index].get, None)  # ends for good with its None
        try:
            with session.writer(f"stream-{index}") as writer:
                for batch in fed:
                    writer.write(batch)
                    meter.count(batch)
        except BaseException as exc:  # noqa: BLE001  # handed to the caller's thread, which raises it
            failures.append(exc)
            for _ in fed:  # keep the feeder from blocking for ever
                pass

    threads = [threading.Thread(target=drain, args=(i,), daemon=True) for i in range(STREAMS)]
    for thread in threads:
        thread.start()
    try:
        for number, batch in enumerate(load.batches()):
            if failures:
                break
            queues[number % STREAMS].put(batch)
    finally:
        for waiting in queues:
            waiting.put(None)
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


# --- comparing -------------------------------------------------------------------------------


def _in_stream_order(load: Load) -> Iterator[pa.RecordBatch]:
    """A load's batches in the order they are stored: all of stream 0, then all of stream 1."""
    for stream in range(STREAMS):
        with contextlib.closing(load.batches()) as batches:
            for number, batch in enumerate(batches):
                if number % STREAMS == stream:
                    yield batch


def _expected(
    source: Source, columns: list[str], partition: str | None
) -> Iterator[pa.RecordBatch]:
    for load in source.loads:
        if partition is not None and load.partition not in {None, partition}:
            continue
        static = PartitionSpec.parse(load.partition)
        for batch in _in_stream_order(load):
            chosen = batch.select([*columns, *(() if load.partition else source.partition_by)])
            for name, value in static:
                constant = pa.repeat(pa.scalar(value, pa.string()), batch.num_rows)
                chosen = chosen.append_column(name, constant)
            yield chosen


def _compared(
    source: Source,
    table: Table,
    name: str,
    *,
    columns: list[str],
    partition: str | None,
    report: Report,
) -> Step:
    """Reads again and compares; partition columns are read too, so that they are proven as well."""
    meter = Meter(source.table, name, report)
    scan = table.scan(
        columns=[*columns, *source.partition_by],
        partitions=[partition] if partition else None,
    )
    # Closed also when the comparison ends early, so that no connection is left behind.
    with contextlib.closing(scan.to_batches()) as batches:
        expected, actual = _expected(source, columns, partition), meter.counted(batches)
        if any(load.partition is None for load in source.loads) and source.partition_by:
            # Dynamic partitions regroup rows; inside a partition they keep their order.
            expected = _by_partition(expected, source, partition)
            actual = _by_partition(actual, source, None)
        difference = first_difference(expected, actual)
    if difference is not None:
        raise Mismatch(source.table, name, difference)
    return meter.step()


def _by_partition(
    batches: Iterator[pa.RecordBatch], source: Source, partition: str | None
) -> Iterator[pa.RecordBatch]:
    rows = pa.Table.from_batches(list(batches))
    for name, value in PartitionSpec.parse(partition):
        rows = rows.filter(pa.compute.equal(rows[name], value))
    return iter(rows.sort_by([(name, "ascending") for name in source.partition_by]).to_batches())
