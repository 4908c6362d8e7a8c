"""Who may know of what, over HTTP: patterns, names, statements, projects, keys that share an address."""

from __future__ import annotations

import base64
from typing import Any

import pyarrow as pa
import pytest
from tests.server.conftest import RawClient, Reply, Start, stream_of

import fletching
from fletching.engine.access.permissions import Grant, Permission
from fletching.errors import NoPermissionError, UsageError
from fletching.server.server import Server

TABLE = pa.table({"id": pa.array(range(3), pa.int64())})
JOB = (
    "<Instance><Job><Priority>9</Priority><Tasks><SQL><Name>q</Name><Query><![CDATA[%s;]]></Query>"
    "</SQL></Tasks></Job></Instance>"
)
SECRET_TABLE = "\u017fecret"  # case-folded it is "secret"


def run(client: RawClient, statement: str) -> Reply:
    return client.request(
        "POST", "/api/projects/demo/instances", {}, (JOB % statement).encode(),
        {"Content-Type": "application/xml"},
    )  # fmt: skip


def instance_of(reply: Reply) -> str:
    return reply.headers["location"].rsplit("/", 1)[1]


@pytest.fixture
def server(start: Start) -> Server:
    server = start(key_refresh_seconds=0.0)
    owner = RawClient(server.url)
    owner.create_table("secret", TABLE.schema)
    owner.append(stream_of(TABLE), "secret")
    owner.create_table("open", TABLE.schema)
    return server


@pytest.mark.parametrize(
    "pattern", ["?", "[!s]*", "[*]", "*[*]*", "o*", "*?", "default.?", "*.[*]"]
)
def test_no_pattern_reads_the_results_of_others(server: Server, granted: Any, pattern: str) -> None:
    """A result may speak of any table: it takes a grant on all of them, not one that matches "*"."""
    instance = instance_of(run(RawClient(server.url), "select * from secret"))
    other = granted(("demo", pattern, "admin"))
    path = f"/api/projects/demo/instances/{instance}"
    assert other.request("GET", path).status == 404
    assert other.request("GET", path, {"result": ""}).status == 404
    session = other.storage(
        "InstanceCreateReadSession", target=f"projects.demo.instances.{instance}", body={}
    )
    assert session.status in {400, 403, 404}
    assert instance.encode() not in other.request("GET", "/api/projects/demo/instances").body
    everything = granted(("demo", "*", "read"))
    assert everything.request("GET", path).status == 200


@pytest.mark.parametrize("name", ["secret", "SECRET", SECRET_TABLE, "\u017fECRET"])
@pytest.mark.parametrize("pattern", ["[!s]*", "[!S]*", "?pen"])
def test_a_table_is_the_same_however_it_is_spelt(granted: Any, name: str, pattern: str) -> None:
    other = granted(("demo", pattern, "read"))
    reply = other.request(
        "POST", "/api/storage/v2",
        {"Action": "TablePreview", "Target": f"projects.demo.schemas.default.tables.{name}"},
        b"{}", {"Content-Type": "application/json; charset=utf-8"},
    )  # fmt: skip
    assert reply.status in {401, 403}, reply.body


def test_a_grant_is_the_same_however_it_is_spelt(granted: Any) -> None:
    for pattern in (SECRET_TABLE, "SECRET", "S*", "default.\u017f*", "DEFAULT.secret"):
        other = granted(("DEMO", pattern, "read"))
        assert other.storage("TablePreview", "secret", {"Limit": 1}).status == 200


@pytest.mark.parametrize(
    "statement",
    [
        "create schema other", "create table more like secret", "create table more (a bigint)",
        "drop table secret", "select * from secret", "select 1", "show tables", "nonsense",
        "desc secret", "truncate table secret",
    ],
)  # fmt: skip
def test_a_key_without_grants_runs_nothing_and_leaves_nothing(
    server: Server, granted: Any, statement: str
) -> None:
    for other in (granted(), granted(("elsewhere", "*", "admin"))):
        assert run(other, statement).status == 403
    listed = RawClient(server.url).request("GET", "/api/projects/demo/instances")
    assert b"<Instance>" not in listed.body
    assert RawClient(server.url).count("secret") == 3


def test_a_name_of_with_stands_for_no_table_that_may_not_be_read(server: Server) -> None:
    keys = server.service.engine.access_keys
    key = keys.create(access_id="shadow")
    keys.grant(Grant(key.access_id, "demo", "open", Permission("read")))
    with fletching.connect(
        server.url, project="demo", access_id=key.access_id, access_key=key.secret
    ) as client:
        assert (
            client.sql("with secret as (select id from open) select * from secret").to_pylist()
            == []
        )
        for statement in (
            "with secret as (select * from secret) select * from secret",
            "with open as (select * from secret) select * from open",
            "with x as (with secret as (select 1 a) select * from secret) select * from x, secret",
            "select * from (with secret as (select 1 a) select * from secret) a, secret b",
            "with a as (select * from secret), secret as (select 1 q) select * from a",
            "@secret := select * from secret; select * from @secret",
            "explain with secret as (select * from secret) select * from secret",
        ):
            with pytest.raises(NoPermissionError, match="may not read"):
                client.sql(statement)


def test_projects_are_known_to_who_has_grants_in_them(server: Server, granted: Any) -> None:
    server.service.engine.ensure_project("second")
    names = {
        (): set(),
        (("demo", "o*", "read"),): {"demo"},
        (("*", "*", "read"),): {"demo", "second"},
        (("S*", "t", "write"),): {"second"},
    }
    for grants, expected in names.items():
        client = granted(*grants)
        body = client.request("GET", "/api/projects").body
        assert {
            name for name in ("demo", "second") if f"<Name>{name}</Name>".encode() in body
        } == expected
        for name in ("demo", "second"):
            status = client.request("GET", f"/api/projects/{name}").status
            assert status == (200 if name in expected else 404)


@pytest.mark.parametrize("pattern", ["?", "[*]", "o*", "default.*"])
def test_only_who_has_all_tables_makes_schemas(granted: Any, pattern: str) -> None:
    body = b"<Schema><Name>other</Name></Schema>"
    headers = {"Content-Type": "application/xml"}
    path = "/api/projects/demo/schemas"
    assert (
        granted(("demo", pattern, "admin")).request("POST", path, {}, body, headers).status == 403
    )
    assert granted(("demo", "*", "admin")).request("POST", path, {}, body, headers).status == 201


def test_wrong_signatures_do_not_lock_the_owner_out(server: Server) -> None:
    owner = RawClient(server.url)
    guesser = RawClient(server.url, owner.access_id, "guess")
    statuses = [guesser.request("GET", "/api/projects").status for _ in range(30)]
    assert set(statuses[:20]) <= {401, 403}
    assert set(statuses[20:]) == {429}
    assert owner.request("GET", "/api/projects").status == 200


@pytest.mark.parametrize(
    "access_id", ["\u00fcser", "a b", "a:b", "a/b", "", "a\n", "\u2460", "x" * 129]
)
def test_an_id_that_could_never_sign_is_refused_at_the_start(start: Start, access_id: str) -> None:
    with pytest.raises(UsageError, match="access key needs an id"):
        start(access_keys={access_id: "secret"})


def test_bearer_tokens_of_others_do_not_verify(server: Server, granted: Any) -> None:
    client = granted(("demo", "*", "read"))
    keys = server.service.engine.access_keys
    token = keys.tokens.sign(client.access_id, client.secret, 4_000_000_000)
    text = base64.b64decode(token).decode().replace(client.access_id, "test-id")
    for sent, status in ((token, 200), (base64.b64encode(text.encode()).decode(), 401)):
        headers = {"x-odps-bearer-token": sent}
        reply = client.request("GET", "/api/projects", headers=headers, signed=False)
        assert reply.status == status
