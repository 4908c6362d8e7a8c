"""REST calls as clients make them, and what their documents say."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET


def xml(reply: Any) -> ET.Element:
    assert reply.status == 200, reply.body
    assert reply.headers["content-type"] == "application/xml"
    return ET.fromstring(reply.body)


def run_sql(client: Any, statement: str, *, wait: bool = True, **query: str) -> str:
    """Runs a statement, and waits for its end; returns the instance's id."""
    escaped = statement.replace("]]>", "")
    body = (
        "<Instance><Job><Tasks><SQL><Name>AnonymousSQLTask</Name>"
        f"<Query><![CDATA[{escaped}]]></Query></SQL></Tasks></Job></Instance>"
    )
    reply = client.request(
        "POST",
        "/api/projects/demo/instances",
        {"curr_project": "demo", **query},
        body.encode(),
        {"Content-Type": "application/xml"},
    )
    assert reply.status == 201, reply.body
    assert reply.body == b""
    location = reply.headers["location"]
    assert location.startswith(f"http://{client.netloc}/api/projects/demo/instances/")
    instance = str(location.rsplit("/", 1)[1])
    while wait and not ended(client, instance):
        pass  # each look waits for a while on the other side
    return instance


def ended(client: Any, instance: str) -> bool:
    look = client.request("GET", f"/api/projects/demo/instances/{instance}", {"instancestatus": ""})
    return xml(look).findtext("Status") == "Terminated"


def get(client: Any, path: str, **query: str) -> Any:
    return client.request("GET", f"/api/projects/demo{path}", {"curr_project": "demo", **query})


def put(client: Any, path: str, body: bytes, **query: str) -> Any:
    return client.request(
        "PUT", f"/api/projects/demo{path}", {"curr_project": "demo", **query}, body
    )


def post(client: Any, path: str, body: bytes, **query: str) -> Any:
    return client.request(
        "POST", f"/api/projects/demo{path}", {"curr_project": "demo", **query}, body
    )


STOP = b"<Instance><Status>Terminated</Status></Instance>"
