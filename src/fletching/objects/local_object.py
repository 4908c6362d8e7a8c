"""One object of a local folder, opened for reading."""

from __future__ import annotations

import contextlib
import errno
import itertools
import mmap
import os
import sys
import threading
from collections.abc import Callable
from typing import Self

from fletching.errors import CorruptObjectError, UsageError
from fletching.objects.mappings import MappedRanges, Mappings
from fletching.objects.object_errors import storage_error, translated
from fletching.objects.page_cache import MappedPages, may_ask

__all__ = ["LocalObject"]

_SAMPLE_BYTES = 128 * 1024  # the kernel's default read-ahead: its neighbours share one fate
_LOAD_BYTES = 1 << 20
_NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None)


class LocalObject:
    """A file opened for reading; mapped as a whole at its first view.

    Attributes:
        disown: of a copy, removes it; called by whoever finds that it is not what was written.
    """

    def __init__(
        self,
        key: str,
        descriptor: int,
        length: int,
        *,
        mappings: Mappings | None,
        mapped_ranges: MappedRanges | None = None,
        identity: tuple[int, ...] | None = None,
    ) -> None:
        """Takes an open file.

        Args:
            key: the object's.
            descriptor: of the file; closed with the object.
            length: bytes when it was opened.
            mappings: makes its mapping; None to read instead.
            mapped_ranges: bounds what of it stays in the page tables.
            identity: device, inode, length and times of change when it was opened.
        """
        self.key = key
        self.length = length
        self.identity = identity
        self.disown: Callable[[], None] | None = None
        self._descriptor = descriptor
        self._mappings = mappings
        self._lock = threading.Lock()
        self._map: memoryview | None = None
        self._mapped_ranges = mapped_ranges
        self._mapping: mmap.mmap | None = None
        self._pages: MappedPages | None = None
        self._closed = False

    def view(self, start: int, end: int) -> memoryview:
        """Borrows from the mapping, which lives as long as any view of it; see ``StoredObject``."""
        if self._mappings is None:
            return self.read(start, end)
        self._check(start, end)
        if self._map is None:
            self._map_file()
            if self._map is None:
                return self.read(start, end)
        if self._mapped_ranges is not None and self._mapping is not None and start < end:
            self._mapped_ranges.touch(self._mapping, start, end)
        return self._map[start:end]

    @property
    def descriptor(self) -> int | None:
        """The open file, for another process to map; None where this store does not map, either.

        Open for reading alone; borrowed: it is closed with the object.
        """
        return None if self._mappings is None or self._closed else self._descriptor

    def read(self, start: int, end: int) -> memoryview:
        """Reads into memory of its own; see ``StoredObject``."""
        self._check(start, end)
        # The copy is what the caller asks for: pages of a failing disk must not be mapped.
        data = memoryview(bytearray(end - start))
        with translated("reading", self.key):
            position = 0
            while position < len(data):
                count = os.preadv(self._descriptor, [data[position:]], start + position)
                if count == 0:
                    raise self._shrunk(start + position)
                position += count
        return data.toreadonly()

    def resident(self, start: int, end: int) -> bool:
        """Asks about the mapping's pages, or reads a byte per 128 KiB without waiting.

        See ``StoredObject``.
        """
        if self._mappings is None:
            return False
        # The reference keeps the mapping while its pages are asked for, whoever closes this meanwhile.
        mapping, pages = self._mapping, self._pages
        if mapping is not None and pages is not None and 0 <= start <= end <= self.length:
            known = pages.resident(start, end)
            if known is not None:
                return known
        if _NOWAIT is None:
            return True  # nothing can be known without waiting
        probe = bytearray(1)
        try:
            for offset in itertools.chain(
                range(start, end, _SAMPLE_BYTES), (end - 1,) if end > start else ()
            ):
                if os.preadv(self._descriptor, [probe], offset, _NOWAIT) != 1:
                    return False
        except BlockingIOError:
            return False
        except OSError as error:
            # EOPNOTSUPP: the file system cannot tell, as tmpfs on older kernels. Anything else is
            # for `load` to find.
            return error.errno == errno.EOPNOTSUPP
        return True

    def load(self, start: int, end: int) -> None:
        """Reads the range through a scratch buffer, without the interpreter's lock."""
        self._check(start, end)
        # The copy into scratch is thrown away: what it leaves behind is the page cache.
        scratch = memoryview(bytearray(min(_LOAD_BYTES, end - start)))
        with translated("reading", self.key):
            position = start
            while position < end:
                count = os.preadv(self._descriptor, [scratch[: end - position]], position)
                if count == 0:
                    raise self._shrunk(position)
                position += count

        if hasattr(os, "posix_fadvise") and start < end:
            # The disk goes on with what is most likely asked for next, while this is sent. It is
            # advice: where it cannot be taken, nothing is lost. A length of 0 would mean the rest.
            with contextlib.suppress(OSError):
                os.posix_fadvise(self._descriptor, end, end - start, os.POSIX_FADV_WILLNEED)

    def close(self) -> None:
        """Closes the file; views keep the mapping. See ``StoredObject``."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._map = self._mapping = self._pages = None
                os.close(self._descriptor)

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check(self, start: int, end: int) -> None:
        if self._closed:
            raise UsageError(f"object {self.key} is closed")
        if not 0 <= start <= end <= self.length:
            raise UsageError(f"bytes {start}..{end} are outside object {self.key} of {self.length}")
        # A page behind the end of a file is a fatal signal, so the length is looked at each time.
        try:
            size = os.fstat(self._descriptor).st_size
        except OSError as error:
            raise storage_error(error, "reading", self.key) from error
        if size < end:
            raise self._shrunk(size)

    def _shrunk(self, size: int) -> CorruptObjectError:
        return CorruptObjectError(
            f"object {self.key} ends at byte {size}; it had {self.length}", key=self.key
        )

    def _map_file(self) -> None:
        with self._lock:
            if self._map is None and self.length and self._mappings is not None:
                try:
                    mapping = self._mappings.get(self.key, self._descriptor, self.length)
                except (OSError, ValueError):
                    # No address space or a file system that cannot map: reading still works.
                    self._mappings = None
                    return
                self._mapping = mapping
                self._pages = MappedPages(mapping) if may_ask(self._descriptor) else None
                self._map = memoryview(mapping)
            elif not self.length:
                self._map = memoryview(b"")
