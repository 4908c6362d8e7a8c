from __future__ import annotations

import io

import pyarrow.csv
import pyarrow.parquet
import pytest
from tests.browser.conftest import Visitor

SLOW = "select count(*) from orders a join orders b on a.status = b.status and a.amount > b.amount"


def run(visitor: Visitor, text: str) -> None:
    visitor.go("/query")
    visitor.page.get_by_label("Statement").fill(text)
    visitor.page.keyboard.press("Control+Enter")
    visitor.page.wait_for_url("**instance=**")


def test_names_are_completed_and_the_result_is_paged_and_downloaded(visitor: Visitor) -> None:
    page = visitor.page
    visitor.go("/query")
    page.get_by_label("Statement").focus()
    page.keyboard.type("select id, status from or")
    page.keyboard.press("Control+Space")
    page.get_by_role("option", name="orders").first.wait_for()
    page.keyboard.press("Enter")
    assert page.get_by_label("Statement").input_value().endswith("from orders")
    page.keyboard.type(" where amo")
    page.keyboard.press("Control+Space")
    page.get_by_role("option", name="amount").first.wait_for()
    page.keyboard.press("Tab")
    page.keyboard.type(" >= 0 and id < 250 order by id")
    page.get_by_role("button", name="Run").click()
    page.get_by_role("heading", name="Result").wait_for()
    page.locator("a[rel=next]").first.click()
    page.wait_for_url("**offset=100")
    assert page.locator("#result tbody tr").first.locator("th").inner_text() == "100"
    for kind, read in (("parquet", pyarrow.parquet.read_table), ("csv", pyarrow.csv.read_csv)):
        with page.expect_download() as started:
            page.get_by_role("link", name=kind).click()
        data = started.value.path().read_bytes()
        assert read(io.BytesIO(data)).num_rows == 250
        assert started.value.suggested_filename.endswith(kind)


def test_a_statement_is_watched_and_cancelled(visitor: Visitor) -> None:
    visitor.expects("400")
    run(visitor, SLOW)
    page = visitor.page
    page.get_by_role("heading", name="Running").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("alert").wait_for()
    assert "cancelled" in page.get_by_role("alert").inner_text()


def test_a_statement_that_takes_a_while_shows_its_result_by_itself(visitor: Visitor) -> None:
    run(
        visitor,
        "select count(*) from orders a join (select id from orders limit 3000) b on a.id > b.id",
    )
    visitor.page.get_by_role("heading", name="Result").wait_for(timeout=120_000)
    assert visitor.page.locator("#result td").count() == 1


def test_explain_draws_what_is_left_out(visitor: Visitor) -> None:
    page = visitor.page
    visitor.go("/query")
    page.get_by_label("Statement").fill(
        "select count(*) from orders where day = '2026-01-01' and id < 9"
    )
    page.get_by_role("button", name="Explain").click()
    page.locator("svg.plan").wait_for()
    assert "1 of 3 partitions read" in page.locator("svg.plan").text_content()


def test_a_mistake_is_said_beside_the_statement(visitor: Visitor) -> None:
    visitor.expects("400")
    page = visitor.page
    visitor.go("/query")
    page.get_by_label("Statement").fill("select nothing from nowhere")
    page.get_by_role("button", name="Run").click()
    assert "nowhere" in page.get_by_role("alert").inner_text()
    assert page.get_by_label("Statement").input_value() == "select nothing from nowhere"


@pytest.mark.parametrize("text", ["select 1 as one", "show tables"])
def test_last_statements_are_found_again(visitor: Visitor, text: str) -> None:
    run(visitor, text)
    visitor.go("/query")
    visitor.page.locator("ul.recent").get_by_role("link", name=text).first.click()
    visitor.page.get_by_role("heading", name="Result").wait_for()
