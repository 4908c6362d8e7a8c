"""How much memory do server and client take while one very large blob goes in and out?

A server process of its own, a sparse file put by path and by pieces, and read back as a stream of
pieces and by ranges, over loopback. Reports peaks of all resident memory above idle, mapped pages
of the page cache included, of both processes, and the throughput meanwhile.

    python benchmarks/bench_blob_memory.py --gibibytes 5
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import blobs

LIMIT_BYTES = 200_000_000
PIECE_BYTES = 1 << 20


def resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


class Watch:
    """Samples the memory of processes until it is told to stop."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self._stop = threading.Event()
        self.idle = {name: resident(pid) for name, pid in pids.items()}
        self.peak = dict(self.idle)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            for name, pid in self._pids.items():
                self.peak[name] = max(self.peak[name], resident(pid))

    def stop(self) -> dict[str, int]:
        self._stop.set()
        self._thread.join()
        return {name: self.peak[name] - self.idle[name] for name in self.peak}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gibibytes", type=float, default=5)
    parser.add_argument("--folder", help="where the data goes; needs as much room twice")
    options = parser.parse_args()
    length = int(options.gibibytes * (1 << 30))
    report: dict[str, Any] = {"bytes": length}
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        sparse = folder / "sparse.bin"
        with sparse.open("wb") as file:
            file.truncate(length)
        with blobs.open_blobs(folder) as (ours, client, table):
            # Imports and first allocations belong to idle.
            with table.write_session() as session:
                client.get_blob(session.put_blob(bytes(4 << 20), "image"))
            references: list[str] = []

            def put() -> None:
                with table.write_session() as session:
                    references.append(session.put_blob(sparse, "image"))

            def put_pieces() -> None:
                with table.write_session() as session, session.blob_writer("image") as writer:
                    piece = bytes(PIECE_BYTES)
                    for _ in range(length // PIECE_BYTES):
                        writer.write(piece)

            def read_stream() -> None:
                total = 0
                room = bytearray(PIECE_BYTES)
                with client.blob_reader(references[:1]) as reader:
                    while count := reader.readinto(room):
                        total += count
                assert total == length

            def read_ranges() -> None:
                total = 0
                with client.open_blob(references[0], buffer_bytes=4 << 20) as file:
                    room = bytearray(4 << 20)
                    while count := file.readinto(room):
                        total += count
                assert total == length

            steps: dict[str, Callable[[], None]] = {
                "put_blob of a file": put,
                "BlobStreamWriter": put_pieces,
                "BlobStreamReader": read_stream,
                "open_blob, by ranges": read_ranges,
            }
            pids = {"server": ours.pid, "client": os.getpid()}
            worst = 0
            for step, work in steps.items():
                watch = Watch(pids)
                started = time.perf_counter()
                work()
                seconds = time.perf_counter() - started
                grown = watch.stop()
                worst = max(worst, *grown.values())
                report[step] = {"GB/s": round(length / seconds / 1e9, 3), **grown}
                print(
                    f"{step:22} {length / seconds / 1e9:6.2f} GB/s"
                    f"   server +{grown['server'] / 1e6:4.0f} MB"
                    f"   client +{grown['client'] / 1e6:4.0f} MB",
                    flush=True,
                )
    report["limit"] = LIMIT_BYTES
    report["worst"] = worst
    print(json.dumps(report))
    return 0 if worst < LIMIT_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
