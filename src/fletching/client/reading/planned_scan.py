"""A scan of one version, for tasks that open sessions of their own wherever and whenever they run.

Engines repeat tasks, run them twice, and run a plan again hours after it was made; nothing tells when
the last of them is done. So a task does not share a session that somebody would have to end: it opens
one of the planned version and ends it with its rows. What it opens it with is a token of the service's
that reads the one table, so that no secret travels with the plan.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time

import pyarrow as pa

from fletching.client.reading.row_ends import release_quietly
from fletching.client.reading.scan import Scan, session_of
from fletching.client.transports.channel import Channel, Reopening
from fletching.errors import FletchingError, UsageError
from fletching.protocol.messages.requests import CreateReadSession
from fletching.protocol.messages.responses import ReadSession as ReadSessionReply
from fletching.types import TableName

__all__ = ["PlannedScan", "plan"]


@dataclasses.dataclass(frozen=True, slots=True)
class PlannedScan:
    """What a planner knows; pickles without a secret.

    Attributes:
        scan: of one version, for the tasks: its rows have the same numbers in each.
        version: that version; None if the service does not say.
        row_count: rows before the filter and up to the limit.
        byte_size: an estimate of their bytes as they are stored, all columns.
    """

    scan: Scan
    version: int | None
    row_count: int
    byte_size: int


def plan(scan: Scan) -> PlannedScan:
    """Asks how large a scan is, and fixes its version.

    Raises:
        UsageError: a limit together with a filter: where such a limit falls is known only after
            reading, so that tasks cannot share the rows.
        ServiceError: the service refused.
        TransportError: no answer within the retry budget.
    """
    reply = _asked(scan)
    rows = max(reply.record_count, 0)
    wanted = rows if scan.limit is None else min(rows, scan.limit)
    version = reply.latest_version if reply.latest_version >= 0 else None
    whole = scan.table
    table = _PlannedTable(
        whole.full_name,
        reply.table_id,
        whole.schema,
        whole.partition_columns,
        scan.channel,
        _Token(reply.session_token, *_life(reply)),
    )
    return PlannedScan(
        # Changes name their versions themselves; rows are those of one version.
        dataclasses.replace(
            scan, table=table, version=version if scan.since is None else scan.version
        ).releasing(),
        version,
        wanted,
        reply.estimated_bytes * wanted // max(rows, 1),
    )


def _asked(scan: Scan) -> ReadSessionReply:
    """A session that is over at once, for what its reply says."""
    if scan.limit is not None and scan.filters:
        raise UsageError("a scan with a filter and a limit cannot be shared; drop one of them")
    reply = session_of(scan)
    release_quietly(scan.channel, scan.table.full_name, reply.session_id)
    return reply


@dataclasses.dataclass(frozen=True, slots=True)
class _Token:
    text: str | None = dataclasses.field(repr=False)
    half_life: float
    expires_at: float


def _life(reply: ReadSessionReply) -> tuple[float, float]:
    now, end = time.time(), reply.expiration_time_ms / 1000
    return now + (end - now) / 2, end


@dataclasses.dataclass(frozen=True, slots=True)
class _PlannedTable:
    """What a scan takes of its table, and the token by which another process reads it."""

    full_name: TableName
    table_id: str
    schema: pa.Schema
    partition_columns: tuple[str, ...]
    channel: Channel = dataclasses.field(compare=False)
    token: _Token = dataclasses.field(compare=False)

    @property
    def name(self) -> str:
        """The table's name without project and schema."""
        return self.full_name.name

    def __reduce__(self) -> tuple[object, ...]:
        token = self.token
        if token.text is not None and time.time() > token.half_life:
            # A plan that is run again later: the process that has the key takes a new token, and so
            # does one that has a token still.
            with contextlib.suppress(FletchingError):
                token = self._renewed()
        described = (self.full_name, self.table_id, self.schema, self.partition_columns)
        return _reopened, (self.channel.reopen_with(token.text), token, described)

    def _renewed(self) -> _Token:
        request = CreateReadSession(table=self.full_name, with_table_token=True)
        reply = self.channel.call(request)
        release_quietly(self.channel, self.full_name, reply.session_id)
        return _Token(reply.session_token, *_life(reply))


def _reopened(
    reopen: Reopening, token: _Token, described: tuple[TableName, str, pa.Schema, tuple[str, ...]]
) -> _PlannedTable:
    return _PlannedTable(*described, reopen(), token)
