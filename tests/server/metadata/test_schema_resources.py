"""Schemas over REST: made, listed, described and dropped, each as its kind of answer."""

from __future__ import annotations

from typing import Any

import pytest
from tests.server.metadata.rest_calls import get, post, xml

NEW = b"<Schema><Project>demo</Project><Name>%s</Name></Schema>"


def names(client: Any, **query: str) -> list[str | None]:
    return [each.findtext("Name") for each in xml(get(client, "/schemas", **query)).iter("Schema")]


def test_a_schema_from_its_making_to_its_end(client: Any) -> None:
    assert names(client) == ["default"]
    made = post(client, "/schemas", NEW % b"Sales")
    assert (made.status, made.body) == (201, b"")
    assert names(client) == ["default", "Sales"]
    assert names(client, name="sa") == ["Sales"]
    assert names(client, name="x") == []
    reply = get(client, "/schemas/sales")
    assert xml(reply).findtext("Name") == "Sales"
    assert reply.headers["x-odps-creation-time"] == reply.headers["last-modified"]
    again = post(client, "/schemas", NEW % b"SALES")
    assert again.status == 409
    path = "/api/projects/demo/schemas/Sales"
    assert client.request("DELETE", path).status == 200
    assert names(client) == ["default"]
    assert client.request("DELETE", path).status == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"<Schema><Name> </Name></Schema>", 400),
        (b"<Schema/>", 400),
        (b"<Table><Name>a</Name></Table>", 400),
        (b"<Schema>", 400),
        (b"", 400),
        (NEW % b"a.b", 400),
        (b"<Schema><Name>%s</Name></Schema>" % (b"x" * 70_000), 413),
    ],
)
def test_bodies_that_name_no_schema(client: Any, body: bytes, status: int) -> None:
    assert post(client, "/schemas", body).status == status
    assert names(client) == ["default"]


def test_what_is_not_there_is_no_such_object(client: Any) -> None:
    reply = get(client, "/schemas/nothing")
    assert reply.status == 404
    assert b"NoSuchObject" in reply.body


def test_a_reader_makes_and_drops_none(client: Any, granted: Any) -> None:
    post(client, "/schemas", NEW % b"kept")
    reader = granted(("demo", "*", "read"))
    assert post(reader, "/schemas", NEW % b"more").status == 403
    assert reader.request("DELETE", "/api/projects/demo/schemas/kept").status == 403
    assert names(client) == ["default", "kept"]
