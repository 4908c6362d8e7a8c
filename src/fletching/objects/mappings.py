"""Mappings that are kept for the next reader of the same object.

Mapping a file is cheap, but its pages enter the process's page tables one fault at a time, sixteen
pages each, and leave them with the mapping: a table that is read again and again would pay for that
each time, about as much as summing a column costs.

Reading a mapped file makes its pages count as the process's memory, although they are page cache
that the system takes back at will. A server that has sent terabytes would look as if it held them
all. So there is a bound on how much of its mappings a process keeps in its page tables. Dropping the oldest
ranges from them costs about a tenth of sending them, and loses nothing: the bytes stay in the page cache, and
touching them again maps them again.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

__all__ = ["MappedRanges", "Mappings"]

KEPT_MAPPINGS = 64
"""Each holds a file descriptor, too."""
LOOK_SECONDS = 30.0
"""How often kept mappings are compared with the folder: a file that another process deleted uses its
disk space until the last mapping of it is gone."""


class Mappings:
    """Read-only mappings of whole files by key, those used last. Thread-safe.

    Views keep a mapping alive after it is dropped here.
    """

    def __init__(self, root: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Keeps up to ``KEPT_MAPPINGS`` of the files under ``root``."""
        self._root = root
        self._clock = clock
        self._kept: OrderedDict[str, tuple[tuple[int, int, int], mmap.mmap]] = OrderedDict()
        self._lock = threading.Lock()
        self._looked_at = clock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: str, descriptor: int, length: int) -> mmap.mmap:
        """The mapping of an open file's first ``length`` bytes.

        Raises:
            OSError, ValueError: the file cannot be mapped, or is shorter.
        """
        status = os.fstat(descriptor)
        identity = status.st_dev, status.st_ino, length
        with self._lock:
            self._look()
            known = self._kept.pop(key, None)
            if known is None or known[0] != identity:
                known = identity, mmap.mmap(descriptor, length, access=mmap.ACCESS_READ)
            self._kept[key] = known
            if len(self._kept) > KEPT_MAPPINGS:
                self._kept.popitem(last=False)
            return known[1]

    def drop(self, key: str) -> None:
        """Forgets an object that is deleted."""
        with self._lock:
            self._kept.pop(key, None)

    def clear(self) -> None:
        """Forgets all."""
        with self._lock:
            self._kept.clear()

    def _look(self) -> None:
        now = self._clock()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._forget_removed(now)

    def forget_removed(self) -> None:
        """Forgets the files that somebody has removed, now: their disk space is wanted."""
        with self._lock:
            self._forget_removed(self._clock())

    def _forget_removed(self, now: float) -> None:
        self._looked_at = now
        for key in [key for key in self._kept if not (self._root / key).exists()]:
            del self._kept[key]


_DROP: int | None = getattr(mmap, "MADV_DONTNEED", None)

CHUNK_BYTES = 2 * 1024 * 1024
"""What a single touch may map: where the page cache has large pages, Linux maps one as a whole."""


class MappedRanges:
    """The chunks of read-only mappings that were viewed last. Thread-safe.

    Views of dropped chunks stay valid. Mappings are not kept alive.
    """

    def __init__(self, limit_bytes: int) -> None:
        """Keeps about ``limit_bytes``, and at least one chunk."""
        self._limit = max(1, limit_bytes // CHUNK_BYTES)
        self._chunks: OrderedDict[tuple[int, int], weakref.ref[mmap.mmap]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def total_bytes(self) -> int:
        """Bytes of the chunks that are kept; the last one of a mapping counts in full."""
        return len(self._chunks) * CHUNK_BYTES

    def touch(self, mapping: mmap.mmap, start: int, end: int) -> None:
        """Notes that bytes ``start`` to ``end`` are about to be used; drops what was used longest ago.

        A range longer than the limit is kept alone.
        """
        if _DROP is None:
            return
        gone: list[tuple[weakref.ref[mmap.mmap], int]] = []
        chunks = range(start // CHUNK_BYTES, -(-end // CHUNK_BYTES))
        with self._lock:
            for chunk in chunks:
                key = (id(mapping), chunk)
                reference = self._chunks.pop(key, None)
                if reference is None or reference() is not mapping:
                    # The id may have been another mapping's, which is gone.
                    reference = weakref.ref(mapping)
                self._chunks[key] = reference
            while len(self._chunks) > max(self._limit, len(chunks)):
                (_, chunk), reference = self._chunks.popitem(last=False)
                gone.append((reference, chunk * CHUNK_BYTES))
        for reference, offset in gone:
            old = reference()
            if old is not None:
                old.madvise(_DROP, offset, min(CHUNK_BYTES, len(old) - offset))
