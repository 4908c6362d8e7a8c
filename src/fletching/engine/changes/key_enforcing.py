"""Making a declared primary key one that is kept unique: every row is written anew, with key runs.

Tables of earlier releases declare keys that nobody checked. A person has them checked, once; from that
version on the table is like one that was made with its key.
"""

from __future__ import annotations

import dataclasses

from sqlalchemy import Connection

from fletching.catalog.publishing import Publication
from fletching.catalog.table_rows import TableRow, mark_keyed
from fletching.engine.changes.attempts import Draft
from fletching.engine.changes.key_values import check_key_type
from fletching.engine.changes.keyed_merge import KeyedMerge
from fletching.engine.changes.pinned_table import PinnedTable
from fletching.engine.changes.row_writer import RowWriter
from fletching.engine.context import EngineContext
from fletching.errors import InvalidArgumentError, RowsChangedError

__all__ = ["enforcing_draft"]


def enforcing_draft(context: EngineContext, view: PinnedTable, *, keep_last: bool) -> Draft:
    """What makes the table's key unique; nothing for a table that keeps it so already.

    Args:
        context: the engine's.
        view: the table as it was pinned.
        keep_last: of rows with one key keep the last; else refuse them.

    Cost: reads and writes the whole table; holds the keys of some rows at a time.

    Raises:
        InvalidArgumentError: see `Changes.enforce_key`.
    """
    table = view.table
    if not table.primary_key:
        raise InvalidArgumentError(f"table {table.name} declares no primary key")
    if table.keyed:
        return Draft()
    fields = {field.name.casefold(): field for field in view.schema}
    for name in table.primary_key:
        check_key_type(name, fields[name.casefold()].type)
    keyed = dataclasses.replace(view, table=dataclasses.replace(table, keyed=True))
    writer = RowWriter(context, keyed)
    try:
        for matches, batch in view.chosen_rows(None, view.data_projection):
            segment = view.snapshot.segment_of(matches.batch)
            writer.write(segment.partition, batch, segment.codecs or None)
        staged = writer.finish()
        # Rows of one key may be far apart, in segments of their own.
        absent = KeyedMerge.prepare(context, table.id, staged, probe=False).absent
    except BaseException:
        writer.abort()
        raise
    added = [each.segment for each in staged]
    superseded = sum(len(rows) for rows in absent.values())
    if superseded and not keep_last:
        context.delete_objects(segment.key for segment in added)
        raise InvalidArgumentError(
            f"{superseded} rows of table {table.name} have the primary key of a later row "
            f"({', '.join(table.primary_key)}); delete them, or ask for the last of each key"
        )

    def recheck(_connection: Connection, now: TableRow) -> None:
        if now.version != table.version:
            raise RowsChangedError("the table changed while its key was checked")

    def finish(connection: Connection, publication: Publication) -> None:
        mark_keyed(connection, table.id)
        publication.touch()

    return Draft(
        cleared=None,
        added=added,
        absent=absent,
        updated=sum(segment.rows for segment in added) - superseded,
        sources=[row.key for row in view.snapshot.segments],
        packs=writer.packs,
        data_change=bool(superseded),
        recheck=recheck,
        finish=finish,
    )
