"""The requests that only the catalog answers: each is one call of one object, in one transaction.

What reads segments, runs statements or changes rows needs more of the engine, which adds it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fletching.engine.changes.table_versions import History
from fletching.engine.context import EngineContext
from fletching.engine.tables.namespaces import Namespaces
from fletching.engine.tables.partition_calls import PartitionCalls
from fletching.engine.tables.tables import Tables
from fletching.engine.writing.write_sessions import WriteSessions
from fletching.engine.writing.write_streams import WriteStreams
from fletching.protocol.messages import admin, changes, requests
from fletching.protocol.messages.requests import Request

Verbs = dict[type[Request], Callable[[Any], Any]]
"""What answers a request, by its class: each takes a request of that class."""


def stored_calls(context: EngineContext) -> Verbs:
    """What answers each kind of request about tables, history and write sessions."""
    tables = Tables(context)
    partitions = PartitionCalls(context)
    namespaces = Namespaces(context)
    history = History(context)
    sessions = WriteSessions(context)
    streams = WriteStreams(context)
    return {
        admin.AddColumns: tables.add_columns,
        admin.CreatePartition: partitions.create,
        admin.CreateTable: tables.create,
        admin.DescribeTable: tables.describe,
        admin.DropPartition: partitions.drop,
        admin.DropTable: tables.drop,
        admin.ListPartitions: partitions.list,
        admin.ListTables: tables.list,
        admin.CreateProject: namespaces.create_project,
        admin.CreateSchema: namespaces.create,
        admin.DropSchema: namespaces.drop,
        admin.ListSchemas: namespaces.list,
        changes.AlterColumn: tables.alter_column,
        changes.AlterTable: tables.alter,
        changes.TouchTable: tables.touch,
        changes.DropColumns: tables.drop_columns,
        changes.RenameColumn: tables.rename_column,
        changes.RenameTable: tables.rename,
        changes.CreateTag: history.create_tag,
        changes.DropTag: history.drop_tag,
        changes.ExpireVersions: history.expire,
        changes.ListTags: history.tags,
        changes.ListVersions: history.versions,
        changes.WaitForVersion: history.wait,
        requests.AbortWriteSession: sessions.abort,
        requests.CloseWriteStream: streams.close,
        requests.CommitWriteSession: sessions.commit,
        requests.CreateWriteSession: sessions.create,
        requests.CreateWriteStream: streams.create,
        requests.GetWriteSchema: sessions.schema,
        requests.GetWriteSession: sessions.get,
        requests.GetWriteStream: streams.get,
    }
