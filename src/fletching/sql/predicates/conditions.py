"""Conditions as trees: what a filter asks of each row, and what it can tell of whole segments.

NOT has been pushed down to the leaves, so that a tree is ALL and ANY over leaves. That makes two
things simple: a leaf that is null counts as one that is false, and a part whose answer is known
beforehand (because it asks of partition columns alone) is taken out by folding it.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from fletching.sql.predicates.bounds import Bounds, ColumnPath, May, Physical

__all__ = [
    "FALSE",
    "TRUE",
    "Condition",
    "Junction",
    "Leaf",
    "always",
    "fold",
    "joined",
    "narrowed",
    "parts_over",
]

LONG_LIST = 1024
"""Values of a list from which on it is worth looking which of them some rows can have."""


def always(_bounds: Bounds) -> bool:
    """Says nothing about segments."""
    return True


def never(_bounds: Bounds) -> bool:
    """Chooses no row of any segment."""
    return False


@dataclasses.dataclass(frozen=True, eq=False)
class Leaf:
    """A condition on columns.

    Attributes:
        expression: true, false or null for each row.
        may: False only if no row within the bounds can be chosen.
        columns: names of the top-level columns that it asks of.
        merge: for ``column = value`` and ``column IN (..)``: the column's key and a function that
            makes one leaf of several such, given all values.
        values: the values of those.
    """

    expression: pc.Expression
    may: May
    columns: frozenset[str] = frozenset()
    merge: tuple[ColumnPath, Callable[[set[Physical]], Leaf]] | None = None
    values: frozenset[Physical] = frozenset()

    @functools.cached_property
    def ordered(self) -> list[Physical]:
        """The values in order."""
        return sorted(self.values)


@dataclasses.dataclass(frozen=True, eq=False)
class Junction:
    """All, or any, of some conditions."""

    parts: tuple[Condition, ...]
    all_of: bool

    @functools.cached_property
    def expression(self) -> pc.Expression:
        """True, false or null for each row; a tree of logarithmic depth."""
        function = pc.and_kleene if self.all_of else pc.or_kleene
        level = [part.expression for part in self.parts]
        while len(level) > 1:
            pairs = [
                function(item, other) for item, other in zip(level[::2], level[1::2], strict=False)
            ]
            level = pairs + level[len(level) & ~1 :]
        return level[0]

    def may(self, bounds: Bounds) -> bool:
        """False only if no row within the bounds can be chosen."""
        if self.all_of:
            return all(part.may(bounds) for part in self.parts)
        return any(part.may(bounds) for part in self.parts)

    @functools.cached_property
    def columns(self) -> frozenset[str]:
        """Names of the top-level columns that it asks of."""
        return frozenset().union(*(part.columns for part in self.parts))


Condition = Leaf | Junction


def _constant(value: bytes) -> pc.Expression:
    # Not of a Python value: pyarrow imports pandas to look whether one is of its kind, for a second
    # of everybody's start.
    return pc.scalar(pa.Array.from_buffers(pa.bool_(), 1, [None, pa.py_buffer(value)])[0])


TRUE = Leaf(_constant(b"\x01"), always)
FALSE = Leaf(_constant(b"\x00"), never)


def joined(parts: Sequence[Condition], *, all_of: bool) -> Condition:
    """All or any of some conditions; equalities of one column in a chain of OR become one list."""
    if not all_of:
        parts = _merged(parts)
    return parts[0] if len(parts) == 1 else Junction(tuple(parts), all_of)


def _merged(parts: Sequence[Condition]) -> Sequence[Condition]:
    groups: dict[ColumnPath, list[Leaf]] = {}
    others: list[Condition] = []
    for part in parts:
        if isinstance(part, Leaf) and part.merge is not None:
            groups.setdefault(part.merge[0], []).append(part)
        else:
            others.append(part)
    for leaves in groups.values():
        if len(leaves) == 1:
            others += leaves
            continue
        assert leaves[0].merge is not None
        others.append(leaves[0].merge[1](set().union(*(leaf.values for leaf in leaves))))
    return others


Extent = Callable[[tuple[str, ...]], "tuple[Physical, Physical] | None"]
"""The least and greatest value of a column, by its path, in some rows; None if that is not known."""


def narrowed(condition: Condition, extent: Extent) -> Condition:
    """The condition for some rows alone: their long lists without values that none of them can have.

    A list is hashed anew for each batch that it is asked of; of a list of 100,000 keys that takes
    several times as long as looking the batch's rows up.
    """
    if isinstance(condition, Junction):
        parts = tuple(narrowed(part, extent) for part in condition.parts)
        same = all(item is other for item, other in zip(parts, condition.parts, strict=True))
        return condition if same else Junction(parts, condition.all_of)
    if condition.merge is None or len(condition.values) < LONG_LIST:
        return condition
    path, make = condition.merge
    result = extent(path)
    if result is None:
        return condition
    ordered = condition.ordered
    first = bisect.bisect_left(ordered, result[0])
    end = bisect.bisect_right(ordered, result[1])
    if 2 * (end - first) > len(ordered):
        return condition
    # One that no row has stands for none.
    return make(set(ordered[first:end]) or {ordered[0]})


def parts_over(condition: Condition, columns: Collection[str]) -> list[Condition]:
    """The largest parts of a condition that ask of nothing but these columns."""
    if condition.columns and condition.columns <= frozenset(columns):
        return [condition]
    if isinstance(condition, Leaf):
        return []
    return [result for part in condition.parts for result in parts_over(part, columns)]


def fold(condition: Condition, answers: Mapping[int, bool]) -> Condition:
    """The condition that is left when the answers of some parts are known, by the parts' ``id``.

    The result is `TRUE` or `FALSE` when nothing is left to ask.
    """
    answer = answers.get(id(condition))
    if answer is not None:
        return TRUE if answer else FALSE
    if isinstance(condition, Leaf):
        return condition
    left: list[Condition] = []
    for part in condition.parts:
        folded = fold(part, answers)
        if folded is (FALSE if condition.all_of else TRUE):
            return folded
        if folded is not (TRUE if condition.all_of else FALSE):
            left.append(folded)
    if not left:
        return TRUE if condition.all_of else FALSE
    if len(left) == len(condition.parts) and all(
        item is other for item, other in zip(left, condition.parts, strict=True)
    ):
        return condition
    return left[0] if len(left) == 1 else Junction(tuple(left), condition.all_of)
