"""Download sessions and previews."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from tests.server.conftest import RawClient
from tests.server.tunnel.conftest import ID_AND_TEXT, Tunnel, rows_of

from fletching.errors import InvalidArgumentError
from fletching.server.tunnel.downloads import row_range
from fletching.wire.tunnel_chunks import ChunkDecoder, ChunkEncoder

ROWS = [(number, f"text {number}") for number in range(50)]


@pytest.fixture
def filled(tunnel: Tunnel) -> Tunnel:
    session = tunnel.open()
    for number in range(0, 50, 10):
        tunnel.block(session, number, ROWS[number : number + 10])
    tunnel.commit(session)
    return tunnel


def arrow_of(data: bytes, schema: pa.Schema = ID_AND_TEXT) -> pa.Table:
    decoder = ChunkDecoder()
    content = b"".join([*decoder.feed(data), *decoder.finish()])
    end = b"\xff\xff\xff\xff\x00\x00\x00\x00"
    return pa.ipc.open_stream(schema.serialize().to_pybytes() + content + end).read_all()


def test_what_a_session_says(filled: Tunnel) -> None:
    session = filled.download()
    assert session["Status"] == "normal"
    assert session["RecordCount"] == 50
    # Clients would ask for so many bytes, and again from the next row.
    assert session["SupportReadByRawSize"] is False
    assert session["Schema"] == {
        "columns": [
            {"name": "id", "type": "bigint", "comment": "", "nullable": False},
            {"name": "text", "type": "string", "comment": "", "nullable": True},
        ],
        "partitionKeys": [],
    }
    assert filled.done("GET", {"downloadid": session["DownloadID"]}) == session


def test_a_quota_is_called_what_the_client_calls_it(filled: Tunnel) -> None:
    session = filled.done("POST", {"downloads": "", "quotaName": "q"})
    assert session["QuotaName"] == "q"
    again = {"downloadid": session["DownloadID"], "quotaName": "r"}
    assert filled.done("GET", again)["QuotaName"] == "r"


@pytest.mark.parametrize(
    ("start", "count"), [(0, 50), (7, 15), (49, 1), (45, 100), (50, 5), (3, 0)]
)
def test_row_ranges(filled: Tunnel, start: int, count: int) -> None:
    session = filled.download()["DownloadID"]
    expected = ROWS[start : start + count]
    assert rows_of(filled.data(session, start, count).body) == expected
    table = arrow_of(filled.data(session, start, count, arrow="").body)
    assert table["id"].to_pylist() == [row[0] for row in expected]


def test_a_session_keeps_its_rows(filled: Tunnel) -> None:
    session = filled.download()["DownloadID"]
    other = filled.open(overwrite="true")
    filled.block(other, 0, [(1000, "new")])
    filled.commit(other)
    assert rows_of(filled.data(session, 0, 50).body) == ROWS
    assert filled.rows() == [(1000, "new")]


def test_records_have_the_order_asked_for_and_arrow_the_table_s(filled: Tunnel) -> None:
    session = filled.download()["DownloadID"]
    body = filled.data(session, 0, 1, columns="text,id").body
    assert body.startswith(b"\x0a\x06text 0\x10\x00")
    table = arrow_of(filled.data(session, 0, 2, columns="text,id", arrow="").body)
    assert table.column_names == ["id", "text"]
    assert table["text"].to_pylist() == ["text 0", "text 1"]
    half = arrow_of(
        filled.data(session, 0, 2, columns="TEXT", arrow="").body, pa.schema([ID_AND_TEXT.field(1)])
    )
    assert half["text"].to_pylist() == ["text 0", "text 1"]


def test_no_rows(tunnel: Tunnel) -> None:
    session = tunnel.download()
    assert session["RecordCount"] == 0
    empty = bytes.fromhex("f0ffff7f00f8ffff7f00")
    assert tunnel.data(session["DownloadID"], 0, 0).body == empty
    assert tunnel.data(session["DownloadID"], 0, 10).body == empty
    framed = bytes.fromhex("0001000000000000")
    assert tunnel.data(session["DownloadID"], 0, 0, arrow="").body == framed


def test_the_length_of_arrow_is_told(filled: Tunnel) -> None:
    session = filled.download()["DownloadID"]
    reply = filled.data(session, 0, 50, arrow="")
    assert int(reply.headers["content-length"]) == len(reply.body)


def test_arrow_has_timestamps_of_nanoseconds(raw: RawClient) -> None:
    """Clients know the columns without being told: here a struct would be read as something else."""
    schema = pa.schema([("t", pa.timestamp("ns")), ("l", pa.list_(pa.timestamp("ns")))])
    raw.create_table("moments", schema)
    tunnel = Tunnel(raw, "/projects/demo/tables/moments")
    batch = pa.record_batch(
        [pa.array([1, None], schema[0].type), [[-1, None], None]], schema=schema
    )
    encoder = ChunkEncoder()
    framed = [*encoder.encode(batch.serialize()), *encoder.finish()]
    session = tunnel.open()
    query: dict[str, Any] = {"uploadid": session, "blockid": 0, "arrow": ""}
    tunnel.done("PUT", query, b"".join(map(bytes, framed)))
    tunnel.commit(session)
    reply = tunnel.data(tunnel.download()["DownloadID"], 0, 2, arrow="")
    assert arrow_of(reply.body, schema).equals(pa.Table.from_batches([batch]))


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"downloadid": "nobody's", "rowrange": "(0,1)"}, 404),
        ({"rowrange": "(0,1)"}, 400),
        ({"downloadid": "SESSION"}, 400),
        ({"downloadid": "SESSION", "rowrange": "0,1"}, 400),
        ({"downloadid": "SESSION", "rowrange": "(-1,1)"}, 400),
        ({"downloadid": "SESSION", "rowrange": "(51,1)"}, 400),
        ({"downloadid": "SESSION", "rowrange": "(0,1)", "columns": "id,id"}, 400),
        ({"downloadid": "SESSION", "rowrange": "(0,1)", "columns": "other"}, 400),
    ],
)
def test_what_is_refused(filled: Tunnel, query: dict[str, Any], status: int) -> None:
    session = filled.download()["DownloadID"]
    query = {name: session if value == "SESSION" else value for name, value in query.items()}
    assert filled.send("GET", {"data": "", **query}).status == status


def test_partitions(parted: Tunnel) -> None:
    for name in ("a", "b"):
        session = parted.open(partition=f"pt={name}", create_partition="true")
        parted.block(session, 0, [(1, name)])
        parted.commit(session)
    assert parted.rows(partition="pt=b") == [(1, "b")]
    result = parted.download(partition="pt=a")
    assert result["RecordCount"] == 1
    assert [each["name"] for each in result["Schema"]["columns"]] == ["id", "text"]
    assert [each["name"] for each in result["Schema"]["partitionKeys"]] == ["pt"]
    assert parted.send("POST", {"downloads": ""}).json["Code"] == "InvalidPartitionSpec"
    missing = parted.send("POST", {"downloads": "", "partition": "pt=c"})
    assert (missing.status, missing.json["Code"]) == (404, "NoSuchPartition")


def test_previews(filled: Tunnel) -> None:
    reply = filled.send("GET", {"limit": 3}, part="/preview")
    assert pa.ipc.open_stream(reply.body).read_all()["id"].to_pylist() == [0, 1, 2]
    reply = filled.send("GET", {"limit": -1, "columns": "text"}, part="/preview")
    table = pa.ipc.open_stream(reply.body).read_all()
    assert (table.column_names, table.num_rows) == (["text"], 50)
    assert filled.send("GET", {"limit": "x"}, part="/preview").status == 400
    assert filled.send("GET", {"limit": 1 << 40}, part="/preview").status == 200


def test_a_table_in_a_schema(raw: RawClient, filled: Tunnel) -> None:
    name = filled.path.rpartition("/")[2]
    other = Tunnel(raw, f"/api/projects/demo/schemas/default/tables/{name}")
    assert other.rows() == ROWS
    missing = Tunnel(raw, f"/projects/demo/schemas/other/tables/{name}")
    assert missing.send("POST", {"downloads": ""}).status == 404


@pytest.mark.parametrize(
    "text", ["", "0,1", "(0)", "(0,1", "(0,1)x", "(-1,2)", "(1," + "9" * 30 + ")"]
)
def test_row_ranges_that_are_none(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="rowrange"):
        row_range(text)


def test_row_ranges_that_are() -> None:
    assert row_range("(0,2)") == (0, 2)
    assert row_range("( 10 , 0 )") == (10, 0)
