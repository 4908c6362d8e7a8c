"""Breaking off what waits: for the first byte, for the next, for room in a socket, for a retry's time.

Whatever may wait does so under a `Cancellation` and says how it is interrupted: a socket by shutting
it down, a sleep by an event. So cancelling returns at once, whatever the peer does, and what waited
raises within a moment instead of after its timeout.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from fletching.errors import OperationCancelledError

__all__ = ["LEAVE_SECONDS", "Cancellation", "join_within", "opening"]

LEAVE_SECONDS = 0.15
"""How long leaving waits for threads that were cancelled. They end within microseconds; one that the
system holds (a name that is looked up) ends by itself later, and keeps nobody waiting."""


class Cancellation:
    """A flag that is raised once, and what has to be woken then. Thread-safe.

    What waits under it also ends when one of its parents is cancelled: a read belongs to its scan,
    and that to its client.

    Args:
        parents: cancelled with them, but not the other way round.
    """

    __slots__ = ("_interrupts", "_lock", "_parents", "_reason")

    def __init__(self, *parents: Cancellation) -> None:
        self._parents = parents
        self._reason: str | None = None
        # Reentrant, because a signal handler may cancel what this very thread is registering.
        self._lock = threading.RLock()
        self._interrupts: dict[object, Callable[[], None]] = {}

    @property
    def cancelled(self) -> bool:
        """Whether it, or one that it belongs to, was cancelled."""
        return self._reason is not None or any(parent.cancelled for parent in self._parents)

    def cancel(self, reason: str = "the operation was cancelled") -> None:
        """Interrupts what waits, and lets nothing wait again; does not wait itself. Idempotent."""
        with self._lock:
            if self._reason is not None:
                return
            self._reason = reason
            interrupts = list(self._interrupts.values())
        for interrupt in interrupts:
            interrupt()

    def check(self) -> None:
        """Returns unless it was cancelled.

        Raises:
            OperationCancelledError: it was.
        """
        if self._reason is not None:
            raise OperationCancelledError(self._reason)
        for parent in self._parents:
            parent.check()

    def wait(self, seconds: float) -> None:
        """Sleeps.

        Raises:
            OperationCancelledError: it was cancelled before or meanwhile; at once.
        """
        woken = threading.Event()
        with self.interrupting(woken.set):
            woken.wait(seconds)
        self.check()

    @contextlib.contextmanager
    def interrupting(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Has ``interrupt`` called, in another thread, if it is cancelled inside of the block.

        Raises:
            OperationCancelledError: it was cancelled before.
        """
        release = self.register(interrupt)
        try:
            yield
        finally:
            release()

    def register(self, interrupt: Callable[[], None]) -> Callable[[], None]:
        """As `interrupting`, until the returned function is called; that may be done twice.

        Raises:
            OperationCancelledError: it was cancelled before.
        """
        token = object()
        releases: list[Callable[[], None]] = []

        def release() -> None:
            self._interrupts.pop(token, None)
            for each in releases:
                each()

        with self._lock:
            if self._reason is not None:
                raise OperationCancelledError(self._reason)
            self._interrupts[token] = interrupt
        try:
            releases.extend(parent.register(interrupt) for parent in self._parents)
        except OperationCancelledError:
            release()
            raise
        return release


opening: contextvars.ContextVar[Cancellation | None] = contextvars.ContextVar(
    "opening", default=None
)
"""Under what a client is being opened, which nobody has yet who could close it."""


def join_within(threads: Iterable[threading.Thread], seconds: float = LEAVE_SECONDS) -> None:
    """Waits for threads that were told to end, together no longer than ``seconds``."""
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
