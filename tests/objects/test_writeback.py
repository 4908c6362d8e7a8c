"""Starting the disk early: which ranges, and never an error of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fletching.objects import local
from fletching.objects.local import LocalStore
from fletching.objects.writeback import start_writeback


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
