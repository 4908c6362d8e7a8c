"""64 writers and 64 readers at once: errors, lost rows, memory.

``python benchmarks/bench_concurrency.py --seconds 60``. Half of the writers append in sessions of
their own, half in exactly-once streams; readers scan one column of whatever is there. Afterwards
every row that was acknowledged must be there exactly once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

import fletching

SERVER = """
import sys, fletching
with fletching.serve(sys.argv[1], port=0, access_keys={"bench": "secret"}) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""
ROWS = 1000
SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string())])


def batch(writer: int, step: int) -> pa.RecordBatch:
    first = (writer << 32) + step * ROWS
    ids = np.arange(first, first + ROWS)
    return pa.record_batch([pa.array(ids), pa.array([f"{n:064d}" for n in ids])], schema=SCHEMA)


def status(pid: int) -> dict[str, int]:
    found = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in {"VmHWM", "RssAnon", "Threads"}:
            found[name] = int(value.split()[0])
    return found


def run(seconds: float, writers: int, readers: int, folder: Path) -> dict[str, object]:
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    url = server.stdout.readline().strip()

    def connect() -> fletching.Client:
        return fletching.connect(url, project="demo", access_id="bench", access_key="secret")

    table = connect().create_table("t", SCHEMA)
    idle = status(server.pid)["RssAnon"]
    failures: list[str] = []
    steps = [0] * writers
    waits: dict[str, list[float]] = {"append": [], "stream": [], "scan": []}
    scanned = [0] * readers
    end = time.monotonic() + seconds

    def timed(kind: str, work) -> object:
        start = time.monotonic()
        result = work()
        waits[kind].append(time.monotonic() - start)
        return result

    def guarded(work, number: int) -> threading.Thread:
        def body() -> None:
            try:
                work(number)
            except BaseException as error:
                failures.append(f"{work.__name__}{number}: {type(error).__name__}: {error}")

        return threading.Thread(target=body)

    def append(number: int) -> None:
        mine = connect().table("t")
        while time.monotonic() < end:
            timed("append", lambda: mine.append(batch(number, steps[number])))
            steps[number] += 1

    def stream(number: int) -> None:
        mine = connect().table("t")
        with mine.stream_writer(f"w{number}", exactly_once=True) as writer:
            while time.monotonic() < end:

                def send() -> None:
                    writer.write(batch(number, steps[number]))
                    writer.flush()

                timed("stream", send)
                steps[number] += 1

    def read(number: int) -> None:
        mine = connect().table("t")
        while time.monotonic() < end:
            ids = timed("scan", lambda: mine.scan(columns=["id"]).to_table())["id"].to_numpy()
            if len(np.unique(ids)) != len(ids):
                raise AssertionError("a row was there twice")
            if len(ids) % ROWS:
                raise AssertionError("a part of a write was there")
            scanned[number] += len(ids)

    threads = [guarded(append if n % 2 else stream, n) for n in range(writers)]
    threads += [guarded(read, n) for n in range(readers)]
    for thread in threads:
        thread.start()
    peak = 0
    while any(thread.is_alive() for thread in threads):
        peak = max(peak, status(server.pid)["RssAnon"])
        time.sleep(0.2)
    ids = table.scan(columns=["id"]).to_table()["id"].to_numpy()
    expected = np.concatenate(
        [np.arange(n << 32, (n << 32) + steps[n] * ROWS) for n in range(writers)]
    )
    lost = len(np.setdiff1d(expected, ids))
    extra = len(ids) - len(np.intersect1d(expected, ids))
    server.stdin.close()
    code = server.wait(timeout=120)
    return {
        "writers": writers,
        "readers": readers,
        "seconds": seconds,
        "errors": failures[:10],
        "rows written": len(expected),
        "rows lost": lost,
        "rows that should not be": extra,
        "rows scanned": sum(scanned),
        "server exit": code,
        "server memory idle MB": round(idle / 1024, 1),
        "server memory peak MB": round(peak / 1024, 1),
        **{
            f"{kind} seconds": {
                "count": len(values),
                "median": round(statistics.median(values), 3),
                "p99": round(float(np.quantile(values, 0.99)), 3),
            }
            for kind, values in waits.items()
            if values
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--writers", type=int, default=64)
    parser.add_argument("--readers", type=int, default=64)
    parser.add_argument("--folder", type=Path, help="a folder on the disk to measure")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = run(options.seconds, options.writers, options.readers, Path(folder))
    print(json.dumps(found, indent=2))
    bad = found["errors"] or found["rows lost"] or found["rows that should not be"]
    return 1 if bad or found["server exit"] else 0


if __name__ == "__main__":
    sys.exit(main())
