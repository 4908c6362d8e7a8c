"""A bound on how much of its mappings a process keeps in its page tables.

Reading a mapped file makes its pages count as the process's memory, although they are page cache
that the system takes back at will. A server that has sent terabytes would look as if it held them
all. Dropping the oldest ranges from the page tables costs about a tenth of sending them, and loses
nothing: the bytes stay in the page cache, and touching them again maps them again.
"""

from __future__ import annotations

import mmap
import threading
import weakref
from collections import OrderedDict

__all__ = ["MappedWindow"]

_DROP: int | None = getattr(mmap, "MADV_DONTNEED", None)


class MappedWindow:
    """The ranges of read-only mappings that were viewed last. Thread-safe.

    Views of dropped ranges stay valid. Mappings are not kept alive.
    """

    def __init__(self, limit_bytes: int) -> None:
        """Keeps about ``limit_bytes``; a range larger than that is kept alone."""
        self._limit = limit_bytes
        self._ranges: OrderedDict[tuple[int, int, int], weakref.ref[mmap.mmap]] = OrderedDict()
        self._total = 0
        self._lock = threading.Lock()

    @property
    def total_bytes(self) -> int:
        """Bytes of the ranges that are kept."""
        return self._total

    def touch(self, mapping: mmap.mmap, start: int, end: int) -> None:
        """Notes that bytes ``start`` to ``end`` are about to be used; drops what was used longest ago."""
        if _DROP is None:
            return
        key = (id(mapping), start, end)
        gone: list[tuple[weakref.ref[mmap.mmap], int, int]] = []
        with self._lock:
            if self._ranges.pop(key, None) is None:
                self._total += end - start
            self._ranges[key] = weakref.ref(mapping)
            while self._total > self._limit and len(self._ranges) > 1:
                (_, old_start, old_end), reference = self._ranges.popitem(last=False)
                self._total -= old_end - old_start
                gone.append((reference, old_start, old_end))
        for reference, old_start, old_end in gone:
            old = reference()
            if old is not None:
                aligned = old_start - old_start % mmap.PAGESIZE
                old.madvise(_DROP, aligned, old_end - aligned)
