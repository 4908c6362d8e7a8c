"""Data folders that can only be read: snapshots, backups, mounts of others.

Reading writes, too: sessions are rows, SQLite keeps a shared-memory file, results of statements are segments.
So a private copy of the catalog is opened, and what is made goes into a folder beside it; both go when the
engine closes. What is seen is the data set as it was when it was opened; read sessions and splits belong to
this opening alone.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

from fletching.errors import StorageError
from fletching.objects.local import LocalStore
from fletching.objects.store import ObjectInfo, ObjectSink, ObjectStore, StoredObject

__all__ = ["OverlaidStore", "copy_catalog"]

_ATTEMPTS = 5
_PAUSE_SECONDS = 0.1


def copy_catalog(file: Path) -> Path:
    """A copy of a SQLite catalog in a folder of its own, with what its log holds.

    Whoever writes to the catalog meanwhile may tear the copy, so it is checked, and made again.

    Args:
        file: the catalog.

    Raises:
        StorageError: it cannot be read, or no whole copy came about.
    """
    folder = Path(tempfile.mkdtemp(prefix="fletching-read-only-"))
    copy = folder / file.name
    whole = False
    try:
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_PAUSE_SECONDS)
            _copy(file, copy)
            whole = _is_whole(copy)
            if whole:
                return copy
    except OSError as error:
        raise StorageError(f"the catalog {file} cannot be read: {error.strerror}") from error
    finally:
        if not whole:
            shutil.rmtree(folder, ignore_errors=True)
    raise StorageError(f"the catalog {file} is damaged, or changes too fast to be copied")


def _copy(file: Path, copy: Path) -> None:
    shutil.copyfile(file, copy)
    log, copied_log = Path(f"{file}-wal"), Path(f"{copy}-wal")
    copied_log.unlink(missing_ok=True)
    if log.exists():
        shutil.copyfile(log, copied_log)


def _is_whole(copy: Path) -> bool:
    try:
        connection = sqlite3.connect(copy)
        try:
            return connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
        finally:
            connection.close()
    except sqlite3.DatabaseError:
        return False


class OverlaidStore:
    """Objects of a folder that is never written to; new ones go into another folder, and end with it."""

    knows_writers = True

    def __init__(self, below: ObjectStore, scratch: Path) -> None:
        """Joins them.

        Args:
            below: the objects to read.
            scratch: a folder of this opening alone, removed by ``close``; objects go below it.
        """
        self._below = below
        # Also at the end of the process: tables that were unpickled have a client that nobody closes.
        self._drop = weakref.finalize(self, shutil.rmtree, scratch, ignore_errors=True)
        self._above = LocalStore(scratch / "objects")
        self.writer = self._above.writer

    def create(self, key: str) -> ObjectSink:
        """Begins an object in the scratch folder; see ``ObjectStore``."""
        return self._above.create(key)

    def open(
        self, key: str, *, length: int | None = None, crc32c: int | None = None
    ) -> StoredObject:
        """Opens an object of either; keys carry their writer, so none is in both."""
        mine = key.rsplit("/", 1)[-1].startswith(f"{self.writer}-")
        return (self._above if mine else self._below).open(key, length=length, crc32c=crc32c)

    def delete(self, key: str) -> None:
        """Removes an object of this opening; others stay."""
        self._above.delete(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every object of both."""
        yield from self._below.list(prefix)
        yield from self._above.list(prefix)

    def dead_writers(self) -> frozenset[str]:
        """None: nothing is cleared up here."""
        return frozenset()

    def living_writers(self) -> frozenset[str]:
        """This one."""
        return frozenset({self.writer})

    def forget_writer(self, writer: str) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Ends both, and removes the scratch folder with the catalog's copy; idempotent."""
        self._below.close()
        self._above.close()
        self._drop()
