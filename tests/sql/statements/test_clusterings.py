"""What CLUSTERED BY says is kept as it was declared; anything else in its property says nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fletching
from fletching.errors import InvalidArgumentError, SqlSyntaxError
from fletching.sql.statements.clusterings import CLUSTERING, declared_clustering

HASHED = {
    "ClusterType": "hash",
    "BucketNum": 16,
    "ClusterCols": ["a", "b"],
    "SortCols": [{"col": "b", "order": "DESC"}, {"col": "a", "order": "ASC"}],
}
RANGED = {"ClusterType": "range", "BucketNum": 0, "ClusterCols": ["a"], "SortCols": []}
CLAUSES = [
    ("clustered by (a, `b`) sorted by (b desc, a) into 16 buckets", HASHED),
    ("CLUSTERED BY (a, b) SORTED BY (b DESC, a ASC) INTO 16 BUCKETS", HASHED),
    ("range clustered by (a)", RANGED),
    ("RANGE CLUSTERED BY (a) INTO 4 BUCKETS", {**RANGED, "BucketNum": 4}),
]


@pytest.fixture
def client(tmp_path: Path) -> Any:
    with fletching.connect(tmp_path, create=True) as made:
        yield made


def kept(client: Any, name: str = "t") -> Any:
    return declared_clustering(client.table(name).properties.get(CLUSTERING), ["a", "b"])


@pytest.mark.parametrize(("clause", "expected"), CLAUSES)
def test_tables_keep_what_they_are_clustered_by(client: Any, clause: str, expected: Any) -> None:
    client.sql(f"create table t (a bigint, b string) {clause} lifecycle 3")
    assert kept(client) == expected
    client.sql("alter table t not clustered")
    assert kept(client) is None
    client.sql(f"alter table t {clause}")
    assert kept(client) == expected
    made = client.sql("show create table t").text
    client.sql("drop table t")
    client.sql(made)
    assert kept(client) == expected


@pytest.mark.parametrize(
    "clause",
    [
        "clustered by (c) into 4 buckets",
        "clustered by (a) sorted by (c) into 4 buckets",
        "clustered by (a)",
        "clustered by (a) into 0 buckets",
        "clustered by () into 4 buckets",
        "clustered by (a) into many buckets",
        "range by (a)",
    ],
)
def test_others_are_refused(client: Any, clause: str) -> None:
    client.sql("create table t (a bigint)")
    for statement in (f"create table u (a bigint) {clause}", f"alter table t {clause}"):
        with pytest.raises((InvalidArgumentError, SqlSyntaxError)):
            client.sql(statement)
    assert CLUSTERING not in client.table("t").properties


def test_columns_that_are_gone_take_it_along(client: Any) -> None:
    client.sql("create table t (a bigint, b string) clustered by (a) into 4 buckets")
    client.sql("alter table t change column a rename to c")
    text = client.table("t").properties[CLUSTERING]
    assert declared_clustering(text, ["c", "b"]) is None
    client.sql("create table u like t")


@pytest.mark.parametrize(
    "text",
    ["", "x", "[" * 5000, "null", "3", "{}", '{"ClusterCols": 3}']
    + [json.dumps({**HASHED, name: None}) for name in ("ClusterType", "ClusterCols")]
    + [json.dumps({**HASHED, "SortCols": [1]}), json.dumps({**HASHED, "ClusterType": "other"})],
)
def test_properties_that_say_nothing(text: str) -> None:
    assert declared_clustering(text, ["a", "b"]) is None
