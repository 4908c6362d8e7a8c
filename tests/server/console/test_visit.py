"""One request of somebody who is signed in: what it names, asks for and may do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fletching.errors import InvalidArgumentError, NoPermissionError
from fletching.server.console.rendering import Pages
from fletching.server.console.visit import Visit, table_path
from fletching.types import TableName


def visit(
    query: Any = (), *, certificate: str | None = None, operates: bool = False, **headers: str
) -> Visit:
    result = {
        "host": "here:1",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    exchange: Any = SimpleNamespace(
        query=list(query), method="GET", header=lambda name: result.get(name, ""), target="/console"
    )
    service: Any = SimpleNamespace(
        settings=SimpleNamespace(project="mine", tls_certificate=certificate),
        may_operate=lambda _: operates,
    )
    names = {"project": "p", "schema": "s", "table": "t"}
    return Visit(exchange, service, Pages(exchange), names)


def test_names() -> None:
    assert visit().table == TableName("p", "t", "s")
    assert (
        table_path(TableName("p/1", "ä b", "s?"), "/rows") == "/tables/p%2F1/s%3F/%C3%A4%20b/rows"
    )
    assert visit().project == "mine"
    assert visit([("project", "a"), ("project", "b")]).project == "b"


@pytest.mark.parametrize(
    ("text", "number"), [("", None), ("0", 0), ("017", 17), ("9" * 18, int("9" * 18))]
)
def test_numbers(text: str, number: int | None) -> None:
    assert visit([("n", text)]).number("n") == number
    assert visit().number("n") is None


@pytest.mark.parametrize("text", ["-1", "x", "1.5", "²", "٣", "9" * 19, " 1"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="n is a whole number"):
        visit([("n", text)]).number("n")


def test_where_the_service_is() -> None:
    assert visit().origin == "http://here:1"
    assert visit(certificate="x.pem").origin == "https://here:1"
    proxied = visit(x_forwarded_proto="https", x_forwarded_host="out", x_forwarded_prefix="/d")
    assert proxied.origin == "https://out/d"


def test_operators() -> None:
    visit(operates=True).must_operate()
    with pytest.raises(NoPermissionError):
        visit().must_operate()
    assert not visit().posted
