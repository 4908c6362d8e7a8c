from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from fletching.server.monitor import BOUNDS, RECENT_EXCHANGES, SLOT_SECONDS, Monitor, quantile


def exchange(number: int = 0, **attributes: Any) -> Any:
    result = {
        "request_id": f"r{number}",
        "access_id": "ann",
        "method": "GET",
        "action": "a",
        "status": 200,
        "seconds": 0.004,
        "sent_bytes": 10,
        "outcome": "ok",
        "body": SimpleNamespace(body_bytes=3),
    }
    return SimpleNamespace(**{**result, **attributes})


def test_exchanges_are_live_until_they_end_and_then_remembered_for_a_while() -> None:
    monitor = Monitor(lambda: 1000.0)
    for number in range(RECENT_EXCHANGES + 5):
        each = exchange(number)
        monitor.began(each)
        assert monitor.live == {f"r{number}": each}
        monitor.ended(each)
    assert monitor.live == {}
    assert len(monitor.recent) == RECENT_EXCHANGES
    assert monitor.recent[-1].request_id == f"r{RECENT_EXCHANGES + 4}"
    assert monitor.total == RECENT_EXCHANGES + 5


def test_slots_hold_what_ended_in_them_and_are_there_when_nothing_did() -> None:
    now = 1000.0
    monitor = Monitor(lambda: now)
    monitor.ended(exchange(status=503, outcome="StorageError", seconds=2.0))
    monitor.ended(exchange(status=429, outcome="ThrottledError"))
    now += 3 * SLOT_SECONDS
    monitor.ended(exchange(status=None, outcome="disconnected"))
    now -= 10 * SLOT_SECONDS  # a clock that is put back
    monitor.ended(exchange())
    now += 10 * SLOT_SECONDS
    slots = monitor.slots(5 * SLOT_SECONDS)
    assert [slot.requests for slot in slots] == [0, 2, 0, 0, 2]
    assert (slots[1].failed, slots[1].refused, slots[1].sent, slots[1].received) == (1, 1, 20, 6)
    assert sum(slots[1].durations) == 2
    assert monitor.outcomes[503, "StorageError"] == 1


def test_outcomes_are_bounded() -> None:
    monitor = Monitor()
    for number in range(1000):
        monitor.ended(exchange(outcome=f"o{number}"))
    assert len(monitor.outcomes) <= 200


def test_quantiles_lie_between_the_bounds() -> None:
    monitor = Monitor()
    assert quantile(monitor.slots(60), 0.5) is None
    for number in range(100):
        monitor.ended(exchange(seconds=0.002 if number < 90 else 100.0))
    slots = monitor.slots(60)
    median = cast("float", quantile(slots, 0.5))
    assert 0.001 < median <= 0.0025
    assert quantile(slots, 0.99) == BOUNDS[-1]
