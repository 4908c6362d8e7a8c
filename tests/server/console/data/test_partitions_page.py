"""The partitions of a table as a tree."""

from __future__ import annotations

import pytest
from tests.server.console.conftest import ORDERS, Pages

from fletching.server.console.data.partitions_page import _filter

TREE = f"{ORDERS}/partitions"


def test_each_level_sums_up_what_is_below(pages: Pages) -> None:
    data = pages.data(TREE)
    assert data["columns"] == ["day", "hh"]
    assert [(b["value"], b["partitions"], b["rows"], b["leaf"]) for b in data["branches"]] == [
        ("a", 2, 19, False),
        ("b", 1, 10, False),
    ]
    below = pages.data(f"{TREE}?under=day%3Da")
    assert [(b["value"], b["rows"], b["leaf"]) for b in below["branches"]] == [
        ("1", 9, True),
        ("2", 10, True),
    ]
    assert (below["depth"], below["above"]) == (1, ["day=a"])


def test_pages_and_mistakes(pages: Pages) -> None:
    data = pages.data(f"{TREE}?offset=1")
    assert ([b["value"] for b in data["branches"]], data["previous"], data["count"]) == (
        ["b"],
        0,
        2,
    )
    assert pages(f"{TREE}?under=nonsense").status == 400
    assert pages(f"{TREE}?under=other%3D1").status == 400


@pytest.mark.parametrize(
    ("partition", "predicate"),
    [
        ("day=a,n=5", "day = 'a' AND n = 5"),
        ("day=a\\b", r"day = 'a\\b'"),
        ("other=5", "other = '5'"),
    ],
)
def test_a_partition_as_a_filter(partition: str, predicate: str) -> None:
    assert _filter(partition, {"day": "STRING", "n": "BIGINT"}) == predicate
