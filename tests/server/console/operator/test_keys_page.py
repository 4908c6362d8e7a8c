"""Keys and grants: a secret is shown once, mistakes change nothing, one's own key stays."""

from __future__ import annotations

import re

import pytest
from tests.server.console.conftest import Pages


def state(pages: Pages, access_id: str) -> str:
    keys = {each["access_id"]: each["state"] for each in pages.data("/keys")["access_keys"]}
    return str(keys[access_id])


def test_a_key_from_its_making_to_its_end(pages: Pages) -> None:
    made = pages.post("/keys", action="create", access_id="ann", comment="for ann", days="2")
    assert made.status == 200
    secret = re.search(r"<code>ann:([A-Za-z0-9_-]{20,})</code>", made.text)
    assert secret is not None
    listed = pages("/keys")
    assert secret[1] not in listed.text
    assert "for ann" in listed.text
    assert "secret" not in pages.data("/keys")["access_keys"][0]
    assert state(pages, "ann") == "in use"
    again = pages.post("/keys", action="rotate", access_id="ann")
    assert again.status == 200
    assert secret[1] not in again.text
    assert pages.post("/keys", action="revoke", access_id="ann").status == 303
    assert state(pages, "ann") == "revoked"


def test_grants_are_given_and_taken(pages: Pages) -> None:
    grant = {"grantee": "bob", "project": "demo", "table": "ord*", "permission": "read"}
    assert pages.post("/keys", action="grant", **grant).status == 303
    assert grant in pages.data("/keys")["grants"]
    assert pages.post("/keys", action="ungrant", **grant).status == 303
    assert grant not in pages.data("/keys")["grants"]


@pytest.mark.parametrize(
    "fields",
    [
        {"action": "create", "days": "0"}, {"action": "create", "days": "x"},
        {"action": "create", "days": "\u0663"}, {"action": "create", "days": "0000019999999"},
        {"action": "create", "days": "3651"}, {"action": "rotate", "access_id": "nobody"},
        {"action": "grant", "grantee": "a", "project": "p", "table": "t", "permission": "everything"},
        {"action": "explode"}, {},
    ],
)  # fmt: skip
def test_mistakes_change_nothing(pages: Pages, fields: dict[str, str]) -> None:
    before = pages.data("/keys")
    reply = pages.post("/keys", **fields)
    assert reply.status in {400, 404}
    assert pages.data("/keys") == before


def test_nobody_revokes_the_key_that_they_are_signed_in_with(pages: Pages) -> None:
    me = pages.data("/keys")["me"]
    reply = pages.post("/keys", action="revoke", access_id=me)
    assert reply.status == 400
    assert "signed in with" in reply.text
