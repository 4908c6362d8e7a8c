"""Partitions that are dropped by conditions, renamed and merged."""

from __future__ import annotations

import pytest

import fletching
from fletching.errors import (
    FletchingError,
    InvalidArgumentError,
    NoSuchPartitionError,
    SqlSyntaxError,
)

DAYS = ("20260101", "20260102", "20260103", "20260201")


@pytest.fixture
def sales(client: fletching.Client) -> fletching.Client:
    rows = ", ".join(f"({n}, '{day}', 'eu')" for n, day in enumerate(DAYS))
    client.sql(f"""
        create table sale (id bigint) partitioned by (pt string, region string);
        insert into sale partition (pt, region) values {rows}, (9, '20260101', 'us');
    """)
    return client


def kept(client: fletching.Client) -> list[tuple[int, str, str]]:
    table = client.sql("select id, pt, region from sale order by id").to_table()
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def partitions(client: fletching.Client) -> list[str]:
    return client.sql("show partitions sale").text.splitlines()


ALL = [
    (0, "20260101", "eu"),
    (1, "20260102", "eu"),
    (2, "20260103", "eu"),
    (3, "20260201", "eu"),
    (9, "20260101", "us"),
]


@pytest.mark.parametrize(
    ("condition", "gone"),
    [
        ("pt < '20260102'", {0, 9}),
        ("pt like '202601%', region = 'eu'", {0, 1, 2}),
        ("substr(pt, 1, 6) = '202602' or region = 'us'", {3, 9}),
        ("pt in ('20260103', '20260201')", {2, 3}),
        ("cast(pt as bigint) > 20260102", {2, 3}),
    ],
)
def test_a_condition_drops_partitions(
    sales: fletching.Client, condition: str, gone: set[int]
) -> None:
    sales.sql(f"alter table sale drop partition ({condition})")
    assert kept(sales) == [row for row in ALL if row[0] not in gone]
    assert len(partitions(sales)) == 5 - len(gone)


def test_a_condition_that_chooses_nothing(sales: fletching.Client) -> None:
    with pytest.raises(NoSuchPartitionError, match="fulfils the condition"):
        sales.sql("alter table sale drop partition (pt > '3')")
    sales.sql("alter table sale drop if exists partition (pt > '3')")
    with pytest.raises(InvalidArgumentError, match="no partition column id"):
        sales.sql("alter table sale drop partition (id > 1)")
    assert kept(sales) == ALL


def test_a_partition_gets_another_name(sales: fletching.Client) -> None:
    old, new = "pt='20260101', region='us'", "region='ca', pt='20260101'"
    sales.sql(f"alter table sale partition ({old}) rename to partition ({new})")
    assert kept(sales)[-1] == (9, "20260101", "ca")
    assert "pt=20260101/region=us" not in partitions(sales)
    with pytest.raises(NoSuchPartitionError):
        sales.sql(f"alter table sale partition ({old}) rename to partition ({new})")
    with pytest.raises(FletchingError, match="exists"):
        sales.sql(
            f"alter table sale partition ({new}) rename to partition (pt='20260101', region='eu')"
        )
    with pytest.raises(InvalidArgumentError, match="all partition columns"):
        sales.sql("alter table sale partition (pt='20260101') rename to partition (pt='1')")
    sales.sql(f"alter table sale partition ({new}) rename to partition ({new})")
    assert kept(sales)[-1] == (9, "20260101", "ca")


@pytest.mark.parametrize(
    ("what", "moved", "replaced"),
    [
        ("partition (pt='20260101', region='us')", {9}, False),
        ("partition (pt='20260101')", {0, 9}, False),
        ("partition (pt='20260101', region='us'), partition (pt='20260102', region='eu')", {1, 9}, False),
        ("partition (pt like '202601%') ", {0, 1, 2, 9}, False),
        ("if exists partition (pt='nowhere'), partition (region='us')", {9}, False),
    ],
)  # fmt: skip
def test_partitions_become_a_new_one(
    sales: fletching.Client, what: str, moved: set[int], replaced: bool
) -> None:
    into = "overwrite partition (pt='all', region='all') purge"
    assert sales.sql(f"alter table sale merge {what} {into}").affected_rows == len(moved)
    assert kept(sales) == [(n, "all", "all") if n in moved else (n, pt, r) for n, pt, r in ALL]
    assert len(partitions(sales)) == 5 - len(moved) + 1


def test_what_is_overwritten_goes_in_the_same_commit(sales: fletching.Client) -> None:
    versions = len(sales.table("sale").versions())
    sales.sql(
        "alter table sale merge partition (pt='20260101'), partition (pt='20260102', region='eu')"
        " overwrite partition (pt='20260103', region='eu')"
    )
    assert kept(sales) == [
        (0, "20260103", "eu"),
        (1, "20260103", "eu"),
        (3, "20260201", "eu"),
        (9, "20260103", "eu"),
    ]
    assert partitions(sales) == ["pt=20260103/region=eu", "pt=20260201/region=eu"]
    rows = [info.rows_deleted for info in sales.table("sale").versions()]
    assert len(rows) > versions


def test_what_is_merged_into_itself_stays(sales: fletching.Client) -> None:
    into = "overwrite partition (pt='20260101', region='eu')"
    sales.sql(f"alter table sale merge partition (pt='20260101') {into}")
    assert kept(sales)[0] == (0, "20260101", "eu")
    assert kept(sales)[-1] == (9, "20260101", "eu")
    sales.sql(f"alter table sale merge partition (pt='20260101', region='eu') {into}")
    assert len(kept(sales)) == 5


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("partition (pt='x') overwrite partition (pt='y', region='z')", NoSuchPartitionError, "no partition"),
        ("partition (pt>'3') overwrite partition (pt='y', region='z')", NoSuchPartitionError, "fulfils"),
        ("partition (pt='20260101') overwrite partition (pt='y')", InvalidArgumentError, "all partition columns"),
        ("partition (id=1) overwrite partition (pt='y', region='z')", InvalidArgumentError, "no partition column id"),
        ("partition (id>1) overwrite partition (pt='y', region='z')", InvalidArgumentError, "no partition column id"),
        ("overwrite partition (pt='y', region='z')", SqlSyntaxError, "PARTITION"),
        ("partition (pt='20260101')", SqlSyntaxError, "OVERWRITE is expected"),
    ],
)  # fmt: skip
def test_merges_that_mean_nothing(
    sales: fletching.Client, text: str, kind: type[FletchingError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        sales.sql(f"alter table sale merge {text}")
    assert kept(sales) == ALL
    assert len(partitions(sales)) == 5


def test_merging_nothing(sales: fletching.Client) -> None:
    text = "alter table sale merge if exists partition (pt>'3') overwrite partition (pt='y', region='z')"
    assert sales.sql(text).affected_rows == 0
    assert kept(sales) == ALL
