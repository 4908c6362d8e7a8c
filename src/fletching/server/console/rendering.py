"""Making a console page: templates, addresses, headers, and values as cells.

Every address that a page holds comes from `Pages.address`, which knows the prefix that a proxy puts
before it. Every reply has the same policy: nothing is loaded from elsewhere, nothing runs inline.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pyarrow as pa

from fletching.protocol.types.json_values import json_values
from fletching.server.http.exchange import Exchange

if TYPE_CHECKING:
    import jinja2

__all__ = ["SECURITY_HEADERS", "Cell", "Pages", "cells_of", "wants_json"]

SECURITY_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}

_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)*", re.ASCII)
CELL_CHARACTERS = 200
"""A longer value is cut on a page; downloads have all of it."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class Cell(NamedTuple):
    """A value for a page: its text, and what it is, which the style sheet shows."""

    text: str
    kind: str


class _Bytes(str):
    __slots__ = ()


def _hexadecimal(data: bytes) -> str:
    shown = CELL_CHARACTERS // 2
    cut = f"… ({len(data):,} bytes)" if len(data) > shown else ""
    return _Bytes(f"x'{data[:shown].hex()}'{cut}")


def cells_of(rows: pa.Table) -> list[list[Cell]]:
    """The rows as cells; null, empty text and bytes are told apart."""
    columns = [json_values(values, _hexadecimal) for values in rows.columns]
    return [[_cell(value) for value in row] for row in zip(*columns, strict=True)]


def _cell(value: Any) -> Cell:
    if value is None:
        return Cell("null", "null")
    if isinstance(value, bool):
        return Cell("true" if value else "false", "")
    if isinstance(value, int | float):
        return Cell(str(value), "number")
    if isinstance(value, list | dict):
        return Cell(_cut(json.dumps(value, ensure_ascii=False)), "nested")
    if isinstance(value, _Bytes):
        return Cell(str(value), "bytes")
    return Cell(_cut(value), "text") if value else Cell("empty text", "empty")


def _cut(text: str) -> str:
    text = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
    return text if len(text) <= CELL_CHARACTERS else text[: CELL_CHARACTERS - 1] + "…"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 1000 or unit == "TB":
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def _moment(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


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
    made.filters["size"] = _size
    made.filters["moment"] = _moment
    return made


def wants_json(exchange: Exchange) -> bool:
    """Whether the page's JSON twin is asked for."""
    return ("format", "json") in exchange.query


class Pages:
    """The pages of one exchange: who looks at them, and from behind which prefix."""

    def __init__(self, exchange: Exchange, *, who: str = "", csrf: str = "") -> None:
        self._exchange = exchange
        self._who, self._csrf = who, csrf
        prefix = exchange.header("x-forwarded-prefix").rstrip("/")
        self._prefix = prefix if _PREFIX.fullmatch(prefix) else ""

    def address(self, path: str = "/") -> str:
        """The address of a page of the console, ``path`` being below ``/console``."""
        return f"{self._prefix}/console{path}"

    async def show(
        self,
        template: str,
        title: str,
        data: dict[str, Any],
        *,
        at: str = "",
        here: str = "",
        problem: str = "",
        status: int = 200,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Answers with a page, or with its data as JSON where ``format=json`` asks for them."""
        fields = SECURITY_HEADERS | (headers or {})
        if wants_json(self._exchange) and not problem:
            plain = {key: value for key, value in data.items() if not callable(value)}
            body = msgspec.json.encode(plain, enc_hook=str)
            await self._exchange.reply(body, status=status, headers=fields)
            return
        text = (
            _templates()
            .get_template(f"{template}.html")
            .render(
                title=title,
                data=data,
                at=at,
                here=self.address(here) if here else "",
                twin=self.address(here) + "?format=json" if here else "",
                problem=problem,
                url=self.address,
                who=self._who,
                csrf=self._csrf,
            )
        )
        await self._exchange.reply(
            text.encode(), status=status, content_type="text/html; charset=utf-8", headers=fields
        )

    async def go(self, path: str, headers: dict[str, str] | None = None) -> None:
        """Sends the browser to another page of the console."""
        fields = SECURITY_HEADERS | {"location": self.address(path)} | (headers or {})
        await self._exchange.reply(b"", status=303, headers=fields)
