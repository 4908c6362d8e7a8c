"""Signing in to the console: a cookie that is a bearer token, and forms that prove where they are from.

The secret is compared once and not kept. The cookie holds a token that stands for the key for
`SESSION_SECONDS`, and a seal by the key's secret: a session ends when the key is revoked, and when it gets
a new secret. Scripts cannot read the cookie, other sites cannot send it. A form carries a value derived
from it, so that a page of another site cannot post in its name.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl

from fletching.errors import InvalidArgumentError, NoPermissionError, UnauthorizedError
from fletching.server.auth.principal import Principal
from fletching.server.http.exchange import Exchange
from fletching.server.service import Service

__all__ = [
    "check_form",
    "check_sent",
    "cookie_for",
    "form_token",
    "no_cookie",
    "signed_in",
    "signing_in",
]

COOKIE = "fletching_console"
SESSION_SECONDS = 8 * 3600
MAX_FORM_BYTES = 1 << 20
FORM_HEADER = "x-fletching-form"


def _token(exchange: Exchange) -> str:
    try:
        cookies = SimpleCookie(exchange.header("cookie"))
    except CookieError:
        return ""
    return cookies[COOKIE].value if COOKIE in cookies else ""


def _bearer(exchange: Exchange) -> str:
    """The token that a program reads a page's JSON twin with; for what changes something there is none."""
    scheme, _, token = exchange.header("authorization").partition(" ")
    reads = exchange.verb == "GET" and ("format", "json") in exchange.query
    return token.strip() if reads and scheme.casefold() == "bearer" else ""


async def signed_in(exchange: Exchange, service: Service) -> Principal | None:
    """Whose page it is; None if nobody is signed in, or no longer."""
    token, _, seal = _token(exchange).partition(".")
    by_cookie = bool(token)
    if not by_cookie:
        token = _bearer(exchange)
    if not token:
        return None
    try:
        principal = await service.identify_token(exchange, token)
    except UnauthorizedError:
        return None
    if by_cookie and (
        principal.key is None
        or not hmac.compare_digest(seal.encode(), _seal(principal.key.secret, token).encode())
    ):
        return None
    # A token for one instance or one session opens no pages.
    return None if principal.limited else principal


async def signing_in(exchange: Exchange, service: Service, form: dict[str, str]) -> str | None:
    """The session of whoever gave a right id and secret; None if they are wrong.

    Raises:
        ThrottledError: too many wrong ones came from this address.
    """
    access_id, secret = form.get("access_id", "").strip(), form.get("secret", "").strip()
    if not access_id or not secret:
        return None
    try:
        await service.check_secret(exchange, access_id, secret)
    except UnauthorizedError:
        return None
    expires_at = time.time() + SESSION_SECONDS
    token = service.engine.access_keys.tokens.sign(access_id, secret, expires_at)
    return f"{token}.{_seal(secret, token)}"


def _seal(secret: str, token: str) -> str:
    """What only whoever knows the key's secret of now can put to a token."""
    return hmac.digest(secret.encode(), b"fletching console " + token.encode(), "sha256").hex()


def cookie_for(token: str, *, secure: bool, path: str) -> dict[str, str]:
    """The header that keeps a session."""
    flags = "; Secure" if secure else ""
    return {
        "set-cookie": f"{COOKIE}={token}; Path={path}; Max-Age={SESSION_SECONDS}; "
        f"HttpOnly; SameSite=Strict{flags}"
    }


def no_cookie(path: str) -> dict[str, str]:
    """The header that ends a session."""
    return {"set-cookie": f"{COOKIE}=; Path={path}; Max-Age=0; HttpOnly; SameSite=Strict"}


def form_token(exchange: Exchange) -> str:
    """What the forms of a session carry."""
    return hmac.digest(_token(exchange).encode(), b"fletching console form", "sha256").hex()


async def check_form(exchange: Exchange, *, session: bool = True) -> dict[str, str]:
    """The fields of a posted form.

    Args:
        exchange: the request.
        session: whether the form must carry the session's value.

    Raises:
        InvalidArgumentError: it is no form.
        NoPermissionError: it comes from another site, or without the value.
    """
    _check_origin(exchange)
    if exchange.header("content-type").partition(";")[0].strip() != (
        "application/x-www-form-urlencoded"
    ):
        raise InvalidArgumentError("a form is application/x-www-form-urlencoded")
    body = await exchange.read_body(MAX_FORM_BYTES)
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=20)
    except (UnicodeDecodeError, ValueError) as exc:
        raise InvalidArgumentError("the form cannot be read") from exc
    form = dict(pairs)
    if session:
        _check_token(exchange, form.get("csrf", ""))
    return form


def check_sent(exchange: Exchange) -> None:
    """Lets a request through that a page's script made: its header carries the session's value.

    Other sites' pages cannot set that header without asking, and are not allowed to.

    Raises:
        NoPermissionError: it comes from another site, or without the value.
    """
    _check_origin(exchange)
    _check_token(exchange, exchange.header(FORM_HEADER))


def _check_origin(exchange: Exchange) -> None:
    origin = exchange.header("origin")
    host = origin.partition("://")[2]
    known = {exchange.header("host"), exchange.header("x-forwarded-host")} - {""}
    if origin and host not in known:
        raise NoPermissionError("the form comes from another site")
    if exchange.header("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise NoPermissionError("the form comes from another site")


def _check_token(exchange: Exchange, given: str) -> None:
    if not hmac.compare_digest(
        hashlib.sha256(given.encode()).digest(),
        hashlib.sha256(form_token(exchange).encode()).digest(),
    ):
        raise NoPermissionError("the form is of another session: load the page again")
