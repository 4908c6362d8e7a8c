"""MD5 of a stream in a thread of its own, while other threads receive and store it."""

from __future__ import annotations

import hashlib
import queue
import threading

from typing_extensions import Buffer

__all__ = ["RunningMd5"]

# Below this many bytes a thread costs more than it saves.
_INLINE_BYTES = 512 << 10
# Buffers that may wait for the thread: enough that it never waits for the next one.
_QUEUED_BUFFERS = 4


class RunningMd5:
    """MD5 of the buffers given to ``update``, in order; for one caller at a time.

    Buffers must stay unchanged until they are hashed, and are referred to until then; at most four
    wait. The thread starts with the first large stream and ends with ``hexdigest`` or ``close``.
    """

    def __init__(self) -> None:
        self._hash = hashlib.md5(usedforsecurity=False)
        self._seen = 0
        self._queue: queue.Queue[Buffer | None] = queue.Queue(_QUEUED_BUFFERS)
        self._thread: threading.Thread | None = None

    def update(self, data: Buffer) -> None:
        """Adds bytes; waits while too many buffers wait."""
        self._seen += memoryview(data).nbytes
        if self._thread is None:
            if self._seen <= _INLINE_BYTES:
                self._hash.update(data)
                return
            self._thread = threading.Thread(target=self._run, name="fletching-md5", daemon=True)
            self._thread.start()
        self._queue.put(data)

    def hexdigest(self) -> str:
        """The digest of everything, in lower-case hexadecimal; waits for the thread."""
        self.close()
        return self._hash.hexdigest()

    def close(self) -> None:
        """Ends the thread; idempotent."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while (data := self._queue.get()) is not None:
            self._hash.update(data)
            del data
