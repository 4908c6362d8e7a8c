"""A part of a scan that any process can read by itself."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Generator
from typing import NamedTuple

import pyarrow as pa
from typing_extensions import deprecated

from fletching.client.cancellation import Cancellation
from fletching.client.html_views import ShownList
from fletching.client.reading.arrow_reader import ArrowReader
from fletching.client.reading.readable import OpenedRows, Readable
from fletching.client.reading.residual import Residual
from fletching.client.reading.resume_token import ResumeToken
from fletching.client.transports.channel import Channel, Reopening
from fletching.client.transports.stream_files import StreamReader
from fletching.client.transports.transport import BatchSource
from fletching.types import PartitionSpec

__all__ = ["Split", "SplitList"]


class _Rest(NamedTuple):
    """What is evaluated of the filter where the split is read, and what the service sends for it."""

    residual: Residual
    schema: pa.Schema


@dataclasses.dataclass(frozen=True, slots=True)
class Split(Readable):
    """Some of the rows of a scan's snapshot.

    Read as a scan is (`to_table`, `to_batches`, `to_pandas`, iteration, ...); by `reader` from any row on
    and with a place to go on from; by `raw_reader` as the bytes of its Arrow IPC stream.

    Pickles with where its client was connected to, so that Ray, Dask or plain processes can carry it
    to where it is read; there the client is made once per process. No secret is in it, but a token of
    the service's that reads this session and no more, until the session ends (a folder needs none, and
    of a service that issues no tokens the client's key goes along).

    Splits are equal, and have the same hash in every process, where they are the same rows.

    Attributes:
        token: what the split is, as a durable value; ``client.resume(split.token)`` reads it too.
        schema: of the batches.
        row_count: how many rows the split has; None where a filter chooses among them, or where a service
            that is not ours does not say.
        byte_size: an estimate of their bytes as they are stored, all columns; None if unknown.
        partition: the partition that all its rows are of; None if they are of several, or if that is
            not known.
        locations: names of hosts on which it is read without a network; for schedulers that care.
    """

    token: ResumeToken
    schema: pa.Schema = dataclasses.field()
    row_count: int | None = dataclasses.field()
    _channel: Channel = dataclasses.field(repr=False, compare=False)
    byte_size: int | None = dataclasses.field(default=None, compare=False)
    partition: PartitionSpec | None = dataclasses.field(default=None, compare=False)
    _session_token: str | None = dataclasses.field(default=None, repr=False, compare=False)
    _rest: _Rest | None = dataclasses.field(default=None, repr=False, compare=False)

    def filtered(self, residual: Residual, schema: pa.Schema) -> Split:
        """The split with the rest of a filter, which is evaluated where it is read.

        Args:
            residual: over the split's columns.
            schema: of the first of them, which are handed out.
        """
        return dataclasses.replace(
            self,
            token=dataclasses.replace(self.token, filtered=True, unfiltered=True),
            schema=schema,
            row_count=0 if self.row_count == 0 else None,
            _rest=_Rest(residual, self.schema),
        )

    @property
    def residual(self) -> Residual | None:
        """What is evaluated of the filter where the split is read; None if the service evaluates all."""
        return None if self._rest is None else self._rest.residual

    @property
    def locations(self) -> tuple[str, ...]:
        """See above; empty if nobody knows."""
        reopen = self._channel.reopen
        return () if reopen is None else tuple(reopen.locations())

    def reader(self, row: int = 0) -> ArrowReader:
        """Opens a reader at a row of the split; see `ArrowReader`.

        Raises:
            UsageError: the split has no such row, or a `residual`: then nobody knows which row that is.
        """
        self.token.request()
        return ArrowReader(self._channel, self.token.at(row), schema=self.schema)

    def raw_reader(self) -> StreamReader:
        """The bytes of the split's Arrow IPC stream as a file; a broken connection is an error.

        Raises:
            UsageError: the split has a `residual`, which nobody would evaluate.
        """
        return StreamReader(self._channel, self.token.request())

    @deprecated("to_reader of a split will give pyarrow's reader: use reader", category=None)
    def to_reader(self, row: int = 0) -> ArrowReader:  # type: ignore[override]  # its earlier meaning
        """As `reader`, which it was called before."""
        return self.reader(row)

    @deprecated("open_stream is called raw_reader", category=None)
    def open_stream(self) -> StreamReader:
        """As `raw_reader`, which it was called before."""
        return self.raw_reader()

    def scan_reader(
        self, cancellation: Cancellation, begun: BatchSource | None = None
    ) -> ArrowReader:
        """A reader of the whole split for a scan, which may have the reply to its first request."""
        return ArrowReader(
            self._channel, self.token, schema=self.schema, begun=begun, cancellation=cancellation
        )

    def opened(self) -> OpenedRows:
        """A read of it that has begun; for what is made of splits."""
        return self._open()

    def _open(self) -> OpenedRows:
        return OpenedRows(self.schema, self._read(), self.row_count)

    def _read(self) -> Generator[pa.RecordBatch, None, None]:
        if self._rest is not None:
            wide = dataclasses.replace(
                self,
                token=dataclasses.replace(self.token, unfiltered=False),
                schema=self._rest.schema,
                _rest=None,
            )
            yield from self._rest.residual.rows(wide._read(), self.schema.names)  # noqa: SLF001
            return
        # The connection is given back when the iterator ends or is dropped.
        with self.reader() as reader:
            yield from reader

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The split for any library that takes Arrow's C stream."""
        if self._rest is not None:
            return Readable.to_reader(self).__arrow_c_stream__(requested_schema)
        return self.reader().__arrow_c_stream__(requested_schema)

    def __dask_tokenize__(self) -> object:
        """What the split is, the same in every process: its place, whose service and which options.

        Dask names its tasks by this, so that a graph made twice is the same graph.
        """
        reopen = self._channel.reopen
        return (
            "fletching.Split",
            str(self.token),
            str(reopen),
            self.schema.serialize().to_pybytes(),
        )

    def __hash__(self) -> int:
        """The same in every process, unlike that of text."""
        digest = hashlib.blake2b(str(self.token).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little", signed=True)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles by place and by what reopens the client to read it."""
        fields = (
            self.token,
            self.schema,
            self.row_count,
            self.byte_size,
            self.partition,
            self._rest,
        )
        return _reopened, (self._channel.reopen_with(self._session_token), fields)


def _reopened(
    reopen: Reopening,
    fields: tuple[ResumeToken, pa.Schema, int, int, PartitionSpec | None, _Rest | None],
) -> Split:
    token, schema, row_count, byte_size, partition, rest = fields
    return Split(token, schema, row_count, reopen(), byte_size, partition, _rest=rest)


class SplitList(ShownList[Split]):
    """The splits of a scan, in the table's order."""

    TITLE = "split"
    HEADS = ("split", "rows", "bytes", "partition")

    def cells(self, item: Split) -> tuple[object, ...]:
        """What is known of a split without asking the service."""
        position = item.token.index if item.token.index is not None else item.token.offset
        rows = None if item.row_count is None else f"{item.row_count:,}"
        size = None if item.byte_size is None else f"{item.byte_size:,}"
        return (position, rows, size, item.partition)
