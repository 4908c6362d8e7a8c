"""Queries of MaxCompute's dialect as DuckDB's SQL, and what they read of which tables.

A tree is prepared first: tables become numbered relations, views their queries; per relation it is
worked out which columns the query mentions and which of its conditions a scan can prune by. Then it is
written out by a generator of DuckDB's SQL that knows MaxCompute's functions, casts and operators.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from sqlglot.dialects.duckdb import DuckDB

from fletching.errors import FletchingError, InvalidArgumentError, ServiceError, SqlSyntaxError
from fletching.sql.conditions import joined
from fletching.sql.dialect import LITERALS, exp
from fletching.sql.functions import Call, Function, find_function, quoted
from fletching.sql.literal_nodes import unwrapped
from fletching.sql.predicates import Predicate, compile_condition
from fletching.types import TableName

__all__ = ["Source", "SourceView", "Translation", "WantedScan", "located", "translate"]


@dataclasses.dataclass(frozen=True)
class Source:
    """A table that a query reads.

    Attributes:
        name: its name.
        fields: its columns, partition columns last, as filters see them; by case-folded name.
        loose: whether a column cannot be pushed down to although it is there.
    """

    name: TableName
    fields: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class SourceView:
    """A view that a query reads: its own query, with the names of its columns."""

    name: TableName
    query: Any
    columns: tuple[str, ...] = ()


Resolve = Callable[[Any], Source | SourceView]
"""Looks up what a table node names."""


@dataclasses.dataclass
class WantedScan:
    """One mention of a table in a query.

    Attributes:
        relation: its name in DuckDB's SQL.
        source: the table.
        alias: its name in the query.
        columns: the columns that the query mentions, in the table's order; at least one.
        predicate: what the scan can prune by, or None; the query asks it again.
        pushed: the conditions of the predicate, as written.
    """

    relation: str
    source: Source
    alias: str
    columns: tuple[str, ...] = ()
    predicate: Predicate | None = None
    pushed: list[str] = dataclasses.field(default_factory=list)
    _conditions: list[Predicate] = dataclasses.field(default_factory=list)

    def push(self, node: Any, predicate: Predicate) -> None:
        """Adds a condition that every wanted row fulfils."""
        self.pushed.append(node.sql(dialect="hive"))
        self._conditions.append(predicate)
        names = dict.fromkeys(name for one in self._conditions for name in one.columns)
        condition = joined([one.condition for one in self._conditions], all_of=True)
        self.predicate = Predicate(condition, tuple(names))


@dataclasses.dataclass(frozen=True)
class Translation:
    """A query for DuckDB and the relations that it reads."""

    sql: str
    scans: tuple[WantedScan, ...]


def located(
    error: FletchingError, node: Any, kind: type[ServiceError] = InvalidArgumentError
) -> ServiceError:
    """An error with the line and column of what it is about, as far as they are known."""
    if " at line " in error.message:
        return kind(error.message)
    for part in node.walk():
        meta = part.meta
        if "line" in meta:
            # sqlglot counts to a token's last character.
            column = meta["col"] - (meta.get("end", 0) - meta.get("start", 0))
            return kind(f"{error.message}, at line {meta['line']}, column {column}")
    return kind(error.message)


def translate(
    query: Any,
    resolve: Resolve,
    *,
    now: str,
    fold: Callable[[str], Any] | None = None,
) -> Translation:
    """Translates a query.

    Args:
        query: its tree; left as it is.
        resolve: looks tables and views up.
        now: the statement's moment as DuckDB's literal.
        fold: computes a constant expression of DuckDB's SQL to a tree of a literal, or None.

    Raises:
        InvalidArgumentError: it uses a function, type or clause that is not known.
        FletchingError: as ``resolve``.
    """
    prepared = _Prepared(query.copy(), resolve)
    writer = Writer(prepared.kinds, now)
    try:
        if fold is not None:
            prepared.push_down(lambda node: fold(writer.generate(node)))
        else:
            prepared.push_down(None)
        sql = writer.generate(prepared.query, copy=False)
    except RecursionError as error:
        raise SqlSyntaxError("the statement nests too deeply") from error
    return Translation(sql, tuple(prepared.scans))


# --- preparation -----------------------------------------------------------------------------


class _Prepared:
    """A query's tree with its tables replaced, and what is known of them."""

    def __init__(self, query: Any, resolve: Resolve) -> None:
        self._resolve = resolve
        self.scans: list[WantedScan] = []
        self._scan_of: dict[int, WantedScan] = {}
        self.query = query
        self._tables(query, frozenset(), 0)
        _name_columns(self.query)
        _order_sorted(self.query)
        self._choose_columns()
        self.kinds = self._kinds()

    # --- tables ------------------------------------------------------------------------------

    def _tables(self, node: Any, known: frozenset[str], depth: int) -> None:
        """Replaces the tables below a node; ``known`` are the names of WITH that it sees."""
        if depth > 16:
            raise InvalidArgumentError("views nest too deeply, or contain themselves")
        with_ = node.args.get("with_")
        if with_ is not None:
            for cte in with_.expressions:
                self._tables(cte.this, known, depth)
                known |= {cte.alias.casefold()}
        for child in list(_children(node)):
            if child is with_:
                continue
            if isinstance(child, exp.Table):
                self._table(child, known, depth)
                for part in _children(child):
                    if not isinstance(part, exp.Identifier | exp.TableAlias):
                        self._tables(part, known, depth)
            else:
                self._tables(child, known, depth)

    def _table(self, node: Any, known: frozenset[str], depth: int) -> None:
        if not isinstance(node.this, exp.Identifier | exp.Parameter):
            if isinstance(node.this, exp.Anonymous):
                raise located(InvalidArgumentError(f"{node.this.name} is no table"), node)
            return
        if not node.db and node.name.casefold() in known:
            return
        try:
            source = self._resolve(node)
        except InvalidArgumentError as error:
            raise located(error, node) from error
        alias = node.alias or node.name
        if isinstance(source, SourceView):
            body = source.query.copy()
            self._tables(body, frozenset(), depth + 1)
            columns = [exp.to_identifier(name, quoted=True) for name in source.columns]
            named = exp.TableAlias(this=exp.to_identifier(alias, quoted=True), columns=columns)
            replaced = exp.Subquery(this=body, alias=named, joins=node.args.get("joins"))
            node.replace(replaced)
            return
        scan = WantedScan(f"_scan{len(self.scans)}", source, alias)
        self.scans.append(scan)
        self._scan_of[id(node)] = scan
        node.set("this", exp.to_identifier(scan.relation))
        node.set("db", None)
        node.set("catalog", None)
        if not node.alias:
            node.set("alias", exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))

    def scans_of(self, select: Any) -> Iterator[tuple[Any, WantedScan | None, Any]]:
        """What a SELECT reads: the node, the scan if it is a table, and the join that brings it."""
        first = select.args.get("from_")
        if first is not None:
            yield first.this, self._scan_of.get(id(first.this)), None
            for join in first.this.args.get("joins") or ():
                yield join.this, self._scan_of.get(id(join.this)), join
        for join in select.args.get("joins") or ():
            yield join.this, self._scan_of.get(id(join.this)), join

    # --- columns -----------------------------------------------------------------------------

    def _choose_columns(self) -> None:
        mentioned: set[str] = set()
        starred: set[int] = set()
        for node in self.query.walk():
            if isinstance(node, exp.Identifier):
                mentioned.add(node.name.casefold())
            if isinstance(node, exp.Select):
                stars = [
                    item
                    for item in node.expressions
                    if isinstance(item, exp.Star)
                    or (isinstance(item, exp.Column) and isinstance(item.this, exp.Star))
                ]
                natural = any(join.method for join in node.args.get("joins") or ())
                for _, scan, _ in self.scans_of(node):
                    if scan is None:
                        continue
                    named = {
                        item.table.casefold() for item in stars if isinstance(item, exp.Column)
                    }
                    every = any(isinstance(item, exp.Star) for item in stars) or natural
                    if every or scan.alias.casefold() in named:
                        starred.add(id(scan))
        for scan in self.scans:
            fields = scan.source.fields
            wanted = [
                field.name
                for name, field in fields.items()
                if id(scan) in starred or name in mentioned
            ]
            scan.columns = tuple(wanted or [_cheapest(fields)])

    def _kinds(self) -> dict[str, str]:
        """What kind of value a name stands for, where all that bear it agree."""
        found: dict[str, set[str]] = {}
        for scan in self.scans:
            for name, field in scan.source.fields.items():
                found.setdefault(name, set()).add(_kind_of_type(field.type))
        kinds = {name: next(iter(kinds)) for name, kinds in found.items() if len(kinds) == 1}
        for node in self.query.find_all(exp.Alias, exp.TableAlias, exp.Lambda):
            names = [node.alias] if isinstance(node, exp.Alias) else []
            if isinstance(node, exp.TableAlias):
                names = [column.name for column in node.columns]
            if isinstance(node, exp.Lambda):
                names = [argument.name for argument in node.expressions]
            for name in names:
                target = node.this if isinstance(node, exp.Alias) else None
                own = isinstance(target, exp.Column) and target.name.casefold() == name.casefold()
                if not own:
                    kinds.pop(name.casefold(), None)
        return kinds

    # --- conditions --------------------------------------------------------------------------

    def push_down(self, fold: Callable[[Any], Any] | None) -> None:
        """Finds the conditions that scans can prune by."""
        for select in self.query.find_all(exp.Select):
            sources = list(self.scans_of(select))
            if any(join is not None and join.method for _, _, join in sources):
                continue
            nullable = _nullable(sources)
            kept = [scan for _, scan, _ in sources if scan and id(scan) not in nullable]
            where = select.args.get("where")
            if where is not None:
                for part in _conjuncts(where.this):
                    self._push(part, sources, kept, fold)
            for _, scan, join in sources:
                on = None if join is None else join.args.get("on")
                if on is None or join.side in {"RIGHT", "FULL"}:
                    continue
                inner = not join.side and join.kind in {"", "INNER", "CROSS"}
                for part in _conjuncts(on):
                    if inner and not nullable:
                        self._push(part, sources, kept, fold)
                    elif scan is not None:
                        self._push(part, sources, [scan], fold)

    def _push(
        self,
        part: Any,
        sources: Sequence[tuple[Any, WantedScan | None, Any]],
        allowed: Sequence[WantedScan],
        fold: Callable[[Any], Any] | None,
    ) -> None:
        if part.find(exp.Query, exp.Window, exp.Lambda) is not None:
            return
        scan = self._only_scan(part, sources)
        if scan is None or not any(scan is one for one in allowed):
            return
        fields = scan.source.fields
        if scan.alias.casefold() in fields:
            return  # st.a could be either
        tree = part.copy()
        if fold is not None:
            tree = _folded(tree, fold)
        try:
            predicate = compile_condition(tree, fields, table=scan.alias, nan_greatest=True)
        except FletchingError:
            return  # DuckDB answers it alone
        scan.push(part, predicate)

    @staticmethod
    def _only_scan(
        part: Any, sources: Sequence[tuple[Any, WantedScan | None, Any]]
    ) -> WantedScan | None:
        """The one table that all columns of a condition belong to."""
        aliases = {node.alias_or_name.casefold(): scan for node, scan, _ in sources}
        found: dict[int, WantedScan] = {}
        for column in part.find_all(exp.Column):
            first = column.parts[0].name.casefold()
            if len(column.parts) > 1 and first in aliases:
                scan = aliases[first]
            else:
                if any(scan is None for scan in aliases.values()):
                    return None
                having = [scan for scan in aliases.values() if scan and first in scan.source.fields]
                scan = having[0] if len(having) == 1 else None
            if scan is None:
                return None
            found[id(scan)] = scan
        return next(iter(found.values())) if len(found) == 1 else None


def _children(node: Any) -> Iterator[Any]:
    for value in node.args.values():
        for item in value if isinstance(value, list) else (value,):
            if isinstance(item, exp.Expression):
                yield item


def _conjuncts(node: Any) -> Iterator[Any]:
    stack = [node]
    while stack:
        item = unwrapped(stack.pop())
        if isinstance(item, exp.And):
            stack += [item.expression, item.this]
        else:
            yield item


def _nullable(sources: Sequence[tuple[Any, WantedScan | None, Any]]) -> set[int]:
    """The tables whose rows an outer join may replace by nulls."""
    found: set[int] = set()
    before: list[int] = []
    for _, scan, join in sources:
        side = "" if join is None else join.side
        if side in {"RIGHT", "FULL"}:
            found.update(before)
        if side in {"LEFT", "FULL"} and join.kind not in {"SEMI", "ANTI"} and scan is not None:
            found.add(id(scan))
        if scan is not None:
            before.append(id(scan))
    return found


_LITERAL = (exp.Literal, exp.Null, exp.Boolean, exp.HexString)


def _folded(tree: Any, fold: Callable[[Any], Any]) -> Any:
    """Replaces what is constant, and more than a literal, by what it computes to."""

    def replace(node: Any) -> Any:
        computed = isinstance(
            node,
            exp.Anonymous
            | exp.Binary
            | exp.Cast
            | exp.CurrentDate
            | exp.CurrentTimestamp
            | exp.Neg,
        ) and not isinstance(node, exp.Predicate | exp.Connector | exp.Dot)
        if not computed or node.find(exp.Column, exp.Query, exp.Star) is not None:
            return node
        if isinstance(node, exp.Cast | exp.Neg) and isinstance(unwrapped(node.this), _LITERAL):
            return node  # a literal with a type or sign
        if any(call.name.lower() in {"rand", "uuid"} for call in node.find_all(exp.Anonymous)):
            return node
        literal = fold(node)
        return node if literal is None else literal

    return tree.transform(replace)


def _order_sorted(query: Any) -> None:
    """SORT BY and CLUSTER BY order the rows of each worker: here there is one, so all of them."""
    for select in query.find_all(exp.Select):
        found = select.args.get("sort") or select.args.get("cluster")
        if found is not None and select.args.get("order") is None:
            select.set("order", exp.Order(expressions=found.expressions))
        for key in ("sort", "cluster", "distribute"):
            select.set(key, None)


def _name_columns(query: Any) -> None:
    """Gives expressions without a name the names that MaxCompute gives: ``_c0``, ``_c1``, ..."""
    while isinstance(query, exp.SetOperation | exp.Subquery):
        query = query.this
    if not isinstance(query, exp.Select):
        return
    items = []
    for number, item in enumerate(query.expressions):
        plain = isinstance(item, exp.Column | exp.Alias | exp.Star | exp.Aliases | exp.Dot)
        if isinstance(item, exp.Anonymous) and item.name.lower() == "explode":
            items.append(exp.alias_(item, "col"))
        else:
            items.append(item if plain else exp.alias_(item, f"_c{number}"))
    query.set("expressions", items)


def _cheapest(fields: Mapping[str, Any]) -> str:
    """The column that takes least to read, for a query that only counts rows."""

    def width(field: Any) -> int:
        try:
            return int(field.type.bit_width)
        except ValueError:
            return 1 << 20

    name: str = min(fields.values(), key=width).name
    return name


def _kind_of_type(data_type: Any) -> str:
    types = pa.types
    for kind, checks in (
        ("whole", (types.is_integer,)),
        ("double", (types.is_floating,)),
        ("decimal", (types.is_decimal,)),
        ("text", (types.is_string, types.is_large_string)),
        ("date", (types.is_date,)),
        ("time", (types.is_timestamp,)),
        ("boolean", (types.is_boolean,)),
        ("binary", (types.is_binary, types.is_large_binary)),
        ("map", (types.is_map,)),
        ("array", (types.is_list, types.is_large_list, types.is_fixed_size_list)),
    ):
        if any(check(data_type) for check in checks):
            return kind
    return ""


# --- writing ---------------------------------------------------------------------------------

_T = exp.DataType.Type
_KINDS_OF_SQL = {
    **dict.fromkeys([_T.TINYINT, _T.SMALLINT, _T.INT, _T.BIGINT], "whole"),
    **dict.fromkeys([_T.DOUBLE, _T.FLOAT], "double"),
    **dict.fromkeys([_T.TEXT, _T.VARCHAR, _T.CHAR], "text"),
    **dict.fromkeys([_T.TIMESTAMP, _T.DATETIME, _T.TIMESTAMPNTZ], "time"),
    _T.DECIMAL: "decimal",
    _T.DATE: "date",
    _T.BOOLEAN: "boolean",
    _T.BINARY: "binary",
    _T.ARRAY: "array",
    _T.MAP: "map",
}
_DUCK_TYPES = {
    _T.TINYINT: "TINYINT",
    _T.SMALLINT: "SMALLINT",
    _T.INT: "INTEGER",
    _T.BIGINT: "BIGINT",
    _T.DOUBLE: "DOUBLE",
    _T.FLOAT: "FLOAT",
    _T.TEXT: "VARCHAR",
    _T.VARCHAR: "VARCHAR",
    _T.CHAR: "VARCHAR",
    _T.TIMESTAMP: "TIMESTAMP_NS",
    _T.TIMESTAMPNTZ: "TIMESTAMP_NS",
    _T.DATETIME: "TIMESTAMP_MS",
    _T.DATE: "DATE",
    _T.BOOLEAN: "BOOLEAN",
    _T.BINARY: "BLOB",
    _T.JSON: "VARCHAR",
}


class Writer(DuckDB.Generator):  # type: ignore[misc,valid-type]  # sqlglot has no types for it
    """Writes trees of MaxCompute's dialect as DuckDB's SQL."""

    def __init__(self, kinds: Mapping[str, str], now: str) -> None:
        """Knows the kinds of columns, and the statement's moment."""
        super().__init__(identify=True, dialect="duckdb", comments=False)
        self._column_kinds = kinds
        self._now = now

    # --- kinds -------------------------------------------------------------------------------

    def kind(self, node: Any) -> str:
        """What is known of an expression's type."""
        node = unwrapped(node)
        match node:
            case exp.Column() if len(node.parts) <= 2:
                return self._column_kinds.get(node.name.casefold(), "")
            case exp.Literal():
                if node.is_string:
                    return "text"
                if "e" in node.name.lower():
                    return "double"
                return "decimal" if "." in node.name else "whole"
            case exp.Cast():
                return _KINDS_OF_SQL.get(node.to.this, "")
            case exp.Boolean() | exp.Predicate() | exp.Connector() | exp.Not():
                return "boolean"
            case exp.CurrentDate():
                return "date"
            case exp.CurrentTimestamp():
                return "time"
            case exp.Div():
                return "double"
            case exp.IntDiv():
                return "whole"
            case exp.DPipe() | exp.Concat():
                return "text"
            case exp.Add() | exp.Sub() | exp.Mul() | exp.Mod():
                both = {self.kind(node.this), self.kind(node.expression)}
                for kind in ("double", "decimal"):
                    if kind in both:
                        return kind
                return "whole" if both == {"whole"} else ""
            case exp.Neg() | exp.Alias():
                return self.kind(node.this)
            case exp.Case():
                values = [one.args["true"] for one in node.args["ifs"]]
                kinds = {self.kind(value) for value in [*values, node.args.get("default")] if value}
                return kinds.pop() if len(kinds) == 1 else ""
            case exp.Anonymous():
                return self._kind_of_call(node)
        return ""

    def _kind_of_call(self, node: Any) -> str:
        name = node.name.lower()
        if name == "to_date":
            return "date" if len(node.expressions) == 1 else "time"
        if name in {"dateadd", "datetrunc"}:
            return "date" if self.kind(node.expressions[0]) == "date" else "time"
        if name == "from_unixtime":
            return "time" if len(node.expressions) == 1 else "text"
        if name == "last_day":
            return "date"
        try:
            found = find_function(name)
        except InvalidArgumentError:
            return ""
        first = {
            "min", "max", "sum", "coalesce", "nvl", "abs", "greatest", "least", "any_value",
            "first_value", "last_value", "lag", "lead", "nullif", "reverse", "round", "ifnull",
        }  # fmt: skip
        if name in first and node.expressions:
            return self.kind(node.expressions[0])
        if name == "if" and len(node.expressions) > 1:
            return self.kind(node.expressions[1])
        if name == "concat":
            return "array" if "array" in map(self.kind, node.expressions) else "text"
        return found.kind

    # --- functions ---------------------------------------------------------------------------

    def _call(
        self,
        node: Any,
        *,
        over: str = "",
        nulls: str = "",
        order: str = "",
    ) -> str:
        name = node.name
        try:
            function = find_function(name)
            arguments = list(node.expressions)
            distinct = len(arguments) == 1 and isinstance(arguments[0], exp.Distinct)
            if distinct:
                arguments = list(arguments[0].expressions)
            lowered = name.lower()
            if lowered in {"first_value", "last_value"} and len(arguments) == 2:
                nulls = " IGNORE NULLS" if arguments.pop().name.lower() == "true" else nulls
            texts = [self.sql(one) for one in arguments]
            call = Call(
                name,
                texts,
                [
                    one.name if isinstance(one, exp.Literal) and one.is_string else None
                    for one in arguments
                ],
                [self.kind(one) for one in arguments],
                self._now,
            )
            _check_aggregate(name, function, plain=not (over or nulls or distinct or order))
            if distinct and lowered == "count" and len(texts) > 1:
                missing = " OR ".join(f"{one} IS NULL" for one in texts)
                row = f"CASE WHEN {missing} THEN NULL ELSE ({', '.join(texts)}) END"
                call = dataclasses.replace(call, arguments=[row])
            made = function.sql(call, over=over, nulls=nulls, order=order)
            if distinct:
                made = _with_distinct(name, made)
        except InvalidArgumentError as error:
            raise located(error, node) from error
        return made

    def anonymous_sql(self, expression: Any) -> str:
        """A function by our own table."""
        return self._call(expression)

    def window_sql(self, expression: Any) -> str:
        """OVER, at its place inside what the function becomes."""
        inner, nulls, filtered = expression.this, "", ""
        if isinstance(inner, exp.IgnoreNulls | exp.RespectNulls):
            nulls = " IGNORE NULLS" if isinstance(inner, exp.IgnoreNulls) else ""
            inner = inner.this
        if isinstance(inner, exp.Filter):
            filtered = f" FILTER({self.sql(inner, 'expression').strip()})"
            inner = inner.this
        if not isinstance(inner, exp.Anonymous):
            return str(super().window_sql(expression))
        stand_in = expression.copy()
        stand_in.set("this", exp.var("_"))
        over = str(super().window_sql(stand_in))[1:]
        return self._call(inner, over=filtered + over, nulls=nulls)

    def filter_sql(self, expression: Any) -> str:
        """FILTER of an aggregate."""
        if not isinstance(expression.this, exp.Anonymous):
            return str(super().filter_sql(expression))
        return self._call(
            expression.this, over=f" FILTER({self.sql(expression, 'expression').strip()})"
        )

    def withingroup_sql(self, expression: Any) -> str:
        """WITHIN GROUP (ORDER BY ..) of wm_concat and the collecting aggregates."""
        if not isinstance(expression.this, exp.Anonymous):
            return str(super().withingroup_sql(expression))
        order = self.sql(expression, "expression").strip()
        name = expression.this.name.lower()
        if name not in {"wm_concat", "collect_list", "collect_set", "array_agg"}:
            raise located(InvalidArgumentError(f"{name} takes no WITHIN GROUP"), expression)
        return self._call(expression.this, order=order)

    def currenttimestamp_sql(self, expression: Any) -> str:
        """The statement's moment: the same in every row."""
        del expression
        return f"CAST({self._now} AS TIMESTAMP_MS)"

    def currentdate_sql(self, expression: Any) -> str:
        """The statement's day."""
        del expression
        return f"CAST({self._now} AS DATE)"

    # --- types -------------------------------------------------------------------------------

    def duck_type(self, data_type: Any) -> str:
        """A type of MaxCompute's as DuckDB's.

        Raises:
            InvalidArgumentError: there is none.
        """
        kind = data_type.this
        inner = data_type.expressions
        if kind in _DUCK_TYPES:
            return _DUCK_TYPES[kind]
        if kind is _T.DECIMAL:
            sizes = [int(item.name) for item in inner if item.name.isdecimal()] or [38, 18]
            precision, scale = (*sizes, 0)[:2]
            if not 0 < precision <= 38 or scale > precision:
                raise InvalidArgumentError(f"DECIMAL({precision},{scale}) has more than 38 digits")
            return f"DECIMAL({precision}, {scale})"
        if kind in {_T.ARRAY, _T.LIST} and len(inner) == 1:
            return f"{self.duck_type(inner[0])}[]"
        if kind is _T.MAP and len(inner) == 2:
            return f"MAP({self.duck_type(inner[0])}, {self.duck_type(inner[1])})"
        if kind is _T.STRUCT:
            fields = [
                f"{self.sql(exp.to_identifier(item.name, quoted=True))} {self.duck_type(item.args['kind'])}"
                for item in inner
            ]
            return f"STRUCT({', '.join(fields)})"
        raise InvalidArgumentError(f"there is no conversion to the type {data_type.sql()[:60]}")

    def cast_sql(self, expression: Any, safe_prefix: str | None = None) -> str:
        """CAST: null where the value has no form in the type; whole numbers are cut, not rounded."""
        del safe_prefix
        try:
            wanted = self.duck_type(expression.to)
        except InvalidArgumentError as error:
            raise located(error, expression) from error
        value = unwrapped(expression.this)
        text = self.sql(value)
        if isinstance(expression, exp.TryCast) and isinstance(value, exp.Literal):
            if not value.is_string and value.name.isdecimal():
                return f"TRY_CAST({text} AS {wanted})"
            if value.is_string and wanted.startswith("DECIMAL"):
                return f"CAST({text} AS {wanted})" if _is_number(value.name) else "NULL"
        whole = wanted in {"TINYINT", "SMALLINT", "INTEGER", "BIGINT"}
        kind = self.kind(value)
        if whole and kind in {"double", "decimal"}:
            text = f"trunc({text})"
        elif whole and kind == "text":
            # Texts with a fraction are cut as well.
            text = f"regexp_replace({text}, '\\..*$', '')"
        elif whole and kind == "time":
            text = f"epoch({text})"
        elif wanted == "VARCHAR" and kind == "binary":
            return f"decode({text})"
        elif wanted == "BLOB" and kind == "text":
            return f"encode({text})"
        made = f"TRY_CAST({text} AS {wanted})"
        sizes = [int(item.name) for item in expression.to.expressions if item.name.isdecimal()]
        if wanted == "VARCHAR" and sizes:
            return f"left({made}, {sizes[0]})"
        return made

    def trycast_sql(self, expression: Any) -> str:
        """As CAST."""
        return self.cast_sql(expression)

    # --- operators ---------------------------------------------------------------------------

    def div_sql(self, expression: Any) -> str:
        """Division; by zero it is null."""
        left, right = self.sql(expression, "this"), self.sql(expression, "expression")
        return f"({left} / nullif({right}, 0))"

    def mod_sql(self, expression: Any) -> str:
        """The remainder; by zero it is null."""
        left, right = self.sql(expression, "this"), self.sql(expression, "expression")
        return f"({left} % nullif({right}, 0))"

    def intdiv_sql(self, expression: Any) -> str:
        """Whole division; by zero it is null."""
        left, right = self.sql(expression, "this"), self.sql(expression, "expression")
        return f"({left} // nullif({right}, 0))"

    def dpipe_sql(self, expression: Any) -> str:
        """Texts joined."""
        left, right = self.sql(expression, "this"), self.sql(expression, "expression")
        return f"(CAST({left} AS VARCHAR) || CAST({right} AS VARCHAR))"

    def like_sql(self, expression: Any) -> str:
        """LIKE, whose escape is a backslash unless it says otherwise."""
        text = self.sql(expression, "this")
        if self.kind(expression.this) != "text":
            text = f"CAST({text} AS VARCHAR)"
        made = f"{text} LIKE {self.sql(expression, 'expression')}"
        if isinstance(expression.parent, exp.Escape):
            return made
        pattern = expression.expression
        if isinstance(pattern, exp.Literal) and "\\" not in pattern.name:
            negated = expression.args.get("negate")
            return f"(NOT {made})" if negated else made
        made += " ESCAPE '\\'"
        return f"(NOT {made})" if expression.args.get("negate") else made

    def escape_sql(self, expression: Any) -> str:
        """LIKE with an escape of its own."""
        made = f"{self.sql(expression, 'this')} ESCAPE {self.sql(expression, 'expression')}"
        return f"(NOT {made})" if expression.this.args.get("negate") else made

    def regexplike_sql(self, expression: Any) -> str:
        """RLIKE: a match anywhere."""
        return (
            f"regexp_matches({self.sql(expression, 'this')}, {self.sql(expression, 'expression')})"
        )

    def hexstring_sql(self, expression: Any, binary_function_repr: str | None = None) -> str:
        """X'00ff'."""
        del binary_function_repr
        return f"unhex({quoted(expression.name)})"

    def bracket_sql(self, expression: Any) -> str:
        """Elements of arrays, counted from 0, and of maps."""
        value = expression.this
        (key,) = expression.expressions
        text = self.sql(value)
        if self.kind(value) == "map" or self.kind(key) == "text":
            return f"{text}[{self.sql(key)}]"
        if isinstance(key, exp.Literal) and key.name.isdecimal():
            return f"{text}[{int(key.name) + 1}]"
        number = self.sql(key)
        return f"CASE WHEN {number} < 0 THEN NULL ELSE {text}[{number} + 1] END"

    def lambda_sql(self, expression: Any, arrow_sep: str = "->", wrap: bool = True) -> str:
        """A lambda: DuckDB's own spelling."""
        del arrow_sep, wrap
        names = ", ".join(self.sql(one) for one in expression.expressions)
        return f"lambda {names}: {self.sql(expression, 'this')}"

    def in_sql(self, expression: Any) -> str:
        """IN, also with a list that the parser kept as texts."""
        listed = expression.meta.get(LITERALS)
        if listed is None:
            return str(super().in_sql(expression))
        values = [quoted(text) if is_text else text for text, is_text in listed]
        return f"{self.sql(expression, 'this')} IN ({', '.join(values)})"

    def group_sql(self, expression: Any) -> str:
        """GROUP BY; ``WITH ROLLUP`` and ``WITH CUBE`` in the form that DuckDB has."""
        if expression.args.get("grouping_sets") and expression.expressions:
            # The columns before GROUPING SETS say which there are, not how they are grouped.
            expression = expression.copy()
            expression.set("expressions", None)
        for key, kind in (("rollup", exp.Rollup), ("cube", exp.Cube)):
            found = expression.args.get(key) or []
            if any(isinstance(one, kind) and not one.expressions for one in found):
                changed = expression.copy()
                changed.set(key, [kind(expressions=changed.expressions)])
                changed.set("expressions", None)
                return str(super().group_sql(changed))
        return str(super().group_sql(expression))

    # --- clauses -----------------------------------------------------------------------------

    def hint_sql(self, expression: Any) -> str:
        """Hints choose how, not what."""
        del expression
        return ""

    def lateral_sql(self, expression: Any) -> str:
        """LATERAL VIEW of explode and posexplode."""
        call = expression.this
        alias = expression.args.get("alias")
        table = alias.name if alias is not None else "_lateral"
        names = [column.name for column in alias.columns] if alias is not None else []
        kind = call.name.lower() if isinstance(call, exp.Anonymous) else ""
        if kind not in {"explode", "posexplode"} or len(call.expressions) != 1:
            raise located(
                InvalidArgumentError("LATERAL VIEW takes explode(..) or posexplode(..)"), expression
            )
        value = self.sql(call.expressions[0])
        is_map = self.kind(call.expressions[0]) == "map" or len(names) == (
            2 if kind == "explode" else 3
        )
        items = [("generate_subscripts({0}, 1) - 1", "pos")] if kind == "posexplode" else []
        if is_map:
            value = f"map_entries({value})"
            items += [("unnest({0}).key", "key"), ("unnest({0}).value", "value")]
        else:
            items += [("unnest({0})", "col")]
        if names and len(names) != len(items):
            raise located(
                InvalidArgumentError(f"{kind} gives {len(items)} columns, not {len(names)}"),
                expression,
            )
        columns = names or [name for _, name in items]
        chosen = ", ".join(
            f"{template.replace('{0}', value)} AS {_identifier(name)}"
            for (template, _), name in zip(items, columns, strict=True)
        )
        join = "LEFT JOIN LATERAL" if expression.args.get("outer") else "JOIN LATERAL"
        return f" {join} (SELECT {chosen}) AS {_identifier(table)} ON TRUE"


def _check_aggregate(name: str, function: Function, *, plain: bool) -> None:
    if not plain and not function.aggregate:
        raise InvalidArgumentError(f"{name} is no aggregate: it takes no OVER or DISTINCT")


def _with_distinct(name: str, made: str) -> str:
    """An aggregate of distinct values."""
    head, bracket, rest = made.partition("(")
    if not head.replace("_", "").isalnum() or head in {"coalesce", "CAST"}:
        raise InvalidArgumentError(f"{name} takes no DISTINCT")
    return f"{head}{bracket}DISTINCT {rest}"


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _is_number(text: str) -> bool:
    from fletching.sql.literals import parse_number

    return parse_number(text) is not None
