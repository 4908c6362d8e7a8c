"""The list of tables: searched, sorted, and no more of a word than is known."""

from __future__ import annotations

from tests.server.console.conftest import Pages

import fletching
from fletching.server.server import Server


def test_tables_are_listed_with_their_sizes(pages: Pages) -> None:
    data = pages.data("/tables")
    (row,) = [each for each in data["tables"] if each["name"] == "orders"]
    assert (row["rows"], row["version"], row["schema"]) == (29, 4, "default")
    assert row["bytes"] > 0
    assert data["project"] in data["projects"]
    assert "default" in data["schemas"]


def test_searching_and_sorting(pages: Pages) -> None:
    assert [each["name"] for each in pages.data("/tables?q=ord")["tables"]] == ["orders"]
    assert pages.data("/tables?q=zzz")["tables"] == []
    assert pages.data("/tables?sort=rows")["sort"] == "rows"
    assert pages.data("/tables?sort=nonsense")["sort"] == "name"
    sizes = [each["bytes"] for each in pages.data("/tables?sort=bytes")["tables"]]
    assert sizes == sorted(sizes, reverse=True)


def test_the_largest_come_first_where_that_is_asked_for(
    console_server: Server, pages: Pages
) -> None:
    access_id, secret = console_server.access_key
    with fletching.connect(console_server.url, access_id=access_id, access_key=secret) as client:
        client.create_table("a_small_one", "id BIGINT")
        try:
            for order, first in (("name", "a_small_one"), ("rows", "orders"), ("bytes", "orders")):
                result = pages.data(f"/tables?sort={order}")["tables"]
                assert result[0]["name"] == first
        finally:
            client.drop_table("a_small_one")


def test_a_project_that_is_not_there(pages: Pages) -> None:
    assert pages("/tables?project=nowhere").status in {200, 404}
