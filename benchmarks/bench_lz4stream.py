"""Does lz4stream keep up with lz4.stream, which it replaces, and what does history gain for batches?

Run by `make bench-lz4`, which builds lz4.stream from python-lz4's source distribution; without it
only our own figures appear. Everything is measured in one process, one after the other within each
round, in alternating order; figures are medians, and ratios are medians of the rounds' ratios. Time
is the process's own processor time: all of it runs in one thread and waits for nothing, and so
what else the machine does counts less.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import lz4
import numpy as np
import pyarrow as pa

from fletching import lz4stream
from fletching.wire import content_coding

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "interop" / "lz4_stream"))

import native  # noqa: E402 - found by the path above

MIB = 1 << 20
Job = Callable[[], Any]


# --- corpora ---------------------------------------------------------------------------------


def text(length: int) -> bytes:
    """Words with the frequencies of prose, in lines."""
    chance = random.Random(1)
    words = [
        "".join(chance.choices("etaoinshrdlucmfw", k=chance.randrange(2, 10))) for _ in range(3000)
    ]
    weights = [1 / rank for rank in range(1, 3001)]
    out: list[str] = []
    size = 0
    while size < length:
        line = " ".join(chance.choices(words, weights, k=12))
        out.append(line)
        size += len(line) + 1
    return "\n".join(out).encode()[:length]


def json_lines(length: int) -> bytes:
    chance = random.Random(2)
    out: list[str] = []
    size = number = 0
    while size < length:
        record = {
            "id": number,
            "user": chance.randrange(5000),
            "event": chance.choice(["view", "click", "buy", "leave"]),
            "price": round(chance.random() * 100, 2),
            "tags": chance.sample(["new", "sale", "kids", "garden", "books"], 2),
        }
        out.append(json.dumps(record))
        size += len(out[-1]) + 1
        number += 1
    return "\n".join(out).encode()[:length]


def table(rows: int) -> pa.Table:
    """An event log: ids, times, measured values, a category, a sentence with numbers."""
    numbers = np.random.default_rng(3)
    return pa.table(
        {
            "id": np.arange(rows),
            "at": pa.array(
                1_700_000_000_000 + np.cumsum(numbers.integers(0, 50, rows)), pa.timestamp("ms")
            ),
            "value": np.round(numbers.normal(size=rows) * 100, 2),
            "kind": pa.array(
                np.array(["alpha", "beta", "gamma", "delta"])[numbers.integers(0, 4, rows)]
            ),
            "text": [
                f"user {n % 977} opened item {n * 7919 % 10_007} on page {n % 13}"
                for n in range(rows)
            ],
        }
    )


def batches_of(rows: int, per_batch: int) -> list[pa.RecordBatch]:
    return table(rows).to_batches(max_chunksize=per_batch)


def record_batches(length: int) -> bytes:
    sink = io.BytesIO()
    batches = batches_of(length // 90, 1000)
    with pa.ipc.new_stream(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue()[:length]


CORPORA: dict[str, Callable[[int], bytes]] = {
    "text": text,
    "JSON lines": json_lines,
    "record batches": record_batches,
    "random, repeated": lambda length: (random.Random(4).randbytes(1024) * (length // 1024 + 1))[
        :length
    ],
}


# --- measuring -------------------------------------------------------------------------------


def rounds_of(jobs: dict[str, Job], rounds: int) -> dict[str, list[float]]:
    """Seconds per round; one round more, first, to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds + 1):
        for name in list(jobs)[:: 1 if number % 2 else -1]:
            start = time.process_time()
            jobs[name]()
            if number:
                seconds[name].append(time.process_time() - start)
    return seconds


def spread(values: list[float]) -> str:
    return f"{(max(values) - min(values)) / statistics.median(values):.0%}"


def print_table(title: str, headings: list[str], rows: Iterable[list[str]]) -> None:
    print(f"\n### {title}\n")
    print("| " + " | ".join(headings) + " |")
    print("|" + "---|" * len(headings))
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


def drain(pieces: Iterable[bytes]) -> int:
    return sum(map(len, pieces))


# --- compression and decompression beside lz4.stream -------------------------------------------


def compression(theirs: Any, data: bytes, page: int, rounds: int) -> list[list[str]]:
    view = memoryview(data)

    def loop(module: Any) -> Callable[[], int]:
        def run() -> int:
            compress = module.LZ4StreamCompressor("double_buffer", page).compress
            return sum(len(compress(view[at : at + page])) for at in range(0, len(data), page))

        return run

    jobs: dict[str, Job] = {}
    if theirs:
        jobs["lz4.stream"] = loop(theirs)
    jobs["compress()"] = lambda: drain(lz4stream.compress(view, page_bytes=page))
    jobs["compress(), double buffer"] = lambda: drain(
        lz4stream.compress(view, page_bytes=page, strategy="double_buffer")
    )
    jobs["drop-in, double buffer"] = loop(lz4stream)
    seconds = rounds_of(jobs, rounds)
    sizes = {name: job() for name, job in jobs.items()}
    base = seconds.get("lz4.stream")
    return [
        [
            name,
            f"{len(data) / statistics.median(values) / 1e6:.0f}",
            spread(values),
            f"{statistics.median(b / v for b, v in zip(base, values, strict=True)):.2f}"
            if base
            else "",
            f"{len(data) / sizes[name]:.3f}",
            f"{sizes[name] / sizes['lz4.stream']:.4f}" if base else "",
        ]
        for name, values in seconds.items()
    ]


def best_loop(module: Any, stream: bytes, page: int) -> int:
    """lz4.stream's fastest use: a cursor over one view, sizes read by hand."""
    decompress = module.LZ4StreamDecompressor("double_buffer", page).decompress
    view = memoryview(stream)
    total = position = 0
    while position < len(view):
        start = position + 4
        position = start + int.from_bytes(view[position:start], "little")
        total += len(decompress(view[start:position]))
    return total


def documented_loop(module: Any, stream: bytes, page: int) -> int:
    """lz4.stream's documented use: each block is asked for from a copy of all that is left."""
    total = offset = 0
    with module.LZ4StreamDecompressor("double_buffer", page) as decompressor:
        while offset < len(stream):
            block = decompressor.get_block(stream[offset:])
            total += len(decompressor.decompress(block))
            offset += 4 + len(block)
    return total


def decompression(theirs: Any, data: bytes, page: int, rounds: int) -> list[list[str]]:
    stream = b"".join(lz4stream.compress(data, page_bytes=page, strategy="double_buffer"))
    cut = [stream[at : at + 65_536] for at in range(0, len(stream), 65_536)]
    jobs: dict[str, Job] = {}
    if theirs:
        jobs["lz4.stream, best loop"] = lambda: best_loop(theirs, stream, page)
    jobs["decompress()"] = lambda: drain(lz4stream.decompress(stream))
    jobs["decompress(), 64 KiB chunks"] = lambda: drain(lz4stream.decompress(cut))
    jobs["drop-in, best loop"] = lambda: best_loop(lz4stream, stream, page)
    seconds = rounds_of(jobs, rounds)
    assert all(job() == len(data) for job in jobs.values())
    base = seconds.get("lz4.stream, best loop")
    rows = []
    for name, values in seconds.items():
        median = statistics.median(values)
        ratio = (
            f"{statistics.median(b / v for b, v in zip(base, values, strict=True)):.2f}"
            if base
            else ""
        )
        rows.append([name, f"{len(data) / median / 1e6:.0f}", spread(values), ratio])
    return rows


def documented(theirs: Any, name: str, data: bytes) -> list[str]:
    """Once: this loop takes the square of the length."""
    stream = b"".join(lz4stream.compress(data, page_bytes=8192, strategy="double_buffer"))
    start = time.process_time()
    assert documented_loop(theirs, stream, 8192) == len(data)
    slow = time.process_time() - start
    fast = rounds_of({"ours": lambda: drain(lz4stream.decompress(stream))}, 5)["ours"]
    ours = statistics.median(fast)
    return [
        name,
        f"{len(data) / MIB:.0f} MiB",
        f"{len(data) / slow / 1e6:.1f}",
        f"{len(data) / ours / 1e6:.0f}",
        f"{slow / ours:.0f}",
    ]


# --- time per byte -----------------------------------------------------------------------------


def linearity(largest: int) -> Iterator[list[str]]:
    unit = text(1_000_000)
    for megabytes in (1, 10, 100, 1000):
        if megabytes > largest:
            return
        packed: list[bytes] = []
        repeats = max(1, 30 // megabytes)
        start = time.process_time()
        for _ in range(repeats):
            packed = list(lz4stream.compress((unit for _ in range(megabytes)), page_bytes=8192))
        compressed = (time.process_time() - start) / repeats
        start = time.process_time()
        for _ in range(repeats):
            assert drain(lz4stream.decompress(chunked(packed))) == megabytes * 1_000_000
        decompressed = (time.process_time() - start) / repeats
        yield [
            f"{megabytes:,} MB",
            f"{compressed / megabytes * 1e3:.2f}",
            f"{decompressed / megabytes * 1e3:.3f}",
        ]


def chunked(blocks: list[bytes]) -> Iterator[bytes]:
    """A megabyte or so at a time, as a file would be read."""
    for start in range(0, len(blocks), 256):
        yield b"".join(blocks[start : start + 256])


# --- batches -----------------------------------------------------------------------------------


def _written(batches: list[pa.RecordBatch], options: Any) -> list[bytes]:
    sink = io.BytesIO()
    messages: list[bytes] = []
    with pa.ipc.new_stream(sink, batches[0].schema, options=options) as writer:
        messages.append(sink.getvalue())
        for batch in batches:
            sink.seek(0)
            sink.truncate()
            writer.write_batch(batch)
            messages.append(sink.getvalue())
    return messages


def batch_rows(
    shape: str, columns: list[str] | None, total: int, rounds: int
) -> Iterator[list[str]]:
    rows = total // 90
    whole = table(rows)
    if columns:
        whole = whole.select(columns)
    for kib in (4, 8, 16, 32, 64):
        per_batch = max(1, kib * 1024 * rows // whole.nbytes)
        batches = whole.to_batches(max_chunksize=per_batch)
        plain = _written(batches, pa.ipc.IpcWriteOptions())
        length = sum(map(len, plain))

        def stream_per_batch(plain: list[bytes] = plain) -> list[bytes]:
            encoder = lz4stream.Encoder(end_mark=True)
            out = []
            for message in plain:
                out += encoder.encode(message)
                out += encoder.flush()
            return [*out, *encoder.finish()]

        def frame(plain: list[bytes] = plain) -> list[Any]:
            encoder = content_coding.Encoder(content_coding.ContentCoding.LZ4_FRAME)
            return [*(piece for m in plain for piece in encoder.encode(m)), *encoder.finish()]

        def frame_per_batch(plain: list[bytes] = plain) -> list[Any]:
            out: list[Any] = []
            for message in plain:
                encoder = content_coding.Encoder(content_coding.ContentCoding.LZ4_FRAME)
                out += [*encoder.encode(message), *encoder.finish()]
            return out

        def arrow(batches: list[pa.RecordBatch] = batches) -> list[bytes]:
            return _written(batches, pa.ipc.IpcWriteOptions(compression="lz4"))

        made = {
            "x-lz4-stream, flushed per batch": stream_per_batch,
            "x-lz4-frame, not flushed": frame,
            "x-lz4-frame, one per batch": frame_per_batch,
            "Arrow LZ4 buffers": arrow,
            "none: Arrow alone": lambda b=batches: _written(b, pa.ipc.IpcWriteOptions()),
        }
        coded = {name: make() for name, make in made.items()}
        readers: dict[str, Job] = {
            "x-lz4-stream, flushed per batch": lambda c=coded: drain(
                lz4stream.decompress(
                    [b"".join(c["x-lz4-stream, flushed per batch"])], end_mark=True
                )
            ),
            "x-lz4-frame, not flushed": lambda c=coded: unframe(c["x-lz4-frame, not flushed"]),
            "x-lz4-frame, one per batch": lambda c=coded: unframe(c["x-lz4-frame, one per batch"]),
            "Arrow LZ4 buffers": lambda c=coded: pa.ipc.open_stream(
                b"".join(c["Arrow LZ4 buffers"])
            ).read_all(),
            "none: Arrow alone": lambda c=coded: pa.ipc.open_stream(
                b"".join(c["none: Arrow alone"])
            ).read_all(),
        }
        writing = rounds_of(made, rounds)
        reading = rounds_of(readers, rounds)
        for name, pieces in coded.items():
            size = sum(map(len, pieces))
            yield [
                shape,
                f"{kib} KiB",
                name,
                f"{size / length:.3f}",
                f"{length / statistics.median(writing[name]) / 1e6:.0f}",
                f"{length / statistics.median(reading[name]) / 1e6:.0f}",
            ]


def unframe(pieces: list[Any]) -> int:
    decoder = content_coding.Decoder(content_coding.ContentCoding.LZ4_FRAME)
    decoder.feed(b"".join(pieces))
    total = sum(len(piece) for piece in decoder.events())
    decoder.finish()
    return total


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="once, little, to prove that it runs")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args(arguments)
    length = 200_000 if options.small else 8 * MIB
    rounds = 1 if options.small else options.rounds
    theirs = native.load()
    if theirs is None:
        print("lz4.stream is not built: run `make interop-lz4` for the comparison", file=sys.stderr)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}, "
        f"Python {platform.python_version()}, python-lz4 {lz4.__version__}, "
        f"liblz4 {lz4.library_version_string()}, pyarrow {pa.__version__}; "
        f"{length:,} bytes, {rounds} rounds"
    )
    for name, make in CORPORA.items():
        data = make(length)
        for page in (8192,) if options.small else (1024, 4096, 8192, 65_536):
            print_table(
                f"Compression: {name}, pages of {page} bytes",
                ["", "MB/s", "spread", "times lz4.stream", "ratio", "size / lz4.stream's"],
                compression(theirs, data, page, rounds),
            )
            print_table(
                f"Decompression: {name}, pages of {page} bytes",
                ["", "MB/s", "spread", "times lz4.stream's best loop"],
                decompression(theirs, data, page, rounds),
            )
    if theirs:
        large = length if options.small else 32 * MIB
        print_table(
            "Decompression beside lz4.stream's documented loop, pages of 8 KiB",
            ["", "length", "documented loop, MB/s", "decompress(), MB/s", "times"],
            (documented(theirs, name, CORPORA[name](large)) for name in ("text", "JSON lines")),
        )
    print_table(
        "Time per byte (text, pages of 8 KiB)",
        ["length", "compress, ms per MB", "decompress, ms per MB"],
        linearity(1 if options.small else 1000),
    )
    total = 200_000 if options.small else 4 * MIB
    shapes = {
        "event log": None,
        "numbers only": ["id", "at", "value"],
        "text only": ["kind", "text"],
    }
    print_table(
        "Streams of small record batches",
        ["columns", "batch", "coding", "size / plain", "write MB/s", "read MB/s"],
        (
            row
            for shape, columns in shapes.items()
            for row in batch_rows(shape, columns, total, rounds)
        ),
    )


if __name__ == "__main__":
    main()
