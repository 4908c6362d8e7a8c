"""Contents of blobs on their way from a loader's worker to the training, in memory that both have.

A ``DataLoader`` sends what its workers make through a pipe, of 64 KiB in Linux: of bytes that takes several
times as long as to read them. Here a worker puts a batch's contents into memory that it shares with the process
that takes them, which copies them out and leaves the memory to the worker's next batch: fresh memory would
take as long as the pipe. Only multiprocessing's pickles are made so; in others it is a list like any other.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
from collections.abc import Callable, Sequence
from multiprocessing.reduction import DupFd, ForkingPickler
from typing import Protocol, Self

from torch.utils.data import get_worker_info

from fletching.connectors.reading_order import keep_freed_memory

__all__ = ["Contents"]

LEAST_BYTES = 128 << 10
"""Fewer go through a pipe as fast."""

MOST_BYTES = 256 << 20
"""Of all memory that a worker shares; what does not fit goes through the pipe."""

MOST_SLOTS = 8

_HEAD_BYTES = 64
_FREE, _TAKEN = 0, 1


class Contents(list[bytes | None]):
    """The contents of a batch's blobs."""

    def __copy__(self) -> Self:
        """The same; a loader copies what it hands over."""
        return type(self)(self)


class _SentFile(Protocol):
    """A file on its way to another process."""

    def detach(self) -> int:
        """Its descriptor, in the process that has received it."""
        ...


class _Slot:
    """Memory that a worker has made: a byte that says whether the batch in it has been taken, and the batch."""

    def __init__(self, room: int) -> None:
        self.descriptor = os.memfd_create("fletching-batch")
        os.ftruncate(self.descriptor, _HEAD_BYTES + room)
        self.room = room
        self.memory = mmap.mmap(self.descriptor, _HEAD_BYTES + room)
        self.known = False

    @property
    def is_free(self) -> bool:
        """Whether what was in it has been taken."""
        return self.memory[0] == _FREE

    def put(self, contents: Sequence[bytes | None]) -> None:
        """Puts a batch in."""
        self.memory[0] = _TAKEN
        offset = _HEAD_BYTES
        for each in contents:
            if each is not None:
                self.memory[offset : offset + len(each)] = each
                offset += len(each)

    def __del__(self) -> None:
        """Closes the file."""
        os.close(self.descriptor)


class _Slots:
    """The slots of one worker process. Thread-safe."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self._slots: dict[int, _Slot] = {}
        self._made = 0
        self._lock = threading.Lock()

    def put(
        self, contents: Sequence[bytes | None], size: int
    ) -> tuple[int, _SentFile | None] | None:
        """Puts a batch into a slot: its number, and its file if its taker has not got it; None without room."""
        with self._lock:
            free = [number for number, slot in self._slots.items() if slot.is_free]
            fitting = [number for number in free if self._slots[number].room >= size]
            if fitting:
                number = fitting[0]
            else:
                for each in free:  # too small for what comes now
                    del self._slots[each]
                held = sum(slot.room for slot in self._slots.values())
                room = size + size // 4  # the next one may be a little larger
                if len(self._slots) >= MOST_SLOTS or held + room > MOST_BYTES:
                    return None
                number = self._made
                try:
                    self._slots[number] = _Slot(room)
                except OSError:
                    return None
                self._made += 1
            slot = self._slots[number]
            slot.put(contents)
            file: _SentFile | None = None if slot.known else DupFd(slot.descriptor)
            slot.known = True
            return number, file


_own: _Slots | None = None


def _reduced(contents: Contents) -> tuple[Callable[..., Contents], tuple[object, ...]]:
    """What multiprocessing pickles in place of a batch's contents."""
    global _own  # noqa: PLW0603  # there is one for a process
    size = sum(len(each) for each in contents if each is not None)
    if get_worker_info() is not None and size >= LEAST_BYTES and hasattr(os, "memfd_create"):
        if _own is None or _own.process != os.getpid():
            _own = _Slots()
        slot = _own.put(contents, size)
        if slot is not None:
            lengths = [-1 if each is None else len(each) for each in contents]
            return _taken, (_own.process, *slot, lengths)
    return Contents, (list(contents),)


ForkingPickler.register(Contents, _reduced)

_known: dict[tuple[int, int], mmap.mmap] = {}


def _taken(worker: int, number: int, file: _SentFile | None, lengths: Sequence[int]) -> Contents:
    """The contents that a worker has put into one of its slots, which is its again."""
    keep_freed_memory()
    if file is None:
        memory = _known[worker, number]
    else:
        descriptor = file.detach()
        try:
            memory = mmap.mmap(descriptor, os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)
        for other in {known for known, _ in _known if not _is_alive(known)}:
            for key in [key for key in _known if key[0] == other]:
                del _known[key]
        _known[worker, number] = memory
    result, offset = Contents(), _HEAD_BYTES
    for length in lengths:
        if length < 0:
            result.append(None)
            continue
        result.append(memory[offset : offset + length])
        offset += length
    memory[0] = _FREE
    return result


def _is_alive(process: int) -> bool:
    with contextlib.suppress(OSError):
        os.kill(process, 0)
        return True
    return False
