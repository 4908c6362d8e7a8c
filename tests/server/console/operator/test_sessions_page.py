"""Sessions that are open, and the end of one."""

from __future__ import annotations

from tests.server.console.conftest import Pages

import fletching
from fletching.server.server import Server


def test_a_session_is_shown_until_it_is_ended(console_server: Server, pages: Pages) -> None:
    access_id, secret = console_server.access_key
    with fletching.connect(console_server.url, access_id=access_id, access_key=secret) as client:
        session = client.table("orders").write_session()
        listed = {each["id"]: each for each in pages.data("/sessions")["sessions"]}
        row = listed[session.id]
        assert (row["kind"], row["table"]) == ("write", "demo.default.orders")
        assert row["age"] >= 0
        assert row["expires_in"] > 0
        fields = {"id": session.id, "kind": "write"}
        assert pages.post("/sessions", **fields).status == 303
        left = {each["id"] for each in pages.data("/sessions")["sessions"]}
        assert session.id not in left
        assert pages.post("/sessions", **fields).status == 404
    assert pages.post("/sessions", id="none", kind="read").status == 404
