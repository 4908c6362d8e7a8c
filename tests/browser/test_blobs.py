from __future__ import annotations

from tests.browser.conftest import Visitor


def test_cells_show_what_blobs_are(visitor: Visitor) -> None:
    page = visitor.page
    visitor.go("/tables/demo/default/pictures")
    page.wait_for_load_state("networkidle")
    picture = page.locator("tr", has_text="a picture").locator("img")
    assert picture.evaluate("img => img.complete && img.naturalWidth") == 60
    assert page.locator("tr", has_text="a sound").locator("audio").count() == 1
    assert "words, words" in page.locator("tr", has_text="a text").inner_text()
    assert page.locator("tr", has_text="nothing").locator("td.null").count() == 1
    length = page.locator("audio").evaluate(
        """audio => new Promise((done, failed) => {
            audio.onloadedmetadata = () => done(audio.duration);
            audio.onerror = () => failed(audio.error.message);
            audio.load();
            audio.play().catch(() => {});
        })"""
    )
    assert 0.4 < length < 0.6


def test_links_end(visitor: Visitor) -> None:
    visitor.go("/tables/demo/default/pictures")
    address = str(visitor.page.locator("td.blob img").first.get_attribute("src"))
    get = visitor.context.request.get
    assert get(visitor.url + address).status == 200
    later = address.replace("Expires=1", "Expires=2")
    assert get(visitor.url + later).status == 403
    assert get(visitor.url + address.partition("?")[0]).status == 401


def test_what_is_inside_a_blob_does_not_run(visitor: Visitor) -> None:
    visitor.expects(
        "Blocked script execution", "violates the following Content Security Policy", "Trusted"
    )
    page = visitor.page
    visitor.go("/tables/demo/default/pictures")
    page.wait_for_load_state("networkidle")
    assert page.title() != "owned"
    links = {
        what: str(
            page.locator("tr", has=page.get_by_role("cell", name=what, exact=True))
            .locator("td.blob a")
            .get_attribute("href")
        )
        for what in ("a page", "a drawing", "a script")
    }
    for link in links.values():
        page.goto(visitor.url + link)
        assert page.title() != "owned"
        assert page.evaluate("self.origin") == "null"
    # What was uploaded as a script is none for the console's pages.
    visitor.go("/tables")
    page.evaluate(
        """address => new Promise(done => {
            const script = document.createElement("script");
            script.onload = script.onerror = () => done();
            document.addEventListener("securitypolicyviolation", () => done());
            try { script.src = address; document.head.append(script); } catch { done(); }
        })""",
        links["a script"],
    )
    assert page.title() != "owned"
