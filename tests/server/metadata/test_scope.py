"""What a metadata request's path and query say."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fletching.errors import InvalidArgumentError, InvalidParameterError
from fletching.server.metadata.scope import MAX_PAGE, Scope, namespace_of
from fletching.types import TableName


def scope(*query: tuple[str, str], name: str = "t") -> Scope:
    exchange: Any = SimpleNamespace(query=list(query))
    service: Any = SimpleNamespace(settings=SimpleNamespace(schemas_enabled=False))
    return Scope(exchange, service, "demo", name)


@pytest.mark.parametrize(
    ("query", "schema"),
    [
        ([], "default"),
        ([("curr_schema", "")], "default"),
        ([("curr_schema", "a")], "a"),
        ([("schema_name", "b")], "b"),
        ([("curr_schema", "a"), ("schema_name", "b")], "a"),
    ],
)
def test_the_schema(query: list[tuple[str, str]], schema: str) -> None:
    scoped = scope(*query)
    assert scoped.schema == schema
    assert scoped.table == TableName("demo", "t", schema)


@pytest.mark.parametrize(
    ("text", "items"),
    [(None, MAX_PAGE), ("", MAX_PAGE), ("1", 1), ("1000", 1000), ("1001", 1000), ("9" * 18, 1000)],
)
def test_how_many_items_a_page_has(text: str | None, items: int) -> None:
    assert scope(*([] if text is None else [("maxitems", text)])).max_items == items


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "²", "1_0", " 1", "x", "9" * 400])
def test_what_is_no_count(text: str) -> None:
    with pytest.raises(InvalidParameterError, match="maxitems"):
        _ = scope(("maxitems", text)).max_items


def test_a_partition() -> None:
    assert dict(scope().partition("pt='x',n='1'")) == {"pt": "x", "n": "1"}
    with pytest.raises(InvalidArgumentError):
        scope().partition("pt")


def test_names_of_statements_belong_where_the_settings_say() -> None:
    three = namespace_of(scope(), {"odps.namespace.schema": "TRUE"})
    two = namespace_of(scope(), {"odps.namespace.schema": "no"})
    assert three != two
    assert namespace_of(scope(), {}) == two
