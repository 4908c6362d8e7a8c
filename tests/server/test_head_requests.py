"""HEAD is wherever GET is: the same status and fields, without a body (RFC 9110, 9.3.2)."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pytest
from tests.server.conftest import ACCESS_ID, SECRET, RawClient, Reply, read_all, stream_of
from tests.server.metadata.rest_calls import run_sql

from fletching.server.metadata.routes import _HANDLERS
from fletching.server.serving import serve

ROWS = 2000
PROJECT = "/api/projects/demo"
TABLE = f"{PROJECT}/tables/t"
PLAIN = "/fletching/v1/tables/demo/default/t/rows"
V1 = "/api/storage/v1/projects/demo/tables/t"

PATHS = [
    "/healthz",
    "/readyz",
    "/metrics",
    "/favicon.ico",
    "/logview",
    "/logview/host",
    "/console",
    "/console/sign-in",
    "/console/tables",
    "/console/static/nothing.css",
    "/api/tenants",
    "/api/catalogapi",
    "/api/connection/mcqa",
    "/api/quotas",
    "/api/quotas/q",
    "/api/projects",
    PROJECT,
    f"{PROJECT}/tunnel?service",
    f"{PROJECT}/system",
    f"{PROJECT}/tables",
    f"{TABLE}?extended",
    f"{TABLE}?partitions",
    f"{TABLE}?data&linenum=3",
    f"{PROJECT}/tables/none",
    f"{PROJECT}/instances",
    f"{PROJECT}/instances/{{instance}}",
    f"{PROJECT}/instances/{{instance}}?instancestatus",
    f"{PROJECT}/instances/{{instance}}?result",
    f"{PROJECT}/cachedinstances",
    f"{PROJECT}/authorization",
    f"{PROJECT}/logs",
    f"{PROJECT}/users",
    f"{PROJECT}/users/x",
    f"{PROJECT}/roles",
    f"{PROJECT}/roles/x",
    f"{PROJECT}/schemas",
    f"{PROJECT}/schemas/default",
    f"{PROJECT}/functions",
    f"{PROJECT}/functions/x",
    "/api/catalog/v1alpha/projects/demo/schemas/default/models",
    f"{TABLE}?downloadid={{download}}",
    f"{TABLE}?data&downloadid={{download}}&rowrange=(0,{ROWS})",
    f"{TABLE}?data&arrow&downloadid={{download}}&rowrange=(0,{ROWS})",
    f"{TABLE}?uploadid={{upload}}",
    f"{TABLE}?uploads",
    f"{TABLE}/preview?limit=10",
    f"{TABLE}/streams?uploadid=x",
    f"{TABLE}/upserts?upsertid=x",
    f"{PROJECT}/instances/{{instance}}?downloadid={{instance}}",
    f"{PROJECT}/instances/{{instance}}?data&downloadid={{instance}}&rowrange=(0,9)",
    f"{V1}/sessions/{{download}}?session_type=batch_read",
    f"{V1}/data?session_id={{download}}&row_index=0&row_count={ROWS}",
    f"{V1}/commit",
    PLAIN,
    f"{PLAIN}?format=csv",
    f"{PLAIN}?format=png",
    "/fletching/v1/projects/demo/schemas/default/tables",
    "/fletching/v1/projects/demo/schemas/default/tables/t",
    "/fletching/v1/projects/demo/schemas/default/tables/t/partitions",
    "/fletching/v1/projects/demo/schemas/default/statements/{instance}",
    "/fletching/v1/blobs/none",
    "/nothing",
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RawClient, dict[str, str]]]:
    folder: Path = tmp_path_factory.mktemp("heads")
    with serve(folder / "data", allow_anonymous=True, access_keys={ACCESS_ID: SECRET}) as server:
        client = RawClient(server.url)
        table = pa.table({"id": range(ROWS), "text": ["x" * 50] * ROWS})
        client.create_table("t", table.schema)
        client.append(stream_of(table))
        names = {
            "instance": run_sql(client, "select id from t limit 5"),
            "download": _post(client, f"{TABLE}?downloads").json["DownloadID"],
            "upload": _post(client, f"{TABLE}?uploads").json["UploadID"],
        }
        yield client, names


def _ask(client: RawClient, method: str, target: str) -> Reply:
    connection = client.connect()
    try:
        connection.request(method, target)
        reply = connection.getresponse()
        fields = {name.lower(): value for name, value in reply.getheaders()}
        return Reply(reply.status, fields, reply.read())
    finally:
        connection.close()


def _post(client: RawClient, target: str) -> Reply:
    return _ask(client, "POST", target)


@pytest.mark.parametrize("path", PATHS)
def test_head_says_what_get_says(served: tuple[RawClient, dict[str, str]], path: str) -> None:
    client, names = served
    target = path.format(**names)
    whole = _ask(client, "GET", target)
    # Whatever comes behind the head would be read as the next reply.
    host, port = client.netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=600) as connection:
        request = f"HEAD {target} HTTP/1.1\r\nhost: {client.netloc}\r\n\r\n"
        connection.sendall(2 * request.encode())
        connection.shutdown(socket.SHUT_WR)
        received = read_all(connection)
    heads = received.split(b"\r\n\r\n")
    assert len(heads) == 3
    assert heads[2] == b""
    for head in heads[:2]:
        status, *lines = head.decode().split("\r\n")
        assert int(status.split()[1]) == whole.status
        fields = dict(line.lower().split(": ", 1) for line in lines)
        for name, value in whole.headers.items():
            if name == "transfer-encoding":
                continue
            if name in _CHANGING or (
                name == "content-length" and (whole.status == 405 or path == "/metrics")
            ):
                assert name in fields
            else:
                assert fields[name] == value.lower(), name


_CHANGING = {"date", "x-odps-request-id", "set-cookie", "content-security-policy"}


def test_every_path_of_the_metadata_endpoints_is_looked_at() -> None:
    paths = [re.sub(r"\{\w+\}", "x", path).removeprefix("/api").partition("?")[0] for path in PATHS]
    for pattern, handlers in _HANDLERS:
        if "GET" in handlers:
            assert any(re.fullmatch(pattern, path) for path in paths), pattern


def test_a_method_that_a_path_does_not_take_is_told_those_that_it_takes(
    served: tuple[RawClient, dict[str, str]],
) -> None:
    client, names = served
    for path in PATHS:
        target = path.format(**names)
        reply = _ask(client, "PATCH", target)
        if reply.status == 405 and "/models" not in path:
            allowed = reply.headers["allow"].split(", ")
            assert ("GET" in allowed) == ("HEAD" in allowed)
            if "GET" in allowed:
                assert _ask(client, "GET", target).status != 405, path
    assert _ask(client, "DELETE", PLAIN).headers["allow"] == "GET, POST, HEAD"


def test_a_refusal_for_want_of_credentials_says_which_it_takes(client: RawClient) -> None:
    reply = client.request("GET", PROJECT, signed=False)
    assert reply.status == 401
    assert reply.headers["www-authenticate"] == "ODPS, Bearer"


def test_a_target_with_a_quoted_path_is_the_same(
    served: tuple[RawClient, dict[str, str]],
) -> None:
    client, _ = served
    assert _ask(client, "HEAD", quote(PLAIN, safe="")[2:]).status in {400, 404}
