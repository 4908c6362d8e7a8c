"""Security queries tell each caller of the keys and grants that he may know of, and of no others."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from xml.sax.saxutils import escape

import pytest
from tests.server.conftest import RawClient
from tests.server.metadata.rest_calls import post, run_sql, xml


def ask(client: Any, query: str, **settings: str) -> Any:
    message = f"<Settings>{escape(json.dumps(settings))}</Settings>" if settings else ""
    body = f"<Authorization><Query>{escape(query)}</Query>{message}</Authorization>"
    return post(client, "/authorization", body.encode())


def answered(client: Any, query: str, **settings: str) -> Any:
    return json.loads(xml(ask(client, query, **settings)).findtext("Result") or "")


def ids(client: Any, query: str = "list users") -> list[str]:
    return [user["ID"] for user in answered(client, query)]


def principals(answer: Any) -> dict[str, list[str]]:
    return {entry["Principal"]: entry["Action"] for entry in answer["ACL"]}


@pytest.fixture
def reader(granted: Callable[..., RawClient]) -> RawClient:
    return granted(("demo", "sales*", "read"), ("other", "*", "admin"), owner="ann")


@pytest.fixture
def chief(granted: Callable[..., RawClient]) -> RawClient:
    return granted(("demo", "*", "admin"))


def test_who_is_there(client: Any, reader: Any, chief: Any, granted: Any) -> None:
    granted(("elsewhere", "*", "admin"))
    granted(("demo", "*", "read"), expires_at=1.0)
    everybody = [client.access_id, reader.access_id, chief.access_id]
    assert sorted(ids(client)) == sorted(everybody)
    assert sorted(ids(chief, " LIST  Users; ")) == sorted(everybody)
    assert ids(reader) == [reader.access_id]
    assert answered(reader, "list users")[0]["DisplayName"] == "ann"


def test_what_each_may_do(client: Any, reader: Any, chief: Any) -> None:
    mine = answered(reader, "show grants")
    assert mine == {
        "ACL": [
            {
                "Effect": "Allow",
                "Principal": f"user/{reader.access_id}",
                "Action": ["odps:Describe", "odps:Select", "odps:Download"],
                "Resource": "acs:odps:*:projects/demo/tables/sales*",
            }
        ],
        "Roles": [],
    }
    for name in (reader.access_id, "ann", f"user {reader.access_id}"):
        assert answered(chief, f"show grants for {name}") == mine
        assert answered(reader, f"show grants for {name};") == mine
    assert "odps:Drop" in principals(answered(client, "show grants"))[f"user/{client.access_id}"]
    for who, name in ((reader, chief.access_id), (chief, "nobody")):
        refused = ask(who, f"show grants for {name}")
        assert (refused.status, refused.json["Code"]) == (404, "NoSuchObject")


ON_TABLES = (
    "show grants on {0}",
    "show acl for {0} on type table",
    "SHOW GRANTS ON TABLE {0};",
)


def test_who_may_do_what_to_a_table(client: Any, reader: Any, chief: Any) -> None:
    run_sql(client, "create table sales_1 (a bigint)")
    run_sql(client, "create table hidden (a bigint)")
    in_schema = {"odps.namespace.schema": "true", "odps.default.schema": "default"}
    everybody = {f"user/{caller.access_id}" for caller in (client, reader, chief)}
    for query in ON_TABLES:
        for name in ("sales_1", "demo.sales_1", "`demo`.`default`.`sales_1`"):
            assert set(principals(answered(chief, query.format(name)))) == everybody
            mine = principals(answered(reader, query.format(name)))
            assert list(mine) == [f"user/{reader.access_id}"]
        result = principals(answered(chief, query.format("default.sales_1"), **in_schema))
        assert set(result) == everybody
        hidden = principals(answered(chief, query.format("hidden")))
        assert f"user/{reader.access_id}" not in hidden
        for who, name, code in (
            (reader, "hidden", "NoPermission"),
            (chief, "absent", "NoSuchTable"),
            (chief, "other.sales_1", "InvalidArgument"),
            (chief, "a.b.c.d", "InvalidArgument"),
        ):
            assert ask(who, query.format(name)).json["Code"] == code


def test_what_there_is_none_of(client: Any) -> None:
    for query in ("list roles", "show packages", "list trustedprojects", "show label grants for x"):
        assert answered(client, query) == []
    assert answered(client, "get policy")["Statement"] == []
    assert answered(client, "show SecurityConfiguration")["LabelSecurity"] is False
    for query in ("desc role admin", "describe role admin", "show principals admin"):
        assert ask(client, query).json["Code"] == "NoSuchObject"


CHANGES = (
    "",
    "add user somebody",
    "remove user somebody",
    "create role r",
    "grant select on table t to user somebody",
    "revoke r from somebody",
    "set projectprotection=true",
    "put policy {}",
    "install package p.x",
    "show grants for a b c",
    "show " * 5000,
)


def test_nothing_is_changed(client: Any) -> None:
    for query in CHANGES:
        refused = ask(client, query)
        assert (refused.status, refused.json["Code"]) == (405, "MethodNotAllowed"), query[:20]
