from __future__ import annotations

import contextlib
import struct

import flatbuffers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.folding import folded

from fletching.errors import MalformedFrameError
from fletching.ipc.flatbuffer import Table, root_table


def built() -> bytes:
    """A table of one of everything, made by the flatbuffers library."""
    b = flatbuffers.Builder(64)
    text = b.CreateString("käse")
    children = []
    for value in (7, 8):
        b.StartObject(1)
        b.PrependInt32Slot(0, value, 0)
        children.append(b.EndObject())
    b.StartVector(4, 2, 4)
    for child in reversed(children):
        b.PrependUOffsetTRelative(child)
    vector = b.EndVector()
    b.StartVector(16, 2, 8)
    for value in (4, 3, 2, 1):
        b.PrependInt64(value)
    structs = b.EndVector()
    b.StartObject(10)
    b.PrependInt64Slot(0, -(1 << 40), 0)
    b.PrependInt32Slot(1, -5, 0)
    b.PrependInt16Slot(2, -300, 0)
    b.PrependUint8Slot(3, 250, 0)
    b.PrependBoolSlot(4, True, False)
    b.PrependUOffsetTRelativeSlot(5, text, 0)
    b.PrependUOffsetTRelativeSlot(6, children[0], 0)
    b.PrependUOffsetTRelativeSlot(7, vector, 0)
    b.PrependUOffsetTRelativeSlot(8, structs, 0)
    b.Finish(b.EndObject())
    return bytes(b.Output())


def read_all(table: Table) -> list[object]:
    child = table.table(6)
    start, count = table.vector(8, 16)
    return [
        table.int64(0),
        table.int32(1),
        table.int16(2),
        table.uint8(3),
        table.boolean(4),
        table.text(5),
        None if child is None else child.int32(0),
        [item.int32(0) for item in table.tables(7)],
        struct.unpack_from(f"<{2 * count}q", table.data, start),
        table.int8(9, 11),
    ]


def test_values_of_another_writer_are_read() -> None:
    assert read_all(root_table(memoryview(built()))) == [
        -(1 << 40), -5, -300, 250, True, "käse", 7, [7, 8], (1, 2, 3, 4), 11,
    ]  # fmt: skip


def test_absent_slots_give_defaults() -> None:
    table = root_table(memoryview(built()))
    assert (table.int64(20, 5), table.table(20), table.text(20)) == (5, None, None)
    assert (table.vector(20, 8), list(table.tables(20)), table.has(20)) == ((0, 0), [], False)
    assert table.has(0)


@folded("length", range(len(built())))
def test_every_truncation_is_reported_or_harmless(length: int) -> None:
    with contextlib.suppress(MalformedFrameError):
        read_all(root_table(memoryview(built())[:length]))


@given(st.integers(0, len(built()) - 1), st.integers(1, 255))
def test_a_changed_byte_gives_a_value_or_our_error(position: int, change: int) -> None:
    data = bytearray(built())
    data[position] ^= change
    with contextlib.suppress(MalformedFrameError):
        read_all(root_table(memoryview(bytes(data))))


@given(st.binary(max_size=64))
def test_arbitrary_bytes_give_a_value_or_our_error(data: bytes) -> None:
    with contextlib.suppress(MalformedFrameError):
        read_all(root_table(memoryview(data)))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "no room for the root offset"),
        (b"\xff\xff\xff\x7f", "the root table lies outside"),
        (struct.pack("<Ii", 4, -100), "a vtable lies outside"),
        (struct.pack("<Ii", 4, 100), "a vtable lies outside"),
        (struct.pack("<IiHH", 4, -4, 3, 4), "a vtable has a wrong size"),
        (struct.pack("<IiHH", 4, -4, 400, 4), "a vtable has a wrong size"),
        (struct.pack("<IiHH", 4, -4, 4, 3), "a table has a wrong size"),
        (struct.pack("<IiHH", 4, -4, 4, 100), "a table has a wrong size"),
    ],
)
def test_what_is_wrong_is_named(data: bytes, what: str) -> None:
    with pytest.raises(MalformedFrameError, match=what):
        root_table(memoryview(data))


def test_a_vector_longer_than_the_input_is_refused_before_it_is_read() -> None:
    # root 12; vtable at 4: size 6, table size 8, slot 0 at 4; table at 12; vector at 20
    data = struct.pack("<IHHH2xiII", 12, 6, 8, 4, 8, 4, 0xFFFFFFFF)
    with pytest.raises(MalformedFrameError, match="longer than the flatbuffer"):
        root_table(memoryview(data)).vector(0, 16)
