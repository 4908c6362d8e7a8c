"""Rows of segments that nobody stored, for snapshots."""

from __future__ import annotations

import numpy as np

from fletching.catalog.segment_rows import SegmentRow, encode_partition


def row(
    number: int,
    position: int,
    partition: str = "",
    batches: tuple[int, ...] = (1,),
    codecs: str = "",
) -> SegmentRow:
    index = np.array(
        [[100 * n + 8, 64, 8 * count, count] for n, count in enumerate(batches)], "<i8"
    )
    return SegmentRow(
        id=number,
        key=f"k{number}",
        partition=encode_partition([partition] if partition else []),
        rows=sum(batches),
        length=1000,
        batch_index=index.tobytes(),
        dictionary_index=b"",
        schema_version=1,
        codecs=codecs,
        added_version=position,
        position=position,
        crc32c=0,
        statistics=None,
    )
