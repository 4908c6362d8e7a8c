"""Projects over REST: only those that the caller may know of, and what clients ask once."""

from __future__ import annotations

import json
from typing import Any

from tests.server.conftest import RawClient, Start
from tests.server.metadata.rest_calls import get, xml


def names(client: Any, **query: str) -> list[str | None]:
    reply = client.request("GET", "/api/projects", query)
    return [each.findtext("Name") for each in xml(reply).iter("Project")]


def test_a_project_is_described_by_the_name_it_was_made_with(client: Any) -> None:
    reply = client.request("GET", "/api/projects/DEMO", {})
    result = xml(reply)
    assert result.findtext("Name") == "demo"
    assert result.findtext("State") == "AVAILABLE"
    properties = {each.findtext("Name"): each.findtext("Value") for each in result.iter("Property")}
    assert properties["odps.schema.model.enabled"] in {"true", "false"}
    assert reply.headers["last-modified"] == reply.headers["x-odps-creation-time"]


def test_nobody_learns_of_projects_without_a_grant(client: Any, granted: Any) -> None:
    assert names(client) == ["demo"]
    assert names(client, name="DE") == ["demo"]
    assert names(client, name="x") == []
    assert names(granted()) == []
    assert names(granted(("other", "*", "read"))) == []
    assert names(granted(("demo", "t", "read"))) == ["demo"]
    stranger = granted(("other", "*", "write")).request("GET", "/api/projects/demo", {})
    absent = client.request("GET", "/api/projects/absent", {})
    assert (stranger.status, absent.status) == (404, 404)


def test_where_the_tunnel_is(start: Start) -> None:
    client = RawClient(start().url)
    assert get(client, "/tunnel", service="").body.decode() == client.netloc


def test_a_public_host_is_told_instead(start: Start) -> None:
    client = RawClient(start(public_host="data.example:81").url)
    assert get(client, "/tunnel", service="").body == b"data.example:81"


def test_whether_names_have_schemas(start: Start) -> None:
    for enabled in (True, False):
        client = RawClient(start(schemas_enabled=enabled).url)
        result = json.loads(client.request("GET", "/api/tenants", {}).body)
        assert result["Parameters"] == {"odps.namespace.schema": str(enabled).lower()}
