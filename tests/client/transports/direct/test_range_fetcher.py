"""What fetches the ranges of a manifest: as few requests as they are worth, as many at once as help."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from crc32c import crc32c

from fletching.client.call_options import CallOptions
from fletching.client.cancellation import Cancellation
from fletching.client.transports.direct import range_fetcher
from fletching.client.transports.direct.manifest_chunks import Chunk, Fetch, chunks
from fletching.client.transports.direct.range_fetcher import RangeFetcher
from fletching.ipc import Limits
from fletching.protocol.messages.manifest import (
    Assembled,
    Inline,
    Manifest,
    ManifestPiece,
    Source,
    SourceKind,
    SourceRange,
    Stored,
)
from fletching.range_joining import BYTES_PER_REQUEST

SEGMENTS, MESSAGES = 3, 40


def manifest(pieces: list[ManifestPiece], length: int) -> Manifest:
    return Manifest(
        format=1,
        kind=SourceKind.SIGNED,
        rows=100,
        complete=True,
        valid_seconds=60.0,
        sources=tuple(Source(length, f"http://x/{number}") for number in range(SEGMENTS)),
        pieces=(Inline(b"schema"), *pieces, Inline(b"end")),
    )


@pytest.mark.parametrize("message", [1_000, 300_000, 2_240_000, 5_000_000, 30_000_000])
@pytest.mark.parametrize("share", [1.0, 0.3, 0.03])
def test_a_request_moves_four_mebibytes_or_ends_a_segment(message: int, share: float) -> None:
    """Counted: of whole messages, and of a part of each with new metadata before it."""
    pieces: list[ManifestPiece] = []
    for source in range(SEGMENTS):
        if share == 1.0:
            lengths = np.full(MESSAGES, message, "<i8").tobytes()
            pieces.append(Stored(source, 8, lengths, np.zeros(MESSAGES, "<u4").tobytes()))
            continue
        for number in range(MESSAGES):
            start = 8 + number * message
            wanted = SourceRange(source, start, start + int(share * message))
            pieces.append(Assembled((b"metadata", wanted)))
    whole = manifest(pieces, 16 + message * MESSAGES)
    fetches: list[Fetch] = []
    for chunk in chunks(whole, Limits()):
        assert isinstance(chunk, Chunk)
        fetches += chunk.fetches()
    moved = sum(fetch.joined.length for fetch in fetches)
    if (1 - share) * message > BYTES_PER_REQUEST:
        # What lies between two parts is longer than a request is worth.
        assert moved == SEGMENTS * MESSAGES * int(share * message)
    else:
        assert len(fetches) <= moved / BYTES_PER_REQUEST + SEGMENTS


class Fetcher(RangeFetcher):
    """Brings zeros, each request in some seconds until as many are under way as may be."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            (Source(1 << 30, "http://x"),),
            pools=lambda _: pytest.fail("nothing is connected to"),
            options=CallOptions(),
            cancellation=Cancellation(),
            clock=time.monotonic,
            headers={},
        )
        self.seconds = seconds
        self.most = self.now = 0
        self.lock = threading.Lock()

    def _receive(self, pending: Any, fetch: Fetch) -> None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        if self.seconds and self.most < range_fetcher.FETCHERS:
            time.sleep(self.seconds)
        for index, start, end in fetch.joined.parts:
            position = fetch.offsets[index]
            pending.memory[start + position : end + position] = bytes(end - start)
        with self.lock:
            self.now -= 1


def fetched(fetcher: Fetcher, count: int) -> int:
    message = BYTES_PER_REQUEST
    sums = np.full(count, crc32c(bytes(message)), "<u4").tobytes()
    stored = Stored(0, 8, np.full(count, message, "<i8").tobytes(), sums)
    try:
        items = chunks(manifest([stored], 1 << 30), Limits())
        return sum(part.nbytes for part in fetcher.chunks(items) if isinstance(part, memoryview))
    finally:
        fetcher.close()


def test_a_slow_store_gets_more_requests_at_once() -> None:
    fetcher = Fetcher(seconds=0.15)
    count = 300  # ten are enough where each thread gets its turn at once
    assert fetched(fetcher, count) == count * BYTES_PER_REQUEST + len(b"end")
    assert fetcher.most == range_fetcher.FETCHERS


def test_a_fast_store_gets_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(range_fetcher, "FAST_BYTES_PER_SECOND", 1.0)
    fetcher = Fetcher(seconds=0.0)
    assert fetched(fetcher, 20) == 20 * BYTES_PER_REQUEST + len(b"end")
    assert fetcher.most <= range_fetcher.FIRST_FETCHERS
