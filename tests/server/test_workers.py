"""Calls in threads, and who owns what they work on: a cancellation waits, an object is closed once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from fletching.errors import ServiceUnavailableError, StorageError
from fletching.server.workers import Job, Pool, Workers


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = Pool(2, "test")
    yield pool
    pool.close()


class Thing:
    """Notes what is done to it, and that nothing is done at the same time."""

    def __init__(self) -> None:
        self.ended = False
        self.closes = 0
        self.calls: list[str] = []
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self._busy = threading.Lock()

    def work(self, what: str = "work") -> str:
        assert self._busy.acquire(blocking=False), "two hands"
        self.begun.set()
        assert self.go_on.wait(600)
        self.calls.append(what)
        self._busy.release()
        return what

    def fail(self) -> None:
        raise StorageError("the disk failed")

    def close(self) -> None:
        assert self._busy.acquire(blocking=False), "closed under somebody's hands"
        self.closes += 1
        self._busy.release()


async def let_tasks_run() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def begun(thing: Thing) -> None:
    await asyncio.to_thread(thing.begun.wait, 60)


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await work()

    asyncio.run(bounded())


def test_a_call_returns_or_raises_what_it_did(pool: Pool) -> None:
    async def work() -> None:
        assert await pool.run(lambda a, b: a + b, 1, b=2) == 3
        with pytest.raises(StorageError):
            await pool.run(Thing().fail)

    run(work)


def test_a_pool_that_is_closed_says_so(pool: Pool) -> None:
    async def work() -> None:
        pool.close()
        with pytest.raises(ServiceUnavailableError, match="takes no more work"):
            await pool.run(Thing)
        assert (pool.running, pool.waiting) == (0, 0)

    run(work)


@pytest.mark.parametrize("times", [1, 3])
def test_a_cancelled_waiter_waits_for_the_call(pool: Pool, times: int) -> None:
    async def work() -> None:
        thing = Thing()
        hints: list[int] = []
        call = pool.start(thing.work)
        task = asyncio.create_task(call.outcome(on_unwanted=lambda: hints.append(1)))
        await begun(thing)
        for _ in range(times):
            task.cancel()
            await let_tasks_run()
            assert not task.done()
        assert call.unwanted
        thing.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert thing.calls == ["work"]
        assert call.returned
        assert hints == [1]

    run(work)


def test_a_call_that_has_not_begun_is_not_begun_for_nobody() -> None:
    pool = Pool(1, "test")

    async def work() -> None:
        first, second = Thing(), Thing()
        running = pool.start(first.work)
        await begun(first)
        waiting = asyncio.create_task(pool.run(second.work))
        await let_tasks_run()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        first.go_on.set()
        assert await running.outcome() == "work"
        assert not second.begun.is_set()

    run(work)
    pool.close()


def test_what_was_opened_for_nobody_is_closed(pool: Pool) -> None:
    async def work() -> None:
        thing = Thing()

        def open_() -> Thing:
            thing.work("open")
            return thing

        async def use() -> None:
            async with Job.opened(pool, open_, Thing.close):
                pytest.fail("the task was cancelled before")

        task = asyncio.create_task(use())
        await begun(thing)
        task.cancel()
        await let_tasks_run()
        thing.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert thing.closes == 1

    run(work)


def test_closing_waits_for_the_call_and_survives_being_cancelled(pool: Pool) -> None:
    async def work() -> None:
        thing = Thing()
        closing = threading.Event()

        def close(owned: Thing) -> None:
            assert closing.wait(600)
            owned.close()

        async def use() -> None:
            async with Job.opened(pool, lambda: thing, close) as job:
                job.start(job.owned.work)
                await asyncio.Event().wait()

        task = asyncio.create_task(use())
        await begun(thing)
        task.cancel()  # leaves the block, and waits for the call
        await let_tasks_run()
        task.cancel()
        await let_tasks_run()
        thing.go_on.set()
        await asyncio.sleep(0.01)
        task.cancel()  # now it is being closed
        await let_tasks_run()
        assert not task.done()
        closing.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert thing.closes == 1
        assert thing.calls == ["work"]

    run(work)


def test_an_object_that_has_ended_needs_no_closing_and_an_open_one_is_closed_once(
    pool: Pool,
) -> None:
    async def work() -> None:
        ended, left = Thing(), Thing()
        for thing in (ended, left):
            thing.go_on.set()
            async with Job.opened(pool, lambda: thing, Thing.close) as job:  # noqa: B023
                assert await job.run(thing.work, "again") == "again"
                thing.ended = thing is ended
            await job.close()
            with pytest.raises(RuntimeError):
                job.start(thing.work)
        assert (ended.closes, left.closes) == (0, 1)

    run(work)


def test_one_call_at_a_time(pool: Pool) -> None:
    async def work() -> None:
        thing = Thing()
        async with Job.opened(pool, lambda: thing, Thing.close) as job:
            call = job.start(thing.work)
            with pytest.raises(RuntimeError, match="one call at a time"):
                job.start(thing.work)
            thing.go_on.set()
            await call.outcome()
            await job.run(thing.work)
        assert thing.calls == ["work", "work"]

    run(work)


def test_a_failure_in_closing_hides_nothing(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        with pytest.raises(ValueError, match="the reason"):
            async with Job.opened(pool, Thing, Thing.fail):
                raise ValueError("the reason")

    run(work)
    assert "the disk failed" in caplog.text


def test_no_pool_waits_for_another() -> None:
    workers = Workers(1, 1, 1)
    pools: dict[str, Any] = {
        name: getattr(workers, name) for name in ("io", "write", "cpu", "query")
    }

    async def work() -> None:
        things = {name: Thing() for name in pools}
        calls = [pools[name].start(thing.work, name) for name, thing in things.items()]
        for name in reversed(things):
            await begun(things[name])
        for thing in things.values():
            thing.go_on.set()
        assert [await call.outcome() for call in calls] == list(pools)

    run(work)
    workers.close()
