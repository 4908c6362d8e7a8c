"""Load, slowness and stopping, with real sockets: what is cut, what is finished, what is refused."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pytest
from tests.server.conftest import (
    ACCESS_ID,
    SECRET,
    Query,
    RawClient,
    Start,
    read_all,
    read_reply,
    stream_of,
)
from tests.waiting import until

from fletching.server.server import Server

TABLE = pa.table({"a": pa.array(np.arange(200_000))})
BODY = stream_of(TABLE, batch_rows=10_000)


class SlowUpload:
    """A TableWrite whose body is sent in two parts; a context manager, as it holds a socket."""

    def __init__(self, client: RawClient, port: int, stream: str = "s") -> None:
        self.client = client
        self.where = client.open_stream(client.open_session(), stream=stream)
        query: Query = {
            "Action": "TableWrite",
            "Target": "projects.demo.schemas.default.tables.t",
            **self.where,
        }
        fields = {"Content-Type": "application/octet-stream"}
        self.head = client.head("POST", "/api/storage/v2", query, fields, len(BODY))
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=600)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def begin(self) -> None:
        self.socket.sendall(self.head + BODY[: len(BODY) // 2])

    def end(self) -> tuple[bytes, bytes]:
        self.socket.sendall(BODY[len(BODY) // 2 :])
        return read_reply(self.socket)


def filled(server: Server) -> RawClient:
    client = RawClient(server.url)
    client.create_table("t", TABLE.schema)
    return client


def begun(server: Server, uploads: int = 1) -> Any:
    return lambda: server.service.bodies.open == uploads


# --- stopping -------------------------------------------------------------------------------


def test_closing_finishes_the_upload_in_flight_and_then_ends_the_connection(start: Start) -> None:
    server = start()
    client = filled(server)
    with SlowUpload(client, server.port) as upload:
        upload.begin()
        until(begun(server))
        closing = threading.Thread(target=server.close)
        closing.start()
        until(lambda: server.service.draining)
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", server.port), timeout=600)
        head, _ = upload.end()
        assert head.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in head.lower()
        assert upload.socket.recv(1) == b""
        closing.join(600)
    again = RawClient(start().url)
    again.close_and_commit(upload.where)
    assert again.count() == TABLE.num_rows


def test_closing_finishes_the_reply_in_flight(start: Start) -> None:
    server = start(read_memory_bytes=1 << 20)
    client = filled(server)
    for _ in range(10):
        client.append(BODY)
    session = client.read_session()
    query: Query = {
        "Action": "TableRead",
        "Target": "projects.demo.schemas.default.tables.t",
        "SessionId": session["SessionId"],
        "Offset": 0,
        "Count": 10 * TABLE.num_rows,
    }
    fields = {"Content-Type": "application/json"}
    head = client.head("POST", "/api/storage/v2", query, fields, 2)
    with socket.socket() as connection:
        # A small window keeps most of the reply on the server's side.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(head + b"{}")
        received = connection.recv(4096)
        closing = threading.Thread(target=server.close)
        closing.start()
        until(lambda: server.service.draining)
        received += read_all(connection)
        closing.join(600)
    reply_head, _, body = received.partition(b"\r\n\r\n")
    assert b"content-length: %d" % len(body) in reply_head
    assert pa.ipc.open_stream(body).read_all().num_rows == 10 * TABLE.num_rows


def test_clients_that_keep_their_connections_see_no_error_over_a_stop(start: Start) -> None:
    """Pooled clients ask until they are told to stop; none is reset, every reply is whole."""
    server = start(drain_idle_seconds=0.3)
    client = filled(server)
    client.append(BODY)
    failures: list[BaseException] = []
    report = threading.Barrier(9, timeout=600)

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
        try:
            query: Query = {"Action": "TablePreview", "Target": "projects.demo.tables.t"}
            asked = 0
            while True:
                headers = client.sign("POST", "/api/storage/v2", query, {})
                connection.request("POST", client.target("/api/storage/v2", query), b"", headers)
                reply = connection.getresponse()
                assert reply.status == 200
                assert len(reply.read()) > 1000
                asked += 1
                if asked == 3:
                    report.wait()
                if reply.getheader("connection") == "close":
                    break
        except BaseException as exc:  # noqa: BLE001  whatever it is, it is a failure
            failures.append(exc)
        finally:
            connection.close()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    report.wait()
    server.close()
    for thread in threads:
        thread.join(600)
    assert not failures


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the last microseconds may reset")
def test_clients_that_connect_anew_are_answered_or_refused_but_never_reset(start: Start) -> None:
    outcomes: set[str] = set()

    def ask(port: int) -> None:
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=600) as connection:
                    connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
                    outcomes.add(connection.recv(15).decode())
            except ConnectionRefusedError:
                return
            except OSError as exc:
                outcomes.add(type(exc).__name__)
                return

    for _ in range(2):
        server = start()
        threads = [threading.Thread(target=ask, args=(server.port,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        until(lambda: outcomes)
        server.close()
        for thread in threads:
            thread.join(600)
    assert outcomes == {"HTTP/1.1 200 OK"}


def test_what_does_not_finish_in_time_is_cut(start: Start) -> None:
    server = start(drain_seconds=0.2)
    with SlowUpload(filled(server), server.port) as upload:
        upload.begin()
        until(begun(server))
        server.close()
    assert server.service.memory.held == 0
    client = RawClient(start().url)
    query: Query = {"SessionId": upload.where["SessionId"]}
    assert client.storage("TableGetWriteSession", query=query).json["Streams"] == {}
    assert client.count() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_the_process_and_it_exits_with_0(tmp_path: Path, number: int) -> None:
    script = (
        "import sys\n"
        "from fletching.server.server import Server\n"
        "from fletching.server.server_settings import ServerSettings\n"
        "settings = ServerSettings(port=0, drain_idle_seconds=0.05)\n"
        f"server = Server(sys.argv[1], {{{ACCESS_ID!r}: {SECRET!r}}}, settings)\n"
        "print(server.port, flush=True)\n"
        "server.run()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with (
        contextlib.ExitStack() as stack,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            client = RawClient(f"http://127.0.0.1:{port}")
            client.create_table("t", TABLE.schema)
            upload = stack.enter_context(SlowUpload(client, port))
            upload.begin()
            os.kill(process.pid, number)

            def refused() -> bool:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=600).close()
                except OSError:
                    return True
                return False

            until(refused)
            assert process.poll() is None
            head, _ = upload.end()
            assert head.startswith(b"HTTP/1.1 200")
            assert process.wait(600) == 0
        finally:
            process.kill()


# --- load -----------------------------------------------------------------------------------


def test_above_the_limit_of_uploads_429_says_when_to_retry(start: Start) -> None:
    server = start(max_bodies=1, retry_after_seconds=3.0)
    client = filled(server)
    with SlowUpload(client, server.port) as first:
        first.begin()
        until(begun(server))
        where = client.open_stream(client.open_session(), stream="other")
        reply = client.storage("TableWrite", query=where, body=BODY)
        assert (reply.status, reply.json["Code"]) == (429, "FlowExceeded")
        assert reply.headers["retry-after"] == "3"
        assert first.end()[0].startswith(b"HTTP/1.1 200")
    assert client.storage("TableWrite", query=where, body=BODY).status == 200


def test_uploads_wait_for_memory_and_all_of_them_arrive(start: Start) -> None:
    server = start(ingest_memory_bytes=2 << 20)
    client = filled(server)
    large = stream_of(pa.table({"a": np.arange(1_000_000)}))
    failures: list[Any] = []

    def upload(number: int) -> None:
        where = client.open_stream(client.open_session(), stream=f"s{number}")
        reply = client.storage("TableWrite", query=where, body=large)
        if reply.status != 200:
            failures.append(reply)
        client.close_and_commit(where)

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
    assert not failures
    assert client.count() == 6_000_000
    assert server.service.memory.held == 0
    # Each message is larger than the budget, so they went in one at a time.
    assert server.service.memory.peak < 9 << 20


def test_a_stuck_upload_gets_408_and_frees_its_place(start: Start) -> None:
    server = start(body_idle_seconds=0.2)
    client = filled(server)
    with SlowUpload(client, server.port) as upload:
        upload.begin()
        head, body = read_reply(upload.socket)
    assert head.startswith(b"HTTP/1.1 408")
    assert b'"RequestId"' in body
    until(begun(server, 0))
    assert server.service.memory.held == 0
    assert client.count() == 0


def test_a_trickle_is_not_progress(start: Start) -> None:
    server = start(body_idle_seconds=0.3, body_progress_bytes=1000)
    upload = SlowUpload(filled(server), server.port)
    upload.begin()
    stop = threading.Event()

    def trickle() -> None:
        for byte in BODY[len(BODY) // 2 :]:
            if stop.wait(0.01):
                return
            try:
                upload.socket.sendall(bytes((byte,)))
            except OSError:
                return

    sender = threading.Thread(target=trickle)
    sender.start()
    with upload:
        assert read_reply(upload.socket)[0].startswith(b"HTTP/1.1 408")
        stop.set()
        sender.join()


def test_an_address_in_use_and_a_wrong_certificate_are_sentences(
    start: Start, tmp_path: Path
) -> None:
    from fletching.errors import TransportError, UsageError

    server = start()
    with pytest.raises(TransportError, match="another process listens there"):
        start(port=server.port)
    with pytest.raises(UsageError, match="certificate"):
        start(tls_certificate=str(tmp_path / "none.pem"))
    with pytest.raises(TransportError, match="cannot listen"):
        start(host="no-such-host.invalid")
