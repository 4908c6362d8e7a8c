"""Whether pages are in memory, asked of the kernel where it tells the truth; and starting the disk early."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from fletching.objects import local, local_object, page_cache
from fletching.objects.local import LocalStore
from fletching.objects.page_cache import MappedPages, may_ask, start_writeback

PAGE = mmap.PAGESIZE
LENGTH = 64 * PAGE + 100


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    made.write_bytes(os.urandom(LENGTH))
    return made


def evict(path: Path) -> None:
    """Takes a file's pages out of memory; skips the test where they cannot be."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        try:
            os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
        except BlockingIOError:
            return
        except OSError:
            pass
    pytest.skip("this file system keeps its pages")


def mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


needs_mincore = pytest.mark.skipif(page_cache._MINCORE is None, reason="no mincore here")


@needs_mincore
def test_pages_that_were_just_written_are_in_memory(path: Path) -> None:
    mapping = mapped(path)
    pages = MappedPages(mapping)
    for start, end in ((0, LENGTH), (0, 1), (PAGE - 1, PAGE + 1), (LENGTH - 1, LENGTH)):
        assert pages.resident(start, end) is True
    assert pages.resident(5, 5) is None


@needs_mincore
def test_a_single_missing_page_is_found(path: Path) -> None:
    evict(path)
    mapping = mapped(path)
    pages = MappedPages(mapping)
    assert pages.resident(0, LENGTH) is False
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)  # no read-ahead
        os.pread(file.fileno(), 1, 10 * PAGE)
    assert pages.resident(10 * PAGE, 11 * PAGE) is True
    assert pages.resident(10 * PAGE, 11 * PAGE + 1) is False


@pytest.mark.parametrize("asks", [True, False])
def test_an_object_answers_the_same_either_way(
    path: Path, monkeypatch: pytest.MonkeyPatch, *, asks: bool
) -> None:
    if not asks:
        monkeypatch.setattr(local_object, "may_ask", lambda _: False)
    with LocalStore(path.parent).open("data") as stored:
        stored.view(0, 1)  # maps the file, and touches nothing
        assert (stored._pages is not None) is (asks and page_cache._MINCORE is not None)
        assert stored.resident(0, LENGTH)
        evict(path)
        assert not stored.resident(32 * PAGE, LENGTH)
        stored.load(0, LENGTH)
        assert stored.resident(0, LENGTH)


def test_other_peoples_files_are_not_asked_about(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with path.open("rb") as file:
        assert may_ask(file.fileno())
        monkeypatch.setattr(os, "geteuid", lambda: 12_345_678)
        monkeypatch.setattr(os, "access", lambda *_, **__: False)
        assert not may_ask(file.fileno())
        monkeypatch.setattr(os, "access", lambda *_, **__: True)
        assert may_ask(file.fileno())
    assert not may_ask(-1)


def test_a_system_without_the_call_cannot_tell(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_cache, "_MINCORE", None)
    assert MappedPages(mapped(path)).resident(0, LENGTH) is None


def test_each_range_is_started_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[int, int]] = []
    monkeypatch.setattr(
        local, "start_writeback", lambda _, start, length: started.append((start, length))
    )
    monkeypatch.setattr(local, "_WRITEBACK_BYTES", 100)
    store = LocalStore(tmp_path)
    sink = store.create("a")
    for length in (60, 30, 20, 250, 99):
        sink.write(bytes(length))
    sink.commit()
    store.close()
    assert started == [(0, 110), (110, 250)]


def test_it_changes_nothing_and_fails_silently(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100_000)
    descriptor = os.open(path, os.O_RDWR)
    start_writeback(descriptor, 0, 100_000)
    start_writeback(descriptor, 50_000, 10_000_000)
    os.close(descriptor)
    start_writeback(descriptor, 0, 10)  # a closed descriptor: for the fsync to find
    assert path.read_bytes() == b"x" * 100_000
