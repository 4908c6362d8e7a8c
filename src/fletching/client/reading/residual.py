"""What the service cannot evaluate of a filter, evaluated where the rows arrive.

An expression of pyarrow's that can be said as a predicate is the service's as a whole. Of any other, those
conjuncts are *pushed* that surely mean the same to the service, which prunes by them, and all of the
expression is evaluated on the batches that arrive: so the rows are those that pyarrow says, whatever was
pushed.
"""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable, Generator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from fletching.client.reading.expressions import pushdown
from fletching.client.reading.filter_text import filter_text
from fletching.client.tabular.alignment import empty_batch
from fletching.errors import UsageError
from fletching.protocol.types.row_selection import matching_rows

__all__ = ["Residual", "divided"]


@dataclasses.dataclass(frozen=True, slots=True)
class Residual:
    """An expression that rows are filtered by here. Equal where it is written alike; pickles.

    Attributes:
        written: the expression, pickled: expressions themselves compare to expressions.
        columns: the columns that it needs.
    """

    written: bytes = dataclasses.field(repr=False)
    columns: tuple[str, ...]

    @property
    def expression(self) -> pc.Expression:
        """For pyarrow."""
        return pickle.loads(self.written)  # noqa: S301  # what this process, or who it trusts, pickled

    def __str__(self) -> str:
        """As pyarrow writes it."""
        return str(self.expression)

    def asked(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """The columns to read for the wanted ones."""
        there = {name.casefold() for name in wanted}
        return (*wanted, *(name for name in self.columns if name.casefold() not in there))

    def rows(
        self, batches: Generator[pa.RecordBatch, None, None], wanted: Sequence[str]
    ) -> Generator[pa.RecordBatch, None, None]:
        """The rows for which it is true, with the first columns, which are the wanted ones.

        Raises:
            UsageError: it cannot be evaluated on a batch, as a division by zero.
        """
        expression, indices = self.expression, list(range(len(wanted)))
        try:
            for batch in batches:
                try:
                    kept = matching_rows(batch, expression)
                except pa.ArrowException as error:
                    raise UsageError(f"the filter cannot be evaluated: {error}") from error
                if kept.num_rows:
                    yield kept.select(indices)
        finally:
            batches.close()


def divided(
    condition: object, schema: Callable[[], pa.Schema]
) -> tuple[str | None, Residual | None]:
    """What the service evaluates of a scan's filter, and what remains.

    Args:
        condition: SQL text, an expression of pyarrow's, or None.
        schema: asks for the columns of what is scanned, where that is needed.

    Raises:
        UsageError: neither; or an expression that is no condition, or names a column that is not there.
    """
    try:
        return filter_text(condition), None
    except UsageError:
        if not isinstance(condition, pc.Expression):
            raise
    columns = schema()
    try:
        parts = pushdown(condition, columns)
        matching_rows(empty_batch(columns), condition)
    except (pa.ArrowException, TypeError) as error:
        raise UsageError(f"the filter is no condition on these columns: {error}") from error
    if parts.residual is None:
        return parts.pushed, None
    return parts.pushed, Residual(pickle.dumps(condition), tuple(sorted(parts.columns)))
