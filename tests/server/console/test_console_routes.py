"""The console as a browser without scripts uses it, and as an attacker would."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import re
import time
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.server.console.conftest import NASTY, Browser, Reply, limited
from tests.waiting import until

import fletching
from fletching.catalog.writer_rows import WriterRow
from fletching.engine.access.permissions import Grant, Permission
from fletching.errors import NotFoundError
from fletching.server.console import console_routes
from fletching.server.console.data import rows_page
from fletching.server.server import Server

TABLE = "/tables/demo/default/events"
OPERATOR = ["/overview", "/requests", "/sessions", "/storage", "/keys", "/settings"]
PAGES = [
    "/sign-in",
    "/tables",
    "/tables?sort=bytes",
    TABLE,
    f"{TABLE}/row?offset=3",
    f"{TABLE}?sort=id&order=desc",
    f"{TABLE}/columns",
    f"{TABLE}/partitions",
    f"{TABLE}/history",
    f"{TABLE}/history?from=0&to=1",
    f"{TABLE}/history?confirm=restore&version=0",
    f"{TABLE}/history?confirm=tag&version=0",
    f"{TABLE}/segments",
    "/query",
    "/query?text=select%201",
    "/upload",
    *OPERATOR,
    "/storage?plan=retention",
    "/nowhere",
]


class Checked(HTMLParser):
    """What a page must not hold, and what it must."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.problems: list[str] = []
        self.labels = self.inputs = 0
        self.headings: list[str] = []
        self.scripts: list[dict[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        result = dict(attributes)
        if tag in {"style", "iframe", "object"}:
            self.problems.append(f"<{tag}>")
        if tag == "script":
            self.scripts.append(result)
        self.problems += [
            f"{tag} {name}" for name in result if name.startswith("on") or name == "style"
        ]
        for name in ("src", "href", "action"):
            address = result.get(name) or ""
            if urlsplit(address).netloc or address.startswith("javascript"):
                self.problems.append(f"{tag} {name}={address}")
        if tag == "img" and "alt" not in result:
            self.problems.append("img without alt")
        if tag == "html" and not result.get("lang"):
            self.problems.append("no language")
        if tag in {"h1", "h2", "h3"}:
            self.headings.append(tag)
        self.labels += tag == "label"
        self.inputs += tag in {"input", "textarea", "select"} and result.get("type") != "hidden"


def test_bytes_that_are_no_text_are_no_failure(browser: Browser) -> None:
    for path in (
        "/tables?q=%ff%00",
        "/tables/%ff/%00/x",
        "/requests?who=%f0%9f",
        "/query?text=%ed%a0%80",
    ):
        for twin in ("", "&format=json" if "?" in path else "?format=json"):
            assert browser(path + twin).status < 500


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_safe_whole_and_small(browser: Browser, path: str) -> None:
    reply = browser(path)
    assert reply.status == (404 if path == "/nowhere" else 200)
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "script-src 'self'" not in policy  # what was uploaded is of this origin, too
    assert "frame-ancestors 'none'" in policy
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["cache-control"] == "no-store"
    page = Checked(reply.text)
    assert page.problems == []
    for script in page.scripts:
        assert script["type"] == "module"
        assert f"script-src 'nonce-{script['nonce']}'" in policy
        assert str(script["src"]).startswith("/console/static/")
    assert page.headings.count("h1") == 1
    assert page.labels == page.inputs
    assert len(reply.text) < 100_000


def test_nothing_is_read_without_signing_in(server: Server) -> None:
    stranger = Browser(server)
    for path in ["", *PAGES[1:], f"{TABLE}/rows", "/query/names", "/query/rows", "/server"]:
        reply = stranger(path)
        assert (reply.status, reply.headers["location"]) == (303, "/console/sign-in")
        assert "events" not in reply.text
    stranger.cookie = "fletching_console=bm9uc2Vuc2U="
    assert stranger("/tables").status == 303
    assert stranger("/query", {"text": "select 1"}).status == 303


def test_signing_in_and_out(server: Server) -> None:
    browser = Browser(server)
    access_id, secret = server.access_key
    wrong = browser.sign_in(access_id, "wrong")
    assert wrong.status == 401
    assert "set-cookie" not in wrong.headers
    assert browser.sign_in("nobody", secret).status == 401
    right = browser.sign_in(access_id, f" {secret} ")
    cookie = right.headers["set-cookie"]
    for flag in ("HttpOnly", "SameSite=Strict", "Path=/console", "Max-Age="):
        assert flag in cookie
    assert secret not in cookie
    assert browser("/tables").status == 200
    assert browser("/sign-out", {"csrf": "0" * 64}).status == 403
    assert browser("/sign-out", {"csrf": browser.csrf}).status == 303
    assert browser("/tables").status == 303


def test_guessing_is_slowed_down(server: Server) -> None:
    browser = Browser(server)
    tries = [browser.sign_in("guessed", str(number)).status for number in range(40)]
    assert tries[0] == 401
    assert tries[-1] == 429


def test_tables_and_one_of_them(browser: Browser) -> None:
    listed = browser("/tables").text
    assert ">events<" in listed
    assert "250" in listed
    assert ">events<" not in browser("/tables?q=nothing").text
    page = browser("/tables/demo/default/events").text
    assert NASTY not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    for kind in ("null", "empty", "bytes", "nested"):
        assert f'<td class="{kind}">' in page
    assert "filter=day+%3D+%27a%27" in browser(f"{TABLE}/partitions").text
    assert "fletching.connect(" in page
    assert browser("/tables/demo/default/nowhere").status == 404


def test_rows_are_paged_filtered_and_read_as_they_were(browser: Browser) -> None:
    def ids(query: str) -> list[int]:
        reply = browser(f"/tables/demo/default/events?format=json&{query}")
        assert reply.status == 200, reply.text
        data = json.loads(reply.text)
        index = data["names"].index("id")
        return [int(row[index]["text"]) for row in data["cells"]]

    seen: list[int] = []
    for offset in (0, 100, 200):
        seen += ids(f"offset={offset}")
    assert sorted(seen) == list(range(250))
    assert ids("filter=id%20%3C%203") == [0, 2, 1]
    assert len(ids("filter=id%20%3E%3D%20100&offset=100")) == 50
    assert ids("version=0") == []
    first, last = (
        browser("/tables/demo/default/events").text,
        browser("/tables/demo/default/events?offset=200").text,
    )
    assert 'rel="next"' in first
    assert 'rel="prev"' not in first
    assert 'rel="next"' not in last
    wrong = browser("/tables/demo/default/events?filter=id%20%3E")
    assert wrong.status == 400
    assert 'role="alert"' in wrong.text
    for query in ("offset=-1", "offset=%C2%B2", "version=x"):
        assert browser(f"/tables/demo/default/events?{query}").status == 400


def test_rows_are_sorted_by_a_column_and_paged_by_links(browser: Browser) -> None:
    def page(query: str) -> dict[str, Any]:
        result: dict[str, Any] = json.loads(browser(f"{TABLE}?format=json&{query}").text)
        return result

    def column(result: dict[str, Any], name: str) -> list[str]:
        index = result["names"].index(name)
        return [row[index]["text"] for row in result["cells"]]

    everything = [str(n) for n in range(250)]
    first, second = page("sort=id"), page("sort=ID&offset=100")
    assert column(first, "id") + column(second, "id") == everything[:200]
    last = page("sort=id&order=desc&offset=200")
    assert column(last, "id") == everything[49::-1]
    assert (last["next"], first["next"], first["last"]) == (None, 100, None)
    chosen = page("sort=id&order=desc&filter=id%20%3C%203&version=1")
    assert column(chosen, "id") == ["2", "1", "0"]
    # Each row's link leads to that row, whatever the order.
    text = browser(f"{TABLE}?sort=id&order=desc&filter=id%20%3C%203").text
    assert 'aria-sort="descending"' in text
    for number, value in zip(chosen["numbers"], ("2", "1", "0"), strict=True):
        row = browser(f"{TABLE}/row?format=json&filter=id%20%3C%203&offset={number}").text
        assert column(json.loads(row) | {"cells": [json.loads(row)["cells"]]}, "id") == [value]
        assert f"offset={number}" in text
    assert "Previous row" in browser(f"{TABLE}/row?offset=249").text
    # A click on the header of the column turns the order around, and then leaves it.
    links = re.findall(r'<th scope="col"[^>]*><a href="([^"]+)"', browser(f"{TABLE}?sort=id").text)
    assert any(link.endswith("sort=id&amp;order=desc") for link in links)
    for wrong in ("nested", "nowhere", "%3Cscript%3E"):
        refused = browser(f"{TABLE}?sort={wrong}")
        assert refused.status == 400
        assert "<script>" not in refused.text.partition("</head>")[2]


def test_an_order_ends_where_pages_do(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_page, "SORT_ROWS", 150)
    result = json.loads(browser(f"{TABLE}?format=json&sort=id&offset=9999").text)
    assert (result["offset"], result["next"]) == (50, None)
    assert "150" in result["given_up"]
    monkeypatch.setattr(rows_page, "SORT_SECONDS", -1.0)
    assert "looked at" in browser(f"{TABLE}?sort=id").text


def test_programs_read_pages_with_a_token(server: Server, browser: Browser) -> None:
    access_id, secret = server.access_key
    token = server.service.engine.access_keys.tokens.sign(access_id, secret, time.time() + 60)
    headers = {"authorization": f"Bearer {token}"}
    stranger = Browser(server)
    assert "uptime" in stranger("/overview?format=json", headers=headers).text
    assert stranger("/overview", headers=headers).status == 303  # pages are for who signed in
    assert stranger("/overview?format=json", headers={"authorization": "Bearer x"}).status == 303
    form = {"task": "retention"}
    assert stranger("/storage?format=json", form, headers).status == 303  # nothing is done by it
    assert stranger("/keys?format=json", form, headers).status == 303


def test_a_filter_that_finds_nothing_is_given_up_and_says_so(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = "filter=text%20%3D%20%27q%27"
    assert "No rows" in browser(f"{TABLE}?{where}").text
    monkeypatch.setattr("fletching.server.console.data.rows_page.FILTER_SECONDS", -1.0)
    page = browser(f"{TABLE}?{where}")
    assert page.status == 200
    assert "given up" in page.text
    assert json.loads(browser(f"{TABLE}?{where}&format=json").text)["given_up"]
    assert "given up" not in browser(TABLE).text  # without a filter nothing is looked for


def test_downloads(browser: Browser) -> None:
    reply = browser("/tables/demo/default/events/rows?format=jsonl&filter=id%20%3C%202")
    assert [json.loads(line)["id"] for line in reply.text.splitlines()] == [0, 1]


def test_queries(browser: Browser) -> None:
    pytest.importorskip("duckdb")
    page = browser.query("select count(*) n from events")
    assert "250" in page.text
    assert browser.query("create table made_here (id bigint)").status == 200
    assert "made_here" in browser("/tables").text
    wrong = browser("/query", {"csrf": browser.csrf, "text": f"select {NASTY}"})
    assert wrong.status == 400
    assert Checked(wrong.text).problems == []


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"content-type": "text/plain"},
        {"content-type": "multipart/form-data; boundary=x"},
    ],
)
def test_other_sites_cannot_post(browser: Browser, headers: dict[str, str]) -> None:
    form = {"csrf": browser.csrf, "text": "drop table events"}
    assert browser("/query", form, headers).status in {400, 403}
    assert browser("/query", {"text": "drop table events"}).status == 403
    assert browser("/tables/demo/default/events").status == 200


def test_the_grants_of_the_key_hold(server: Server) -> None:
    browser = Browser(server)
    browser.sign_in(*limited(server))
    listed = browser("/tables").text
    assert ">events<" in listed
    assert "secret_plans" not in listed
    assert browser("/tables/demo/default/secret_plans").status == 403
    assert browser("/tables/demo/default/secret_plans/rows").status == 403
    for path in [*OPERATOR, "/server"]:
        assert browser(path).status == 403
        assert browser(path, {"csrf": browser.csrf}).status in {403, 405}
    for page in ("columns", "history", "partitions", "segments", "segments/1", "row"):
        assert browser(f"/tables/demo/default/secret_plans/{page}").status == 403
    reply = browser("/query", {"csrf": browser.csrf, "text": "drop table events"})
    assert reply.status == 400
    assert browser("/tables/demo/default/events").status == 200


def test_the_operator_finds_a_request_by_its_id(browser: Browser) -> None:
    missing = browser("/tables/demo/default/nowhere")
    result = re.search(r"Request id <code>([^<]+)</code>", missing.text)
    assert result is not None
    page = browser(f"/requests?id={result[1]}").text
    assert result[1] in page
    assert "NoSuchTableError" in page
    assert browser("/requests?id=nobody").status == 404
    assert browser(f"/server?id={result[1]}").headers["location"].endswith(f"?id={result[1]}")
    data = json.loads(browser("/overview?format=json").text)
    assert {limiter["kind"] for limiter in data["gates"]} == {"uploads", "replies", "calls"}
    assert data["healthy"]
    assert "NoSuchTableError" in {error["outcome"] for error in data["errors"]}
    data = json.loads(browser("/settings?format=json").text)
    assert any(setting["name"] == "max_bodies" for setting in data["settings"])


def test_behind_a_prefix(browser: Browser) -> None:
    headers = {"x-forwarded-prefix": "/data/store"}
    page = browser("/tables", headers=headers).text
    assert 'href="/data/store/console/tables' in page
    assert 'href="/console' not in page
    assert browser("", headers=headers).headers["location"] == "/data/store/console/tables"
    evil = browser("/tables", headers={"x-forwarded-prefix": '//evil.example" onload=x'})
    assert "evil" not in evil.text


def test_the_style_is_of_this_server(browser: Browser) -> None:
    reply = browser("/static/console.css")
    assert reply.headers["content-type"].startswith("text/css")
    assert "color-scheme: light dark" in reply.text
    assert "url(" not in reply.text
    assert browser("/static/../sign_in.py").status == 404


def test_a_result_is_downloaded_whole(browser: Browser) -> None:
    pytest.importorskip("duckdb")
    made = browser("/query", {"csrf": browser.csrf, "text": "select id from events order by id"})
    query = made.headers["location"].partition("?")[2]
    while json.loads(browser(f"/query?{query}&format=json").text)["running"]:
        time.sleep(0.05)
    reply = browser(f"/query/rows?{query}&format=jsonl")
    assert [json.loads(line)["id"] for line in reply.text.splitlines()] == list(range(250))
    assert reply.headers["content-disposition"].startswith("attachment")
    page = json.loads(browser(f"/query?{query}&offset=200&format=json").text)
    assert (len(page["cells"]), page["next"], page["previous"]) == (50, None, 100)
    assert browser("/query/rows?format=csv").status == 400
    assert browser("/query/rows?instance=nobody&format=csv").status == 404
    names = json.loads(browser("/query/names?text=select+from+events").text)
    assert "events" in names["tables"]
    assert "nested" in names["columns"]["events"]


def test_results_belong_to_whoever_ran_them(server: Server, browser: Browser) -> None:
    pytest.importorskip("duckdb")
    made = browser("/query", {"csrf": browser.csrf, "text": "select 'mine'"})
    query = made.headers["location"].partition("?")[2]
    other = Browser(server)
    other.sign_in(*limited(server))
    for path in (f"/query?{query}", f"/query/rows?{query}&format=csv"):
        reply = other(path)
        assert reply.status == 404
        assert "mine" not in reply.text
    assert "secret_plans" not in other("/query/names?text=secret_plans").text
    cancel = dict(part.split("=") for part in query.split("&"))
    assert other("/query/cancel", {"csrf": other.csrf, **cancel}).status == 404


def test_versions_are_restored_and_tagged_by_forms(server: Server, browser: Browser) -> None:
    access_id, secret = server.access_key
    with fletching.connect(server.url, access_id=access_id, access_key=secret) as client:
        table = client.create_table("forms", "id BIGINT")
        table.append({"id": [1]})
        table.append({"id": [2]})
        path = "/tables/demo/default/forms/history"
        form = {"csrf": browser.csrf, "action": "restore", "version": "1", "if_version": "2"}
        again = form | {"key": "once"}
        assert browser(path, again).status == 303
        assert browser(path, again).status == 303  # sent twice: done once
        assert table.reload().info.version == 3
        assert client.table("forms").to_table()["id"].to_pylist() == [1]
        assert browser(path, form).status == 409  # something has happened since
        assert browser(path, {**form, "action": "tag", "name": "then"}).status == 303
        assert client.table("forms").tags() == {"then": 1}
        assert browser(path, {**form, "action": "untag", "name": "then"}).status == 303
        for wrong in ({"action": "drop"}, {"version": "x"}, {"action": "tag", "version": ""}):
            assert browser(path, form | wrong).status == 400
    reader = Browser(server)
    reader.sign_in(*limited(server))
    form = {"csrf": reader.csrf, "action": "restore", "version": "0"}
    assert reader(f"{TABLE}/history", form).status == 403


def posted(browser: Browser, path: str, body: bytes, headers: dict[str, str]) -> Reply:
    """What the upload's script sends."""
    netloc = urlsplit(browser.server.url).netloc
    connection = http.client.HTTPConnection(netloc, timeout=600)
    try:
        sent = {"cookie": browser.cookie, "accept": "application/json", **headers}
        connection.request("POST", "/console" + path, body, sent)
        return Reply(connection.getresponse())
    finally:
        connection.close()


def test_a_file_is_looked_at_made_a_table_and_appended(browser: Browser) -> None:
    data = b"id,name,pt\n1,a,x\n2,b,y\n"
    token = {"x-fletching-form": browser.csrf}
    query = "table=from_file&file=f.csv"
    result = json.loads(posted(browser, f"/upload/schema?{query}", data, token).text)
    assert [column["type"] for column in result["columns"]] == ["bigint", "string", "string"]
    assert not result["exists"]
    made = posted(browser, f"/upload/table?{query}&partition=pt", data, token)
    assert made.status == 201, made.text

    def is_listed() -> bool:
        return "from_file" in browser("/tables?format=json").text

    # Nobody sees the table before its rows; and nobody ever, if they are refused.
    path = json.loads(made.text)["rows_address"].removeprefix("/console")
    assert posted(browser, path, b"id,name,pt\nx,a,x\n", token).status == 400
    assert not is_listed()
    assert not json.loads(posted(browser, f"/upload/schema?{query}", data, token).text)["exists"]
    answer = json.loads(posted(browser, path, data, token).text)
    assert (answer["rows"], answer["table"]) == (2, "demo.default.from_file")
    assert is_listed()
    path = result["rows_address"].removeprefix("/console")
    assert json.loads(browser("/tables/demo/default/from_file?format=json").text)["rows"] == 2
    again = json.loads(posted(browser, f"/upload/schema?{query}", data, token).text)
    assert (again["exists"], again["missing"]) == (True, [])
    for wrong in ({}, {"x-fletching-form": "0" * 64}, {**token, "origin": "http://evil.example"}):
        for target in (path, f"/upload/schema?{query}", f"/upload/table?{query}"):
            assert posted(browser, target, data, wrong).status == 403
    for target in (
        "/upload/schema?table=t&file=f.exe",
        "/upload/schema?file=f.csv",
        "/upload/schema?table=t&file=f.parquet",
        "/upload/schema?table=t&file=f.arrows",
        "/upload/table?table=t&file=f.csv&partition=nothing",
    ):
        assert posted(browser, target, data, token).status == 400, target
    assert posted(browser, f"/upload/table?{query}", data, token).status == 409


def test_keys_are_made_and_their_secrets_shown_once(browser: Browser) -> None:
    form = {"csrf": browser.csrf}
    made = browser("/keys", form | {"action": "create", "access_id": "bob", "days": "3"})
    result = re.search(r"bob:([\w-]+)", made.text)
    assert result is not None
    assert result[1] not in browser("/keys").text + browser("/keys?format=json").text
    assert browser("/keys", form | {"action": "create", "access_id": "bob"}).status == 400
    grant = {"grantee": "bob", "project": "*", "table": "e*", "permission": "read"}
    assert browser("/keys", form | grant | {"action": "grant"}).status == 303
    assert grant in json.loads(browser("/keys?format=json").text)["grants"]
    assert browser("/keys", form | grant | {"action": "ungrant"}).status == 303
    rotated = browser("/keys", form | {"action": "rotate", "access_id": "bob"})
    assert "bob:" in rotated.text
    assert result[1] not in rotated.text
    assert browser("/keys", form | {"action": "revoke", "access_id": "bob"}).status == 303
    me = browser.server.access_key[0]
    for wrong in (
        {"action": "create", "days": "0"},
        {"action": "create", "access_id": "no spaces"},
        {"action": "revoke", "access_id": me},
        {"action": "grant", **grant, "permission": "everything"},
        {"action": "burn"},
    ):
        reply = browser("/keys", form | wrong)
        assert reply.status in {400, 409}, wrong
        assert 'role="alert"' in reply.text


@pytest.mark.parametrize("action", ["rotate", "revoke"])
def test_a_session_ends_with_the_secret_that_it_was_begun_with(
    server: Server, browser: Browser, action: str
) -> None:
    theirs = Browser(server)
    theirs.sign_in(*limited(server))
    access_id = re.search(r'class="id" title="([^"]+)"', theirs("/tables").text)
    assert access_id is not None
    form = {"csrf": browser.csrf, "action": action, "access_id": access_id[1]}
    assert browser("/keys", form).status in {200, 303}
    until(lambda: theirs("/tables").status == 303)  # the server looks at its keys now and then


def test_a_session_is_not_made_of_a_token(server: Server, browser: Browser) -> None:
    access_id, secret = server.access_key
    token = server.service.engine.access_keys.tokens.sign(access_id, secret, time.time() + 60)
    stranger = Browser(server)
    for value in (token, f"{token}.", f"{token}.{'0' * 64}", browser.cookie.partition("=")[2][:-1]):
        stranger.cookie = f"fletching_console={value}"
        assert stranger("/tables").status == 303


def test_errors_of_programs_are_found_by_their_ids_too(server: Server, browser: Browser) -> None:
    access_id, secret = server.access_key
    with fletching.connect(server.url, access_id=access_id, access_key=secret) as client:
        with pytest.raises(fletching.FletchingError) as refused:
            client.table("never_made")
        with pytest.raises(fletching.FletchingError) as wrong:
            client.table("events").scan(filter="id = 'x").to_table()
    plain = browser(f"{TABLE}/rows?format=nonsense")
    ids = {refused.value.request_id: "NoSuchTable", plain.headers["x-odps-request-id"]: ""}  # type: ignore[attr-defined]  # an error of the service
    ids |= {request: "" for request in [getattr(wrong.value, "request_id", None)] if request}
    for request_id, name in ids.items():
        result = json.loads(browser(f"/requests?format=json&id={request_id}").text)["requests"]
        assert [each["request_id"] for each in result] == [request_id]
        assert result[0]["outcome"] != "ok"
        assert name in result[0]["outcome"]
        assert browser(f"/requests?id={request_id}").status == 200


def test_a_grant_on_an_asterisk_by_pattern_is_not_everything(server: Server) -> None:
    keys = server.service.engine.access_keys
    key = keys.create()
    keys.grant(Grant(key.access_id, "?", "*", Permission.ADMIN))
    browser = Browser(server)
    until(lambda: browser.sign_in(key.access_id, key.secret).status == 303, pause=0.1)
    assert browser("/overview").status == 403


def test_static_files_are_kept_by_what_is_in_them(browser: Browser) -> None:
    page = browser("/tables").text
    for address in re.findall(r'(?:src|href)="/console(/static/[^"]+)"', page):
        reply = browser(address)
        assert reply.status == 200
        assert "immutable" in reply.headers["cache-control"]
        assert len(reply.text.splitlines()) <= 200
        plain = browser(address.partition("?")[0])
        assert plain.headers["cache-control"] == "no-cache"
        tag = {"if-none-match": plain.headers["etag"]}
        assert browser(address, headers=tag).status == 304


def test_going_back_from_the_colours_stays_here(browser: Browser) -> None:
    form = {"csrf": browser.csrf, "theme": "dark"}
    for back, where in (
        ("/tables?q=x", "/console/tables?q=x"),
        ("//evil.example/", "/console/"),
        ("https://evil.example/", "/console/"),
        ("/\\evil.example", "/console/"),
        ("http://[", "/console/"),
        ("/a\r\nset-cookie: x", "/console/"),
    ):
        reply = browser("/theme", form | {"back": back})
        assert (reply.status, reply.headers["location"]) == (303, where)


def test_servers_that_share_the_data_are_listed(
    server: Server, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert json.loads(browser("/overview?format=json").text)["servers"] == []
    now = time.time()
    rows = [
        WriterRow("a", now - 100, now, "one", "http://10.0.0.1:8787", "0.1.0"),
        WriterRow("b", now - 9e5, now - 8e5, NASTY, "http://10.0.0.2:8787", "0.1.0"),
    ]
    monkeypatch.setattr(server.service.engine.context.presence, "servers", lambda: rows)
    lives = [each["lives"] for each in json.loads(browser("/overview?format=json").text)["servers"]]
    assert lives == [True, False]
    page = browser("/overview").text
    assert "taken for dead" in page
    assert NASTY not in page


@pytest.mark.parametrize("error", [NotFoundError("gone"), ZeroDivisionError("oh")])
@pytest.mark.parametrize(
    ("status", "query", "accept", "raises"),
    [
        (None, [], "text/html", False),
        (200, [], "text/html", True),  # the answer has begun: no page can follow
        (None, [("format", "json")], "text/html", True),
        (None, [], "application/json", True),
    ],
)
def test_what_goes_wrong_is_a_page_where_a_page_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int | None,
    query: list[tuple[str, str]],
    accept: str,
    raises: bool,
) -> None:
    async def failing(*_: object) -> None:
        raise error

    async def page(_exchange: object, _pages: object, shown: Exception) -> None:
        pages.append(shown)

    pages: list[Exception] = []
    monkeypatch.setattr(console_routes, "signed_in", failing)
    monkeypatch.setattr(console_routes, "_problem", page)
    exchange: Any = SimpleNamespace(
        status=status,
        query=query,
        raw_path="/console/tables",
        header=lambda name, default="": accept if name == "accept" else default,
    )
    refused = pytest.raises(type(error)) if raises else contextlib.nullcontext()
    with refused:
        asyncio.run(console_routes.handle_console(exchange, SimpleNamespace()))  # type: ignore[arg-type]
    assert len(pages) == (not raises)
