from __future__ import annotations

from typing import Any

import pytest
from tests.server.metadata.rest_calls import get, post, put, xml

from fletching.server.metadata.absent_resources import ABSENT


@pytest.mark.parametrize("kind", ABSENT)
def test_there_are_none(client: Any, kind: str) -> None:
    page = xml(get(client, f"/{kind}", expectmarker="true"))
    assert page.tag == ABSENT[kind]
    assert page.findtext("Marker") == ""
    assert [child.tag for child in page] == ["Marker", "MaxItems"]
    assert xml(get(client, f"/{kind.replace('/', '%2F')}")).tag == ABSENT[kind]
    answer = get(client, f"/{kind}/some/name")
    assert (answer.status, answer.json["Code"]) == (404, "NoSuchObject")
    gone = client.request("DELETE", f"/api/projects/demo/{kind}/x")
    assert (gone.status, gone.json["Code"]) == (404, "NoSuchObject")
    for refused in (post(client, f"/{kind}", b"x"), put(client, f"/{kind}/x", b"x")):
        assert (refused.status, refused.json["Code"]) == (405, "MethodNotAllowed")
        assert f"no {kind.rpartition('/')[2]} here" in refused.json["Message"]


def test_a_schema_that_is_not_there_has_no_listing(client: Any) -> None:
    # How clients look for a schema where they take the calls for schemas to be missing.
    assert get(client, "/registration/functions", curr_schema="DEFAULT").status == 200
    missing = get(client, "/registration/functions", curr_schema="nothing")
    assert (missing.status, missing.json["Code"]) == (404, "NoSuchObject")


def test_the_catalog_service_has_no_models(client: Any) -> None:
    host = client.request("GET", "/api/catalogapi", {"curr_project": "demo"})
    assert host.body == client.netloc.encode()
    path = "/api/catalog/v1alpha/projects/demo/schemas/default/models"
    assert client.request("GET", path).json == {"models": [], "nextPageToken": ""}
    for method in ("GET", "DELETE"):
        answer = client.request(method, f"{path}/m")
        assert (answer.status, answer.json["Code"]) == (404, "NoSuchObject")
    for method, name in (("POST", ""), ("PUT", "/m"), ("PATCH", "/m")):
        refused = client.request(method, f"{path}{name}", {}, b"{}")
        assert (refused.status, refused.json["Code"]) == (405, "MethodNotAllowed")
    elsewhere = client.request("GET", path.replace("demo", "nobody"))
    assert elsewhere.json["Code"] == "NoSuchProject"
    assert client.request("GET", "/api/catalog/v1alpha/projects/demo").status == 404
