"""Incremental reads in the protocol's own form, as what they are here: scans of the change feed.

A client gives a mode and two versions or moments; the changes of the versions above the first, up to
the second, are read. In mode ``cdc`` each row says in ``__meta_op_type`` what became of it; in mode
``append`` there are only the rows that came, new or updated, as the table has them.
"""

from __future__ import annotations

import datetime as dt
import re

import msgspec
from sqlalchemy import Connection

from fletching.catalog.table_rows import TableRow
from fletching.catalog.version_rows import last_version_before
from fletching.engine.reading.change_feed import CHANGE_COLUMNS, OPERATION_COLUMN
from fletching.engine.reading.output_schema import TableColumns
from fletching.errors import InvalidArgumentError
from fletching.protocol.messages.requests import CreateReadSession
from fletching.types import PartitionSpec

__all__ = ["begin_incremental", "choose_incremental", "is_incremental"]

_MODES = ("append", "cdc")
_UNSET = -1
_CAME = ("insert", "update_postimage")
_NUMBER = re.compile(r"-?\d{1,19}")


def is_incremental(request: CreateReadSession) -> bool:
    """Whether a request asks for changes in the protocol's form, not by our extension fields."""
    options = request.incremental_options
    asked = request.incremental or (options is not None and options.enabled)
    return asked and request.since_version is None


def begin_incremental(
    connection: Connection, table: TableRow, request: CreateReadSession
) -> CreateReadSession:
    """An incremental request as one for the versions that it means; others as they are.

    Raises:
        InvalidArgumentError: a mode that is unknown, or a boundary that is neither a version nor a
            moment.
    """
    if not is_incremental(request):
        return request
    options = request.incremental_options
    if options is None:
        raise InvalidArgumentError("an incremental read needs the version that it begins after")
    if _mode(request) not in _MODES:
        raise InvalidArgumentError(
            f"{options.mode[:100]!r} is no mode of incremental reads: take {' or '.join(_MODES)}"
        )
    since = _version(connection, table, options.begin, "From")
    until = _version(connection, table, options.end, "To")
    if until == 0 and options.end not in {0, "0"}:
        raise InvalidArgumentError(f"table {table.name} did not exist at {options.end!r}")
    return msgspec.structs.replace(request, since_version=since or 0, version=until)


def choose_incremental(
    original: CreateReadSession, request: CreateReadSession, columns: TableColumns
) -> CreateReadSession:
    """Gives an incremental request the columns and rows of its mode.

    Args:
        original: as it came.
        request: as `begin_incremental` made it.
        columns: the table's, at the version that the changes end with.
    """
    if not is_incremental(original):
        return request
    data, partition = request.required_data_columns, request.required_partition_columns
    if not data and not partition:
        data = tuple(columns.data.names)
        partition = tuple(name for name, _ in columns.partition)
    wanted = request.required_partitions
    if _mode(original) == "cdc":
        partition = (*partition, OPERATION_COLUMN[0])
    else:
        kind = CHANGE_COLUMNS[0][0]
        wanted = tuple(
            PartitionSpec((*spec.items, (kind, value)))
            for spec in wanted or (PartitionSpec(),)
            for value in _CAME
        )
    return msgspec.structs.replace(
        request,
        required_data_columns=data,
        required_partition_columns=partition,
        required_partitions=wanted,
    )


def _mode(request: CreateReadSession) -> str:
    options = request.incremental_options
    return "append" if options is None or not options.mode else options.mode.casefold()


def _version(
    connection: Connection, table: TableRow, boundary: int | str | None, name: str
) -> int | None:
    """The version that a boundary means; None if it is not set, 0 for what was before the table."""
    if boundary is None:
        return None
    if isinstance(boundary, int) or _NUMBER.fullmatch(boundary):
        number = int(boundary)
        if number == _UNSET:
            return None
        if number < 0:
            raise InvalidArgumentError(f"{name} is {number}, which is no version")
        return number
    try:
        moment = dt.datetime.fromisoformat(boundary)
    except ValueError:
        raise InvalidArgumentError(
            f"{name} is {boundary[:100]!r}; expected a version's number, or a moment such as "
            "2026-01-31 12:00:00 or 2026-01-31T12:00:00+02:00"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    since_epoch = moment - dt.datetime.fromtimestamp(0, dt.UTC)
    microseconds = since_epoch // dt.timedelta(microseconds=1)
    return last_version_before(connection, table.id, microseconds) or 0
