"""Record batches by a manifest: fetched past the service, and through it where that does not work.

Nothing of the change is seen above: batches come in the read's order, each once, whichever way. When the
sources' time is over the service is asked for others, at the row that was reached; when they cannot be
read, for the rows themselves. Damage is an error and never a reason to try another way: a message whose
checksum differs is not what was written.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator

import msgspec
import pyarrow as pa

from fletching.client.transports.direct.manifest_chunks import Chunk, chunks
from fletching.client.transports.direct.range_fetcher import RangeFetcher, SourcesGoneError
from fletching.client.transports.transport import BatchSource
from fletching.errors import ProtocolError, TruncatedStreamError
from fletching.ipc import Limits, Message, MessageDecoder
from fletching.ipc.batches import BatchDecoder
from fletching.ipc.decoder import DecoderState
from fletching.protocol.messages.manifest import Inline, Manifest, Rows, Source
from fletching.protocol.messages.requests import ReadTable

__all__ = ["ManifestReader"]

FRESH_SHARE = 0.8
"""The share of their time after which sources are not used any more: clocks differ, and requests take
time."""


class ManifestReader:
    """The batches of one read; a `fletching.client.transports.transport.BatchSource`.

    Attributes:
        schema: of the batches.
        request_id: the service's id of the request that the manifest answered.
    """

    def __init__(
        self,
        manifest: Manifest,
        request: ReadTable,
        *,
        ask: Callable[[ReadTable, bool], Manifest | BatchSource],
        fetcher: Callable[[tuple[Source, ...]], RangeFetcher],
        unreachable: Callable[[Manifest], None],
        limits: Limits,
        request_id: str | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Decodes the schema; fetches nothing yet.

        Args:
            manifest: answers ``request``.
            request: what was read.
            ask: reads through the service; the second argument says whether a manifest may come.
            fetcher: makes what fetches from sources.
            unreachable: is told of sources that could not be read.
            limits: what messages may claim.
            request_id: of ``request``.
            clock: seconds.

        Raises:
            ProtocolError, WireError: the manifest does not begin with a schema message.
        """
        self._manifest = manifest
        self._made_at = clock()
        self._clock = clock
        self._request = request
        self._ask = ask
        self._make_fetcher = fetcher
        self._unreachable = unreachable
        self._limits = limits
        self._fetcher: RangeFetcher | None = None
        self._plain: BatchSource | None = None
        self.request_id = request_id
        self.schema: pa.Schema = self._decoders(manifest)[1].schema

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """The batches; see `BatchSource`.

        Raises:
            ChecksumMismatchError: a stored message is not what was written.
            WireError: what was fetched is no correct Arrow IPC stream.
            ServiceError, TransportError: the service, which was asked for the rest, refused or failed.
        """
        failed = False
        while True:
            rows = 0
            manifest = self._manifest
            may_be_direct = True
            try:
                with contextlib.closing(self._batches(manifest)) as batches:
                    for batch in batches:
                        rows += batch.num_rows
                        yield batch
                if manifest.complete:
                    self._check_rows(rows)
                    return
                self._check_rows(rows)
                may_be_direct = rows > 0  # else the next one would not come further either
            except SourcesGoneError as error:
                # New sources are asked for once; if nothing comes of them, they are of no use here.
                may_be_direct = error.refreshable and (rows > 0 or not failed)
                failed = True
                if not may_be_direct:
                    self._unreachable(manifest)
            self._request = msgspec.structs.replace(
                self._request, skip_rows=self._request.skip_rows + rows
            )
            reply = self._ask(self._request, may_be_direct)
            if not isinstance(reply, Manifest):
                yield from self._plainly(reply)
                return
            self._manifest, self._made_at = reply, self._clock()
            self._check_schema(self._decoders(reply)[1].schema)

    def _check_rows(self, rows: int) -> None:
        if rows != self._manifest.rows:
            raise ProtocolError(
                f"a manifest of {self._manifest.rows} rows gave {rows}", side="remote"
            )

    def _check_schema(self, schema: pa.Schema) -> None:
        if not schema.equals(self.schema):
            raise ProtocolError("the schema of a read changed on the way", side="remote")

    def _plainly(self, source: BatchSource) -> Iterator[pa.RecordBatch]:
        """What the service sends itself."""
        self._plain = source
        try:
            self._check_schema(source.schema)
            yield from source
        finally:
            source.close()
            self._plain = None

    def _decoders(self, manifest: Manifest) -> tuple[MessageDecoder, BatchDecoder]:
        """What reads the manifest's stream, behind its schema message."""
        first = manifest.pieces[0]
        assert isinstance(first, Inline)
        messages = MessageDecoder(self._limits)
        messages.feed(first.data)
        schema = messages.next_message()
        if not isinstance(schema, Message):
            raise ProtocolError("the manifest does not begin with a schema message", side="remote")
        # As of a plain reply: the service has validated text when it was written.
        return messages, BatchDecoder(schema, limits=self._limits, validate_text=False)

    def _batches(self, manifest: Manifest) -> Generator[pa.RecordBatch, None, None]:
        messages, decoder = self._decoders(manifest)
        fetcher = self._fetcher = self._make_fetcher(manifest.sources)
        fresh_until = self._made_at + FRESH_SHARE * manifest.valid_seconds
        ended = False
        try:
            for item in fetcher.chunks(self._fresh(manifest, fresh_until)):
                if isinstance(item, Rows):
                    yield from self._computed(item)
                    continue
                messages.feed(item, borrow=True)
                while isinstance(message := messages.next_message(), Message):
                    batch = decoder.decode(message)
                    if batch is not None:
                        yield batch
                ended = message is DecoderState.END
            if not ended:
                raise TruncatedStreamError(
                    "the manifest's stream has no end-of-stream marker", layer="arrow"
                )
        finally:
            fetcher.close()
            self._fetcher = None

    def _fresh(self, manifest: Manifest, until: float) -> Iterator[Chunk | Rows]:
        """The manifest's chunks, as long as its sources are good."""
        for item in chunks(manifest, self._limits):
            if self._clock() >= until:
                raise SourcesGoneError("the manifest's time is over", refreshable=True)
            yield item

    def _computed(self, rows: Rows) -> Iterator[pa.RecordBatch]:
        """Rows that the service computes."""
        request = self._request
        offset = (request.offset or 0) + request.skip_rows + rows.start
        part = msgspec.structs.replace(request, offset=offset, count=rows.count, skip_rows=0)
        source = self._ask(part, False)
        assert not isinstance(source, Manifest)
        count = 0
        for batch in self._plainly(source):
            count += batch.num_rows
            yield batch
        if count != rows.count:
            raise ProtocolError(
                f"the service sent {count} rows where its manifest says {rows.count}", side="remote"
            )

    def hurry(self) -> None:
        """As `BatchSource.hurry`."""
        if self._plain is not None:
            self._plain.hurry()

    def close(self) -> None:
        """Ends what is fetched; idempotent."""
        if self._fetcher is not None:
            self._fetcher.close()
        if self._plain is not None:
            self._plain.close()
