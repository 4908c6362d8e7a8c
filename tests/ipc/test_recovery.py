from __future__ import annotations

import io
import struct

import pyarrow as pa
import pytest
from tests.ipc.conftest import EVERYTHING, file_of, messages_of, numbers

from fletching import ipc
from fletching.errors import MalformedFrameError, TruncatedStreamError
from fletching.ipc import lowlevel
from fletching.ipc.encoding import encode_record_batch_metadata

BATCHES = [numbers(5), numbers(3, 5), numbers(2, 8)]
FILE = file_of(BATCHES, numbers(0).schema)
MESSAGES = messages_of(FILE)


def repaired(data: bytes, **options: object) -> tuple[lowlevel.Recovery, list[pa.RecordBatch]]:
    sink = io.BytesIO()
    recovery = ipc.recover(data, sink, **options)  # type: ignore[arg-type]  # test options by name
    assert sink.getvalue() == data[: recovery.keep] + recovery.tail
    opened = pa.ipc.open_file(sink.getvalue())
    return recovery, [opened.get_batch(i) for i in range(opened.num_record_batches)]


def test_every_cut_keeps_all_whole_batches() -> None:
    for length in range(MESSAGES[0].end, len(FILE)):
        check_cut(length)


def check_cut(length: int) -> None:
    recovery, batches = repaired(FILE[:length])
    whole = [m for m in MESSAGES[1:] if m.end <= length]
    assert not recovery.intact
    assert batches == BATCHES[: len(whole)]
    assert recovery.rows == sum(b.num_rows for b in batches)
    end = whole[-1].end if whole else MESSAGES[0].end
    assert recovery.keep == end
    marker = 8 if length >= MESSAGES[-1].end + 8 else 0
    assert recovery.lost_bytes == length - end - marker
    assert f"kept {len(whole)} record batches" in recovery.summary
    assert [block.offset for block in recovery.batches] == [m.offset for m in whole]


def test_without_a_schema_nothing_can_be_recovered() -> None:
    for length in range(8, MESSAGES[0].end):
        with pytest.raises(TruncatedStreamError):
            ipc.recover(FILE[:length])
    for data in (b"", b"ARROW", b"other bytes"):
        with pytest.raises(MalformedFrameError, match="does not start"):
            ipc.recover(data)


def test_a_whole_file_is_left_alone() -> None:
    recovery, batches = repaired(FILE)
    assert recovery.intact
    assert (recovery.keep, recovery.tail, recovery.lost_bytes) == (len(FILE), b"", 0)
    assert batches == BATCHES
    assert recovery.summary == "the file is whole: 3 record batches, 10 rows"


def test_it_stops_at_the_first_broken_batch() -> None:
    second = MESSAGES[2]
    start = second.offset + second.metadata_length + int(second.record_batch().buffers[3, 0])
    data = bytearray(FILE[: MESSAGES[-1].end])
    data[start : start + 4] = b"\xff\xff\xff\x7f"  # a string offset far outside
    recovery, batches = repaired(bytes(data))
    assert batches == BATCHES[:1]
    assert recovery.lost_bytes == len(data) - second.offset
    assert "name" in recovery.reason or "column" in recovery.reason
    # Without looking at contents, all three are there.
    assert len(ipc.recover(bytes(data), verify=False).batches) == 3


def test_a_footer_that_lists_something_else_is_replaced() -> None:
    footer = ipc.open_file(FILE).footer
    data = bytearray(FILE)
    at = FILE.index(footer.batches[1].offset.to_bytes(8, "little"), footer.start)
    data[at : at + 8] = footer.batches[2].offset.to_bytes(8, "little")
    recovery, batches = repaired(bytes(data))
    assert not recovery.intact
    assert "does not list" in recovery.reason
    assert batches == BATCHES


def test_every_type_with_dictionaries() -> None:
    data = file_of([EVERYTHING, EVERYTHING], EVERYTHING.schema)
    last = messages_of(data)[-1]
    recovery, batches = repaired(data[: last.end - 1])
    assert batches == [EVERYTHING]
    assert recovery.dictionaries


@pytest.mark.parametrize(
    "end", [len(FILE), MESSAGES[-1].end, MESSAGES[-1].end - 1, MESSAGES[2].end + 3]
)
def test_a_file_that_is_read_gives_the_same(end: int) -> None:
    mapped, read = ipc.recover(FILE[:end]), ipc.recover(io.BytesIO(FILE[:end]))
    assert (mapped.keep, mapped.tail, mapped.rows) == (read.keep, read.tail, read.rows)
    assert mapped.lost_bytes == read.lost_bytes


@pytest.mark.parametrize(("metadata_extra", "body_length"), [(0, 45), (4, 40)])
def test_it_stops_at_a_message_that_is_not_padded(metadata_extra: int, body_length: int) -> None:
    """No file of ours has one, and what follows it would stand where no reader looks for it."""
    header = MESSAGES[1].record_batch()
    metadata = encode_record_batch_metadata(5, header.nodes, header.buffers, body_length)
    metadata += bytes(metadata_extra)
    odd = b"\xff" * 4 + struct.pack("<i", len(metadata)) + metadata + bytes(body_length)
    recovery, batches = repaired(FILE[: MESSAGES[1].end] + odd + bytes(64))
    assert batches == BATCHES[:1]
    assert "not padded" in recovery.summary
