"""The first page of an operator: is all well, and what happens now."""

from __future__ import annotations

import pytest
from tests.server.console.conftest import Pages

from fletching.errors import StorageError


def test_what_the_server_says_of_itself(pages: Pages) -> None:
    pages("/tables/demo/default/nowhere")
    data = pages.data("/overview")
    assert data["healthy"]
    assert 0 <= data["uptime"] < 3600
    assert (data["health"], data["draining"], data["catalog"]) == ("ready", False, "SQLite")
    assert 0 < data["disk"]["free"] <= data["disk"]["total"]
    assert {limiter["kind"] for limiter in data["gates"]} == {"uploads", "replies", "calls"}
    assert "NoSuchTableError" in {error["outcome"] for error in data["errors"]}


def test_the_page_has_pictures_and_no_secrets(pages: Pages) -> None:
    text = pages("/overview").text
    assert "<svg" in text
    assert pages.server.access_key[1] not in text


def test_a_server_that_stops_or_cannot_serve_is_not_told_to_be_well(
    pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = pages.server.service
    monkeypatch.setattr(service, "draining", True)
    data = pages.data("/overview")
    assert (data["healthy"], data["health"]) == (False, "stopping")

    def unready() -> None:
        raise StorageError("the objects do not answer")

    monkeypatch.setattr(service.engine, "check_ready", unready)
    for draining in (True, False):
        monkeypatch.setattr(service, "draining", draining)
        data = pages.data("/overview")
        assert not data["healthy"]
        assert "the objects do not answer" in data["health"]
