"""Blobs over real sockets, asked by a plain HTTP client."""

from __future__ import annotations

import base64
import hashlib
import io
import random
import socket
import struct
import time
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
import pytest
from tests.server.conftest import ACCESS_ID, SECRET, RawClient, Reply, Start, read_reply, stream_of
from tests.waiting import until

from fletching.engine.access.permissions import Grant, Permission
from fletching.engine.engine import Engine
from fletching.engine.engine_settings import EngineSettings
from fletching.protocol.http.blob_links import blob_path, signed_link
from fletching.protocol.http.layers import blob_read_decoder
from fletching.protocol.types.blob_type import blob
from fletching.server.server import Server
from fletching.server.server_settings import ServerSettings
from fletching.wire import content_coding
from fletching.wire.blob_frames import BlobData, BlobDataEnd, BlobDataStart
from fletching.wire.content_coding import ContentCoding
from fletching.wire.stored_blobs import header_of, stored_blobs

SCHEMA = pa.schema([("id", pa.int64()), ("image", blob()), ("more", pa.list_(blob()))])
IMAGE = 2


@pytest.fixture
def pictures(client: RawClient) -> RawClient:
    client.create_table("pics", SCHEMA)
    return client


def upload(
    client: RawClient, data: Any, session: str = "default", headers: Any = None, **query: Any
) -> Reply:
    where: Any = {"SessionId": session, "StreamId": "s", "StreamVersion": 1, "PartitionValues": ""}
    return client.storage(
        "TableWriteBlob", "pics", {**where, "ColumnIndex": IMAGE, **query}, data, headers
    )


def upload_many(client: RawClient, body: Any, session: str = "default", **headers: str) -> Reply:
    where: Any = {"SessionId": session, "StreamId": "s", "StreamVersion": 1, "Mode": "Batch"}
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.storage("TableWriteBlob", "pics", where, body, fields)


def frame(data: bytes, footer: bytes = b'{"Checksum":{"Type":0}}', **header: Any) -> bytes:
    import json

    head = json.dumps({"PartitionValues": [], "ColumnIndex": IMAGE, **header}).encode()
    return b"".join(struct.pack("<q", len(part)) + part for part in (head, data, footer))


def references(client: RawClient, blobs: list[bytes]) -> list[str]:
    reply = upload_many(client, b"".join(map(frame, blobs)))
    assert reply.status == 200, reply.body
    return list(reply.json["BlobReferences"])


def read(client: RawClient, refs: list[str], **headers: str) -> Reply:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.storage(
        "BlobRead", body={"BlobReferences": refs}, headers=fields, target="generic.blob"
    )


def blobs_of(reply: Reply, *, framed: bool) -> list[bytes]:
    assert reply.status == 200, reply.body
    coding = ContentCoding.from_token(reply.headers.get("content-encoding"))
    decoder = blob_read_decoder(coding, framed=framed)
    decoder.feed(reply.body)
    events = list(decoder.events())
    decoder.finish()
    events += list(decoder.events())
    if not framed:
        return [b"".join(map(bytes, events))]
    blobs: list[bytes] = []
    for event in events:
        if isinstance(event, BlobDataStart):
            blobs.append(b"")
        elif isinstance(event, BlobData):
            blobs[-1] += event.data
        else:
            assert isinstance(event, BlobDataEnd)
    return blobs


def coded(coding: ContentCoding, body: bytes) -> bytes:
    encoder = content_coding.Encoder(coding)
    return b"".join(map(bytes, [*encoder.encode(body), *encoder.finish()]))


class TestUpload:
    @pytest.mark.parametrize("length", [0, 1, 65_536, 3_000_001])
    @pytest.mark.parametrize("chunked", [False, True])
    def test_one(self, pictures: RawClient, length: int, chunked: bool) -> None:
        data = random.Random(length).randbytes(length)
        body: Any = (data[i : i + 100_000] for i in range(0, length, 100_000)) if chunked else data
        reply = upload(pictures, body)
        assert reply.status == 200, reply.body
        assert reply.json["MD5Value"] == hashlib.md5(data).hexdigest()
        assert reply.json["Size"] == length
        received = read(pictures, [reply.json["BlobReference"]])
        assert int(received.headers["content-length"]) == len(received.body)
        assert blobs_of(received, framed=False) == [data]

    @pytest.mark.parametrize("coding", [ContentCoding.ZSTD, ContentCoding.LZ4_FRAME])
    def test_compressed(self, pictures: RawClient, coding: ContentCoding) -> None:
        data = b"compressible " * 100_000
        reply = upload(pictures, coded(coding, data), headers={"Content-Encoding": coding.value})
        assert reply.json["MD5Value"] == hashlib.md5(data).hexdigest()
        assert reply.json["Size"] == len(data)
        many = upload_many(
            pictures, coded(coding, frame(b"a") + frame(data)), Content_Encoding=coding.value
        )
        assert blobs_of(read(pictures, many.json["BlobReferences"]), framed=True) == [b"a", data]

    def test_a_batch_in_chunks(self, pictures: RawClient) -> None:
        blobs = [random.Random(n).randbytes(n * 777 % 50_000) for n in range(50)]
        body = b"".join(map(frame, blobs))
        reply = upload_many(pictures, (body[i : i + 30_001] for i in range(0, len(body), 30_001)))
        assert reply.json["Size"] == sum(map(len, blobs))
        assert blobs_of(read(pictures, reply.json["BlobReferences"]), framed=True) == blobs

    def test_no_blobs(self, pictures: RawClient) -> None:
        reply = upload_many(pictures, b"")
        assert reply.status == 200
        assert reply.json["BlobReferences"] == []

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (frame(b"x", b'{"Checksum":{"Type":1,"Crc32":1}}'), 400),
            (frame(b"x", b'{"Checksum":{"Type":2,"MD5":"00"}}'), 400),
            (frame(b"x")[:-1], 400),
            (struct.pack("<q", -1), 400),
            (struct.pack("<q", 1 << 30), 413),
            (struct.pack("<q", 2) + b"{}" + struct.pack("<q", 1 << 62), 413),
            (frame(b"x", ColumnIndex=1), 400),
            (struct.pack("<q", 3) + b"{]}" + struct.pack("<q", 0), 400),
        ],
    )
    def test_bad_bodies(self, pictures: RawClient, body: bytes, status: int) -> None:
        reply = upload_many(pictures, body)
        assert reply.status == status, reply.body
        assert reply.json["Code"] == "InvalidArgument"
        assert reply.headers["x-odps-request-id"]
        # The service goes on.
        assert upload(pictures, b"fine").status == 200

    def test_a_checksum_that_is_right(self, pictures: RawClient) -> None:
        footer = b'{"Checksum":{"Type":1,"Crc32":%d}}' % zlib.crc32(b"x")
        assert upload_many(pictures, frame(b"x", footer)).status == 200

    @pytest.mark.parametrize("coding", [ContentCoding.ZSTD, ContentCoding.LZ4_FRAME])
    def test_a_bomb(self, tmp_path: Path, coding: ContentCoding) -> None:
        settings = ServerSettings(drain_idle_seconds=0.05)
        engine_settings = EngineSettings(max_blob_ratio=50)
        zeros = bytes(8 << 20)
        encoder = content_coding.Encoder(coding, level=1)
        body = b"".join(bytes(b) for _ in range(12) for b in encoder.encode(zeros))
        body += b"".join(map(bytes, encoder.finish()))
        keys = {ACCESS_ID: SECRET}
        with Server(tmp_path / "data", keys, settings, engine_settings).start() as server:
            client = RawClient(server.url)
            client.create_table("pics", SCHEMA)
            reply = upload(client, body, headers={"Content-Encoding": coding.value})
            assert reply.status == 413, reply.body
            assert upload(client, b"fine").status == 200

    def test_unknown_session_column_and_coding(self, pictures: RawClient) -> None:
        assert upload(pictures, b"x", "ws-none").status == 404
        assert upload(pictures, b"x", ColumnIndex=1).status == 400
        assert upload(pictures, b"x", headers={"Content-Encoding": "gzip"}).status == 400

    def test_a_client_that_disappears_leaves_nothing(
        self, pictures: RawClient, tmp_path: Any
    ) -> None:
        query: Any = {
            "Action": "TableWriteBlob",
            "Target": "projects.demo.schemas.default.tables.pics",
            "SessionId": "default",
            "StreamId": "s",
            "StreamVersion": 1,
            "PartitionValues": "",
            "ColumnIndex": IMAGE,
        }
        headers = {"Content-Type": "application/octet-stream"}
        head = pictures.head("POST", "/api/storage/v2", query, headers, 10 << 20)
        host, port = pictures.netloc.split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head + bytes(3 << 20))
        objects = tmp_path / "data" / "objects"
        until(lambda: all(p.name == "lock" for p in objects.glob(".staging/*/*")))
        assert not list(objects.rglob("*.pack"))


class TestRead:
    def test_order_and_duplicates(self, pictures: RawClient) -> None:
        blobs = [b"%d" % n * n for n in range(20)]
        refs = references(pictures, blobs)
        order = [3, 3, 19, 0, 7, 3]
        reply = read(pictures, [refs[n] for n in order])
        assert int(reply.headers["content-length"]) == len(reply.body)
        assert blobs_of(reply, framed=True) == [blobs[n] for n in order]

    def test_one_may_be_framed_on_demand(self, pictures: RawClient) -> None:
        (reference,) = references(pictures, [b"x"])
        body = {"BlobReferences": [reference], "Framed": True}
        reply = pictures.storage("BlobRead", body=body, target="generic.blob")
        assert reply.headers["x-fletching-framing"] == "frames"
        assert blobs_of(reply, framed=True) == [b"x"]
        assert read(pictures, [reference]).headers["x-fletching-framing"] == "raw"

    @pytest.mark.parametrize("length", [0, 10, 300_000])
    def test_as_they_are_stored(self, pictures: RawClient, length: int) -> None:
        data = [bytes([n]) * length for n in range(3)]
        order = [2, 0, 2, 1]
        refs = references(pictures, data)
        body = {"BlobReferences": [refs[n] for n in order], "Framed": True, "Stored": True}
        reply = pictures.storage("BlobRead", body=body, target="generic.blob")
        assert reply.headers["x-fletching-framing"] == "stored"
        assert int(reply.headers["content-length"]) == len(reply.body)
        result = list(stored_blobs([memoryview(reply.body)], 4))
        assert [blob for _, blob in result] == [data[n] for n in order]
        assert {header_of(metadata).content_type for metadata, _ in result} == {None}

    @pytest.mark.parametrize("coding", ["zstd", "x-lz4-frame"])
    def test_compressed(self, pictures: RawClient, coding: str) -> None:
        refs = references(pictures, [b"a" * 100_000, b"b"])
        reply = read(pictures, refs, ACCEPT_ENCODING=coding)
        assert reply.headers["content-encoding"] == coding
        assert len(reply.body) < 10_000
        assert blobs_of(reply, framed=True) == [b"a" * 100_000, b"b"]
        assert blobs_of(read(pictures, refs[:1], ACCEPT_ENCODING=coding), framed=False) == [
            b"a" * 100_000
        ]

    def test_old_clients_that_cannot_decode_get_no_coding(self, pictures: RawClient) -> None:
        refs = references(pictures, [b"a", b"b"])
        for agent, coded_reply in [("pyodps/0.13.1 CPython", False), ("pyodps/0.13.2 x", True)]:
            reply = read(pictures, refs, ACCEPT_ENCODING="zstd", USER_AGENT=agent)
            assert ("content-encoding" in reply.headers) is coded_reply

    def test_a_hundred_thousand_references(self, pictures: RawClient) -> None:
        refs = references(pictures, [b"a", b"bc"])
        reply = read(pictures, refs * 50_000)
        assert reply.status == 200, reply.body
        assert len(blobs_of(reply, framed=True)) == 100_000
        assert read(pictures, [*refs * 50_000, refs[0]]).status == 400

    def test_forged_altered_and_foreign_references(self, pictures: RawClient) -> None:
        (good,) = references(pictures, [b"x"])
        altered = bytearray(base64.b64decode(base64.b64decode(good)))
        altered[30] ^= 1
        for bad in ("AAAA", "A" * 80, base64.b64encode(altered).decode(), ""):
            reply = read(pictures, [good, bad])
            assert reply.status == 404, reply.body
            assert reply.json["Code"] == "NoSuchObject"
            assert bad not in reply.json["Message"] or not bad
        assert read(pictures, []).status == 400

    def test_a_reader_that_stops_reading_stops_nobody(self, start: Start) -> None:
        client = RawClient(start(reader_stall_seconds=1.0).url)
        client.create_table("pics", SCHEMA)
        big = upload(client, bytes(32 << 20)).json["BlobReference"]
        query: Any = {"Action": "BlobRead", "Target": "generic.blob"}
        body = b'{"BlobReferences":["%s"]}' % big.encode()
        headers = {"Content-Type": "application/json"}
        head = client.head("POST", "/api/storage/v2", query, headers, len(body))
        host, port = client.netloc.split(":")
        with socket.socket() as stuck:
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stuck.connect((host, int(port)))
            stuck.sendall(head + body)
            assert stuck.recv(100).startswith(b"HTTP/1.1 200")
            for _ in range(3):
                assert upload(client, b"x").status == 200
                assert len(read(client, [big]).body) > 32 << 20


class TestRows:
    def test_references_are_written_and_read_as_rows(self, pictures: RawClient) -> None:
        refs = [
            base64.b64decode(reference).decode()
            for reference in references(pictures, [b"one", b"two", b"three"])
        ]
        for written in ([r.encode() for r in refs], [base64.b64decode(r) for r in refs]):
            session = pictures.open_session("pics", overwrite="true")
            where = pictures.open_stream(session, "pics")
            rows = pa.table(
                {
                    "id": pa.array([1, 2, 3], pa.int64()),
                    "image": pa.array(written, pa.binary()),
                    "more": pa.array([[written[0]], None, written[1:]], pa.list_(pa.binary())),
                }
            )
            reply = pictures.storage("TableWrite", "pics", where, stream_of(rows))
            assert reply.status == 200, reply.body
            pictures.close_and_commit(where, "pics")
            with pa.ipc.open_stream(io.BytesIO(pictures.read("pics").body)) as stream:
                table = stream.read_all()
            cells = [value.decode() for value in table["image"].to_pylist()]
            assert cells == refs
            assert blobs_of(read(pictures, cells), framed=True) == [b"one", b"two", b"three"]
            more = [
                [v.decode() for v in cell] if cell else None for cell in table["more"].to_pylist()
            ]
            assert more == [refs[:1], None, refs[1:]]

    def test_cells_that_are_no_references_are_refused(self, pictures: RawClient) -> None:
        where = pictures.open_stream(pictures.open_session("pics"), "pics")
        rows = pa.table(
            {
                "id": pa.array([1], pa.int64()),
                "image": pa.array([b"a picture"], pa.binary()),
                "more": pa.nulls(1, pa.list_(pa.binary())),
            }
        )
        reply = pictures.storage("TableWrite", "pics", where, stream_of(rows))
        assert reply.status == 400
        assert reply.json["Code"] == "InvalidArgument"
        assert "image" in reply.json["Message"]

    def test_the_write_schema_has_the_column_ids(self, pictures: RawClient) -> None:
        reply = pictures.storage("TableGetWriteSchema", "pics", {"SessionId": "default"})
        columns = [c["columnType"] for c in reply.json["TableSchema"]["DataColumns"]]
        assert [(c["MemberName"], c["ColumnId"], c["Type"]) for c in columns] == [
            ("id", 1, 0),
            ("image", 2, 22),
            ("more", 3, 17),
        ]
        (element,) = columns[2]["SubTypes"]
        assert (element["MemberName"], element["ColumnId"], element["Type"]) == ("element", 4, 22)


class TestAddress:
    @pytest.fixture
    def reference(self, pictures: RawClient) -> str:
        reply = upload(
            pictures, b"0123456789" * 1000, ContentType="image/png", CustomFileName="ü.png"
        )
        return str(reply.json["BlobReference"])

    def get(self, client: RawClient, reference: str, method: str = "GET", **headers: str) -> Reply:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return client.request(method, blob_path(reference), headers=fields)

    def test_a_whole_blob(self, pictures: RawClient, reference: str) -> None:
        reply = self.get(pictures, reference)
        assert (reply.status, reply.body) == (200, b"0123456789" * 1000)
        assert reply.headers["content-type"] == "image/png"
        assert reply.headers["content-length"] == "10000"
        assert reply.headers["accept-ranges"] == "bytes"
        disposition = "inline; filename=\"_.png\"; filename*=UTF-8''%C3%BC.png"
        assert reply.headers["content-disposition"] == disposition
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in reply.headers["content-security-policy"]

    def test_head(self, pictures: RawClient, reference: str) -> None:
        whole, head = self.get(pictures, reference), self.get(pictures, reference, "HEAD")
        assert (head.status, head.body) == (200, b"")
        for name in ("content-type", "content-length", "etag", "content-disposition"):
            assert head.headers[name] == whole.headers[name]

    @pytest.mark.parametrize(
        ("wanted", "status", "content_range", "body"),
        [
            ("bytes=0-3", 206, "bytes 0-3/10000", b"0123"),
            ("bytes=9995-", 206, "bytes 9995-9999/10000", b"56789"),
            ("bytes=-2", 206, "bytes 9998-9999/10000", b"89"),
            ("bytes=9998-20000", 206, "bytes 9998-9999/10000", b"89"),
            ("bytes=0-", 206, "bytes 0-9999/10000", None),
            ("bytes=5-2", 200, None, None),
            ("bytes=0-1,5-6", 200, None, None),
            ("bytes=0-1, 2-3", 200, None, None),
            ("BYTES=0-3", 206, "bytes 0-3/10000", b"0123"),
            ("bytes=", 200, None, None),
            ("bytes=-", 200, None, None),
            ("rows=1-2", 200, None, None),
        ],
    )
    def test_ranges(
        self,
        pictures: RawClient,
        reference: str,
        wanted: str,
        status: int,
        content_range: str | None,
        body: bytes | None,
    ) -> None:
        reply = self.get(pictures, reference, Range=wanted)
        assert reply.status == status
        assert reply.headers.get("content-range") == content_range
        assert reply.body == (b"0123456789" * 1000 if body is None else body)

    def test_a_range_outside(self, pictures: RawClient, reference: str) -> None:
        reply = self.get(pictures, reference, Range="bytes=10000-")
        assert (reply.status, reply.headers["content-range"]) == (416, "bytes */10000")
        assert self.get(pictures, reference, Range="bytes=-0").status == 416
        assert self.get(pictures, reference, "HEAD", Range="bytes=0-0").status == 200

    def test_conditions(self, pictures: RawClient, reference: str) -> None:
        etag = self.get(pictures, reference).headers["etag"]
        same = self.get(pictures, reference, If_None_Match=f'W/{etag}, "x"')
        assert (same.status, same.body, same.headers["etag"]) == (304, b"", etag)
        assert self.get(pictures, reference, If_None_Match='"x"').status == 200
        assert self.get(pictures, reference, Range="bytes=0-0", If_Range=etag).status == 206
        assert self.get(pictures, reference, Range="bytes=0-0", If_Range='"x"').status == 200
        assert self.get(pictures, reference, If_Match='"x"').status == 412
        assert self.get(pictures, reference, If_Match=f'"x", {etag}').status == 200
        assert self.get(pictures, reference, If_Match=f"W/{etag}").status == 412
        assert self.get(pictures, reference, If_Match="*", If_None_Match=etag).status == 304

    def test_an_empty_blob(self, pictures: RawClient) -> None:
        (empty,) = references(pictures, [b""])
        reply = self.get(pictures, empty)
        assert (reply.status, reply.body) == (200, b"")
        assert reply.headers["content-type"] == "application/octet-stream"
        assert self.get(pictures, empty, Range="bytes=0-").status == 416

    def test_a_large_blob(self, pictures: RawClient) -> None:
        data = random.Random(3).randbytes(9_000_000)
        reference = upload(pictures, data).json["BlobReference"]
        assert self.get(pictures, reference).body == data

    def test_a_content_type_that_is_none(self, pictures: RawClient) -> None:
        assert upload_many(pictures, frame(b"x", ContentType="text/html\r\nx: y")).status == 400
        for text in ("é/é", "plain", "text/html; x"):
            (result,) = upload_many(pictures, frame(b"x", ContentType=text)).json["BlobReferences"]
            reply = self.get(pictures, result)
            assert reply.headers["content-type"] == "application/octet-stream"

    @pytest.mark.parametrize("reference", ["", "nope", "A" * 80, "%2e%2e"])
    def test_unknown_references(self, pictures: RawClient, reference: str) -> None:
        path = f"/fletching/v1/blobs/{reference}"
        reply = pictures.request("GET", path)
        assert reply.status in {403, 404}, reply.body

    def test_other_methods(self, pictures: RawClient, reference: str) -> None:
        assert self.get(pictures, reference, "DELETE").status == 405
        assert self.get(pictures, reference, "POST").status == 405

    def test_links_need_no_header(self, pictures: RawClient, reference: str) -> None:
        def follow(link: str) -> Reply:
            parts = urlsplit(link)
            return pictures.request("GET", parts.path, dict(parse_qsl(parts.query)), signed=False)

        until = int(time.time()) + 60
        good = signed_link(reference, ACCESS_ID, SECRET, until)
        assert follow(good).body == b"0123456789" * 1000
        assert follow(blob_path(reference)).status == 401
        for bad in (
            signed_link(reference, ACCESS_ID, "other", until),
            signed_link(reference, "nobody", SECRET, until),
            signed_link(reference, ACCESS_ID, SECRET, int(time.time()) - 1),
            good.replace(f"Expires={until}", f"Expires={until + 1}"),
        ):
            assert follow(bad).status == 403
        (other,) = references(pictures, [b"other"])
        stolen = blob_path(other) + "?" + urlsplit(good).query
        assert follow(stolen).status == 403


def test_blobs_of_tables_that_were_not_granted_are_refused(start: Start, tmp_path: Path) -> None:
    server = start(key_refresh_seconds=0.0)
    owner = RawClient(server.url)
    for name in ("pics", "others"):
        owner.create_table(name, SCHEMA)
    with Engine.open(tmp_path / "data") as engine:
        key = engine.access_keys.create(access_id="reader")
        engine.access_keys.grant(Grant("reader", "demo", "pics", Permission.READ))
    reader = RawClient(server.url, "reader", key.secret)
    mine = upload(owner, b"mine").json["BlobReference"]
    where: Any = {"SessionId": "default", "StreamId": "s", "StreamVersion": 1, "ColumnIndex": IMAGE}
    reply = owner.storage("TableWriteBlob", "others", where, b"theirs")
    theirs = base64.b64decode(reply.json["BlobReference"]).decode()
    assert blobs_of(read(reader, [mine]), framed=False) == [b"mine"]
    for references_ in ([theirs], [mine, theirs]):
        refused = read(reader, references_)
        assert (refused.status, refused.json["Code"]) == (403, "NoPermission")
    assert reader.request("GET", blob_path(theirs)).status == 403
    assert upload(reader, b"x").status == 403
    link = urlsplit(signed_link(theirs, "reader", key.secret, int(time.time()) + 60))
    followed = reader.request("GET", link.path, dict(parse_qsl(link.query)), signed=False)
    assert followed.status == 403


def test_a_raw_socket_sees_one_whole_reply(pictures: RawClient) -> None:
    (reference,) = references(pictures, [b"hello"])
    query: Any = {"Action": "BlobRead", "Target": "generic.blob"}
    body = b'{"BlobReferences":["%s"]}' % reference.encode()
    head = pictures.head("POST", "/api/storage/v3", query, {"Content-Type": "x"}, len(body))
    host, port = pictures.netloc.split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head + body)
        _, payload = read_reply(connection)
    # The protocol's own example: the blob and its CRC32C, little-endian.
    assert payload == bytes.fromhex("68656c6c6f4cbb719a")
