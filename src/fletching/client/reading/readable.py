"""Rows in whatever form the caller works with: what scans, sessions and results have in common."""

from __future__ import annotations

import abc
from collections.abc import Generator, Iterator
from typing import Any

import pyarrow as pa

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

    @abc.abstractmethod
    def _open(self) -> tuple[pa.Schema, Generator[pa.RecordBatch, None, None]]:
        """Begins a read: the schema of its batches, and the batches."""

    def to_batches(self) -> Generator[pa.RecordBatch, None, None]:
        """The rows as record batches; the read begins with the call."""
        return self._open()[1]

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """As `to_batches`."""
        return self.to_batches()

    def to_reader(self) -> pa.RecordBatchReader:
        """The rows as a ``pyarrow.RecordBatchReader``; errors as `to_batches`, from the reader."""
        schema, batches = self._open()
        return pa.RecordBatchReader.from_batches(schema, batches)

    def to_table(self) -> pa.Table:
        """The rows as one ``pyarrow.Table`` in memory."""
        schema, batches = self._open()
        return pa.Table.from_batches(list(batches), schema=schema)

    def to_pandas(self, /, **options: Any) -> Any:
        """The rows as a pandas data frame in memory.

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
        return self.to_table().to_pandas(**chosen)

    def to_polars(self) -> Any:
        """The rows as a polars data frame in memory; nothing is copied that polars can share.

        Raises:
            MissingExtraError: polars is not installed.
        """
        try:
            import polars as pl
        except ImportError as exc:
            raise MissingExtraError("to_polars needs polars: pip install polars") from exc
        return pl.from_arrow(self.to_table())

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The rows for any library that takes Arrow's C stream."""
        return self.to_reader().__arrow_c_stream__(requested_schema)
