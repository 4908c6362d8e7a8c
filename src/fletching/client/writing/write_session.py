"""Write sessions: several streams, one atomic commit."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sized
from typing import Self

import pyarrow as pa
from typing_extensions import deprecated

from fletching.client.argument_checks import items_of
from fletching.client.blobs.blob_access import BlobPutter
from fletching.client.blobs.blob_streams import BlobStreamWriter
from fletching.client.change_reports import ChangeReport
from fletching.client.progress import ProgressLike, progress_meter
from fletching.client.retry import Effect, effect_of
from fletching.client.transports.channel import Channel, Reopening, patience
from fletching.client.transports.stream_files import StreamWriter
from fletching.client.writing.arrow_writer import ArrowWriter
from fletching.client.writing.commit_message import CommitMessage
from fletching.errors import ServiceError, UsageError
from fletching.protocol.messages.changes import ChangeRequest
from fletching.protocol.messages.requests import (
    AbortWriteSession,
    CommitWriteSession,
    CreateWriteSession,
    GetWriteSession,
    WriteTable,
)
from fletching.protocol.messages.responses import Changed, TableSchema
from fletching.protocol.messages.responses import WriteSession as WriteSessionReply
from fletching.protocol.messages.vocabulary import WriteMode
from fletching.types import PartitionLike, PartitionSpec, TableName

__all__ = ["WriteSession"]


class WriteSession:
    """Rows on their way into a table: all of them become visible at the commit, or none.

    As a context manager it commits when the block succeeds and aborts when it raises. `writer`
    may be called from several threads. A pickled session, or its ``id`` given to
    ``table.open_write_session``, lets other processes write streams of it; exactly one of them
    commits.

    Attributes:
        id: the service's id of the session.
        warning: what the service had to say when it opened the session, or nothing.
    """

    def __init__(
        self,
        channel: Channel,
        table: TableName,
        session_id: str,
        *,
        write_mode: WriteMode = WriteMode.BATCH,
        warning: str = "",
        columns: TableSchema | None = None,
    ) -> None:
        self._columns = columns
        self._channel = channel
        self._table = table
        self._write_mode = write_mode
        self._lock = threading.Lock()
        self._versions: dict[str, int] = {}
        self._writers: list[ArrowWriter] = []
        self._ended: str | None = None
        self._report: ChangeReport | None = None
        self.id = session_id
        self.warning = warning

    @classmethod
    def open(
        cls,
        channel: Channel,
        table: TableName,
        *,
        partition: PartitionSpec,
        overwrite: bool = False,
        write_mode: WriteMode = WriteMode.BATCH,
        columns: TableSchema | None = None,
    ) -> WriteSession:
        """Opens a new session; ``columns`` spares asking for them when blobs are put.

        Raises:
            ServiceError: the service refused.
            TransportError: no reply within the retry budget.
        """
        reply = channel.call(
            CreateWriteSession(
                table=table, partition=partition, overwrite=overwrite, write_mode=write_mode
            )
        )
        return cls(
            channel,
            table,
            reply.session_id,
            write_mode=write_mode,
            warning=reply.warning_message,
            columns=columns,
        )

    @property
    def table(self) -> TableName:
        """The table written to."""
        return self._table

    @property
    def channel(self) -> Channel:
        """How the session calls; for what is built on it."""
        return self._channel

    @property
    def write_mode(self) -> WriteMode:
        """When rows become visible."""
        return self._write_mode

    def writer(
        self,
        stream_id: str | None = None,
        *,
        version: int | None = None,
        schema: pa.Schema | None = None,
    ) -> ArrowWriter:
        """Opens a write stream.

        Args:
            stream_id: any name, the same again for another attempt at the same rows; None for the
                next free ``stream-N`` of this object.
            version: the attempt; None for the one after the last that this object opened. Of each
                stream the highest closed version is committed, and only that.
            schema: the columns that are written, where they are not the table's: some of them, or
                with ``__operation`` beside them.

        Raises:
            UsageError: the session is over.
            ServiceError: the service refused.
            TransportError: no reply within the retry budget.
        """
        with self._lock:
            self._check_open()
            if stream_id is None:
                number = len(self._versions)
                while f"stream-{number}" in self._versions:
                    number += 1
                stream_id = f"stream-{number}"
            if version is None:
                version = self._versions.get(stream_id, 0) + 1
            self._versions[stream_id] = max(version, self._versions.get(stream_id, 0))
        writer = ArrowWriter(
            self._channel,
            self._table,
            self.id,
            stream_id,
            version,
            write_mode=self._write_mode,
            schema=schema,
            partition_columns=()
            if self._columns is None
            else [column.name for column in self._columns.partition_columns],
        )
        with self._lock:
            self._writers.append(writer)
        return writer

    @deprecated("open_stream is called raw_writer", category=None)
    def open_stream(self, stream_id: str, *, version: int = 1) -> StreamWriter:
        """As `raw_writer`, which it was called before."""
        return self.raw_writer(stream_id, version=version)

    def raw_writer(self, stream_id: str, *, version: int = 1) -> StreamWriter:
        """A file for the bytes of one Arrow IPC stream, into a stream that `writer` or another opened."""
        self._check_open()
        return StreamWriter(
            self._channel,
            WriteTable(
                table=self._table,
                session_id=self.id,
                stream_id=stream_id,
                stream_version=version,
                write_mode=self._write_mode,
            ),
        )

    # --- blobs

    @property
    def _blobs(self) -> BlobPutter:
        return BlobPutter(self._channel, self._table, self.id, self._columns)

    def put_blob(
        self,
        data: object,
        column: str | None = None,
        *,
        partition: PartitionLike | None = None,
        content_type: str | None = None,
        file_name: str | None = None,
    ) -> str:
        """Stores one blob; returns its reference, which a BLOB cell of the table may hold.

        The blob is durable and can be read at once, and is collected unless a row comes to refer
        to it.

        Args:
            data: bytes, the path of a file, an open binary file, or a `fletching.Blob`.
            column: path of the BLOB column (``image``, ``pages.element``); None for the only one.
            partition: where the row will be.
            content_type: a media type; guessed from the file's name if there is one.
            file_name: kept with the blob.

        Raises:
            UsageError: no such column, or data that is no blob.
            ServiceError: the service refused.
            TransportError: no answer within the retry budget.
            ChecksumMismatchError: the service received other bytes than were sent.
        """
        self._check_open()
        return self._blobs.put(
            data, column, partition=partition, content_type=content_type, file_name=file_name
        )

    def put_blobs(
        self,
        blobs: Iterable[object],
        column: str | None = None,
        *,
        partition: PartitionLike | None = None,
        progress: ProgressLike = None,
    ) -> list[str]:
        """Stores many blobs, ten thousand to a request; returns their references in order.

        Args:
            blobs: each as for `put_blob`.
            column: likewise.
            partition: likewise.
            progress: True for a bar, or a function of one `fletching.Progress`, called per blob that
                is handed over to be sent.

        Raises:
            As `put_blob`.
        """
        self._check_open()
        items_of("blobs", blobs)
        meter = progress_meter(progress, "blobs", "blobs")
        if meter is None:
            return self._blobs.put_many(blobs, column, partition=partition)
        meter.total = len(blobs) if isinstance(blobs, Sized) else None
        return self._blobs.put_many(meter.blobs(blobs), column, partition=partition)

    @deprecated("open_blob of a session is called blob_writer", category=None)
    def open_blob(
        self,
        column: str | None = None,
        *,
        partition: PartitionLike | None = None,
        content_type: str | None = None,
        file_name: str | None = None,
    ) -> BlobStreamWriter:
        """As `blob_writer`, which it was called before."""
        return self.blob_writer(
            column, partition=partition, content_type=content_type, file_name=file_name
        )

    def blob_writer(
        self,
        column: str | None = None,
        *,
        partition: PartitionLike | None = None,
        content_type: str | None = None,
        file_name: str | None = None,
    ) -> BlobStreamWriter:
        """Opens a blob for writing piece by piece; arguments and errors as for `put_blob`."""
        self._check_open()
        return self._blobs.open(
            column, partition=partition, content_type=content_type, file_name=file_name
        )

    def closed_streams(self) -> dict[str, int]:
        """The closed streams of all processes and their highest closed version, from the service."""
        return self._state().streams

    def min_uncommitted_staging_id(self) -> str | None:
        """The smallest staging id of rows that are not visible yet; None when all are."""
        return self._state().min_uncommitted_staging_id

    def commit(
        self,
        streams: Iterable[CommitMessage | tuple[str, int]] | None = None,
        *,
        if_version: int | None = None,
        idempotency_key: str | None = None,
    ) -> ChangeReport | None:
        """Makes the rows of the closed streams visible, all in one step; again does nothing.

        Returns what the commit did, where the service says so.

        Args:
            streams: exactly these, as messages of their writers (``writer.message``) or as (stream
                id, version) pairs; None for the highest closed version of every stream, those of
                other processes included.
            if_version: refuse if anything but upkeep has happened to the table since this version.
            idempotency_key: a commit with the key of an earlier one changes nothing, whatever its
                session and its streams: an epoch that is written anew, also in other parts, is
                committed once.

        Raises:
            UsageError: rows would be left out silently, because a writer of this object is still
                open, or failed and its stream was not written anew; a message of another session, or
                two of one stream; or the session was aborted.
            ServiceError: the service refused; nothing is visible.
            TransportError: no answer within the retry budget: call again, a repeated commit is safe.
        """
        if self._ended == "aborted":
            raise UsageError(f"write session {self.id} was aborted")
        if self._ended == "committed":
            return self._report
        chosen = None if streams is None else self._named(streams)
        if chosen is None:
            self._check_complete()
        done = self._channel.call(
            CommitWriteSession(
                table=self._table,
                session_id=self.id,
                write_mode=self._write_mode,
                streams=chosen,
                if_version=if_version,
                idempotency_key=idempotency_key,
            )
        )
        self._ended = "committed"
        if done.report is not None:
            self._report = ChangeReport.of(done.report, count=done.report.rows_inserted)
        return self._report

    def _named(
        self, streams: Iterable[CommitMessage | tuple[str, int]]
    ) -> tuple[tuple[str, int], ...]:
        """The streams that messages name."""
        named: dict[str, int] = {}
        for each in items_of("streams", streams):
            if isinstance(each, CommitMessage):
                if each.session_id != self.id:
                    raise UsageError(
                        f"stream {each.stream_id!r} was written in session {each.session_id}, and "
                        f"session {self.id} is committed"
                    )
                stream_id, version = each.stream_id, each.stream_version
            else:
                if not isinstance(each, tuple | list) or len(each) != 2:
                    raise UsageError(
                        f"a stream is a message or an (id, version) pair, not {each!r}"
                    )
                stream_id, version = each
            if named.setdefault(stream_id, version) != version:
                raise UsageError(
                    f"two attempts at stream {stream_id!r} are to be committed: versions "
                    f"{named[stream_id]} and {version}"
                )
        return tuple(named.items())

    def end_with(self, request: ChangeRequest[Changed]) -> Changed:
        """Ends the session with a request that takes its rows, in place of a commit.

        Raises:
            As `commit`, and what the request is refused for.
        """
        self._check_open()
        self._check_complete()
        changed = self._channel.call(request)
        self._ended = "committed"
        return changed

    def abort(self) -> None:
        """Drops the session and all that was written to it; again does nothing.

        Raises:
            UsageError: the session was committed.
            ServiceError: the service refused.
            TransportError: no reply within the retry budget; the session expires by itself.
        """
        if self._ended == "committed":
            raise UsageError(f"write session {self.id} was committed")
        if self._ended == "aborted":
            return
        for writer in self._writers:
            writer.abandon()
        self._channel.call(
            AbortWriteSession(table=self._table, session_id=self.id, write_mode=self._write_mode)
        )
        self._ended = "aborted"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *exc: object) -> None:
        """Commits, or aborts if the block raised or a writer is still open."""
        if self._ended is not None:
            return
        if exc_type is None:
            try:
                self.commit()
            except (UsageError, ServiceError) as error:
                # Refused for good, so that nothing of it will ever be visible. (After a failure that
                # leaves it open whether the commit was done, nothing is aborted.)
                if effect_of(error) is Effect.REFUSED:
                    self._abort_quietly(type(error))
                raise
        else:
            self._abort_quietly(exc_type)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles by id; the copy knows no writers and no versions of this object."""
        return _reopened, (self._channel.reopen, self._table, self.id, self._write_mode)

    def _abort_quietly(self, error: type[BaseException]) -> None:
        """Aborts, because of an error that matters more; a session that could not be aborted expires."""
        for writer in self._writers:
            writer.cancel()
            writer.abandon()
        self._ended = "aborted"
        request = AbortWriteSession(
            table=self._table, session_id=self.id, write_mode=self._write_mode
        )
        self._channel.on_leaving(lambda channel: channel.call(request), patience(error))

    def _check_open(self) -> None:
        if self._ended is not None:
            raise UsageError(f"write session {self.id} was {self._ended}")

    def _check_complete(self) -> None:
        latest = {writer.stream_id: writer for writer in self._writers}
        unfinished = sorted(
            writer.stream_id
            for writer in latest.values()
            if not (writer.closed or writer.abandoned)
        )
        if unfinished:
            raise UsageError(
                f"the rows of {', '.join(unfinished)} would be left out: the writers are open or "
                "failed; close, abandon or repeat them before the commit"
            )

    def _state(self) -> WriteSessionReply:
        return self._channel.call(
            GetWriteSession(table=self._table, session_id=self.id, write_mode=self._write_mode)
        )


def _reopened(
    reopen: Reopening, table: TableName, session_id: str, write_mode: WriteMode
) -> WriteSession:
    return WriteSession(reopen(), table, session_id, write_mode=write_mode)
