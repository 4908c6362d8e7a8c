"""Signing in: a cookie that scripts and other sites do not get, forms that prove where they are from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tests.server.console.conftest import Browser, Pages

from fletching.errors import NoPermissionError
from fletching.server.console.sign_in import check_sent, cookie_for, form_token, no_cookie
from fletching.server.server import Server


def exchange(**headers: str) -> Any:
    result = {"host": "here", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return SimpleNamespace(header=lambda name, default="": result.get(name, default))


def test_cookies() -> None:
    kept = cookie_for("abc", secure=False, path="/console")["set-cookie"]
    for words in ("fletching_console=abc;", "HttpOnly", "SameSite=Strict", "Path=/console;"):
        assert words in kept
    assert "Secure" not in kept
    assert cookie_for("abc", secure=True, path="/")["set-cookie"].endswith("; Secure")
    assert "Max-Age=0" in no_cookie("/")["set-cookie"]


def test_a_form_s_value_is_the_session_s() -> None:
    first, second = exchange(cookie="fletching_console=a"), exchange(cookie="fletching_console=b")
    assert form_token(first) == form_token(exchange(cookie="x=y; fletching_console=a"))
    assert form_token(first) != form_token(second)


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"origin": "http://here"}, True),
        ({"origin": "http://there"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://["}, False),  # no address at all
        ({"origin": "http://out", "x_forwarded_host": "out"}, True),
        ({"sec_fetch_site": "cross-site"}, False),
        ({"sec_fetch_site": "same-site"}, False),
        ({"sec_fetch_site": "none"}, True),
        ({"x_fletching_form": "wrong"}, False),
        ({"cookie": "fletching_console=other"}, False),
    ],
)
def test_what_scripts_send(headers: dict[str, str], allowed: bool) -> None:
    cookie = "fletching_console=token"
    value = form_token(exchange(cookie=cookie))
    sent = exchange(**{"cookie": cookie, "x_fletching_form": value, **headers})
    if allowed:
        check_sent(sent)
    else:
        with pytest.raises(NoPermissionError):
            check_sent(sent)


def test_in_and_out(console_server: Server, pages: Pages) -> None:
    stranger = Browser(console_server)
    assert stranger("/tables").status == 303
    access_id, secret = console_server.access_key
    assert stranger.sign_in(access_id, secret + "x").status == 401
    assert stranger.sign_in("", "").status == 401
    assert stranger("/tables").status == 303
    stranger.cookie = pages.cookie + "x"
    assert stranger("/tables").status == 303
    assert pages("/tables").status == 200


def test_whoever_is_not_signed_in_has_failed_at_nothing(console_server: Server) -> None:
    stranger = Browser(console_server)
    for _ in range(25):
        assert stranger("/tables").status == 303
    stranger.cookie = "fletching_session="
    assert stranger("/tables").status == 303


def test_a_token_in_a_header_reads_what_programs_read_and_no_more(
    console_server: Server, pages: Pages
) -> None:
    """A page that a browser shows, and what changes something, need the cookie of who signed in."""
    token = pages.cookie.partition("=")[2].partition(".")[0]
    program = Browser(console_server)
    header = {"authorization": f"Bearer {token}"}
    assert program("/tables?format=json", headers=header).status == 200
    assert program("/tables", headers=header).status == 303
    sent = program("/keys?format=json", {"action": "create", "access_id": "eve"}, headers=header)
    assert sent.status in {303, 401, 403}
    assert "eve" not in pages("/keys").text
