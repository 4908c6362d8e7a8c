"""Write streams, the segments staged under them, and the writes they have accepted."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyroaring import BitMap
from sqlalchemy import Connection, delete, insert, select, update

from fletching.catalog.parameter_chunks import chunks
from fletching.catalog.schema import accepted_writes, staged_segments, write_streams
from fletching.catalog.segment_rows import SegmentRow

if TYPE_CHECKING:
    from sqlalchemy import Row

__all__ = [
    "NewSegment",
    "StagedRows",
    "StagedSegmentRow",
    "WriteStreamRow",
    "accepted_write",
    "discard_staged",
    "find_write_stream",
    "insert_staged",
    "insert_write_stream",
    "list_write_streams",
    "remember_write",
    "staged_of_streams",
    "update_write_stream",
]


@dataclasses.dataclass(frozen=True, slots=True)
class WriteStreamRow:
    """A row of ``write_streams``: one attempt (stream id, stream version)."""

    pk: int
    session_pk: int
    stream_id: str
    stream_version: int
    state: str
    attempt: int
    exactly_once: bool
    token_digest: bytes | None
    row_offset: int
    rows: int
    bytes: int
    writes: int
    """How many TableWrites it has accepted."""
    created_at: float
    modified_at: float
    create_traces: tuple[str, ...]
    """Retry trace ids of the latest requests that created it."""


@dataclasses.dataclass(frozen=True, slots=True)
class NewSegment:
    """A segment whose object is durable, not yet in the catalog."""

    key: str
    partition: str
    schema_version: int
    rows: int
    length: int
    """Bytes of the object."""
    crc32c: int
    batch_index: bytes
    dictionary_index: bytes
    codecs: str
    statistics: bytes | None = None
    key_run_offset: int | None = None
    """Where the key run lies in the object, in a table with a key."""
    key_run_length: int | None = None
    zone_bounds: bytes | None = None

    def columns(self) -> dict[str, object]:
        """The values by the names that the catalog's columns have."""
        values = dataclasses.asdict(self)
        values["bytes"] = values.pop("length")
        return values

    def as_row(self, number: int = -1, *, added_version: int = 0) -> SegmentRow:
        """The same as segments are that a version shows; ``number`` is its id and its index."""
        values = dataclasses.asdict(self)
        return SegmentRow(id=number, position=number, added_version=added_version, **values)


@dataclasses.dataclass(frozen=True, slots=True)
class StagedSegmentRow:
    """A staged segment with the stream that holds it."""

    pk: int
    stream_pk: int
    write_number: int
    segment: NewSegment
    kind: str = ""
    """Empty for rows; ``"deletes"`` for keys whose rows are to go."""
    superseded: bytes | None = None
    """Rows that a later one of the same write replaces, as a roaring bitmap."""


def _stream(values: Row[tuple[object, ...]]) -> WriteStreamRow:
    return WriteStreamRow(
        pk=values.pk,
        session_pk=values.session_pk,
        stream_id=values.stream_id,
        stream_version=values.stream_version,
        state=values.state,
        attempt=values.attempt,
        exactly_once=bool(values.exactly_once),
        token_digest=None if values.token_digest is None else bytes(values.token_digest),
        row_offset=values.row_offset,
        rows=values.rows,
        bytes=values.bytes,
        writes=values.writes,
        created_at=values.created_at,
        modified_at=values.modified_at,
        create_traces=tuple(json.loads(values.create_traces)),
    )


def find_write_stream(
    connection: Connection, session_pk: int, stream_id: str, version: int
) -> WriteStreamRow | None:
    """Looks one attempt up; None if there is none."""
    row = connection.execute(
        select(write_streams).where(
            write_streams.c.session_pk == session_pk,
            write_streams.c.stream_id == stream_id,
            write_streams.c.stream_version == version,
        )
    ).first()
    return None if row is None else _stream(row)


def list_write_streams(
    connection: Connection, session_pk: int, stream_id: str | None = None
) -> list[WriteStreamRow]:
    """A session's attempts, or those of one stream, by stream id and version."""
    statement = select(write_streams).where(write_streams.c.session_pk == session_pk)
    if stream_id is not None:
        statement = statement.where(write_streams.c.stream_id == stream_id)
    rows = connection.execute(
        statement.order_by(write_streams.c.stream_id, write_streams.c.stream_version)
    )
    return [_stream(row) for row in rows]


def insert_write_stream(
    connection: Connection,
    *,
    session_pk: int,
    stream_id: str,
    stream_version: int,
    state: str,
    exactly_once: bool,
    token_digest: bytes | None,
    create_traces: Sequence[str],
    now: float,
) -> WriteStreamRow:
    """Adds an attempt that holds nothing yet."""
    connection.execute(
        insert(write_streams).values(
            session_pk=session_pk,
            stream_id=stream_id,
            stream_version=stream_version,
            state=state,
            attempt=1,
            exactly_once=exactly_once,
            token_digest=token_digest,
            row_offset=0,
            rows=0,
            bytes=0,
            writes=0,
            created_at=now,
            modified_at=now,
            create_traces=json.dumps(list(create_traces)),
        )
    )
    row = find_write_stream(connection, session_pk, stream_id, stream_version)
    assert row is not None
    return row


def update_write_stream(connection: Connection, pk: int, **values: object) -> None:
    """Sets columns of an attempt by their names."""
    connection.execute(update(write_streams).where(write_streams.c.pk == pk).values(**values))


@dataclasses.dataclass(frozen=True, slots=True)
class StagedRows:
    """Rows, or keys whose rows are to go, that one write brought.

    Attributes:
        segment: where they are.
        deletes: whether they are keys, in an object that never becomes a segment.
        superseded: rows that a later one of the write replaces.
    """

    segment: NewSegment
    deletes: bool = False
    superseded: BitMap = dataclasses.field(default_factory=BitMap)


def insert_staged(
    connection: Connection,
    stream_pk: int,
    write_number: int,
    written: Sequence[StagedRows],
    now: float,
) -> None:
    """Stages what one TableWrite made, in its order."""
    rows = [
        {
            **each.segment.columns(),
            "stream_pk": stream_pk,
            "write_number": write_number,
            "kind": "deletes" if each.deletes else "",
            "superseded": each.superseded.serialize() if each.superseded else None,
            "created_at": now,
        }
        for each in written
    ]
    if rows:
        connection.execute(insert(staged_segments), rows)


def _staged(values: Row[tuple[object, ...]]) -> StagedSegmentRow:
    return StagedSegmentRow(
        values.pk,
        values.stream_pk,
        values.write_number,
        NewSegment(
            key=values.key,
            partition=values.partition,
            schema_version=values.schema_version,
            rows=values.rows,
            length=values.bytes,
            crc32c=values.crc32c,
            batch_index=bytes(values.batch_index),
            dictionary_index=bytes(values.dictionary_index),
            codecs=values.codecs,
            statistics=None if values.statistics is None else bytes(values.statistics),
            key_run_offset=values.key_run_offset,
            key_run_length=values.key_run_length,
            zone_bounds=None if values.zone_bounds is None else bytes(values.zone_bounds),
        ),
        values.kind,
        None if values.superseded is None else bytes(values.superseded),
    )


def staged_of_streams(connection: Connection, stream_pks: Sequence[int]) -> list[StagedSegmentRow]:
    """What the given attempts hold, in write order per attempt."""
    result: list[StagedSegmentRow] = []
    for chunk in chunks(stream_pks):
        rows = connection.execute(
            select(staged_segments)
            .where(staged_segments.c.stream_pk.in_(chunk))
            .order_by(
                staged_segments.c.stream_pk, staged_segments.c.write_number, staged_segments.c.pk
            )
        )
        result.extend(_staged(row) for row in rows)
    return result


def discard_staged(connection: Connection, stream_pks: Sequence[int]) -> list[str]:
    """Forgets what the given attempts hold and have accepted; returns the objects' keys.

    Deleting the objects is for after the transaction: until it has committed they may be needed.
    """
    keys = [row.segment.key for row in staged_of_streams(connection, stream_pks)]
    for chunk in chunks(stream_pks):
        connection.execute(delete(staged_segments).where(staged_segments.c.stream_pk.in_(chunk)))
        connection.execute(delete(accepted_writes).where(accepted_writes.c.stream_pk.in_(chunk)))
    return keys


def accepted_write(connection: Connection, stream_pk: int, retry_trace_id: str) -> bytes | None:
    """The reply that a write with this trace id got, if it was accepted."""
    result = connection.execute(
        select(accepted_writes.c.response).where(
            accepted_writes.c.stream_pk == stream_pk,
            accepted_writes.c.retry_trace_id == retry_trace_id,
        )
    ).scalar()
    return None if result is None else bytes(result)


def remember_write(
    connection: Connection, stream_pk: int, retry_trace_id: str, response: bytes, now: float
) -> None:
    """Keeps the reply to an accepted write for its repetitions."""
    connection.execute(
        insert(accepted_writes).values(
            stream_pk=stream_pk, retry_trace_id=retry_trace_id, response=response, created_at=now
        )
    )
