"""Forms of SELECT that MaxCompute has and DuckDB has not, put in terms of others that it has."""

from __future__ import annotations

import re
from collections.abc import Collection

from fletching.errors import InvalidArgumentError
from fletching.sql.functions.function_lookup import ROW_MAKERS
from fletching.sql.functions.number_functions import BUCKET
from fletching.sql.parsing.dialect import exp
from fletching.sql.queries.query_sources import PATTERN, located

__all__ = [
    "check_named_queries",
    "choose_by_patterns",
    "group_ids",
    "lift_rows",
    "name_columns",
    "order_sorted",
    "sample_buckets",
]


def order_sorted(query: exp.Expr) -> None:
    """SORT BY and CLUSTER BY order the rows of each worker: here there is one, so all of them."""
    for select in query.find_all(exp.Select):
        result = select.args.get("sort") or select.args.get("cluster")
        if result is not None and select.args.get("order") is None:
            select.set("order", exp.Order(expressions=result.expressions))
        for key in ("sort", "cluster", "distribute"):
            select.set(key, None)


def lift_rows(select: exp.Expr) -> None:
    """``SELECT explode(x) AS (a, b)`` as a LATERAL VIEW of the same columns."""
    for number, item in enumerate(list(select.expressions)):
        call = item.this if isinstance(item, exp.Alias | exp.Aliases) else item
        if not isinstance(call, exp.Anonymous) or call.name.lower() not in ROW_MAKERS:
            continue
        names = [item.alias] if isinstance(item, exp.Alias) else []
        if isinstance(item, exp.Aliases):
            names = [column.name for column in item.expressions]
        table = exp.to_identifier(f"_rows{number}", quoted=True)
        columns = [exp.to_identifier(name, quoted=True) for name in names]
        lateral = exp.Lateral(
            this=call.copy(), view=True, alias=exp.TableAlias(this=table, columns=columns)
        )
        item.replace(exp.Column(this=exp.Star(), table=table.copy()))
        select.append("laterals", lateral)
        if select.args.get("from_") is None:
            values = exp.Values(
                expressions=[exp.Tuple(expressions=[exp.Literal.number(1)])],
                alias=exp.TableAlias(
                    this=exp.to_identifier("_one"), columns=[exp.to_identifier("_one")]
                ),
            )
            select.set("from_", exp.From(this=values))


def group_ids(select: exp.Expr) -> None:
    """``GROUPING__ID`` is GROUPING_ID of all that is grouped by."""
    group = select.args.get("group")
    if group is None:
        return
    result = [item for item in select.find_all(exp.Column) if item.name.lower() == "grouping__id"]
    if not result:
        return
    sets = (exp.Rollup, exp.Cube, exp.GroupingSets)
    keys: list[exp.Expr] = []
    for item in group.expressions:
        for part in item.find_all(exp.Column) if isinstance(item, sets) else [item]:
            if part not in keys:
                keys.append(part)
    for kind in ("rollup", "cube", "grouping_sets"):
        for item in group.args.get(kind) or ():
            for part in item.find_all(exp.Column):
                if part not in keys:
                    keys.append(part)
    call = exp.Anonymous(this="grouping_id", expressions=[key.copy() for key in keys])
    for item in result:
        inside = item.find_ancestor(exp.Select) is select
        if inside:
            outer = item.parent is select
            item.replace(exp.alias_(call.copy(), "grouping__id") if outer else call.copy())


def name_columns(select: exp.Expr) -> None:
    """Gives expressions without a name the names that MaxCompute gives: ``_c0``, ``_c1``, ..."""
    items = []
    for number, item in enumerate(select.expressions):
        plain = isinstance(item, exp.Column | exp.Alias | exp.Star | exp.Aliases | exp.Dot)
        # A subquery's own alias would be that of a table.
        name = exp.to_identifier(f"_c{number}")
        items.append(item if plain else exp.Alias(this=item, alias=name))
    select.set("expressions", items)


_LOOKS_LIKE_PATTERN = re.compile(r"[|\[]|\.[*+]|\)[?*+]")


def choose_by_patterns(select: exp.Expr, known: Collection[str]) -> None:
    """Names in backticks that are regular expressions choose all columns whose names they fit.

    Args:
        select: the SELECT.
        known: case-folded names of columns, which are no patterns whatever they look like.
    """
    for item in select.expressions:
        if (
            not isinstance(item, exp.Column)
            or len(item.parts) != 1
            or not item.this.args.get("quoted")
        ):
            continue
        name = item.name
        if name.casefold() in known or not _LOOKS_LIKE_PATTERN.search(name):
            continue
        try:
            re.compile(name)
        except re.error as error:
            message = f"{name[:60]!r} is neither a column nor a pattern of names"
            raise located(InvalidArgumentError(message), item) from error
        star = exp.Star()
        star.meta[PATTERN] = name
        item.replace(star)


def sample_buckets(query: exp.Expr) -> None:
    """``TABLESAMPLE (BUCKET x OUT OF y ON column)`` as the rows whose hash leaves x - 1 modulo y."""
    for table in list(query.find_all(exp.Table)):
        sample = table.args.get("sample")
        if sample is None or sample.args.get("bucket_numerator") is None:
            continue
        numbers = [sample.args[key].name for key in ("bucket_numerator", "bucket_denominator")]
        if not all(item.isdecimal() for item in numbers) or not 1 <= int(numbers[0]) <= int(
            numbers[1]
        ):
            raise located(InvalidArgumentError("BUCKET x OUT OF y takes x from 1 to y"), table)
        field = sample.args.get("bucket_field")
        inner = table.copy()
        for key in ("sample", "alias", "joins"):
            inner.set(key, None)
        value = exp.Null() if field is None else exp.column(field.copy())
        bucket = exp.Anonymous(this=BUCKET, expressions=[value, exp.Literal.number(numbers[1])])
        chosen = exp.EQ(this=bucket, expression=exp.Literal.number(int(numbers[0]) - 1))
        body = exp.Select(
            expressions=[exp.Star()],
            from_=exp.From(this=inner),
            where=exp.Where(this=chosen),
        )
        alias = exp.TableAlias(this=exp.to_identifier(table.alias_or_name, quoted=True))
        table.replace(exp.Subquery(this=body, alias=alias, joins=table.args.get("joins")))


def check_named_queries(query: exp.Expr) -> None:
    """Refuses a query of WITH that has fewer columns than its name lists.

    Raises:
        InvalidArgumentError: naming it.
    """
    for cte in query.find_all(exp.CTE):
        alias, body = cte.args["alias"], cte.this
        if not alias.columns or not isinstance(body, exp.Select):
            continue
        items = body.expressions
        plain = not any(
            isinstance(node, exp.Aliases) or node.find(exp.Star) is not None for node in items
        )
        makers = any(
            node.name.lower() in ROW_MAKERS
            for item in items
            for node in item.find_all(exp.Anonymous)
        )
        if plain and not makers and len(alias.columns) != len(items):
            message = f"{cte.alias} names {len(alias.columns)} columns, its query has {len(items)}"
            raise located(InvalidArgumentError(message), cte)
