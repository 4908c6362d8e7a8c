"""Every page there is, as a reader without scripts meets it: by links and forms, from the first one on.

Each has a JSON twin with the same content, each shows the same to whoever opens its address elsewhere,
and no route is left out: one that is added without being reached here fails the last test.
"""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import pytest
from tests.server.console.conftest import Browser

from fletching.server.console.console_routes import ROUTES
from fletching.server.console.page_cells import clean
from fletching.server.server import Server

FILES = {"/rows", "/query/rows", "/query/names"}
"""Routes that are no pages: downloads, and the names that a script completes."""

VOLATILE = {
    *("uptime", "requests", "live", "last_minute", "errors", "disk", "pools", "gates", "memory"),
    *("age", "expires_in", "count", "next", "seconds", "link", "csrf", "health", "debt"),
}
"""What moves while one looks: measurements and ages, links that are signed anew."""


class Form(NamedTuple):
    method: str
    action: str
    fields: dict[str, str]


class Page(HTMLParser):
    """The links, forms and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.forms: list[Form] = []
        self.twin = ""
        self.words: list[str] = []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        result = {name: value or "" for name, value in attributes}
        if tag == "a":
            self.links.append(result["href"])
        elif tag == "link" and result.get("rel") == "alternate":
            self.twin = result["href"]
        elif tag == "form":
            method = "script" if "data-upload" in result else result.get("method", "get")
            self.forms.append(Form(method, result.get("action", ""), {}))
        elif tag == "input" and self.forms and result.get("name"):
            self.forms[-1].fields[result["name"]] = result.get("value", "")
        elif tag in {"img", "input", "textarea", "button"}:
            self.words.append(result.get("alt", ""))
        self.words += [result[name] for name in ("value", "title", "aria-label") if name in result]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def below(address: str) -> str:
    """The path and query of a link, below ``/console``; empty where it leads elsewhere."""
    parts = urlsplit(address)
    if parts.netloc or not (parts.path == "/console" or parts.path.startswith("/console/")):
        return ""
    path = parts.path.removeprefix("/console")
    return path + (f"?{parts.query}" if parts.query else "")


def shape(path: str) -> str:
    """What a page is for: its route and the names of what is asked of it."""
    route = next(
        (
            route.path
            for route in ROUTES
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", route.path), urlsplit(path).path)
        ),
        urlsplit(path).path,
    )
    asked = dict(parse_qsl(urlsplit(path).query))
    return f"{route}?{'&'.join(sorted(asked))}"


@pytest.fixture(scope="module")
def pages(server: Server) -> dict[str, Page]:
    """Every page that links and searches lead to; of those of one shape, a few."""
    browser = Browser(server)
    browser.sign_in(*server.access_key)
    browser.query("select id, text from events order by id")
    client_of(server).table("events").write_session().__enter__()
    result: dict[str, Page] = {}
    shapes: dict[str, int] = {}
    waiting = ["/tables"]
    while waiting:
        path = waiting.pop(0)
        if path in result or shapes.get(shape(path), 0) >= 3:
            continue
        parts = urlsplit(path)
        if parts.path.endswith(("/rows", "/query/names")) or "format=json" in parts.query:
            continue
        reply = browser(path)
        if reply.status == 303:
            waiting.append(below(reply.headers["location"]))
            continue
        assert reply.status == 200, path
        shapes[shape(path)] = shapes.get(shape(path), 0) + 1
        page = result[path] = Page(reply.text)
        waiting += [below(link) for link in page.links if below(link)]
        for form in page.forms:
            if form.method == "get":
                given = urlencode({name: value for name, value in form.fields.items() if value})
                waiting.append(below(form.action) + (f"?{given}" if given else ""))
    return result


def client_of(server: Server) -> Any:
    import fletching

    access_id, secret = server.access_key
    return fletching.connect(server.url, access_id=access_id, access_key=secret)


def test_links_lead_to_every_page(pages: dict[str, Page]) -> None:
    reached = {shape(path).partition("?")[0] for path in pages}
    wanted = {
        route.path
        for route in ROUTES
        if route.show is not None and not route.path.endswith(tuple(FILES))
    }
    # Where the operator's one page was earlier, and the beginning, only lead on.
    assert wanted - reached <= {"", "/server"}
    assert len(pages) > 40


def steady(value: Any) -> Any:
    """What of a twin stays the same from one look to the next."""
    if isinstance(value, dict):
        return {key: steady(each) for key, each in value.items() if key not in VOLATILE}
    return [steady(each) for each in value] if isinstance(value, list) else value


def test_all_state_is_in_the_address(server: Server, pages: dict[str, Page]) -> None:
    here, elsewhere = Browser(server), Browser(server)
    for browser in (here, elsewhere):
        browser.sign_in(*server.access_key)
    for path in pages:
        if urlsplit(path).path in {"/overview", "/requests", "/sessions"}:
            continue  # nothing of them stands still
        twin = path + ("&" if "?" in path else "?") + "format=json"
        # Somebody else, who came by another way, sees the same.
        assert steady(json.loads(here(twin).text)) == steady(json.loads(elsewhere(twin).text)), path


def cells(value: Any) -> list[str]:
    """The values of rows in a twin."""
    if isinstance(value, dict):
        if {"text", "kind"} <= set(value):
            return [] if value["kind"] == "blob" else [value["text"]]
        return [text for each in value.values() for text in cells(each)]
    return [text for each in value for text in cells(each)] if isinstance(value, list) else []


def names(value: Any) -> list[str]:
    """The names of things in a twin."""
    known = {"table", "name", "names", "access_id", "grantee", "request_id", "project"}
    if isinstance(value, list):
        return [text for each in value for text in names(each)]
    if not isinstance(value, dict):
        return []
    result = [text for each in value.values() for text in names(each)]
    for key in known & set(value):
        each = value[key]
        result += [each] if isinstance(each, str) else []
        result += [x for x in each if isinstance(x, str)] if isinstance(each, list) else []
    return result


def test_each_page_has_a_twin_that_says_the_same(server: Server, pages: dict[str, Page]) -> None:
    browser = Browser(server)
    browser.sign_in(*server.access_key)
    for path, page in pages.items():
        if page.twin:
            twin = below(page.twin)
            asked = dict(parse_qsl(urlsplit(path).query))
            assert asked.items() <= dict(parse_qsl(urlsplit(twin).query)).items(), path
        else:
            # A segment is drawn by what also draws files; it has a twin all the same.
            assert "/segments/" in path
            twin = path + "?format=json"
        reply = browser(twin)
        assert reply.status == 200, twin
        assert reply.headers["content-type"].startswith("application/json")
        data = json.loads(reply.text)
        assert data, twin
        if urlsplit(path).path in {"/requests", "/sessions", "/overview"} or "/segments/" in path:
            continue
        for text in (*cells(data), *names(data)):
            assert " ".join(clean(text).split()) in page.text, (path, text)


def test_pages_go_on_and_are_sorted_by_links(pages: dict[str, Page]) -> None:
    def asks(**wanted: str) -> bool:
        return any(
            wanted.items() <= dict(parse_qsl(urlsplit(unquote(path)).query)).items()
            for path in pages
        )

    assert asks(offset="100")
    assert asks(sort="id")
    assert asks(sort="id", order="desc")
    assert asks(sort="bytes")
    assert asks(confirm="restore")
    assert asks(plan="retention")
    instances = [path for path in pages if "instance=" in path]
    assert any("offset=" in path for path in instances)


def test_what_is_done_is_done_by_plain_forms(pages: dict[str, Page]) -> None:
    posts = {
        below(form.action)
        for page in pages.values()
        for form in page.forms
        if form.method == "post"
    }
    wanted = {
        route.path
        for route in ROUTES
        # What a file's bytes are sent to needs a script, and the page says which command does it.
        if route.do is not None
        and not route.path.startswith("/upload/")
        and "/rows" not in route.path
    }
    shown = {shape(path).partition("?")[0] for path in posts}
    # A running statement's page has that one.
    assert wanted - shown <= {"/query/cancel"}
    for page in pages.values():
        for form in page.forms:
            if form.method == "post":
                assert form.fields["csrf"]
