"""What the service admits at one time: requests by kind, and bytes of uploads in memory.

Everything here lives on the event loop's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator

from fletching.errors import ThrottledError

__all__ = ["Limiter", "MemoryBudget"]


REST_SECONDS = 2.0
"""How long nothing is held before `MemoryBudget` says so: between two uploads nothing need be given back."""
MUCH_BYTES = 32 << 20


class Limiter:
    """Counts the requests of one kind and turns away those above the limit.

    Refusing at once is right for requests: a client that waits holds a connection, and one that
    retries after ``Retry-After`` does not.
    """

    def __init__(self, name: str, limit: int, retry_after_seconds: float) -> None:
        self.name = name
        self.limit = limit
        self.open = 0
        self.refused = 0
        self._retry_after = retry_after_seconds

    @property
    def full(self) -> bool:
        """Whether a request would be turned away."""
        return self.open >= self.limit

    @contextlib.contextmanager
    def enter(self) -> Iterator[None]:
        """Holds a place while the request runs.

        Raises:
            ThrottledError: all places are taken; nothing of the request was read.
        """
        if self.full:
            self.refused += 1
            raise ThrottledError(
                f"{self.limit} {self.name} are running, which is the limit",
                retry_after_seconds=self._retry_after,
                limit=self.limit,
            )
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1


class MemoryBudget:
    """Bytes of messages that uploads may hold, given out in the order of asking.

    An upload asks before it receives a message, and for what decoding will need before it decodes, and
    gives back when that message is stored. While it
    waits it holds nothing but what a worker is about to give back, and what it keeps for longer. When all
    that is held is kept by those who wait, the first of them is let in, since nothing would be given
    back: so a message larger than the whole budget passes alone, and no two wait for each other.
    """

    def __init__(
        self,
        limit: int,
        patience_seconds: float,
        retry_after_seconds: float,
        *,
        on_rest: Callable[[], object] | None = None,
    ) -> None:
        """Gives nothing out yet.

        Args:
            limit: of bytes.
            patience_seconds: how long who does not fit waits.
            retry_after_seconds: what who has waited in vain is told.
            on_rest: called when nothing was held for a while, after a time when much was.
        """
        self.limit = limit
        self._on_rest = on_rest
        self._was_held = 0
        self._rest: asyncio.TimerHandle | None = None
        self.held = 0
        self.peak = 0
        self._patience = patience_seconds
        self._retry_after = retry_after_seconds
        self._queue: deque[tuple[int, int, asyncio.Future[None]]] = deque()

    async def take(self, count: int, *, own: int = 0) -> None:
        """Waits until ``count`` bytes fit.

        Args:
            count: bytes.
            own: what the caller itself keeps for longer, of what is held.

        Raises:
            ThrottledError: they did not within the budget's patience.
        """
        if not self._queue and self._fits(count, own):
            self._grant(count)
            return
        granted = asyncio.get_running_loop().create_future()
        self._queue.append((count, own, granted))
        self._wake()
        try:
            async with asyncio.timeout(self._patience):
                await granted
        except BaseException as exc:
            if granted.done() and not granted.cancelled():
                self.give(count)
            else:
                granted.cancel()
                self._wake()
            if isinstance(exc, TimeoutError):
                raise ThrottledError(
                    f"uploads hold {self.held} bytes of messages and {count} more do not fit",
                    retry_after_seconds=self._retry_after,
                    limit=self.limit,
                ) from exc
            raise

    def add(self, count: int) -> None:
        """Takes ``count`` bytes at once: a little more for who already holds and must not wait."""
        self._grant(count)

    def give(self, count: int) -> None:
        """Gives bytes back."""
        self.held -= count
        self._wake()
        if self.held == 0 and self._on_rest is not None and self._was_held >= MUCH_BYTES:
            self._was_held = 0
            if self._rest is not None:
                self._rest.cancel()
            self._rest = asyncio.get_running_loop().call_later(REST_SECONDS, self._on_quiet)

    def _on_quiet(self) -> None:
        self._rest = None
        if self.held == 0 and self._on_rest is not None:
            self._on_rest()

    def _fits(self, count: int, waiting: int) -> bool:
        """Whether ``count`` bytes are let in, where those who wait keep ``waiting`` bytes."""
        return self.held <= waiting or self.held + count <= self.limit

    def _grant(self, count: int) -> None:
        self.held += count
        self.peak = max(self.peak, self.held)
        self._was_held = max(self._was_held, self.held)

    def _wake(self) -> None:
        while self._queue:
            count, _, granted = self._queue[0]
            if not granted.done():
                kept = sum(own for _, own, other in self._queue if not other.done())
                if not self._fits(count, kept):
                    return
                self._grant(count)
                granted.set_result(None)
            self._queue.popleft()
