"""Servers in folders of their own over one PostgreSQL catalog and one S3 prefix."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.postgresql import Databases
from tests.seaweedfs import ObjectStorage

import fletching
from fletching.server.server import Server
from fletching.server.serving import serve
from fletching.sql.statements.statement_kinds import Namespace

KEYS = {"ak": "sk"}
Start = Callable[[], Server]


@pytest.fixture
def start(postgresql: Databases, s3: ObjectStorage, tmp_path: Path) -> Iterator[Start]:
    """Starts servers of one data set, each in a folder of its own; stopped when the test ends."""
    catalog, objects = postgresql.create(), s3.create()
    with contextlib.ExitStack() as stack:
        count = 0

        def run() -> Server:
            nonlocal count
            count += 1
            return stack.enter_context(
                serve(
                    tmp_path / f"server-{count}",
                    catalog=catalog,
                    objects=objects,
                    server_key_file=tmp_path / "server.key",
                    access_keys=KEYS,
                    drain_idle_seconds=0.05,
                )
            )

        yield run


def connect(server: Server) -> fletching.Client:
    return fletching.connect(server.url, access_id="ak", access_key="sk")


def test_what_is_written_through_one_is_read_through_the_other(start: Start) -> None:
    data = pa.table({"id": pa.array(range(1000)), "text": [f"row {n}" for n in range(1000)]})
    with connect(start()) as writer, connect(start()) as other:
        writer.create_table("t", data)
        assert other.table("t").to_table() == data
        other.table("t").append(data)
        assert writer.table("t").count_rows() == 2000
        assert writer.table("t").scan(["id"]).to_table().num_rows == 2000
        report = writer.table("t").delete("id >= 10")
        assert report.rows_deleted == 1980
        assert sorted(other.table("t").to_table()["id"].to_pylist()) == sorted([*range(10)] * 2)


def test_a_statement_is_known_to_every_server_before_its_client_hears_of_it(start: Start) -> None:
    """Whichever server is asked next: what one remembers of a statement, the others must find in the catalog."""
    servers = [start(), start()]
    kept: list[Any] = []
    for server in servers:
        engine = server.service.engine
        outcomes = engine.instances._outcomes
        assert not engine.context.answers_alone
        kept.append(outcomes)
    with connect(servers[0]) as first, connect(servers[1]) as other:
        first.create_table("t", pa.table({"id": [1, 2, 3]}))
        for client, asked in ((first, kept[1]), (other, kept[0])):
            for _ in range(5):
                assert client.sql("select id from t where id > 1").to_table().num_rows == 2
            assert not asked._waiting
        assert not any(each._waiting for each in kept)


def test_servers_of_one_folder_know_each_other_s_statements(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        server, other = (
            stack.enter_context(
                serve(tmp_path / "data", access_keys=KEYS, drain_idle_seconds=0.05)
            ).service.engine
            for _ in range(2)
        )
        for _ in range(20):  # what is written a moment later would be missed now and then
            row = server.instances.run("SELECT 1", Namespace("demo", "default"))
            assert other.instances.get("demo", row.id).ended_at


def test_a_write_session_goes_on_through_another_server(start: Start) -> None:
    first, second = start(), start()
    with connect(first) as client:
        client.create_table("t", pa.schema([("id", pa.int64())]))
        session = client.table("t").write_session()
        with session.writer() as writer:
            writer.write(pa.table({"id": [1, 2, 3]}))
        session_id = session.id
    first.close()
    with connect(second) as client:
        client.table("t").open_write_session(session_id).commit()
        assert client.table("t").to_table()["id"].to_pylist() == [1, 2, 3]


def test_pyodps_writes_through_one_and_reads_through_the_other(start: Start) -> None:
    odps = pytest.importorskip("odps")
    maxstorage = pytest.importorskip("odps.maxstorage")

    def client(server: Server) -> Any:
        entry = odps.ODPS("ak", "sk", project="demo", endpoint=f"{server.url}/api")
        return entry, maxstorage.MaxStorageClient(entry, api_version="3")

    (entry, writing), (_, reading) = client(start()), client(start())
    entry.create_table("t", "a bigint, b string")
    batch = pa.record_batch({"a": pa.array([1, 2, None], pa.int64()), "b": ["x", None, "z"]})
    session = writing.create_table_write_session("t")
    with session.open_arrow_writer("s0") as writer:
        writer.write_batch(batch)
    session.commit()
    session = reading.create_table_read_session("t")
    assert session.record_count == 3
    result = []
    for split in session.splits:
        with session.open_arrow_reader(split) as stream:
            result += list(stream)
    assert pa.Table.from_batches(result) == pa.Table.from_batches([batch])
