"""A query made ready to be written for DuckDB: its tables, its names, its types, what scans can prune by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from fletching.errors import FletchingError, InvalidArgumentError
from fletching.protocol.types.arrow_types import narrowest
from fletching.sql.functions.document_functions import json_type
from fletching.sql.functions.function_lookup import find_function
from fletching.sql.functions.sql_types import (
    DATE,
    DATETIME,
    STRING,
    UNKNOWN,
    SqlType,
    struct_of,
    type_of_field,
)
from fletching.sql.functions.time_zones import has_moments
from fletching.sql.parsing.dialect import exp
from fletching.sql.predicates.literal_nodes import unwrapped
from fletching.sql.predicates.predicate_compiler import compile_condition
from fletching.sql.queries.query_sources import (
    Resolve,
    SourceView,
    WantedScan,
    located,
    mentioned_tables,
)
from fletching.sql.queries.select_forms import (
    check_named_queries,
    choose_by_patterns,
    group_ids,
    lift_rows,
    name_columns,
    order_sorted,
    sample_buckets,
)
from fletching.sql.queries.typing_pass import add_types

__all__ = ["Prepared"]

_Read = tuple[exp.Expr, WantedScan | None, exp.Join | None]
"""What a SELECT reads: the node, its scan if it is a table, and the join that brings it."""

_Fold = Callable[[exp.Expr], exp.Expr | None]


class Prepared:
    """A query's tree with its tables replaced, and what is known of them."""

    def __init__(self, query: exp.Expr, resolve: Resolve, *, local: bool = False) -> None:
        self._resolve = resolve
        self._local = local
        self.scans: list[WantedScan] = []
        self._scan_of: dict[int, WantedScan] = {}
        self.query = query
        sample_buckets(query)
        check_named_queries(query)
        self._tables(query, 0)
        self._shorten_names()
        for select in list(self.query.find_all(exp.Select)):
            lift_rows(select)
            group_ids(select)
            choose_by_patterns(select, self._known_columns(select))
            name_columns(select)
        order_sorted(self.query)
        self._choose_columns()
        self.columns = add_types(
            self.query,
            {
                key: {name: type_of_field(field) for name, field in scan.source.fields.items()}
                for key, scan in self._scan_of.items()
            },
            _call_type,
        )

    # --- tables ------------------------------------------------------------------------------

    def _tables(self, query: exp.Expr, depth: int) -> None:
        """Replaces the tables of a query."""
        if depth > 16:
            raise InvalidArgumentError("views nest too deeply, or contain themselves")
        for node, named in list(mentioned_tables(query)):
            if not named:
                self._table(node, depth)
            elif node.args.get("version") is not None:
                raise located(
                    InvalidArgumentError(f"{node.name} is no table: it has no versions"), node
                )

    def _table(self, node: exp.Table, depth: int) -> None:
        if not isinstance(node.this, exp.Identifier | exp.Parameter):
            if isinstance(node.this, exp.Anonymous):
                raise located(InvalidArgumentError(f"{node.this.name} is no table"), node)
            if isinstance(node.this, exp.Dot):
                message = "the name of a table has three parts at most"
                raise located(InvalidArgumentError(message), node)
            return
        try:
            source = self._resolve(node)
        except InvalidArgumentError as error:
            raise located(error, node) from error
        alias = node.alias or node.name
        if isinstance(source, SourceView):
            if node.args.get("version") is not None:
                raise located(
                    InvalidArgumentError(f"{node.name} is no table: it has no versions"), node
                )
            body = source.query.copy()
            self._tables(body, depth + 1)
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
        node.set("version", None)
        if not node.alias:
            node.set("alias", exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))

    def scans_of(self, select: exp.Expr) -> Iterator[_Read]:
        """What a SELECT reads: the node, the scan if it is a table, and the join that brings it."""
        first = select.args.get("from_")
        if first is not None:
            yield first.this, self._scan_of.get(id(first.this)), None
            for join in first.this.args.get("joins") or ():
                yield join.this, self._scan_of.get(id(join.this)), join
        for join in select.args.get("joins") or ():
            yield join.this, self._scan_of.get(id(join.this)), join

    # --- columns -----------------------------------------------------------------------------

    def _known_columns(self, select: exp.Expr) -> set[str]:
        """The columns of the tables that a SELECT reads, case-folded."""
        scans = (scan for _, scan, _ in self.scans_of(select) if scan is not None)
        return {name for scan in scans for name in scan.source.fields}

    def _shorten_names(self) -> None:
        """``project.table.column``, and with a schema between, as ``table.column``."""
        for select in self.query.find_all(exp.Select):
            scans = [scan for _, scan, _ in self.scans_of(select) if scan is not None]
            long = [item for item in select.find_all(exp.Column) if len(item.parts) > 2]
            for column in long if scans else ():
                parts = [part.name.casefold() for part in column.parts]
                for scan in scans:
                    name, alias = scan.source.name, scan.alias.casefold()
                    full = [name.project, name.schema, name.name]
                    for written in (full, [name.project, name.name], [name.schema, name.name]):
                        folded = [item.casefold() for item in written]
                        if folded[-1] != alias or parts[: len(folded)] != folded:
                            continue
                        if parts[0] in scan.source.fields or len(parts) == len(folded):
                            continue
                        kept = [part.copy() for part in column.parts[len(folded) - 1 :]]
                        named = exp.Column(this=kept[1], table=kept[0])
                        column.replace(exp.Dot.build([named, *kept[2:]]) if kept[2:] else named)
                        break

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
            scan.columns = tuple(wanted or [narrowest(fields.values())])

    # --- conditions --------------------------------------------------------------------------

    def push_down(self, fold: _Fold | None) -> None:
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
                if join is None or on is None or join.side in {"RIGHT", "FULL"}:
                    continue
                inner = not join.side and join.kind in {"", "INNER", "CROSS"}
                for part in _conjuncts(on):
                    if inner and not nullable:
                        self._push(part, sources, kept, fold)
                    elif scan is not None:
                        self._push(part, sources, [scan], fold)

    def _push(
        self,
        part: exp.Expr,
        sources: Sequence[_Read],
        allowed: Sequence[WantedScan],
        fold: _Fold | None,
    ) -> None:
        if part.find(exp.Query, exp.Window, exp.Lambda) is not None:
            return
        scan = self._only_scan(part, sources)
        if scan is None or not any(scan is item for item in allowed):
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
        names = (name.casefold() for name in predicate.columns)
        if self._local and any(has_moments(fields[name].type) for name in names):
            return  # the scan would take the times for those of UTC
        scan.push(part, predicate)

    @staticmethod
    def _only_scan(part: exp.Expr, sources: Sequence[_Read]) -> WantedScan | None:
        """The one table that all columns of a condition belong to."""
        aliases = {node.alias_or_name.casefold(): scan for node, scan, _ in sources}
        result: dict[int, WantedScan] = {}
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
            result[id(scan)] = scan
        return next(iter(result.values())) if len(result) == 1 else None


def _conjuncts(node: exp.Expr) -> Iterator[exp.Expr]:
    stack = [node]
    while stack:
        item = unwrapped(stack.pop())
        if isinstance(item, exp.And):
            stack += [item.expression, item.this]
        else:
            yield item


def _nullable(sources: Sequence[_Read]) -> set[int]:
    """The tables whose rows an outer join may replace by nulls."""
    result: set[int] = set()
    before: list[int] = []
    for _, scan, join in sources:
        side, kind = ("", "") if join is None else (join.side, join.kind)
        if side in {"RIGHT", "FULL"}:
            result.update(before)
        if side in {"LEFT", "FULL"} and kind not in {"SEMI", "ANTI"} and scan is not None:
            result.add(id(scan))
        if scan is not None:
            before.append(id(scan))
    return result


_LITERAL = (exp.Literal, exp.Null, exp.Boolean, exp.HexString)


def _folded(tree: exp.Expr, fold: _Fold) -> exp.Expr:
    """Replaces what is constant, and more than a literal, by what it computes to."""

    def replace(node: exp.Expr) -> exp.Expr:
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
        literal = fold(node)
        return node if literal is None else literal

    return tree.transform(replace)


def _call_type(node: exp.Expr, types: Sequence[SqlType]) -> SqlType:
    """The type of a call, where a constant decides it here and else by the function's own rule."""
    name = node.name.lower()
    constants = [
        item.name if isinstance(item, exp.Literal) and item.is_string else None
        for item in node.expressions
    ]
    if name == "named_struct":
        return struct_of([text or "" for text in constants[::2]], types[1::2])
    if name == "dateadd" and types and types[0].kind != "time":
        unit = (constants[2] or "").lower() if len(constants) == 3 else "dd"
        days = unit[:1] in {"y", "q", "w", "d"} or unit.startswith("mo") or unit == "mm"
        return DATE if types[0].kind == "date" and days else DATETIME
    if name == "trunc" and len(constants) == 2 and constants[1] is not None:
        return STRING
    if name == "from_json" and len(constants) == 2 and constants[1] is not None:
        return json_type(constants[1]) or UNKNOWN
    try:
        return find_function(name).type(types)
    except (FletchingError, IndexError, KeyError):
        return UNKNOWN  # whoever writes it says what is wrong with it
