"""Ages of what may be deleted: by the catalog's clock, except for how far that was set forward lately.

Nobody can tell a clock that was put right from one that was put wrong, and what was deleted for its age does
not come back. So where the clock is seen to be set forward, ages are counted as before until it has stayed
there for `DOUBT_SECONDS` of the machine's steady clock, which nobody sets. Set back, it is believed at once:
then everything is younger. The catalog keeps what is believed, for processes that start meanwhile; what happened
before the machine was started, nobody knows.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from fletching.catalog.database import Database
from fletching.catalog.leases import find_note, keep_note

__all__ = ["DOUBT_SECONDS", "TOLERANCE_SECONDS", "AgeClock"]

DOUBT_SECONDS = 86_400.0
"""For so long somebody can put the clock back, and nothing is lost."""
TOLERANCE_SECONDS = 300.0
"""So far a clock is believed at once: it is corrected all the time."""

_NOTE = "clock"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_LOG = logging.getLogger("fletching.engine.ages")


class _Belief(msgspec.Struct, frozen=True):
    """By how much the clock is ahead of the steady one: what is believed, and since when it has told more."""

    ahead: float
    doubted: tuple[tuple[float, float], ...] = ()
    boot: str = ""
    """Since which start of the machine its steady clock has run; empty where nothing tells."""

    def differs(self, other: _Belief | None) -> bool:
        """Whether the difference is worth keeping."""
        return (
            other is None
            or abs(self.ahead - other.ahead) > TOLERANCE_SECONDS / 10
            or (self.doubted, self.boot) != (other.doubted, other.boot)
        )


class AgeClock:
    """Seconds since the epoch that ages are counted to. Thread-safe; notices what it is asked often enough for."""

    def __init__(
        self,
        clock: Callable[[], float],
        steady: Callable[[], float],
        database: Database | None = None,
    ) -> None:
        """Goes by ``clock``; ``steady`` gives seconds that nobody sets. Asks neither yet.

        With a database it goes on with what other processes of the machine have kept there.
        """
        self._clock = clock
        self._steady = steady
        self._database = database
        self._lock = threading.Lock()
        self._belief: _Belief | None = None
        self._kept: _Belief | None = None

    def __call__(self) -> float:
        """The time by the catalog's clock, or an earlier one while that is in doubt."""
        with self._lock:
            if self._belief is None:
                self._belief = self._kept = self._find()
            steady = self._steady()
            reported = self._clock() - steady
            belief = self._belief or _Belief(reported, boot=_boot())
            ahead, doubted = belief.ahead, list(belief.doubted)
            while doubted and doubted[-1][1] > reported + TOLERANCE_SECONDS:
                doubted.pop()
            while doubted and doubted[0][0] <= steady - DOUBT_SECONDS:
                ahead = doubted.pop(0)[1]
            last = doubted[-1][1] if doubted else ahead
            if reported > last + TOLERANCE_SECONDS:
                doubted.append((steady, reported))
                _LOG.warning(
                    "the clock was set forward by %.0f s: until it has stayed so for a day, nothing is deleted for"
                    " being that much older. If it is wrong, put it back before",
                    reported - last,
                )
            ahead = min(ahead, reported) if doubted else reported
            self._belief = _Belief(ahead, tuple(doubted), belief.boot)
            return steady + ahead

    def believe(self) -> None:
        """Goes by what the clock says now, because a person says so."""
        with self._lock:
            self._belief = _Belief(self._clock() - self._steady(), boot=_boot())

    def keep(self) -> None:
        """Keeps what is believed for other processes, if it has changed; in each pass of retention.

        Raises:
            StorageError: the catalog failed.
        """
        belief = self._belief
        if self._database and belief and belief.boot and belief.differs(self._kept):
            with self._database.write(durable=False) as connection:
                keep_note(connection, _NOTE, msgspec.json.encode(belief).decode())
            self._kept = belief

    def _find(self) -> _Belief | None:
        """What was kept since the machine was started."""
        if self._database is not None:
            with self._database.read() as connection:
                text = find_note(connection, _NOTE)
            with contextlib.suppress(msgspec.DecodeError):
                belief = _BELIEF.decode(text or "")
                return belief if belief.boot and belief.boot == _boot() else None
        return None


def _boot() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


# At import: see protocol/codec/codec_admin.py.
_BELIEF = msgspec.json.Decoder(_Belief)
