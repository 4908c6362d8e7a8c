"""What the options of ``format("fletching")`` say; they have Spark's habit of spelling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import fletching
from fletching.client import Scan, Table
from fletching.connectors.narrowing import narrowed
from fletching.errors import UsageError

__all__ = ["checked", "number_of", "scan_of_options", "switch_of", "table_of_options"]

_OPTIONS = (
    *("at", "project", "schema", "accessId", "accessKey"),
    *("path", "partition", "columns", "filter", "pushdown", "versionAsOf", "readChangeFeed"),
    *("startingVersion", "numPartitions", "idempotencyKey"),
)
_SPARKS_OWN = frozenset({"checkpointlocation"})
"""What Spark hands on to every source or sink of a query."""


def checked(options: Mapping[str, str]) -> dict[str, str]:
    """The options by their names in lower case, as Spark compares them.

    Raises:
        UsageError: one that is not known, or no table.
    """
    given = {name.lower(): value for name, value in options.items()}
    unknown = sorted(set(given) - {name.lower() for name in _OPTIONS} - _SPARKS_OWN)
    if unknown:
        raise UsageError(
            f"the format fletching has no option {', '.join(unknown)}; it has {', '.join(_OPTIONS)}"
        )
    if not given.get("path"):
        raise UsageError('name the table: .load("table") or .save("table")')
    return given


def table_of_options(options: Mapping[str, str]) -> Table:
    """The table that is read or written."""
    client = fletching.connect(
        options.get("at"),
        options.get("project"),
        access_id=options.get("accessid"),
        access_key=options.get("accesskey"),
        schema=options.get("schema", "default"),
    )
    return client.table(options["path"])


def number_of(options: Mapping[str, str], name: str, default: int) -> int:
    """A whole number.

    Raises:
        UsageError: it is none.
    """
    text = options.get(name.lower())
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"{name} is a whole number, not {text!r}")
    return int(text)


def switch_of(options: Mapping[str, str], name: str) -> bool:
    """A choice of true and false; false where it is not made.

    Raises:
        UsageError: it is neither.
    """
    text = options.get(name.lower(), "false").lower()
    if text not in {"true", "false"}:
        raise UsageError(f"{name} is true or false, not {text!r}")
    return text == "true"


def scan_of_options(options: Mapping[str, str]) -> Scan:
    """The scan that the options say."""
    table = table_of_options(options)
    columns = options.get("columns")
    chosen = (
        None if columns is None else [name.strip() for name in columns.split(",") if name.strip()]
    )
    if switch_of(options, "readChangeFeed"):
        since = number_of(options, "startingVersion", 0)
        return narrowed(table.changes(since=since), chosen, options.get("filter"))
    version: Any = options.get("versionasof")
    if version is not None and version.isascii() and version.isdigit():
        version = int(version)
    partition = options.get("partition")
    partitions = None if partition is None else [partition]
    scan = table.scan(version=version, partitions=partitions)
    return narrowed(scan, chosen, options.get("filter"))
