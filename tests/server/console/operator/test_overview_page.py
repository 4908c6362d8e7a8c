"""The first page of an operator: is all well, and what happens now."""

from __future__ import annotations

from tests.server.console.conftest import Pages


def test_what_the_server_says_of_itself(pages: Pages) -> None:
    pages("/tables/demo/default/nowhere")
    data = pages.data("/overview")
    assert data["healthy"]
    assert data["uptime"] >= 0
    assert {gate["kind"] for gate in data["gates"]} == {"uploads", "replies", "calls"}
    assert "NoSuchTableError" in {error["outcome"] for error in data["errors"]}


def test_the_page_has_pictures_and_no_secrets(pages: Pages) -> None:
    text = pages("/overview").text
    assert "<svg" in text
    assert pages.server.access_key[1] not in text
