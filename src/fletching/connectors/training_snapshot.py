"""The one snapshot that all readers of a training job read, in whatever process."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pickle
import time
import weakref
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
import torch

from fletching.client import Scan, Table
from fletching.client.blobs.contents_reader import ContentsReader
from fletching.client.reading.planned_scan import plan
from fletching.client.reading.read_session import ReadSession
from fletching.client.reading.row_ends import release_quietly
from fletching.client.tabular.alignment import joined
from fletching.errors import UsageError

__all__ = ["SnapshotReader", "TrainingSnapshot", "agreed"]


class TrainingSnapshot:
    """One snapshot of a scan; pickles, with what reads it and no secret.

    The process that opened it keeps it while it lives, and gives it up with it. Readers keep it for
    another while when half of its time is over, so that training may last longer than a session.
    """

    _reader: tuple[int, SnapshotReader] | None = None
    """Of which process, and the reader."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        self.session: ReadSession = scan.session()
        self._process = os.getpid()
        session = self.session
        self._end = weakref.finalize(
            self, _end, os.getpid(), session.channel, session.table, session.id
        )

    def close(self) -> None:
        """Gives the snapshot up: nobody reads it any longer. Idempotent."""
        self._reader = None  # and what it has open
        if self._process == os.getpid():
            self._end()

    def like(self, identity: str) -> TrainingSnapshot:
        """What has another snapshot's `identity`: opened anew if it is another version's than this one's.

        Raises:
            UsageError: the other was of no version that the table tells.
            VersionNotFoundError: retention has taken the version.
        """
        kind, _, number = identity.partition(" ")
        if identity == self.identity:
            return self
        if kind != "version" or not number.isdecimal():
            raise UsageError(
                f"the training state has snapshot {identity!r}, this dataset {self.identity!r}"
            )
        scan = self._scan
        if self._process != os.getpid():
            scan = pickle.loads(pickle.dumps(scan))  # noqa: S301  # our own; see `opened`
        return TrainingSnapshot(dataclasses.replace(scan, version=int(number)))

    @property
    def table(self) -> str:
        """Whose rows."""
        return str(self.session.table)

    @property
    def identity(self) -> str:
        """What is the same whenever the same rows are read: the table's version, where one is told."""
        version = self.session.version
        return f"session {self.session.id}" if version is None else f"version {version}"

    @property
    def rows(self) -> int:
        """How many, before the filter."""
        return self.session.row_count

    @property
    def schema(self) -> pa.Schema:
        """Of the rows."""
        return self.session.schema

    @property
    def filter(self) -> str | None:
        """What rows are left out by; a training state says it."""
        pushed, residual = self.session.pushed, self.session.residual
        if residual is None:
            return pushed
        text = f"{pushed or 'true'} AND {residual}"
        # pyarrow writes a long list's ends alone.
        if "..." in text:
            text += f" [{hashlib.sha256(residual.written).hexdigest()}]"
        return text

    @property
    def filtered(self) -> bool:
        """Whether only reading tells how many rows there are."""
        return self.session.filters

    def opened(self) -> SnapshotReader:
        """The reader of this process: a forked worker must not share its parent's connections.

        One for all epochs, since it keeps connections and packs of blobs open.
        """
        own = os.getpid()
        if self._reader is None or self._reader[0] != own:
            session = self.session
            if self._process != own:
                session = pickle.loads(pickle.dumps(session))  # noqa: S301  # our own
            self._reader = own, SnapshotReader(session)
        return self._reader[1]

    def __reduce__(self) -> tuple[object, ...]:
        scan = self._scan
        if isinstance(scan.table, Table):
            if self._process != os.getpid():
                scan = pickle.loads(pickle.dumps(scan))  # noqa: S301  # our own; see `opened`
            # What travels has a token for its table in place of the key.
            scan = plan(scan).scan
        return _carried, (scan, self.session)


def _carried(scan: Scan, session: ReadSession) -> TrainingSnapshot:
    """A snapshot that another process keeps."""
    made = TrainingSnapshot.__new__(TrainingSnapshot)
    made._scan = scan  # noqa: SLF001  # of this module
    made.session = session
    made._process = -1  # noqa: SLF001  # of this module: it is nobody's here, as in a forked process
    return made


def _end(process: int, *session: object) -> None:
    # A forked process has a copy of what it is not to end.
    if process == os.getpid():
        release_quietly(*session)  # type: ignore[arg-type]


class SnapshotReader:
    """Reads a snapshot in the process, and the thread, that uses the rows."""

    def __init__(self, session: ReadSession) -> None:
        self._session = session
        self._renew_at = _next_renewal(session)
        self._contents = ContentsReader(session.channel, session.table.project)

    def rows(self, ranges: Sequence[tuple[int, int]]) -> pa.Table:
        """The rows of half-open ranges, one after the other."""
        if time.monotonic() > self._renew_at:
            self._session.refresh()
            self._renew_at = _next_renewal(self._session)
        parts = [self._session.rows(start, end).to_table() for start, end in ranges]
        return pa.concat_tables(parts) if parts else joined([], self._session.schema)

    def blobs(self, column: pa.ChunkedArray) -> Iterator[bytes | None]:
        """What the references of a column refer to."""
        return self._contents.ahead(column)


_RENEWAL_SECONDS = (60.0, 3600.0)
"""A session is kept at the half of its time, within the latter at the latest, and each of the former where it seems
to have ended: it does by the service's clock, from which the one here may be days away."""


def _next_renewal(session: ReadSession) -> float:
    """When a session is kept for another while, on the clock that only moves forward."""
    if session.expires_at is None:
        return float("inf")
    left = session.expires_at - time.time()
    often, latest = _RENEWAL_SECONDS
    return time.monotonic() + (min(left / 2, latest) if left > 0 else often)


def agreed(rank: int | None, make: Callable[[], TrainingSnapshot]) -> TrainingSnapshot:
    """The first process's snapshot for all, where `torch.distributed` can say."""
    distributed = torch.distributed
    if rank is not None or not (distributed.is_available() and distributed.is_initialized()):
        return make()
    mine = make() if distributed.get_rank() == 0 else None
    box = [mine]
    distributed.broadcast_object_list(box, src=0)
    snapshot = box[0] if mine is None else mine
    assert snapshot is not None
    return snapshot
