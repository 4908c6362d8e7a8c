"""What a table is: from our service's administration, or, where there is none, from a read session."""

from __future__ import annotations

from fletching.client.transports.channel import Channel
from fletching.errors import NoSuchProjectError, NoSuchSchemaError, NoSuchTableError, ServiceError
from fletching.ipc.encoding import encode_schema
from fletching.protocol.messages.admin import DescribeTable, TableInfo
from fletching.protocol.messages.requests import CreateReadSession, SplitOptions
from fletching.protocol.messages.vocabulary import SplitMode
from fletching.protocol.types.table_schema import arrow_schema
from fletching.types import TableName

__all__ = ["describe"]

# How a service that knows only the Storage API answers a path of ours.
_UNKNOWN_PATH = frozenset({400, 404, 405})


def describe(channel: Channel, name: TableName) -> TableInfo:
    """Looks a table up.

    The Storage API itself has no call for that, and the path of our administration means nothing to
    another service: there the schema and the rows are those that a read session is opened with, and
    what the catalog alone knows (id, versions, times, comment) is left at its defaults.

    Raises:
        NoSuchTableError: there is none of this name.
        ServiceError: the service refused.
        TransportError: no reply within the retry budget.
    """
    try:
        return channel.call(DescribeTable(table=name))
    except (NoSuchTableError, NoSuchProjectError, NoSuchSchemaError):
        raise
    except ServiceError as error:
        if error.http_status not in _UNKNOWN_PATH:
            raise
        return _described_by_reading(channel, name)


def _described_by_reading(channel: Channel, name: TableName) -> TableInfo:
    session = channel.call(
        CreateReadSession(
            table=name,
            split_options=SplitOptions(split_mode=SplitMode.ROW_OFFSET, split_number=1),
        )
    )
    return TableInfo(
        table=name,
        table_id="",
        schema=session.schema,
        arrow_schema=encode_schema(arrow_schema(session.schema.data_columns)),
        rows=max(session.record_count, 0),
        bytes=session.estimated_bytes,
    )
