"""The service over real sockets, asked by plain HTTP clients."""

from __future__ import annotations

import contextlib
import io
import re
import sqlite3
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lz4.frame
import numpy as np
import pyarrow as pa
import pytest
import zstandard
from tests.server.conftest import RawClient, Start, stream_of
from tests.waiting import until

from fletching.server.auth.principal import Principal
from fletching.server.server import Server
from fletching.server.service import Service

TABLE = pa.table(
    {
        "id": pa.array(range(5000), pa.int64()),
        "name": [f"name {i % 97}" for i in range(5000)],
        "score": pa.array(np.linspace(0, 1, 5000)),
    }
)
PATHS = ["/api/storage/v2", "/api/storage/v3", "/storage/v2", "/api/api/storage/v3"]
REQUEST_ID = re.compile(r"[0-9a-f]{16}-[0-9a-f]{8}")


def table_of(body: bytes) -> pa.Table:
    with pa.ipc.open_stream(io.BytesIO(body)) as reader:
        return reader.read_all()


@pytest.fixture
def filled(client: RawClient) -> RawClient:
    client.create_table("t", TABLE.schema)
    client.append(stream_of(TABLE))
    return client


def test_what_was_written_is_read(filled: RawClient) -> None:
    reply = filled.read()
    assert reply.status == 200
    assert int(reply.headers["content-length"]) == len(reply.body)
    assert table_of(reply.body).equals(TABLE)


def test_a_batch_comes_back_byte_for_byte(client: RawClient) -> None:
    client.create_table("t", TABLE.schema)
    sent = stream_of(TABLE)
    client.append(sent)
    schema = pa.ipc.MessageReader.open_stream(sent).read_next_message().serialize().size
    batch = sent[schema:-8]
    assert len(batch) > 100_000
    assert client.read(body={"MaxBatchRows": 0}).body.endswith(batch + sent[-8:])


@pytest.mark.parametrize("path", PATHS)
def test_every_spelling_of_the_path_is_the_same(filled: RawClient, path: str) -> None:
    reply = filled.storage("TablePreview", query={"Limit": 7}, path=path)
    assert reply.status == 200
    assert table_of(reply.body).num_rows == 7


def test_an_unknown_version_and_path_are_refused(filled: RawClient) -> None:
    reply = filled.storage("TablePreview", path="/api/storage/v9")
    assert (reply.status, reply.json["Code"]) == (400, "InvalidParameter")
    reply = filled.request("GET", "/api/nothing/here")
    assert reply.status == 404


def test_columns_and_rows_are_selected(filled: RawClient) -> None:
    reply = filled.read(query={"Offset": 100, "Count": 50}, body={"DataColumns": ["score", "id"]})
    expected = TABLE.slice(100, 50).select(["id", "score"])
    assert table_of(reply.body).equals(expected)


def test_an_empty_table_is_a_schema_and_an_end(client: RawClient) -> None:
    client.create_table("t", TABLE.schema)
    reply = client.read()
    assert reply.status == 200
    assert table_of(reply.body).equals(TABLE.slice(0, 0))


@pytest.mark.parametrize("coding", ["zstd", "x-lz4-frame"])
def test_pyodps_gets_the_whole_body_compressed(filled: RawClient, coding: str) -> None:
    headers = {
        "User-Agent": "pyodps/0.13.2 CPython/3.11",
        "odps-tunnel-retry-trace-id": "a-b",
        "Accept-Encoding": coding,
    }
    reply = filled.read(headers=headers)
    assert reply.headers["content-encoding"] == coding
    decode: Any = lz4.frame.decompress
    if coding == "zstd":
        decode = lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data)
    assert table_of(decode(reply.body)).equals(TABLE)


@pytest.mark.parametrize("coding", ["zstd", "x-lz4-frame"])
def test_everybody_else_gets_arrow_compression(filled: RawClient, coding: str) -> None:
    plain = filled.read()
    for headers in (
        {"Accept-Encoding": coding},
        {"Accept-Encoding": coding, "User-Agent": "pyodps/0.13.1"},
    ):
        reply = filled.read(headers=headers)
        assert "content-encoding" not in reply.headers
        assert len(reply.body) < len(plain.body)
        assert table_of(reply.body).equals(TABLE)


@pytest.mark.parametrize(("rule", "whole"), [("body", True), ("arrow", False), ("off", False)])
def test_the_compression_rule_is_a_setting(start: Start, rule: str, whole: bool) -> None:
    client = RawClient(start(reply_compression=rule).url)
    client.create_table("t", TABLE.schema)
    client.append(stream_of(TABLE))
    plain = client.read()
    reply = client.read(headers={"Accept-Encoding": "zstd"})
    assert ("content-encoding" in reply.headers) is whole
    assert (len(reply.body) < len(plain.body)) is (rule != "off")


@pytest.mark.parametrize("coding", ["zstd", "x-lz4-frame", "deflate", "identity"])
def test_request_bodies_may_be_compressed(client: RawClient, coding: str) -> None:
    import zlib

    client.create_table("t", TABLE.schema)
    data = stream_of(TABLE)
    coders: dict[str, Any] = {
        "zstd": zstandard.ZstdCompressor().compress,
        "x-lz4-frame": lz4.frame.compress,
        "deflate": zlib.compress,
        "identity": bytes,
    }
    where = client.open_stream(client.open_session())
    reply = client.storage(
        "TableWrite", query=where, body=coders[coding](data), headers={"Content-Encoding": coding}
    )
    assert reply.status == 200, reply.body
    client.close_and_commit(where)
    assert table_of(client.read().body).equals(TABLE)


def test_an_unknown_content_encoding_is_refused(client: RawClient) -> None:
    client.create_table("t", TABLE.schema)
    where = client.open_stream(client.open_session())
    reply = client.storage("TableWrite", query=where, body=b"x", headers={"Content-Encoding": "br"})
    assert (reply.status, reply.json["Code"]) == (400, "InvalidParameter")


@pytest.mark.parametrize("codec", [None, "lz4", "zstd"])
def test_chunked_uploads_and_arrow_codecs(client: RawClient, codec: str | None) -> None:
    client.create_table("t", TABLE.schema)
    data = stream_of(TABLE, codec=codec, batch_rows=700)
    where = client.open_stream(client.open_session())
    chunks = (data[i : i + 1000] for i in range(0, len(data), 1000))
    assert client.storage("TableWrite", query=where, body=chunks).status == 200
    client.close_and_commit(where)
    assert table_of(client.read().body).equals(TABLE)


def test_several_writes_of_a_stream_append_in_order(client: RawClient) -> None:
    client.create_table("t", TABLE.schema)
    where = client.open_stream(client.open_session())
    for start in range(0, 5000, 1000):
        reply = client.storage(
            "TableWrite", query={**where, "Count": 1}, body=stream_of(TABLE.slice(start, 1000))
        )
        assert reply.status == 200
    assert client.count() == 0, "rows are visible before the commit"
    client.close_and_commit(where)
    assert table_of(client.read().body).equals(TABLE)


def test_the_stream_reply_names_the_codings_for_writing(client: RawClient) -> None:
    client.create_table("t", TABLE.schema)
    session = client.open_session()
    reply = client.storage(
        "TableCreateWriteStream", query={"SessionId": session}, body={"StreamId": "s"}
    )
    assert reply.headers["accept-encoding"] == "x-lz4-frame,zstd"
    assert reply.headers["x-odps-max-storage-route-token"]


def test_a_stream_may_be_asked_for_with_get(client: RawClient) -> None:
    client.create_table("t", TABLE.schema)
    where = client.open_stream(client.open_session())
    query = {
        "Action": "TableGetWriteStream",
        "Target": "projects.demo.schemas.default.tables.t",
        **where,
    }
    reply = client.request("GET", "/api/storage/v2", query)
    assert reply.status == 200
    assert reply.json["TableSchema"]["DataColumns"]


def test_tables_are_administered(client: RawClient) -> None:
    client.create_table("t", TABLE.schema)
    client.create_table("u", TABLE.schema, ["pt"])
    listed = client.admin("GET", "").json
    assert [info["table"]["name"] for info in listed["tables"]] == ["t", "u"]
    assert client.admin("GET", "/u").json["schema"]["partition_columns"][0]["name"] == "pt"
    assert client.admin("DELETE", "/t").status == 200
    missing = client.admin("GET", "/t")
    assert (missing.status, missing.json["Code"]) == (404, "NoSuchTable")


def test_every_reply_has_its_own_request_id(filled: RawClient) -> None:
    replies = [
        filled.read(),
        filled.storage("TablePreview"),
        filled.storage("Nothing"),
        filled.admin("GET", ""),
        filled.request("GET", "/healthz", signed=False),
        filled.request("GET", "/", signed=False),
    ]
    ids = [reply.headers["x-odps-request-id"] for reply in replies]
    assert len(set(ids)) == len(ids)
    assert all(REQUEST_ID.fullmatch(request_id) for request_id in ids)
    assert replies[2].json["RequestId"] == ids[2]


def test_health_answers_without_a_signature(start: Start) -> None:
    server = start()
    client = RawClient(server.url)
    for path in ("/healthz", "/readyz"):
        assert client.request("GET", path, signed=False).status == 200
        assert client.request("HEAD", path, signed=False).body == b""
        assert client.request("POST", path, signed=False).status == 405
    server.service.draining = True
    assert client.request("GET", "/healthz", signed=False).status == 200
    assert client.request("GET", "/readyz", signed=False).status == 503


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/storage/v2?Action=TablePreview&Target=projects.demo.tables.t"),
        ("GET", "/fletching/v1/projects/demo/schemas/default/tables"),
        ("GET", "/projects/demo/tables"),
        ("GET", "/"),
        ("GET", "/healthz/"),
    ],
)
def test_nothing_else_does(client: RawClient, method: str, path: str) -> None:
    reply = client.request(method, path, body=b"", signed=False)
    assert (reply.status, reply.json["Code"]) == (401, "Unauthorized")
    for wrong in (RawClient("http://" + client.netloc, secret="wrong"),):
        reply = wrong.request(method, path.partition("?")[0], body=b"")
        assert (reply.status, reply.json["Code"]) == (403, "SignatureNotMatch")


def test_a_changed_request_does_not_verify(filled: RawClient) -> None:
    query: dict[str, str | int] = {
        "Action": "TablePreview",
        "Target": "projects.demo.tables.t",
        "Limit": 1,
    }
    headers = filled.sign("POST", "/api/storage/v2", query, {"Content-Type": "application/json"})
    good = filled.request("POST", "/api/storage/v2", query, b"{}", headers, signed=False)
    assert good.status == 200
    query["Limit"] = 2
    changed = filled.request("POST", "/api/storage/v2", query, b"{}", headers, signed=False)
    assert changed.status == 403


def test_an_old_date_is_refused(client: RawClient) -> None:
    reply = client.request(
        "GET", "/projects/demo", headers={"Date": "Tue, 02 Jan 2024 03:04:05 GMT"}
    )
    assert (reply.status, reply.json["Code"]) == (400, "RequestTimeTooSkewed")


def test_two_servers_may_share_a_folder(start: Start, tmp_path: Any) -> None:
    first, second = RawClient(start().url), RawClient(start().url)
    first.create_table("t", TABLE.schema)
    first.append(stream_of(TABLE))
    assert second.count() == 5000


def test_a_folder_served_again_has_its_tables(start: Start) -> None:
    server = start()
    client = RawClient(server.url)
    client.create_table("t", TABLE.schema)
    client.append(stream_of(TABLE))
    server.close()
    assert RawClient(start().url).count() == 5000


def test_a_server_without_keys_uses_the_folders_own(start: Start) -> None:
    server: Server = start(access_keys=None)
    assert server.new_key
    client = RawClient(server.url, *server.access_key)
    client.create_table("t", TABLE.schema)
    again = start(access_keys=None)
    assert not again.new_key
    assert again.access_key == server.access_key


def test_the_log_has_one_line_per_request_and_no_secret(
    filled: RawClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="fletching.access"):
        good = filled.storage("TablePreview", headers={"x-odps-secret": "hidden"})
        bad = filled.storage("Nope", query={"token": "hidden"})
        ids = [reply.headers["x-odps-request-id"] for reply in (good, bad)]
        # A line is written when the reply is out, which its reader may see first.
        for _ in range(500):
            lines = [record.getMessage() for record in caplog.records]
            lines = [line for line in lines if line.startswith(tuple(ids))]
            if len(lines) == 2:
                break
            threading.Event().wait(0.01)
    lines.sort(key=lambda line: ids.index(line.split()[0]))
    assert [line.split()[0] for line in lines] == ids
    assert "test-id" in lines[0]
    assert "TablePreview 200" in lines[0]
    assert f"out={len(good.body)}" in lines[0]
    assert lines[0].endswith("ok")
    assert lines[1].endswith("InvalidParameterError")
    assert "hidden" not in caplog.text


def test_a_path_cannot_forge_a_line_of_the_log(
    client: RawClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="fletching.access"):
        reply = client.request("GET", "/a%0Aforged%20line%1B[31m" + "x" * 5000, signed=False)
        assert reply.status == 401
        until(lambda: "GET" in caplog.text)
    messages = [record.getMessage() for record in caplog.records if "GET" in record.getMessage()]
    assert len(messages) == 1
    assert messages[0].isprintable()
    assert len(messages[0]) < 500


def test_reads_and_readiness_go_on_while_another_process_writes(
    filled: RawClient, tmp_path: Path
) -> None:
    """For as long as it takes: nothing that only reads waits for the catalog's lock."""
    catalog = sqlite3.connect(
        tmp_path / "data" / "catalog.sqlite", isolation_level=None, timeout=60
    )
    with contextlib.closing(catalog):
        catalog.execute("BEGIN IMMEDIATE")
        # Writers take all the threads there are for them, and wait.
        writers = [threading.Thread(target=filled.open_session) for _ in range(12)]
        for writer in writers:
            writer.start()
        for _ in range(5):
            assert table_of(filled.read().body).equals(TABLE)
            assert filled.request("GET", "/readyz", signed=False).status == 200
            assert filled.storage("TablePreview", query={"Limit": 3}).status == 200
        assert all(writer.is_alive() for writer in writers)
        catalog.execute("ROLLBACK")
        for writer in writers:
            writer.join(600)
            assert not writer.is_alive()


def test_a_token_of_one_instance_knows_of_its_project_alone() -> None:
    exchange: Any = SimpleNamespace(principal=Principal("ann", instance=("Demo", "i1")))
    nobody: Any = SimpleNamespace(keys=None)
    assert Service.may_enter(nobody, exchange, "DEMO")
    assert not Service.may_enter(nobody, exchange, "other")
