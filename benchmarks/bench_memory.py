"""How much memory does the server take while a large table is written and read through it?

A server process of its own, one upload stream and one reader over loopback, 64 MB batches. Reports
peaks above idle: anonymous memory (what the process itself holds) and all resident memory (which
also counts pages of the page cache that are mapped at the moment), and the throughput meanwhile.

    python benchmarks/bench_memory.py --gigabytes 4 --batch-megabytes 64
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlsplit

import numpy as np
import pyarrow as pa

from fletching.ipc import lowlevel
from fletching.protocol.codec import (
    HttpRequest,
    decode_response,
    encode_admin_request,
    encode_request,
    is_admin_request,
)
from fletching.protocol.http.signing import sign
from fletching.protocol.messages.admin import CreateTable
from fletching.protocol.messages.requests import (
    CloseWriteStream,
    CommitWriteSession,
    CreateReadSession,
    CreateWriteSession,
    CreateWriteStream,
    ReadTable,
    Request,
    SplitOptions,
    WriteTable,
)
from fletching.protocol.messages.vocabulary import ApiVersion, SplitMode
from fletching.types import TableName

ACCESS_ID, SECRET = "bench", "bench-secret"
LIMIT_BYTES = 500_000_000
TABLE = TableName("demo", "bench")
SCHEMA = pa.schema([("id", pa.int64()), ("value", pa.float64())])

SERVER = f"""
import sys
from fletching.server.server import Server
from fletching.server.server_settings import ServerSettings
server = Server(sys.argv[1], {{{ACCESS_ID!r}: {SECRET!r}}}, ServerSettings(port=0, access_log=False))
print(server.url, flush=True)
server.run()
"""


class Watch:
    """Samples a process's memory until it is told to stop."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self._stop = threading.Event()
        self.peak = self.now()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def now(self) -> dict[str, int]:
        fields = dict(line.split(":", 1) for line in self._status.read_text().splitlines())
        return {
            name: int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "RssAnon", "RssFile")
        }

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            now = self.now()
            self.peak = {name: max(self.peak[name], value) for name, value in now.items()}

    def stop(self) -> dict[str, int]:
        self._stop.set()
        self._thread.join()
        return self.peak


class Client:
    """Signed requests over one plain connection each."""

    def __init__(self, url: str) -> None:
        self._netloc = urlsplit(url).netloc

    def send(self, request: Request, body: Iterator[Any] | None = None, length: int = 0) -> Any:
        parts: HttpRequest = (
            encode_admin_request(request)
            if is_admin_request(request)
            else encode_request(request, ApiVersion.V3)
        )
        query = "&".join(f"{name}={quote_plus(value)}" for name, value in parts.query)
        target = f"{parts.path}?{query}" if query else parts.path
        headers = {"date": formatdate(usegmt=True), **parts.headers}
        headers["authorization"] = sign(
            parts.method, target, headers, access_id=ACCESS_ID, secret=SECRET
        )
        connection = http.client.HTTPConnection(self._netloc, timeout=60)
        connection.putrequest(parts.method, target, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        # One request each, so that the connection ends with its reply.
        connection.putheader("connection", "close")
        connection.putheader("content-length", str(length if body else len(parts.body)))
        connection.endheaders(parts.body if body is None else None)
        for piece in body or ():
            connection.sock.sendall(piece)
        reply = connection.getresponse()
        if reply.status != 200:
            raise SystemExit(f"{type(request).__name__}: {reply.status} {reply.read()[:500]!r}")
        return reply

    def ask(self, request: Request) -> Any:
        reply = self.send(request)
        return decode_response(request, reply.getheaders(), reply.read())


def write(client: Client, batches: int, rows: int) -> int:
    session = client.ask(CreateWriteSession(table=TABLE)).session_id
    where = {"table": TABLE, "session_id": session, "stream_id": "s", "stream_version": 1}
    client.ask(CreateWriteStream(**where))
    batch = pa.record_batch([np.arange(rows), np.random.default_rng(1).random(rows)], schema=SCHEMA)
    head = [bytes(piece) for piece in [lowlevel.encode_schema(SCHEMA)]]
    message = list(lowlevel.encode_batch(batch))
    size = sum(memoryview(piece).nbytes for piece in message)
    total = sum(map(len, head)) + batches * size + len(lowlevel.END_OF_STREAM)

    def body() -> Iterator[Any]:
        yield from head
        for _ in range(batches):
            yield from message
        yield lowlevel.END_OF_STREAM

    client.send(WriteTable(**where, count=batches * rows), body(), total).read()
    client.ask(CloseWriteStream(**where))
    client.ask(CommitWriteSession(table=TABLE, session_id=session))
    return total


def read(client: Client) -> int:
    options = SplitOptions(split_mode=SplitMode.SIZE, split_number=1 << 50)
    session = client.ask(CreateReadSession(table=TABLE, split_options=options))
    reply = client.send(ReadTable(table=TABLE, session_id=session.session_id, index=0))
    buffer = bytearray(4 << 20)
    total = 0
    while count := reply.readinto(buffer):
        total += count
    return total


def measure(gigabytes: float, batch_megabytes: float, folder: Path) -> dict[str, Any]:
    rows = int(batch_megabytes * 1e6) // 16
    batches = max(1, round(gigabytes * 1e9 / (rows * 16)))
    command = [sys.executable, "-c", SERVER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            client = Client(process.stdout.readline().strip())
            schema_message = b"".join(bytes(piece) for piece in [lowlevel.encode_schema(SCHEMA)])
            client.send(CreateTable(table=TABLE, arrow_schema=schema_message)).read()
            idle_watch = Watch(process.pid)
            idle = idle_watch.now()
            idle_watch.stop()
            result: dict[str, Any] = {
                "bytes": 0,
                "batches": batches,
                "idle": idle,
                "cpus": os.cpu_count(),
                "python": platform.python_version(),
                "kernel": platform.release(),
                "pyarrow": pa.__version__,
            }
            works: list[tuple[str, Callable[[], int]]] = [
                ("write", lambda: write(client, batches, rows)),
                ("read", lambda: read(client)),
            ]
            for name, work in works:
                watch = Watch(process.pid)
                start = time.perf_counter()
                result["bytes"] = work()
                seconds = time.perf_counter() - start
                peak = watch.stop()
                result[name] = {
                    "seconds": round(seconds, 2),
                    "bytes_per_second": round(result["bytes"] / seconds),
                    **{f"{key}_above_idle": peak[key] - idle[key] for key in peak},
                }
        finally:
            process.terminate()
            process.wait(20)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--batch-megabytes", type=float, default=64.0)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fletching-bench-") as folder:
        result = measure(options.gigabytes, options.batch_megabytes, Path(folder))
    if options.json:
        print(json.dumps(result))
    else:
        size = result["bytes"] / 1e9
        print(
            f"{size:.2f} GB in {result['batches']} batches; idle {result['idle']['VmRSS'] / 1e6:.0f} MB"
        )
        for name in ("write", "read"):
            part = result[name]
            print(
                f"{name:5}  {part['bytes_per_second'] / 1e9:5.2f} GB/s   above idle:"
                f" anonymous {part['RssAnon_above_idle'] / 1e6:6.0f} MB,"
                f" all resident {part['VmRSS_above_idle'] / 1e6:6.0f} MB"
            )
    worst = max(result[name]["VmRSS_above_idle"] for name in ("write", "read"))
    if worst >= LIMIT_BYTES:
        raise SystemExit(f"{worst / 1e6:.0f} MB above idle: over {LIMIT_BYTES / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
