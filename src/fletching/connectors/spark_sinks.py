"""What Spark writes: a job in one commit, a streaming query in one commit for each epoch.

Spark makes a sink on the driver, pickles it to the tasks, and commits on the driver what the tasks of
the attempts that it kept have returned. The sink of a job is the same object throughout. That of a
streaming query is made anew for each epoch and once more for each commit, and only messages go from the
one to the other: so the session's id, and the query's, travel in them.

An epoch is committed under a key of its query's id and its number. A driver that dies between our commit
and Spark's own record of it writes the epoch again, in whatever partitions; the second commit then changes
nothing. What a driver that died has left open is ended when the query goes on (`OpenEpochs`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import datasource as spark
from pyspark.sql.types import StructType

from fletching.client import CommitMessage, Table
from fletching.client.writing.write_session import WriteSession
from fletching.connectors.spark_options import table_of_options
from fletching.connectors.task_writes import abort_quietly, begin, write_attempt
from fletching.errors import UsageError

__all__ = ["JobSink", "OpenEpochs", "StreamSink"]

_ROWS_AT_ONCE = 10_000
"""Rows that become one batch where Spark hands rows on, and no batches: streaming sinks before 4.1."""

_ArrowStreamWriter: Any = getattr(spark, "DataSourceStreamArrowWriter", None)


@dataclasses.dataclass
class TaskMessage(spark.WriterCommitMessage):  # type: ignore[misc]  # Spark is not there to look at
    """What an attempt wrote, and of which query; pickles."""

    message: CommitMessage
    query: str | None


def _write(session: WriteSession, tables: Iterator[pa.Table]) -> TaskMessage:
    """Writes a task's rows, durable but not visible: each attempt is a later version of its stream."""
    task = TaskContext.get()
    assert task is not None
    message = write_attempt(
        session,
        (table for table in tables if table.num_rows),
        task=str(task.partitionId()),
        # Numbered over the whole application, unlike the attempts at a task of one stage.
        attempt=int(task.taskAttemptId()) + 1,
    )
    return TaskMessage(message, task.getLocalProperty("sql.streaming.queryId"))


class JobSink(spark.DataSourceArrowWriter):  # type: ignore[misc]
    """Opens a write session on the driver, writes a stream for each task, commits once; pickles."""

    def __init__(self, options: Mapping[str, str], *, overwrite: bool) -> None:
        self._key = options.get("idempotencykey")
        self._session = _begun(table_of_options(options), options, overwrite=overwrite)

    def write(self, iterator: Iterator[pa.RecordBatch]) -> TaskMessage:
        """Writes a task's rows, durable but not visible."""
        return _write(self._session, (pa.Table.from_batches([batch]) for batch in iterator))

    def commit(self, messages: list[TaskMessage | None]) -> None:
        """Makes the rows of the attempts that Spark kept visible."""
        kept = [each.message for each in messages if each is not None]
        self._session.commit(kept, idempotency_key=self._key)

    def abort(self, messages: list[TaskMessage | None]) -> None:
        """Drops what was written."""
        del messages
        abort_quietly(self._session)


class StreamSink(_ArrowStreamWriter or spark.DataSourceStreamWriter):  # type: ignore[misc]
    """Opens a session for each epoch when its tasks are made, and commits it by the epoch's number."""

    def __init__(self, options: Mapping[str, str], schema: StructType, *, overwrite: bool) -> None:
        self._options = dict(options)
        self._schema = schema
        self._overwrite = overwrite
        self._session: WriteSession | None = None

    def __getstate__(self) -> dict[str, object]:
        # Only a sink whose tasks are to run is pickled; that of a commit is not.
        if self._session is None:
            table = table_of_options(self._options)
            left = OpenEpochs(self._options)
            left.end_all(table)
            self._session = _begun(table, self._options, overwrite=self._overwrite)
            left.add(self._session.id)
        return self.__dict__

    def write(self, iterator: Iterator[pa.RecordBatch]) -> TaskMessage:
        """Writes a task's rows, durable but not visible."""
        assert self._session is not None
        if _ArrowStreamWriter is None:
            return _write(self._session, _tables(iterator, self._schema))
        return _write(self._session, (pa.Table.from_batches([batch]) for batch in iterator))

    def commit(self, messages: list[TaskMessage | None], batchId: int) -> None:  # noqa: N803
        """Makes the rows of an epoch visible, once however often it is committed.

        Raises:
            UsageError: nothing tells this query from others.
        """
        kept = [each for each in messages if each is not None]
        table = table_of_options(self._options)
        left = OpenEpochs(self._options)
        if not kept:
            # An epoch of no tasks: there is nothing to add, and everything to replace.
            left.end_all(table)
            if self._overwrite:
                _begun(table, self._options, overwrite=True).commit([])
            return
        name = self._options.get("idempotencykey") or kept[0].query
        if not name:
            raise UsageError("name the streaming query by the option idempotencyKey")
        session = table.open_write_session(kept[0].message.session_id)
        session.commit([each.message for each in kept], idempotency_key=f"{name}-epoch-{batchId}")
        left.remove(session.id)

    def abort(self, messages: list[TaskMessage | None], batchId: int) -> None:  # noqa: N803
        """Drops what was written of an epoch."""
        del batchId
        table = table_of_options(self._options)
        for session_id in {each.message.session_id for each in messages if each is not None}:
            abort_quietly(table.open_write_session(session_id))
        OpenEpochs(self._options).end_all(table)


def _begun(table: Table, options: Mapping[str, str], *, overwrite: bool) -> WriteSession:
    partition = options.get("partition")
    if partition is not None:
        return table.write_session(partition=partition, overwrite=overwrite)
    return begin(table, "overwrite" if overwrite else "append")


def _tables(rows: Iterator[pa.RecordBatch], schema: StructType) -> Iterator[pa.Table]:
    """Rows as tables, for a Spark that hands no batches to streaming sinks."""
    from pyspark.sql.conversion import LocalDataToArrowConversion

    while group := list(itertools.islice(rows, _ROWS_AT_ONCE)):
        yield LocalDataToArrowConversion.convert(group, schema, use_large_var_types=False)


class OpenEpochs:
    """The sessions that a streaming query has opened on this host and not ended, in a file.

    Spark tells a sink neither that a driver died nor, where all tasks of an epoch failed, which epoch
    it was. A query has its checkpoint to itself, so whatever is noted under that when the next epoch
    begins is over. A query whose checkpoint is not an option of its writer has no file; then what a
    failure leaves open expires by itself, a day later.
    """

    def __init__(self, options: Mapping[str, str]) -> None:
        location = options.get("checkpointlocation")
        self._path: Path | None = None
        if location:
            names = ("at", "project", "schema", "path")
            identity = json.dumps([location, *(options.get(name) for name in names)])
            digest = hashlib.sha256(identity.encode()).hexdigest()[:32]
            self._path = _private_folder() / f"{digest}.json"

    def sessions(self) -> list[str]:
        """Their ids."""
        if self._path is None:
            return []
        try:
            result = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return []
        return (
            [each for each in result if isinstance(each, str)] if isinstance(result, list) else []
        )

    def add(self, session_id: str) -> None:
        """Notes a session."""
        self._put([*self.sessions(), session_id])

    def remove(self, session_id: str) -> None:
        """Forgets a session that is over."""
        self._put([each for each in self.sessions() if each != session_id])

    def end_all(self, table: Table) -> None:
        """Ends what is noted; what was committed stays committed."""
        for session_id in self.sessions():
            abort_quietly(table.open_write_session(session_id))
        self._put([])

    def _put(self, sessions: list[str]) -> None:
        if self._path is None:
            return
        with contextlib.suppress(OSError):
            if not sessions:
                self._path.unlink(missing_ok=True)
                return
            written = self._path.with_suffix(f".{os.getpid()}")
            written.write_text(json.dumps(sessions))
            written.replace(self._path)


def _private_folder() -> Path:
    """A folder for this user alone: what is noted there is ended with this user's key.

    Raises:
        UsageError: there is one of somebody else's.
    """
    folder = Path(tempfile.gettempdir()) / f"fletching-spark-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077 or folder.is_symlink():
        raise UsageError(f"{folder} is not this user's alone: remove it")
    return folder
