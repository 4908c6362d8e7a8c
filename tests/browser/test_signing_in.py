from __future__ import annotations

from tests.browser.conftest import PREFIX, Running, Visit


def test_in_and_out(visit: Visit, server: Running) -> None:
    visitor = visit(signed_in=False)
    visitor.expects("401")
    page = visitor.page
    visitor.go("/tables")
    assert page.url.endswith("/console/sign-in")
    page.get_by_label("Access id").fill(server.access_id)
    page.get_by_label("Secret").fill("wrong")
    page.keyboard.press("Enter")
    assert "wrong" in page.get_by_role("alert").inner_text()
    visitor.sign_in(server.access_id, server.secret)
    (cookie,) = [c for c in visitor.context.cookies() if c["name"] == "fletching_console"]
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/console")
    assert server.secret not in cookie["value"]
    assert page.evaluate("document.cookie") == ""
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")
    visitor.go("/tables")
    assert page.url.endswith("/console/sign-in")


def test_colours_are_kept_without_scripts(visit: Visit) -> None:
    visitor = visit(java_script_enabled=False, color_scheme="light")
    page = visitor.page
    visitor.go("/overview")
    page.get_by_role("button", name="change to dark").click()
    page.wait_for_url("**/overview")
    assert page.locator("html").get_attribute("data-theme") == "dark"


def test_behind_a_proxy_with_a_prefix(visit: Visit, proxy: str) -> None:
    visitor = visit(url=proxy)
    page = visitor.page
    for name in ("Query", "Upload", "Overview", "Requests", "Storage", "Tables"):
        page.get_by_role("link", name=name, exact=True).first.click()
        page.wait_for_load_state()
        assert PREFIX in page.url
        assert page.get_by_role("heading", level=1).count() == 1
    page.get_by_role("link", name="pictures").click()
    page.wait_for_load_state("networkidle")
    assert (
        page.locator("td.blob img").first.evaluate("img => img.complete && img.naturalWidth") == 60
    )
    page.get_by_role("link", name="History").click()
    page.wait_for_url("**/history")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(f"**{PREFIX}/console/sign-in")
