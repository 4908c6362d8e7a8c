"""Statements run from a page: their outcome under an address of its own, plans, and complaints."""

from __future__ import annotations

import pytest
from tests.server.console.conftest import Pages

pytest.importorskip("duckdb")


def test_a_query_has_a_page_of_its_own(pages: Pages) -> None:
    reply = pages.query("select day, count(*) as n from orders group by day order by day")
    assert reply.status == 200
    assert ">19<" in reply.text
    assert ">10<" in reply.text


def test_a_statement_that_is_wrong(pages: Pages) -> None:
    reply = pages.post("/query", text="select nothing from orders", action="run")
    assert reply.status == 400
    assert "there is no column nothing" in reply.text
    assert "select nothing from orders" in reply.text  # to be put right


def test_a_plan_runs_nothing(pages: Pages) -> None:
    before = pages.data("/tables/demo/default/orders/history")["versions"][0]["version"]
    reply = pages.query("explain select count(*) from orders where id = 5")
    assert reply.status == 200
    assert pages.data("/tables/demo/default/orders/history")["versions"][0]["version"] == before


def test_the_page_holds_what_it_is_given(pages: Pages) -> None:
    assert "select 41 + 1" in pages("/query?text=select+41+%2B+1").text
    assert pages("/query", {"text": "select 1"}).status == 403  # without the session's value
    assert pages("/query/nothing").status == 404
