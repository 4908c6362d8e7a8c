"""Starting the disk early, so that the fsync at the end of a large file finds little left to do.

Linux only keeps what is written in memory until an fsync or its own timers; ``sync_file_range``
begins the transfer of a range and does not wait for it. It promises nothing about durability: that
stays with the fsync. Elsewhere this does nothing.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable

__all__ = ["start_writeback"]

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
    found: Callable[[int, int, int, int], int] = function
    return found


def start_writeback(descriptor: int, start: int, length: int) -> None:
    """Begins to write a range of a file to its disk. Errors are left for the fsync to find."""
    function = _function()
    if function is not None:
        function(descriptor, start, length, _WRITE)
