"""Files whose descriptors a service on this host passed, kept open for the next read of the same ones."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

__all__ = ["PassedFiles"]

KEPT_FILES = 64
"""Files that stay open, of each kind: pages of a mapping enter a process's tables one fault at a time."""


class _OpenFile(Protocol):
    @property
    def is_deleted(self) -> bool: ...


_File = TypeVar("_File", bound=_OpenFile)


class PassedFiles(Generic[_File]):
    """The files that were read from last, by what each is. Thread-safe."""

    def __init__(self, opened: Callable[[int, int], _File]) -> None:
        """``opened`` makes one of a descriptor, which it takes over unless it fails, and a length."""
        self._open = opened
        self._kept: OrderedDict[tuple[int, ...], _File] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, descriptors: Iterable[int], lengths: Iterable[int]) -> list[_File]:
        """The files, whose descriptors are this object's from now on, also if one cannot be opened."""
        left = list(descriptors)
        result: list[_File] = []
        try:
            for length in lengths:
                result.append(self._opened(left[0], length))
                del left[0]
        finally:
            for number in left:
                os.close(number)
        return result

    def _opened(self, descriptor: int, length: int) -> _File:
        status = os.fstat(descriptor)
        identity = status.st_dev, status.st_ino, length, status.st_size, status.st_mtime_ns
        with self._lock:
            known = self._kept.pop(identity, None)
            if known is None:
                known = self._open(descriptor, length)
                # One that was deleted keeps its disk space until it is closed.
                for key in [key for key, each in self._kept.items() if each.is_deleted]:
                    del self._kept[key]
            else:
                os.close(descriptor)
            self._kept[identity] = known
            if len(self._kept) > KEPT_FILES:
                self._kept.popitem(last=False)
            return known

    def clear(self) -> None:
        """Forgets all."""
        with self._lock:
            self._kept.clear()
