"""What a service says of rows that lie in files which its client maps: nothing of it is believed."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from fletching.errors import ProtocolError
from fletching.protocol.messages.mapped_rows import (
    CONSTANT,
    MappedRows,
    SegmentLayout,
    SegmentRun,
    ServiceRun,
    decode_mapped_rows,
    encode_mapped_rows,
)


def packed(*entries: tuple[int, int, int]) -> bytes:
    return np.array(entries, "<i8").tobytes()


LAYOUT = SegmentLayout(b"schema", (0, CONSTANT), ("x",), selected=False)
RUN = SegmentRun(0, 0, packed((8, 64, 10), (64, 100, 5)), packed((0, 8, 0)), 2, 12)
MESSAGE = MappedRows(b"reply", (100,), (LAYOUT,), (RUN, ServiceRun(12, 30)), 42, more=True)


def test_a_reply_survives_the_wire() -> None:
    decoded = decode_mapped_rows(encode_mapped_rows(MESSAGE), 1)
    assert decoded == MESSAGE
    run = decoded.runs[0]
    assert isinstance(run, SegmentRun)
    assert run.entries() == [(8, 64, 10), (64, 100, 5)]
    assert run.dictionary_entries() == [(0, 8, 0)]


def changed(**changes: Any) -> MappedRows:
    return msgspec.structs.replace(MESSAGE, **changes)


def with_run(**changes: Any) -> MappedRows:
    return changed(runs=(msgspec.structs.replace(RUN, **changes), ServiceRun(12, 30)))


@pytest.mark.parametrize(
    "message",
    [
        changed(lengths=(100, 100)),
        changed(lengths=()),
        changed(rows=41),
        changed(runs=(RUN, ServiceRun(-1, 30))),
        changed(runs=(RUN, ServiceRun(12, -30))),
        changed(runs=(), rows=0),
        changed(layouts=(msgspec.structs.replace(LAYOUT, constants=()),)),
        changed(layouts=(msgspec.structs.replace(LAYOUT, columns=(0, 1)),)),
        with_run(segment=1),
        with_run(segment=-1),
        with_run(layout=1),
        with_run(skip=-1, rows=12),
        with_run(skip=4),
        with_run(rows=-1),
        with_run(batches=packed((8, 101, 20))),
        with_run(batches=packed((-8, 64, 20))),
        with_run(batches=packed((64, 64, 20))),
        with_run(batches=packed((64, 8, 20))),
        with_run(batches=packed((8, 64, -20))),
        with_run(batches=packed((8, 64, 1 << 62), (8, 64, 1 << 62))),
        with_run(batches=packed((8, 64, 20))[:-1]),
        with_run(dictionaries=packed((8, 101, 0))),
        with_run(dictionaries=b"1234567"),
    ],
    ids=lambda message: str(message)[60:200],
)
def test_a_reply_that_contradicts_itself_is_refused(message: MappedRows) -> None:
    with pytest.raises(ProtocolError, match="does not hold together"):
        decode_mapped_rows(encode_mapped_rows(message), 1)


@pytest.mark.parametrize("cut", range(0, len(encode_mapped_rows(MESSAGE)), 7))
def test_a_cut_reply_is_refused(cut: int) -> None:
    with pytest.raises(ProtocolError):
        decode_mapped_rows(encode_mapped_rows(MESSAGE)[:cut], 1)


def test_more_or_fewer_descriptors_than_segments_are_refused() -> None:
    for count in (0, 2):
        with pytest.raises(ProtocolError, match="descriptors"):
            decode_mapped_rows(encode_mapped_rows(MESSAGE), count)
