from __future__ import annotations

import gc
import mmap
import os
import re
import weakref
from pathlib import Path

import pytest

from fletching.objects.local import LocalStore
from fletching.objects.mappings import CHUNK_BYTES, MappedRanges

MIB = 1 << 20
SMAPS = Path("/proc/self/smaps")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path, resident_bytes=2 * MIB)
    with store.create("a/b") as sink:
        for number in range(16):
            sink.write(bytes([number]) * MIB)
        sink.commit()
    return store


def resident_bytes(path: Path) -> int:
    """Bytes of a mapped file that are in this process's page tables."""
    if not SMAPS.exists():
        pytest.skip("only Linux tells which pages of a mapping are resident")
    match = re.search(rf"{re.escape(str(path))}\n.*?Rss:\s+(\d+) kB", SMAPS.read_text(), re.DOTALL)
    assert match is not None, "the object is not mapped"
    return int(match[1]) * 1024


def test_old_ranges_leave_the_page_tables_and_their_views_stay_good(
    store: LocalStore, tmp_path: Path
) -> None:
    with store.open("a/b") as stored:
        views = []
        for number in range(16):
            view = stored.view(number * MIB, (number + 1) * MIB)
            assert view[0] == view[-1] == number
            assert sum(view[:: mmap.PAGESIZE]) == number * (MIB // mmap.PAGESIZE)
            views.append(view)
            # The kernel maps around what is touched, so a little more may be there.
            assert resident_bytes(tmp_path / "a/b") <= 5 * MIB
        for number, view in enumerate(views):
            assert bytes(view) == bytes([number]) * MIB


def test_without_a_window_everything_stays(tmp_path: Path) -> None:
    unbounded = LocalStore(tmp_path)
    with unbounded.create("a/b") as sink:
        sink.write(os.urandom(8 * MIB))
        sink.commit()
    with unbounded.open("a/b") as stored:
        bytes(stored.view(0, 8 * MIB))
        assert resident_bytes(tmp_path / "a/b") == 8 * MIB


def test_chunks_are_counted_once_and_the_least_recent_goes_first() -> None:
    ranges = MappedRanges(3 * CHUNK_BYTES)
    mapping = mmap.mmap(-1, 8 * CHUNK_BYTES)
    for _ in range(5):
        ranges.touch(mapping, 0, mmap.PAGESIZE)
        ranges.touch(mapping, CHUNK_BYTES - 1, CHUNK_BYTES + 1)
    assert ranges.total_bytes == 2 * CHUNK_BYTES
    ranges.touch(mapping, 0, 1)
    ranges.touch(mapping, 2 * CHUNK_BYTES, 4 * CHUNK_BYTES)
    assert ranges.total_bytes == 3 * CHUNK_BYTES
    ranges.touch(mapping, 0, 8 * CHUNK_BYTES)
    assert ranges.total_bytes == 8 * CHUNK_BYTES
    ranges.touch(mapping, 0, 1)
    assert ranges.total_bytes == 3 * CHUNK_BYTES


def test_small_ranges_far_apart_count_for_what_they_map(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, resident_bytes=4 * CHUNK_BYTES)
    with store.create("a/b") as sink:
        for _ in range(16):
            sink.write(bytes(CHUNK_BYTES))
        sink.commit()
    with store.open("a/b") as stored:
        for number in range(16):
            assert stored.view(number * CHUNK_BYTES, number * CHUNK_BYTES + 1)[0] == 0
        assert resident_bytes(tmp_path / "a/b") <= 5 * CHUNK_BYTES
    store.close()


def test_mappings_are_not_kept_alive() -> None:
    ranges = MappedRanges(3 * CHUNK_BYTES)
    for _ in range(10):
        mapping = mmap.mmap(-1, 2 * CHUNK_BYTES)
        ranges.touch(mapping, 0, 2 * CHUNK_BYTES)
        alive = weakref.ref(mapping)
        del mapping
        gc.collect()
        assert alive() is None
    assert ranges.total_bytes == 3 * CHUNK_BYTES
