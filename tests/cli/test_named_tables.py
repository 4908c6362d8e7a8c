"""Tables and columns as people name them, and what is like a wrong name."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

import fletching
from fletching.cli.named_tables import as_moment, columns_named, find_table, names_of, table_as_of
from fletching.client import Client
from fletching.errors import NoSuchTableError, UsageError


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with fletching.connect(tmp_path / "data", create=True) as opened:
        opened.create_table("orders", "id BIGINT, amount DOUBLE").append(
            {"id": [1], "amount": [2.5]}
        )
        yield opened


def test_names() -> None:
    assert names_of(" a, b ,,") == ["a", "b"]
    assert names_of(" , ") is None


def test_a_wrong_table_is_answered_with_those_like_it(client: Client) -> None:
    assert find_table(client, "orders").name == "orders"
    with pytest.raises(NoSuchTableError, match="did you mean orders"):
        find_table(client, "ordrs")
    with pytest.raises(NoSuchTableError) as caught:
        find_table(client, "zzzzzz")
    assert "did you mean" not in caught.value.message


def test_a_wrong_column_too(client: Client) -> None:
    table = client.table("orders")
    assert columns_named(table, "ID, amount") == ["ID", "amount"]
    with pytest.raises(UsageError, match="did you mean amount"):
        columns_named(table, "amuont")
    with pytest.raises(UsageError, match="it has id, amount"):
        columns_named(table, "zzz")


def test_moments(client: Client) -> None:
    assert as_moment("12") == 12
    assert as_moment("v1") == "v1"
    assert as_moment("2026-01-31T12:00:00+00:00") == dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
    local = as_moment("2026-01-31")
    assert isinstance(local, dt.datetime)
    assert local.tzinfo is not None
    assert as_moment("²") == "²"
    assert table_as_of(client, "orders", "0").scan().to_table().num_rows == 0
    assert table_as_of(client, "orders", None).scan().to_table().num_rows == 1
