"""Reads of a service over a real S3 store: past the service by signed URLs, and from copies on its disk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.seaweedfs import ObjectStorage
from tests.waiting import until

import fletching
from fletching.objects.cached_store import CachedStore
from fletching.objects.local_object import LocalObject
from fletching.server.server import Server
from fletching.server.serving import serve

KEYS = {"ak": "sk"}
ROWS = 600_000


@pytest.fixture(scope="module")
def data() -> pa.Table:
    rng = np.random.default_rng(3)
    table = pa.table(
        {
            "id": np.arange(ROWS),
            "value": rng.random(ROWS),
            "text": pa.array([f"row {n}" for n in range(ROWS)]),
        }
    )
    return pa.Table.from_batches(table.to_batches(max_chunksize=60_000))


@pytest.fixture
def start(
    s3: ObjectStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Server]]:
    """Starts servers of one data set: a catalog in a folder, and objects in S3."""
    objects = s3.create()
    started: list[Server] = []

    def run(**settings: Any) -> Server:
        started.append(
            serve(
                tmp_path / "data",
                objects=objects,
                access_keys=KEYS,
                drain_idle_seconds=0.05,
                **settings,
            )
        )
        server = started[-1].__enter__()
        replies: list[int] = []
        server.sent = replies  # type: ignore[attr-defined]
        ended = server.service.ended

        def note(exchange: Any) -> None:
            replies.append(exchange.sent_bytes)
            ended(exchange)

        monkeypatch.setattr(server.service, "ended", note)
        return server

    yield run
    for server in started:
        server.close()


def connect(server: Server, **options: Any) -> fletching.Client:
    return fletching.connect(server.url, access_id="ak", access_key="sk", connections=1, **options)


def sent(server: Server, read: Callable[[], pa.Table], expected: pa.Table) -> int:
    """Bytes that the service sends in reply to a scan that gives these rows."""
    replies: list[int] = server.sent  # type: ignore[attr-defined]  # of `start`
    wait_until_idle(server)
    before, count = sum(replies), len(replies)
    assert read().equals(expected)
    # A client is done a moment before the service has counted what it sent.
    until(lambda: len(replies) > count)
    wait_until_idle(server)
    return sum(replies) - before


def wait_until_idle(server: Server) -> None:
    """Waits until the service sends nothing."""
    until(lambda: not server.service.reads.open)


def test_a_scan_is_fetched_past_the_service(start: Callable[..., Server], data: pa.Table) -> None:
    server = start()
    with connect(server) as client, connect(server, direct="never") as plain:
        table = client.create_table("t", data)
        read = table.scan().to_table
        assert sent(server, read, data) < data.nbytes / 100, "the service sends the manifest alone"
        for columns in (["value"], ["text", "id"]):
            expected = data.select(columns)
            assert sent(server, table.scan(columns).to_table, expected) < expected.nbytes / 20
        assert sent(server, plain.table("t").scan().to_table, data) > data.nbytes / 2
        assert table.scan(filter="id < 10").to_table().num_rows == 10
        table.delete("id = 5")
        assert table.count_rows() == ROWS - 1
        assert table.scan().to_table().equals(data.filter(pa.compute.not_equal(data["id"], 5)))


def test_a_service_may_keep_its_urls_to_itself(
    start: Callable[..., Server], data: pa.Table
) -> None:
    server = start(direct_reads=False)
    with connect(server) as client:
        table = client.create_table("t", data)
        assert sent(server, table.scan().to_table, data) > data.nbytes / 2


def test_copies_of_segments_are_read_like_local_ones(
    start: Callable[..., Server], data: pa.Table, tmp_path: Path
) -> None:
    server = start(cache_dir=tmp_path / "cache", cache_bytes=1 << 30)
    with connect(server, direct="never") as client:
        table = client.create_table("t", data)
        assert table.scan().to_table().equals(data)
        for thread in threading.enumerate():
            if thread.name == "fletching-cache":
                thread.join(600)
        store = server.service.engine.context.store
        assert isinstance(store, CachedStore)
        (info,) = list(store.list("tables"))
        assert table.scan().to_table().equals(data)
        assert table.scan(["text"]).to_table().equals(data.select(["text"]))
        assert store.hits >= 2
        (copy,) = (tmp_path / "cache").rglob("*.arrow")
        assert copy.stat().st_size == info.length
        with store._remote.open(info.key) as stored:
            assert copy.read_bytes() == bytes(stored.read(0, info.length))
        files = store._namespace()
        assert files is not None
        assert isinstance(files.open(info.key), LocalObject)
