"""Syncs of folders: each begins after whoever waits for it came, and as few as that takes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from fletching.objects.folder_syncs import FolderSyncs, sync_folder


class Disk:
    """A disk whose syncs wait to be let go, one by one."""

    def __init__(self) -> None:
        self.begun = 0
        self.started = threading.Semaphore(0)
        self.turns = threading.Semaphore(0)
        self.errors: list[Exception | None] = []

    def __call__(self, folder: Path) -> None:
        number, self.begun = self.begun, self.begun + 1
        self.started.release()
        self.turns.acquire()
        error = self.errors[number] if number < len(self.errors) else None
        if error is not None:
            raise error


def waiting(syncs: FolderSyncs, folder: Path, outcomes: list[object]) -> threading.Thread:
    def run() -> None:
        try:
            syncs.sync(folder)
        except Exception as error:  # noqa: BLE001  # looked at by the test
            outcomes.append(error)
        else:
            outcomes.append(None)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def joined(syncs: FolderSyncs, folder: Path, count: int) -> None:
    """Returns once so many threads are known to wait: they have looked, under the lock."""
    while count and not syncs._next.get(folder):
        threading.Event().wait(0.001)


def test_all_who_come_while_one_runs_share_the_next(tmp_path: Path) -> None:
    disk, outcomes = Disk(), list[object]()
    syncs = FolderSyncs(disk)
    first = waiting(syncs, tmp_path, outcomes)
    disk.started.acquire()
    others = [waiting(syncs, tmp_path, outcomes) for _ in range(8)]
    joined(syncs, tmp_path, 1)
    # Whoever has not looked yet begins another round, which is as good.
    for _ in range(9):
        disk.turns.release()
    for thread in (first, *others):
        thread.join(600)
    assert outcomes == [None] * 9
    assert 2 <= disk.begun <= 9
    assert not syncs._running
    assert not syncs._next


def test_nobody_relies_on_a_sync_that_began_before(tmp_path: Path) -> None:
    disk, outcomes = Disk(), list[object]()
    syncs = FolderSyncs(disk)
    first = waiting(syncs, tmp_path, outcomes)
    disk.started.acquire()
    second = waiting(syncs, tmp_path, outcomes)
    joined(syncs, tmp_path, 1)
    disk.turns.release()
    first.join(600)
    assert outcomes == [None]
    disk.started.acquire()  # a sync of its own
    disk.turns.release()
    second.join(600)
    assert outcomes == [None, None]


def test_a_failed_sync_is_told_to_everybody_who_waited_for_it_alone(tmp_path: Path) -> None:
    disk, outcomes = Disk(), list[object]()
    failure = OSError(5, "bad disk")
    disk.errors = [None, failure]
    syncs = FolderSyncs(disk)
    first = waiting(syncs, tmp_path, outcomes)
    disk.started.acquire()
    second = waiting(syncs, tmp_path, outcomes)
    joined(syncs, tmp_path, 1)
    disk.turns.release()
    disk.turns.release()
    first.join(600)
    second.join(600)
    assert sorted(map(str, outcomes)) == sorted(map(str, [None, failure]))
    disk.turns.release()
    syncs.sync(tmp_path)


def test_folders_do_not_wait_for_each_other(tmp_path: Path) -> None:
    disk, outcomes = Disk(), list[object]()
    syncs = FolderSyncs(disk)
    threads = [waiting(syncs, tmp_path / name, outcomes) for name in ("a", "b")]
    disk.started.acquire()
    disk.started.acquire()  # both run
    disk.turns.release()
    disk.turns.release()
    for thread in threads:
        thread.join(600)
    assert outcomes == [None, None]


def test_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    FolderSyncs().sync(tmp_path)
    with pytest.raises(FileNotFoundError):
        FolderSyncs().sync(tmp_path / "gone")
    with pytest.raises(FileNotFoundError):
        sync_folder(tmp_path / "gone")
