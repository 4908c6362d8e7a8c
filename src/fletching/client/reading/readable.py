"""Rows in whatever form the caller works with: what scans, sessions and results have in common."""

from __future__ import annotations

import abc
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from fletching.client.progress import ProgressLike, progress_meter
from fletching.client.reading.number_frame import fill_frame, holds_numbers
from fletching.client.tabular.alignment import joined
from fletching.client.tabular.plain_layouts import plain_layouts
from fletching.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

__all__ = ["OpenedRows", "Readable", "polars_frame"]

_NO_FORM = (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError)
"""What pyarrow raises for values that it cannot convert."""


class OpenedRows(NamedTuple):
    """A read that has begun.

    Attributes:
        schema: of the batches.
        batches: the rows.
        rows: how many there are; None where only reading tells.
    """

    schema: pa.Schema
    batches: Generator[pa.RecordBatch, None, None]
    rows: int | None = None

    def table(self) -> pa.Table:
        """The rows in memory."""
        return joined(self.batches, self.schema)


def polars_frame(table: pa.Table) -> pl.DataFrame:
    """A table as polars' data frame, without the layouts that polars does not know.

    Raises:
        MissingExtraError: polars is not installed.
        UsageError: it has no such type.
    """
    try:
        import polars as pl
    except ImportError as exc:
        raise MissingExtraError("to_polars needs polars: pip install polars") from exc
    try:
        frame = pl.from_arrow(plain_layouts(table, text_views=True))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, *_NO_FORM) as exc:
        raise UsageError(f"polars cannot hold these rows: {exc}") from exc
    assert isinstance(frame, pl.DataFrame)  # which a table becomes; an array would be a series
    return frame


class Readable(abc.ABC):
    """Something whose rows can be read, each time anew, as record batches of one schema.

    Every form below reads once. Errors are those of `to_batches`.
    """

    @property
    @abc.abstractmethod
    def schema(self) -> pa.Schema:
        """The schema of the rows."""

    _progress_name = "rows"
    """What a read of it is called where its progress is shown."""

    @abc.abstractmethod
    def _open(self) -> OpenedRows:
        """Begins a read."""

    def _begin(self, progress: ProgressLike) -> OpenedRows:
        meter = progress_meter(progress, self._progress_name)
        opened = self._open()
        if meter is None:
            return opened
        meter.total = opened.rows
        return opened._replace(batches=meter.read(opened.batches))

    def to_batches(self, *, progress: ProgressLike = None) -> Generator[pa.RecordBatch, None, None]:
        """The rows as record batches; the read begins with the call.

        Args:
            progress: True for a bar, or a function of one `fletching.Progress`, called per batch.
        """
        return self._begin(progress).batches

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self.to_batches()

    def to_reader(self, *, progress: ProgressLike = None) -> pa.RecordBatchReader:
        """The rows as a ``pyarrow.RecordBatchReader``; errors as `to_batches`, from the reader."""
        opened = self._begin(progress)
        return pa.RecordBatchReader.from_batches(opened.schema, opened.batches)

    def to_table(self, *, progress: ProgressLike = None) -> pa.Table:
        """The rows as one ``pyarrow.Table`` in memory; ``progress`` as of `to_batches`."""
        return self._begin(progress).table()

    def to_pandas(self, /, *, progress: ProgressLike = None, **options: object) -> pd.DataFrame:
        """The rows as a pandas data frame in memory; ``progress`` as of `to_batches`.

        Numbers without nulls are copied once, to make a column's batches one array; where all columns
        are numbers, batch by batch as they come, which takes the frame's memory and a batch's. ``options``
        are those of ``pyarrow.Table.to_pandas``, e.g. ``types_mapper=pandas.ArrowDtype``.

        Raises:
            MissingExtraError: pandas is not installed.
            UsageError: it has no such type or value.
        """
        try:
            import pandas as pd  # noqa: F401  # asked for before anything is read
        except ImportError as exc:
            raise MissingExtraError("to_pandas needs pandas: pip install pandas") from exc
        opened = self._begin(progress)
        if opened.rows and not options and holds_numbers(opened.schema):
            return fill_frame(opened.schema, opened.batches, opened.rows)
        # The table is nobody else's, so that its columns' memory may go as they are converted. pyarrow
        # makes no blocks of their own of extension types that pandas does not know.
        split = not any(isinstance(kind, pa.BaseExtensionType) for kind in opened.schema.types)
        chosen: dict[str, object] = {"split_blocks": split, "self_destruct": True, **options}
        table = opened.table()
        try:
            table = plain_layouts(table, text_views=True)
            return table.to_pandas(**chosen)
        except _NO_FORM as exc:
            raise UsageError(f"pandas cannot hold these rows: {exc}") from exc

    def to_polars(self, *, progress: ProgressLike = None) -> pl.DataFrame:
        """The rows as a polars data frame in memory; nothing is copied that polars can share.

        ``progress`` is as of `to_batches`.

        Raises:
            MissingExtraError: polars is not installed.
            UsageError: it has no such type.
        """
        return polars_frame(self.to_table(progress=progress))

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The rows for any library that takes Arrow's C stream."""
        return self.to_reader().__arrow_c_stream__(requested_schema)
