"""DELETE, UPDATE and MERGE as one query: which rows of the table, what becomes of each, and its new values.

The query's first columns name a row of the table (its segment and its number there, both null for rows that
are to be inserted) and the action, a number; then come the values, for each action a column per column that
it assigns::

    SELECT t.segment, t.row, CASE WHEN c1 THEN 1 WHEN c2 THEN 2 END, CASE WHEN c1 THEN .. END, .., NULL, ..
    FROM target t JOIN source s ON ..
    UNION ALL
    SELECT NULL, NULL, 3, NULL, .., ..
    FROM source s LEFT ANTI JOIN target t ON ..

No two actions share a column, so that each value comes out in its own type: what becomes of it in the
table's column is decided where the rows of an INSERT are, and by the same rule.

Behind these come, for rows that are to be inserted, the source's values that columns of the table were
compared with: what tells whether a row that came meanwhile would have been found.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from fletching.errors import InvalidArgumentError
from fletching.sql.functions.generated_partitions import GeneratedPartition
from fletching.sql.parsing.dialect import exp
from fletching.sql.parsing.near_names import did_you_mean
from fletching.sql.queries.query_sources import located

__all__ = ["CONTROLS", "ROW", "SEGMENT", "TARGET", "Action", "RowChanges", "row_changes_of"]

SEGMENT = "fletching segment"
"""Hidden column of the table that is changed: which segment a row is in."""

ROW = "fletching row"
"""Hidden column of the table that is changed: its number there."""

CONTROLS = 3
"""Columns of the query in front of the values: the row's segment, its number there, and the action."""

TARGET = "fletching_target"
"""Key in the ``meta`` of the node of the table that is changed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Action:
    """What becomes of a row.

    Attributes:
        kind: ``update``, ``delete`` or ``insert``.
        columns: the columns that it gives values; an insert leaves the others null.
    """

    kind: str
    columns: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class RowChanges:
    """A statement that changes rows of one table.

    Attributes:
        tree: the query.
        actions: by number, from 1.
        columns: of the query behind the first `CONTROLS`: the table's column that each is for, action by
            action.
        operation: what the table's history calls it.
        keys: columns of the table that ``on`` takes as equal to something of the source, which has a
            column in the query behind all others; only of statements that insert.
    """

    tree: exp.Expr
    actions: tuple[Action, ...]
    columns: tuple[str, ...]
    operation: str
    keys: tuple[str, ...] = ()


@dataclasses.dataclass(slots=True)
class _When:
    """One clause: when it holds, and the values it gives."""

    action: Action
    condition: exp.Expr | None
    values: Mapping[str, exp.Expr]


def row_changes_of(
    node: exp.Expr,
    columns: Sequence[str],
    *,
    generated: GeneratedPartition | None = None,
    defaults: Mapping[str, exp.Expr] | None = None,
) -> RowChanges:
    """Reads a DELETE, UPDATE or MERGE.

    Args:
        node: its tree.
        columns: names of all of the table's columns, partition columns last.
        generated: the partition column that is made of another one: it follows where that is assigned.
        defaults: values of columns that an insert leaves out.

    Raises:
        InvalidArgumentError: an unknown column, one that is assigned twice, or a clause that is not known.
    """
    return _Reader(node, columns, generated, defaults or {}).read()


class _Reader:
    def __init__(
        self,
        node: exp.Expr,
        columns: Sequence[str],
        generated: GeneratedPartition | None,
        defaults: Mapping[str, exp.Expr],
    ) -> None:
        self._node = node
        self._generated = generated
        self._defaults = defaults
        self._columns = columns
        self._names = {name.casefold(): name for name in columns}
        self._target = node.this.copy()
        for key in ("joins", "partition"):
            self._target.set(key, None)
        self._target.meta[TARGET] = True
        self._alias = self._target.alias_or_name
        self._actions: list[Action] = []
        self._keys: dict[str, exp.Expr] = {}

    def read(self) -> RowChanges:
        node = self._node
        if isinstance(node, exp.Merge):
            return self._merge()
        where = node.args.get("where")
        condition = None if where is None else where.this
        if isinstance(node, exp.Delete):
            when = _When(self._action("delete"), None, {})
            parts = [self._part([when], [], where=condition)]
            return self._changes(parts, "delete")
        values = self._assigned(node.expressions)
        when = _When(self._action("update", values), None, values)
        joins = self._additional(node)
        return self._changes([self._part([when], joins, where=condition)], "update")

    @staticmethod
    def _additional(node: exp.Expr) -> list[exp.Expr]:
        """The tables of UPDATE .. FROM."""
        source = node.args.get("from_")
        if source is None:
            return []
        first = source.this.copy()
        joins = list(first.args.get("joins") or ())
        first.set("joins", None)
        return [exp.Join(this=first, kind="CROSS"), *joins]

    def _action(self, kind: str, columns: Iterable[str] = ()) -> Action:
        self._actions.append(Action(kind, tuple(columns)))
        return self._actions[-1]

    # --- MERGE -------------------------------------------------------------------------------

    def _merge(self) -> RowChanges:
        matched: list[_When] = []
        missing: list[_When] = []
        left: list[_When] = []
        for when in self._node.args["whens"].expressions:
            then, condition = when.args["then"], when.args.get("condition")
            if when.args.get("matched") or when.args.get("source"):
                deletes = isinstance(then, exp.Var) and then.name.upper() == "DELETE"
                values = {} if deletes else self._assigned(getattr(then, "expressions", ()))
                if not deletes and not values:
                    raise InvalidArgumentError("WHEN MATCHED takes UPDATE SET or DELETE")
                action = self._action("delete" if deletes else "update", values)
                result = matched if when.args.get("matched") else left
                result.append(_When(action, condition, values))
            else:
                values = self._inserted(then)
                missing.append(_When(self._action("insert", values), condition, values))
        on, source = self._node.args["on"], self._node.args["using"]
        if missing:
            self._keys = self._compared(on)
        parts = []
        if matched:
            parts.append(self._part(matched, [exp.Join(this=source.copy(), on=on.copy())]))
        if missing:
            absent = exp.Join(this=self._target.copy(), side="LEFT", kind="ANTI", on=on.copy())
            parts.append(self._part(missing, [absent], source=source))
        if left:
            unknown = exp.Join(this=source.copy(), side="LEFT", kind="ANTI", on=on.copy())
            parts.append(self._part(left, [unknown]))
        return self._changes(parts, "merge")

    def _compared(self, on: exp.Expr) -> dict[str, exp.Expr]:
        """The columns of the table that must be equal to a column or a literal of the source."""
        result: dict[str, exp.Expr] = {}
        waiting = [on]
        while waiting:
            equal = waiting.pop().unnest()
            if isinstance(equal, exp.And):
                waiting += [equal.expression, equal.this]
            if not isinstance(equal, exp.EQ):
                continue
            for item, other in (
                (equal.this, equal.expression),
                (equal.expression, equal.this),
            ):
                if not (self._is_own(item) and _is_plain(other)) or self._is_own(other):
                    continue
                name = self._names.get(item.name.casefold())
                if name is not None:
                    result.setdefault(name, other)
        return result

    def _is_own(self, node: exp.Expr) -> bool:
        return isinstance(node, exp.Column) and node.table.casefold() == self._alias.casefold()

    def _inserted(self, then: exp.Expr) -> dict[str, exp.Expr]:
        if not isinstance(then, exp.Insert) or not isinstance(then.expression, exp.Tuple):
            raise InvalidArgumentError("WHEN NOT MATCHED takes INSERT with VALUES")
        values = then.expression.expressions
        listed = then.this.expressions if isinstance(then.this, exp.Tuple | exp.Schema) else None
        names = (
            list(self._columns) if listed is None else [self._known(item.name) for item in listed]
        )
        if len(names) != len(values):
            raise InvalidArgumentError(
                f"WHEN NOT MATCHED has {len(values)} values for {len(names)} columns"
            )
        given = dict(zip(names, values, strict=True))
        return self._following({**self._defaults, **given})

    # --- pieces ------------------------------------------------------------------------------

    def _assigned(self, items: Sequence[exp.Expr]) -> dict[str, exp.Expr]:
        result: dict[str, exp.Expr] = {}
        for item in items:
            if not isinstance(item, exp.EQ) or not isinstance(item.this, exp.Column):
                raise InvalidArgumentError("SET takes column = value, with commas between")
            try:
                name = self._known(item.this.name)
            except InvalidArgumentError as error:
                raise located(error, item.this) from error
            if name in result:
                raise located(InvalidArgumentError(f"column {name} is assigned twice"), item.this)
            result[name] = item.expression
        return self._following(result)

    def _following(self, values: dict[str, exp.Expr]) -> dict[str, exp.Expr]:
        """The values, with that of the partition that is made of one of them."""
        generated = self._generated
        if generated is None:
            return values
        name, source = (self._names[item.casefold()] for item in (generated.name, generated.column))
        if source in values and name not in values:
            unit = exp.Literal.string(generated.unit)
            call = exp.Anonymous(this="trunc_time", expressions=[values[source].copy(), unit])
            return {**values, name: call}
        return values

    def _known(self, name: str) -> str:
        known = self._names.get(name.casefold())
        if known is None:
            near = did_you_mean(name, self._columns)
            raise InvalidArgumentError(f"there is no column {name} to be written{near}")
        return known

    def _part(
        self,
        whens: Sequence[_When],
        joins: list[exp.Expr],
        *,
        where: exp.Expr | None = None,
        source: exp.Expr | None = None,
    ) -> exp.Expr:
        """One SELECT of the query, of rows that the first clause that holds decides about."""
        items: list[exp.Expr] = [
            exp.Null() if source is not None else self._column(name) for name in (SEGMENT, ROW)
        ]
        items.append(_first(whens, [self._number(when) for when in whens]))
        for action in self._actions:
            mine = [when if when.action is action else None for when in whens]
            for name in action.columns:
                values = [exp.Null() if when is None else when.values[name].copy() for when in mine]
                items.append(_first(whens, values) if any(mine) else exp.Null())
        items += [exp.Null() if source is None else value.copy() for value in self._keys.values()]
        # Not sqlglot's alias_: of a subquery it makes one with a table's name.
        named = [
            exp.Alias(this=item, alias=exp.to_identifier(f"v{i}", quoted=True))
            for i, item in enumerate(items)
        ]
        select = exp.Select(
            expressions=named,
            from_=exp.From(this=(self._target if source is None else source).copy()),
            joins=joins,
        )
        any_of = None if any(when.condition is None for when in whens) else _any(whens)
        conditions = [node.copy() for node in (where, any_of) if node is not None]
        if conditions:
            select.set("where", exp.Where(this=exp.and_(*conditions)))
        return select

    def _number(self, when: _When) -> exp.Expr:
        return exp.Literal.number(
            1 + next(i for i, item in enumerate(self._actions) if item is when.action)
        )

    def _column(self, name: str) -> exp.Expr:
        table = exp.to_identifier(self._alias, quoted=True)
        return exp.column(exp.to_identifier(name, quoted=True), table=table)

    def _changes(self, parts: list[exp.Expr], operation: str) -> RowChanges:
        tree = parts[0]
        for part in parts[1:]:
            tree = exp.Union(this=tree, expression=part, distinct=False)
        columns = tuple(name for action in self._actions for name in action.columns)
        return RowChanges(tree, tuple(self._actions), columns, operation, tuple(self._keys))


def _is_plain(node: exp.Expr) -> bool:
    """Whether it is the same each time it is worked out, and of the source if it is no column of the table."""
    return isinstance(node, exp.Literal) or (isinstance(node, exp.Column) and bool(node.table))


def _first(whens: Sequence[_When], values: Sequence[exp.Expr]) -> exp.Expr:
    """The value of the first clause whose condition holds."""
    if len(whens) == 1:
        return values[0]
    ifs = [
        exp.If(this=exp.true() if when.condition is None else when.condition.copy(), true=value)
        for when, value in zip(whens, values, strict=True)
    ]
    return exp.Case(ifs=ifs)


def _any(whens: Sequence[_When]) -> exp.Expr:
    return exp.or_(*(when.condition.copy() for when in whens if when.condition is not None))
