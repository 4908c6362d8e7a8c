from __future__ import annotations

from typing import Any

from tests.server.metadata.rest_calls import run_sql, xml
from tests.server.metadata.test_security_resources import policy, sign


def test_a_link_shows_its_instance_alone(client: Any) -> None:
    instance, hidden = run_sql(client, "select '<b>' as a"), run_sql(client, "select 2 as a")
    resource = f"acs:odps:*:projects/demo/instances/{instance}"
    token = xml(sign(client, policy(resource, "odps:Read"))).findtext("Result") or ""

    def look(method: str = "GET", **query: str) -> Any:
        asked = {"h": "http://x/api", "p": "demo", "i": instance, "token": token, **query}
        return client.request(method, "/logview/", asked, signed=False)

    page = look()
    assert page.status == 200
    assert page.headers["content-type"] == "text/plain; charset=utf-8"
    assert page.headers["x-content-type-options"] == "nosniff"
    text = page.body.decode()
    assert "State: Success" in text
    assert "select '<b>' as a" in text
    assert '"<b>"' in text
    assert token not in text
    assert look(i=hidden).status == 404
    assert look(i="").status == 400
    assert look(token="").status == 401
    assert look(token="x").status == 401
    assert look("PUT").status == 405
