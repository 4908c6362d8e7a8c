"""Batches whose values or cuts are made for the reply, one stored batch at a time."""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from typing_extensions import Buffer

from fletching.engine.reading.cutting import Cut, cut_rows, encode_cuts, encoded_length, group_cuts
from fletching.engine.reading.output_mapping import Rendering, stored_columns
from fletching.engine.reading.physical_projection import ReplyLayout
from fletching.engine.reading.read_plan import Computed
from fletching.engine.reading.row_filter import RowFilter
from fletching.engine.reading.shown_rows import masked_rows, take_rows
from fletching.engine.reading.stored_schema import SegmentReader
from fletching.errors import CorruptObjectError

__all__ = ["BatchComputation"]


@dataclasses.dataclass
class BatchComputation:
    """What becomes of one stored batch. Thread-safe once it has been set up; decodes at most once.

    The decoded batch lives as long as this or one of its pieces, so a reply holds one at a time.

    Attributes:
        reader: the batch's segment.
        layout: the reply's columns.
        partition: the values of the segment's partition columns.
        offset, end: the message in the segment, bytes.
        start_row, end_row: the wanted rows among those that the batch shows.
        stored_rows: how many rows the batch has.
        mask: for each of them whether it is shown; None for all.
        max_rows, max_bytes, codec: as in `ReadOptions`.
        row_filter: which of the wanted rows.
        known_cuts: what `cuts` was when the reply was measured.
    """

    reader: SegmentReader
    layout: ReplyLayout
    partition: tuple[str, ...]
    offset: int
    end: int
    start_row: int
    end_row: int
    stored_rows: int
    mask: NDArray[np.bool_] | None = None
    max_rows: int | None = None
    max_bytes: int | None = None
    codec: str | None = None
    row_filter: RowFilter | None = None
    known_cuts: Sequence[Cut] | None = None

    def __post_init__(self) -> None:
        """Nothing is decoded and nothing is skipped yet."""
        self._lock = threading.Lock()
        self._made: pa.RecordBatch | None = None
        self._skipped = 0

    def _rendered(self) -> pa.RecordBatch:
        with self._lock:
            if self._made is None:
                version = self.reader.row.schema_version
                wanted = self._wanted(version)
                batch = self.reader.decode(self.offset, self.end, wanted)
                if batch.num_rows != self.stored_rows:
                    raise CorruptObjectError(
                        f"a record batch has {batch.num_rows} rows where the catalog has"
                        f" {self.stored_rows}",
                        key=self.reader.row.key,
                    )
                if self.mask is not None:
                    batch = self._shown(batch, self.mask)
                elif (self.start_row, self.end_row) != (0, batch.num_rows):
                    batch = batch.slice(self.start_row, self.end_row - self.start_row)
                if self.row_filter is not None:
                    batch = self.row_filter.chosen(batch, version, self.partition, wanted)
                rendering = Rendering(self.layout, version, self.partition, wanted)
                self._made = rendering.apply(batch)
            return self._made

    def _shown(self, batch: pa.RecordBatch, mask: NDArray[np.bool_]) -> pa.RecordBatch:
        """The wanted rows among those that are shown."""
        if self.start_row == 0 and 2 * self.end_row > len(mask):
            shown = masked_rows(batch, mask)
            return shown.slice(0, self.end_row)
        return take_rows(batch, np.flatnonzero(mask)[self.start_row : self.end_row])

    def _wanted(self, version: int) -> tuple[int, ...]:
        """The segment's columns that the reply or the filter needs, in order."""
        layouts = [self.layout]
        if self.row_filter is not None:
            layouts.append(self.row_filter.layout)
        return stored_columns(*layouts, schema_version=version)

    @property
    def _batch(self) -> pa.RecordBatch:
        rendered = self._rendered()
        return rendered.slice(self._skipped) if self._skipped else rendered

    def skip(self, rows: int) -> int:
        """Leaves out up to ``rows`` of the result's rows; returns how many there were."""
        self._skipped = min(rows, self._rendered().num_rows)
        return self._skipped

    @functools.cached_property
    def cuts(self) -> Sequence[Cut]:
        """The messages to be made: rows and lengths."""
        if self.known_cuts is not None:
            return self.known_cuts
        return cut_rows(self._batch, max_rows=self.max_rows, max_bytes=self.max_bytes)

    def length(self) -> int | None:
        """Bytes of the messages; None if only making them tells."""
        return None if self.codec is not None else encoded_length(self.cuts)

    def pieces(self) -> Iterator[Computed]:
        """The messages in groups; each is made when its piece is run."""
        for group in group_cuts(self.cuts):
            yield Computed(
                functools.partial(self._encode, group),
                None if self.codec is not None else encoded_length(group),
            )

    def _encode(self, group: Sequence[Cut]) -> list[Buffer]:
        return encode_cuts(self._batch, group, codec=self.codec)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows as record batches, cut but not encoded."""
        batch = self._batch
        if self.max_rows is None and self.max_bytes is None:
            if batch.num_rows:
                yield batch
            return
        for cut in self.cuts:
            yield batch.slice(cut.start, cut.end - cut.start)
