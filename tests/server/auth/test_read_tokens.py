"""The token of a session or a table reads that, whoever has it, and does nothing else."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import fletching
from fletching.client import Client, ReadSession
from fletching.client.addresses import Reopen
from fletching.client.credentials import SessionCredentials
from fletching.engine.access.bearer_tokens import BearerClaim, BearerTokens, ReadScope
from fletching.engine.access.permissions import Grant, Permission
from fletching.errors import (
    FletchingError,
    NoPermissionError,
    ServiceError,
    SignatureMismatchError,
    UnauthorizedError,
)
from fletching.protocol.messages import admin, changes, requests
from fletching.protocol.messages.requests import Request
from fletching.server.auth.read_tokens import RENEWABLE_SECONDS, check_reading, is_table_of
from fletching.server.server import Server
from fletching.types import TableName

SECRET = "a-secret-of-forty-characters-that-is-unique"
T = TableName("demo", "t")
SCOPE = ReadScope(T, "s1", 1000)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with fletching.serve(
        tmp_path / "data", port=0, access_keys={"id": SECRET}, key_refresh_seconds=0.0
    ) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with fletching.connect(server.url, "demo", access_id="id", access_key=SECRET) as client:
        client.create_table("t", pa.table({"id": range(100)}))
        yield client


def token_of(session: ReadSession) -> str:
    """The token that a pickled session carries."""
    credentials = pickle.loads(pickle.dumps(session)).channel.reopen.credentials
    assert isinstance(credentials, SessionCredentials)
    return credentials.token


def as_holder(client: Client, token: str) -> Client:
    """A client of whoever has a token."""
    reopen = client.channel.reopen
    assert isinstance(reopen, Reopen)
    return reopen.scoped(token).open_client("demo", "default")


# --- what travels ------------------------------------------------------------------------------


def test_what_travels_has_no_secret(client: Client) -> None:
    session = client.table("t").scan().session()
    splits = [*session.splits(3), *client.table("t").scan().splits(2)]
    limited = client.table("t").scan(limit=10).splits(2)
    for each in (session, *splits, *limited, session.rows(2, 5)):
        for again in (each, pickle.loads(pickle.dumps(each))):
            assert SECRET.encode() not in pickle.dumps(again)
            assert SECRET not in repr(again)
    assert token_of(session) not in repr(pickle.loads(pickle.dumps(session)).channel.reopen)
    # What may do everything carries everything.
    assert SECRET.encode() in pickle.dumps(client.table("t").scan())


def test_another_process_reads_by_it_alone(client: Client, tmp_path: Path) -> None:
    session = client.table("t").scan(filter="id >= 10").session()
    for number, split in enumerate(session.splits(2)):
        (tmp_path / f"{number}").write_bytes(pickle.dumps(split))
    program = (
        "import pickle, sys; s = pickle.load(open(sys.argv[1], 'rb'));"
        "t = s.to_table(); r = s.to_reader(1); r.read_all(); r.close();"
        "print(t['id'].to_pylist(), hash(s))"
    )
    result, hashes = [], []
    for number in range(2):
        out = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / f"{number}")],
            capture_output=True, text=True, check=True, cwd=tmp_path,
        ).stdout  # fmt: skip
        numbers, _, report = out.rpartition(" ")
        result += [int(n) for n in numbers.strip("[] \n").split(",")]
        hashes.append(int(report))
    assert result == list(range(10, 100))
    # The same in every process, though the hash of text is not.
    assert hashes == [hash(split) for split in session.splits(2)]


def test_it_reads_the_blobs_of_its_table(client: Client) -> None:
    for name in ("pictures", "others"):
        table = client.create_table(name, "id BIGINT, image BLOB")
        table.append({"id": [1], "image": [b"bytes of " + name.encode()]})
    session = client.table("pictures").scan().session()
    holder = as_holder(client, token_of(session))
    mine = session.to_table()["image"]
    assert [bytes(b or b"") for b in holder.get_blobs(mine)] == [b"bytes of pictures"]
    with pytest.raises(ServiceError):
        list(holder.get_blobs(client.table("others").to_table()["image"]))


# --- what it does not do -----------------------------------------------------------------------


def test_it_does_nothing_else(client: Client, server: Server) -> None:
    table = client.table("t")
    session = table.scan().session()
    another = table.scan().session()
    holder = as_holder(client, token_of(session))
    # The table's description is not told, so that the holder's table is made of another's.
    mine = fletching.Table(holder.channel, table.info)
    refused: list[Any] = [
        lambda: holder.table("t"),
        holder.list_tables,
        lambda: mine.scan().to_table(),
        lambda: mine.append({"id": [1]}),
        lambda: mine.delete("id = 1"),
        mine.write_session,
        mine.versions,
        lambda: holder.drop_table("t"),
        lambda: holder.create_table("u", "id BIGINT"),
        lambda: holder.sql("select 1").to_table(),
        lambda: holder.resume(another.splits(1)[0].token).read_all(),
    ]
    for call in refused:
        with pytest.raises(NoPermissionError):
            call()
    assert holder.resume(session.splits(1)[0].token).read_all().num_rows == 100
    assert table.count_rows() == 100
    # No page, and no further token.
    other = pickle.loads(pickle.dumps(session))
    with pytest.raises(NoPermissionError, match="release"):
        other.release()
    assert session.to_table().num_rows == 100


def test_every_request_but_reading_is_refused() -> None:
    samples: list[Request] = [
        requests.CreateReadSession(table=T),
        requests.PreviewTable(table=T),
        requests.CreateWriteSession(table=T),
        admin.DescribeTable(table=T),
        admin.DropTable(table=T),
        changes.ListVersions(table=T),
        requests.ReadTable(table=T, session_id="s2"),
        requests.ReadTable(table=TableName("demo", "u"), session_id="s1"),
        requests.GetReadSession(table=T, session_id="s2", refresh=True),
        requests.GetReadSession(table=T, session_id="s1", release=True),
        requests.GetReadSession(table=T, session_id="s1", with_splits=True),
        requests.GetReadSession(table=T, session_id="s1", with_partitions=True),
        requests.GetReadSession(table=T, session_id="s1", with_statistics=True),
    ]
    for sample in samples:
        with pytest.raises(NoPermissionError):
            check_reading(SCOPE, sample, lambda: 0.0)
    check_reading(SCOPE, requests.ReadTable(table=T, session_id="s1"), lambda: 2000.0)
    upper = TableName("DEMO", "T")
    check_reading(SCOPE, requests.ReadTable(table=upper, session_id="s1"), lambda: 0.0)
    assert not is_table_of(SCOPE, TableName("demo", "t", "other"))


def claim_of(server: Server, token: str) -> BearerClaim:
    result = server.service.keys.bearer(token)
    assert result is not None
    return result[1]


# --- its end -----------------------------------------------------------------------------------


def test_it_ends_with_the_session_and_says_so(client: Client, server: Server) -> None:
    session = client.table("t").scan().session()
    token = token_of(session)
    claim = claim_of(server, token)
    assert claim.reading is not None
    assert claim.reading.session_id == session.id
    expiry = session.expires_at or 0
    tokens: BearerTokens = server.service.engine.access_keys.tokens
    assert not claim.expired(expiry - 1)
    assert claim.expired(expiry)
    key = server.service.keys.find("id")
    assert key is not None
    late = tokens.sign("id", key.secret, time.time() - 1, reading=claim.reading)
    with pytest.raises(UnauthorizedError, match=f"{session.id} has expired: refresh"):
        as_holder(client, late).resume(session.splits(1)[0].token).read_all()
    session.release()
    with pytest.raises(FletchingError):
        as_holder(client, token).resume(f"{_token_text(session)}").read_all()


def _token_text(session: ReadSession) -> str:
    return f'[1,"demo","default","t","{session.id}",null,0,100,0,null]'


def test_it_is_renewed_while_it_is_valid(client: Client, server: Server) -> None:
    session = client.table("t").scan().session()
    worker = pickle.loads(pickle.dumps(session))
    before = worker.channel.reopen.credentials.token
    was = worker.expires_at
    assert worker.refresh() is worker
    assert (worker.expires_at or 0) >= (was or 0)
    assert worker.to_table().num_rows == 100
    first = claim_of(server, before)
    second = claim_of(server, worker.channel.reopen.credentials.token)
    # The later token is no longer renewable than the first.
    assert first.reading == second.reading
    assert first.reading is not None
    assert abs(first.reading.renewable_until - time.time() - RENEWABLE_SECONDS) < 600
    # The owner's own does begin anew, and keeps its key.
    assert session.refresh().to_table().num_rows == 100
    assert client.table("t").count_rows() == 100


def test_it_is_not_renewed_for_ever() -> None:
    look = requests.GetReadSession(table=T, session_id="s1")
    renew = requests.GetReadSession(table=T, session_id="s1", refresh=True)
    again = requests.GetReadSession(table=T, session_id="s1", with_token=True)
    for request in (look, renew, again):
        check_reading(SCOPE, request, lambda: 999.0)
    check_reading(SCOPE, look, lambda: 1000.0)
    for request in (renew, again):
        with pytest.raises(NoPermissionError, match="renewed"):
            check_reading(SCOPE, request, lambda: 1000.0)


def test_it_ends_with_its_key_and_its_grants(client: Client, server: Server) -> None:
    keys = server.service.engine.access_keys
    key = keys.create(access_id="ann", expires_at=time.time() + 60)
    keys.grant(grant := Grant("ann", "demo", "t", Permission.READ))
    with fletching.connect(server.url, "demo", access_id="ann", access_key=key.secret) as ann:
        session = ann.table("t").scan().session()
        carried = pickle.loads(pickle.dumps(session))
        claim = claim_of(server, carried.channel.reopen.credentials.token)
        assert claim.expired(time.time() + 61)
        assert carried.to_table().num_rows == 100
        keys.revoke_grant(grant)
        with pytest.raises(NoPermissionError):
            carried.to_table()
        keys.grant(grant)
        assert carried.to_table().num_rows == 100
        keys.revoke("ann")
        with pytest.raises((UnauthorizedError, SignatureMismatchError)):
            carried.to_table()


def test_every_server_of_a_data_set_takes_it(
    client: Client, server: Server, tmp_path: Path
) -> None:
    session = client.table("t").scan().session()
    token = token_of(session)
    with (
        fletching.serve(tmp_path / "data", port=0, access_keys={"id": SECRET}) as other,
        fletching.connect(other.url, "demo", access_id="id", access_key=SECRET) as elsewhere,
    ):
        holder = as_holder(elsewhere, token)
        assert holder.resume(session.splits(1)[0].token).read_all().num_rows == 100
