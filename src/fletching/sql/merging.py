"""MERGE INTO as one query of whole rows, and what the merge of those does with matched ones.

The rows that the query computes are those that the table is to have for their keys: matched rows as they
will be, rows to be inserted, or, where matched ones are deleted, their keys. One merge of them is one
commit::

    SELECT assigned or kept columns FROM target JOIN source ON .. WHERE condition
    UNION ALL
    SELECT inserted values FROM source LEFT ANTI JOIN target ON .. WHERE condition
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from fletching.errors import InvalidArgumentError
from fletching.sql.dialect import exp
from fletching.sql.literal_nodes import shown, unwrapped

__all__ = ["Merging", "merging_of"]


@dataclasses.dataclass(frozen=True, slots=True)
class Merging:
    """A MERGE whose table's columns are known.

    Attributes:
        tree: the query of the rows, a column for each of the table's.
        on: names of the columns that ON compares.
        when_matched, when_not_matched: as in `MergeRows`.
    """

    tree: Any
    on: tuple[str, ...]
    when_matched: str | None
    when_not_matched: str | None


def merging_of(node: Any, columns: Sequence[str]) -> Merging:
    """Reads a MERGE.

    Args:
        node: its tree.
        columns: names of all of the table's columns, partition columns last.

    Raises:
        InvalidArgumentError: clauses that one merge cannot do together, a condition of ON that is no
            equality of columns, or an unknown column.
    """
    return _Merge(node, columns).merging()


class _Merge:
    def __init__(self, node: Any, columns: Sequence[str]) -> None:
        self._target, self._source = node.this, node.args["using"]
        self._on = node.args["on"]
        self._alias = self._target.alias_or_name
        self._columns = {name.casefold(): name for name in columns}
        whens = node.args["whens"].expressions
        if any(when.args.get("source") for when in whens):
            raise InvalidArgumentError("MERGE has no WHEN NOT MATCHED BY SOURCE")
        self._matched = [when for when in whens if when.args.get("matched")]
        self._missing = [when for when in whens if not when.args.get("matched")]
        if len(self._matched) > 1 or len(self._missing) > 1:
            raise InvalidArgumentError(
                "MERGE takes one WHEN MATCHED and one WHEN NOT MATCHED; put the difference into"
                " their values, or use two statements"
            )

    def merging(self) -> Merging:
        keys = tuple(self._keys())
        parts: list[Any] = []
        matched: str | None = None
        for when in self._matched:
            then = when.args["then"]
            deletes = isinstance(then, exp.Var) and then.name.upper() == "DELETE"
            matched = "delete" if deletes else "update"
            assigned = {} if deletes else self._assigned(then, keys)
            parts.append(self._changed(assigned, when.args.get("condition")))
        parts += [
            self._inserted(when.args["then"], when.args.get("condition")) for when in self._missing
        ]
        tree = parts[0]
        for part in parts[1:]:
            tree = exp.Union(this=tree, expression=part, distinct=False)
        return Merging(tree, keys, matched, "insert" if self._missing else None)

    def _keys(self) -> Iterator[str]:
        stack = [self._on]
        while stack:
            item = unwrapped(stack.pop())
            if isinstance(item, exp.And):
                stack += [item.expression, item.this]
                continue
            sides = (
                [unwrapped(item.this), unwrapped(item.expression)]
                if isinstance(item, exp.EQ)
                else []
            )
            ours = [
                side.name
                for side in sides
                if isinstance(side, exp.Column)
                and side.table.casefold() == self._alias.casefold()
                and side.name.casefold() in self._columns
            ]
            if len(ours) != 1:
                raise InvalidArgumentError(
                    f"ON of MERGE compares columns of {self._alias} with = and joins that by AND;"
                    f" {shown(item)} does not"
                )
            yield self._columns[ours[0].casefold()]

    def _assigned(self, then: Any, keys: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for item in then.expressions:
            name = self._known(item.this.name)
            if name in keys:
                raise InvalidArgumentError(f"MERGE cannot change {name}, which ON compares")
            found[name] = item.expression
        return found

    def _known(self, name: str) -> str:
        known = self._columns.get(name.casefold())
        if known is None:
            raise InvalidArgumentError(f"there is no column {name} to be written by MERGE")
        return known

    def _changed(self, assigned: dict[str, Any], condition: Any) -> Any:
        kept = exp.to_identifier(self._alias, quoted=True)
        items = [
            exp.alias_(
                assigned[name].copy()
                if name in assigned
                else exp.column(exp.to_identifier(name, quoted=True), table=kept.copy()),
                name,
                quoted=True,
            )
            for name in self._columns.values()
        ]
        joined = exp.Join(this=self._source.copy(), on=self._on.copy())
        return _select(items, self._target, joined, condition)

    def _inserted(self, then: Any, condition: Any) -> Any:
        if not isinstance(then, exp.Insert) or not isinstance(then.expression, exp.Tuple):
            raise InvalidArgumentError("WHEN NOT MATCHED takes INSERT with VALUES")
        values = then.expression.expressions
        listed = then.this.expressions if isinstance(then.this, exp.Tuple) else None
        names = (
            list(self._columns.values())
            if listed is None
            else [self._known(item.name) for item in listed]
        )
        if len(names) != len(values):
            raise InvalidArgumentError(
                f"WHEN NOT MATCHED has {len(values)} values for {len(names)} columns"
            )
        given = dict(zip(names, values, strict=True))
        items = [
            exp.alias_(given[name].copy() if name in given else exp.Null(), name, quoted=True)
            for name in self._columns.values()
        ]
        absent = exp.Join(this=self._target.copy(), side="LEFT", kind="ANTI", on=self._on.copy())
        return _select(items, self._source, absent, condition)


def _select(items: Sequence[Any], source: Any, join: Any, condition: Any) -> Any:
    select = exp.Select(expressions=list(items), from_=exp.From(this=source.copy()), joins=[join])
    if condition is not None:
        select.set("where", exp.Where(this=condition.copy()))
    return select
