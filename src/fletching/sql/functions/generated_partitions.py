"""AUTO PARTITIONED BY: a partition column whose value is made of a data column's moment.

::

    AUTO PARTITIONED BY (trunc_time(at, 'day') [AS] pt [COMMENT '..'])

It is a property of the table, in the JSON that is written here. An INSERT that does not give the column
computes it; clients that write rows by themselves compute it, too, by the expression that they are told.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

from fletching.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlglot import exp

__all__ = [
    "GENERATED",
    "TRUNCATED_FORMATS",
    "GeneratedPartition",
    "generated_of_node",
    "generated_partition",
]

GENERATED = "fletching.generated.partition"
"""The property that holds it."""

TRUNCATED_FORMATS = {
    "year": "%Y",
    "month": "%Y-%m",
    "day": "%Y-%m-%d",
    "hour": "%Y-%m-%d %H:00:00",
}
"""What a moment that is cut to a unit looks like, in directives of strftime."""

_FUNCTION = "trunc_time"


@dataclasses.dataclass(frozen=True, slots=True)
class GeneratedPartition:
    """How a partition column's values are made.

    Attributes:
        name: of the partition column.
        column: the data column with the moment.
        unit: what the moment is cut to, of `TRUNCATED_FORMATS`.
    """

    name: str
    column: str
    unit: str

    def text(self) -> str:
        """The expression in SQL."""
        quoted = self.column.replace("`", "``")
        return f"{_FUNCTION}(`{quoted}`, '{self.unit}')"

    def property_text(self) -> str:
        """The property's text."""
        return json.dumps(dataclasses.asdict(self))

    def client_text(self, kind: str) -> str:
        """The expression as clients parse it: JSON, operands before their function.

        Args:
            kind: the ODPS type of the data column.
        """
        parts: list[object] = [
            {"leafExprDesc": {"type": kind, "reference": {"name": self.column}}},
            {"leafExprDesc": {"type": "string", "constant": self.unit}},
            {"functionCall": {"name": _FUNCTION, "type": "string"}},
        ]
        return json.dumps(parts, ensure_ascii=False)


def generated_of_node(name: str, call: exp.Expr, columns: Mapping[str, str]) -> GeneratedPartition:
    """The same from a tree.

    Args:
        name: of the partition column.
        call: what it is made by.
        columns: the types that the table's data columns have, by case-folded name.

    Raises:
        InvalidArgumentError: it is made by something else, or of a column that has no moments.
    """
    what = f"AUTO PARTITIONED BY: {name[:60]} takes {_FUNCTION}(column, unit)"
    arguments = call.expressions
    if call.name.lower() != _FUNCTION or len(arguments) != 2:
        raise InvalidArgumentError(what)
    column, unit = (item.name for item in arguments)
    if type(arguments[0]).__name__ != "Column" or not getattr(arguments[1], "is_string", False):
        raise InvalidArgumentError(what)
    if unit.lower() not in TRUNCATED_FORMATS:
        raise InvalidArgumentError(
            f"{_FUNCTION} cuts to {', '.join(TRUNCATED_FORMATS)}, not {unit[:60]!r}"
        )
    kind = columns.get(column.casefold())
    if kind is None:
        raise InvalidArgumentError(f"AUTO PARTITIONED BY names {column[:100]}: no such column")
    if kind.lower() not in {"datetime", "timestamp", "timestamp_ntz", "date"}:
        raise InvalidArgumentError(
            f"{_FUNCTION} takes a column of dates or times: {column} is {kind}"
        )
    return GeneratedPartition(name, column, unit.lower())


def generated_partition(
    text: str | None, columns: Iterable[str], partition_columns: Iterable[str]
) -> GeneratedPartition | None:
    """What a table's property says; None if no partition column is made, or not of such columns.

    Args:
        text: the property's.
        columns: names of the data columns that the table has.
        partition_columns: names of its partition columns.
    """
    try:
        document = json.loads(text or "null")
        result = GeneratedPartition(*(str(document[key]) for key in ("name", "column", "unit")))
    except (ValueError, TypeError, KeyError, RecursionError):
        # Whoever may alter a table may set any of its properties.
        return None
    whole = (
        result.unit in TRUNCATED_FORMATS
        and result.column.casefold() in map(str.casefold, columns)
        and [result.name.casefold()] == [name.casefold() for name in partition_columns]
    )
    return result if whole else None
