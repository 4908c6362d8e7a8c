"""Whole statements against an independent peer: DuckDB over the same rows in memory."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from tests.engine.query.order_data import QUESTIONS, order_tables
from tests.engine.query.random_queries import QueryWriter, shared_rows

import fletching


def plain(value: Any) -> Any:
    """A value as it is compared: DuckDB's own sums of whole numbers are wider than BIGINT."""
    number = isinstance(value, int | Decimal) and not isinstance(value, bool)
    return float(value) if number else value


def alike(left: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return all(
        math.isclose(a, b, rel_tol=1e-9)
        if isinstance(a, float) and isinstance(b, float)
        else a == b
        for a, b in zip(left, other, strict=True)
    )


def rows_of(table: pa.Table) -> list[tuple[Any, ...]]:
    return [
        tuple(map(plain, row))
        for row in zip(*(column.to_pylist() for column in table.columns), strict=True)
    ]


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    # The benchmark's smallest scale with `make test-exhaustive`, where it takes a minute.
    tables = order_tables(0.1 if os.environ.get("FLETCHING_TEST_EXHAUSTIVE") else 0.002)
    peer = duckdb.connect()
    with fletching.connect(tmp_path_factory.mktemp("orders"), create=True) as client:
        for name, data in tables.items():
            table = client.create_table(name, data.schema)
            for start in range(0, data.num_rows, max(data.num_rows // 3, 1)):
                table.append(data.slice(start, max(data.num_rows // 3, 1)))
            peer.register(name, data)
        yield client, peer
    peer.close()


@pytest.mark.parametrize("number", range(len(QUESTIONS)))
def test_the_questions_of_an_order_desk(orders: tuple[Any, Any], number: int) -> None:
    client, peer = orders
    expected = rows_of(peer.sql(QUESTIONS[number]).to_arrow_table())
    rows = rows_of(client.sql(QUESTIONS[number]).to_table())
    assert len(rows) == len(expected)
    for left, other in zip(rows, expected, strict=True):
        assert alike(left, other), QUESTIONS[number]


def test_random_queries(tmp_path: Path) -> None:
    count = 600 if os.environ.get("FLETCHING_TEST_EXHAUSTIVE") else 30
    assert disagreements(tmp_path, seed=random.randrange(10**6), count=count) == []


def disagreements(folder: Path, seed: int, count: int) -> list[str]:
    """Queries for which the two give other rows."""
    rand = random.Random(seed)
    differences: list[str] = []
    with fletching.connect(folder, create=True) as client, duckdb.connect() as peer:
        peer.execute("SET default_null_order = 'nulls_first_on_asc_last_on_desc'")
        for name in ("a", "b"):
            data = shared_rows(rand, 40)
            table = client.create_table(name, data.schema, ["pt"])
            for start in range(0, 40, 10):
                table.append(data.slice(start, 10))
            peer.register(name, data)
        for _ in range(count):
            text, theirs = QueryWriter(rand).query()
            expected = sorted(rows_of(peer.sql(theirs).to_arrow_table()), key=repr)
            got = sorted(rows_of(client.sql(text).to_table()), key=repr)
            if repr(got) != repr(expected):
                differences.append(f"seed {seed}: {text}: {got[:5]} not {expected[:5]}")
    return differences
