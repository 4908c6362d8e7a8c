"""The metadata endpoints over HTTP, as docs/conformance.md lists them."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from tests.server.metadata.rest_calls import get, run_sql, xml

SCHEMA = pa.schema([("a", pa.int64()), ("b", pa.string())])


@pytest.mark.parametrize("prefix", ["", "/api", "/api/api"])
def test_an_endpoints_path_may_stand_before(client: Any, prefix: str) -> None:
    reply = client.request("GET", f"{prefix}/projects/demo/tunnel", {"service": ""})
    assert reply.status == 200
    assert reply.body == client.netloc.encode()
    assert reply.headers["content-type"] == "text/plain"


def test_a_public_host_is_what_discovery_answers(start: Any, client: Any) -> None:
    server = start(public_host="data.example:443")
    other = type(client)(server.url)
    reply = other.request("GET", "/api/projects/demo/tunnel", {"service": ""})
    assert reply.body == b"data.example:443"


def test_schemas_are_announced_when_they_are_enabled(start: Any, client: Any) -> None:
    other = type(client)(start(schemas_enabled=True).url)
    tenant = other.request("GET", "/api/tenants").json
    assert tenant["Parameters"] == {"odps.namespace.schema": "true"}
    run_sql(other, "create table s9.t (a bigint)")
    assert get(other, "/tables/t", curr_schema="s9").status == 200


def test_tenants_projects_logs(client: Any) -> None:
    tenant = client.request("GET", "/api/tenants", {"curr_project": "demo"}).json
    assert tenant["Parameters"] == {"odps.namespace.schema": "false"}
    host = client.request("GET", "/api/logview/host", signed=False)
    assert host.body == f"http://{client.netloc}".encode()
    assert xml(get(client, "")).findtext("Name") == "demo"
    missing = client.request("GET", "/api/projects/nobody")
    assert (missing.status, missing.json["Code"]) == (404, "NoSuchProject")
    assert client.request("PUT", "/api/projects/demo/logs", {}, b"{}").status == 200
    assert get(client, "/system").json == {"Name": "demo"}
    names = [item.text for item in xml(client.request("GET", "/api/projects")).iter("Name")]
    assert names == ["demo"]


def test_a_table_is_looked_up(client: Any) -> None:
    client.create_table("t", SCHEMA, ["pt"])
    root = xml(get(client, "/tables/t"))
    document = json.loads(root.findtext("Schema") or "")
    assert [column["type"] for column in document["columns"]] == ["bigint", "string"]
    assert "Reserved" not in document
    extended = json.loads(xml(get(client, "/tables/T", extended="")).findtext("Schema") or "")
    assert json.loads(extended["Reserved"])["Transactional"] == "false"
    missing = get(client, "/tables/absent")
    assert (missing.status, missing.json["Code"]) == (404, "NoSuchTable")
    assert missing.headers["x-odps-request-id"]


def test_tables_come_in_pages(client: Any) -> None:
    for name in ("a1", "a2", "b1"):
        client.create_table(name, SCHEMA)
    result: list[str | None] = []
    marker = ""
    while True:
        root = xml(get(client, "/tables", expectmarker="true", maxitems="1", marker=marker))
        result += [item.text for item in root.iterfind("Table/Name")]
        marker = root.findtext("Marker") or ""
        if not marker:
            break
    assert result == ["a1", "a2", "b1"]
    root = xml(get(client, "/tables", name="a"))
    assert [item.text for item in root.iterfind("Table/Name")] == ["a1", "a2"]
    assert xml(get(client, "/tables", type="VIRTUAL_VIEW")).find("Table") is None
    assert xml(get(client, "/tables", owner="nobody")).find("Table") is None
    assert get(client, "/tables", maxitems="many").status == 400


def test_partitions(client: Any) -> None:
    client.create_table("t", SCHEMA, ["p", "q"])
    for p, q in (("x", "1"), ("x", "2"), ("y", "1")):
        run_sql(client, f"alter table t add partition (p='{p}', q='{q}')")
    root = xml(get(client, "/tables/t", partitions="", expectmarker="true"))
    values = [[c.get("Value") for c in p.iterfind("Column")] for p in root.iterfind("Partition")]
    assert values == [["x", "1"], ["x", "2"], ["y", "1"]]
    root = xml(get(client, "/tables/t", partitions="", partition="p='x'", reverse=""))
    values = [[c.get("Value") for c in p.iterfind("Column")] for p in root.iterfind("Partition")]
    assert values == [["x", "2"], ["x", "1"]]
    assert "partitionSize" in (
        xml(get(client, "/tables/t", partition="q='1',p='y'")).findtext("Schema") or ""
    )
    missing = get(client, "/tables/t", partition="p='z',q='1'")
    assert (missing.status, missing.json["Code"]) == (404, "NoSuchPartition")
    assert get(client, "/tables/t", partition="p='x'").status == 400
    assert get(client, "/tables/t", partition="nonsense").status == 400


def test_the_first_rows_as_csv(client: Any) -> None:
    client.create_table("t", SCHEMA)
    sink = pa.BufferOutputStream()
    rows = pa.table({"a": [1, None], "b": ["x,y", "z"]})
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    client.append(sink.getvalue().to_pybytes())
    reply = get(client, "/tables/t", data="", linenum="5", cols="b,a")
    assert reply.status == 200
    assert reply.body.decode().splitlines()[0] in {"a,b", "b,a"}
    assert "\\N" in reply.body.decode()
    assert get(client, "/tables/t", data="", linenum="x").status == 400


def test_statements_follow_curr_schema(client: Any) -> None:
    run_sql(client, "create table t (a bigint)", curr_schema="s1")
    assert get(client, "/tables/t").status == 404
    assert get(client, "/tables/t", curr_schema="s1").status == 200
    names = [item.text for item in xml(get(client, "/schemas")).iterfind("Schema/Name")]
    assert names == ["default", "s1"]
    busy = client.request("DELETE", "/api/projects/demo/schemas/s1")
    assert (busy.status, busy.json["Code"]) == (409, "InvalidStateSetting")


def test_schemas(client: Any) -> None:
    body = b"<Schema><Name>s2</Name></Schema>"
    assert client.request("POST", "/api/projects/demo/schemas", {}, body).status == 201
    again = client.request("POST", "/api/projects/demo/schemas", {}, body)
    assert (again.status, again.json["Code"]) == (409, "ObjectAlreadyExists")
    assert client.request("POST", "/api/projects/demo/schemas", {}, b"<Schema/>").status == 400
    assert xml(get(client, "/schemas/s2")).findtext("Name") == "s2"
    assert client.request("DELETE", "/api/projects/demo/schemas/s2").status == 200
    assert get(client, "/schemas/s2").json["Code"] == "NoSuchObject"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("DELETE", "/api/projects/demo/tables/t", 405),
        ("POST", "/api/tenants", 405),
        ("GET", "/api/projects/demo/tables/t/rows", 404),
        ("POST", "/projects/demo/tables/t", 405),
        ("POST", "/projects/demo/instances/x", 405),
        ("POST", "/api/projects/demo/instances", 400),
    ],
)
def test_what_is_not_there(client: Any, method: str, path: str, status: int) -> None:
    reply = client.request(method, path, {}, b"")
    assert reply.status == status
    assert reply.json["Code"]
    assert reply.headers["x-odps-request-id"]


def test_nothing_is_answered_unsigned(client: Any) -> None:
    for path in ("/api/tenants", "/api/projects/demo/tables", "/api/projects/demo/tunnel"):
        reply = client.request("GET", path, signed=False)
        assert (reply.status, reply.json["Code"]) == (401, "Unauthorized")


@pytest.mark.parametrize(
    ("user_agent", "closed"),
    [
        ("pyodps/0.13.2 CPython/3.11", True),
        ("PyODPS/0.12", True),
        ("fletching/1", False),
        ("", False),
    ],
)
def test_clients_that_fork_are_left_no_connection_to_share(
    client: Any, user_agent: str, closed: bool
) -> None:
    client.create_table("t", SCHEMA)
    for path in ("/api/tenants", "/api/projects/demo/tables/t", "/api/projects/demo/tables/absent"):
        reply = client.request("GET", path, {}, headers={"User-Agent": user_agent})
        assert (reply.headers.get("connection") == "close") is closed
    opened = client.request(
        "POST", "/projects/demo/tables/t", {"downloads": ""}, headers={"User-Agent": user_agent}
    )
    assert opened.status == 200
    assert (opened.headers.get("connection") == "close") is closed
