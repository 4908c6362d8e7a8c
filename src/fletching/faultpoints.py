"""Named places of the write and commit paths where a test may kill the process.

``arm("segment.durable:3")`` makes the third arrival at that point a SIGKILL, as a power cut would
end the process: no ``finally``, no flush. Nothing is armed unless the environment variable
``FLETCHING_CRASH_AT`` says so when an engine is opened; a point then costs one comparison.
"""

from __future__ import annotations

import os
import signal
import threading

from fletching.errors import UsageError

__all__ = ["POINTS", "VARIABLE", "arm", "arm_from_environment", "reach"]

VARIABLE = "FLETCHING_CRASH_AT"
"""Environment variable: ``name`` or ``name:arrival`` (counted from 1)."""

POINTS = (
    "object.written",  # bytes given to the system, not yet durable
    "object.synced",  # durable under the temporary name
    "object.published",  # visible under its key, folder not yet durable
    "object.claimed",  # of a large object in a bucket: nobody else completes it, nor has this one
    "object.durable",  # folder durable, too
    "object.deleted",
    "write.staging",  # segments durable, catalog transaction not begun
    "write.staged",  # in the transaction, before it commits
    "write.accepted",  # committed, reply not sent
    "blobs.durable",  # pack durable, unknown to the catalog
    "blobs.accepted",  # known, reply not sent
    "stream.created",
    "stream.closed",
    "commit.begun",  # in the transaction, before anything is changed
    "commit.changed",  # everything changed, not committed
    "commit.done",  # committed, reply not sent
    "table.filled",  # the rows of a table that is being made are there, its name is not
    "abort.done",  # session gone from the catalog, objects still there
    "change.planned",  # a version is pinned, nothing is done yet
    "change.segments_durable",  # rows that come are durable, the transaction has not begun
    "change.committing",  # in the transaction, before it commits
    "change.done",  # committed, reply not sent
    "compact.written",
    "compact.remapped",  # in the transaction, before it commits
    "compact.done",
    "runs.written",  # a merged key run is durable, unknown to the catalog
    "runs.merged",  # known, the runs in whose place it is are not deleted yet
    "restore.changed",  # in the transaction, before it commits
    "tag.created",  # likewise
    "retention.horizon",  # in the transaction: the horizon is raised, nothing is forgotten
    "retention.forgotten",  # rows gone, objects still there
)


class _Fuse:
    """Which arrival at which point kills; the lock makes arrivals of several threads count once each."""

    def __init__(self, point: str, arrivals: int) -> None:
        self.point = point
        self._left = arrivals
        self._lock = threading.Lock()

    def arrive(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


# The one piece of module state: a crash is a matter of the process, not of an object in it.
_fuse: _Fuse | None = None


def arm(target: str | None) -> None:
    """Sets where this process will die, ``None`` nowhere.

    Raises:
        UsageError: no such point, or an arrival that is not a positive number.
    """
    global _fuse  # noqa: PLW0603 - see _fuse
    if not target:
        _fuse = None
        return
    point, _, count = target.partition(":")
    if point not in POINTS or not (count or "1").isdecimal() or int(count or 1) < 1:
        raise UsageError(f"{VARIABLE}={target!r} is not one of {', '.join(POINTS)}, with :arrival")
    _fuse = _Fuse(point, int(count or 1))


def arm_from_environment() -> None:
    """``arm`` with what the environment says, if it says anything."""
    target = os.environ.get(VARIABLE)
    if target:
        arm(target)


def reach(point: str) -> None:
    """Marks a point; does not return if this arrival is the armed one."""
    if _fuse is not None and _fuse.point == point:
        _fuse.arrive()
