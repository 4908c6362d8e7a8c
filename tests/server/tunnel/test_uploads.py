"""Upload sessions: blocks, what counts of them, and what is refused."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from tests.server.conftest import ACCESS_ID, SECRET, RawClient
from tests.server.tunnel.conftest import ID_AND_TEXT, Tunnel, records, rows_of

import fletching
from fletching.wire.snappy_frames import SnappyEncoder
from fletching.wire.tunnel_chunks import ChunkEncoder


def test_blocks_in_the_order_of_their_numbers(tunnel: Tunnel) -> None:
    session = tunnel.open()
    for number in (10, 2, 0):
        tunnel.block(session, number, [(number, f"block {number}")])
    assert tunnel.rows() == []
    assert tunnel.blocks(session) == [0, 2, 10]
    assert tunnel.commit(session) == "closed"
    assert [row[0] for row in tunnel.rows()] == [0, 2, 10]


def test_what_was_written_last_to_a_block_counts(tunnel: Tunnel) -> None:
    session = tunnel.open()
    tunnel.block(session, 1, [(1, "first"), (2, "first")])
    tunnel.block(session, 1, [(3, "second")])
    assert tunnel.blocks(session) == [1]
    tunnel.commit(session)
    assert tunnel.rows() == [(3, "second")]


def test_a_repetition_that_fails_takes_nothing_away(tunnel: Tunnel) -> None:
    session = tunnel.open()
    tunnel.block(session, 1, [(1, "kept")])
    damaged = bytearray(records([(2, "damaged")]))
    damaged[3] ^= 1
    reply = tunnel.send("PUT", {"uploadid": session, "blockid": 1}, bytes(damaged))
    assert reply.status == 400
    cut = records([(2, "cut")])[:-3]
    assert tunnel.send("PUT", {"uploadid": session, "blockid": 1}, cut).status == 400
    assert tunnel.blocks(session) == [1]
    tunnel.commit(session)
    assert tunnel.rows() == [(1, "kept")]


def test_a_commit_may_be_repeated(tunnel: Tunnel) -> None:
    session = tunnel.open()
    tunnel.block(session, 0, [(1, "a")])
    assert [tunnel.commit(session) for _ in range(3)] == ["closed"] * 3
    assert tunnel.rows() == [(1, "a")]
    late = tunnel.send("PUT", {"uploadid": session, "blockid": 1}, records([(2, "b")]))
    assert late.status == 409
    assert tunnel.rows() == [(1, "a")]


def test_no_blocks_at_all(tunnel: Tunnel) -> None:
    assert tunnel.commit(tunnel.open()) == "closed"
    assert tunnel.rows() == []


def test_overwriting(tunnel: Tunnel) -> None:
    session = tunnel.open()
    tunnel.block(session, 0, [(1, "old")])
    tunnel.commit(session)
    session = tunnel.open(overwrite="true")
    tunnel.block(session, 0, [(2, "new")])
    assert tunnel.rows() == [(1, "old")]
    tunnel.commit(session)
    assert tunnel.rows() == [(2, "new")]


def test_a_session_that_is_dropped(tunnel: Tunnel) -> None:
    session = tunnel.open()
    tunnel.block(session, 0, [(1, "a")])
    for _ in range(2):
        tunnel.done("DELETE", {"uploadid": session})
    assert tunnel.send("POST", {"uploadid": session}).status == 404
    assert tunnel.rows() == []


def test_partitions(parted: Tunnel) -> None:
    refused = parted.send("POST", {"uploads": 1, "partition": "pt=a"})
    assert (refused.status, refused.json["Code"]) == (404, "NoSuchPartition")
    for partition in ("", "other=a", "pt=a,pt2=b"):
        refused = parted.send("POST", {"uploads": 1, "partition": partition})
        assert (refused.status, refused.json["Code"]) == (400, "InvalidPartitionSpec")
    session = parted.open(partition="pt=a", create_partition="true")
    parted.block(session, 0, [(1, "a")])
    parted.commit(session)
    assert parted.rows(partition="pt=a") == [(1, "a")]
    session = parted.open(partition="PT=a", overwrite="true")
    parted.commit(session)
    assert parted.rows(partition="pt=a") == []


def test_a_partition_of_a_table_that_has_none(tunnel: Tunnel) -> None:
    for query in ({"uploads": 1}, {"downloads": ""}):
        refused = tunnel.send("POST", {**query, "partition": "pt=a"})
        assert (refused.status, refused.json["Code"]) == (400, "InvalidPartitionSpec")


def test_a_null_where_there_must_be_a_value(tunnel: Tunnel) -> None:
    session = tunnel.open()
    refused = tunnel.send("PUT", {"uploadid": session, "blockid": 0}, records([(None, "a")]))
    assert refused.status == 400
    assert "null" in refused.json["Message"]
    assert tunnel.blocks(session) == []


def test_columns_that_came_since_the_session_was_opened(server: Any, tunnel: Tunnel) -> None:
    session = tunnel.open()
    tunnel.block(session, 0, [(1, "a")])
    name = tunnel.path.rpartition("/")[2]
    with fletching.connect(server.url, access_id=ACCESS_ID, access_key=SECRET) as client:
        client.table(name).add_columns(pa.schema([("more", pa.int64())]))
        tunnel.block(session, 1, [(2, "b")])
        query: dict[str, Any] = {"uploadid": session, "blockid": 2, "arrow": ""}
        tunnel.done("PUT", query, framed([BATCH]))
        listed = tunnel.done("GET", {"uploadid": session})
        assert [each["name"] for each in listed["Schema"]["columns"]] == ["id", "text"]
        tunnel.commit(session)
        rows = client.table(name).scan().to_table().to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        (1, "a", None),
        (2, "b", None),
        (1, "a", None),
        (2, None, None),
    ]


def test_columns_that_went_since_the_session_was_opened(server: Any, tunnel: Tunnel) -> None:
    session = tunnel.open()
    name = tunnel.path.rpartition("/")[2]
    with fletching.connect(server.url, access_id=ACCESS_ID, access_key=SECRET) as client:
        client.table(name).drop_columns(["text"])
    refused = tunnel.send("PUT", {"uploadid": session, "blockid": 1}, records([(2, "b")]))
    assert (refused.status, refused.json["Code"]) == (412, "SchemaModified")


def test_partition_columns_are_told(parted: Tunnel) -> None:
    result = parted.done("POST", {"uploads": 1, "partition": "pt=a", "create_partition": "true"})
    assert [each["name"] for each in result["Schema"]["partitionKeys"]] == ["pt"]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"uploadid": "nobody's", "blockid": 0}, 404),
        ({"uploadid": "", "blockid": 0}, 400),
        ({"uploadid": "SESSION"}, 400),
        ({"uploadid": "SESSION", "blockid": "x"}, 400),
        ({"uploadid": "SESSION", "blockid": -1}, 400),
        ({"uploadid": "SESSION", "blockid": 1 << 31}, 400),
        ({"uploadid": "default", "blockid": 0}, 404),
    ],
)
def test_blocks_that_are_refused(tunnel: Tunnel, query: dict[str, Any], status: int) -> None:
    session = tunnel.open()
    query = {name: session if value == "SESSION" else value for name, value in query.items()}
    assert tunnel.send("PUT", query, records([(1, "a")])).status == status


def test_sessions_of_other_kinds_are_not_taken(keyed: Tunnel) -> None:
    stream = keyed.done("POST", {}, part="/streams")["session_name"]
    upsert = keyed.done("POST", {"slotnum": 1}, part="/upserts")["id"]
    upload = keyed.open()
    for session in (stream, upsert):
        assert keyed.send("GET", {"uploadid": session}).status == 404
        assert keyed.send("POST", {"uploadid": session}).status == 404
    for session in (upload, upsert):
        assert keyed.send("GET", {"uploadid": session}, part="/streams").status == 404
    for session in (upload, stream):
        assert keyed.send("POST", {"upsertid": session}, part="/upserts").status == 404
        assert keyed.send("DELETE", {"upsertid": session}, part="/upserts").status == 404
    for session in (stream, upsert):
        assert keyed.send("DELETE", {"uploadid": session}).status == 404
    for session in (upload, upsert):
        assert keyed.send("POST", {"uploadid": session}, part="/streams").status == 404
    # Nobody dropped them, and who may does it as often as he likes.
    assert keyed.send("GET", {"uploadid": upload}).status == 200
    for _ in range(2):
        assert keyed.send("DELETE", {"uploadid": upload}).status == 200
        assert keyed.send("DELETE", {"upsertid": upsert}, part="/upserts").status == 200
        assert keyed.send("POST", {"uploadid": stream}, part="/streams").status == 200
    for session in (upload, upsert, stream, "nobody's"):
        assert keyed.send("GET", {"uploadid": session}).status == 404
    assert keyed.send("DELETE", {"uploadid": "nobody's"}).status == 404


# --- Arrow and compression ------------------------------------------------------------------------


def framed(batches: list[pa.RecordBatch], chunk_bytes: int = 65536) -> bytes:
    encoder = ChunkEncoder(chunk_bytes)
    parts = [part for batch in batches for part in encoder.encode(batch.serialize())]
    return b"".join(map(bytes, [*parts, *encoder.finish()]))


BATCH = pa.record_batch([pa.array([1, 2]), pa.array(["a", None])], schema=ID_AND_TEXT)


@pytest.mark.parametrize("chunk_bytes", [1, 64, 65536])
def test_arrow_blocks(tunnel: Tunnel, chunk_bytes: int) -> None:
    session = tunnel.open()
    query: dict[str, Any] = {"uploadid": session, "arrow": ""}
    tunnel.done("PUT", {**query, "blockid": 0}, framed([BATCH, BATCH], chunk_bytes))
    tunnel.done("PUT", {**query, "blockid": 1}, framed([]))
    tunnel.done("PUT", {**query, "blockid": 2}, bytes(4))  # as PyODPS sends no batches
    tunnel.commit(session)
    assert tunnel.rows() == [(1, "a"), (2, None)] * 2


@pytest.mark.parametrize("offset", [0, 3, 4, 40, 200, -1])
def test_damaged_arrow_is_refused(tunnel: Tunnel, offset: int) -> None:
    session = tunnel.open()
    body = bytearray(framed([BATCH], 64))
    body[offset] ^= 0x40
    query: dict[str, Any] = {"uploadid": session, "arrow": "", "blockid": 0}
    assert tunnel.send("PUT", query, bytes(body)).status in {400, 413}
    assert tunnel.send("PUT", query, framed([BATCH])[:-2]).status == 400
    assert tunnel.blocks(session) == []


def snappy(data: bytes) -> bytes:
    encoder = SnappyEncoder()
    return b"".join(map(bytes, [*encoder.encode(data), *encoder.finish()]))


def lz4_frame(data: bytes) -> bytes:
    lz4 = pytest.importorskip("lz4.frame")
    packed: bytes = lz4.compress(data)
    return packed


def zstd(data: bytes) -> bytes:
    packed: bytes = pytest.importorskip("zstandard").ZstdCompressor().compress(data)
    return packed


CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "deflate": zlib.compress,
    "zstd": zstd,
    "x-lz4-frame": lz4_frame,
    "x-odps-lz4-frame": lz4_frame,
    "x-snappy-framed": snappy,
}


@pytest.mark.parametrize("coding", CODINGS)
def test_compressed_blocks(tunnel: Tunnel, coding: str) -> None:
    session = tunnel.open()
    packed = CODINGS[coding]
    headers = {"Content-Encoding": coding}
    query: dict[str, Any] = {"uploadid": session}
    tunnel.done("PUT", {**query, "blockid": 0}, packed(records([(1, "a")])), headers=headers)
    tunnel.done(
        "PUT", {**query, "blockid": 1, "arrow": ""}, packed(framed([BATCH])), headers=headers
    )
    for body in (packed(records([(1, "a")]))[:-3], records([(1, "a")])):
        refused = tunnel.send("PUT", {**query, "blockid": 2}, body, headers=headers)
        assert refused.status == 400
    tunnel.commit(session)
    assert tunnel.rows() == [(1, "a"), (1, "a"), (2, None)]


def test_a_coding_that_nobody_knows(tunnel: Tunnel) -> None:
    session = tunnel.open()
    refused = tunnel.send(
        "PUT",
        {"uploadid": session, "blockid": 0},
        records([(1, "a")]),
        headers={"Content-Encoding": "br"},
    )
    assert refused.status == 400
    assert "x-snappy-framed" in refused.json["Message"]


# --- several servers, and later ones -------------------------------------------------------------------


def test_sessions_are_found_by_every_server_and_after_a_restart(tmp_path: Any) -> None:
    keys = {ACCESS_ID: SECRET}
    with fletching.serve(tmp_path, access_keys=keys) as left:
        client = RawClient(left.url)
        client.create_table("t", ID_AND_TEXT)
        first = Tunnel(client, "/projects/demo/tables/t")
        session = first.open()
        first.block(session, 0, [(0, "one")])
        with fletching.serve(tmp_path, access_keys=keys) as right:
            second = Tunnel(RawClient(right.url), first.path)
            second.block(session, 1, [(1, "two")])
            first.block(session, 2, [(2, "one")])
            download = first.download()["DownloadID"]
            second.commit(session)
            # The session's snapshot is from before.
            assert second.done("GET", {"downloadid": download})["RecordCount"] == 0
            later = second.download()["DownloadID"]
    with fletching.serve(tmp_path, access_keys=keys) as three:
        last = Tunnel(RawClient(three.url), first.path)
        assert last.commit(session) == "closed"
        other = last.open(overwrite="true")
        last.commit(other)
        assert last.rows() == []
        assert last.done("GET", {"downloadid": later})["RecordCount"] == 3
        result = rows_of(last.data(later, 0, 3).body)
        assert result == [(0, "one"), (1, "two"), (2, "one")]
