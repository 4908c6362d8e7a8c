"""Which partitions a read wants: full specifications, and partial ones as filters."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Sequence

from fletching.engine.reading.output_schema import TableColumns
from fletching.engine.tables.partitions import matching_values
from fletching.errors import NoSuchPartitionError
from fletching.types import PartitionSpec

__all__ = ["PartitionFilter"]


@dataclasses.dataclass(frozen=True)
class PartitionFilter:
    """Partitions that match one of several patterns; hashable, so it can be part of a cache's key.

    Attributes:
        patterns: per wanted specification, a value or None (any) for each partition column; empty
            for everything.
    """

    patterns: tuple[tuple[str | None, ...], ...] = ()

    @classmethod
    def of(cls, columns: TableColumns, specs: Sequence[PartitionSpec]) -> PartitionFilter:
        """The filter for ``RequiredPartitions``.

        Raises:
            InvalidArgumentError: a specification names what is not a partition column, or a value that is
                not of its type.
        """
        patterns: dict[tuple[str | None, ...], None] = {}
        for spec in specs:
            values = matching_values(columns.partition, spec)
            patterns[tuple(values.get(place) for place in range(len(columns.partition)))] = None
        if any(all(value is None for value in pattern) for pattern in patterns):
            return cls()
        return cls(tuple(sorted(patterns, key=lambda pattern: [value or "" for value in pattern])))

    @property
    def everything(self) -> bool:
        """Whether every partition is wanted, also in a table without partitions."""
        return not self.patterns

    @property
    def named(self) -> list[tuple[str, ...]] | None:
        """The wanted partitions, if all are named in full; None if the filter has to be asked."""
        if self.everything or any(None in pattern for pattern in self.patterns):
            return None
        return [tuple(value or "" for value in pattern) for pattern in self.patterns]

    def matches(self, values: tuple[str, ...]) -> bool:
        """Whether a partition is wanted: one look-up for each set of columns that patterns name."""
        return not self.patterns or any(
            tuple(values[place] for place in places) in wanted
            for places, wanted in self._wanted.items()
        )

    @functools.cached_property
    def _wanted(self) -> dict[tuple[int, ...], set[tuple[str, ...]]]:
        """Per set of columns that some pattern names, the values that are wanted of them."""
        result: dict[tuple[int, ...], set[tuple[str, ...]]] = {}
        for pattern in self.patterns:
            named = [(place, value) for place, value in enumerate(pattern) if value is not None]
            places = tuple(place for place, _ in named)
            result.setdefault(places, set()).add(tuple(value for _, value in named))
        return result

    def check_found(self, existing: Collection[tuple[str, ...]]) -> None:
        """Refuses partitions that are named in full and do not exist.

        Raises:
            NoSuchPartitionError: one of them.
        """
        known = set(existing)
        for pattern in self.patterns:
            if None not in pattern and pattern not in known:
                raise NoSuchPartitionError(
                    f"there is no partition with the values {', '.join(map(repr, pattern))}"
                )
