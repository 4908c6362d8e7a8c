"""One server of a run, in a process of its own: ``python -m benchmarks.servers KIND JSON``.

Prints one line of JSON when it is ready and serves until its standard input closes.
"""

from __future__ import annotations

import http.server
import json
import mmap
import socket
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

SEND_BYTES = 4 << 20


def _ready(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)
    sys.stdin.read()


def serve_fletching(folder: str | None, settings: dict[str, Any] | None = None) -> None:
    import fletching

    keys = {"bench": "bench-secret"}
    with fletching.serve(folder, port=0, access_keys=keys, **(settings or {})) as server:
        _ready(url=server.url)


def serve_socket(path: str) -> None:
    """The floor of reading: sends a mapped file to whoever connects, after one byte from it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def send(peer: socket.socket) -> None:
        with peer, Path(path).open("rb") as file:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
            view = memoryview(mapped)
            while peer.recv(1):
                for start in range(0, len(view), SEND_BYTES):
                    peer.sendall(view[start : start + SEND_BYTES])

    def accept() -> None:
        while True:
            peer, _ = listener.accept()
            threading.Thread(target=send, args=(peer,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    _ready(port=listener.getsockname()[1], length=Path(path).stat().st_size)


def serve_flight(paths: list[str]) -> None:
    """Arrow Flight over the same mapped segments: DoGet sends them, DoPut takes and drops."""
    import pyarrow as pa
    from pyarrow import flight

    readers = [pa.ipc.open_file(pa.memory_map(path)) for path in paths]

    class Flight(flight.FlightServerBase):
        def do_get(self, _context: Any, ticket: Any) -> Any:
            columns = json.loads(ticket.ticket or b"null")
            if not readers:
                raise flight.FlightServerError("nothing to read")
            schema = readers[0].schema
            if columns is not None:
                schema = pa.schema([schema.field(name) for name in columns])

            def batches() -> Any:
                for reader in readers:
                    for number in range(reader.num_record_batches):
                        batch = reader.get_batch(number)
                        yield batch if columns is None else batch.select(columns)

            return flight.GeneratorStream(schema, batches())

        def do_put(self, _context: Any, _descriptor: Any, reader: Any, _writer: Any) -> None:
            for chunk in reader:
                del chunk

    server = Flight("grpc://127.0.0.1:0")
    _ready(port=server.port)
    server.shutdown()


def serve_files(folder: str) -> None:
    """Files over plain HTTP, by the standard library."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def copyfile(self, source: Any, outputfile: Any) -> None:
            outputfile.flush()
            self.connection.sendfile(source)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    _ready(port=server.server_port)


def serve_bucket(folder: str) -> None:
    """An S3 bucket over a folder."""
    from benchmarks.bucket import BucketServer

    server = BucketServer(Path(folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    _ready(url=server.url)


def serve_link(port: int, round_trip: float, bytes_per_second: float) -> None:
    """The way to a server on this host, made longer."""
    from benchmarks.link import Link

    link = Link(("127.0.0.1", port), round_trip=round_trip, bytes_per_second=bytes_per_second)
    _ready(url=f"http://127.0.0.1:{link.port}")


KINDS = {
    "bucket": serve_bucket,
    "link": serve_link,
    "fletching": serve_fletching,
    "socket": serve_socket,
    "flight": serve_flight,
    "files": serve_files,
}

if __name__ == "__main__":
    KINDS[sys.argv[1]](**json.loads(sys.argv[2]))
