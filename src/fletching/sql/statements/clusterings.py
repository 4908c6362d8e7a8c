"""CLUSTERED BY: kept as it was declared, and nothing else; where rows lie is this service's business.

::

    [RANGE] CLUSTERED BY (a, b) [SORTED BY (a [ASC | DESC], ..)] [INTO n BUCKETS]

It is a property of the table, in the JSON that clients parse.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, TypedDict

from fletching.errors import InvalidArgumentError

if TYPE_CHECKING:
    from sqlglot import exp

__all__ = [
    "CLUSTERING",
    "clustering",
    "clustering_clause",
    "clustering_of_node",
    "declared_clustering",
]

CLUSTERING = "fletching.clustering"
"""The property that holds it."""


class SortedColumn(TypedDict):
    """A column that rows of a bucket are sorted by."""

    col: str
    order: str


class Clustering(TypedDict):
    """How rows of a table are dealt to buckets, as its schema says it on the wire."""

    ClusterType: str
    BucketNum: int
    ClusterCols: list[str]
    SortCols: list[SortedColumn]


def clustering(
    columns: Sequence[str], sorted_by: Sequence[tuple[str, str]], buckets: int, *, ranged: bool
) -> str:
    """The property's text.

    Args:
        columns: rows are told apart by these.
        sorted_by: columns, each with ``ASC`` or ``DESC``.
        buckets: their number; 0 if it is not said.
        ranged: by ranges of values instead of hashes.

    Raises:
        InvalidArgumentError: no columns, or hashes without a number of buckets.
    """
    if not columns:
        raise InvalidArgumentError("CLUSTERED BY needs columns")
    if not ranged and not buckets:
        raise InvalidArgumentError("CLUSTERED BY needs INTO and a number of BUCKETS")
    return json.dumps(
        {
            "ClusterType": "range" if ranged else "hash",
            "BucketNum": buckets,
            "ClusterCols": list(columns),
            "SortCols": [{"col": name, "order": order} for name, order in sorted_by],
        }
    )


def clustering_of_node(
    node: exp.Expr, columns: Collection[str], buckets: int, *, ranged: bool
) -> str:
    """The same from a tree.

    Args:
        node: of CREATE TABLE.
        columns: that the table has.
        buckets: as in `clustering`.
        ranged: as in `clustering`.

    Raises:
        InvalidArgumentError: it names other columns; or as `clustering`.
    """
    names = [column.name for column in node.expressions]
    ordered = [
        (item.this.name, "DESC" if item.args.get("desc") else "ASC")
        for item in node.args.get("sorted_by") or ()
    ]
    known = {name.casefold() for name in columns}
    for name in (*names, *(name for name, _ in ordered)):
        if name.casefold() not in known:
            raise InvalidArgumentError(f"CLUSTERED BY names {name[:100]}: no such column")
    return clustering(names, ordered, buckets, ranged=ranged)


def clustering_clause(declared: Clustering) -> str:
    """What `declared_clustering` gave, as the clause that declares it."""
    names = ", ".join(f"`{name}`" for name in declared["ClusterCols"])
    ordered = ", ".join(f"`{item['col']}` {item['order']}" for item in declared["SortCols"])
    parts = [
        "RANGE " if declared["ClusterType"] == "range" else "",
        f"CLUSTERED BY ({names})",
        f" SORTED BY ({ordered})" if ordered else "",
        f" INTO {declared['BucketNum']} BUCKETS" if declared["BucketNum"] else "",
    ]
    return "".join(parts)


def declared_clustering(text: str | None, columns: Collection[str]) -> Clustering | None:
    """What a table's property says; None if it has none, or one whose columns are gone."""
    try:
        result = json.loads(text or "null")
        names = [*result["ClusterCols"], *(item["col"] for item in result["SortCols"])]
        whole = {str(name).casefold() for name in names} <= {name.casefold() for name in columns}
        return result if whole and result["ClusterType"] in {"hash", "range"} else None
    except (ValueError, TypeError, KeyError, RecursionError):
        # Whoever may alter a table may set any of its properties.
        return None
