"""A table with a history: versions, tags, and changes that are told once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

import fletching
from fletching.errors import (
    InvalidArgumentError,
    InvalidParameterError,
    NoSuchTableError,
    UsageError,
)

SCHEMA = pa.schema([("id", pa.int64()), pa.field("text", pa.string(), nullable=False)])


def test_who_watches_a_table_is_not_given_another_of_its_name(client: fletching.Client) -> None:
    table = client.create_table("t", "id BIGINT")
    for number in range(2):
        table.append({"id": [number]})
    watching = table.watch(since=0, timeout=0)
    assert [next(watching).version, next(watching).version] == [1, 2]
    client.drop_table("t")
    again = client.create_table("t", "id BIGINT")
    for number in range(3):
        again.append({"id": [number]})
    with pytest.raises(NoSuchTableError, match="another of its name"):
        next(watching)
    with pytest.raises(NoSuchTableError, match="another of its name"):
        table.watch(since=1, timeout=0)
    assert [each.version for each in again.watch(since=1, timeout=0)] == [2, 3]


def test_a_restored_table_has_the_columns_of_then(client: fletching.Client) -> None:
    table = client.create_table("t", "id BIGINT, n INT")
    table.append({"id": [1], "n": [1]})
    table.alter_column("n", type="BIGINT")
    table.rename_column("n", "m")
    table.restore(1)
    assert table.schema == pa.schema([("id", pa.int64()), ("n", pa.int32())])
    table.append({"id": [2], "n": [2]})
    assert table.count_rows() == 2


def test_an_empty_idempotency_key_is_none(client: fletching.Client) -> None:
    table = client.create_table("t", "id BIGINT")
    table.append({"id": [1]})
    changes: list[Callable[[], object]] = [
        lambda: table.append({"id": [1]}, idempotency_key=""),
        lambda: table.delete("id = 1", idempotency_key=""),
        lambda: table.update({"id": "id + 1"}, idempotency_key=""),
        lambda: table.truncate(idempotency_key=""),
        lambda: table.restore(0, idempotency_key=""),
    ]
    for change in changes:
        with pytest.raises((InvalidArgumentError, InvalidParameterError), match=r"(?i)idempotency"):
            change()
    assert table.versions(1)[0].version == 1


@pytest.mark.parametrize("version", [True, "", 1.0, b"1", dt.date(2026, 1, 1)])
def test_what_is_no_version(client: fletching.Client, version: Any) -> None:
    table = client.create_table("t", "id BIGINT")
    table.append({"id": [1]})
    for use in (
        lambda: table.as_of(version),
        lambda: table.restore(version),
        lambda: table.changes(version),
        lambda: table.changes(0, version),
        lambda: table.watch(version),
        lambda: table.create_tag("tag", version),
    ):
        with pytest.raises(UsageError, match="no version"):
            use()
    assert table.versions(1)[0].version == 1
    assert table.tags() == {}
