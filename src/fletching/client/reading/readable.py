"""Rows in whatever form the caller works with: what scans, sessions and results have in common."""

from __future__ import annotations

import abc
from collections.abc import Generator, Iterator
from typing import Any

import pyarrow as pa

from fletching.client.progress import ProgressLike, ProgressMeter, progress_meter
from fletching.errors import MissingExtraError

__all__ = ["Readable"]


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
    def _open(
        self, meter: ProgressMeter | None = None
    ) -> tuple[pa.Schema, Generator[pa.RecordBatch, None, None]]:
        """Begins a read: the schema of its batches, and the batches; tells a meter how many rows."""

    def _begin(
        self, progress: ProgressLike
    ) -> tuple[pa.Schema, Generator[pa.RecordBatch, None, None]]:
        meter = progress_meter(progress, self._progress_name)
        schema, batches = self._open(meter)
        return schema, batches if meter is None else meter.read(batches)

    def to_batches(self, *, progress: ProgressLike = None) -> Generator[pa.RecordBatch, None, None]:
        """The rows as record batches; the read begins with the call.

        Args:
            progress: True for a bar, or a function of one `fletching.Progress`, called per batch.
        """
        return self._begin(progress)[1]

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """As `to_batches`."""
        return self.to_batches()

    def to_reader(self, *, progress: ProgressLike = None) -> pa.RecordBatchReader:
        """The rows as a ``pyarrow.RecordBatchReader``; errors as `to_batches`, from the reader."""
        schema, batches = self._begin(progress)
        return pa.RecordBatchReader.from_batches(schema, batches)

    def to_table(self, *, progress: ProgressLike = None) -> pa.Table:
        """The rows as one ``pyarrow.Table`` in memory; ``progress`` as of `to_batches`."""
        schema, batches = self._begin(progress)
        return pa.Table.from_batches(list(batches), schema=schema)

    def to_pandas(self, /, *, progress: ProgressLike = None, **options: Any) -> Any:
        """The rows as a pandas data frame in memory; ``progress`` as of `to_batches`.

        Numbers without nulls are copied once, to make a column's batches one array. ``options`` are
        those of ``pyarrow.Table.to_pandas``, e.g. ``types_mapper=pandas.ArrowDtype``.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        try:
            import pandas as pd  # noqa: F401  # asked for before anything is read
        except ImportError as exc:
            raise MissingExtraError("to_pandas needs pandas: pip install pandas") from exc
        # The table is nobody else's, so that its columns' memory may go as they are converted.
        chosen: dict[str, object] = {"split_blocks": True, "self_destruct": True, **options}
        return self.to_table(progress=progress).to_pandas(**chosen)

    def to_polars(self, *, progress: ProgressLike = None) -> Any:
        """The rows as a polars data frame in memory; nothing is copied that polars can share.

        ``progress`` is as of `to_batches`.

        Raises:
            MissingExtraError: polars is not installed.
        """
        try:
            import polars as pl
        except ImportError as exc:
            raise MissingExtraError("to_polars needs polars: pip install polars") from exc
        return pl.from_arrow(self.to_table(progress=progress))

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The rows for any library that takes Arrow's C stream."""
        return self.to_reader().__arrow_c_stream__(requested_schema)
