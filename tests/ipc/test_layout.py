"""The check of metadata has a fast way for what writers make; it must accept nothing else."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.folding import folded
from tests.ipc.conftest import all_arrays

from fletching import ipc
from fletching.errors import LimitExceededError, MalformedFrameError, WireError
from fletching.ipc import Limits
from fletching.ipc import layout as module
from fletching.ipc.layout import BatchLayout, layout_of
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


@folded("name", PLAIN)
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


def changed(
    batch: pa.RecordBatch,
    changes: dict[str, int] | None = None,
    *,
    limits: Limits = LIMITS,
    rows: int | None = None,
) -> Exception | None:
    """What `check` says about a header in which single numbers were changed."""
    layout, header, body_length = header_of(batch)
    nodes, buffers = header.nodes.copy(), header.buffers.copy()
    for name, value in (changes or {}).items():
        table, row, column = name.split("_")
        (nodes if table == "node" else buffers)[int(row), int(column)] = value
    header = dataclasses.replace(
        header, nodes=nodes, buffers=buffers, length=header.length if rows is None else rows
    )
    try:
        layout.check(header, body_length, limits)
    except WireError as error:
        return error
    return None


LISTS = pa.record_batch({"l": pa.array([[1, 2, 3], [4, 5]], pa.list_(pa.int8()))})
WIDE = pa.record_batch(
    {f"c{i}": [1, 2] for i in range(module.FEW_BUFFERS)} | {"l": [[1, 2, 3], []]}
)
VIEWS = pa.record_batch({"v": pa.array(["a", "b"], pa.string_view()), "l": [[1, 2, 3], []]})


@pytest.mark.parametrize("batch", [LISTS, WIDE, VIEWS], ids=["few", "many", "views"])
def test_child_arrays_may_be_as_long_as_the_limit(batch: pa.RecordBatch) -> None:
    longest = int(header_of(batch)[1].nodes[:, 0].max())
    assert longest > batch.num_rows
    assert changed(batch, limits=Limits(max_rows=longest)) is None
    error = changed(batch, limits=Limits(max_rows=longest - 1))
    assert isinstance(error, LimitExceededError)
    assert (error.limit, error.actual) == (longest - 1, longest)


NULLS = pa.record_batch({"a": pa.array([1, None, 3], pa.int64()), "s": ["x", "yy", "zzz"]})


@pytest.mark.parametrize(
    "changes",
    [
        {"node_0_1": 4},  # more nulls than values
        {"node_0_1": -1},
        {"node_1_0": 2},  # a column shorter than the batch
        {"node_1_0": 4},
        {"buffer_1_0": 0},  # overlaps the bitmap before it
        {"buffer_1_1": 23},  # one byte less than three numbers
        {"buffer_3_1": 15},  # one byte less than four offsets
        {"buffer_0_1": 0},  # no bitmap where there is a null
        {"buffer_3_1": 0},  # no offsets where there are values
        {"buffer_4_0": -8},
        {"buffer_4_1": -1},
        {"buffer_4_1": 1 << 62},
        {"buffer_4_0": 1 << 62},
    ],
)
def test_each_number_is_checked_on_both_ways(changes: dict[str, int]) -> None:
    assert changed(NULLS) is None
    error = changed(NULLS, changes)
    assert isinstance(error, MalformedFrameError)
    # The same columns behind so many others that the slower way takes them.
    others = {f"c{i}": pa.array([1, 2, 3]) for i in range(module.FEW_BUFFERS)}
    wide = pa.record_batch({**{n: NULLS[n] for n in NULLS.schema.names}, **others})
    assert changed(wide) is None
    assert isinstance(changed(wide, changes), MalformedFrameError)


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({}, True),
        ({"buffer_2_1": -8}, False),  # of the text that views refer to
        ({"buffer_2_0": -8}, False),
        ({"buffer_2_1": 1 << 62}, False),
        ({"buffer_1_1": 31}, False),
        ({"node_0_0": 1}, False),
        ({"node_0_1": -1}, False),
    ],
)
def test_each_number_is_checked_of_many_headers_at_once(
    changes: dict[str, int], fits: bool
) -> None:
    texts = pa.array(["a" * 20, "b" * 30], pa.string_view())
    layout, header, body_length = header_of(pa.record_batch({"v": texts}))
    nodes, buffers = np.stack([header.nodes] * 2), np.stack([header.buffers] * 2)
    for name, value in changes.items():
        table, row, column = name.split("_")
        (nodes if table == "node" else buffers)[1, int(row), int(column)] = value
    assert fits is layout.all_fit(
        header.variadic_counts,
        rows=np.array([2, 2]),
        body_lengths=np.array([body_length] * 2),
        nodes=(nodes[..., 0], nodes[..., 1]),
        buffers=(buffers[..., 0], buffers[..., 1]),
        max_rows=LIMITS.max_rows,
    )


def test_a_buffer_may_end_where_the_body_does() -> None:
    layout, header, _ = header_of(NULLS)
    end = int((header.buffers[:, 0] + header.buffers[:, 1]).max())
    layout.check(header, end, LIMITS)
    with pytest.raises(MalformedFrameError, match="inside the body"):
        layout.check(header, end - 1, LIMITS)


def test_rows_without_values_need_no_buffers() -> None:
    assert changed(NULLS.slice(0, 0), {"buffer_3_1": 0}) is None
    assert changed(NULLS, rows=2) is not None


FLAT_KINDS = [pa.int64(), pa.string(), pa.bool_(), pa.decimal128(9, 2), pa.timestamp("us", "UTC")]


def test_layouts_of_flat_types_are_compiled_once_and_are_those_of_each_schema() -> None:
    first = layout_of(FLAT_KINDS)
    # Of another unit, scale or precision, the buffers are the same.
    again = layout_of([*FLAT_KINDS[:3], pa.decimal128(20, 5), pa.timestamp("ns")])
    assert again is first
    fresh = BatchLayout(FLAT_KINDS)
    for name, value in vars(fresh).items():
        mine = vars(first)[name]
        assert np.array_equal(mine, value) if isinstance(value, np.ndarray) else mine == value
    assert layout_of([*FLAT_KINDS, pa.binary(3)]) is not layout_of([*FLAT_KINDS, pa.binary(4)])
    assert layout_of([pa.list_(pa.int8())]).nodes == 2
