"""Pages: sizes and spans for people, addresses behind a proxy, and a policy that lets nothing else run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tests.server.console.conftest import Pages as Browsing

from fletching.server.console.rendering import Pages, _span, security_headers, wants_json


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (0.9, "0 s"), (59, "59 s"), (60, "1 min"), (3661, "1 h 1 min"), (90_061, "1 d 1 h"), (86_405, "1 d 5 s")],
)  # fmt: skip
def test_spans(seconds: float, text: str) -> None:
    assert _span(seconds) == text


def exchange(prefix: str = "", query: Any = ()) -> Any:
    return SimpleNamespace(
        header=lambda name: prefix if name == "x-forwarded-prefix" else "", query=list(query)
    )


@pytest.mark.parametrize(
    ("prefix", "kept"),
    [
        ("", ""), ("/data", "/data"), ("/data/", "/data"), ("/a/b-c_d.e~f", "/a/b-c_d.e~f"),
        ("data", ""), ("//evil.example", ""), ("/a/../b", ""), ("/./a", ""), ('/a"b', ""),
        ("/a b", ""), ("/" + "a" * 300, ""), ("/ä", ""),
    ],
)  # fmt: skip
def test_prefixes_of_proxies(prefix: str, kept: str) -> None:
    pages = Pages(exchange(prefix))
    assert pages.prefix == kept
    assert pages.address("/x") == f"{kept}/console/x"


def test_addresses_leave_out_what_is_not_said() -> None:
    pages = Pages(exchange())
    assert (
        pages.address("/t", {"a": "x y&", "b": None, "c": "", "d": 0}) == "/console/t?a=x+y%26&d=0"
    )
    assert pages.address() == "/console/"


@pytest.mark.parametrize(
    ("options", "script", "style"),
    [
        ({}, "'none'", "'self'"),
        ({"nonce": "abc"}, "'nonce-abc'", "'self'"),
        ({"nonce": "abc", "styles": True}, "'none'", "'nonce-abc'"),
    ],
)
def test_the_policy(options: dict[str, Any], script: str, style: str) -> None:
    headers = security_headers(**options)
    policy = dict(each.split(" ", 1) for each in headers["content-security-policy"].split("; "))
    assert policy["script-src"] == script
    assert policy["style-src"] == style
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


def test_each_page_has_a_nonce_of_its_own(pages: Browsing) -> None:
    result = {pages("/tables").headers["content-security-policy"] for _ in range(3)}
    assert len(result) == 3


@pytest.mark.parametrize(
    ("query", "wants"), [([("format", "json")], True), ([("format", "csv")], False), ([], False)]
)
def test_json_is_asked_for(query: list[tuple[str, str]], wants: bool) -> None:
    assert wants_json(exchange(query=query)) is wants
