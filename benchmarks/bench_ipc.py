"""What do projecting a message and walking a file cost? `python benchmarks/bench_ipc.py [--json OUT]`.

Two promises are measured. Projecting a 65,536-row record batch of 100 columns to 10 takes less than
a millisecond and moves no body bytes; beside it stand pyarrow reading, selecting and writing the
same batch, and a memcpy of the bytes that are chosen. Walking the messages of a mapped file costs
the same per message whatever the bodies' size. Figures are processor time of this one thread,
medians over the rounds with the middle half's spread.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fletching import ipc
from fletching.ipc import lowlevel

ROWS = 65_536
COLUMNS = 100
CHOSEN = [f"c{index}" for index in range(0, COLUMNS, 10)]


def measured(job: Callable[[], Any], rounds: int, repeat: int) -> dict[str, float]:
    """Microseconds of processor time per call."""
    job()
    found = []
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(repeat):
            job()
        found.append((time.process_time() - start) / repeat * 1e6)
    quarter = statistics.quantiles(found, n=4) if len(found) > 1 else [found[0]] * 3
    return {"median_us": statistics.median(found), "low_us": quarter[0], "high_us": quarter[2]}


def projection(rounds: int, rows: int) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    batch = pa.record_batch(
        {f"c{index}": rng.integers(0, 1 << 40, rows) for index in range(COLUMNS)}
    )
    sink = io.BytesIO()
    ipc.write_stream(batch, sink)
    data = sink.getvalue()
    schema, message = ipc.messages(data)
    projector = lowlevel.Projector(schema, CHOSEN)
    # A projector keeps its latest plan, so two batches that differ take turns.
    other_sink = io.BytesIO()
    ipc.write_stream(batch.slice(1), other_sink)
    _, other = ipc.messages(other_sink.getvalue())
    turns = [message, other]

    def project() -> None:
        turns.reverse()
        projector.project(turns[0])

    def project_by_function() -> None:
        turns.reverse()
        ipc.project(turns[0], batch.schema, CHOSEN)

    def by_pyarrow() -> None:
        read = pa.ipc.read_record_batch(message.to_pyarrow(), batch.schema)
        read.select(CHOSEN).serialize()

    found = projector.project(message)
    base = np.frombuffer(data, np.uint8).ctypes.data
    moved = sum(
        memoryview(piece).nbytes
        for piece in found.body
        if not base <= np.frombuffer(piece, np.uint8).ctypes.data < base + len(data)
    )
    copy = np.empty(found.body_length, np.uint8)
    source = np.frombuffer(data, np.uint8)[: len(copy)]
    return {
        "body_bytes": found.body_length,
        "body_bytes_moved": moved,
        "Projector.project": measured(project, rounds, 50),
        "ipc.project": measured(project_by_function, rounds, 50),
        "pyarrow read, select, serialize": measured(by_pyarrow, rounds, 5),
        "floor: memcpy of the chosen bytes": measured(lambda: np.copyto(copy, source), rounds, 5),
    }


def walking(rounds: int, folder: Path, messages: int, sizes: list[int]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for rows in sizes:
        path = folder / f"{rows}.arrow"
        batch = pa.record_batch({"a": np.zeros(rows, np.int64), "b": np.ones(rows)})
        with path.open("wb") as file, ipc.FileWriter(file, batch.schema) as writer:
            for _ in range(messages):
                writer.write(batch)
        with pa.memory_map(str(path)) as mapped:
            data = mapped.read_buffer()

        def walk(data: Any = data) -> int:
            rows = 0
            for message in ipc.messages(data):
                if message.type is lowlevel.MessageType.RECORD_BATCH:
                    rows += message.record_batch().length
            return rows

        assert walk() == rows * messages
        timed = measured(walk, rounds, 3)
        found[f"{batch.nbytes:,} byte bodies"] = {k: v / messages for k, v in timed.items()}
        path.unlink()
    return found


def shown(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    return f"{value['median_us']:9.1f} us  ({value['low_us']:.1f} to {value['high_us']:.1f})"


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--small", action="store_true", help="only prove that it runs")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args(arguments)
    rounds = 2 if options.small else options.rounds
    with tempfile.TemporaryDirectory(prefix="bench-ipc-") as folder:
        figures = {
            "environment": {
                "machine": platform.platform(),
                "python": platform.python_version(),
                "pyarrow": pa.__version__,
                "date": time.strftime("%Y-%m-%d"),
            },
            "projection of 100 columns to 10, one batch": projection(
                rounds, 1000 if options.small else ROWS
            ),
            "walking a mapped file, per message": walking(
                rounds,
                Path(folder),
                10 if options.small else 500,
                [100, 1000] if options.small else [64, 4096, 65_536],
            ),
        }
    for question, values in figures.items():
        print(question)
        for name, value in values.items():
            print(f"  {name:36} {shown(value)}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return figures


if __name__ == "__main__":
    main()
