"""Calls of the blocking client that are awaited, and the objects that have them.

A call runs in a thread of the client's own pool, under a scope that breaks it off when its task is
cancelled. What a class wraps it says when it is made (``of=``), and results are wrapped by that.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import functools
import threading
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Mapping,
)
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, cast

from fletching.client.cancellation import LEAVE_SECONDS, Cancellation
from fletching.client.transports.channel import Channel
from fletching.errors import FletchingError, OperationCancelledError

__all__ = ["AsyncItems", "AsyncObject", "Pending", "copied", "in_thread", "own_scope"]

_R = TypeVar("_R")
_I = TypeVar("_I")
_T_co = TypeVar("_T_co", covariant=True)

_END = object()


class Pending(Coroutine[object, object, _T_co]):
    """A call that begins when it is awaited, entered or iterated; once, in one of these ways.

    It is a coroutine, so that ``asyncio.create_task`` and task groups take it, and that Python warns of a
    call that was never awaited.
    """

    def __init__(self, coroutine: Coroutine[object, object, _T_co]) -> None:
        self._coroutine = coroutine
        self._entered: Any = None

    def __await__(self) -> Generator[object, object, _T_co]:
        """Makes the call; its result."""
        return self._coroutine.__await__()

    def send(self, value: object, /) -> object:
        """As a coroutine's."""
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> object:
        """As a coroutine's."""
        return self._coroutine.throw(*error)

    def close(self) -> None:
        """Lets go of a call that nobody is going to await."""
        self._coroutine.close()

    async def __aenter__(self) -> _T_co:
        """Makes the call and enters its result: a session, a writer, a reader, a file."""
        result = await self
        self._entered = result
        await self._entered.__aenter__()
        return result

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leaves the result, as its blocking form is left."""
        await self._entered.__aexit__(exc_type, exc, traceback)

    def __aiter__(self: Pending[AsyncItems[_I] | list[_I]]) -> AsyncIterator[_I]:
        """Makes the call and iterates its result: batches, blobs, names."""
        return self._items()

    async def _items(self: Pending[AsyncItems[_I] | list[_I]]) -> AsyncIterator[_I]:
        result = await self
        if isinstance(result, AsyncItems):
            # Whoever leaves early leaves what is underneath, too.
            async with contextlib.aclosing(result.__aiter__()) as items:
                async for item in items:
                    yield item
            return
        for each in result:
            yield each


class AsyncObject:
    """An object of the blocking client whose calls are awaited.

    Whatever is not declared here is looked up there: values are values, methods are calls. A type checker
    knows of each class what it declares.
    """

    _wraps: ClassVar[dict[type, type[AsyncObject]]] = {}
    """The class for the results of each type."""

    def __init_subclass__(cls, *, of: type | None = None, **rest: object) -> None:
        super().__init_subclass__(**rest)
        if of is not None:
            cls._wraps[of] = cls

    _plain: frozenset[str] = frozenset()
    """Methods that ask nobody: they are called at once, and their results wrapped."""

    _left_out: Mapping[str, str] = {}
    """What the blocking object has and this has not, and what to take instead."""

    def __init__(self, wrapped: object, pool: ThreadPoolExecutor, scope: Cancellation) -> None:
        """Wraps ``wrapped``, whose calls run in ``pool`` and are broken off by ``scope``."""
        self._wrapped: Any = wrapped
        self._pool = pool
        self._scope = scope

    # --- calls

    def _call(self, name: str, args: Iterable[object], words: Mapping[str, object]) -> Pending[Any]:
        arguments = [_unwrapped(each) for each in args]
        named = {key: _unwrapped(value) for key, value in words.items()}

        async def call() -> Any:
            target, scope = self._scoped()
            before = dict(getattr(target, "__dict__", ()))
            result = await in_thread(
                self._pool, scope, lambda: getattr(target, name)(*arguments, **named)
            )
            self._after(target, before)
            return self if result is target else _wrap(result, self._pool, scope)

        call.__qualname__ = f"{type(self).__name__}.{name}"  # for Python's warning
        return Pending(call())

    def _scoped(self) -> tuple[Any, Cancellation]:
        """The object for one call, and what breaks that off. Objects with a state have one for all."""
        return self._wrapped, self._scope

    def _after(self, target: object, before: Mapping[str, object]) -> None:
        """A call on the object for one call has ended; ``before`` it, that had these attributes."""

    if not TYPE_CHECKING:  # it would take any name

        def __getattr__(self, name: str) -> object:
            if name.startswith("_"):
                raise AttributeError(name)
            if name in self._left_out:
                raise AttributeError(f"the async client has no {name}: {self._left_out[name]}")
            value = getattr(self._wrapped, name)
            if not callable(value) or isinstance(value, type):
                return _wrap(value, self._pool, self._scope)
            if name in self._plain:

                @functools.wraps(value)
                def plain(*args: object, **words: object) -> object:
                    return _wrap(value(*args, **words), self._pool, self._scope)

                return plain

            @functools.wraps(value)
            def call(*args: object, **words: object) -> Pending[object]:
                return self._call(name, args, words)

            return call

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self._wrapped)} - set(self._left_out))

    def __repr__(self) -> str:
        """That of the blocking object."""
        return f"<async {self._wrapped!r}>"

    # --- contexts

    async def __aenter__(self) -> Self:
        """As the blocking object is entered, which asks nobody."""
        self._wrapped.__enter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """As the blocking object is left: sessions commit or abort, writers close, files close."""
        leave = functools.partial(self._wrapped.__exit__, exc_type, exc, traceback)
        await in_thread(self._pool, self._scope, leave)


class AsyncItems(AsyncObject, Generic[_I]):
    """What is iterated with ``async for``: batches, blobs, changes."""

    async def __aiter__(self) -> AsyncGenerator[_I, None]:
        """The items of the blocking object; leaving early ends what is waited for."""
        target, scope = self._scoped()
        # What has begun is not left to a call that a cancellation may keep from being made.
        items = (
            target
            if isinstance(target, Generator)
            else await in_thread(self._pool, scope, lambda: iter(target))
        )
        # A call that was cancelled may go on for a moment, and an iterator takes one call at a time.
        used = threading.Lock()

        def advance() -> object:
            with used:
                return next(items, _END)

        def close() -> None:
            with used:
                items.close()

        try:
            while (item := await in_thread(self._pool, scope, advance)) is not _END:
                yield cast("_I", _wrap(item, self._pool, scope))
        finally:
            if hasattr(items, "close"):
                goes_on = used.locked()
                # Not in the pool: whoever leaves late may have closed the client.
                future = asyncio.get_running_loop().run_in_executor(None, close)
                future.add_done_callback(_looked_at)
                if not goes_on:
                    await asyncio.wait({future}, timeout=LEAVE_SECONDS)


async def in_thread(pool: ThreadPoolExecutor, scope: Cancellation, call: Callable[[], _R]) -> _R:
    """Runs a blocking call; when this task is cancelled, the call is broken off first.

    Raises:
        OperationCancelledError: the client was closed.
        BaseException: what the call raises; the end of an iterator as `StopAsyncIteration`.
    """
    context = contextvars.copy_context()

    def run() -> _R:
        try:
            return context.run(call)
        except StopIteration as exc:
            # A future cannot carry it.
            raise StopAsyncIteration from exc

    try:
        job = pool.submit(run)
    except RuntimeError:
        scope.check()  # the pool of a closed client takes no calls
        raise
    future = asyncio.wrap_future(job)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        scope.cancel("the task was cancelled")
        future.add_done_callback(_looked_at)
        if not job.cancel():  # it has begun
            job.add_done_callback(_left)
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({future}, timeout=LEAVE_SECONDS)
        raise


def _looked_at(future: asyncio.Future[Any]) -> None:
    """Takes a result that nobody waits for any more, so that its error is not reported as lost."""
    if not future.cancelled():
        future.exception()


def _left(job: Future[Any]) -> None:
    """Leaves what a call has opened here that nobody waits for any more, as a block is left that was cancelled.

    Sessions are the service's, and expire there.
    """
    opened: Any = None if job.exception() else job.result()
    if not hasattr(opened, "close"):
        return

    def leave() -> None:
        error = OperationCancelledError("the task was cancelled")
        with contextlib.suppress(FletchingError):
            if hasattr(opened, "__exit__"):
                opened.__exit__(type(error), error, None)
            else:
                opened.close()

    # Not in the loop, which may be where this is called, nor in the pool, which may be closed.
    threading.Thread(target=leave, name="fletching-leave", daemon=True).start()


def own_scope(channel: Channel) -> tuple[Channel, Cancellation]:
    """The channel with a scope of its own: what breaks off one call and leaves the client."""
    scope = Cancellation(channel.transport.cancellation)
    return dataclasses.replace(channel, scope=scope), scope


def copied(owner: Any) -> tuple[Any, Cancellation]:
    """A copy of a client or table whose calls can be broken off without the others'."""
    channel, scope = own_scope(owner.channel)
    made = object.__new__(type(owner))
    made.__dict__.update(owner.__dict__)
    made.channel = channel
    return made, scope


def _wrap(value: object, pool: ThreadPoolExecutor, scope: Cancellation) -> Any:
    """A result of the blocking client as one of this."""
    if isinstance(value, list):
        return [_wrap(each, pool, scope) for each in value]
    if isinstance(value, Generator):
        return AsyncItems[Any](value, pool, scope)
    for kind in type(value).__mro__:
        wrapper = AsyncObject._wraps.get(kind)  # noqa: SLF001  # of this module
        if wrapper is not None:
            return wrapper(value, pool, scope)
    return value


def _unwrapped(value: object) -> object:
    return value._wrapped if isinstance(value, AsyncObject) else value  # noqa: SLF001  # of this module
