"""A pack of blobs on this host, open for reading."""

from __future__ import annotations

import contextlib
import io
import mmap
import os
from collections.abc import Sequence

from fletching.errors import CorruptObjectError

__all__ = ["OpenPack"]

READ_BYTES = 1 << 20
"""How much of a large blob is read before its checksum is taken, while the processor's cache still has it."""

GAP_BYTES = 64 << 10
"""Unwanted bytes between two ranges that cost less to get than another request to the disk."""

SAMPLES = 4
"""Ranges of which it is asked whether they are in memory."""

_NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None)
_DROP: int | None = getattr(mmap, "MADV_DONTNEED", None)


class OpenPack:
    """A pack's file, open for reading; closed when nobody has it any more."""

    def __init__(self, descriptor: int, length: int) -> None:
        """Takes the descriptor over."""
        self._descriptor = descriptor
        self._mapping: mmap.mmap | None = None
        self._seen = (0, 0)
        self.length = length
        self.checked: set[bytes] = set()
        """What references tell of blobs that were compared with their checksums since the file changed, or
        was not in memory: for who reads them to fill, and to look at. `mapped` empties it."""

    def read(self, start: int, length: int) -> bytes:
        """So many bytes from ``start`` on.

        Raises:
            CorruptObjectError: the file was cut since.
        """
        if length <= READ_BYTES:
            data = os.pread(self._descriptor, length, start)
            if len(data) == length:
                return data
        # A file in memory gives its bytes away without a copy.
        file = io.BytesIO(bytes(length))
        with file.getbuffer() as view:
            self.readinto(view, start)
        return file.getvalue()

    def readinto(self, view: memoryview, start: int) -> None:
        """Fills a buffer; errors as `read`."""
        received = 0
        while received < len(view):
            count = os.preadv(self._descriptor, [view[received:]], start + received)
            if not count:
                size = os.fstat(self._descriptor).st_size
                raise CorruptObjectError(
                    f"a pack of blobs ends at byte {size}; it had {self.length}"
                )
            received += count

    def mapped(self, ranges: Sequence[tuple[int, int]]) -> mmap.mmap | None:
        """The mapping of the file where some of half-open ranges of it are in memory, else None: then `read` them.

        To copy out of a mapping costs half of what a read does. What is not in memory the system is told to
        get, without waiting. Whether it is there is judged by some of it: what was put together is there
        together, or not. A slice may be short where the file was cut: compare it with its checksum.
        """
        step = max(1, len(ranges) // SAMPLES)
        status = os.fstat(self._descriptor)
        seen = status.st_size, status.st_ctime_ns
        is_absent = any(map(self._is_absent, ranges[::step]))
        if is_absent or seen != self._seen:
            self.checked.clear()
            self._seen = seen
        if is_absent:
            self._advise(sorted(ranges))
            return None
        # To use a page behind the end of the file would be a fatal signal.
        if status.st_size < self.length:
            return None
        if self._mapping is None:
            with contextlib.suppress(OSError, ValueError):
                self._mapping = mmap.mmap(self._descriptor, self.length, access=mmap.ACCESS_READ)
        return self._mapping

    def unmap(self) -> None:
        """Takes the mapping's pages out of the process's account; they stay in memory, and are used again."""
        if self._mapping is not None and _DROP is not None:
            self._mapping.madvise(_DROP)

    def _advise(self, ranges: Sequence[tuple[int, int]]) -> None:
        start, end = ranges[0]
        # Where advice cannot be taken, reading waits as it would have.
        with contextlib.suppress(OSError):
            for first, last in ranges:
                if first - end > GAP_BYTES:
                    os.posix_fadvise(self._descriptor, start, end - start, os.POSIX_FADV_WILLNEED)
                    start, end = first, last
                end = max(end, last)
            os.posix_fadvise(self._descriptor, start, end - start, os.POSIX_FADV_WILLNEED)

    def _is_absent(self, span: tuple[int, int]) -> bool:
        if _NOWAIT is None:
            return True  # nothing can be known without waiting
        start, end = span
        probe = [bytearray(1)]
        try:
            for offset in (start, max(start, end - 1)):
                os.preadv(self._descriptor, probe, offset, _NOWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False  # a file system that cannot tell
        return False

    @property
    def is_deleted(self) -> bool:
        """Whether the file has no name any more, so that only descriptors keep its disk space."""
        return os.fstat(self._descriptor).st_nlink == 0

    def __del__(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)
