"""Tables that are created: their columns, and those that nobody sees before they are filled."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import pyarrow as pa

from fletching.client.argument_checks import mapping_of, names_of
from fletching.client.table import Table
from fletching.client.transports.channel import Channel, patience
from fletching.errors import UsageError
from fletching.protocol.messages.admin import CreateTable, DropTable
from fletching.protocol.types.table_schema import format_type, odps_type_of_field

__all__ = ["filled_table", "split_columns"]


@contextlib.contextmanager
def filled_table(channel: Channel, request: CreateTable) -> Iterator[Table]:
    """A table for the block to fill: nobody else sees it before, and nobody at all if the block fails.

    Whoever dies in it leaves nothing behind that has the table's name; retention drops what there is.

    Raises:
        AlreadyExistsError: there is a table of that name, at the beginning or by the end.
    """
    made = channel.call(msgspec.structs.replace(request, unlisted=True, if_not_exists=False))
    table = Table(channel, made)
    try:
        yield table
        table.rename(request.table.name)
    except BaseException as error:
        # The table itself, if it has not got its name although nobody has heard of that.
        drop = DropTable(table=made.table, if_exists=True, table_id=made.table_id)
        channel.on_leaving(lambda last: last.call(drop), patience(type(error)))
        raise


def split_columns(
    columns: pa.Schema, partition_by: Sequence[str] | Mapping[str, str] | str | None
) -> tuple[pa.Schema, tuple[tuple[str, str], ...]]:
    """Data columns, and partition columns as (name, ODPS type) pairs.

    Raises:
        UsageError: a partition column named twice.
    """
    by_name = {field.name.casefold(): field for field in columns}
    typed = mapping_of("partition_by", partition_by) if isinstance(partition_by, Mapping) else {}
    pairs: list[tuple[str, str]] = []
    for name in names_of("partition_by", partition_by):
        field = by_name.get(name.casefold())
        kind = typed.get(name) or (
            "string" if field is None else format_type(odps_type_of_field(field))
        )
        pairs.append((name if field is None else field.name, kind))
    given_names = {name.casefold() for name, _ in pairs}
    if len(given_names) != len(pairs):
        raise UsageError(
            f"partition columns name one twice: {', '.join(name for name, _ in pairs)}"
        )
    data = [field for field in columns if field.name.casefold() not in given_names]
    return pa.schema(data, metadata=columns.metadata), tuple(pairs)
