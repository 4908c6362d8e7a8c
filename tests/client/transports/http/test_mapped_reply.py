"""Rows that are read out of files: mapped once, in the reply's form, and never beyond what is there."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fletching import ipc
from fletching.client.cancellation import Cancellation
from fletching.client.transports.http import passed_files
from fletching.client.transports.http.mapped_reply import MappedReply, MappedSegment, MappedSegments
from fletching.errors import (
    CorruptObjectError,
    OperationCancelledError,
    ProtocolError,
    StorageError,
)
from fletching.ipc import lowlevel
from fletching.protocol.messages.mapped_rows import (
    MappedRows,
    SegmentLayout,
    SegmentRun,
    ServiceRun,
)

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="descriptors are passed on Linux"
)

STORED = pa.schema([("n", pa.int64()), ("s", pa.string())])


def stored(start: int, rows: int) -> pa.RecordBatch:
    numbers = range(start, start + rows)
    return pa.record_batch([list(numbers), [f"r{n}" for n in numbers]], schema=STORED)


class File:
    """A segment with two batches of 4 and 3 rows, and where they are."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with ipc.FileWriter(path, STORED) as writer:
            blocks = [writer.write(stored(0, 4)), writer.write(stored(4, 3))]
        self.entries = np.array(
            [[block.offset, block.end, rows] for block, rows in zip(blocks, (4, 3), strict=True)],
            dtype="<i8",
        )
        self.length = path.stat().st_size

    def open(self) -> int:
        return os.open(self.path, os.O_RDONLY)

    def run(self, skip: int = 0, rows: int = 7) -> SegmentRun:
        return SegmentRun(0, 0, self.entries.tobytes(), b"", skip, rows)


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "segment")


def layout(columns: tuple[int, ...], constants: tuple[str | None, ...] = ()) -> SegmentLayout:
    selected = -1 not in columns
    return SegmentLayout(bytes(lowlevel.encode_schema(STORED)), columns, constants, selected)


class Sent:
    """What the service sends for a part."""

    def __init__(self, batches: list[pa.RecordBatch]) -> None:
        self.batches = batches
        self.schema = STORED
        self.closed = self.hurried = False

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        yield from self.batches

    def close(self) -> None:
        self.closed = True

    def hurry(self) -> None:
        self.hurried = True


def reply(file: File, runs: Any, **options: Any) -> MappedReply:
    schema = options.pop("schema", STORED)
    message = MappedRows(
        bytes(lowlevel.encode_schema(schema)),
        (file.length,),
        (options.pop("layout", layout((0, 1))),),
        runs,
        sum(run.count if isinstance(run, ServiceRun) else run.rows for run in runs),
        options.pop("more", False),
    )
    segments = MappedSegments().take([file.open()], (file.length,))
    options.setdefault("cancellation", Cancellation())
    options.setdefault("by_service", lambda run: Sent([]))
    options.setdefault("following", lambda rows: Sent([]))
    return MappedReply(message, segments, "id", **options)


def ids(result: MappedReply) -> list[int]:
    return [n for batch in result for n in batch["n"].to_pylist()]


@pytest.mark.parametrize(
    ("skip", "rows"), [(0, 7), (2, 5), (0, 2), (3, 1), (3, 3), (0, 0), (0, 4), (1, 3)]
)
def test_a_run_is_cut_at_both_ends(file: File, skip: int, rows: int) -> None:
    assert ids(reply(file, (file.run(skip, rows),))) == list(range(7))[skip : skip + rows]


def test_columns_are_picked_turned_round_and_filled_in(file: File) -> None:
    (first, _) = reply(file, (file.run(),), layout=layout((0, 1)))
    assert first.equals(stored(0, 4))
    schema = pa.schema([("s", pa.string()), ("n", pa.int64())])
    (first, _) = reply(file, (file.run(),), schema=schema, layout=layout((1, 0)))
    assert first.to_pydict() == {"s": ["r0", "r1", "r2", "r3"], "n": [0, 1, 2, 3]}
    schema = pa.schema([("pt", pa.string()), ("n", pa.int64()), ("later", pa.int32())])
    filled = layout((-1, 0, -1), ("a", None))
    (first, _) = reply(file, (file.run(),), schema=schema, layout=filled)
    assert first.to_pydict() == {"pt": ["a"] * 4, "n": [0, 1, 2, 3], "later": [None] * 4}


def test_a_layout_of_other_columns_is_refused(file: File) -> None:
    for wrong in (layout((0,)), layout((0, 2)), layout((0, -2))):
        with pytest.raises(ProtocolError, match="a layout is not that of"):
            reply(file, (file.run(),), layout=wrong)


def test_parts_and_what_follows_come_from_the_service(file: File) -> None:
    asked: list[object] = []
    part, behind = Sent([stored(50, 2)]), Sent([stored(90, 1)])

    def noted(what: object, sent: Sent) -> Sent:
        asked.append(what)
        return sent

    result = reply(
        file,
        (file.run(0, 2), ServiceRun(7, 2), file.run(4, 1)),
        by_service=lambda run: noted(run, part),
        following=lambda rows: noted(rows, behind),
        more=True,
    )
    assert ids(result) == [0, 1, 50, 51, 4, 90]
    assert asked == [ServiceRun(7, 2), 5]
    assert part.closed
    assert behind.closed


def test_closing_and_hurrying_reach_what_the_service_sends(file: File) -> None:
    part = Sent([stored(50, 2), stored(60, 2)])
    result = reply(file, (ServiceRun(7, 4),), by_service=lambda run: part)
    result.hurry()
    assert not part.hurried
    next(iter(result))
    result.hurry()
    assert part.hurried
    result.close()
    result.close()
    assert part.closed


def test_a_batch_outlives_its_reply_and_its_file(file: File) -> None:
    result = reply(file, (file.run(),))
    batch = next(iter(result))
    result.close()
    file.path.unlink()
    assert batch.equals(stored(0, 4))


def test_a_file_that_was_cut_is_an_error_and_no_signal(file: File) -> None:
    result = reply(file, (file.run(),))
    os.truncate(file.path, int(file.entries[1][0]) + 8)
    with pytest.raises(CorruptObjectError, match="a segment ends at byte"):
        ids(result)


def test_what_does_not_decode_or_has_other_rows_is_damage(file: File) -> None:
    file.entries[0][2] = 5
    with pytest.raises(CorruptObjectError, match="has not the 5 rows"):
        ids(reply(file, (file.run(),)))
    file.entries[0][:] = file.entries[0][0] + 8, file.entries[0][1], 4
    with pytest.raises(CorruptObjectError, match=r"does not decode|should be"):
        ids(reply(file, (file.run(),)))


def test_a_cancelled_read_ends_before_its_next_batch(file: File) -> None:
    cancellation = Cancellation()
    result = iter(reply(file, (file.run(),), cancellation=cancellation))
    next(result)
    cancellation.cancel("enough")
    with pytest.raises(OperationCancelledError):
        next(result)


def open_below(folder: Path) -> int:
    """How many descriptors of this process are of files in a folder; those of other threads do not count."""
    result = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed since
            result += str(link.readlink()).startswith(str(folder))
    return result


def test_a_file_is_mapped_once_and_its_descriptors_are_closed(
    file: File, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments = MappedSegments()
    (first,) = segments.take([file.open()], (file.length,))
    (again,) = segments.take([file.open()], (file.length,))
    assert again is first
    assert bytes(first.view(0, 6)) == b"ARROW1"
    assert not first.is_deleted
    file.path.unlink()
    assert first.is_deleted
    other = File(tmp_path / "other")
    segments.take([other.open()], (other.length,))  # one that has no name makes way
    monkeypatch.setattr(passed_files, "KEPT_FILES", 1)
    third = File(tmp_path / "third")
    segments.take([third.open()], (third.length,))
    segments.clear()
    del first, again
    assert open_below(tmp_path) == 0


def test_what_cannot_be_mapped_leaves_no_descriptor_open(file: File, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be mapped"):
        MappedSegments().take([file.open(), file.open()], (file.length, file.length * 1000))
    folder = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises((OSError, ValueError)):
        MappedSegment(folder, 10)
    os.close(folder)  # which is still the caller's: closing it twice could close another's
    assert open_below(tmp_path) == 0
