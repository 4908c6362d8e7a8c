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
    one = get(client, f"/{kind}/some/name")
    assert (one.status, one.json["Code"]) == (404, "NoSuchObject")
    gone = client.request("DELETE", f"/api/projects/demo/{kind}/x")
    assert (gone.status, gone.json["Code"]) == (404, "NoSuchObject")
    for refused in (post(client, f"/{kind}", b"x"), put(client, f"/{kind}/x", b"x")):
        assert (refused.status, refused.json["Code"]) == (405, "MethodNotAllowed")
