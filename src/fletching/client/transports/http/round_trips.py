"""How far away a service is, and how many connections fill the way to it.

One connection carries about what its window holds in each round trip: on Linux the sender's buffer, 4 MiB
at most, of which three quarters are payload. What is faster than that is filled by several. Where the
way is short one connection fills any network, and others only cost: on one host, a third of the speed.
"""

from __future__ import annotations

import collections
import ipaddress
import urllib.parse

__all__ = ["BUSY_SECONDS", "MOST_CONNECTIONS", "RoundTrips", "connections_for", "is_this_host"]

WINDOW_BYTES = 3 * 1024 * 1024
"""Payload under way on one connection."""

LINK_BYTES_PER_SECOND = 10e9 / 8
"""The fastest link that is reckoned with, 10 Gbit/s; on a slower one the connections share it."""

MORE_FOR_REQUESTS = 1.5
"""Connections for each that the way holds: while one asks for its next piece, which takes a round trip, and at the end
of a scan, when some have nothing left to read, others fill the way. Where one is enough, its one piece has no gaps."""

MOST_CONNECTIONS = 16

WORK_SECONDS = 0.0012
"""What the quickest answer takes of both sides, however short the way."""

BUSY_SECONDS = 0.012
"""What an answer may take on one host, where it is no way but work: a machine whose cores are busy."""

_REMEMBERED = 32
"""Answers that are remembered: the shortest of them took the least beside the way."""


def connections_for(answer_seconds: float | None) -> int:
    """How many connections fill the fastest link, where so long passes until an answer; one where nothing is known."""
    if answer_seconds is None:
        return 1
    held = LINK_BYTES_PER_SECOND * (answer_seconds - WORK_SECONDS) / WINDOW_BYTES
    if round(held) <= 1:
        return 1
    return min(MOST_CONNECTIONS, round(held * MORE_FOR_REQUESTS))


def is_this_host(endpoint: str) -> bool:
    """Whether an endpoint is reached over the loopback interface (which may lead on to a tunnel)."""
    host = urllib.parse.urlsplit(endpoint).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class RoundTrips:
    """The latest times from a small request to the first byte of its reply. Thread-safe."""

    def __init__(self) -> None:
        self._seconds: collections.deque[float] = collections.deque(maxlen=_REMEMBERED)

    def add(self, seconds: float) -> None:
        """Takes one more; it contains what the service worked, and perhaps connecting."""
        self._seconds.append(seconds)

    @property
    def shortest(self) -> float | None:
        """The shortest of the latest: at most so long is the way there and back. None at first."""
        return min(list(self._seconds), default=None)
