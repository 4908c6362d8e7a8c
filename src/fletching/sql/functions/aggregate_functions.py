"""MaxCompute's aggregates and window functions."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Sequence

from fletching.errors import InvalidArgumentError
from fletching.sql.functions.decimals import average
from fletching.sql.functions.duck_forms import let, map_of_entries
from fletching.sql.functions.function_calls import Call, Function, Result
from fletching.sql.functions.sql_types import (
    BIGINT,
    DOUBLE,
    SqlType,
    array_of,
    average_type,
    map_of,
)

__all__ = ["AGGREGATE_FUNCTIONS"]


def _aggregate(
    least: int,
    most: int | None,
    made: str | Callable[[Call], str],
    result: Result = "",
    takes: str = ".",
) -> Function:
    return Function(least, most, made, result, takes, aggregate=True)


def _double(template: str, count: int = 1) -> Function:
    return _aggregate(count, count, template, "double", "d")


def _sum(call: Call) -> str:
    if call.kind(0) == "whole":
        # Beyond BIGINT is an error, never another type.
        return "CAST(sum({distinct}{0}){over} AS BIGINT)"
    return "sum({distinct}{0}){over}"


def _sum_type(types: Sequence[SqlType]) -> SqlType:
    first = types[0]
    if first.kind == "decimal":
        return SqlType("DECIMAL", 38, first.scale)
    if first.kind == "whole":
        return BIGINT
    return DOUBLE if first.kind in {"text", "double"} else SqlType()


def _avg(call: Call) -> str:
    if call.kind(0) == "decimal":
        return average("{0}", call.types[0])
    return "avg({distinct}{0}){over}"


def _avg_type(types: Sequence[SqlType]) -> SqlType:
    first = types[0]
    if first.kind == "decimal":
        return average_type(first)
    return DOUBLE if first.name else SqlType()


def _second(types: Sequence[SqlType]) -> SqlType:
    return types[1]


def _first_of_two(types: Sequence[SqlType]) -> SqlType:
    return types[0]


_PERCENTILE = "quantile_cont({distinct}{0}, {1}){over}"


def _percentile_type(types: Sequence[SqlType]) -> SqlType:
    return array_of(DOUBLE) if types[1].kind == "array" else DOUBLE


def _list_type(types: Sequence[SqlType]) -> SqlType:
    return array_of(types[0])


_COLLECTED = "coalesce(list_filter(list({}{{0}}{{order}}){{over}}, lambda v_: v_ IS NOT NULL), [])"


def _wm_concat(call: Call) -> str:
    """Of a list, as the memory of lists is bounded: the texts of string_agg grow beyond any limit."""
    value = dataclasses.replace(call, arguments=[call[0], "v_"]).text(1)
    texts = "list({distinct}{1}{order}){over}"
    if value != "v_":
        texts = f"list_transform({texts}, lambda v_: {value})"
    return f"CASE WHEN count({{1}}){{over}} > 0 THEN array_to_string({texts}, {{0}}) END"


_PAIRS = "list({'k': {0}, 'v': {1}}) FILTER (WHERE {0} IS NOT NULL){over}"
_ENTRIES = "flatten(list(map_entries({0})){over})"


def _by_key(pairs: str, value: str, key: str = "k") -> str:
    """A map of each key to what ``value`` makes of ``e_``, the pairs, for ``k_``, the key."""
    keys = f"list_distinct(list_transform(e_, lambda o_: o_.{key}))"
    made = f"map_from_entries(list_transform({keys}, lambda k_: {{'k': k_, 'v': {value}}}))"
    return let(["e_"], [pairs], made)


def _multimap_agg(_call: Call) -> str:
    return _by_key(_PAIRS, "list_transform(list_filter(e_, lambda o_: o_.k = k_), lambda o_: o_.v)")


def _map_union_sum(call: Call) -> str:
    inner = call.types[0].inner
    summed = "list_sum(list_transform(list_filter(e_, lambda o_: o_.key = k_), lambda o_: coalesce(o_.value, 0)))"
    wanted = inner[1].duck() if len(inner) == 2 else ""
    return _by_key(_ENTRIES, f"CAST({summed} AS {wanted})" if wanted else summed, "key")


_PRIME = 2_147_483_659
"""Above the number of rows of a partition, so that they share no divisor: products with it visit each row once."""


def _cluster_sample(call: Call) -> str:
    """Whether a row is among those that were chosen of its partition.

    Rows are numbered, and the numbers permuted from a random place on: DuckDB orders no window by what is
    random.
    """
    if "null" in {call.kind(0), call.kind(1)}:
        return "CAST(NULL AS BOOLEAN)"
    count = call.number(0, "number of rows")
    part = call.number(1, "part") if len(call) == 2 else None
    if count < 1 or (part is not None and part < 0):
        raise InvalidArgumentError("cluster_sample takes a number of rows from 1")
    begin = secrets.randbelow(1 << 31)
    index = f"(row_number(){{over}} * {_PRIME} + {begin}) % count(*){{over}}"
    most = str(count) if part is None else f"count(*){{over}} * {part} // {count}"
    return f"({index} < {most})"


AGGREGATE_FUNCTIONS: dict[str, Function] = {
    "count": _aggregate(1, None, "count({distinct}{*}){over}", "whole"),
    "sum": _aggregate(1, 1, _sum, _sum_type, "n"),
    "avg": _aggregate(1, 1, _avg, _avg_type, "n"),
    "min": _aggregate(1, 1, "min({0}){over}", "first"),
    "max": _aggregate(1, 1, "max({0}){over}", "first"),
    "median": _aggregate(
        1,
        1,
        "median({distinct}{0}){over}",
        lambda t: t[0] if t[0].kind == "decimal" else DOUBLE,
        "n",
    ),
    "stddev": _double("stddev_pop({distinct}{0}){over}"),
    "stddev_pop": _double("stddev_pop({distinct}{0}){over}"),
    "stddev_samp": _double("stddev_samp({distinct}{0}){over}"),
    "variance": _double("var_pop({distinct}{0}){over}"),
    "var_pop": _double("var_pop({distinct}{0}){over}"),
    "var_samp": _double("var_samp({distinct}{0}){over}"),
    "corr": _double("corr({0}, {1}){over}", 2),
    "covar_pop": _double("covar_pop({0}, {1}){over}", 2),
    "covar_samp": _double("covar_samp({0}, {1}){over}", 2),
    "skewness": _double("skewness({0}){over}"),
    "kurtosis": _double("kurtosis_pop({0}){over}"),
    "wm_concat": _aggregate(2, 2, _wm_concat, "text", "t."),
    "collect_list": _aggregate(1, 1, _COLLECTED.format("{distinct}"), _list_type),
    "collect_set": _aggregate(1, 1, _COLLECTED.format("DISTINCT "), _list_type),
    "array_agg": _aggregate(1, 1, "list({distinct}{0}{order}){over}", _list_type),
    "percentile": _aggregate(2, 2, _PERCENTILE, _percentile_type, "d."),
    "percentile_cont": _aggregate(2, 2, _PERCENTILE, _percentile_type, "d."),
    "percentile_disc": _aggregate(2, 2, "quantile_disc({distinct}{0}, {1}){over}", _first_of_two),
    "percentile_approx": _aggregate(2, 3, _PERCENTILE, _percentile_type, "d."),
    "approx_percentile": _aggregate(2, 3, _PERCENTILE, _percentile_type, "d."),
    # Exact: whoever asks for an estimate is not worse off.
    "approx_distinct": _aggregate(1, 2, "count(DISTINCT {0}){over}", "whole"),
    "any_value": _aggregate(1, 1, "any_value({0}){over}", "first"),
    "arg_max": _aggregate(2, 2, "arg_max({1}, {0}){over}", _second),
    "arg_min": _aggregate(2, 2, "arg_min({1}, {0}){over}", _second),
    "max_by": _aggregate(2, 2, "arg_max({0}, {1}){over}", _first_of_two),
    "min_by": _aggregate(2, 2, "arg_min({0}, {1}){over}", _first_of_two),
    "count_if": _aggregate(1, 1, "CAST(count_if({0}){over} AS BIGINT)", "whole"),
    "bool_and": _aggregate(1, 1, "bool_and({0}){over}", "boolean"),
    "bool_or": _aggregate(1, 1, "bool_or({0}){over}", "boolean"),
    "every": _aggregate(1, 1, "bool_and({0}){over}", "boolean"),
    "bitwise_and_agg": _aggregate(1, 1, "bit_and({0}){over}", "whole"),
    "bitwise_or_agg": _aggregate(1, 1, "bit_or({0}){over}", "whole"),
    "bitwise_xor_agg": _aggregate(1, 1, "bit_xor({0}){over}", "whole"),
    "histogram": _aggregate(1, 1, "histogram({0}){over}", lambda t: map_of(t[0], BIGINT)),
    "map_agg": _aggregate(2, 2, lambda _: map_of_entries(_PAIRS), lambda t: map_of(t[0], t[1])),
    "multimap_agg": _aggregate(2, 2, _multimap_agg, lambda t: map_of(t[0], array_of(t[1]))),
    "map_union": _aggregate(1, 1, lambda _: map_of_entries(_ENTRIES, "key"), "first", "m"),
    "map_union_sum": _aggregate(1, 1, _map_union_sum, "first", "m"),
    "grouping": _aggregate(1, 1, "grouping({0})", "whole"),
    "grouping_id": _aggregate(1, None, "grouping_id({*})", "whole"),
    # windows
    "row_number": _aggregate(0, 0, "row_number(){over}", "whole"),
    "rank": _aggregate(0, 0, "rank(){over}", "whole"),
    "dense_rank": _aggregate(0, 0, "dense_rank(){over}", "whole"),
    "percent_rank": _aggregate(0, 0, "percent_rank(){over}", "double"),
    "cume_dist": _aggregate(0, 0, "cume_dist(){over}", "double"),
    "cluster_sample": _aggregate(1, 2, _cluster_sample, "boolean"),
    "ntile": _aggregate(1, 1, "ntile({0}){over}", "whole"),
    "lag": _aggregate(1, 3, "lag({*}{nulls}){over}", "first"),
    "lead": _aggregate(1, 3, "lead({*}{nulls}){over}", "first"),
    "first_value": _aggregate(1, 2, "first_value({0}{nulls}){over}", "first"),
    "last_value": _aggregate(1, 2, "last_value({0}{nulls}){over}", "first"),
    "nth_value": _aggregate(2, 3, "nth_value({0}, {1}{nulls}){over}", "first"),
}
