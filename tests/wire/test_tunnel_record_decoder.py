"""Reading record streams: every cut and every flipped bit is told, and memory has its limits."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.folding import folded
from tests.wire.test_tunnel_records import decoded, encoded, layout

from fletching.errors import (
    ChecksumMismatchError,
    InvalidDataError,
    LimitExceededError,
    MalformedFrameError,
    TruncatedStreamError,
    UsageError,
    WireError,
)
from fletching.wire.tunnel_columns import ColumnParser
from fletching.wire.tunnel_layouts import MOMENT_TYPE, RecordLayout, record_tag, varint
from fletching.wire.tunnel_record_decoder import (
    EXPANSION_FLOOR,
    EXPANSION_MOST,
    MAX_ROW_BYTES,
    RecordDecoder,
    _allowed,
    _Part,
)
from fletching.wire.tunnel_records import RecordEncoder
from fletching.wire.tunnel_rows import SLACK

I64, BIN = pa.int64(), pa.binary()
END = bytes.fromhex("80c0ff7f")

# --- refusals -----------------------------------------------------------------------------------

SENT = encoded(
    [layout(I64), layout(BIN), layout(pa.list_(I64))],
    [pa.array([1, 2, None]), pa.array([b"a", None, b"cc"]), pa.array([[1], [], [None, 5]])],
)
THREE = [layout(I64), layout(BIN), layout(pa.list_(I64))]


@folded("end", range(len(SENT)))
def test_every_truncation_is_told(end: int) -> None:
    with pytest.raises(WireError):
        decoded(THREE, SENT[:end])


@folded("bit", range(len(SENT) * 8))
def test_every_flipped_bit_is_told(bit: int) -> None:
    damaged = bytearray(SENT)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(WireError):
        decoded(THREE, bytes(damaged))


@given(st.binary(max_size=200))
def test_garbage_is_refused_with_our_errors(data: bytes) -> None:
    for part in (data, SENT[:20] + data):
        with pytest.raises(WireError):
            decoded(THREE, part)


@pytest.mark.parametrize(
    ("sent", "error", "words"),
    [
        (SENT + b"\x00", MalformedFrameError, "after the end"),
        (SENT[:-1], TruncatedStreamError, "last fields"),
        (b"", TruncatedStreamError, "before its end"),
        (bytes.fromhex("f0ffff7f02f8ffff7f00"), MalformedFrameError, "another number"),
        (bytes.fromhex("f0ffff7f00f8ffff7f01"), ChecksumMismatchError, "differs"),
        (bytes.fromhex("20021201"), MalformedFrameError, "neither a field"),
        (bytes.fromhex("0802") + b"\xff" * 20, MalformedFrameError, "neither a field"),
        (bytes.fromhex("08") + b"\xff" * 20, MalformedFrameError, "ten bytes"),
    ],
)
def test_what_is_wrong_is_said(sent: bytes, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        decoded(THREE, sent)


@pytest.mark.parametrize(
    ("kind", "value", "as_if"),
    [
        (layout(pa.bool_()), "02", "01"),  # the checksum covers what it would be read as
        (layout(MOMENT_TYPE), "02 80a8d6b907", "02 00"),  # a whole second of nanoseconds
        (layout(MOMENT_TYPE), "02 01", "02 00"),  # less than none
        (layout(pa.map_(I64, I64)), "00 01 01", "00 00"),  # a value without a key
        (layout(I64), "80808080808080808002", "00"),  # bit 64
    ],
)
def test_a_checksum_does_not_make_a_value_of_what_is_none(
    kind: RecordLayout, value: str, as_if: str
) -> None:
    tag = record_tag(1, kind)
    row = tag + bytes.fromhex(as_if) + END
    assert decoded([kind], stream_of([kind], row)) is not None
    with pytest.raises(MalformedFrameError):
        decoded([kind], stream_of([kind], row).replace(row, tag + bytes.fromhex(value) + END))


def stream_of(table: list[RecordLayout], row: bytes) -> bytes:
    """A stream of one row, with the checksums of what it is read as."""
    column, _ = ColumnParser(
        np.frombuffer(row + bytes(SLACK), np.uint8), tuple(table), 1 << 20
    ).columns(np.array([0]), np.array([len(row) - len(END)]))
    encoder = RecordEncoder(table)
    sent = bytes(
        encoder.encode([array.cast(each.type) for array, each in zip(column, table, strict=True)])
    )
    return sent + encoder.finish()


def test_a_value_beyond_its_column() -> None:
    sent = encoded([layout(I64)], [pa.array([300])])
    with pytest.raises(InvalidDataError, match="does not fit column 1: Integer value 300"):
        decoded([layout(pa.int8())], sent)
    decoder = RecordDecoder([layout(pa.int8())], names=["small"])
    decoder.feed(sent)
    with pytest.raises(InvalidDataError, match="does not fit column 'small'"):
        decoder.finish()


def test_a_row_without_end_is_refused() -> None:
    decoder = RecordDecoder([layout(BIN)], decode_bytes=64, max_row_bytes=1000)
    decoder.feed(b"\x0a\xff\xff\xff\xff\x07" + b"x" * 1000)
    with pytest.raises(LimitExceededError) as caught:
        next(decoder.batches())
    assert caught.value.limit == 1000


# --- memory -------------------------------------------------------------------------------------


def test_rows_of_nulls_are_decoded_in_parts_that_fit() -> None:
    width = 400
    layouts = [layout(I64)] * width
    rows = 6_000
    sent = encoded(layouts, [pa.nulls(rows, I64)] * width)
    assert len(sent) < 10 * rows
    decoder = RecordDecoder(layouts)
    decoder.feed(sent)
    decoder.finish()
    parts = [len(part[0]) for part in decoder.batches()]
    assert sum(parts) == rows
    assert max(parts) * width * 8 <= EXPANSION_FLOOR


def test_elements_that_take_more_than_their_bytes_justify_are_refused() -> None:
    wide = pa.struct([(f"f{n}", I64) for n in range(500)])
    kind = pa.list_(wide)
    # A null element takes one byte here, and 500 places in memory.
    body = bytes([0x0A, *b"\xa0\x8d\x06"]) + b"\x01" * 100_000
    decoder = RecordDecoder([layout(kind)])
    decoder.feed(body + END + b"\x00")
    with pytest.raises(LimitExceededError, match="justify"):
        decoder.finish()


MANY = 1 << 19
LONG_LISTS = {
    "numbers": pa.ListArray.from_arrays([0, MANY], pa.array(np.arange(MANY) % 63)),
    "nulls": pa.ListArray.from_arrays([0, 2 * MANY], pa.nulls(2 * MANY, I64)),
    "truths": pa.ListArray.from_arrays([0, MANY // 4], pa.array(np.ones(MANY // 4, bool))),
    "texts": pa.ListArray.from_arrays([0, MANY // 4], pa.array([b""] * (MANY // 4))),
}


@pytest.mark.parametrize("name", LONG_LISTS)
def test_a_long_list_takes_no_more_memory_than_is_said(name: str) -> None:
    """What numpy and Arrow hold while a row of one or two bytes an element is decoded."""
    column = LONG_LISTS[name]
    sent = encoded([layout(column.type)], [column])
    decoder = RecordDecoder([layout(column.type)], decode_bytes=len(sent))
    decoder.feed(sent)
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    tracemalloc.start()
    try:
        arrays = decoder.decode()
        taken = tracemalloc.get_traced_memory()[1] + pool.bytes_allocated() - before
    finally:
        tracemalloc.stop()
    assert arrays is not None
    assert arrays[0].equals(column)
    assert taken <= max(decoder.need, 33 * len(sent))


def test_however_long_a_row_is_its_lists_take_a_gibibyte_at_most() -> None:
    assert _allowed(MAX_ROW_BYTES) == EXPANSION_MOST == 1 << 30
    parser = ColumnParser(
        np.zeros(SLACK, np.uint8), (layout(pa.list_(I64)),), _allowed(MAX_ROW_BYTES)
    )
    parser._check_elements(layout(I64), 1 << 25)
    with pytest.raises(LimitExceededError, match="justify"):
        parser._check_elements(layout(I64), (1 << 25) + 1)


def test_a_row_that_comes_in_many_pieces_is_not_looked_at_for_each() -> None:
    text = b"x" * 400_000
    sent = encoded([layout(BIN)], [pa.array([text])])
    decoder = RecordDecoder([layout(BIN)], decode_bytes=1000)
    tries = 0
    for start in range(0, len(sent), 500):
        decoder.feed(sent[start : start + 500])
        if decoder.ready:
            tries += 1
            assert list(decoder.batches()) == [] or start + 500 >= len(sent)
    assert tries < 12
    decoder.finish()
    assert [part[0].to_pylist() for part in decoder.batches()] in ([[text]], [])


def test_a_long_row_is_gone_over_once_for_each_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Value by value, which takes a microsecond each."""
    looked: list[int] = []
    real = _Part._scalar_end

    def counted(part: _Part, view: bytes, position: int) -> int:
        looked.append(position)
        return real(part, view, position)

    monkeypatch.setattr(_Part, "_scalar_end", counted)
    sent = encoded([layout(pa.list_(I64))], [pa.array([list(range(5000))])])
    decoder = RecordDecoder([layout(pa.list_(I64))], decode_bytes=1000)
    decoder.feed(sent[:1000])
    assert decoder.decode() is None
    assert looked == [0]


# --- what is asked of it ------------------------------------------------------------------------


def test_it_says_when_enough_has_come_and_what_it_needs() -> None:
    decoder = RecordDecoder([layout(I64)], decode_bytes=100)
    sent = encoded([layout(I64)], [pa.array(range(50))])
    decoder.feed(sent[:99])
    assert not decoder.ready
    assert decoder.need == EXPANSION_FLOOR
    assert list(decoder.batches()) == []
    decoder.feed(sent[99:])
    assert decoder.ready
    first = decoder.decode()
    assert first is not None
    assert decoder.rows == len(first[0])
    decoder.finish()
    assert not decoder.more
    rest = [value for part in decoder.batches() for value in part[0].to_pylist()]
    assert first[0].to_pylist() + rest == list(range(50))
    assert decoder.rows == 50


def test_what_it_needs_grows_with_what_is_looked_at() -> None:
    decoder = RecordDecoder([layout(BIN)], decode_bytes=1 << 20)
    decoder.feed(bytes(1 << 19))
    assert decoder.need == 16 << 20
    decoder.feed(bytes(1 << 20))
    assert decoder.need == 32 << 20  # of what is looked at, not of all that has come


def test_a_caller_may_reuse_its_buffer() -> None:
    buffer = bytearray(encoded([layout(BIN)], [pa.array([b"abc", b"de"])]))
    decoder = RecordDecoder([layout(BIN)])
    decoder.feed(buffer)
    buffer[:] = bytes(len(buffer))
    decoder.finish()
    assert [part[0].to_pylist() for part in decoder.batches()] == [[b"abc", b"de"]]


@pytest.mark.parametrize(
    ("checksum", "sound"),
    [
        (0x85EA8FC5, True),
        (0xFFFFFFFF_85EA8FC5, True),
        (0x1_85EA8FC5, False),
        (0x7FFFFFFF_85EA8FC5, False),
        (0xFFFFFFFE_85EA8FC5, False),
    ],
)
def test_a_checksum_of_more_than_32_bits_is_one_whose_sign_was_extended(
    checksum: int, sound: bool
) -> None:
    column, right = high_checksum()
    assert column.to_pylist()
    sent = encoded([layout(I64)], [column])
    assert varint(right) in sent
    other = sent.replace(varint(right), varint(checksum & ~0xFFFFFFFF | right))
    if sound:
        assert decoded([layout(I64)], other) == [column.to_pylist()]
    else:
        with pytest.raises(MalformedFrameError, match="more than 32 bits"):
            decoded([layout(I64)], other)


def high_checksum() -> tuple[pa.Array, int]:
    """A column of one row whose checksum is at or above 2**31, and the checksum."""
    for number in range(100):
        column = pa.array([number])
        sent = encoded([layout(I64)], [column])
        position = sent.index(END) + 4
        checksum = sum(
            (byte & 0x7F) << 7 * n for n, byte in enumerate(sent[position : position + 5])
        )
        if sent[position + 4] & 0x80 == 0 and checksum >> 31:
            return column, checksum
    raise AssertionError


def test_the_columns_are_one_to_so_many() -> None:
    for count in (0, 4096):
        with pytest.raises(UsageError, match="columns"):
            RecordDecoder([layout(I64)] * count)
    RecordDecoder([layout(I64)] * 4095)
