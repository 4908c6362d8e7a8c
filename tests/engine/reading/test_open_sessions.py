"""The bound on open read sessions: exact, and counted only when it may matter."""

from __future__ import annotations

from typing import Any

import pytest

from fletching.engine.reading import open_sessions
from fletching.engine.reading.open_sessions import RECOUNT_SECONDS, OpenSessions
from fletching.errors import ThrottledError


class Catalog:
    """So many sessions are open; remembers how often they were counted."""

    def __init__(self) -> None:
        self.open = 0
        self.counted = 0

    def count(self, _connection: Any, _now: float, limit: int) -> int:
        self.counted += 1
        return min(self.open, limit)

    def admit(self, sessions: OpenSessions, now: float) -> None:
        sessions.admit(None, now)  # type: ignore[arg-type]  # the count is replaced
        self.open += 1


@pytest.fixture
def catalog(monkeypatch: pytest.MonkeyPatch) -> Catalog:
    made = Catalog()
    monkeypatch.setattr(open_sessions, "count_open_read_sessions", made.count)
    return made


def test_sessions_far_below_the_limit_are_counted_once(catalog: Catalog) -> None:
    sessions = OpenSessions(1000)
    for _ in range(900):
        catalog.admit(sessions, 5.0)
    assert catalog.counted == 1


def test_the_limit_is_exact_for_one_process(catalog: Catalog) -> None:
    catalog.open = 7
    sessions = OpenSessions(10)
    for _ in range(3):
        catalog.admit(sessions, 5.0)
    for _ in range(2):
        with pytest.raises(ThrottledError, match="10 read sessions are open") as error:
            catalog.admit(sessions, 5.0)
        assert error.value.retry_after_seconds
    catalog.open -= 1  # one has expired
    catalog.admit(sessions, 5.0)
    with pytest.raises(ThrottledError):
        catalog.admit(sessions, 5.0)


@pytest.mark.parametrize("later", [RECOUNT_SECONDS, -1000.0])
def test_what_others_open_shows_at_the_next_count(catalog: Catalog, later: float) -> None:
    sessions = OpenSessions(100)
    catalog.admit(sessions, 5.0)
    catalog.open = 100  # another process was busy
    catalog.admit(sessions, 5.0 + RECOUNT_SECONDS / 2)
    with pytest.raises(ThrottledError):
        catalog.admit(sessions, 5.0 + later)
