"""What somebody would try who is not an operator, or not there at all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.browser.conftest import NASTY, Running, Visit, Visitor


@pytest.fixture
def evil(server: Running) -> Iterator[str]:
    """Another site, whose page posts forms to the console and frames it."""
    page = (
        f'<form id=f method=post action="{server.url}/console/query"><input name=text value="drop table people">'
        f'</form><iframe src="{server.url}/console/tables"></iframe>'
    ).encode()

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    running = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield f"http://localhost:{running.server_address[1]}/"
    running.shutdown()
    running.server_close()
    thread.join()


def test_another_site_cannot_post_or_frame(visitor: Visitor, server: Running, evil: str) -> None:
    visitor.expects("foreign request", "frame", "403", "404", "Framing")
    page = visitor.page
    page.goto(evil)
    page.wait_for_load_state("networkidle")
    framed = [frame for frame in page.frames if "/console" in frame.url]
    assert not framed
    page.evaluate("document.getElementById('f').submit()")
    page.wait_for_url("**/console/**")
    with server.connect() as client:
        assert client.table("people").count_rows() == 3


def test_values_and_names_are_only_text(visitor: Visitor, server: Running) -> None:
    with server.connect() as client:
        name = "people"
        client.table(name).set_properties({"note": NASTY})
        client.sql(f"create table odd (a bigint comment '{NASTY.replace(chr(39), '')}')")
    page = visitor.page
    for path in ("", "/columns", "/history", "/segments", "/row?offset=0"):
        visitor.go(f"/tables/demo/default/people{path}")
        assert page.title() != "owned"
    visitor.go("/tables/demo/default/odd/columns")
    assert "<script>" in page.locator("main").inner_text()
    assert page.title() != "owned"


def test_what_runs_inline_is_stopped_by_the_policy(visitor: Visitor) -> None:
    visitor.expects("Content Security Policy", "TrustedHTML", "Trusted")
    page = visitor.page
    visitor.go("/tables")
    page.evaluate(
        """() => {
            const image = document.createElement("img");
            try { image.setAttribute("onerror", "document.title = 'owned'"); } catch { /* as it should be */ }
            image.src = "/nowhere";
            document.body.append(image);
            try { document.body.innerHTML += "<b>x</b>"; } catch { /* as it should be */ }
        }"""
    )
    visitor.expects("404", "401")
    page.wait_for_load_state("networkidle")
    assert page.title() != "owned"


def test_other_keys_tables_stay_closed(
    visit: Visit, server: Running, limited: tuple[str, str]
) -> None:
    visitor = visit(signed_in=False)
    visitor.expects("403", "400")
    visitor.sign_in(*limited)
    page = visitor.page
    assert page.get_by_role("link", name="people").count() == 1
    assert page.get_by_text("secret_plans").count() == 0
    assert page.get_by_role("link", name="Keys").count() == 0
    for path in (
        "/tables/demo/default/secret_plans",
        "/tables/demo/default/secret_plans/columns",
        "/tables/demo/default/secret_plans/rows?format=csv",
        "/overview",
        "/keys",
        "/requests",
        "/settings",
    ):
        reply = visitor.context.request.get(f"{visitor.url}/console{path}")
        assert reply.status == 403, path
    visitor.go("/query")
    page.get_by_label("Statement").fill("select * from secret_plans")
    page.get_by_role("button", name="Run").click()
    page.get_by_role("alert").wait_for()
    assert page.locator("#result").count() == 0


def test_guessing_a_secret_is_slowed_down(visit: Visit) -> None:
    visitor = visit(signed_in=False)
    statuses = [
        visitor.context.request.post(
            f"{visitor.url}/console/sign-in", form={"access_id": "guessed", "secret": str(number)}
        ).status
        for number in range(30)
    ]
    assert statuses[0] == 401
    assert statuses[-1] == 429
