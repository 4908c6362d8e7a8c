"""Chunks of a manifest brought by range requests, some at once and in order, in threads of their own.

The threads live as long as one reader. Each takes the next request, receives its bytes at their places
in the chunk's memory, and the last one of a chunk proves its messages against their checksums.

How many there are follows from what is found: a store whose replies come as fast as they can be received
gets few, since more would only share the processor and keep more memory in use than its caches hold; one
that takes its time gets more of them, up to a bound.
"""

from __future__ import annotations

import contextlib
import random
import re
import threading
import time
import urllib.parse
from collections import deque
from collections.abc import Callable, Iterator

import pyarrow as pa
import urllib3
from crc32c import crc32c

from fletching.client.call_options import CallOptions
from fletching.client.cancellation import Cancellation, join_within
from fletching.client.transports.direct.manifest_chunks import CHUNK_BYTES, Chunk, Fetch
from fletching.client.transports.http.http_response import Reply, Stopwatch
from fletching.client.transports.http.one_exchange import ask
from fletching.errors import (
    ChecksumMismatchError,
    ConnectError,
    ConnectionBrokenError,
    TransportError,
)
from fletching.protocol.messages.manifest import Rows, Source

__all__ = ["RangeFetcher", "SourcesGoneError"]

FIRST_FETCHERS = 3
FETCHERS = 8
"""Requests of one reader at once: at first, and at most."""

FAST_BYTES_PER_SECOND = 100e6
"""A request that brought its bytes more slowly, the wait for its reply included, is worth another beside it."""

ATTEMPTS = 3
"""How often a range is asked for before the service is asked instead."""

FIRST_DELAY_SECONDS = 0.1

CONNECT_SECONDS = 3.0
"""How long a connection to the object store is waited for: the service is another way, and a network in
which nobody answers is not worth more."""

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/(?:[0-9]{1,18}|\*)")


class SourcesGoneError(TransportError):
    """The object store does not give what a manifest says: the URL's time is over, or it is gone.

    Attributes:
        refreshable: whether new URLs may help.
    """

    def __init__(self, message: str, *, refreshable: bool = False, url: str | None = None) -> None:
        super().__init__(message, url=url)
        self.refreshable = refreshable
        self._facts["refreshable"] = refreshable


class _Pending:
    """A chunk on its way."""

    def __init__(self, chunk: Chunk) -> None:
        self.chunk = chunk
        # Room for all of it at once, from pyarrow's pool: the batches' arrays will borrow it.
        self.memory = memoryview(pa.allocate_buffer(chunk.length)).cast("B")
        for position, data in chunk.inline:
            self.memory[position : position + len(data)] = data
        self.left = 0
        self.error: BaseException | None = None
        self.done = threading.Event()


class RangeFetcher:
    """Fetches the chunks of one reader. `chunks` is used by one thread, `close` by any."""

    def __init__(
        self,
        sources: tuple[Source, ...],
        *,
        pools: Callable[[str], urllib3.PoolManager],
        options: CallOptions,
        cancellation: Cancellation,
        clock: Callable[[], float],
        headers: dict[str, str],
    ) -> None:
        """Asks for nothing yet.

        Args:
            sources: of the manifest.
            pools: the connections to use for a URL's origin.
            options: timeouts, and how much may be read ahead.
            cancellation: what is waited under.
            clock: counts timeouts.
            headers: sent with each request.
        """
        self._pools = pools
        self._sources = sources
        self._options = options
        self._cancellation = Cancellation(cancellation)
        self._clock = clock
        self._headers = headers
        self._work: deque[tuple[_Pending, Fetch]] = deque()
        self._changed = threading.Condition()
        self._fetchers = FIRST_FETCHERS
        self._threads: list[threading.Thread] = []
        self._closed = False

    def chunks(self, items: Iterator[Chunk | Rows]) -> Iterator[memoryview | Rows]:
        """The chunks' memory, filled and proven, in order; `Rows` as they are.

        Raises:
            SourcesGoneError: a source cannot be read any more.
            ChecksumMismatchError: a message is not what was written, also when it was asked for twice.
            OperationCancelledError: it was cancelled.
        """
        ahead: deque[_Pending | Rows] = deque()
        held = 0
        exhausted = False
        while True:
            while not exhausted and (not ahead or held < self._ahead_bytes):
                item = next(items, None)
                if item is None:
                    exhausted = True
                elif isinstance(item, Rows):
                    ahead.append(item)
                else:
                    pending = _Pending(item)
                    held += item.length
                    ahead.append(pending)
                    self._submit(pending)
            if not ahead:
                return
            first = ahead.popleft()
            if isinstance(first, Rows):
                yield first
                continue
            with self._cancellation.interrupting(first.done.set):
                first.done.wait()
            if first.error is not None:
                raise first.error
            self._cancellation.check()
            held -= first.chunk.length
            memory = first.memory
            del first
            yield memory.toreadonly()

    @property
    def _ahead_bytes(self) -> int:
        """Bytes of chunks that are under way or wait for the caller: two for each thread."""
        return min(self._options.read_ahead_bytes, 2 * self._fetchers * CHUNK_BYTES)

    def _submit(self, pending: _Pending) -> None:
        fetches = pending.chunk.fetches()
        pending.left = len(fetches)
        if not fetches:
            pending.done.set()
            return
        with self._changed:
            self._work.extend((pending, fetch) for fetch in fetches)
            self._changed.notify(len(fetches))
        while len(self._threads) < min(self._fetchers, len(self._work)):
            thread = threading.Thread(
                target=self._run, name=f"fletching-fetch-{len(self._threads)}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    # --- in the threads ----------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._work and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                pending, fetch = self._work.popleft()
            try:
                if pending.error is not None:
                    continue
                self._fetch(pending, fetch)
                with self._changed:
                    pending.left -= 1
                    last = not pending.left
                if last:
                    self._prove(pending)
                    pending.done.set()
            except BaseException as error:  # noqa: BLE001  # whatever it is, whoever waits raises it
                pending.error = error
                pending.done.set()
            # While this thread waits, a chunk is its reader's alone: memory that is given back by another
            # thread than the one that asked for it costs the pages once more.
            del pending, fetch

    def _fetch(self, pending: _Pending, fetch: Fetch) -> None:
        """Receives one request's parts, again while that may help."""
        for attempt in range(ATTEMPTS):
            if attempt:
                delay = FIRST_DELAY_SECONDS * 3 ** (attempt - 1) * (1 + random.random())  # noqa: S311
                self._cancellation.wait(delay)
            try:
                started = time.perf_counter()
                self._receive(pending, fetch)
                self._took(fetch.joined.length, time.perf_counter() - started)
            except SourcesGoneError:
                raise
            except ConnectError as error:
                # Nobody is there: the service's own way to the store may be another one.
                raise SourcesGoneError(str(error), refreshable=False, url=error.url) from error
            except TransportError as error:
                self._cancellation.check()
                if attempt == ATTEMPTS - 1:
                    raise SourcesGoneError(str(error), refreshable=False, url=error.url) from error
            else:
                return

    def _took(self, length: int, seconds: float) -> None:
        """Another thread may come where one took its time for a request that was worth it."""
        if length < seconds * FAST_BYTES_PER_SECOND:
            with self._changed:
                self._fetchers = min(self._fetchers + 1, FETCHERS)

    def _receive(self, pending: _Pending, fetch: Fetch) -> None:
        joined = fetch.joined
        with contextlib.closing(self._ask(fetch.source, joined.start, joined.end)) as reply:
            position = joined.start
            for index, start, end in joined.parts:
                _drop(reply, start - position)
                offset = fetch.offsets[index]
                room = pending.memory[start + offset : end + offset]
                while room:
                    count = reply.readinto(room)
                    if not count:
                        raise _short(reply.url)
                    room = room[count:]
                position = end
            reply.finish()

    def _ask(self, source: int, start: int, end: int) -> Reply:
        """A reply whose body is exactly the range."""
        url = self._sources[source].url
        shown = url.partition("?")[0]  # what follows is a signature
        origin, target = _parts_of(url)
        stopwatch = Stopwatch(self._options.timeouts, self._clock, shown)
        reply = ask(
            self._pools(origin),
            "GET",
            f"{origin}/",
            exact_target=target,
            headers={**self._headers, "range": f"bytes={start}-{end - 1}"},
            stopwatch=stopwatch,
            cancellation=self._cancellation,
            url=shown,
            most_connect_seconds=CONNECT_SECONDS,
        )
        try:
            _check_reply(reply, start, end, self._sources[source].length)
        except BaseException:
            reply.close()
            raise
        return reply

    def _prove(self, pending: _Pending) -> None:
        """Compares the messages of a chunk; asks once more for one that differs.

        Raises:
            ChecksumMismatchError: it differs again: the stored bytes are not what was written.
        """
        for position, length, expected in pending.chunk.checks:
            if crc32c(pending.memory[position : position + length]) == expected:
                continue
            for fetch in pending.chunk.fetches():
                self._fetch(pending, fetch)
            actual = crc32c(pending.memory[position : position + length])
            if actual != expected:
                raise ChecksumMismatchError(
                    "a stored message that was fetched from the object store fails its checksum",
                    layer="arrow",
                    expected=expected,
                    actual=actual,
                )

    def close(self) -> None:
        """Breaks off what is fetched and ends the threads; idempotent."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._work.clear()
            self._changed.notify_all()
        self._cancellation.cancel("the reader was closed")
        join_within(self._threads)


def _check_reply(reply: Reply, start: int, end: int, whole: int) -> None:
    """Holds a reply to the range that was asked for.

    Raises:
        SourcesGoneError: the store refuses, for now or for good.
        ConnectionBrokenError: it failed, or answers with something else.
    """
    if reply.status in {400, 401, 403, 404, 410, 412, 416}:
        raise SourcesGoneError(
            f"the object store refused a range with status {reply.status}",
            refreshable=reply.status in {400, 401, 403},
            url=reply.url,
        )
    if 300 <= reply.status < 400:
        raise SourcesGoneError(
            f"the object store answered with status {reply.status}",
            refreshable=False,
            url=reply.url,
        )
    all_of_it = reply.status == 200 and (start, end) == (0, whole)
    if not all_of_it:
        match = _CONTENT_RANGE.fullmatch(reply.headers.get("content-range", ""))
        if (
            reply.status != 206
            or match is None
            or (int(match[1]), int(match[2]) + 1) != (start, end)
        ):
            raise ConnectionBrokenError(
                f"the object store answered with status {reply.status} and another range",
                url=reply.url,
            )
    if reply.headers.get("content-encoding", "identity") != "identity":
        raise SourcesGoneError(
            "something in between encodes what the object store sends",
            refreshable=False,
            url=reply.url,
        )


def _drop(reply: Reply, count: int) -> None:
    """Receives bytes that nobody wants."""
    if not count:
        return
    room = memoryview(bytearray(min(count, 256 * 1024)))
    while count:
        received = reply.readinto(room[:count])
        if not received:
            raise _short(reply.url)
        count -= received


def _short(url: str) -> ConnectionBrokenError:
    return ConnectionBrokenError("the object store sent fewer bytes than were asked for", url=url)


_URL = re.compile(r"[!-~]+")  # what else is in one would end the request line, or be spelled anew


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL.

    Raises:
        SourcesGoneError: it is no HTTP URL.
    """
    return _parts_of(url)[0]


def _parts_of(url: str) -> tuple[str, str]:
    """The origin, and path with query, as they are written."""
    try:
        parts = urllib.parse.urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = urllib.parse.urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.hostname or not _URL.fullmatch(url):
        raise SourcesGoneError("a source of the manifest has no HTTP URL", refreshable=False)
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", target
