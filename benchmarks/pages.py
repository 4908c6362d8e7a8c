"""Pages of the console over a large table: what somebody waits for who looks at rows.

Beside them the same hundred rows over plain HTTP: what is left is what a page costs by being one.
"""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

import numpy as np
import pyarrow as pa

import fletching
from benchmarks.processes import server
from benchmarks.rounds import Contender, Outcome, Result, compare

__all__ = ["pages"]

_TABLE = "/console/tables/demo/default/t"
_PAGE_ROWS = 100


def pages(folder: Path, rows: int, rounds: int) -> list[Result]:
    """Pages of a table of ``rows`` rows, a tenth of them deleted, from its beginning to its end.

    Args:
        folder: where the table is stored.
        rows: how many; about 40 bytes each.
        rounds: measured rounds per contender.
    """
    with fletching.connect(folder, create=True) as client:
        table = client.create_table("t", _rows(0, 1).schema)
        for part in range(4):
            table.append(_rows(part * rows // 4, (part + 1) * rows // 4))
        table.delete("id % 10 = 3")
    left = rows - len(range(3, rows, 10))
    with server("fletching", folder=str(folder)) as ours, contextlib.ExitStack() as stack:
        netloc = urlsplit(ours.ready["url"]).netloc
        connection = http.client.HTTPConnection(netloc, timeout=600)
        stack.callback(connection.close)
        ask, token = _signed_in(connection, netloc)
        found = {
            "first page": "",
            "middle page": f"?offset={left // 2}",
            "last page": f"?offset={left - _PAGE_ROWS}",
            "one row by a filter": f"?filter={quote(f'id = {rows - 1}')}",
            "columns with their spread": "/columns",
        }
        contenders = [
            Contender(name, _page(ask, f"{_TABLE}{path}"), ours.pid) for name, path in found.items()
        ]
        query = urlencode({"format": "jsonl", "limit": _PAGE_ROWS, "offset": left // 2})
        plain = f"/fletching/v1/tables/demo/default/t/rows?{query}"
        headers = {"authorization": f"Bearer {token}"}
        contenders.append(
            Contender("the middle rows, plain HTTP", _page(ask, plain, headers), ours.pid)
        )
        return compare("pages", f"{rows:,} rows", contenders, rounds)


def _rows(start: int, end: int) -> pa.Table:
    rng = np.random.default_rng(start)
    ids = np.arange(start, end)
    return pa.table(
        {
            "id": ids,
            "amount": rng.gamma(2.0, 30.0, len(ids)).round(2),
            "status": pa.array(["new", "paid", "sent", "back"]).take(pa.array(ids % 4)),
            "at": pa.array(ids * 1_000_000, pa.timestamp("us")),
        }
    )


Ask = Callable[..., bytes]


def _signed_in(connection: http.client.HTTPConnection, netloc: str) -> tuple[Ask, str]:
    """What asks for a page over one connection, as a browser would, and a token for plain HTTP."""
    form = {"access_id": "bench", "secret": "bench-secret"}
    kind = {"content-type": "application/x-www-form-urlencoded", "origin": f"http://{netloc}"}
    connection.request("POST", "/console/sign-in", urlencode(form), kind)
    reply = connection.getresponse()
    reply.read()
    cookie = reply.headers["set-cookie"].partition(";")[0]

    def ask(path: str, headers: dict[str, str] | None = None) -> bytes:
        connection.request("GET", path, headers=headers or {"cookie": cookie})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status}")
        return body

    return ask, cookie.partition("=")[2].partition(".")[0]


def _page(ask: Ask, path: str, headers: dict[str, str] | None = None) -> Callable[[float], Outcome]:
    def run(_started: float) -> Outcome:
        return Outcome(len(ask(path, headers)), _PAGE_ROWS)

    return run
