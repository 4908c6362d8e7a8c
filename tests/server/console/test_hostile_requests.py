"""What somebody sends who is no browser: planted sessions, forged prefixes, names and cells that are too much."""

from __future__ import annotations

import email.message
import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import pyarrow as pa
import pytest
from tests.server.console.conftest import NASTY, Browser, Reply
from tests.server.console.test_console_routes import Checked

import fletching
from fletching.errors import InvalidArgumentError
from fletching.server.server import Server

DEPTH = 28
HUGE = 3_000_000


def nested(depth: int) -> tuple[pa.DataType, Any]:
    kind: pa.DataType = pa.int64()
    value: Any = 7
    for level in range(depth):
        if level % 2:
            kind, value = pa.list_(kind), [value]
        else:
            kind, value = pa.struct([("f", kind)]), {"f": value}
    return kind, value


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("hostile") / "data"
    with fletching.serve(folder, port=0, access_log=False) as running:
        access_id, secret = running.access_key
        with fletching.connect(running.url, access_id=access_id, access_key=secret) as client:
            kind, value = nested(DEPTH)
            deep = client.create_table("deep", pa.schema([("v", kind)]))
            deep.append(pa.table({"v": pa.array([value, None], kind)}))
            rows = {"text": ["x" * HUGE, NASTY * 100], "data": [b"\xff" * HUGE, b""]}
            client.create_table("huge", pa.table(rows)).set_properties({"note": NASTY})
            wide = {f"column{number}": [number] for number in range(1000)}
            client.create_table("wide", pa.table(wide))
            odd = client.create_table("odd", {"id": [1], "pt": ["a"]}, partition_by=["pt"])
            odd.append({"id": [2], "pt": [NASTY[:25]]})
            odd.create_tag("one", version=1)
            pictures = client.create_table("pictures", "id BIGINT, content BLOB")
            name = "a\"; filename=b.exe; x='<script>\u202e\u00e9.html"
            blob = fletching.Blob(b"<script>1</script>", content_type="text/html", file_name=name)
            pictures.append({"id": [1], "content": [blob]})
            broken = fletching.Blob(b"", file_name="a\r\nset-cookie: owned=1")
            with pytest.raises(InvalidArgumentError, match="control characters"):
                pictures.append({"id": [2], "content": [broken]})
        yield running


@pytest.fixture
def browser(server: Server) -> Browser:
    result = Browser(server)
    assert result.sign_in(*server.access_key).status == 303
    return result


def raw(server: Server, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
    """A request whose path is sent as it is."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=600)
    try:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body or None, sent)
        return Reply(connection.getresponse())
    finally:
        connection.close()


def test_a_planted_cookie_is_nobodys_and_does_not_stay(server: Server) -> None:
    victim = Browser(server)
    planted = victim.cookie = "fletching_console=" + "A" * 80
    assert victim("/tables").status == 303
    assert victim.sign_in(*server.access_key).status == 303
    assert victim.cookie != planted  # what the attacker knows is worth nothing
    stranger = Browser(server)
    stranger.cookie = planted
    assert stranger("/tables").status == 303
    # A session of another key does not become this one's either, and forms know whose they are.
    other = server.service.engine.access_keys.create()
    access = server.service.engine.access_keys.tokens
    import time

    stranger.cookie = "fletching_console=" + access.sign(
        other.access_id, other.secret, time.time() + 60
    )
    form = {"csrf": stranger.csrf, "text": "select 1"} if stranger("/query").status == 200 else {}
    assert victim("/query", form).status == 403


@pytest.mark.parametrize(
    "prefix",
    [
        "//evil.example",
        "/a//evil.example",
        "/..",
        "/a/../..",
        "/./b",
        "https://evil.example",
        "javascript:alert(1)",
        "/a?x=",
        "/a#b",
        '/a"onload=x',
        "/a%2f%2fevil.example",
        "/\\evil.example",
        "/" + "a" * 300,
    ],
)
def test_a_prefix_that_is_none_is_ignored(browser: Browser, prefix: str) -> None:
    reply = browser("/tables", headers={"x-forwarded-prefix": prefix})
    assert "evil" not in reply.text
    assert 'href="/console/tables' in reply.text
    went = browser("", headers={"x-forwarded-prefix": prefix})
    assert went.headers["location"] == "/console/tables"


@pytest.mark.parametrize(
    "path",
    [
        "/console/../fletching/v1/projects",
        "/console/%2e%2e/metrics",
        "/console/tables/%2e%2e/%2e%2e/%2e%2e",
        "/console/tables/demo/default/odd%2f..%2fhuge",
        "/console/static/%2e%2e/sign_in.py",
        "/console/static/..%2f..%2fserver.py",
        "/consoletables",
        "//console/tables",
        "/console//tables",
        "/console/tables/demo/default/odd/segments/-1",
        "/console/tables/demo/default/odd/segments/%00",
    ],
)
def test_a_path_that_is_none_is_answered_as_none(
    server: Server, browser: Browser, path: str
) -> None:
    for cookie in ("", browser.cookie):
        reply = raw(server, "GET", path, cookie=cookie)
        assert reply.status in {301, 303, 400, 401, 403, 404}, reply.text[:300]
        assert "import" not in reply.text
        assert "location" not in reply.headers or reply.headers["location"].startswith("/console")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_do_nothing(server: Server, browser: Browser, method: str) -> None:
    for path in (
        "/console/tables",
        "/console/keys",
        "/console/sign-in",
        "/console/static/console.css",
    ):
        reply = raw(server, method, path, cookie=browser.cookie)
        assert reply.status in {400, 404, 405, 501}, (method, path)
        assert "access-control-allow-origin" not in reply.headers


def test_forms_are_small_and_have_few_fields(server: Server, browser: Browser) -> None:
    kind = "application/x-www-form-urlencoded"
    token = browser.csrf
    for body, statuses in (
        (b"csrf=" + token.encode() + b"&text=" + b"x" * (2 << 20), {413}),
        (b"&".join(b"a%d=1" % number for number in range(10_000)), {400}),
        (b"csrf=" + token.encode() + b"&text=%ff%fe", {400}),
        (b"\xff\xfe\x00", {400}),
        (b"", {403}),
    ):
        reply = raw(
            server, "POST", "/console/query", body, cookie=browser.cookie, content_type=kind
        )
        assert reply.status in statuses, (body[:40], reply.status)
    lots = {"cookie": browser.cookie, "content-type": kind, "content-length": str(1 << 40)}
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=600)
    connection.putrequest("POST", "/console/query")
    for name, value in lots.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert Reply(connection.getresponse()).status == 413  # before a byte of it came
    connection.close()


@pytest.mark.parametrize("name", ["deep", "huge", "wide", "odd", "pictures"])
@pytest.mark.parametrize(
    "page", ["", "/row", "/columns", "/partitions", "/history?from=0&to=1", "/segments"]
)
def test_pages_of_too_much_are_small_and_safe(browser: Browser, name: str, page: str) -> None:
    path = f"/tables/demo/default/{name}{page}"
    reply = browser(path)
    assert reply.status == 200, reply.text[-600:]
    # One row in full is what its page is for; all others stay small.
    assert len(reply.text) < (700_000 if page == "/row" else 100_000)
    assert Checked(reply.text).problems == []
    assert NASTY not in reply.text
    twin = browser(path + ("&" if "?" in path else "?") + "format=json")
    assert twin.status == 200
    assert len(twin.text) < 1_000_000
    json.loads(twin.text)


def test_names_become_no_headers(server: Server, browser: Browser) -> None:
    rows = json.loads(browser("/tables/demo/default/pictures?format=json").text)
    link = next(cell["link"] for row in rows["cells"] for cell in row if "link" in cell)
    reply = raw(server, "GET", link)
    assert reply.status == 200
    assert "set-cookie" not in reply.headers
    # What was stored as a page is shown in a place of its own, where nothing runs.
    assert "sandbox" in reply.headers["content-security-policy"]
    header = email.message.Message()
    header["content-disposition"] = reply.headers["content-disposition"]
    assert {name for name, _ in header.get_params([], "content-disposition")} <= {
        *("inline", "attachment", "filename", "filename*")
    }
    for path in (
        f"/tables/demo/default/{quote('odd' + chr(13) + chr(10) + 'x: y', safe='')}/rows?format=csv",
        "/tables/demo/default/odd/rows?format=csv%0d%0ax:y",
        "/requests?id=%0d%0aset-cookie:%20a=b",
        "/query?text=%0d%0a%0d%0a<script>",
    ):
        result = browser(path)
        assert result.status in {200, 400, 404}
        assert not {"x", "set-cookie"} & set(result.headers)


def test_what_people_write_stays_text_wherever_it_is_shown(browser: Browser) -> None:
    form = {"csrf": browser.csrf}
    made = browser("/keys", form | {"action": "create", "access_id": "eve", "comment": NASTY})
    assert made.status == 200
    grant = {"grantee": "eve", "project": "*", "table": "*", "permission": "read"}
    assert browser("/keys", form | grant | {"action": "grant"}).status == 303
    for query in ("", f"?confirm={quote(NASTY)}&key={quote(NASTY)}"):
        page = browser(f"/keys{query}")
        assert page.status == 200
        assert NASTY not in page.text
        assert Checked(page.text).problems == []
    browser("/query", form | {"text": f"select '{NASTY.replace(chr(39), '')}'"})
    for path in (
        "/query",
        f"/query?text={quote(NASTY)}",
        f"/tables?q={quote(NASTY)}&project={quote(NASTY)}",
        f"/settings?q={quote(NASTY)}",
        f"/requests?who={quote(NASTY)}",
        f"/upload?table={quote(NASTY)}&schema={quote(NASTY)}&project={quote(NASTY)}",
        f"/tables/demo/default/odd?filter={quote(NASTY)}",
        f"/tables/demo/default/odd/history?confirm=untag&name={quote(NASTY)}",
        f"/tables/demo/default/odd/partitions?under={quote(NASTY)}",
        f"/tables/demo/default/odd/columns?column={quote(NASTY)}",
    ):
        page = browser(path)
        assert page.status < 500, path
        assert NASTY not in page.text, path
        assert "<script>alert" not in page.text, path
        assert Checked(page.text).problems == [], path


def test_more_columns_than_a_page_holds_are_paged(browser: Browser) -> None:
    path = "/tables/demo/default/wide"
    seen: list[str] = []
    at: int | None = 0
    while at is not None:
        result = json.loads(browser(f"{path}?format=json&column={at}&sort=column999").text)
        assert [cell["text"] for cell in result["cells"][0]] == [
            name.removeprefix("column") for name in result["names"]
        ]
        seen += result["names"]
        at = result["next_column"]
    assert seen == [f"column{number}" for number in range(1000)]
    page = browser(f"{path}?column=900&offset=0").text
    assert "columns 900 to 999 of 1,000" in page
    assert "Columns before" in page
    assert "More columns" not in page
    assert browser(f"{path}?column=1000").status == 200  # there are none: the first ones


def test_comments_do_not_act_on_a_page(server: Server, browser: Browser) -> None:
    access_id, secret = server.access_key
    with fletching.connect(server.url, access_id=access_id, access_key=secret) as client:
        client.create_table("remarked", "id BIGINT", comment="<b>\u202e\x1b]0;x\x07remark")
    text = browser("/tables/demo/default/remarked").text
    assert "&lt;b&gt;" in text
    assert "remark</p>" in text
    assert not {"\u202e", "\x1b", "\x07"} & set(text)
