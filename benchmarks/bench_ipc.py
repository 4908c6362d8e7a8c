"""What do projecting, walking, reading and writing cost? `python benchmarks/bench_ipc.py [--json OUT]`.

Reading many small batches, opening a file of many and slicing it, and writing many columns stand
beside pyarrow doing the same; ratios are medians over rounds in which both took turns. And two
promises are measured. Projecting a 65,536-row record batch of 100 columns to 10 takes less than
a millisecond and moves no body bytes; beside it stand pyarrow reading, selecting and writing the
same batch, and a memcpy of the bytes that are chosen. Walking the messages of a mapped file costs
the same per message whatever the bodies' size. Figures are processor time of this one thread,
medians over the rounds with the middle half's spread.
"""

from __future__ import annotations

import argparse
import decimal
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
        if not base <= np.frombuffer(memoryview(piece), np.uint8).ctypes.data < base + len(data)
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


def in_turns(jobs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Each job's processor time as a ratio to the first's, the median over rounds."""
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds + 1):
        for name, job in jobs.items():
            start = time.process_time()
            job()
            if number:
                taken[name].append(time.process_time() - start)
    first = next(iter(taken.values()))
    return {
        name: statistics.median(a / b for a, b in zip(times, first, strict=True))
        for name, times in taken.items()
    }


def small_batches(count: int) -> dict[str, pa.RecordBatch]:
    rng = np.random.default_rng(1)
    rows = range(count)
    texts = [f"row {row} of many" for row in rows]
    amounts = [[decimal.Decimal(row)] * 2 for row in rows]
    return {
        "numbers": pa.record_batch({f"c{i}": rng.integers(0, 1000, count) for i in range(4)}),
        "numbers and text": pa.record_batch({"id": np.arange(count), "s": texts}),
        "numbers and text, nulls": pa.record_batch(
            {
                "id": pa.array([row if row % 3 else None for row in rows]),
                "s": pa.array([text if i % 5 else None for i, text in enumerate(texts)]),
            }
        ),
        "string views": pa.record_batch({"s": pa.array(texts, pa.string_view())}),
        "dictionary": pa.record_batch(
            {"s": pa.array([f"word {row % 50}" for row in rows]).dictionary_encode()}
        ),
        "list of decimals": pa.record_batch(
            {"l": pa.array(amounts, pa.list_(pa.decimal128(10, 2)))}
        ),
    }


def reading(rounds: int, batches: int, rows: int) -> dict[str, Any]:
    """Streams of many small batches; the ratio to pyarrow reading them, without any check."""
    found: dict[str, Any] = {}
    for name, batch in small_batches(rows).items():
        sink = io.BytesIO()
        ipc.write_stream([batch] * batches, sink)
        data = sink.getvalue()

        def by_pyarrow(data: bytes = data) -> list[pa.RecordBatch]:
            return list(pa.ipc.open_stream(data))

        def checked_by_pyarrow(data: bytes = data) -> None:
            for one in pa.ipc.open_stream(data):
                one.validate(full=True)

        def ours(data: bytes = data) -> Any:
            return ipc.read_stream(data)

        def trusting(data: bytes = data) -> Any:
            return ipc.read_stream(data, trusted=True)

        jobs: dict[str, Callable[[], Any]] = {
            "pyarrow": by_pyarrow,
            "pyarrow, validated": checked_by_pyarrow,
            "read_stream": ours,
            "read_stream, trusted": trusting,
        }
        found[name] = in_turns(jobs, rounds)
    return found


def opening(rounds: int, folder: Path, batches: int) -> dict[str, Any]:
    """A mapped file of many batches: opened, and ten rows of it; the ratio to pyarrow doing so."""
    batch = small_batches(1000)["numbers and text"]
    path = folder / "many.arrow"
    with ipc.FileWriter(path, batch.schema) as writer:
        for _ in range(batches):
            writer.write(batch)
    row = 1000 * (batches // 2)

    def by_pyarrow() -> Any:
        opened = pa.ipc.open_file(pa.memory_map(str(path)))
        return opened.get_batch(row // 1000).slice(0, 10)

    def whole_by_pyarrow() -> Any:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all().slice(row, 10)

    jobs: dict[str, Callable[[], Any]] = {
        "pyarrow get_batch, which has to know which": by_pyarrow,
        "pyarrow read_all, slice": whole_by_pyarrow,
        "open_file": lambda: ipc.open_file(path),
        "open_file, slice near the start": lambda: ipc.open_file(path).slice(5, 10),
        "open_file, slice in the middle": lambda: ipc.open_file(path).slice(row, 10),
    }
    ratios = in_turns(jobs, rounds)
    path.unlink()
    return {"ratios": ratios}


def writing(rounds: int, batches: int) -> dict[str, Any]:
    """Batches of 300 columns into memory; the ratio to pyarrow writing them to the same kind of sink."""
    found: dict[str, Any] = {}
    for rows in (10, 1000, 10_000):
        batch = pa.record_batch({f"c{i}": np.arange(rows) for i in range(300)})

        def by_pyarrow(batch: pa.RecordBatch = batch) -> None:
            with pa.ipc.new_stream(io.BytesIO(), batch.schema) as writer:
                for _ in range(batches):
                    writer.write_batch(batch)

        def ours(batch: pa.RecordBatch = batch) -> None:
            ipc.write_stream([batch] * batches, io.BytesIO())

        found[f"{rows} rows"] = in_turns({"pyarrow": by_pyarrow, "write_stream": ours}, rounds)
    return found


def shown(value: Any) -> str:
    if isinstance(value, dict) and "median_us" not in value:
        return "; ".join(f"{name} {ratio:.2f}" for name, ratio in value.items())
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
            "reading many small batches, ratio to pyarrow": reading(
                rounds, 20 if options.small else 1000, 100 if options.small else 1000
            ),
            "opening a file of many batches, ratio to pyarrow": opening(
                rounds, Path(folder), 20 if options.small else 2000
            ),
            "writing 300 columns, ratio to pyarrow": writing(rounds, 2 if options.small else 20),
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
