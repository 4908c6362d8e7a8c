"""Blob packs: which there are, and which segments refer to them.

A pack lives while a segment, staged or published, is linked to it; without one it lives as long as
the write session that uploaded it, and a while longer (`unreferenced_packs`). Links are made in
the transaction that stages or publishes the segment.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, and_, delete, exists, insert, or_, select

from fletching.catalog.parameter_chunks import chunks
from fletching.catalog.schema import (
    blob_packs,
    segment_packs,
    segments,
    staged_segments,
    tables,
    write_sessions,
)
from fletching.errors import InvalidArgumentError

__all__ = [
    "NewPack",
    "PackInfo",
    "PackLinks",
    "copy_links",
    "forget_links",
    "forget_packs",
    "forget_stale_links",
    "insert_pack",
    "link_segments",
    "links_of_packs",
    "list_packs",
    "unreferenced_packs",
]


@dataclasses.dataclass(frozen=True, slots=True)
class NewPack:
    """A pack whose object is durable, not yet in the catalog."""

    id: str
    key: str
    table_id: str
    session_pk: int
    blobs: int
    length: int
    """Bytes of the object."""
    crc32c: int
    """CRC32C of the whole object."""


class PackInfo(NamedTuple):
    """A pack in the catalog."""

    id: str
    key: str
    table_id: str
    blobs: int
    length: int
    crc32c: int
    created_at: float


class PackLinks(NamedTuple):
    """The segments, by key, whose rows refer to blobs of a pack, and how many blobs that has."""

    pack: str
    blobs: int
    segments: tuple[str, ...]


_COLUMNS = [blob_packs.c[{"length": "bytes"}.get(name, name)] for name in PackInfo._fields]


def insert_pack(connection: Connection, pack: NewPack, now: float) -> None:
    """Adds a pack, linked to nothing yet."""
    values = dataclasses.asdict(pack)
    values["bytes"] = values.pop("length")
    connection.execute(insert(blob_packs).values(**values, created_at=now))


def list_packs(connection: Connection, table_id: str | None = None) -> Iterator[PackInfo]:
    """The packs of a table, or all, in the order of their ids."""
    statement = select(*_COLUMNS).order_by(blob_packs.c.id)
    if table_id is not None:
        statement = statement.where(blob_packs.c.table_id == table_id)
    for row in connection.execute(statement):
        yield PackInfo._make(row)


def link_segments(
    connection: Connection, table_id: str, segment_keys: Sequence[str], packs: Collection[str]
) -> None:
    """Notes that rows of each of these segments refer to each of these packs.

    Holds the packs' rows until the end of the transaction, so that collection waits.

    Raises:
        InvalidArgumentError: a pack is gone: its blobs were collected before a row kept them.
    """
    wanted = sorted(packs)
    if not wanted or not segment_keys:
        return
    result: set[str] = set()
    for chunk in chunks(wanted):
        rows = connection.execute(
            select(blob_packs.c.id)
            .where(blob_packs.c.id.in_(chunk), blob_packs.c.table_id == table_id)
            .with_for_update(read=True)
        )
        result.update(row.id for row in rows)
    if len(result) != len(wanted):
        raise InvalidArgumentError(
            f"{len(wanted) - len(result)} uploads that blob references point to are gone: their"
            " sessions ended before a row kept them; upload the blobs again"
        )
    connection.execute(
        insert(segment_packs),
        [{"segment_key": key, "pack_id": pack} for key in segment_keys for pack in wanted],
    )


def links_of_packs(connection: Connection, packs: Collection[str]) -> list[PackLinks]:
    """The links of some packs, in the order of their ids; a pack that is not known is left out."""
    result: dict[str, tuple[int, list[str]]] = {}
    for chunk in chunks(sorted(packs)):
        rows = connection.execute(
            select(blob_packs.c.id, blob_packs.c.blobs, segment_packs.c.segment_key)
            .outerjoin(segment_packs, segment_packs.c.pack_id == blob_packs.c.id)
            .where(blob_packs.c.id.in_(chunk))
        )
        for pack, blobs, key in rows:
            keys = result.setdefault(pack, (blobs, []))[1]
            if key is not None:
                keys.append(key)
    return [PackLinks(pack, blobs, tuple(keys)) for pack, (blobs, keys) in result.items()]


def copy_links(
    connection: Connection,
    replaced: Sequence[str],
    merged: str,
    *,
    besides: Collection[str] = (),
) -> None:
    """Links a merged segment to every pack that one of the replaced segments (by key) is linked to.

    Those that it is linked to otherwise are left out.
    """
    packs: set[str] = set()
    for chunk in chunks(replaced):
        rows = connection.execute(
            select(segment_packs.c.pack_id).where(segment_packs.c.segment_key.in_(chunk)).distinct()
        )
        packs.update(row.pack_id for row in rows)
    packs -= set(besides)
    if packs:
        connection.execute(
            insert(segment_packs),
            [{"segment_key": merged, "pack_id": pack} for pack in sorted(packs)],
        )


def forget_links(connection: Connection, segment_keys: Sequence[str]) -> None:
    """Removes the links of segments that are forgotten in this transaction."""
    for chunk in chunks(segment_keys):
        connection.execute(delete(segment_packs).where(segment_packs.c.segment_key.in_(chunk)))


def forget_stale_links(connection: Connection, after: str = "", limit: int = 5_000) -> str:
    """Removes links of segments that are neither published nor staged any more, of some in their order.

    Links go with their segments (`forget_links`); this finds what earlier releases left.

    Args:
        connection: an open transaction.
        after: the key of the segment that was looked at last; "" to begin.
        limit: how many segments are looked at.

    Returns:
        ``after`` for the next time; "" if these were the last.
    """
    key = segment_packs.c.segment_key
    page = select(key).where(key > after).distinct().order_by(key).limit(limit)
    keys = list(connection.execute(page).scalars())
    known: set[str] = set()
    for chunk in chunks(keys):
        for table in (segments, staged_segments):
            known.update(
                connection.execute(select(table.c.key).where(table.c.key.in_(chunk))).scalars()
            )
    forget_links(connection, [each for each in keys if each not in known])
    return keys[-1] if len(keys) == limit else ""


def unreferenced_packs(
    connection: Connection, *, now: float, kept_seconds: float, limit: int = 10_000
) -> list[str]:
    """Ids of packs that nothing needs any more, oldest first.

    Such a pack has no link, and its table was dropped; or its session was aborted; or its session
    is not open any more (a ``default`` session counts as never open) and both the upload and
    the session's end were ``kept_seconds`` ago.
    """
    session = write_sessions
    old = now - kept_seconds
    open_still = and_(session.c.state == "NORMAL", session.c.expires_at > now)
    ended_lately = and_(session.c.ended_at.is_not(None), session.c.ended_at > old)
    expired_lately = and_(session.c.ended_at.is_(None), session.c.expires_at > old)
    statement = (
        select(blob_packs.c.id)
        .select_from(
            blob_packs.join(tables, tables.c.id == blob_packs.c.table_id).outerjoin(
                session, session.c.pk == blob_packs.c.session_pk
            )
        )
        .where(
            ~exists().where(segment_packs.c.pack_id == blob_packs.c.id),
            or_(
                tables.c.dropped_at.is_not(None),
                session.c.state == "ABORTED",
                and_(
                    blob_packs.c.created_at <= old,
                    or_(
                        session.c.pk.is_(None),
                        session.c.id == "default",
                        and_(~open_still, ~ended_lately, ~expired_lately),
                    ),
                ),
            ),
        )
        .order_by(blob_packs.c.created_at)
        .limit(limit)
    )
    return [row.id for row in connection.execute(statement)]


def forget_packs(connection: Connection, ids: Sequence[str]) -> list[tuple[str, int]]:
    """Removes packs that still have no link; returns keys and lengths of their objects.

    Locks the packs first and looks at their links after that: whoever linked one meanwhile has
    either committed, and is seen, or waits and will find it gone.
    """
    forgotten: list[tuple[str, int]] = []
    for chunk in chunks(ids):
        locked = {
            row.id: (row.key, row.bytes)
            for row in connection.execute(
                select(blob_packs.c.id, blob_packs.c.key, blob_packs.c.bytes)
                .where(blob_packs.c.id.in_(chunk))
                .with_for_update()
            )
        }
        linked = {
            row.pack_id
            for row in connection.execute(
                select(segment_packs.c.pack_id).where(segment_packs.c.pack_id.in_(list(locked)))
            )
        }
        garbage = [pack for pack in locked if pack not in linked]
        connection.execute(delete(blob_packs).where(blob_packs.c.id.in_(garbage)))
        forgotten += [locked[pack] for pack in garbage]
    return forgotten
