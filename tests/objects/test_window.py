from __future__ import annotations

import gc
import mmap
import os
import re
from pathlib import Path

import pytest

from fletching.objects.local import LocalStore
from fletching.objects.window import MappedWindow

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
    found = re.search(rf"{re.escape(str(path))}\n.*?Rss:\s+(\d+) kB", SMAPS.read_text(), re.DOTALL)
    assert found is not None, "the object is not mapped"
    return int(found[1]) * 1024


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


def test_ranges_are_counted_once_and_the_least_recent_goes_first() -> None:
    window = MappedWindow(3 * mmap.PAGESIZE)
    page = mmap.PAGESIZE
    mapping = mmap.mmap(-1, 8 * page)
    for _ in range(5):
        window.touch(mapping, 0, page)
        window.touch(mapping, page, 2 * page)
    assert window.total_bytes == 2 * page
    window.touch(mapping, 0, page)
    window.touch(mapping, 2 * page, 4 * page)
    assert window.total_bytes == 3 * page
    window.touch(mapping, 0, 8 * page)
    assert window.total_bytes == 8 * page


def test_mappings_are_not_kept_alive() -> None:
    window = MappedWindow(mmap.PAGESIZE)
    for _ in range(10):
        window.touch(mmap.mmap(-1, 4 * mmap.PAGESIZE), 0, 4 * mmap.PAGESIZE)
        gc.collect()
    assert window.total_bytes == 4 * mmap.PAGESIZE
