"""What the service is doing and has done lately: live exchanges, the last thousand, rates by time.

Kept in memory, by this process alone, for its operator's pages; `fletching.server.metrics` is what
outlives it. Everything here is used on the event loop, costs about a microsecond per exchange and holds
no more than `RECENT_EXCHANGES` entries and `SLOTS` slots.
"""

from __future__ import annotations

import bisect
import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from fletching.server.http.exchange import Exchange

__all__ = ["BOUNDS", "SLOT_SECONDS", "Monitor", "RecentExchange", "Slot", "quantile"]

RECENT_EXCHANGES = 1000
"""How many ended exchanges are remembered, so that one can be found by its request id."""

SLOT_SECONDS = 10
SLOTS = 360
"""An hour of slots."""

MAX_OUTCOMES = 200
"""Distinct outcomes and codes are classes of ours and statuses; the bound is for whatever comes."""

# OpenTelemetry's bounds for the duration of HTTP requests in seconds, and finer ones below them: most
# of our calls take less than its first.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)


class RecentExchange(NamedTuple):
    """What the log says of an exchange, too. Times in seconds since the epoch, sizes in bytes."""

    request_id: str
    at: float
    access_id: str
    method: str
    action: str
    status: int | None
    received: int
    sent: int
    milliseconds: float
    outcome: str


@dataclasses.dataclass(slots=True)
class Slot:
    """What ended in a span of `SLOT_SECONDS`.

    Attributes:
        number: the span, counted from the epoch.
        requests, failed, refused: exchanges; those answered with 5xx, and with 429.
        received, sent: bytes of bodies.
        durations: how many took up to each of `BOUNDS`, and longer.
    """

    number: int
    requests: int = 0
    failed: int = 0
    refused: int = 0
    received: int = 0
    sent: int = 0
    durations: list[int] = dataclasses.field(default_factory=lambda: [0] * (len(BOUNDS) + 1))


class Monitor:
    """Watches exchanges from their head to their end.

    Attributes:
        live: those that run, by request id.
        recent: those that ended, oldest first.
        outcomes: how many ended how: (status, outcome).
        total: how many ended.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.live: dict[str, Exchange] = {}
        self.recent: deque[RecentExchange] = deque(maxlen=RECENT_EXCHANGES)
        self.outcomes: dict[tuple[int, str], int] = {}
        self.total = 0
        self._clock = clock
        self._slots: deque[Slot] = deque(maxlen=SLOTS)

    def began(self, exchange: Exchange) -> None:
        """Notes an exchange that is to be answered."""
        self.live[exchange.request_id] = exchange

    def ended(self, exchange: Exchange) -> None:
        """Notes how an exchange ended."""
        self.live.pop(exchange.request_id, None)
        now, seconds = self._clock(), exchange.seconds
        status, outcome, sent = exchange.status or 0, exchange.outcome, exchange.sent_bytes
        received = exchange.body.body_bytes
        self.total += 1
        self.recent.append(
            RecentExchange(
                exchange.request_id,
                now,
                exchange.access_id,
                exchange.method,
                exchange.action,
                exchange.status,
                received,
                sent,
                seconds * 1000,
                outcome,
            )
        )
        key = (status, outcome)
        if key in self.outcomes or len(self.outcomes) < MAX_OUTCOMES:
            self.outcomes[key] = self.outcomes.get(key, 0) + 1
        slot = self._slot(int(now // SLOT_SECONDS))
        slot.requests += 1
        slot.failed += status >= 500
        slot.refused += status == 429
        slot.received += received
        slot.sent += sent
        slot.durations[bisect.bisect_left(BOUNDS, seconds)] += 1

    def _slot(self, number: int) -> Slot:
        # A clock that is put back adds to the newest slot.
        if not self._slots or self._slots[-1].number < number:
            self._slots.append(Slot(number))
        return self._slots[-1]

    def slots(self, seconds: float = SLOTS * SLOT_SECONDS) -> list[Slot]:
        """The spans of the last ``seconds``, oldest first; those in which nothing ended too."""
        last = int(self._clock() // SLOT_SECONDS)
        count = min(SLOTS, max(1, int(seconds // SLOT_SECONDS)))
        known = {slot.number: slot for slot in self._slots}
        return [known.get(number) or Slot(number) for number in range(last - count + 1, last + 1)]


def quantile(slots: Iterable[Slot], share: float) -> float | None:
    """Seconds within which that share of the exchanges ended, by the bounds; None without any."""
    totals = [0] * (len(BOUNDS) + 1)
    for slot in slots:
        for index, count in enumerate(slot.durations):
            totals[index] += count
    wanted, seen = share * sum(totals), 0
    if not wanted:
        return None
    for index, count in enumerate(totals):
        if seen + count >= wanted:
            lower = BOUNDS[index - 1] if index else 0.0
            upper = BOUNDS[index] if index < len(BOUNDS) else BOUNDS[-1]
            return lower + (upper - lower) * (wanted - seen) / count
        seen += count
    return BOUNDS[-1]
