"""Servers on free loopback ports, and plain sockets to misbehave with."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import hmac
import http.client
import json
import socket
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote_plus, unquote, urlsplit

import pyarrow as pa
import pytest
from tests.server.asgi_applications import answer_with_asgi
from tests.server.asgi_exchanges import Application

from fletching.engine.access.permissions import Grant, Permission
from fletching.ipc import lowlevel
from fletching.server.http.exchange import Exchange
from fletching.server.http.uvicorn_runner import Runner
from fletching.server.server import Server
from fletching.server.server_settings import ServerSettings
from fletching.server.serving import serve


class RunningApp:
    """Any ASGI application behind our connections, in a thread."""

    def __init__(self, app: Application, settings: ServerSettings) -> None:
        # The runner asks what it serves for nothing but this.
        service = types.SimpleNamespace(settings=settings, draining=False)

        async def answer(exchange: Exchange) -> None:
            await answer_with_asgi(exchange, app)

        self.server = Runner(cast("Any", service), answer)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )

    def start(self) -> None:
        self._thread.start()
        assert self.server.ready.wait(600)

    def begin_stop(self) -> None:
        self.server.stop()

    def stop(self) -> None:
        self.server.stop()
        self._thread.join(600)
        assert not self._thread.is_alive()
        self._socket.close()

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=600)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


Run = Callable[..., RunningApp]


@pytest.fixture
def run_app() -> Iterator[Run]:
    """Starts an ASGI application; stopped at the end of the test."""
    with contextlib.ExitStack() as stack:

        def run(app: Application, **settings: Any) -> RunningApp:
            settings.setdefault("drain_idle_seconds", 0.05)
            running = RunningApp(app, ServerSettings(**settings))
            running.start()
            stack.callback(running.stop)
            return running

        yield run


def read_all(connection: socket.socket) -> bytes:
    """Everything until the peer ends; a reset is an error."""
    parts = []
    while part := connection.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def read_reply(connection: socket.socket) -> tuple[bytes, bytes]:
    """One reply with a Content-Length: head and body."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(1 << 16)
        assert part, f"the connection ended inside a head: {data!r}"
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    )
    while len(body) < length:
        part = connection.recv(1 << 16)
        assert part, "the connection ended inside a body"
        body += part
    assert len(body) == length
    return head, body


ACCESS_ID, SECRET = "test-id", "test-secret"


@dataclasses.dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value


Query = dict[str, str | int]


class RawClient:
    """Requests as the protocol has them, signed here once more: the server's peer in these tests."""

    def __init__(self, url: str, access_id: str = ACCESS_ID, secret: str = SECRET) -> None:
        self.netloc = urlsplit(url).netloc
        self.access_id = access_id
        self.secret = secret

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.netloc, timeout=600)

    def sign(self, method: str, path: str, query: Query, headers: dict[str, str]) -> dict[str, str]:
        signed = {"Date": formatdate(usegmt=True), **headers}
        lowered = {name.lower(): value for name, value in signed.items()}
        names = {"content-md5", "content-type", "date"}
        names |= {name for name in lowered if name.startswith("x-odps-")}
        lines = [method]
        for name in sorted(names):
            value = lowered.get(name, "")
            lines.append(f"{name}:{value}" if name.startswith("x-odps-") else value)
        pairs = "&".join(
            f"{name}={value}" if value != "" else name for name, value in sorted(query.items())
        )
        resource = unquote(path)
        lines.append(f"{resource}?{pairs}" if pairs else resource)
        digest = hmac.new(self.secret.encode(), "\n".join(lines).encode(), hashlib.sha1).digest()
        signature = base64.b64encode(digest).decode()
        return {**signed, "Authorization": f"ODPS {self.access_id}:{signature}"}

    def head(
        self, method: str, path: str, query: Query, headers: dict[str, str], length: int | None
    ) -> bytes:
        """The bytes of a signed request's head."""
        fields = self.sign(method, path, query, headers)
        fields["Host"] = self.netloc
        if length is None:
            fields["Transfer-Encoding"] = "chunked"
        else:
            fields["Content-Length"] = str(length)
        lines = [f"{method} {self.target(path, query)} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    @staticmethod
    def target(path: str, query: Query) -> str:
        pairs = "&".join(f"{name}={quote_plus(str(value))}" for name, value in query.items())
        return f"{path}?{pairs}" if pairs else path

    def request(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: bytes | Iterable[bytes] | None = None,
        headers: dict[str, str] | None = None,
        *,
        signed: bool = True,
    ) -> Reply:
        query = query or {}
        headers = dict(headers or {})
        if signed:
            headers = self.sign(method, path, query, headers)
        connection = self.connect()
        try:
            connection.request(
                method,
                self.target(path, query),
                body=cast("Any", body),
                headers=headers,
                encode_chunked=not isinstance(body, bytes | None),
            )
            reply = connection.getresponse()
            fields = {name.lower(): value for name, value in reply.getheaders()}
            return Reply(reply.status, fields, reply.read())
        finally:
            connection.close()

    def storage(
        self,
        action: str,
        table: str = "t",
        query: Query | None = None,
        body: dict[str, Any] | bytes | Iterable[bytes] | None = None,
        headers: dict[str, str] | None = None,
        *,
        path: str = "/api/storage/v2",
        target: str | None = None,
    ) -> Reply:
        full: Query = {
            "Action": action,
            "Target": target or f"projects.demo.schemas.default.tables.{table}",
            **(query or {}),
        }
        fields = {"Content-Type": "application/octet-stream", **(headers or {})}
        if body is None or isinstance(body, dict):
            fields["Content-Type"] = "application/json; charset=utf-8"
            body = json.dumps(body or {}).encode()
        return self.request("POST", path, full, body, fields)

    def admin(self, method: str, path: str, query: Query | None = None, body: Any = None) -> Reply:
        data = b"" if body is None else json.dumps(body).encode()
        return self.request(
            method,
            f"/fletching/v1/projects/demo/schemas/default/tables{path}",
            query,
            data,
            {"Content-Type": "application/json"},
        )

    # --- the usual sequences

    def create_table(
        self, name: str, schema: pa.Schema, partition_columns: Iterable[str] = ()
    ) -> None:
        message = b"".join(bytes(part) for part in [lowlevel.encode_schema(schema)])
        body = {
            "name": name,
            "arrow_schema": base64.b64encode(message).decode(),
            "partition_columns": [[column, "string"] for column in partition_columns],
        }
        reply = self.admin("POST", "", body=body)
        assert reply.status == 200, reply.body

    def open_session(self, table: str = "t", partition: str = "", **flags: str) -> str:
        body = {"PartialPartitionSpec": partition, "Flags": flags}
        reply = self.storage("TableCreateWriteSession", table, body=body)
        assert reply.status == 200, reply.body
        return str(reply.json["SessionId"])

    def open_stream(self, session: str, table: str = "t", stream: str = "s") -> Query:
        reply = self.storage(
            "TableCreateWriteStream",
            table,
            {"SessionId": session},
            {"StreamId": stream, "StreamVersion": 1},
        )
        assert reply.status == 200, reply.body
        return {"SessionId": session, "StreamId": stream, "StreamVersion": 1}

    def close_and_commit(self, where: Query, table: str = "t") -> None:
        reply = self.storage(
            "TableCloseWriteStream", table, {"SessionId": where["SessionId"]}, dict(where)
        )
        assert reply.status == 200, reply.body
        reply = self.storage("TableCommitWriteSession", table, {"SessionId": where["SessionId"]})
        assert reply.status == 200, reply.body

    def append(self, data: bytes, table: str = "t", partition: str = "") -> None:
        where = self.open_stream(self.open_session(table, partition), table)
        reply = self.storage("TableWrite", table, where, data)
        assert reply.status == 200, reply.body
        self.close_and_commit(where, table)

    def read_session(self, table: str = "t", **options: Any) -> dict[str, Any]:
        body = {"SplitOptions": {"SplitMode": "RowOffset", "SplitNumber": 1 << 40}, **options}
        reply = self.storage("TableCreateReadSession", table, body=body)
        assert reply.status == 200, reply.body
        return reply.json

    def read(
        self,
        table: str = "t",
        query: Query | None = None,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> Reply:
        session = self.read_session(table, **options)
        where: Query = {"SessionId": session["SessionId"], "Offset": 0}
        where["Count"] = session["RecordCount"]
        return self.storage("TableRead", table, {**where, **(query or {})}, body, headers)

    def count(self, table: str = "t") -> int:
        return int(self.read_session(table)["RecordCount"])


def stream_of(table: pa.Table, *, codec: str | None = None, batch_rows: int | None = None) -> bytes:
    """A table as an Arrow stream."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=batch_rows)
    return sink.getvalue().to_pybytes()


Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts services over the test's folder; stopped at the end of the test."""
    with contextlib.ExitStack() as stack:

        def run(**settings: Any) -> Server:
            settings.setdefault("drain_idle_seconds", 0.05)
            settings.setdefault("access_keys", {ACCESS_ID: SECRET})
            return stack.enter_context(serve(tmp_path / "data", **settings))

        yield run


@pytest.fixture
def client(start: Start) -> RawClient:
    """A client of a service with default settings."""
    return RawClient(start().url)


@pytest.fixture
def granted(server: Server) -> Callable[..., RawClient]:
    """Makes keys with grants, each ``project table permission``."""
    numbers = iter(range(100))

    def make(*grants: tuple[str, str, str], **options: Any) -> RawClient:
        keys = server.service.engine.access_keys
        key = keys.create(access_id=f"key{next(numbers)}", **options)
        for project, table, permission in grants:
            keys.grant(Grant(key.access_id, project, table, Permission(permission)))
        return RawClient(server.url, key.access_id, key.secret)

    return make
