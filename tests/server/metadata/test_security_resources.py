from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from tests.server.metadata.rest_calls import STOP, get, post, put, run_sql, xml


def ask(client: Any, query: str) -> Any:
    body = f"<Authorization><Query>{query}</Query></Authorization>"
    return post(client, "/authorization", body.encode())


def policy(resource: str = "acs:odps:*:*", action: Any = "odps:*", **more: Any) -> dict[str, Any]:
    statement = {"Action": action, "Resource": resource, "Effect": "Allow", **more}
    return {"expires_in_hours": 5, "policy": {"Version": "1", "Statement": [statement]}}


def sign(client: Any, document: Any) -> Any:
    return post(client, "/authorization", json.dumps(document).encode(), sign_bearer_token="")


def expiry(token: str) -> int:
    return int(base64.b64decode(token).split(b",")[2])


class WithToken:
    """The same client, with a token in place of its signature."""

    def __init__(self, client: Any, token: str) -> None:
        self._client = client
        self._headers = {"x-odps-bearer-token": token}
        self.netloc = client.netloc

    def request(
        self, method: str, path: str, query: Any = None, body: bytes = b"", headers: Any = None
    ) -> Any:
        sent = {**self._headers, **(headers or {})}
        return self._client.request(method, path, query or {}, body, sent, signed=False)


def test_who_am_i(client: Any) -> None:
    me = json.loads(xml(ask(client, "whoami")).findtext("Result") or "")
    assert me["ID"] == me["DisplayName"] == client.access_id
    assert post(client, "/authorization", b"nonsense").status == 400


def test_a_token_for_everything(client: Any) -> None:
    token = xml(sign(client, policy())).findtext("Result") or ""
    other = WithToken(client, token)
    run_sql(other, "create table t (a bigint)")
    assert get(other, "/tables/t").status == 200
    # its own tokens are no more than itself
    again = xml(sign(other, {**policy(), "expires_in_hours": 5000})).findtext("Result") or ""
    assert expiry(again) == expiry(token)


def test_a_token_for_one_instance(client: Any) -> None:
    instance, hidden = run_sql(client, "select 1 as a"), run_sql(client, "select 2 as a")
    resource = f"acs:odps:*:projects/demo/instances/{instance}"
    token = xml(sign(client, policy(resource, ["odps:Read"]))).findtext("Result") or ""
    other = WithToken(client, token)
    for query in ({}, {"taskstatus": ""}, {"result": ""}, {"instancesummary": ""}, {"source": ""}):
        assert get(other, f"/instances/{instance}", **query).status == 200
    assert get(other, f"/instances/{hidden}").status == 404
    names = [n.text for n in xml(get(other, "/instances")).iterfind("Instance/Name")]
    assert names == [instance]
    for refused in (
        get(other, "/users"),
        get(other, f"/users/{client.access_id}"),
        put(other, f"/instances/{instance}", STOP),
        post(other, "/instances", b"<Instance/>"),
        get(other, "/tables/t"),
        get(other, "/tables"),
        sign(other, policy()),
        ask(other, "whoami"),
        client.request(
            "POST",
            "/api/projects/demo/schemas",
            {},
            b"<Schema><Name>x</Name></Schema>",
            {"x-odps-bearer-token": token},
            signed=False,
        ),
    ):
        assert (refused.status, refused.json["Code"]) == (403, "NoPermission"), refused.body
    assert get(WithToken(client, "fake-token"), "/tables").status == 401


@pytest.mark.parametrize(
    "document",
    [
        "text",
        {},
        {"expires_in_hours": 5},
        {**policy(), "expires_in_hours": 0},
        {**policy(), "expires_in_hours": True},
        {**policy(), "expires_in_hours": 10**9},
        {**policy(), "expires_in_hours": float("nan")},
        {**policy(), "policy": None},
        policy("acs:odps:*:projects/demo/tables/t"),
        policy("acs:odps:*:projects/demo/instances/*"),
        policy("acs:odps:*:projects/demo/instances/a,b"),
        policy(Effect="Deny"),
        policy(action="odps:Write"),
        {"expires_in_hours": 1, "policy": {"Statement": []}},
        {"expires_in_hours": 1, "policy": {"Statement": ["x"]}},
    ],
)
def test_tokens_allow_no_more_than_a_policy_says(client: Any, document: Any) -> None:
    assert sign(client, document).status == 400


def test_users_roles_and_policies(client: Any, granted: Any) -> None:
    users = xml(get(client, "/users"))
    assert [user.findtext("ID") for user in users.iterfind("User")] == [client.access_id]
    assert xml(get(client, f"/users/{client.access_id}")).findtext("DisplayName")
    assert xml(get(client, f"/users/{client.access_id}", roles="")).find("Role") is None
    assert get(client, "/users/nobody").json["Code"] == "NoSuchObject"
    other = granted(("demo", "t*", "read"), owner="ann", comment="of the analysts")
    assert len(xml(get(client, "/users")).findall("User")) == 2
    ann = xml(get(client, "/users/ann", type="displayname"))
    assert (ann.findtext("ID"), ann.findtext("Comment")) == (other.access_id, "of the analysts")
    assert [user.findtext("ID") for user in xml(get(other, "/users"))] == [other.access_id]
    assert get(other, f"/users/{client.access_id}").json["Code"] == "NoSuchObject"
    assert xml(get(client, "/roles")).find("Role") is None
    assert get(client, "/roles/any").json["Code"] == "NoSuchObject"
    assert get(client, "", policy="").body == b""
    assert xml(get(client, "", security_configuration="")).findtext("LabelSecurity") == "false"
    assert put(client, "", b"{}", policy="").status == 405
