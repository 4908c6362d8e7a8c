"""Partitions listed in pages, made and dropped; those of an older version as they were then."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from fletching.engine.tables.partition_calls import MAX_PAGE_ITEMS, PartitionCalls, page_size
from fletching.errors import AlreadyExistsError, InvalidArgumentError, NoSuchPartitionError
from fletching.protocol.messages.admin import CreatePartition, DropPartition, ListPartitions
from fletching.types import PartitionSpec, TableName

T = TableName("demo", "t")
BATCH = pa.record_batch({"n": [1, 2]})


@pytest.fixture
def calls(house: Any) -> PartitionCalls:
    house.create(BATCH.schema, ["a", "b"])
    for a, b in (("x", "2"), ("x", "1"), ("y", "1")):
        house.append(BATCH, f"a={a},b={b}")
    return PartitionCalls(house.engine.context)


def names(calls: PartitionCalls, **what: Any) -> list[str]:
    results: list[str] = []
    marker = ""
    while True:
        page = calls.list(ListPartitions(table=T, marker=marker, **what))
        results += [str(info.partition) for info in page.partitions]
        marker = page.marker
        if not marker:
            return results


ALL = ["a=x,b=1", "a=x,b=2", "a=y,b=1"]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize("version", [None, 3])
def test_every_page_size_gives_all_in_order(
    calls: PartitionCalls, size: int, version: int | None
) -> None:
    assert names(calls, max_items=size, version=version) == ALL
    assert names(calls, max_items=size, version=version, reverse=True) == ALL[::-1]
    below = PartitionSpec.parse("a=x")
    assert names(calls, max_items=size, version=version, prefix=below) == ALL[:2]


def test_an_older_version_has_its_own(calls: PartitionCalls) -> None:
    assert names(calls, version=1) == ["a=x,b=2"]
    assert names(calls, version=0) == []


def test_made_and_dropped(calls: PartitionCalls, house: Any) -> None:
    new = PartitionSpec.parse("b=3,a=z")
    made = calls.create(CreatePartition(table=T, partition=new))
    assert (str(made.partition), made.rows) == ("a=z,b=3", 0)
    with pytest.raises(AlreadyExistsError):
        calls.create(CreatePartition(table=T, partition=new))
    assert calls.create(CreatePartition(table=T, partition=new, if_not_exists=True)) == made
    calls.drop(DropPartition(table=T, partition=PartitionSpec.parse("a=x,b=1")))
    assert names(calls) == ["a=x,b=2", "a=y,b=1", "a=z,b=3"]
    assert house.describe().rows == 4
    gone = PartitionSpec.parse("a=x,b=1")
    with pytest.raises(NoSuchPartitionError):
        calls.drop(DropPartition(table=T, partition=gone))
    calls.drop(DropPartition(table=T, partition=gone, if_exists=True))


@pytest.mark.parametrize("what", [{"marker": "nonsense"}, {"marker": "a=x"}, {"max_items": 0}])
def test_what_cannot_be_listed(calls: PartitionCalls, what: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        calls.list(ListPartitions(table=T, **what))


def test_pages_have_a_most() -> None:
    assert page_size(5) == 5
    assert page_size(10**9) == MAX_PAGE_ITEMS
