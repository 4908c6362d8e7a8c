"""Processes that are killed, and folders that survive them."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

SHARED = Path("/dev/shm")


def memory_or_disk(needed_bytes: int = 0) -> Path | None:
    """Where folders are made, as ``tempfile`` takes it: in memory where that is possible, and has so much room.

    A killed process loses nothing that it has written; only a power cut would.
    """
    return SHARED if SHARED.is_dir() and shutil.disk_usage(SHARED).free >= needed_bytes else None


@contextlib.contextmanager
def folder_in_memory() -> Iterator[Path]:
    """A folder in memory where that is possible, gone afterwards."""
    with tempfile.TemporaryDirectory(dir=memory_or_disk()) as made:
        yield Path(made)


def forked(work: Callable[[], object]) -> int:
    """How a child ends that does some work: 0, 1 if the work failed, or minus the signal that killed it.

    The caller has no thread and nothing open that a child must not share.
    """
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        work()
        code = 0
    finally:
        if code:
            traceback.print_exc()
        os._exit(code)
