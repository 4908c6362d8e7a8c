"""A plan travels without a secret, reads one version wherever it is, and leaves no session open."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import fletching
from fletching.client import Client, Scan
from fletching.client.addresses import Reopen
from fletching.client.credentials import SessionCredentials
from fletching.client.reading.planned_scan import _PlannedTable, plan
from fletching.errors import NoPermissionError, NoSuchTableError, UsageError
from fletching.server.server import Server

SECRET = "a-secret-of-forty-characters-that-is-unique"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with fletching.serve(tmp_path / "data", port=0, access_keys={"id": SECRET}) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with fletching.connect(server.url, "demo", access_id="id", access_key=SECRET) as client:
        client.create_table("t", pa.table({"id": range(100), "s": [f"s{n}" for n in range(100)]}))
        yield client


def open_sessions(server: Server) -> int:
    """Read sessions that have neither ended nor expired."""
    result = server.service.engine.context.database
    with result.read() as connection:
        from fletching.catalog.read_session_rows import count_open_read_sessions

        return count_open_read_sessions(connection, time.time(), 1000)


def credentials_of(scan: Scan) -> object:
    reopen = scan.channel.reopen
    assert isinstance(reopen, Reopen)
    return reopen.credentials


def carried(scan: Scan) -> Scan:
    data = pickle.dumps(scan)
    assert SECRET.encode() not in data
    result = pickle.loads(data)
    assert isinstance(result, Scan)
    return result


def test_a_plan_reads_one_version_by_a_token(client: Client, server: Server) -> None:
    table = client.table("t")
    planned = plan(table.scan(columns=["id"], filter="id >= 40"))
    assert planned.row_count == 100
    assert planned.byte_size > 0
    table.append({"id": [1000], "s": ["later"]})
    far = carried(carried(planned.scan))
    assert isinstance(credentials_of(far), SessionCredentials)
    assert far.to_table()["id"].to_pylist() == list(range(40, 100))
    with far.session() as session:
        assert session.version == planned.version
        assert session.rows(50, 60).to_table()["id"].to_pylist() == list(range(50, 60))
        inner = pickle.loads(pickle.dumps(session.rows(50, 60)))
        assert SECRET.encode() not in pickle.dumps(inner)
        assert inner.to_table().num_rows == 10
    assert far.count() == 60
    with pytest.raises(NoPermissionError):
        fletching.Table(far.channel, table.info).append({"id": [1], "s": ["x"]})
    other = client.create_table("u", "id BIGINT")
    with pytest.raises(NoPermissionError):
        fletching.Table(far.channel, other.info).scan().to_table()


def test_a_plan_reads_its_table_and_no_other_that_has_the_name_later(client: Client) -> None:
    held = client.table("t")
    first = plan(held.scan()).scan
    client.drop_table("t")
    client.create_table("t", {"id": [7], "s": ["another"]})
    for each in (first, carried(first)):
        with pytest.raises(NoSuchTableError, match="another of its name"):
            each.to_table()
    # What is planned now is of the table that has the name now, whatever object names it.
    again = plan(held.scan(columns=["id"])).scan
    assert carried(again).to_table()["id"].to_pylist() == [7]


def test_no_session_stays_open(client: Client, server: Server) -> None:
    scan = plan(client.table("t").scan()).scan
    for each in (scan, carried(scan)):
        assert each.to_table().num_rows == 100
        batches = each.to_batches()
        next(batches)
        batches.close()
        with each.session() as session:
            assert session.rows(0, 10).to_table().num_rows == 10
            assert open_sessions(server) == 1
        with pytest.raises(ZeroDivisionError), each.session():
            raise ZeroDivisionError
    assert open_sessions(server) == 0


def test_limits_and_changes(client: Client) -> None:
    table = client.table("t")
    planned = plan(table.scan(limit=10))
    assert planned.row_count == 10
    assert carried(planned.scan).to_table().num_rows == 10
    with pytest.raises(UsageError, match="limit"):
        plan(table.scan(limit=10, filter="id > 3"))
    since = table.versions(limit=1)[0].version
    table.append({"id": [1000], "s": ["later"]})
    feed = plan(table.changes(since=since))
    assert carried(feed.scan).to_table()["id"].to_pylist() == [1000]


def test_a_plan_that_is_carried_again_later_takes_a_new_token(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = plan(client.table("t").scan()).scan
    table: Any = scan.table
    assert isinstance(table, _PlannedTable)

    def token(of: Scan) -> str:
        credentials = credentials_of(of)
        assert isinstance(credentials, SessionCredentials)
        return str(credentials.token)

    first = carried(scan)
    assert token(carried(scan)) == token(first)
    monkeypatch.setattr(
        "fletching.client.reading.planned_scan.time.time", lambda: table.token.half_life + 1
    )
    # A token says its end in whole seconds: one of the same second is the same.
    threading.Event().wait(1.1)
    second = carried(scan)
    assert token(second) != token(first)
    # One that has a token still does the same.
    assert token(carried(first)) != token(first)
    assert second.to_table().num_rows == 100


def test_a_folder_needs_no_token(tmp_path: Path) -> None:
    with fletching.connect(tmp_path / "data", "demo", create=True) as client:
        client.create_table("t", pa.table({"id": range(10)}))
        scan = plan(client.table("t").scan()).scan
        assert pickle.loads(pickle.dumps(scan)).to_table().num_rows == 10
