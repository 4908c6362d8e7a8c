"""Making new names in folders durable, once for all who wait for the same folder.

Several objects of a table are committed at once into one folder. Each needs an ``fsync`` of it that
begins after its name was made; one that runs already may have begun too early, the next one does for all
who came meanwhile.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

__all__ = ["FolderSyncs", "sync_folder"]


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable; blocks.

    Raises:
        OSError: the folder is gone, or its disk failed.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Round:
    """One sync of a folder: those who wait for it, and how it ended."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.error: OSError | None = None

    def result(self) -> None:
        """Waits for the end.

        Raises:
            OSError: the sync failed.
        """
        self.done.wait()
        if self.error is not None:
            raise self.error


class FolderSyncs:
    """Shares syncs of folders among threads. Thread-safe."""

    def __init__(self, sync: Callable[[Path], None] = sync_folder) -> None:
        self._sync = sync
        self._lock = threading.Lock()
        self._running: dict[Path, _Round] = {}
        self._next: dict[Path, _Round] = {}

    def sync(self, folder: Path) -> None:
        """Returns when a sync of the folder has ended that began after this call; blocks.

        Raises:
            OSError: it failed.
        """
        with self._lock:
            before = self._running.get(folder)
            if before is not None and folder in self._next:
                mine, leads = self._next[folder], False
            else:
                mine, leads = _Round(), True
                rounds = self._running if before is None else self._next
                rounds[folder] = mine
        if leads:
            self._lead(folder, mine, before)
        mine.result()

    def _lead(self, folder: Path, mine: _Round, before: _Round | None) -> None:
        """Syncs for all who joined the round, once the one before has ended."""
        # Whatever interrupts this thread, the others must not take it for success.
        mine.error = OSError(errno.EINTR, "the sync of a folder was interrupted")
        try:
            if before is not None:
                before.done.wait()
                with self._lock:
                    self._running[folder] = self._next.pop(folder)
            self._sync(folder)
            mine.error = None
        except OSError as error:
            mine.error = error
        finally:
            with self._lock:
                for rounds in (self._running, self._next):
                    if rounds.get(folder) is mine:
                        del rounds[folder]
            mine.done.set()
