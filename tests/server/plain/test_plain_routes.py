"""Rows over plain HTTP, as clients that know nothing of us ask for them."""

from __future__ import annotations

import http.client
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
import pytest
from tests.waiting import until

import fletching
from fletching.server.server import Server

ROWS = 3000
TABLE = pa.table(
    {
        "id": range(ROWS),
        "text": [None if n % 7 == 0 else f'row {n}, "quoted"' for n in range(ROWS)],
        "day": [f"d{n % 3}" for n in range(ROWS)],
    }
)
ARROW = "application/vnd.apache.arrow.stream"


class Reply:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def arrow(self) -> pa.Table:
        return pa.ipc.open_stream(self.body).read_all()

    @property
    def ids(self) -> list[int]:
        return sorted(self.arrow["id"].to_pylist())


class Web:
    """A plain HTTP client with a bearer token."""

    def __init__(self, server: Server, token: str) -> None:
        self.server, self.token = server, token

    def __call__(
        self,
        table: str = "t",
        method: str = "GET",
        body: Any = None,
        headers: dict[str, str] | None = None,
        token: str | None = None,
        **query: Any,
    ) -> Reply:
        pairs = [
            f"{name}={quote(str(value))}"
            for name, values in query.items()
            for value in (values if isinstance(values, list) else [values])
        ]
        path = f"/fletching/v1/tables/demo/default/{table}/rows" + (
            "?" + "&".join(pairs) if pairs else ""
        )
        connection = http.client.HTTPConnection(urlsplit(self.server.url).netloc, timeout=600)
        try:
            bearer = {"authorization": f"Bearer {self.token if token is None else token}"}
            connection.request(method, path, body, bearer | (headers or {}))
            return Reply(connection.getresponse())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    folder = tmp_path_factory.mktemp("plain") / "data"
    with fletching.serve(folder, port=0) as server:
        access_id, secret = server.access_key
        keys = server.service.engine.access_keys
        with fletching.connect(server.url, access_id=access_id, access_key=secret) as client:
            client.create_table("t", TABLE.schema, partition_by=["day"]).append(TABLE)
            client.create_table("empty", "id BIGINT, text STRING")
            client.create_table("nested", "a ARRAY<BIGINT>").append({"a": [[1], None]})
        yield Web(server, keys.tokens.sign(access_id, secret, time.time() + 3600))


def test_every_format_has_the_same_rows(web: Web) -> None:
    expected = TABLE.sort_by([("day", "ascending"), ("id", "ascending")])
    reply = web()
    assert (reply.status, reply.headers["content-type"]) == (200, ARROW)
    assert reply.arrow.to_pylist() == expected.to_pylist()
    assert pq.read_table(io.BytesIO(web(format="parquet").body)).to_pylist() == expected.to_pylist()
    csv = web(format="csv")
    assert csv.headers["content-type"].startswith("text/csv")
    read = pa.csv.read_csv(
        io.BytesIO(csv.body),
        convert_options=pa.csv.ConvertOptions(
            strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    )
    assert read.to_pylist() == expected.to_pylist()
    lines = [json.loads(line) for line in web(format="jsonl").body.splitlines()]
    assert lines == expected.to_pylist()


def test_the_format_is_negotiated(web: Web) -> None:
    for accept, kind in [
        ("*/*", ARROW),
        ("text/html, text/csv;q=0.9", "text/csv; charset=utf-8; header=present"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("application/vnd.apache.parquet", "application/vnd.apache.parquet"),
    ]:
        assert web(limit=1, headers={"accept": accept}).headers["content-type"] == kind
    assert web(headers={"accept": "image/png"}).status == 400
    assert (
        web(limit=1, format="csv", headers={"accept": ARROW})
        .headers["content-type"]
        .startswith("text")
    )


def test_columns_filters_partitions_and_ranges(web: Web) -> None:
    assert web(columns="day,id", limit=1).arrow.column_names == ["id", "day"]
    assert web(filter="id < 5 AND day = 'd1'").ids == [1, 4]
    assert web(partition=["day=d0", "day=d2"], filter="id < 4").ids == [0, 2, 3]
    whole = web(columns="id").arrow["id"].to_pylist()
    assert web(columns="id", offset=10, limit=5).arrow["id"].to_pylist() == whole[10:15]
    assert web(columns="id", offset=ROWS + 9).arrow.num_rows == 0
    filtered = web(columns="id", filter="id >= 100").arrow["id"].to_pylist()
    part = web(columns="id", filter="id >= 100", offset=7, limit=11)
    assert part.arrow["id"].to_pylist() == filtered[7:18]
    text = web(columns="id", filter="id >= 100", offset=7, limit=11, format="jsonl").body
    assert [json.loads(line)["id"] for line in text.splitlines()] == filtered[7:18]
    assert web(limit=0).arrow.num_rows == 0
    for kind in ("arrow", "csv", "jsonl", "parquet"):
        assert web("empty", format=kind).status == 200


def test_a_range_header_counts_rows(web: Web) -> None:
    whole = web(columns="id").arrow["id"].to_pylist()
    part = web(columns="id", headers={"range": "rows=10-19"})
    assert (part.status, part.headers["content-range"]) == (206, f"rows 10-19/{ROWS}")
    assert part.arrow["id"].to_pylist() == whole[10:20]
    rest = web(columns="id", headers={"range": f"rows={ROWS - 2}-"})
    assert rest.headers["content-range"] == f"rows {ROWS - 2}-{ROWS - 1}/{ROWS}"
    assert web(headers={"range": f"rows={ROWS}-"}).status == 416
    for passed_over in ("bytes=0-9", "rows=5-4", "rows=0-1,3-4", "rows=x"):
        assert web(limit=1, headers={"range": passed_over}).status == 200


def test_the_tag_is_of_the_version_and_of_what_was_asked(web: Web) -> None:
    tag = web(limit=1).headers["etag"]
    again = web(limit=1, headers={"if-none-match": f'"x", {tag}'})
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    assert web(limit=2).headers["etag"] != tag
    assert again.headers["vary"] == "accept"
    assert not {"content-length", "content-type"} & again.headers.keys()
    assert web(limit=1, headers={"if-none-match": "*"}).status == 304
    assert web(limit=1, headers={"if-match": tag}).status == 200
    assert web(limit=1, headers={"if-match": f'W/{tag}, "x"'}).status == 412
    assert web(limit=1, format="csv", headers={"if-none-match": tag}).status == 200
    before = web("empty", headers={"accept": "text/csv"})
    version = int(before.headers["x-fletching-version"])
    assert web("empty", version=version).status == 200
    assert web("empty", "POST", b"id,text\n1,a\n", {"content-type": "text/csv"}).status == 200
    after = web("empty", headers={"accept": "text/csv", "if-none-match": before.headers["etag"]})
    assert after.status == 200
    assert int(after.headers["x-fletching-version"]) > version
    assert web("empty", version=version).arrow.num_rows == 0  # as it was
    assert web("empty").arrow.num_rows == 1
    assert web("empty", version=10**9).status == 404


def test_a_range_of_another_version_is_not_sent_as_one_of_this(web: Web) -> None:
    wanted = {"range": "Rows=0-1"}
    tag = web(headers=wanted).headers["etag"]
    assert web(headers={**wanted, "if-range": tag}).status == 206
    for other in ('"x"', f"W/{tag}", f"{tag}, {tag}", "Sat, 01 Jan 2000 00:00:00 GMT"):
        assert web(headers={**wanted, "if-range": other}).status == 200
    assert web(headers={**wanted, "if-none-match": tag}).status == 304
    beyond = web(headers={"range": f"rows={ROWS}-"})
    assert beyond.headers["content-range"] == f"rows */{ROWS}"
    assert web(method="HEAD", headers=wanted).status == 200  # RFC 9110, 14.2


def test_rows_are_not_appended_on_a_condition_that_nobody_looks_at(web: Web) -> None:
    _create(web, "conditional", "id BIGINT")
    for condition in ({"if-match": '"x"'}, {"if-none-match": "*"}, {"if-none-match": '"x"'}):
        sent = {"content-type": "text/csv", **condition}
        assert web("conditional", "POST", b"id\n1\n", sent).status == 412
    sent = {"content-type": "text/csv", "if-match": "*"}
    assert web("conditional", "POST", b"id\n2\n", sent).status == 200
    assert web("conditional").ids == [2]


def test_head_says_what_get_would(web: Web) -> None:
    reply = web(method="HEAD", limit=3)
    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["etag"] == web(limit=3).headers["etag"]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/csv", b'text,id\n"a, b",1\n"",2\n,3\n'),
        ("application/x-ndjson", b'{"id":1,"text":"a, b"}\n{"text":"","id":2}\n{"id":3}\n'),
    ],
)
def test_text_goes_in(web: Web, content_type: str, body: bytes) -> None:
    name = f"in_{content_type.rpartition('/')[2].replace('-', '_')}"
    _create(web, name, "id BIGINT, text STRING")
    reply = web(name, "POST", body, {"content-type": content_type})
    assert (reply.status, json.loads(reply.body)["rows"]) == (200, 3)
    assert web(name).arrow.to_pylist() == [
        {"id": 1, "text": "a, b"},
        {"id": 2, "text": ""},
        {"id": 3, "text": None},
    ]


def test_a_repeated_post_changes_nothing(web: Web) -> None:
    _create(web, "once", "id BIGINT")
    sent = {"content-type": "text/csv", "idempotency-key": '"order-7"'}
    first = web("once", "POST", b"id\n1\n2\n", sent)
    again = web("once", "POST", b"id\n1\n2\n", sent)
    assert json.loads(first.body) == json.loads(again.body)
    assert json.loads(first.body)["rows"] == 2
    for other in (b"id\n1\n3\n", b"id\n1\n"):
        assert json.loads(web("once", "POST", other, sent).body)["version"] == 1
    assert web("once").ids == [1, 2]
    version = json.loads(first.body)["version"]
    plain = {"content-type": "text/csv"}
    assert web("once", "POST", b"id\n3\n", plain, if_version=version).status == 200
    assert web("once", "POST", b"id\n4\n", plain, if_version=version).status == 409
    assert web("once").ids == [1, 2, 3]


def test_arrow_and_parquet_go_in(web: Web) -> None:
    _create(web, "in_binary", "id BIGINT, text STRING", partition_by=["day"])
    stream, parquet = io.BytesIO(), io.BytesIO()
    with pa.ipc.new_stream(stream, TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=500)
    pq.write_table(TABLE.select(["text", "id"]), parquet)
    assert web("in_binary", "POST", stream.getvalue(), {"content-type": ARROW}).status == 200
    assert (
        web("in_binary", "POST", parquet.getvalue(), format="parquet", partition="day=p").status
        == 200
    )
    assert web("in_binary", filter="day = 'p'").ids == list(range(ROWS))
    assert web("in_binary", filter="day <> 'p'").ids == list(range(ROWS))


@pytest.mark.parametrize(
    ("body", "headers", "query", "message"),
    [
        (b"id,text\nx,a\n", {"content-type": "text/csv"}, {}, "not readable as csv"),
        (b"id,nope\n1,a\n", {"content-type": "text/csv"}, {}, "nope"),
        (b"id,id\n1,1\n", {"content-type": "text/csv"}, {}, "several columns"),
        (b'id,text\n1,"a\n', {"content-type": "text/csv"}, {}, "the body ends inside the quoted"),
        (b"\xff\xfe{", {"content-type": "application/x-ndjson"}, {}, "not readable as jsonl"),
        (b"PAR1", {}, {"format": "parquet"}, "not readable as parquet"),
        (b"nonsense", {"content-type": ARROW}, {}, ""),
        (b"", {"content-type": "text/csv"}, {}, "not readable as csv"),
        (b"id\n1\n", {"content-type": "text/plain"}, {}, "Content-Type"),
        (b"id\n1\n", {}, {}, "Content-Type"),
        (
            b"id\n1\n",
            {"content-type": "text/csv", "idempotency-key": "k" * 999},
            {},
            "idempotency key",
        ),
        (b"id\n1\n", {"content-type": "text/csv"}, {"if_version": "x"}, "whole number"),
        (b"id\n1\n", {"content-type": "text/csv", "content-encoding": "gzip"}, {}, "compressed"),
        (b"id\n1\n", {"content-type": "text/csv"}, {"delimiter": "::"}, "one character"),
        (b"id\n1\n", {"content-type": "text/csv"}, {"nonsense": "1"}, "no parameter 'nonsense'"),
    ],
)
def test_what_cannot_go_in_changes_nothing(
    web: Web, body: bytes, headers: dict[str, str], query: dict[str, str], message: str
) -> None:
    before = web("nested").headers["etag"]
    _create(web, "untouched", "id BIGINT, text STRING")
    reply = web("untouched", "POST", body, headers, **query)
    assert reply.status == 400, reply.body
    assert message in json.loads(reply.body)["Message"]
    assert web("untouched").arrow.num_rows == 0
    assert web("nested").headers["etag"] == before


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "-1"},
        {"limit": "²"},
        {"limit": "1_0"},
        {"offset": " 1"},
        {"format": "xml"},
        {"columns": "nope"},
        {"columns": "id,ID"},
        {"columns": ""},
        {"filter": "id >"},
        {"partition": "nonsense"},
        {"version": "x"},
        {"limit": ["1", "2"]},
    ],
)
def test_what_means_nothing_is_refused(web: Web, query: dict[str, Any]) -> None:
    reply = web(**query)
    assert reply.status == 400, reply.body
    assert json.loads(reply.body)["Code"]


def test_a_format_that_cannot_hold_the_columns_says_so(web: Web) -> None:
    reply = web("nested", format="csv")
    assert reply.status == 400
    assert "cannot" in json.loads(reply.body)["Message"]
    assert web("nested", format="jsonl").body == b'{"a":[1]}\n{"a":null}\n'


def test_nobody_reads_or_writes_without_permission(web: Web) -> None:
    assert web(token="").status == 401
    assert web(token="bm9uc2Vuc2U=").status == 401
    keys = web.server.service.engine.access_keys
    from fletching.engine.access.permissions import Grant, Permission

    key = keys.create()
    keys.grant(Grant(key.access_id, "demo", "t", Permission.READ))
    token = keys.tokens.sign(key.access_id, key.secret, time.time() + 60)
    # The server looks at its keys every two seconds; few failures, or the address is slowed down.
    until(lambda: web(limit=1, token=token).status == 200, pause=0.5)
    assert web("nested", token=token).status == 403
    assert (
        web(
            method="POST", body=b"id\n1\n", headers={"content-type": "text/csv"}, token=token
        ).status
        == 403
    )
    expired = keys.tokens.sign(key.access_id, key.secret, time.time() - 1)
    assert web(limit=1, token=expired).status == 401
    assert web(method="DELETE").status == 405
    assert web("no_such_table").status == 404


def _create(web: Web, name: str, columns: str, **options: Any) -> None:
    access_id, secret = web.server.access_key
    with fletching.connect(web.server.url, access_id=access_id, access_key=secret) as client:
        client.create_table(name, columns, if_not_exists=True, **options)


def test_other_peoples_readers(web: Web, tmp_path: Path) -> None:
    """DuckDB and pandas read what curl would fetch."""
    import duckdb
    import pandas as pd

    path = tmp_path / "rows.parquet"
    path.write_bytes(web(format="parquet").body)
    result = duckdb.execute(f"select count(*), sum(id) from '{path}'").fetchall()
    assert result == [(ROWS, sum(range(ROWS)))]
    assert len(pd.read_json(io.BytesIO(web(format="jsonl").body), lines=True)) == ROWS
    assert len(pd.read_csv(io.BytesIO(web(format="csv").body))) == ROWS
