from __future__ import annotations

import pytest

from fletching.client.call_options import CallOptions
from fletching.client.transports.http.round_trips import (
    MOST_CONNECTIONS,
    RoundTrips,
    connections_for,
    is_this_host,
)


@pytest.mark.parametrize(
    ("seconds", "connections"),
    # Of an answer a millisecond or so is work, not way: a way of 1 ms and a session of 3 keep one connection.
    [(None, 1), (0.0, 1), (0.001, 1), (0.0045, 1), (0.0062, 3), (0.01, 5), (0.0212, 12), (1.0, 16)],
)
def test_a_longer_way_holds_more(seconds: float | None, connections: int) -> None:
    assert connections_for(seconds) == connections


def test_as_many_connections_are_kept_as_a_scan_may_come_to_use() -> None:
    assert CallOptions().most_connections == MOST_CONNECTIONS


def test_the_shortest_of_the_latest_counts() -> None:
    trips = RoundTrips()
    assert trips.shortest is None
    for seconds in (0.5, 0.02, 0.3):
        trips.add(seconds)
    assert trips.shortest == 0.02
    for _ in range(32):
        trips.add(0.1)
    assert trips.shortest == 0.1


@pytest.mark.parametrize(
    ("endpoint", "here"),
    [
        ("http://127.0.0.1:9", True),
        ("http://127.3.2.1", True),
        ("http://localhost:9", True),
        ("http://service.localhost", True),
        ("http://[::1]:9", True),
        ("http://10.0.0.1", False),
        ("https://tables.example", False),
        ("https://localhost.example", False),
    ],
)
def test_this_host_is_told_from_others(endpoint: str, here: bool) -> None:
    assert is_this_host(endpoint) is here
