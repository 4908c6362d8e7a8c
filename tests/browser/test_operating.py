from __future__ import annotations

from tests.browser.conftest import Running, Visitor


def test_an_error_is_followed_by_the_id_that_a_user_quotes(visitor: Visitor) -> None:
    visitor.expects("404")
    page = visitor.page
    visitor.go("/tables/demo/default/nowhere")
    quoted = page.locator("main code").inner_text()
    visitor.go("/requests")
    page.get_by_label("Request id").fill(quoted)
    page.keyboard.press("Enter")
    page.wait_for_url("**id=**")
    row = page.locator("tr.failed", has_text=quoted)
    assert "NoSuchTableError" in row.inner_text()
    assert "404" in row.inner_text()


def test_the_overview_renews_itself(visitor: Visitor) -> None:
    page = visitor.page
    visitor.go("/overview")
    before = page.locator(".facts").inner_text()
    page.wait_for_function(
        "before => document.querySelector('.facts').innerText !== before", arg=before
    )
    assert page.locator("svg.chart").count() >= 6
    assert "ready" in page.locator(".facts .good").inner_text()


def test_sessions_are_ended(visitor: Visitor, server: Running) -> None:
    page = visitor.page
    with server.connect() as client:
        session = client.table("people").write_session()
        session.__enter__()
        visitor.go("/sessions")
        row = page.locator("tr", has_text=session.id)
        row.get_by_role("link", name="End…").click()
        page.get_by_role("button", name="Drop what it wrote").click()
        page.wait_for_url("**/sessions")
        assert page.locator("tr", has_text=session.id).count() == 0


def test_upkeep_is_run_and_says_what_it_did(visitor: Visitor) -> None:
    page = visitor.page
    visitor.go("/storage")
    for name in ("compaction", "retention", "verification"):
        page.get_by_role("button", name=f"Run {name}").click()
        page.locator("section.card", has_text=name.capitalize()).get_by_text("Last run").wait_for()
    assert "nothing is wrong" in page.locator("section.card", has_text="Verification").inner_text()
    page.get_by_role("link", name="What would go now?").click()
    page.locator(".note", has_text="A pass would collect").wait_for()


def test_keys_are_made_granted_rotated_and_revoked(visitor: Visitor, server: Running) -> None:
    page = visitor.page
    visitor.go("/keys")
    page.get_by_label("Access id").fill("ann")
    page.get_by_label("Comment").fill("for Ann")
    page.get_by_role("button", name="Create a key").click()
    first = page.locator(".confirm code").inner_text()
    assert first.startswith("ann:")
    visitor.go("/keys")
    assert first.partition(":")[2] not in page.content()
    page.get_by_label("To (a key's id or owner)").fill("ann")
    page.get_by_label("Table, or a pattern").fill("people")
    page.get_by_role("button", name="Grant", exact=True).click()
    page.get_by_role("button", name="Take back read of * people from ann").wait_for()
    row = page.locator("#k-ann")
    row.get_by_role("link", name="Rotate…").click()
    page.get_by_role("button", name="Give it a new secret").click()
    second = page.locator(".confirm code").inner_text()
    assert second != first
    row.get_by_role("link", name="Revoke…").click()
    page.get_by_role("button", name="Revoke it for good").click()
    page.wait_for_url("**/keys")
    assert "revoked" in row.inner_text()


def test_settings_say_where_they_are_from(visitor: Visitor) -> None:
    page = visitor.page
    visitor.go("/settings?q=drain_idle")
    assert "FLETCHING_DRAIN_IDLE_SECONDS" in page.locator("tbody tr").inner_text()
