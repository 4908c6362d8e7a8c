from __future__ import annotations

import io
import mmap
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ipc.conftest import EVERYTHING, file_of, lies_inside, messages_of, numbers

from fletching import ipc
from fletching.errors import (
    LimitExceededError,
    MalformedFrameError,
    TruncatedStreamError,
    UsageError,
    WireError,
    ZeroCopyError,
)
from fletching.ipc.source import merge_ranges
from fletching.types import ByteRange

BATCHES = [numbers(5), numbers(0, 5), numbers(3, 5), numbers(1, 8)]
SCHEMA = numbers(0).schema
FILE = file_of(BATCHES, SCHEMA)


class Counted(io.BytesIO):
    """A file that remembers what was read from it."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reads: list[tuple[int, int]] = []

    def readinto(self, target: Any) -> int:
        start = self.tell()
        count = super().readinto(target)
        self.reads.append((start, count))
        return count

    @property
    def bytes_read(self) -> int:
        return sum(count for _, count in self.reads)


def test_what_is_in_it() -> None:
    opened = ipc.open_file(FILE)
    assert opened.schema == SCHEMA
    assert (opened.num_record_batches, len(opened), opened.num_rows) == (4, 4, 9)
    assert [opened.row_range(i) for i in range(4)] == [(0, 5), (5, 5), (5, 8), (8, 9)]
    assert [b.num_rows for b in opened] == [5, 0, 3, 1]
    assert opened[-1].equals(BATCHES[-1])
    assert opened.to_table().equals(pa.Table.from_batches(BATCHES))
    with pytest.raises(IndexError):
        opened[4]
    with pytest.raises(IndexError):
        opened[-5]


@pytest.mark.parametrize("codec", [None, "lz4", "zstd"])
def test_every_type_reads_equal(codec: str | None) -> None:
    opened = ipc.open_file(file_of([EVERYTHING, EVERYTHING], EVERYTHING.schema, compression=codec))
    assert [b.equals(EVERYTHING) for b in opened] == [True, True]


def test_batches_borrow_from_the_input() -> None:
    for batch in ipc.open_file(FILE, require_zero_copy=True):
        assert all(lies_inside(column, FILE) for column in batch.columns)
    with pytest.raises(ZeroCopyError):
        ipc.open_file(file_of(BATCHES, SCHEMA, compression="lz4"), require_zero_copy=True)[0]


@given(st.integers(-1, 12), st.none() | st.integers(-1, 12))
def test_rows_are_sliced_across_batches(start: int, length: int | None) -> None:
    opened = ipc.open_file(FILE)
    if start < 0 or start > 9 or (length is not None and length < 0):
        with pytest.raises(UsageError):
            opened.slice(start, length)
        return
    result = [row for batch in opened.slice(start, length) for row in batch["id"].to_pylist()]
    assert result == list(range(9))[start : None if length is None else start + length]


@pytest.mark.parametrize("memory_map", [True, False])
def test_paths_are_opened(tmp_path: Path, memory_map: bool) -> None:
    path = tmp_path / "x.arrow"
    path.write_bytes(FILE)
    for source in (path, str(path)):
        assert ipc.open_file(source, memory_map=memory_map).num_rows == 9
    with path.open("rb") as file:
        assert ipc.open_file(file)[2].equals(BATCHES[2])
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert ipc.open_file(mapped)[2].equals(BATCHES[2])
    with pa.OSFile(str(path)) as native:
        assert ipc.open_file(native)[2].equals(BATCHES[2])


def test_a_mapping_lives_as_long_as_its_batches(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    path.write_bytes(FILE)
    batch = ipc.open_file(path)[0]
    path.unlink()
    assert batch.equals(BATCHES[0])


@given(st.integers(0, 40), st.binary(max_size=30))
def test_a_file_inside_other_bytes(before: int, behind: bytes) -> None:
    data = b"\xff" * before + FILE + behind
    for source in (data, io.BytesIO(data)):
        opened = ipc.open_file(source, before, len(FILE))
        assert [b.equals(e) for b, e in zip(opened, BATCHES, strict=True)] == [True] * 4
        assert opened.message(0).offset == before + opened.footer.batches[0].offset
    with pytest.raises(UsageError):
        ipc.open_file(data, len(data) + 1)
    with pytest.raises(UsageError):
        ipc.open_file(data, 0, len(data) + 1)


def wide(rows: int = 20_000) -> bytes:
    return file_of(
        [
            pa.record_batch({f"c{i}": range(start, start + rows) for i in range(20)})
            for start in (0, 1)
        ],
        pa.schema([(f"c{i}", pa.int64()) for i in range(20)]),
    )


def test_projection_reads_only_the_chosen_columns_bytes() -> None:
    data = wide()
    source = Counted(data)
    opened = ipc.open_file(source, columns=["c3", "c15"])
    source.reads.clear()
    batch = opened[1]
    assert batch.equals(ipc.open_file(data)[1].select(["c3", "c15"]))
    column = 8 * 20_000
    metadata = opened.footer.batches[1].metadata_length
    assert source.bytes_read == 2 * column + metadata
    assert len(source.reads) == 3


def test_small_gaps_are_read_along() -> None:
    source = Counted(wide(rows=1000))  # 8 kB a column: less than a gap
    opened = ipc.open_file(source, columns=["c3", "c5"])
    source.reads.clear()
    assert opened[0].schema.names == ["c3", "c5"]
    assert len(source.reads) == 2
    assert source.bytes_read == 3 * 8000 + opened.footer.batches[0].metadata_length


def test_a_projected_map_borrows_and_reads_nothing_else() -> None:
    data = wide()
    opened = ipc.open_file(data, columns=["c7"], require_zero_copy=True)
    assert lies_inside(opened[0].column(0), data)
    names = EVERYTHING.schema.names[::-2]
    everything = file_of([EVERYTHING], EVERYTHING.schema)
    for source in (everything, io.BytesIO(everything)):
        assert ipc.open_file(source, columns=names)[0].equals(EVERYTHING.select(names))
        assert ipc.open_file(source).select(names)[0].equals(EVERYTHING.select(names))


def test_opening_and_counting_read_metadata_only() -> None:
    source = Counted(wide())
    assert ipc.open_file(source).num_rows == 40_000
    assert source.bytes_read < 80_000


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([], []),
        ([(5, 5)], []),
        ([(0, 10), (20, 30)], [(0, 10), (20, 30)]),
        ([(20, 30), (0, 10)], [(0, 10), (20, 30)]),
        ([(0, 10), (14, 20)], [(0, 20)]),
        ([(0, 10), (15, 20), (100, 101)], [(0, 10), (15, 20), (100, 101)]),
        ([(0, 80), (90, 170), (180, 200)], [(0, 200)]),
        ([(0, 10), (2, 4), (13, 14), (50, 60)], [(0, 14), (50, 60)]),
    ],
)
def test_ranges_are_merged(ranges: list[tuple[int, int]], expected: list[tuple[int, int]]) -> None:
    merged = merge_ranges([ByteRange(*r) for r in ranges], gap_bytes=5)
    assert [(r.start, r.end) for r in merged] == expected


def test_the_footer_decides_about_the_schema() -> None:
    # Some writers leave no valid stream in the file: here its schema message is wiped.
    schema = messages_of(FILE)[0]
    wiped = FILE[:8] + bytes(schema.end - 8) + FILE[schema.end :]
    opened = ipc.open_file(wiped)
    assert opened.schema == SCHEMA
    assert opened[0].equals(BATCHES[0])
    everything = bytearray(file_of([EVERYTHING], EVERYTHING.schema))
    everything[8:16] = bytes(8)
    assert ipc.open_file(bytes(everything))[0].equals(EVERYTHING)


def test_deltas_in_files() -> None:
    batches = [
        pa.record_batch(
            {"t": pa.DictionaryArray.from_arrays(pa.array([0, n - 1]), list("abc")[:n])}
        )
        for n in (1, 2, 3)
    ]
    data = file_of(batches, batches[0].schema, emit_dictionary_deltas=True)
    opened = ipc.open_file(data)
    assert [b["t"].to_pylist() for b in opened] == [["a", "a"], ["a", "b"], ["a", "c"]]


def test_what_is_no_file_is_refused() -> None:
    for data in (b"", b"ARROW1\0\0", FILE[:17]):
        with pytest.raises(TruncatedStreamError, match="too short"):
            ipc.open_file(data)
    with pytest.raises(MalformedFrameError, match="does not start"):
        ipc.open_file(b"x" * 100)
    with pytest.raises(UsageError, match="cannot open"):
        ipc.open_file(3)  # type: ignore[arg-type]  # what is refused


def test_every_truncation_is_reported() -> None:
    for length in range(len(FILE)):
        with pytest.raises(TruncatedStreamError):
            ipc.open_file(FILE[:length])


def damaged(position: int, data: bytes) -> bytes:
    return FILE[:position] + data + FILE[position + len(data) :]


@pytest.mark.parametrize("length", [0, -1, 1 << 30, (1 << 31) - 1])
def test_a_false_footer_length_is_refused(length: int) -> None:
    with pytest.raises(MalformedFrameError, match="footer's length"):
        ipc.open_file(damaged(len(FILE) - 10, struct.pack("<i", length)))


def test_a_file_cannot_claim_more_than_the_limits() -> None:
    with pytest.raises(LimitExceededError, match="footer is too long"):
        ipc.open_file(FILE, limits=ipc.Limits(max_metadata_bytes=10))
    tight = ipc.Limits(max_body_bytes=10)
    assert ipc.open_file(FILE, limits=tight)[0].num_rows == 5  # mapped: nothing is allocated
    with pytest.raises(LimitExceededError, match="too long to be read"):
        ipc.open_file(io.BytesIO(FILE), limits=tight)[0]
    with pytest.raises(LimitExceededError, match="too long to be read"):
        ipc.open_file(io.BytesIO(FILE), limits=tight, columns=["id"])[0]


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_changed_footer_gives_a_batch_or_our_error(data: st.DataObject) -> None:
    start = ipc.open_file(FILE).footer.start
    position = data.draw(st.integers(start, len(FILE) - 1))
    changed = damaged(position, bytes([FILE[position] ^ data.draw(st.integers(1, 255))]))
    try:
        opened = ipc.open_file(changed)
        for batch in opened:
            batch.to_pylist()
        opened.slice(0, 3)
    except WireError:
        pass


def test_a_file_that_became_shorter_is_reported() -> None:
    class Shrinking(io.BytesIO):
        def readinto(self, target: Any) -> int:
            return super().readinto(target) if self.tell() > 500 else 0

    with pytest.raises(TruncatedStreamError, match="ended inside a range"):
        ipc.open_file(Shrinking(FILE))[0]


# --- rows of many batches ------------------------------------------------------------------------------

LENGTHS = [7, 7, 7, 0, 7, 123, 7, 1, 7, 7, 7, 7, 9, 7, 7, 7, 7, 7, 7, 7, 7, 0, 0, 7] * 3
STARTS = [sum(LENGTHS[:index]) for index in range(len(LENGTHS) + 1)]
MANY = [numbers(rows, start) for rows, start in zip(LENGTHS, STARTS, strict=False)]
MANY_FILE = file_of(MANY, SCHEMA)


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("columns", [None, ["id"]])
def test_rows_are_found_among_many_batches(read: bool, columns: list[str] | None) -> None:
    for start in [*range(0, STARTS[-1], 31), STARTS[-1]]:
        source = io.BytesIO(MANY_FILE) if read else MANY_FILE
        opened = ipc.open_file(source, columns=columns)
        result = [row for batch in opened.slice(start, 20) for row in batch["id"].to_pylist()]
        assert result == list(range(STARTS[-1]))[start : start + 20]
    opened = ipc.open_file(MANY_FILE)
    with pytest.raises(UsageError):
        opened.slice(STARTS[-1] + 1)
    assert opened.num_rows == STARTS[-1]
    fresh = ipc.open_file(MANY_FILE)
    order = list(range(len(LENGTHS)))[::-1]
    assert [fresh.row_range(i) for i in order] == [(STARTS[i], STARTS[i + 1]) for i in order]
    assert fresh.row_range(-1) == (STARTS[-2], STARTS[-1])


def test_a_slice_reads_no_metadata_behind_it() -> None:
    source = Counted(MANY_FILE)
    opened = ipc.open_file(source)
    blocks = opened.footer.batches
    source.reads.clear()
    opened.slice(3, 2)
    assert max(start for start, _ in source.reads) < blocks[9].offset
    opened.slice(STARTS[-1] - 1)
    assert max(start for start, _ in source.reads) >= blocks[-1].offset


@pytest.mark.parametrize("number", [0, 1, 5, len(LENGTHS) - 1])
@pytest.mark.parametrize("what", ["length", "body length", "type", "prefix"])
def test_damaged_metadata_among_many_batches_is_found(number: int, what: str) -> None:
    data = bytearray(MANY_FILE)
    block = ipc.open_file(MANY_FILE).footer.batches[number]
    header = ipc.open_file(MANY_FILE).message(number).header
    start = block.offset + 8
    where_at, size = {
        "length": (start + header.table.int64_position(0), 8),
        "body length": (start + header.message.int64_position(3), 8),
        "type": (start + header.message.uint8_position(1), 1),
        "prefix": (block.offset + 4, 4),
    }[what]
    data[where_at : where_at + size] = b"\xff" * size
    for source in (bytes(data), io.BytesIO(data)):
        with pytest.raises(WireError) as caught:
            ipc.open_file(source).slice(0)
        assert block.offset <= (caught.value.offset or 0) < block.end
    limits = ipc.Limits(max_rows=122)
    with pytest.raises(LimitExceededError):
        _ = ipc.open_file(MANY_FILE, limits=limits).num_rows


def test_blocks_are_a_sequence() -> None:
    blocks = ipc.open_file(MANY_FILE).footer.batches
    assert len(blocks) == len(LENGTHS)
    assert blocks[-1] == list(blocks)[-1]
    assert list(blocks[2:4]) == [blocks[2], blocks[3]]
    assert blocks == tuple(blocks)
    assert blocks != tuple(blocks)[:-1]
    with pytest.raises(IndexError):
        blocks[len(LENGTHS)]
    assert repr(blocks[:1]).startswith("Blocks([Block(offset=")
