from __future__ import annotations

import asyncio

import pytest

from fletching.errors import ThrottledError
from fletching.server import request_limits
from fletching.server.request_limits import Limiter, MemoryBudget


def test_a_gate_turns_away_above_its_limit_and_opens_again() -> None:
    limiter = Limiter("uploads", 2, 1.5)
    with limiter.enter(), limiter.enter():
        with pytest.raises(ThrottledError) as caught, limiter.enter():
            pass
        assert caught.value.retry_after_seconds == 1.5
        assert limiter.open == 2
    with limiter.enter():
        assert limiter.open == 1
    assert limiter.refused == 1


def test_a_gate_gives_places_back_when_a_request_fails() -> None:
    limiter = Limiter("uploads", 1, 1.0)
    with pytest.raises(KeyError), limiter.enter():
        raise KeyError
    assert limiter.open == 0


async def spin() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_budget_is_given_out_in_the_order_of_asking() -> None:
    async def run() -> None:
        budget = MemoryBudget(100, 5.0, 1.0)
        order: list[str] = []

        async def ask(name: str, count: int) -> None:
            await budget.take(count)
            order.append(name)

        await ask("a", 80)
        tasks = [asyncio.create_task(ask(name, n)) for name, n in (("big", 90), ("small", 10))]
        await spin()
        # The small one would fit, but a stream of small ones must not starve the big one.
        assert order == ["a"]
        budget.give(80)
        await spin()
        assert order == ["a", "big", "small"]
        assert budget.held == 100
        budget.give(90)
        budget.give(10)
        await asyncio.gather(*tasks)
        assert (budget.held, budget.peak) == (0, 100)

    asyncio.run(run())


def test_what_exceeds_the_whole_budget_is_let_in_alone() -> None:
    async def run() -> None:
        budget = MemoryBudget(100, 5.0, 1.0)
        await budget.take(10)
        task = asyncio.create_task(budget.take(1000))
        await spin()
        assert not task.done()
        budget.give(10)
        await task
        assert budget.held == 1000

    asyncio.run(run())


def test_of_those_who_wait_for_each_other_one_after_the_other_is_let_in() -> None:
    """Each keeps a part, and wants more than there is: none would ever give anything back."""

    async def run() -> None:
        budget = MemoryBudget(100, 5.0, 1.0)
        order: list[str] = []

        async def ask(name: str) -> None:
            await budget.take(90, own=30)
            order.append(name)

        for _ in range(3):
            await budget.take(30)
        await budget.take(10)
        tasks = [asyncio.create_task(ask(name)) for name in "abc"]
        await spin()
        assert order == []  # somebody who does not wait has some of it
        budget.give(10)
        await spin()
        assert order == ["a"]
        budget.give(120)
        await spin()
        assert order == ["a", "b"]
        budget.give(120)
        await asyncio.gather(*tasks)
        budget.give(120)
        assert (budget.held, budget.peak) == (0, 180)

    asyncio.run(run())


def test_rest_after_a_burst_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_limits, "REST_SECONDS", 0.01)
    monkeypatch.setattr(request_limits, "MUCH_BYTES", 50)

    async def run() -> None:
        calls: list[int] = []
        budget = MemoryBudget(100, 5.0, 1.0, on_rest=lambda: calls.append(budget.held))
        for much, times in ((10, 0), (60, 1), (10, 1)):
            await budget.take(much)
            budget.give(much)
            await asyncio.sleep(0.05)
            assert calls == [0] * times
        # Nothing rests while the next one has come already.
        await budget.take(60)
        budget.give(60)
        await budget.take(1)
        await asyncio.sleep(0.05)
        assert len(calls) == 1
        budget.give(1)

    asyncio.run(run())


def test_patience_ends_with_429_and_leaves_nothing_held() -> None:
    async def run() -> None:
        budget = MemoryBudget(100, 0.01, 2.0)
        await budget.take(100)
        with pytest.raises(ThrottledError) as caught:
            await budget.take(1)
        assert caught.value.retry_after_seconds == 2.0
        assert budget.held == 100
        budget.give(100)
        await budget.take(100)

    asyncio.run(run())


def test_who_gives_up_waiting_makes_room_for_the_next() -> None:
    async def run() -> None:
        budget = MemoryBudget(100, 5.0, 1.0)
        await budget.take(60)
        big = asyncio.create_task(budget.take(90))
        small = asyncio.create_task(budget.take(40))
        await spin()
        big.cancel()
        await small
        assert budget.held == 100
        # Cancelled in the same moment as it is granted: the bytes come back.
        late = asyncio.create_task(budget.take(50))
        await spin()
        budget.give(100)
        late.cancel()
        with pytest.raises(asyncio.CancelledError):
            await late
        assert budget.held == 0

    asyncio.run(run())
