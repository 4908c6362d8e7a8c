"""Ages of what may be deleted: by the catalog's clock, except for how far that was set forward lately.

Nobody can tell a clock that was put right from one that was put wrong, and what was deleted for its age does
not come back. So a process that sees the clock set forward counts ages as before until the clock has stayed
there for `DOUBT_SECONDS` of the machine's steady clock, which nobody sets. Set back, it is believed at once:
then everything is younger. What happened while the process was not running, it cannot know.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

__all__ = ["DOUBT_SECONDS", "TOLERANCE_SECONDS", "AgeClock"]

DOUBT_SECONDS = 86_400.0
"""For so long somebody can put the clock back, and nothing is lost."""
TOLERANCE_SECONDS = 300.0
"""So far a clock is believed at once: it is corrected all the time."""

_LOG = logging.getLogger("fletching.engine.ages")


class AgeClock:
    """Seconds since the epoch that ages are counted to. Thread-safe; notices what it is asked often enough for."""

    def __init__(self, clock: Callable[[], float], steady: Callable[[], float]) -> None:
        """Goes by ``clock``; ``steady`` gives seconds that nobody sets. Asks neither yet."""
        self._clock = clock
        self._steady = steady
        self._lock = threading.Lock()
        # By how much the clock is ahead of the steady one: what is believed, and since when it has said more.
        self._believed: float | None = None
        self._doubted: list[tuple[float, float]] = []

    def __call__(self) -> float:
        """The time by the catalog's clock, or an earlier one while that is in doubt."""
        with self._lock:
            steady = self._steady()
            ahead = self._clock() - steady
            believed = ahead if self._believed is None else self._believed
            while self._doubted and self._doubted[-1][1] > ahead + TOLERANCE_SECONDS:
                self._doubted.pop()
            while self._doubted and self._doubted[0][0] <= steady - DOUBT_SECONDS:
                believed = self._doubted.pop(0)[1]
            last = self._doubted[-1][1] if self._doubted else believed
            if ahead > last + TOLERANCE_SECONDS:
                self._doubted.append((steady, ahead))
                _LOG.warning(
                    "the clock was set forward by %.0f s: until it has stayed so for a day, this process deletes"
                    " nothing for being that much older. If it is wrong, put it back before",
                    ahead - last,
                )
            self._believed = min(believed, ahead) if self._doubted else ahead
            return steady + self._believed
