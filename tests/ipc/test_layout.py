"""The check of metadata has a fast way for what writers make; it must accept nothing else."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ipc.conftest import all_arrays

from fletching import ipc
from fletching.errors import WireError
from fletching.ipc import Limits
from fletching.ipc import layout as module
from fletching.ipc.layout import BatchLayout
from fletching.ipc.metadata import RecordBatchHeader

BATCHES = {
    name: pa.record_batch({"c": array, "n": range(5)}) for name, array in all_arrays().items()
}
LIMITS = Limits()


def header_of(batch: pa.RecordBatch) -> tuple[BatchLayout, RecordBatchHeader, int]:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    message = list(ipc.messages(sink.getvalue()))[-1]
    layout = BatchLayout(batch.schema.types, message.version)
    return layout, message.record_batch(LIMITS), message.body_length


PLAIN = sorted(name for name, batch in BATCHES.items() if not header_of(batch)[0].view_fields)


def outcome(layout: BatchLayout, header: RecordBatchHeader, body_length: int) -> str | None:
    try:
        layout.check(header, body_length, LIMITS)
    except WireError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", PLAIN)
def test_what_pyarrow_writes_takes_the_fast_way(name: str) -> None:
    layout, header, body_length = header_of(BATCHES[name])
    assert layout._fits(header, body_length, LIMITS)


@given(data=st.data())
def test_both_ways_refuse_the_same(data: st.DataObject) -> None:
    layout, header, body_length = header_of(BATCHES[data.draw(st.sampled_from(PLAIN))])
    nodes, buffers = header.nodes.copy(), header.buffers.copy()
    values = st.one_of(st.integers(-2, 70), st.sampled_from([body_length, 2**31, 2**62, -(2**63)]))
    for table in (nodes, buffers):
        for _ in range(data.draw(st.integers(0, 2))):
            if len(table):
                row = data.draw(st.integers(0, len(table) - 1))
                table[row, data.draw(st.integers(0, 1))] = data.draw(values)
    if len(buffers) > 1 and data.draw(st.booleans()):
        buffers = buffers[::-1].copy()
    length = data.draw(st.sampled_from([header.length, 0, 4]))
    changed = dataclasses.replace(header, length=length, nodes=nodes, buffers=buffers)
    fast = outcome(layout, changed, body_length)
    few, module.FEW_BUFFERS = module.FEW_BUFFERS, -1
    try:
        assert outcome(layout, changed, body_length) == fast
    finally:
        module.FEW_BUFFERS = few


def test_many_buffers_are_checked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = pa.record_batch({f"c{n}": [1, 2] for n in range(200)})
    layout, header, body_length = header_of(batch)
    used: list[Any] = []
    ceil = np.ceil

    def recording(value: Any) -> Any:
        used.append(value)
        return ceil(value)

    monkeypatch.setattr(np, "ceil", recording)
    layout.check(header, body_length, LIMITS)
    assert len(used) == 1
