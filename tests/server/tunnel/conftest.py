"""A served folder, PyODPS in front of it, and a client that speaks the tunnel by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.server.conftest import ACCESS_ID, SECRET, Query, RawClient, Reply

import fletching
from fletching.protocol.http.tunnel_bodies import RecordBodyEncoder
from fletching.protocol.types.odps_types import parse_type
from fletching.wire.tunnel_record_decoder import RecordDecoder
from fletching.wire.tunnel_records import Kind, RecordLayout

ID_AND_TEXT = pa.schema([pa.field("id", pa.int64(), nullable=False), ("text", pa.string())])
LAYOUTS = [RecordLayout(Kind.INTEGER, pa.int64()), RecordLayout(Kind.BYTES, pa.binary())]
UPSERT = ["bigint", "string", "bigint", "bigint", "tinyint", "array<bigint>", "array<bigint>"]
Row = tuple[int | None, str | None]


def records(rows: Sequence[Row]) -> bytes:
    """A record stream of rows of a number and a text."""
    arrays = [pa.array([row[0] for row in rows], pa.int64()), pa.array([row[1] for row in rows])]
    return _stream(["bigint", "string"], [arrays[0], arrays[1].cast(pa.string())])


def upserts(rows: list[tuple[int | None, str | None, int]]) -> bytes:
    """Likewise with an operation each, as an upsert has it."""
    count = len(rows)
    bigints = pa.list_(pa.int64())
    return _stream(
        UPSERT,
        [
            pa.array([row[0] for row in rows], pa.int64()),
            pa.array([row[1] for row in rows], pa.string()),
            pa.nulls(count, pa.int64()),
            pa.nulls(count, pa.int64()),
            pa.array([row[2] for row in rows], pa.int8()),
            pa.nulls(count, bigints),
            pa.array([[]] * count, bigints),
        ],
    )


def _stream(types: list[str], arrays: list[Any]) -> bytes:
    encoder = RecordBodyEncoder([parse_type(text) for text in types])
    batch = pa.RecordBatch.from_arrays(arrays, names=[f"c{n}" for n in range(len(arrays))])
    return bytes(encoder.encode(batch)) + encoder.finish()


def rows_of(data: bytes) -> list[Row]:
    """The rows of a record stream of a number and a text."""
    decoder = RecordDecoder(LAYOUTS)
    decoder.feed(data)
    decoder.finish()
    result: list[Row] = []
    for numbers, texts in decoder.batches():
        decoded = [None if text is None else text.decode() for text in texts.to_pylist()]
        result += zip(numbers.to_pylist(), decoded, strict=True)
    return result


@dataclasses.dataclass
class Tunnel:
    """One table's tunnel, by hand. Every reply is checked to be no redirect."""

    client: RawClient
    path: str

    def send(
        self,
        method: str,
        query: Query,
        body: bytes = b"",
        *,
        part: str = "",
        headers: dict[str, str] | None = None,
    ) -> Reply:
        reply = self.client.request(method, self.path + part, query, body, headers)
        assert not 300 <= reply.status < 400
        assert reply.headers["x-odps-request-id"]
        return reply

    def done(self, method: str, query: Query, body: bytes = b"", **options: Any) -> Any:
        reply = self.send(method, query, body, **options)
        assert reply.status == 200, reply.body
        return reply.json if reply.body else None

    def open(self, **options: str | int) -> str:
        return str(self.done("POST", {"uploads": 1, "reload": "False", **options})["UploadID"])

    def block(self, session: str, number: int, rows: Sequence[Row]) -> None:
        self.done("PUT", {"uploadid": session, "blockid": number}, records(rows))

    def blocks(self, session: str) -> list[int]:
        result = self.done("GET", {"uploadid": session, "reload": "True"})
        return [block["BlockID"] for block in result["UploadedBlockList"]]

    def commit(self, session: str) -> str:
        return str(self.done("POST", {"uploadid": session})["Status"])

    def download(self, **options: str | int) -> Any:
        return self.done("POST", {"downloads": "", "asyncmode": "true", **options})

    def data(self, session: str, start: int, count: int, **options: str | int) -> Reply:
        query: Query = {"data": "", "downloadid": session, "rowrange": f"({start},{count})"}
        return self.send("GET", {**query, **options})

    def rows(self, **options: str | int) -> list[Row]:
        session = self.download(**options)
        reply = self.data(session["DownloadID"], 0, session["RecordCount"])
        assert reply.status == 200, reply.body
        return rows_of(reply.body)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder: Path = tmp_path_factory.mktemp("tunnel")
    with fletching.serve(folder, access_keys={ACCESS_ID: SECRET}, access_log=False) as running:
        yield running


@pytest.fixture(scope="module")
def odps(server: Any) -> Any:
    module = pytest.importorskip("odps")
    return module.ODPS(ACCESS_ID, SECRET, "demo", endpoint=server.url + "/api")


_numbers = iter(range(1_000_000))


@pytest.fixture
def raw(server: Any) -> RawClient:
    """Speaks to the module's service."""
    return RawClient(server.url)


@pytest.fixture
def tunnel(raw: RawClient) -> Tunnel:
    """The tunnel of a new table of a number, which must be there, and a text."""
    name = f"t{next(_numbers)}"
    raw.create_table(name, ID_AND_TEXT)
    return Tunnel(raw, f"/projects/demo/tables/{name}")


@pytest.fixture
def parted(raw: RawClient) -> Tunnel:
    """Likewise of a partitioned one."""
    name = f"t{next(_numbers)}"
    raw.create_table(name, ID_AND_TEXT, ["pt"])
    return Tunnel(raw, f"/projects/demo/tables/{name}")


@pytest.fixture
def keyed(server: Any, raw: RawClient) -> Tunnel:
    """Likewise of one with a primary key."""
    name = f"t{next(_numbers)}"
    with fletching.connect(server.url, access_id=ACCESS_ID, access_key=SECRET) as client:
        client.create_table(name, ID_AND_TEXT, primary_key=["id"])
    return Tunnel(raw, f"/projects/demo/tables/{name}")
