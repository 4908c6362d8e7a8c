"""Values of expressions, translated and computed by DuckDB as it is; and what is known of every function."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import duckdb
from tests.client.sql_cases import EXPRESSIONS
from tests.client.sql_documented_cases import DOCUMENTED_EXPRESSIONS
from tests.client.sql_everyday_cases import EVERYDAY_EXPRESSIONS
from tests.client.sql_function_cases import FUNCTION_CASES
from tests.client.sql_further_cases import FURTHER_EXPRESSIONS
from tests.sql.written import written

Case = tuple[str, Any]


def called(text: str) -> set[str]:
    """The names of the functions that an expression calls."""
    return set(re.findall(r"\b(\w+)\s*\(", text.lower())) | set(
        re.findall(r"\b(rlike|regexp)\b", text)
    )


def cases_of(functions: Mapping[str, Any]) -> list[Case]:
    """Known values of expressions that call one of some functions, and no function of the catalog."""
    tables = (
        EXPRESSIONS,
        FUNCTION_CASES,
        DOCUMENTED_EXPRESSIONS,
        EVERYDAY_EXPRESSIONS,
        FURTHER_EXPRESSIONS,
    )
    result = [case for table in tables for group in table.values() for case in group]
    folded = {"max_pt", "table_exists", "partition_exists"}
    return [
        case
        for case in result
        if called(case[0]) & set(functions)
        and not called(case[0]) & folded
        # These digests are functions of the engine's, proven with it.
        and "sha2(" not in case[0]
    ]


def computed(query: str) -> list[tuple[Any, ...]]:
    """The rows of a query without tables."""
    with duckdb.connect() as connection:
        table = connection.sql(written(query).sql).to_arrow_table()
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def same(left: Any, other: Any) -> bool:
    if isinstance(left, float) and isinstance(other, float):
        return math.isclose(left, other, rel_tol=1e-12) or (math.isnan(left) and math.isnan(other))
    return type(left) is type(other) and left == other


def differences(cases: Iterable[Case]) -> list[str]:
    """The cases whose values are others."""
    listed = list(cases)
    result: list[Any] = []
    for start in range(0, len(listed), 60):
        few = listed[start : start + 60]
        (row,) = computed("select " + ",\n".join(text for text, _ in few))
        result += row
    return [
        f"{text}: {value!r}, not {expected!r}"
        for (text, expected), value in zip(listed, result, strict=True)
        if not same(value, expected)
    ]
