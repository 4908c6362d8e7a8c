"""The types of a query's expressions, worked out from those of the tables that it reads.

One pass over the tree, scope by scope: each SELECT sees what its FROM, its LATERAL VIEWs and the queries
around it name. The type of each expression is left in its node's ``meta``; what is not known stays unknown,
and the writer then leaves the conversion to DuckDB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from fletching.errors import InvalidArgumentError
from fletching.sql.functions.sql_types import (
    BIGINT,
    BINARY,
    BOOLEAN,
    DATE,
    DATETIME,
    DOUBLE,
    INT,
    INTERVAL_DAY_TIME,
    INTERVAL_YEAR_MONTH,
    NULL,
    STRING,
    UNKNOWN,
    SqlType,
    common_type,
    decimal,
    decimal_of,
    quotient_type,
    type_of_cast,
    undeclared,
)
from fletching.sql.parsing.dialect import exp
from fletching.sql.queries.name_scopes import Columns, Scope
from fletching.sql.queries.query_sources import located

__all__ = ["Columns", "add_types", "set_type", "type_of"]

_TYPE = "fletching_type"

_TAKEN_FOR_CALLS = frozenset(
    {
        *("current_catalog", "current_date", "current_role", "current_schema", "current_time"),
        *(
            "current_timestamp",
            "current_user",
            "localtime",
            "localtimestamp",
            "session_user",
            "user",
        ),
    }
)
"""Names that DuckDB takes for calls of its own where there is no such column."""

CallType = Callable[[exp.Expr, Sequence[SqlType]], SqlType]
"""The type of a call, from its node and the types of its arguments."""


def type_of(node: exp.Expr) -> SqlType:
    """The type that was found for an expression."""
    while isinstance(node, exp.Paren):
        node = node.this
    result: SqlType = node.meta.get(_TYPE, UNKNOWN)
    return result


def add_types(query: exp.Expr, tables: Mapping[int, Columns], call_type: CallType) -> Columns:
    """Finds the types of a query's expressions.

    Args:
        query: its tree; types are left in it.
        tables: columns of the tables, by the id of their nodes.
        call_type: tells the types of functions.

    Returns:
        The columns of the result.
    """
    return _Pass(tables, call_type).query(query, Scope())


class _Pass:
    def __init__(self, tables: Mapping[int, Columns], call_type: CallType) -> None:
        self._tables = tables
        self._call_type = call_type

    # --- queries -----------------------------------------------------------------------------

    def query(self, node: exp.Expr, outer: Scope) -> Columns:
        """Goes through a query and returns its columns."""
        scope = Scope(outer)
        with_ = node.args.get("with_")
        for cte in with_.expressions if with_ is not None else ():
            result = self.query(cte.this, scope)
            scope.ctes[cte.alias.casefold()] = _renamed(result, cte.args.get("alias"))
        if isinstance(node, exp.Select):
            return self._select(node, scope)
        if isinstance(node, exp.SetOperation):
            left, right = self.query(node.this, scope), self.query(node.expression, scope)
            pairs = zip(left.items(), right.values(), strict=False)
            made = {name: common_type([item, other]) for (name, item), other in pairs}
            scope.sources[""] = made
            for key in ("order", "limit", "offset"):
                self._expressions(node.args.get(key), scope)
            return made
        if isinstance(node, exp.Subquery):
            result = self.query(node.this, scope)
            return _renamed(result, node.args.get("alias"))
        if isinstance(node, exp.Values):
            return self._values(node, scope)
        return {}

    def _select(self, node: exp.Expr, scope: Scope) -> Columns:
        first = node.args.get("from_")
        joins = list(node.args.get("joins") or ())
        if first is not None:
            self._source(first.this, scope)
            joins = [*(first.this.args.get("joins") or ()), *joins]
        for join in joins:
            self._source(join.this, scope)
        for lateral in node.args.get("laterals") or ():
            self._lateral(lateral, scope)
        for join in joins:
            self._expressions(join.args.get("on"), scope)
        self._expressions(node.args.get("where"), scope)
        made: Columns = {}
        for item in node.expressions:
            self._expressions(item, scope)
            self._output(item, scope, made)
        inner = Scope(scope, names={k: v for k, v in made.items() if k})
        inner.sources = scope.sources
        for key in ("group", "having", "qualify", "order", "sort", "cluster", "distribute"):
            self._expressions(node.args.get(key), inner)
        for window in node.args.get("windows") or ():
            self._expressions(window, inner)
        return made

    def _output(self, item: exp.Expr, scope: Scope, made: Columns) -> None:
        star = item.this if isinstance(item, exp.Column) else item
        if isinstance(star, exp.Star):
            named = item.table.casefold() if isinstance(item, exp.Column) else ""
            left_out = {column.name.casefold() for column in star.args.get("except_") or ()}
            for alias, columns in scope.sources.items():
                if named in {"", alias}:
                    for name, result in columns.items():
                        if name not in left_out:
                            _add(made, name, result)
            return
        if isinstance(item, exp.Aliases):
            return
        _add(made, item.alias_or_name.casefold() or f"_c{len(made)}", type_of(item))

    def _source(self, node: exp.Expr, scope: Scope) -> None:
        alias = node.alias_or_name.casefold()
        if isinstance(node, exp.Table):
            columns = self._tables.get(id(node))
            if columns is None:
                columns = scope.cte(node.name.casefold()) or {}
            scope.sources[alias] = _renamed(columns, node.args.get("alias"))
        elif isinstance(node, exp.Lateral):
            inner = node.this
            result = self.query(inner, scope) if isinstance(inner, exp.Query) else {}
            scope.sources[alias] = _renamed(result, node.args.get("alias"))
        elif isinstance(node, exp.Query | exp.Values):
            scope.sources[alias] = self.query(node, scope)
            for join in node.args.get("joins") or ():
                self._source(join.this, scope)
                self._expressions(join.args.get("on"), scope)

    def _lateral(self, node: exp.Expr, scope: Scope) -> None:
        self._expressions(node.this, scope)
        alias = node.args.get("alias")
        if alias is None or not isinstance(node.this, exp.Anonymous):
            return
        types = _exploded(node.this)
        names = [column.name.casefold() for column in alias.columns]
        scope.sources[alias.name.casefold()] = {
            name: types[i] if i < len(types) else UNKNOWN for i, name in enumerate(names)
        }

    def _values(self, node: exp.Expr, scope: Scope) -> Columns:
        rows: list[list[SqlType]] = []
        for row in node.expressions:
            items = row.expressions if isinstance(row, exp.Tuple) else [row]
            for item in items:
                self._expressions(item, scope)
            rows.append([type_of(item) for item in items])
        alias = node.args.get("alias")
        names = [column.name.casefold() for column in alias.columns] if alias is not None else []
        width = max(map(len, rows), default=0)
        names += [f"col{i + 1}" for i in range(len(names), width)]
        return {
            name: common_type([row[i] for row in rows if i < len(row)])
            for i, name in enumerate(names)
        }

    # --- expressions -------------------------------------------------------------------------

    def _expressions(self, root: exp.Expr | None, scope: Scope) -> None:
        """Types everything below a node that is no clause of a query of its own."""
        if root is None:
            return
        inside = (exp.Query, exp.Lambda)
        # Breadth first and then backwards: whatever is inside comes before what it is inside of.
        nodes = list(root.walk(prune=lambda node: isinstance(node, inside)))
        for node in reversed(nodes):
            if isinstance(node, exp.Query):
                columns = list(self.query(node, scope).values())
                node.meta[_TYPE] = columns[0] if len(columns) == 1 else UNKNOWN
            elif not isinstance(node, exp.Lambda):
                if isinstance(node, exp.Func):
                    self._lambdas(node, scope)
                node.meta[_TYPE] = self._type(node, scope)

    def _lambdas(self, call: exp.Expr, scope: Scope) -> None:
        arguments = _arguments(call)
        lambdas = [item for item in arguments if isinstance(item, exp.Lambda)]
        if not lambdas:
            return
        plain = [type_of(item) for item in arguments if not isinstance(item, exp.Lambda)]
        name = _call_name(call)
        for item in lambdas:
            names = [parameter.name.casefold() for parameter in item.expressions]
            types = _parameters(name, plain, len(names))
            self._expressions(item.this, Scope(scope, names=dict(zip(names, types, strict=True))))
            item.meta[_TYPE] = type_of(item.this)

    def _type(self, node: exp.Expr, scope: Scope) -> SqlType:
        match node:
            case exp.Column():
                if isinstance(node.this, exp.Star):
                    return UNKNOWN
                parts = [part.name.casefold() for part in node.parts]
                if len(parts) == 1 and parts[0] in _TAKEN_FOR_CALLS and not scope.has(parts):
                    raise located(InvalidArgumentError(f"there is no column {node.name}"), node)
                return scope.column(parts)
            case exp.Identifier():
                # A parameter of a lambda is no column for the parser.
                return scope.names.get(node.name.casefold(), UNKNOWN)
            case exp.Anonymous():
                types = [type_of(item) for item in _arguments(node)]
                result = self._call_type(node, types)
                return result if node.name.lower() in _CHOOSING else _computed(result)
        return _type_of_node(node)


_CHOOSING = frozenset(
    [
        "coalesce",
        "nvl",
        "ifnull",
        "if",
        "max",
        "min",
        "any_value",
        "first_value",
        "last_value",
        "nth_value",
        "lag",
        "lead",
        "max_by",
        "min_by",
        "collect_list",
        "collect_set",
        "array",
    ]
)
"""Functions that give one of the values that they were given, or several."""


def _computed(sql_type: SqlType) -> SqlType:
    """The type of what a function computes: a text is any text then, a moment or interval of the kind it was."""
    kept = sql_type.kind == "time" or sql_type.declared in _INTERVALS
    return sql_type if kept else undeclared(sql_type)


_INTERVALS = frozenset(item.declared for item in (INTERVAL_DAY_TIME, INTERVAL_YEAR_MONTH))


def _type_of_node(node: exp.Expr) -> SqlType:
    match node:
        case exp.Literal():
            return _literal_type(node)
        case exp.Cast():
            return type_of_cast(node.to)
        case exp.Null():
            return NULL
        case exp.HexString():
            return BINARY
        case exp.CurrentDate():
            return DATE
        case exp.CurrentTimestamp():
            return DATETIME
        case exp.Interval():
            return SqlType("INTERVAL")
        case (
            exp.IntDiv() | exp.BitwiseAnd() | exp.BitwiseOr() | exp.BitwiseXor() | exp.BitwiseNot()
        ):
            return BIGINT
        case exp.DPipe() | exp.Concat() | exp.Trim():
            return STRING
        case exp.Extract():
            return INT
        case exp.Boolean() | exp.Predicate() | exp.Connector() | exp.Not() | exp.Exists():
            return BOOLEAN
        case exp.Div() | exp.Add() | exp.Sub() | exp.Mul() | exp.Mod():
            return _arithmetic(node)
        case exp.Paren() | exp.Neg() | exp.Alias() | exp.Distinct() if node.this is not None:
            return type_of(node.this)
        case (
            exp.Window() | exp.Filter() | exp.IgnoreNulls() | exp.RespectNulls() | exp.WithinGroup()
        ):
            return type_of(node.this)
        case exp.Ordered():
            return type_of(node.this)
        case exp.If():
            branches = [node.args.get("true"), node.args.get("false")]
            return common_type([type_of(item) for item in branches if item is not None])
        case exp.Case():
            values = [item.args["true"] for item in node.args["ifs"]]
            values.append(node.args.get("default"))
            return common_type([type_of(item) for item in values if item is not None])
        case exp.Dot():
            return type_of(node.this).field(node.expression.name)
        case exp.Bracket():
            inside = type_of(node.this)
            return inside if inside.declared == "json" else inside.element
        case exp.Distinct() if len(node.expressions) == 1:
            return type_of(node.expressions[0])
    return UNKNOWN


def _literal_type(node: exp.Expr) -> SqlType:
    if node.is_string:
        return STRING
    text = node.name.lower()
    if "e" in text:
        return DOUBLE
    if "." in text:
        before, _, behind = text.partition(".")
        return decimal(len(before.lstrip("0")) + len(behind), len(behind), loose=True)
    return INT if len(text) < 10 or int(text[:20] or 0) < 2**31 else BIGINT


def _arithmetic(node: exp.Expr) -> SqlType:
    left, right = type_of(node.this), type_of(node.expression)
    if left.kind in {"date", "time"} or right.kind in {"date", "time"}:
        moment = left if left.kind in {"date", "time"} else right
        other = right if moment is left else left
        if other.kind == "interval":
            unit = (node.expression if moment is left else node.this).args.get("unit")
            days = unit is not None and unit.name.upper().rstrip("S") in _DAYS
            return moment if moment.kind == "time" or days else DATETIME
        return UNKNOWN
    if left.kind == "text":
        left = DOUBLE
    if right.kind == "text":
        right = DOUBLE
    if left.kind == "null" or right.kind == "null":
        left = right = left if right.kind == "null" else right
    if not left.numeric or not right.numeric:
        return UNKNOWN
    kinds = {left.kind, right.kind}
    if isinstance(node, exp.Div):
        firm = [item for item in (left, right) if item.kind == "decimal" and not item.loose]
        return (
            quotient_type(decimal_of(left), decimal_of(right))
            if firm and "double" not in kinds
            else DOUBLE
        )
    if "double" in kinds:
        return DOUBLE if left.name != right.name else left
    if kinds == {"whole"}:
        return common_type([left, right])
    left, right = decimal_of(left), decimal_of(right)
    loose = left.loose and right.loose
    before = max(left.precision - left.scale, right.precision - right.scale)
    if isinstance(node, exp.Mul):
        scale = left.scale + right.scale
        return decimal(left.precision + right.precision, scale, loose=loose)
    scale = max(left.scale, right.scale)
    return decimal(before + scale + (0 if isinstance(node, exp.Mod) else 1), scale, loose=loose)


def _add(made: Columns, name: str, sql_type: SqlType) -> None:
    """Adds a column; a name that is there already cannot be meant by it alone."""
    name = name.partition("\0")[0]
    made[name if name not in made else f"{name}\0{len(made)}"] = sql_type


_DAYS = frozenset({"DAY", "WEEK", "MONTH", "QUARTER", "YEAR"})


def _renamed(columns: Columns, alias: exp.TableAlias | None) -> Columns:
    names = [column.name.casefold() for column in alias.columns] if alias is not None else []
    if not names:
        return columns
    return dict(zip(names, columns.values(), strict=False))


def _arguments(call: exp.Expr) -> list[exp.Expr]:
    if isinstance(call, exp.Anonymous):
        return list(call.expressions)
    return [*([call.this] if isinstance(call.this, exp.Expression) else []), *_rest(call)]


def _rest(call: exp.Expr) -> Iterator[exp.Expr]:
    for key, value in call.args.items():
        if key == "this":
            continue
        yield from (
            item
            for item in (value if isinstance(value, list) else [value])
            if isinstance(item, exp.Expression)
        )


def _call_name(call: exp.Expr) -> str:
    return str(
        call.sql_name()
        if isinstance(call, exp.Func) and not isinstance(call, exp.Anonymous)
        else call.name
    ).lower()


def _parameters(name: str, types: Sequence[SqlType], count: int) -> list[SqlType]:
    """The types of a lambda's parameters."""
    first = types[0] if types else UNKNOWN
    if first.name == "MAP":
        known = [*first.inner]
        if name == "map_zip_with" and len(types) > 1 and len(types[1].inner) == 2:
            known.append(types[1].inner[1])
    elif name in {"zip_with", "arrays_zip"}:
        known = [item.element for item in types]
    elif name in {"reduce", "aggregate", "array_reduce"}:
        known = [types[1] if len(types) > 1 else UNKNOWN, first.element]
    elif name == "array_sort":
        known = [first.element, first.element]
    else:
        known = [first.element, BIGINT]
    return [known[i] if i < len(known) else UNKNOWN for i in range(count)]


def _exploded(call: exp.Expr) -> list[SqlType]:
    """The types of the columns that a LATERAL VIEW gives."""
    name = call.name.lower()
    value = type_of(call.expressions[0]) if call.expressions else UNKNOWN
    if name in {"json_tuple", "parse_url_tuple", "keyvalue_tuple"}:
        return [STRING] * len(call.expressions)
    if name == "inline":
        return list(value.element.inner)
    if name == "stack":
        return []
    inner = list(value.inner) if value.name in {"ARRAY", "MAP"} else []
    return [BIGINT, *inner] if name == "posexplode" and inner else inner


def set_type(node: exp.Expr, sql_type: SqlType) -> None:
    """Says what type a node that was put in later has."""
    node.meta[_TYPE] = sql_type
