"""What the kernel keeps of files in memory: asked without touching it, and sent to the disk early.

``mincore(2)`` looks through 4 MiB of a mapping in a few microseconds. Asking page by page, or with a read
that must not wait (``preadv2`` with ``RWF_NOWAIT``) every 128 KiB, takes ten times as long: as much as 4 %
of sending the bytes.

Linux only keeps what is written in memory until an fsync or its own timers; ``sync_file_range`` begins the
transfer of a range and does not wait for it, so that the fsync at the end of a large file finds little left
to do. It promises nothing about durability: that stays with the fsync. Elsewhere this does nothing.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["MappedPages", "may_ask", "start_writeback"]


def _find_mincore() -> Any:
    """The C library's function; None where there is none that answers for files."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        function = ctypes.CDLL(None, use_errno=True).mincore
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    function.restype = ctypes.c_int
    return function


_MINCORE = _find_mincore()


def may_ask(descriptor: int) -> bool:
    """Whether the kernel tells this process the truth about an open file's pages.

    Of files that are another user's and that we could not write, it says that all are in memory.
    """
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            return True
        return os.access(f"/proc/self/fd/{descriptor}", os.W_OK, effective_ids=True)
    except (OSError, NotImplementedError):
        return False


class MappedPages:
    """The pages of one read-only mapping, which must outlive this. Thread-safe."""

    __slots__ = ("_address",)

    def __init__(self, mapping: mmap.mmap) -> None:
        """Notes where the mapping begins; holds no reference to it."""
        self._address = int(np.frombuffer(mapping, np.uint8).ctypes.data)

    def resident(self, start: int, end: int) -> bool | None:
        """Whether all pages of bytes ``start`` to ``end`` are in memory; None if nobody can tell."""
        if _MINCORE is None or start >= end:
            return None
        first = start - start % mmap.PAGESIZE
        pages = (ctypes.c_ubyte * -(-(end - first) // mmap.PAGESIZE))()
        if _MINCORE(self._address + first, end - first, pages) != 0:
            return None
        # The lowest bit of each byte says it; Linux sets no other.
        return bytes(pages).find(0) < 0


_WRITE = 2  # SYNC_FILE_RANGE_WRITE


@functools.cache
def _function() -> Callable[[int, int, int, int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        function = ctypes.CDLL(None).sync_file_range
    except (OSError, AttributeError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong, ctypes.c_uint)
    function.restype = ctypes.c_int
    result: Callable[[int, int, int, int], int] = function
    return result


def start_writeback(descriptor: int, start: int, length: int) -> None:
    """Begins to write a range of a file to its disk. Errors are left for the fsync to find."""
    function = _function()
    if function is not None:
        function(descriptor, start, length, _WRITE)
