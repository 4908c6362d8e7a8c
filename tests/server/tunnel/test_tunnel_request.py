"""What tunnel handlers work with: who may, where this server is, parameters that are wrong."""

from __future__ import annotations

import concurrent.futures
import gc
import types
import weakref
from typing import Any

import pytest
from tests.server.conftest import ACCESS_ID, SECRET, Query, RawClient
from tests.server.tunnel.conftest import ID_AND_TEXT, Tunnel, records, upserts
from tests.waiting import until

import fletching
from fletching.engine.access.permissions import Grant, Permission
from fletching.errors import InvalidArgumentError
from fletching.protocol.http import tunnel_bodies
from fletching.protocol.messages.responses import Column, TableSchema
from fletching.server.tunnel.tunnel_request import TunnelRequest
from fletching.types import PartitionSpec, TableName
from fletching.wire import content_coding
from fletching.wire.tunnel_record_decoder import RecordDecoder


def request_of(query: str = "", **options: Any) -> TunnelRequest:
    pairs = [tuple(pair.split("=", 1)) for pair in query.split("&") if pair]
    exchange: Any = types.SimpleNamespace(
        query=pairs,
        head=types.SimpleNamespace(scheme=options.get("scheme", "http")),
        header=lambda _: options.get("host", "here:8787"),
    )
    settings = types.SimpleNamespace(public_host=options.get("public_host"))
    service: Any = types.SimpleNamespace(settings=settings)
    return TunnelRequest(exchange, service, TableName("demo", "t"))


@pytest.mark.parametrize(
    ("options", "server"),
    [
        ({}, "here:8787"),
        ({"host": "here"}, "here:80"),
        ({"host": "here", "scheme": "https"}, "here:443"),
        ({"public_host": "out.example:9"}, "out.example:9"),
        # Clients take it apart at its only colon, and only send it back.
        ({"host": "[::1]:8787"}, "localhost:8787"),
        ({"host": "[::1]"}, "localhost:80"),
        ({"host": ""}, "localhost:80"),
    ],
)
def test_where_a_slot_is(options: dict[str, str], server: str) -> None:
    assert request_of(**options).server == server


def test_parameters() -> None:
    request = request_of("a=1&b=&c=x&d=False&e=true&partition=pt=1,region='cn'")
    assert request.count("a") == 1
    for name in ("b", "c", "missing"):
        with pytest.raises(InvalidArgumentError, match=name):
            request.count(name)
    assert [request.flag(name) for name in "abcde"] == [True, True, True, False, True]
    assert not request.flag("missing")
    assert request.partition == PartitionSpec((("pt", "1"), ("region", "cn")))
    with pytest.raises(InvalidArgumentError) as caught:
        _ = request_of("partition=pt").partition
    assert caught.value.code == "InvalidPartitionSpec"


def test_a_partition_in_the_table_s_order() -> None:
    schema = TableSchema(
        partition_columns=(Column(name="pt", type="string"), Column(name="Region", type="string"))
    )
    result = request_of("partition=REGION=cn,pt=1").whole_partition(schema)
    assert result == PartitionSpec((("pt", "1"), ("Region", "cn")))
    with pytest.raises(InvalidArgumentError, match=r"Region=\.\."):
        request_of("partition=pt=1").whole_partition(schema)


# --- who may -------------------------------------------------------------------------------------

READS: list[tuple[str, str, Query]] = [
    ("POST", "", {"downloads": ""}),
    ("GET", "", {"downloadid": "x"}),
    ("GET", "", {"data": "", "downloadid": "x", "rowrange": "(0,1)"}),
    ("GET", "/preview", {"limit": 1}),
]
WRITES: list[tuple[str, str, Query]] = [
    ("POST", "", {"uploads": 1}),
    ("GET", "", {"uploadid": "x"}),
    ("PUT", "", {"uploadid": "x", "blockid": 0}),
    ("POST", "", {"uploadid": "x"}),
    ("DELETE", "", {"uploadid": "x"}),
    ("POST", "/streams", {}),
    ("GET", "/streams", {"uploadid": "x"}),
    ("PUT", "/streams", {"uploadid": "x", "slotid": "0"}),
    ("POST", "/streams", {"uploadid": "x"}),
    ("POST", "/upserts", {}),
    ("GET", "/upserts", {"upsertid": "x"}),
    ("PUT", "/upserts", {"upsertid": "x", "bucketid": 0, "slotid": "0"}),
    ("POST", "/upserts", {"upsertid": "x"}),
    ("DELETE", "/upserts", {"upsertid": "x"}),
]


@pytest.fixture(scope="module")
def restricted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A service with one table, and makers of keys."""
    folder = tmp_path_factory.mktemp("access")
    with fletching.serve(
        folder, access_keys={ACCESS_ID: SECRET}, key_refresh_seconds=0.0
    ) as server:
        with fletching.connect(server.url, access_id=ACCESS_ID, access_key=SECRET) as client:
            for name in ("t", "other"):
                client.create_table(name, ID_AND_TEXT, primary_key=["id"])
        keys = server.service.engine.access_keys

        def tunnel(permission: Permission | None) -> Tunnel:
            key = keys.create()
            keys.grant(Grant(key.access_id, "demo", "other", Permission.ADMIN))
            if permission is not None:
                keys.grant(Grant(key.access_id, "demo", "t", permission))
            client = RawClient(server.url, key.access_id, key.secret)
            return Tunnel(client, "/projects/demo/tables/t")

        yield types.SimpleNamespace(
            mine=Tunnel(RawClient(server.url), "/projects/demo/tables/t"), theirs=tunnel
        )


@pytest.mark.parametrize(("method", "part", "query"), [*READS, *WRITES])
def test_who_has_no_grant_is_refused(restricted: Any, method: str, part: str, query: Query) -> None:
    reply = restricted.theirs(None).send(method, query, part=part)
    assert (reply.status, reply.json["Code"]) == (403, "NoPermission")


@pytest.mark.parametrize(("method", "part", "query"), WRITES)
def test_who_may_read_may_not_write(restricted: Any, method: str, part: str, query: Query) -> None:
    reply = restricted.theirs(Permission.READ).send(method, query, part=part)
    assert (reply.status, reply.json["Code"]) == (403, "NoPermission")


def test_who_may_may(restricted: Any) -> None:
    assert restricted.theirs(Permission.READ).rows() == []
    writer = restricted.theirs(Permission.WRITE)
    session = writer.open()
    writer.block(session, 0, [(1, "a")])
    writer.commit(session)
    upsert = writer.done("POST", {}, part="/upserts")["id"]
    query: Query = {"upsertid": upsert, "bucketid": 0, "slotid": "0"}
    writer.done("PUT", query, upserts([(2, "b", 85)]), part="/upserts")
    writer.done("POST", {"upsertid": upsert}, part="/upserts")
    assert sorted(restricted.theirs(Permission.READ).rows()) == [(1, "a"), (2, "b")]


# --- many at once -----------------------------------------------------------------------------------


def test_blocks_that_come_at_once(server: Any, tunnel: Tunnel) -> None:
    session = tunnel.open()

    def block(number: int) -> None:
        for _ in range(2):
            tunnel.block(session, number, [(number, "x" * 1000)])

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(block, range(24)))
    assert tunnel.blocks(session) == list(range(24))
    tunnel.commit(session)
    assert [row[0] for row in tunnel.rows()] == list(range(24))
    assert server.service.memory.held == 0


def test_uploads_wait_for_memory(tmp_path: Any) -> None:
    """Each part of records may take some 16 MiB: one after the other, they go through 20."""
    keys = {ACCESS_ID: SECRET}
    with fletching.serve(tmp_path, access_keys=keys, ingest_memory_bytes=20 << 20) as server:
        client = RawClient(server.url)
        client.create_table("t", ID_AND_TEXT)
        tunnel = Tunnel(client, "/projects/demo/tables/t")
        session = tunnel.open()
        body = records([(number, "x" * 50) for number in range(30_000)])

        def block(number: int) -> int:
            query: Query = {"uploadid": session, "blockid": number}
            return tunnel.send("PUT", query, body).status

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            assert list(pool.map(block, range(8))) == [200] * 8
        budget = server.service.memory
        assert budget.held == 0
        assert 0 < budget.peak <= 40 << 20
        tunnel.commit(session)
        assert tunnel.download()["RecordCount"] == 8 * 30_000


def test_long_rows_wait_for_memory_before_they_are_received(tmp_path: Any) -> None:
    """A few kilobytes that decode to one row: what has come of it is kept, and others wait for that."""
    keys = {ACCESS_ID: SECRET}
    body = records([(1, "x" * (24 << 20))])
    encoder = content_coding.Encoder(content_coding.ContentCoding.ZSTD, level=1)
    coded = b"".join(bytes(part) for part in (*encoder.encode(body), *encoder.finish()))
    with fletching.serve(tmp_path, access_keys=keys, ingest_memory_bytes=20 << 20) as server:
        client = RawClient(server.url)
        client.create_table("t", ID_AND_TEXT)
        tunnel = Tunnel(client, "/projects/demo/tables/t")
        session = tunnel.open()
        budget = server.service.memory
        kept: list[int] = []
        take = budget.take

        async def taken(count: int, *, own: int = 0) -> None:
            kept.append(own)
            await take(count, own=own)

        budget.take = taken  # type: ignore[method-assign]

        def block(number: int) -> int:
            query: Query = {"uploadid": session, "blockid": number}
            return tunnel.send("PUT", query, coded, headers={"Content-Encoding": "zstd"}).status

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            assert list(pool.map(block, range(4))) == [200] * 4
        assert budget.held == 0
        assert max(kept) >= 24 << 20
        tunnel.commit(session)
        assert tunnel.download()["RecordCount"] == 4


def test_a_refused_upload_stays_in_no_circle_of_references(
    tunnel: Tunnel, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoders: list[weakref.ref[Any]] = []
    made = RecordDecoder

    def recorded(*args: Any, **options: Any) -> Any:
        decoder = made(*args, **options)
        decoders.append(weakref.ref(decoder))
        return decoder

    monkeypatch.setattr(tunnel_bodies, "RecordDecoder", recorded)
    session = tunnel.open()
    gc.disable()
    try:
        for body in (b"nonsense", records([(1, "a")])[:-1], records([(None, "a")])):
            assert tunnel.send("PUT", {"uploadid": session, "blockid": 1}, body).status == 400
        until(lambda: all(decoder() is None for decoder in decoders))
    finally:
        gc.enable()
    assert len(decoders) == 3


def test_sessions_of_another_key(restricted: Any) -> None:
    """Neither on their own table's path, where grants are missing, nor on another's, where they are not."""
    mine: Tunnel = restricted.mine
    before = mine.rows()
    download = mine.download()["DownloadID"]
    upload = mine.open()
    mine.block(upload, 0, [(1, "mine")])
    stream = mine.done("POST", {}, part="/streams")["session_name"]
    upsert = mine.done("POST", {"slotnum": 1}, part="/upserts")["id"]
    tried: list[tuple[str, str, Query, bytes]] = [
        ("GET", "", {"downloadid": download}, b""),
        ("GET", "", {"data": "", "downloadid": download, "rowrange": "(0,1)"}, b""),
        ("GET", "", {"uploadid": upload}, b""),
        ("PUT", "", {"uploadid": upload, "blockid": 0}, records([(1, "theirs")])),
        ("POST", "", {"uploadid": upload}, b""),
        ("DELETE", "", {"uploadid": upload}, b""),
        ("GET", "/streams", {"uploadid": stream}, b""),
        ("PUT", "/streams", {"uploadid": stream, "slotid": "0"}, records([(2, "theirs")])),
        ("POST", "/streams", {"uploadid": stream}, b""),
        ("GET", "/upserts", {"upsertid": upsert}, b""),
        (
            "PUT",
            "/upserts",
            {"upsertid": upsert, "bucketid": 0, "slotid": "0"},
            upserts([(3, "theirs", 85)]),
        ),
        ("POST", "/upserts", {"upsertid": upsert}, b""),
        ("DELETE", "/upserts", {"upsertid": upsert}, b""),
    ]
    theirs = restricted.theirs(None)
    elsewhere = Tunnel(theirs.client, "/projects/demo/tables/other")
    for method, part, query, body in tried:
        refused = theirs.send(method, query, body, part=part)
        assert (refused.status, refused.json["Code"]) == (403, "NoPermission"), (method, query)
        refused = elsewhere.send(method, query, body, part=part)
        assert refused.status == 404, (method, query, refused.body)
    assert elsewhere.rows() == []
    # Nothing was changed by any of it.
    assert mine.blocks(upload) == [0]
    assert mine.done("GET", {"upsertid": upsert}, part="/upserts")["status"] == "normal"
    mine.done("GET", {"uploadid": stream}, part="/streams")
    assert mine.rows() == before
    mine.done("DELETE", {"uploadid": upload})


def test_results_of_another_key(restricted: Any) -> None:
    odps = pytest.importorskip("odps")
    mine: Tunnel = restricted.mine

    def connected(client: RawClient) -> Any:
        return odps.ODPS(
            client.access_id, client.secret, "demo", endpoint=f"http://{client.netloc}/api"
        )

    own = connected(mine.client)
    plain = own.execute_sql("select 1 as secret")
    quick = own.execute_sql_interactive("select 1 as secret", fallback=False)
    theirs = restricted.theirs(None)
    elsewhere = Tunnel(theirs.client, "/projects/demo/tables/other")
    for instance in (plain, quick):
        path = f"/projects/demo/instances/{instance.id}"
        queries: list[tuple[str, Query]] = [
            ("POST", {"downloads": ""}),
            ("GET", {"downloadid": instance.id}),
            ("GET", {"data": "", "rowrange": "(0,1)", "downloadid": instance.id}),
            ("GET", {"data": "", "cached": "", "queryid": "1", "taskname": "AnonymousSQLRTTask"}),
            ("GET", {"result": ""}),
            ("GET", {"source": ""}),
            ("GET", {"info": "", "taskname": "AnonymousSQLRTTask", "key": "result_1"}),
        ]
        for method, query in queries:
            refused = elsewhere.client.request(method, path, query)
            assert refused.status in {403, 404}, (path, method, query, refused.body)
            assert b"secret" not in refused.body
    assert plain.open_reader(tunnel=True)[0][0] == 1
