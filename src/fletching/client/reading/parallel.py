"""Several readers at once, their batches in order, with bounded memory.

Each worker thread reads one split at a time into its lane; the caller takes the lanes in order. A
worker whose batches nobody has taken yet waits, so that what is held never exceeds the budget and
one batch per worker; the lane whose turn it is may always add a batch, so that nothing waits for
ever. Threads live only while the iterator does; an error of a split is raised when its turn comes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa

from fletching.client.reading.arrow_reader import ArrowReader
from fletching.errors import FletchingError

__all__ = ["read_in_order"]


@dataclasses.dataclass(slots=True)
class _Lane:
    """What one split has delivered and the caller has not taken."""

    batches: deque[pa.RecordBatch] = dataclasses.field(default_factory=deque)
    ended: bool = False
    error: BaseException | None = None


class _Lanes:
    """The state that workers and caller share; ``changed`` guards all of it."""

    def __init__(self, openers: Sequence[Callable[[], ArrowReader]], read_ahead_bytes: int) -> None:
        self.openers = openers
        self.lanes = [_Lane() for _ in openers]
        self.read_ahead_bytes = read_ahead_bytes
        self.changed = threading.Condition()
        self.held_bytes = 0
        self.turn = 0
        self.next_split = 0
        self.stopped = False
        self.active: set[ArrowReader] = set()

    def work(self) -> None:
        """Reads splits until there are none left; runs in each worker."""
        while True:
            with self.changed:
                if self.stopped or self.next_split == len(self.openers):
                    return
                position = self.next_split
                self.next_split += 1
            error: BaseException | None = None
            try:
                self._read(position)
            except BaseException as exc:  # noqa: BLE001  # whatever it is, the caller raises it in its turn
                error = exc
            with self.changed:
                lane = self.lanes[position]
                lane.error, lane.ended = error, True
                self.changed.notify_all()

    def _read(self, position: int) -> None:
        with self.openers[position]() as reader:
            with self.changed:
                self.active.add(reader)
            try:
                for batch in reader:
                    if not self._put(position, batch):
                        return
            finally:
                with self.changed:
                    self.active.discard(reader)

    def _put(self, position: int, batch: pa.RecordBatch) -> bool:
        """Adds a batch when there is room; False when the caller has gone."""
        lane, size = self.lanes[position], batch.nbytes

        def may_add() -> bool:
            if self.stopped or self.held_bytes + size <= self.read_ahead_bytes:
                return True
            return position == self.turn and not lane.batches

        with self.changed:
            self.changed.wait_for(may_add)
            if self.stopped:
                return False
            lane.batches.append(batch)
            self.held_bytes += size
            self.changed.notify_all()
            return True

    def take(self) -> pa.RecordBatch | None:
        """The next batch in order; None after the last.

        Raises:
            BaseException: what the split met that is next in order.
        """
        with self.changed:
            while self.turn < len(self.lanes):
                lane = self.lanes[self.turn]
                self.changed.wait_for(lambda lane=lane: lane.batches or lane.ended)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
                if lane.batches:
                    batch = lane.batches.popleft()
                    self.held_bytes -= batch.nbytes
                    self.changed.notify_all()
                    return batch
                if lane.error is not None:
                    raise lane.error
                self.turn += 1
                self.changed.notify_all()
            return None

    def stop(self) -> None:
        """Tells every worker to end and breaks off what they wait for."""
        with self.changed:
            self.stopped = True
            active = list(self.active)
            self.changed.notify_all()
        for reader in active:
            with contextlib.suppress(FletchingError):
                reader.cancel()


def read_in_order(
    openers: Sequence[Callable[[], ArrowReader]], *, connections: int, read_ahead_bytes: int
) -> Iterator[pa.RecordBatch]:
    """The batches of all readers, one reader after another, read by several threads ahead.

    Args:
        openers: make the readers; each is called once, in a worker.
        connections: threads, and so connections, at most.
        read_ahead_bytes: batches held beyond what the caller took, beside one per thread.

    Raises:
        FletchingError: what a reader raised, in its turn.
    """
    if connections == 1 or len(openers) <= 1:
        for opener in openers:
            with opener() as reader:
                yield from reader
        return
    lanes = _Lanes(openers, read_ahead_bytes)
    workers = [
        threading.Thread(target=lanes.work, name=f"fletching-read-{number}", daemon=True)
        for number in range(min(connections, len(openers)))
    ]
    for worker in workers:
        worker.start()
    try:
        while (batch := lanes.take()) is not None:
            yield batch
    finally:
        lanes.stop()
        for worker in workers:
            worker.join()
