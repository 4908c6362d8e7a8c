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

CHUNK_BYTES = 2 * 1024 * 1024
"""What a single touch may map: where the page cache has large pages, Linux maps one as a whole."""


class MappedWindow:
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
