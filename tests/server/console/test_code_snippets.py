"""Code that does what a page shows: it parses, and no name of a table gets out of its quotes."""

from __future__ import annotations

import ast
import shlex
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from fletching.server.console import code_snippets as code
from fletching.sql.parsing.dialect import parse_one
from fletching.types import TableName

NASTY = TableName("pro'j\"ect", "ta`b'l\"e; rm -rf $HOME\n", "sche`ma")
PLAIN = TableName("demo", "orders")


def visit(**asked: str) -> Any:
    return SimpleNamespace(
        origin="http://here:1", asked=asked, project="demo", service=None, pages=None
    )


def every(table: TableName) -> list[Any]:
    seen = visit(id="1")
    return [
        *code.tables_code(seen, table.project, "pre'fix"),
        *code.rows_code(
            seen, table, predicate="a = 'x\"'", limit=5, offset=3, order="co`l", descending=True
        ),
        *code.rows_code(seen, table, version=7),
        *code.partitions_code(seen, table),
        *code.history_code(seen, table, 1, 2),
        *code.history_code(seen, table, None, None),
        *code.query_code(seen, table.project, "select 'it''s'"),
        *code.segments_code([f"tables/{table.name}"]),
        *code.upload_code(seen, table, "default"),
        *code.upload_code(seen, None, "default"),
        *code.twin_code(seen, "/keys", "fletching keys list"),
    ]


@pytest.mark.parametrize("table", [PLAIN, NASTY], ids=["plain", "nasty"])
def test_it_parses_in_its_language(table: TableName) -> None:
    kinds = set()
    for name, text in every(table):
        kinds.add(name)
        if name in {"Python", "PyODPS"}:
            ast.parse(text)
        elif name in {"curl", "Shell"}:
            words = shlex.split(text)
            assert words[0] in {"curl", "fletching"}
            assert "rm" not in words
        else:
            assert name == "SQL"
    assert kinds == {"Python", "PyODPS", "SQL", "curl", "Shell"}


def test_sql_means_the_table() -> None:
    (text,) = [
        t
        for name, t in code.rows_code(visit(), PLAIN, predicate="id < 3", limit=5)
        if name == "SQL"
    ]
    assert text == "SELECT * FROM `orders`\nWHERE id < 3\nLIMIT 5"
    parse_one(text)
    versioned = code.rows_code(visit(), PLAIN, version=3)
    assert "SQL" not in {name for name, _ in versioned}


def test_addresses_carry_what_was_chosen() -> None:
    (text,) = [
        t for name, t in code.rows_code(visit(), NASTY, predicate="a&b", version=2, offset=9, limit=4)
        if name == "curl"
    ]  # fmt: skip
    url = urlsplit(shlex.split(text)[-1])
    assert parse_qs(url.query) == {
        "format": ["csv"], "filter": ["a&b"], "version": ["2"], "offset": ["9"], "limit": ["4"],
    }  # fmt: skip
    assert url.path.count("/") == 7


def test_no_segments_no_code() -> None:
    assert code.segments_code([]) == []
