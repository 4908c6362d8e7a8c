"""What a statement that comes again needs not do again: being parsed, and being translated.

Programs send the same texts over and over, and for a short query reading the text takes most of the time.
Trees that are kept belong to everybody: whoever changes one copies it first, as the translation does.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping

import pyarrow as pa

from fletching.engine.cache import RecentlyUsed
from fletching.sql.parsing.dialect import exp
from fletching.sql.parsing.statement_locations import StatementLocation
from fletching.sql.queries.query_sources import Source
from fletching.sql.queries.translation import Translation
from fletching.sql.statements.statement_kinds import Namespace, QueryStatement, Setting, Statement
from fletching.sql.statements.statement_parser import located_statements

__all__ = ["KeptStatements", "KeptTranslations"]

MOST_CHARACTERS = 1 << 18
"""Of all texts together whose trees are kept; a tree takes about a hundred times the memory of its text."""

MOST_TEXT = 1 << 14
"""Characters of a text that is kept: longer ones are written by programs, and do not come twice."""

MOST_TRANSLATIONS = 256

_KEPT = "fletching_kept"
"""Key in the ``meta`` of a tree that is kept: its id, which no copy of it has."""

_Sources = tuple[tuple[Hashable, Source], ...]

_Located = list[tuple[Statement, StatementLocation]]


class KeptStatements:
    """Parses texts, and remembers those that only ask. Thread-safe."""

    def __init__(self) -> None:
        self._kept = RecentlyUsed[tuple[str, Namespace], tuple[int, _Located]](
            MOST_CHARACTERS, weight=lambda kept: kept[0]
        )

    def located(self, text: str, namespace: Namespace) -> _Located:
        """As `located_statements`; what comes back is not to be changed."""
        key = (text, namespace)
        known = self._kept.get(key)
        if known is not None:
            return known[1]
        result = located_statements(text, namespace)
        if len(text) <= MOST_TEXT and all(
            isinstance(statement, QueryStatement | Setting) for statement, _ in result
        ):
            for statement, _ in result:
                if isinstance(statement, QueryStatement):
                    statement.tree.meta[_KEPT] = id(statement.tree)
            self._kept.put(key, (len(text), result))
        return result


class KeptTranslations:
    """Translations by the tree that they are of, as long as its tables have the same columns. Thread-safe."""

    def __init__(self) -> None:
        self._kept = RecentlyUsed[tuple[int, Hashable], tuple[exp.Expr, _Sources, Translation]](
            MOST_TRANSLATIONS
        )

    def translation(
        self,
        tree: exp.Expr,
        settings: Hashable,
        sources: _Sources,
        translate: Callable[[], Translation],
    ) -> Translation:
        """The kept translation of a tree, or a new one.

        Args:
            tree: of the query.
            settings: what else a translation depends on.
            sources: its tables, each with what it is called in the tree, in the tree's order.
            translate: makes a new one.
        """
        if tree.meta.get(_KEPT) != id(tree):
            return translate()
        key = (id(tree), settings)
        known = self._kept.get(key)
        # The tree is kept with its translation: its id is nobody else's meanwhile.
        if known is not None and known[0] is tree and _same(known[1], sources):
            return known[2]
        made = translate()
        if not made.timed:
            self._kept.put(key, (tree, sources, made))
        return made


def _same(known: _Sources, now: _Sources) -> bool:
    return len(known) == len(now) and all(
        mention == other
        and item.name == two.name
        and item.version == two.version
        and _same_fields(item.fields, two.fields)
        for (mention, item), (other, two) in zip(known, now, strict=True)
    )


def _same_fields(left: Mapping[str, pa.Field], other: Mapping[str, pa.Field]) -> bool:
    return list(left) == list(other) and all(
        field.equals(other[name], check_metadata=True) for name, field in left.items()
    )
