"""Arrow IPC by itself beside pyarrow: streams of small batches, a mapped file of many, many columns."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.bench_ipc import small_batches
from benchmarks.rounds import Contender, Outcome
from fletching import ipc

__all__ = ["cases"]


def cases(folder: Path, batches: int) -> Iterator[tuple[str, list[Contender]]]:
    """(case, contenders): each job by pyarrow, by pyarrow with all it validates, and by us.

    Args:
        folder: for a file.
        batches: of 1,000 rows each in streams and in the file.
    """
    for name, batch in small_batches(1000).items():
        sink = io.BytesIO()
        ipc.write_stream([batch] * batches, sink)
        yield f"read, {name}", _readers(sink.getvalue())
    yield "open a file and slice it", _openers(folder / "many.arrow", batches)
    wide = pa.record_batch({f"c{index}": np.arange(1000) for index in range(300)})
    yield "write 300 columns", _writers(wide)


def _contender(name: str, job: Callable[[], object]) -> Contender:
    def run(_started: float) -> Outcome:
        job()
        return Outcome(1, 1)

    return Contender(name, run)


def _readers(data: bytes) -> list[Contender]:
    def validated() -> None:
        for batch in pa.ipc.open_stream(data):
            batch.validate(full=True)

    return [
        _contender("pyarrow", lambda: list(pa.ipc.open_stream(data))),
        _contender("pyarrow, validated", validated),
        _contender("read_stream", lambda: ipc.read_stream(data)),
    ]


def _openers(path: Path, batches: int) -> list[Contender]:
    batch = small_batches(1000)["numbers and text"]
    with ipc.FileWriter(path, batch.schema) as writer:
        for _ in range(batches):
            writer.write(batch)
    row = 1000 * (batches // 2)

    def whole() -> Any:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all().slice(row, 10)

    def report() -> Any:
        return pa.ipc.open_file(pa.memory_map(str(path))).get_batch(row // 1000).slice(0, 10)

    return [
        _contender("pyarrow, read_all and slice", whole),
        _contender("pyarrow, told which batch", report),
        _contender("open_file and slice", lambda: ipc.open_file(path).slice(row, 10)),
    ]


def _writers(batch: pa.RecordBatch) -> list[Contender]:
    def theirs() -> None:
        with pa.ipc.new_stream(io.BytesIO(), batch.schema) as writer:
            for _ in range(10):
                writer.write_batch(batch)

    return [
        _contender("pyarrow", theirs),
        _contender("write_stream", lambda: ipc.write_stream([batch] * 10, io.BytesIO())),
    ]
