"""Writing behind: the bytes of one message go to their file while the next one is looked at.

Copying into the page cache takes longer than checking, so that the two side by side are nearly
twice as fast as one after the other. Only what was checked already is handed over, and nothing is
published before ``flush`` has returned. Other work on the same bytes can be handed over, too.
"""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable, Sequence

from typing_extensions import Buffer

from fletching.objects.store import ObjectSink

__all__ = ["MAX_QUEUED_BYTES", "WriteBehindQueue"]

MAX_QUEUED_BYTES = 16 << 20
"""What may wait at once. A longer piece is written by the caller's thread: its memory would
otherwise be held beyond the caller's own account of it."""

_INLINE_BYTES = 256 << 10
"""Handing over less than this takes longer than writing it."""


class WriteBehindQueue:
    """Writes to sinks in a thread of its own, in the order of the calls; for one caller at a time.

    Buffers must stay unchanged until they are written, and are referred to until then. The thread
    starts with the first large write and ends with ``flush``.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Callable[[], object], int]] = deque()
        self._bytes = 0  # waiting or being written
        self._ending = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def write_many(self, sink: ObjectSink, buffers: Sequence[Buffer], length: int) -> None:
        """Appends buffers to a sink, now or soon.

        Args:
            sink: where to; the caller must not use it until ``flush``.
            buffers: in order.
            length: bytes of all of them.

        Raises:
            StorageError: this write, or an earlier one; nothing is written after a failure.
        """
        self.run(functools.partial(sink.write_many, buffers), length)

    def run(self, task: Callable[[], object], length: int) -> None:
        """Does some work in its turn, now or soon.

        Args:
            task: the work; after one that failed no other is done.
            length: bytes of the memory that it refers to.

        Raises:
            Exception: what this task, or an earlier one, has raised.
        """
        with self._changed:
            while self._bytes and self._bytes + length > MAX_QUEUED_BYTES:
                self._changed.wait()
            self._raise()
            if self._bytes or _INLINE_BYTES <= length <= MAX_QUEUED_BYTES:
                self._waiting.append((task, length))
                self._bytes += length
                self._changed.notify_all()
                if self._thread is None:
                    self._ending = False
                    self._thread = threading.Thread(
                        target=self._run, name="fletching-write-behind", daemon=True
                    )
                    self._thread.start()
                return
        task()

    def flush(self) -> None:
        """Waits until everything is written, and ends the thread; idempotent.

        Raises:
            StorageError: a write failed, and no later one was tried.
        """
        thread, self._thread = self._thread, None
        if thread is not None:
            with self._changed:
                self._ending = True
                self._changed.notify_all()
            thread.join()
        self._raise()

    def drop(self) -> None:
        """Forgets what waits and what failed; the write that runs is waited for. Idempotent."""
        with self._changed:
            self._bytes -= sum(length for _, length in self._waiting)
            self._waiting.clear()
        try:
            self.flush()
        except BaseException:  # noqa: BLE001  it belongs to bytes that nobody wants any more
            self._error = None

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    if self._ending:
                        return
                    self._changed.wait()
                task, length = self._waiting.popleft()
            try:
                if self._error is None:
                    task()
            except BaseException as exc:  # noqa: BLE001  raised in the caller's thread
                self._error = exc
            # The references to written memory go before the caller is told that there is room.
            del task
            with self._changed:
                self._bytes -= length
                self._changed.notify_all()
