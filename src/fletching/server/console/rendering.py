"""Making a console page: templates, addresses, headers.

Every address that a page holds comes from `Pages.address`, which knows the prefix that a proxy puts
before it. Every reply has the same policy: nothing is loaded from elsewhere, nothing runs inline, and
only scripts that the page itself names by its nonce run at all: nothing that was uploaded is one.
"""

from __future__ import annotations

import datetime as dt
import functools
import re
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import msgspec

from fletching.human_figures import human_bytes, human_count
from fletching.server.console.page_cells import clean
from fletching.server.console.static_files import static_address
from fletching.server.http.exchange import Exchange

if TYPE_CHECKING:
    import jinja2

__all__ = ["Pages", "security_headers", "wants_json"]

_DIRECTIVES = {
    "default-src": "'none'",
    "script-src": "'none'",
    "style-src": "'self'",
    "img-src": "'self'",
    "media-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}

_PREFIX = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)*", re.ASCII)
_PREFIX_CHARACTERS = 200
"""Every link of a page begins with the prefix: a longer one is nobody's."""

THEMES = ("system", "light", "dark")
THEME_COOKIE = "fletching_theme"


def security_headers(nonce: str = "", *, styles: bool = False) -> dict[str, str]:
    """What every reply of the console says to browsers.

    Args:
        nonce: of the scripts that may run; none may without one.
        styles: whether the nonce is that of a style sheet inside the page instead.
    """
    directives = dict(_DIRECTIVES)
    if nonce:
        directives["style-src" if styles else "script-src"] = f"'nonce-{nonce}'"
    return {
        "content-security-policy": "; ".join(" ".join(item) for item in directives.items()),
        "x-content-type-options": "nosniff",
        "referrer-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "cache-control": "no-store",
    }


def _moment(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _span(seconds: float) -> str:
    """A duration for people: the two largest units."""
    seconds = max(0, int(seconds))
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= size and len(parts) < 2:
            parts.append(f"{seconds // size} {unit}")
            seconds %= size
    return " ".join(parts) or "0 s"


@functools.cache
def _templates() -> jinja2.Environment:
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.PackageLoader("fletching.server.console"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        clean=clean, size=human_bytes, moment=_moment, count=human_count, span=_span
    )
    return made


def wants_json(exchange: Exchange) -> bool:
    """Whether the page's JSON twin is asked for."""
    return ("format", "json") in exchange.query


class Pages:
    """The pages of one exchange: who looks at them, and from behind which prefix.

    Attributes:
        prefix: what a proxy puts before every path; empty without one.
    """

    def __init__(
        self, exchange: Exchange, *, who: str = "", csrf: str = "", operates: bool = False
    ) -> None:
        self._exchange = exchange
        self._who, self._csrf, self._operates = who, csrf, operates
        prefix = exchange.header("x-forwarded-prefix").rstrip("/")
        good = len(prefix) <= _PREFIX_CHARACTERS and _PREFIX.fullmatch(prefix)
        self.prefix = prefix if good else ""

    def address(self, path: str = "/", query: Mapping[str, object] | None = None) -> str:
        """The address of a page of the console, ``path`` being below ``/console``.

        Values of ``query`` that are None or empty are left out.
        """
        kept = {key: value for key, value in (query or {}).items() if value not in (None, "")}
        return f"{self.prefix}/console{path}" + (f"?{urlencode(kept)}" if kept else "")

    async def show(
        self,
        template: str,
        title: str,
        data: Mapping[str, object],
        *,
        at: str = "",
        here: str = "",
        problem: str = "",
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        **extra: object,
    ) -> None:
        """Answers with a page, or with its data as JSON where ``format=json`` asks for them.

        Args:
            template: its name.
            title: of the page.
            data: what the page shows; plain values, which are also its JSON twin.
            at: which entry of the navigation it belongs to.
            here: its path below ``/console``.
            problem: a sentence about what went wrong.
            status: of the reply.
            headers: more headers.
            extra: what the template needs beside data, such as pictures.
        """
        nonce = secrets.token_urlsafe(16)
        fields = security_headers(nonce) | dict(headers or {})
        if wants_json(self._exchange):
            result = {"problem": problem, **data} if problem else data
            body = msgspec.json.encode(result, enc_hook=str)
            await self._exchange.reply(body, status=status, headers=fields)
            return
        query = dict(self._exchange.query)
        text = (
            _templates()
            .get_template(f"{template}.html")
            .render(
                title=title,
                data=data,
                at=at,
                here=self.address(here) if here else "",
                twin=self.address(here, query | {"format": "json"}) if here else "",
                problem=problem,
                url=self.address,
                static=lambda name: self.address(static_address(name)),
                prefix=self.prefix,
                who=self._who,
                operates=self._operates,
                csrf=self._csrf,
                nonce=nonce,
                theme=self._theme(),
                themes=THEMES,
                back=self._exchange.target.removeprefix("/console"),
                **extra,
            )
        )
        await self._exchange.reply(
            # What came off the wire may hold what is no character.
            text.encode("utf-8", "replace"),
            status=status,
            content_type="text/html; charset=utf-8",
            headers=fields,
        )

    async def json(self, data: object, *, status: int = 200) -> None:
        """Answers a script of ours with data."""
        body = msgspec.json.encode(data, enc_hook=str)
        await self._exchange.reply(body, status=status, headers=security_headers())

    def _theme(self) -> str:
        result = re.search(rf"(?:^|;\s*){THEME_COOKIE}=(\w+)", self._exchange.header("cookie"))
        return result[1] if result is not None and result[1] in THEMES else "system"

    async def go(
        self,
        path: str,
        query: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Sends the browser to another page of the console."""
        fields = security_headers() | {"location": self.address(path, query)} | dict(headers or {})
        await self._exchange.reply(b"", status=303, headers=fields)
