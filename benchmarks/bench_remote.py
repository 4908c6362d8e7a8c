"""What does it cost that a table's objects are in S3, and what do the cache and direct reads give?

Servers over the same rows: one with local objects, one over an S3 bucket, one over the same bucket with a
cache folder. Each is a process of its own, read over loopback in interleaved rounds; medians of the rounds,
throughput of the rows' own bytes, ratios in one run, and the CPU time of the server that was asked.

    python benchmarks/bench_remote.py --objects s3://bucket/prefix [--megabytes 256] [--rounds 5]

The bucket is reached as obstore's environment variables say (``AWS_ENDPOINT`` and so on).
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

import fletching
from benchmarks.processes import cpu_seconds

COLUMNS = 10
BATCH_ROWS = 28_000
SEGMENTS = 4
KEY = ("bench", "bench-secret")


@contextlib.contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple[str, int]]:
    """A server process; its URL and process id."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "keys").write_text(":".join(KEY))
    child = subprocess.Popen(
        [
            sys.executable, "-m", "fletching", "serve", "--port", "0", "--no-access-log",
            "--access-key-file", str(folder / "keys"), *options,
        ],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout is not None
    try:
        for line in child.stdout:
            if "http://" in line:
                yield "http://" + line.split("http://")[1].split(",")[0].split()[0], child.pid
                break
        else:
            raise RuntimeError("the server did not start")
    finally:
        child.terminate()
        child.wait(60)
        child.stdout.close()


def connect(url: str) -> fletching.Client:
    return fletching.connect(
        url, project="demo", access_id=KEY[0], access_key=KEY[1], direct="never"
    )


def fill(client: fletching.Client, megabytes: int) -> int:
    """Makes the table; returns the bytes of its rows."""
    rng = np.random.default_rng(1)
    batches = max(1, (megabytes << 20) // (SEGMENTS * BATCH_ROWS * COLUMNS * 8))
    size = 0
    table: fletching.Table | None = None
    for _ in range(SEGMENTS):
        made = [
            pa.record_batch(
                {f"c{n}": rng.random(BATCH_ROWS) for n in range(COLUMNS)},
            )
            for _ in range(batches)
        ]
        table = table or client.create_table("t", made[0].schema)
        table.append(pa.Table.from_batches(made))
        size += sum(batch.nbytes for batch in made)
    return size


def drained(table: fletching.Table, columns: list[str] | None, direct: str) -> int:
    scan = table.scan(columns).with_options(direct=direct)  # type: ignore[arg-type]  # one of two words
    return sum(batch.nbytes for batch in scan.to_batches())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", required=True, help="s3://bucket/prefix")
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="some of the ways that are compared")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as name, contextlib.ExitStack() as stack:
        run(Path(name), stack, options.objects, options.megabytes, options.rounds, options.only)


def run(
    folder: Path,
    stack: contextlib.ExitStack,
    objects: str,
    megabytes: int,
    rounds: int,
    only: list[str] | None = None,
) -> dict[str, float]:
    """Measures and prints; returns bytes a second by what was read."""
    objects = f"{objects}/{uuid.uuid4().hex[:12]}"
    local_url, local_pid = stack.enter_context(
        serving(folder / "local", str(folder / "local" / "data"))
    )
    s3 = [str(folder / "s3" / "data"), "--objects", objects]
    s3_url, s3_pid = stack.enter_context(serving(folder / "s3", *s3))
    cached_url, cached_pid = stack.enter_context(
        serving(folder / "cached", *s3, "--cache-dir", str(folder / "cache"))
    )
    clients = {
        name: stack.enter_context(connect(url))
        for name, url in (("local", local_url), ("s3", s3_url), ("cached", cached_url))
    }
    for name in ("local", "s3"):
        started = time.perf_counter()
        size = fill(clients[name], megabytes)
        print(f"written to {name}: {size / (time.perf_counter() - started) / 1e6:.0f} MB/s")
    three = ["c0", "c1", "c2"]
    tables = {name: client.table("t") for name, client in clients.items()}
    ways: dict[str, tuple[Callable[[], int], int]] = {
        "local": (lambda: drained(tables["local"], None, "never"), local_pid),
        "local, 3 of 10 columns": (lambda: drained(tables["local"], three, "never"), local_pid),
        "s3": (lambda: drained(tables["s3"], None, "never"), s3_pid),
        "s3, 3 of 10 columns": (lambda: drained(tables["s3"], three, "never"), s3_pid),
        "s3, direct": (lambda: drained(tables["s3"], None, "auto"), s3_pid),
        "s3, direct, 3 of 10 columns": (lambda: drained(tables["s3"], three, "auto"), s3_pid),
        "cached": (lambda: drained(tables["cached"], None, "never"), cached_pid),
        "cached, 3 of 10 columns": (lambda: drained(tables["cached"], three, "never"), cached_pid),
    }
    drained(tables["cached"], None, "never")  # fills the cache
    ways = {name: way for name, way in ways.items() if not only or name in only}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    cpu = dict.fromkeys(ways, 0.0)  # added up, since the kernel counts in steps of 10 ms
    total = dict.fromkeys(ways, 0)
    for number in range(rounds):
        for name in sorted(ways, reverse=bool(number % 2)):
            read, pid = ways[name]
            used = cpu_seconds(pid)
            started = time.perf_counter()
            count = read()
            taken[name].append(count / (time.perf_counter() - started))
            cpu[name] += cpu_seconds(pid) - used
            total[name] += count
    speed = {name: statistics.median(each) for name, each in taken.items()}
    print(f"{'':30} {'MB/s':>8} {'server CPU s/GB':>16}")
    for name, each in speed.items():
        print(f"{name:30} {each / 1e6:8.0f} {1e9 * cpu[name] / total[name]:16.3f}")
    for one, other in (
        ("cached", "local"),
        ("cached, 3 of 10 columns", "local, 3 of 10 columns"),
        ("s3, 3 of 10 columns", "s3"),
        ("s3, direct", "s3"),
        ("s3, direct, 3 of 10 columns", "s3, 3 of 10 columns"),
    ):
        if one in speed and other in speed:
            print(f"{one} / {other}: {speed[one] / speed[other]:.2f}")
    return speed


if __name__ == "__main__":
    main()
