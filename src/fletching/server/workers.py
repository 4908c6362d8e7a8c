"""The only way off the event loop: two pools of threads for whatever blocks."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

__all__ = ["Workers"]

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class Workers:
    """Threads for short catalog calls, and others for bulk work, so that neither waits for the other."""

    def __init__(self, call_threads: int, bulk_threads: int) -> None:
        self._calls = ThreadPoolExecutor(call_threads, thread_name_prefix="fletching-call")
        self._bulk = ThreadPoolExecutor(bulk_threads, thread_name_prefix="fletching-bulk")

    def call(
        self,
        function: Callable[_Parameters, _Result],
        *args: _Parameters.args,
        **kwargs: _Parameters.kwargs,
    ) -> asyncio.Future[_Result]:
        """Starts a catalog call; await the future for its result.

        Cancelling the future does not stop a call that runs.
        """
        return _submit(self._calls, functools.partial(function, *args, **kwargs))

    def bulk(
        self,
        function: Callable[_Parameters, _Result],
        *args: _Parameters.args,
        **kwargs: _Parameters.kwargs,
    ) -> asyncio.Future[_Result]:
        """Starts work on payload bytes: validating, storing, decoding, bringing pages in."""
        return _submit(self._bulk, functools.partial(function, *args, **kwargs))

    def close(self) -> None:
        """Waits for what runs and ends the threads; blocks."""
        self._calls.shutdown(wait=True)
        self._bulk.shutdown(wait=True)


def _submit(pool: ThreadPoolExecutor, work: Callable[[], _Result]) -> asyncio.Future[_Result]:
    # In the caller's context: it says for whom the work is done.
    run = functools.partial(contextvars.copy_context().run, work)
    return asyncio.get_running_loop().run_in_executor(pool, run)
