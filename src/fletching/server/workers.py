"""The only way off the event loop: pools of threads for whatever blocks, and who owns what they work on.

A cancelled task cancels its future and never the thread behind it. So nothing here returns before the
thread has: `Call.outcome` waits for a call that runs, however often its waiter is cancelled, and raises
the cancellation then. An object with several such calls belongs to a `Job`, which lets one of them run
at a time and closes the object exactly once, behind the last of them.

::

    open ──> call ──> call ──> ... ──> close        each begins when the one before has returned
      └────────┴── cancelled: unwanted ──┘
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from fletching.errors import ServiceUnavailableError

__all__ = ["Call", "Job", "Owned", "Pool", "Workers"]

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

logger = logging.getLogger("fletching.server")


class Call(Generic[_Result]):
    """One call in a thread. Used on the event loop.

    Attributes:
        unwanted: whoever waited was cancelled; the result is only there to be cleared up.
    """

    def __init__(self, future: Future[_Result]) -> None:
        self.unwanted = False
        self._future = future
        loop = asyncio.get_running_loop()
        self._returned: asyncio.Future[None] = loop.create_future()

        def returned(_: Future[_Result]) -> None:
            # A loop that has ended takes no more news, and nobody waits for any.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._note)

        future.add_done_callback(returned)

    def _note(self) -> None:
        if not self._returned.done():
            self._returned.set_result(None)

    @property
    def returned(self) -> bool:
        """Whether the thread has done with it."""
        return self._returned.done()

    def on_return(self, callback: Callable[[], None]) -> None:
        """Calls back on the loop when the thread has done with it."""
        self._returned.add_done_callback(lambda _: callback())

    def error(self) -> BaseException | None:
        """What a call that has returned raised; None also if it was never begun."""
        return None if self._future.cancelled() else self._future.exception()

    async def outcome(self, on_unwanted: Callable[[], None] | None = None) -> _Result:
        """Waits until the call has returned, and returns or raises what it did.

        Args:
            on_unwanted: called at once when the waiting task is cancelled, to make the call end soon.

        Raises:
            asyncio.CancelledError: the waiting task was cancelled; the call has returned by now, or
                will never begin.
        """
        cancelled = await self.wait(on_unwanted, give_up=True)
        if cancelled is not None:
            raise cancelled
        return self._future.result()

    async def wait(
        self, on_unwanted: Callable[[], None] | None = None, *, give_up: bool = False
    ) -> asyncio.CancelledError | None:
        """Waits until the call has returned, however often the waiting task is cancelled.

        Args:
            on_unwanted: as for ``outcome``.
            give_up: a call that has not begun when the task is cancelled is not begun any more.

        Returns:
            The cancellation, which the caller must raise; None if there was none.
        """
        cancelled: asyncio.CancelledError | None = None
        while not self._returned.done():
            try:
                await asyncio.shield(self._returned)
            except asyncio.CancelledError as exc:
                if cancelled is None and on_unwanted is not None:
                    on_unwanted()
                cancelled = exc
                self.unwanted = True
                if give_up:
                    self._future.cancel()  # does nothing to a call that runs
        return cancelled

    def result(self) -> _Result:
        """What a call that has returned returned or raised."""
        return self._future.result()


class Pool:
    """Some threads.

    Attributes:
        threads: the most that it has.
    """

    def __init__(self, threads: int, name: str) -> None:
        """Starts a thread when it is needed first, and no more than ``threads``."""
        self.threads = threads
        self._handed = 0
        self._begun = 0
        self._ended = 0
        self._given_up = 0
        self._counting = threading.Lock()
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"fletching-{name}")

    def start(
        self,
        function: Callable[_Parameters, _Result],
        *args: _Parameters.args,
        **kwargs: _Parameters.kwargs,
    ) -> Call[_Result]:
        """Hands a call to the pool; somebody must await its ``outcome``.

        It runs in the context of whoever starts it, which says for whom the work is done.

        Raises:
            ServiceUnavailableError: the pool is closed, or the process ends (its main thread has
                returned), or the system gives it no more threads.
        """
        work = functools.partial(self._work, function, *args, **kwargs)
        try:
            future = self._executor.submit(contextvars.copy_context().run, work)
        except RuntimeError as exc:
            raise ServiceUnavailableError("the server takes no more work now") from exc
        self._handed += 1
        future.add_done_callback(self._note)
        return Call(future)

    def _work(
        self,
        function: Callable[_Parameters, _Result],
        *args: _Parameters.args,
        **kwargs: _Parameters.kwargs,
    ) -> _Result:
        with self._counting:
            self._begun += 1
        try:
            return function(*args, **kwargs)
        finally:
            with self._counting:
                self._ended += 1

    @property
    def running(self) -> int:
        """Calls that run now."""
        return self._begun - self._ended

    @property
    def waiting(self) -> int:
        """Calls that wait for a thread."""
        return self._handed - self._begun - self._given_up

    def _note(self, future: Future[Any]) -> None:
        if future.cancelled():
            # Only what has not begun can be cancelled.
            with self._counting:
                self._given_up += 1

    async def run(
        self,
        function: Callable[_Parameters, _Result],
        *args: _Parameters.args,
        **kwargs: _Parameters.kwargs,
    ) -> _Result:
        """Runs a call in a thread and waits until it has returned; see `Call.outcome`."""
        return await self.start(function, *args, **kwargs).outcome()

    def close(self) -> None:
        """Waits for what runs and ends the threads; blocks."""
        self._executor.shutdown(wait=True)


class Owned(Protocol):
    """What a `Job` owns."""

    @property
    def ended(self) -> bool:
        """Whether it has nothing to give up any more, so that closing it needs no thread."""


_Owned = TypeVar("_Owned", bound=Owned)


class Job(Generic[_Owned]):
    """An object whose methods block, and its one owner. Used by one task of the event loop.

    Attributes:
        owned: the object. Only calls that this job starts may use it.
    """

    def __init__(self, pool: Pool, owned: _Owned, close: Callable[[_Owned], object]) -> None:
        """Takes an object over; ``close`` blocks and is called once, unless the object has ended."""
        self.owned = owned
        self._pool = pool
        self._close = close
        self._running: Call[Any] | None = None
        self._closed = False

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(
        cls,
        pool: Pool,
        open_: Callable[[], _Owned],
        close: Callable[[_Owned], object],
        *,
        opens_in: Pool | None = None,
    ) -> AsyncIterator[Job[_Owned]]:
        """Opens an object in a thread, and closes it behind the block that uses it.

        Args:
            pool: where its calls run.
            open_: makes it.
            close: gives up what it holds.
            opens_in: where ``open_`` runs, if not in ``pool``.

        Raises:
            asyncio.CancelledError: the task was cancelled meanwhile; what was opened is closed.
            FletchingError: what ``open_`` raised.
        """
        call = (opens_in or pool).start(open_)
        try:
            owned = await call.outcome()
        except asyncio.CancelledError:
            with contextlib.suppress(BaseException):  # it was not opened, or never begun
                await cls(pool, call.result(), close).close()
            raise
        job = cls(pool, owned, close)
        try:
            yield job
        finally:
            await job.close()

    def start(
        self,
        function: Callable[_Parameters, _Result],
        *args: _Parameters.args,
        **kwargs: _Parameters.kwargs,
    ) -> Call[_Result]:
        """Starts the next call; the one before must have returned."""
        return self.start_in(self._pool, function, *args, **kwargs)

    def start_in(
        self,
        pool: Pool,
        function: Callable[_Parameters, _Result],
        *args: _Parameters.args,
        **kwargs: _Parameters.kwargs,
    ) -> Call[_Result]:
        """Starts the next call in another pool than the others."""
        if self._closed or (self._running is not None and not self._running.returned):
            raise RuntimeError("an object belongs to one call at a time")
        call = pool.start(function, *args, **kwargs)
        self._running = call
        return call

    async def run(
        self,
        function: Callable[_Parameters, _Result],
        *args: _Parameters.args,
        **kwargs: _Parameters.kwargs,
    ) -> _Result:
        """Starts the next call and waits until it has returned; see `Call.outcome`."""
        return await self.start(function, *args, **kwargs).outcome()

    async def close(self) -> None:
        """Waits for the call that runs, then closes the object; idempotent.

        What the call or closing raises is logged if nobody was told: there is nothing left to do.

        Raises:
            asyncio.CancelledError: the task was cancelled meanwhile; the object is closed.
        """
        if self._closed:
            return
        self._closed = True
        cancelled: asyncio.CancelledError | None = None
        if self._running is not None and not self._running.returned:
            cancelled = await self._running.wait(give_up=True)
            error = self._running.error()
            if error is not None:
                logger.debug("a call of a request that has ended: %s", error)
        if not self.owned.ended:
            closing = self._pool.start(self._close, self.owned)
            cancelled = await closing.wait() or cancelled
            error = closing.error()
            if error is not None:
                logger.warning("what a request held could not be closed: %s", error)
        if cancelled is not None:
            raise cancelled


class Workers:
    """The pools, so that no kind of work waits for another.

    Attributes:
        io: calls that read the catalog: short, and never behind a lock.
        write: calls that change the catalog, and so wait while another process writes.
        cpu: bulk work on payload: validating, storing, decoding, bringing pages in.
        query: SQL statements: they take as long as their data is large.
    """

    def __init__(self, io_threads: int, cpu_threads: int, query_threads: int = 4) -> None:
        self.io = Pool(io_threads, "io")
        self.write = Pool(io_threads, "write")
        self.cpu = Pool(cpu_threads, "cpu")
        self.query = Pool(query_threads, "query")

    def pools(self) -> tuple[tuple[str, Pool], ...]:
        """The pools by name."""
        return (
            ("read", self.io),
            ("write", self.write),
            ("bulk", self.cpu),
            ("query", self.query),
        )

    def close(self) -> None:
        """Waits for what runs and ends the threads; blocks."""
        for _, pool in self.pools():
            pool.close()
