from __future__ import annotations

import time

import pytest
from tests.browser.conftest import ROWS, Visit, Visitor


def test_to_the_end_of_a_million_rows(visitor: Visitor) -> None:
    page = visitor.page
    page.get_by_role("link", name="orders").click()
    assert page.get_by_text("1,000,000 rows").count() or page.get_by_text("1,000,000").count()
    page.locator("a[rel=next]").first.click()
    page.wait_for_url("**offset=100")
    page.locator("a[rel=last]").click()
    page.wait_for_url(f"**offset={ROWS - 100}")
    assert page.locator("[data-grid] tbody tr").count() == 100
    last = page.locator("[data-grid] tbody tr").last
    assert last.locator("th").inner_text() == str(ROWS - 1)
    assert page.locator("a[rel=next]").count() == 0
    page.go_back()
    page.wait_for_url("**offset=100")


def test_scrolling_goes_on_and_stays_light(visitor: Visitor) -> None:
    page = visitor.page
    visitor.go("/tables/demo/default/orders")
    grid = page.locator("[data-grid]")
    for count in range(2, 12):
        grid.evaluate("grid => grid.scrollTo(0, grid.scrollHeight)")
        page.wait_for_url(f"**offset={100 * (count - 1)}")
    rows = page.locator("[data-grid] tbody tr")
    page.wait_for_function("document.querySelectorAll('[data-grid] tbody tr').length <= 700")
    assert rows.last.locator("th").inner_text() == "1099"
    numbers = [int(text) for text in page.locator("[data-grid] tbody th").all_inner_texts()]
    assert numbers == list(range(numbers[0], 1100))


def test_rows_are_sorted_by_a_click_on_a_column(visitor: Visitor) -> None:
    page = visitor.page
    visitor.go("/tables/demo/default/orders")
    head = page.get_by_role("columnheader", name="id", exact=True)
    head.get_by_role("link").click()
    page.wait_for_url("**sort=id")
    assert head.get_attribute("aria-sort") == "ascending"
    head.get_by_role("link").click()
    page.wait_for_url("**order=desc")
    rows = page.locator("[data-grid] tbody tr")
    assert rows.first.locator("td").first.inner_text() == str(ROWS - 1)
    page.locator("[data-grid]").evaluate("grid => grid.scrollTo(0, grid.scrollHeight)")
    page.wait_for_url("**offset=100")
    assert rows.last.locator("td").first.inner_text() == str(ROWS - 200)
    head.get_by_role("link").click()
    page.wait_for_url("**/orders")
    assert head.get_attribute("aria-sort") is None
    rows.first.get_by_role("link").click()
    page.get_by_role("link", name="Next row").click()
    page.wait_for_url("**offset=1")
    page.get_by_role("link", name="The rows from here on").click()
    assert rows.first.locator("th").inner_text() == "1"


def test_filters_versions_and_one_row_are_links(visitor: Visitor) -> None:
    page = visitor.page
    visitor.go("/tables/demo/default/people")
    page.keyboard.press("/")
    page.keyboard.type("id > 2")
    page.keyboard.press("Enter")
    page.wait_for_url("**filter=id*")
    assert page.locator("[data-grid] tbody tr").count() == 2
    assert page.locator("td.null").count() >= 1
    page.locator("[data-grid] tbody th a").last.click()
    page.wait_for_url("**/row?**")
    assert page.get_by_role("cell", name="late").count() == 1
    visitor.go("/tables/demo/default/people?version=1")
    assert page.locator("[data-grid] tbody tr").count() == 3
    assert page.locator("td.empty").first.inner_text() == "empty text"


def test_without_scripts(visit: Visit) -> None:
    visitor = visit(java_script_enabled=False)
    page = visitor.page
    visitor.go("/tables?sort=rows")
    assert page.locator("tbody th a").first.inner_text() == "orders"
    page.get_by_role("link", name="size").click()
    page.get_by_role("link", name="orders").click()
    page.locator("a[rel=next]").first.click()
    assert page.url.endswith("offset=100")
    for name in ("Columns", "Partitions", "History", "Segments", "Rows"):
        page.get_by_role("link", name=name, exact=True).click()
        assert page.get_by_role("heading", level=1).inner_text() == "orders"
    visitor.go("/query")
    page.get_by_label("Statement").fill(
        "select status, count(*) n from orders group by status order by 1"
    )
    page.get_by_role("button", name="Run").click()
    for _ in range(100):
        if page.get_by_role("heading", name="Result").count():
            break
        time.sleep(0.2)
        page.reload()
    assert page.get_by_role("cell", name="250000").count() == 4


def test_columns_show_how_values_are_spread(visitor: Visitor) -> None:
    page = visitor.page
    visitor.go("/tables/demo/default/orders/columns")
    assert page.locator("svg.chart").count() >= 3
    card = page.locator("section.card", has=page.get_by_role("heading", name="status"))
    assert "4" in card.locator("dl").inner_text()
    visitor.go("/tables/demo/default/orders/partitions")
    page.get_by_role("link", name="2026-01-02").click()
    page.wait_for_url("**filter=**")
    assert set(page.locator("[data-grid] tbody td:last-child").all_inner_texts()) == {"2026-01-02"}


def test_a_segment_is_drawn_to_scale(visitor: Visitor) -> None:
    page = visitor.page
    visitor.go("/tables/demo/default/people/segments")
    page.locator("tbody th a").first.click()
    page.wait_for_url("**/segments/*")
    pieces = page.locator("svg g[tabindex]")
    assert pieces.count() > 5
    pieces.nth(2).focus()
    assert pieces.nth(2).locator(".tip").is_visible()
    page.get_by_role("link", name="Segments of").click()
    page.wait_for_url("**/segments")


@pytest.mark.parametrize("path", ["/tables", "/tables/demo/default/people", "/overview"])
def test_every_page_can_be_copied_as_code_or_read_as_json(visitor: Visitor, path: str) -> None:
    visitor.go(path)
    page = visitor.page
    address = page.get_by_role("link", name="This page as JSON").get_attribute("href")
    result = visitor.context.request.get(visitor.url + str(address))
    assert isinstance(result.json(), dict)
    if path != "/overview":
        page.get_by_text("The same as code").click()
        assert "fletching.connect(" in page.locator("details code").first.inner_text()
        assert page.get_by_role("button", name="Copy").count() >= 3
