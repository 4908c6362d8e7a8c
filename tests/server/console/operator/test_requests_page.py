"""Requests that ended, found by their id, by who sent them and by how they ended."""

from __future__ import annotations

import re

from tests.server.console.conftest import Pages


def test_a_request_is_found_by_its_id(pages: Pages) -> None:
    page = pages("/tables/demo/default/nowhere").text
    result = re.search(r"Request id <code>([^<]+)</code>", page)
    assert result is not None
    (row,) = pages.data(f"/requests?id={result[1]}")["requests"]
    assert row["request_id"] == result[1]
    assert row["outcome"] != "ok"
    assert pages("/requests?id=none").status == 404


def test_requests_by_outcome_and_page(pages: Pages) -> None:
    pages("/tables/demo/default/nowhere")
    failed = pages.data("/requests?outcome=failed")["requests"]
    assert failed
    assert all(each["outcome"] != "ok" for each in failed)
    good = pages.data("/requests?outcome=ok")["requests"]
    assert all(each["outcome"] == "ok" for each in good)
    assert pages.data("/requests?who=nobody")["requests"] == []
    rest = pages.data("/requests?offset=1")
    assert rest["previous"] == 0
    assert rest["count"] >= len(rest["requests"])
