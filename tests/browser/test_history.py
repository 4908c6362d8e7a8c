from __future__ import annotations

from tests.browser.conftest import Running, Visitor


def test_versions_are_compared_named_and_restored(visitor: Visitor, server: Running) -> None:
    with server.connect() as client:
        table = client.create_table("travelled", "id BIGINT, name STRING")
        table.append({"id": [1, 2], "name": ["a", "b"]})
        table.append({"id": [3], "name": ["c"]})
        table.delete("id = 1")
    page = visitor.page
    visitor.go("/tables/demo/default/travelled/history")
    newest = page.locator(".timeline li").first
    assert "\N{MINUS SIGN}1" in newest.inner_text()
    newest.get_by_role("link", name="difference").click()
    page.wait_for_url("**from=**")
    assert page.locator("#difference td").first.inner_text() == "delete"
    older = page.locator(".timeline li", has=page.get_by_role("link", name="version 1", exact=True))
    older.get_by_role("link", name="tag").click()
    page.get_by_label("A name for version 1").fill("before")
    page.get_by_role("button", name="Tag version 1").click()
    page.locator(".tag", has_text="before").wait_for()
    older.get_by_role("link", name="restore").click()
    page.get_by_role("button", name="Restore version 1").click()
    page.wait_for_url("**/history")
    assert "restore" in page.locator(".timeline li").first.inner_text()
    with server.connect() as client:
        result = client.table("travelled")
        assert sorted(result.to_table()["id"].to_pylist()) == [1, 2]
        assert result.tags() == {"before": 1}
    page.get_by_role("link", name="Forget tag before").click()
    page.get_by_role("button", name="Forget it").click()
    page.wait_for_url("**/history")
    assert page.locator(".tag").count() == 0
