"""The bound on open read sessions, counted only when it may matter.

Counting costs time in proportion to what is open: beside 10,000 sessions, opening another one would
take ten times as long as opening the first.
"""

from __future__ import annotations

import threading

from sqlalchemy import Connection

from fletching.catalog.read_session_rows import count_open_read_sessions
from fletching.errors import ThrottledError

__all__ = ["OpenSessions"]

RECOUNT_SECONDS = 10.0
"""How old a count may be: other processes open sessions in the same catalog."""

SESSION_RETRY_SECONDS = 60.0


class OpenSessions:
    """Lets sessions be opened up to a limit. Thread-safe.

    Exact where one process opens sessions; several may exceed the limit by what they open together
    within ``RECOUNT_SECONDS``.
    """

    def __init__(self, limit: int) -> None:
        """Knows nothing of what is open yet."""
        self._limit = limit
        self._lock = threading.Lock()
        self._room = 0
        self._counted_at = float("-inf")

    def admit(self, connection: Connection, now: float) -> None:
        """Counts in a session that is about to be opened.

        Raises:
            ThrottledError: too many are open; some end by themselves.
        """
        with self._lock:
            age = now - self._counted_at
            # A clock that was set back makes the age negative.
            if self._room <= 0 or not 0 <= age < RECOUNT_SECONDS:
                self._room = self._limit - count_open_read_sessions(connection, now, self._limit)
                self._counted_at = now
            if self._room <= 0:
                raise ThrottledError(
                    f"{self._limit} read sessions are open, which is the limit",
                    retry_after_seconds=SESSION_RETRY_SECONDS,
                )
            self._room -= 1
