"""Tables and columns as people name them: looked up, as of a version, with what is like a wrong name."""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Annotated

import typer

from fletching.errors import NoSuchTableError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from fletching.client import Client, Table
    from fletching.client.reading.scan import ScannedTable

__all__ = [
    "AsOf",
    "as_moment",
    "columns_named",
    "filled_table",
    "find_table",
    "names_of",
    "table_as_of",
]

AsOf = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        metavar="VERSION|TIME|TAG",
        help="The table as it was: a version's number, a time (2026-01-31T12:00), or a tag.",
        show_default=False,
    ),
]


def names_of(text: str) -> list[str] | None:
    """``A,B`` as names; None if there are none."""
    return [name.strip() for name in text.split(",") if name.strip()] or None


def find_table(client: Client, name: str) -> Table:
    """Looks a table up; one that is not there is answered with names that are like it.

    Raises:
        NoSuchTableError: there is none of this name.
    """
    try:
        return client.table(name)
    except NoSuchTableError as exc:
        names = [str(each) for each in client.list_tables()]
        near = difflib.get_close_matches(name.casefold(), [each.casefold() for each in names], n=3)
        like = [each for each in names if each.casefold() in near]
        if not like:
            raise
        raise NoSuchTableError(f"{exc.message}; did you mean {' or '.join(like)}?") from exc


def filled_table(
    client: Client,
    name: str,
    schema: pa.Schema,
    *,
    partition_by: Sequence[str] = (),
    comment: str = "",
) -> AbstractContextManager[Table]:
    """A new table for the block to fill, which nobody sees before.

    Raises:
        AlreadyExistsError: the name is taken, at the beginning or by the end.
    """
    from fletching.client.table_creation import filled_table as filled
    from fletching.client.table_creation import split_columns
    from fletching.ipc.encoding import encode_schema
    from fletching.protocol.messages.admin import CreateTable

    data, partitions = split_columns(schema.remove_metadata(), partition_by)
    request = CreateTable(
        table=client.table_name(name),
        arrow_schema=encode_schema(data),
        partition_columns=partitions,
        comment=comment,
    )
    return filled(client.channel, request)


def as_moment(text: str) -> int | str | dt.datetime:
    """A version's number, a moment (in local time unless it has a zone), or a tag's name."""
    if text.isascii() and text.isdecimal():
        return int(text)
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        return text
    return moment if moment.tzinfo is not None else moment.astimezone()


def table_as_of(client: Client, name: str, version: str | None) -> Table:
    """A table, as it is or as it was.

    Raises:
        NoSuchTableError: there is none of this name.
        ServiceError: there is no such version, or it can no longer be read.
    """
    table = find_table(client, name)
    return table if version is None else table.as_of(as_moment(version))


def columns_named(table: ScannedTable, text: str) -> list[str] | None:
    """``A,B`` as columns of a table; None if there are none.

    Raises:
        UsageError: the table has no such column; those like it are named.
    """
    names = names_of(text)
    known = {name.casefold(): name for name in table.schema.names}
    for name in names or ():
        if name.casefold() not in known:
            near = difflib.get_close_matches(name.casefold(), known, n=3)
            like = (
                f"did you mean {' or '.join(known[each] for each in near)}?"
                if near
                else (f"it has {', '.join(table.schema.names[:20])}")
            )
            raise UsageError(f"table {table.name} has no column {name}; {like}")
    return names
