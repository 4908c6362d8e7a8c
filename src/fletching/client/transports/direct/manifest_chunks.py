"""A manifest's pieces as chunks of the stream: which bytes of which source go where in memory.

A chunk is one allocation that holds whole messages: what is fetched is received at its place, so that
nothing is copied but what the manifest carries itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from fletching.errors import LimitExceededError
from fletching.ipc import Limits
from fletching.protocol.messages.manifest import (
    Assembled,
    Inline,
    Manifest,
    Rows,
    SourceRange,
    Stored,
)
from fletching.range_joining import BYTES_PER_REQUEST, JoinedRange, join_ranges

__all__ = ["CHUNK_BYTES", "Chunk", "Fetch", "chunks"]

LONGEST_BYTES = 4 * BYTES_PER_REQUEST
"""The longest request: a chunk with the gaps in it is one, and rarely two of which the second is short."""

FIRST_BYTES = BYTES_PER_REQUEST
CHUNK_BYTES = 2 * BYTES_PER_REQUEST
"""A chunk ends with the message that makes it so long; the first one sooner, since somebody waits for it.
A request costs the client half a millisecond of processor time, as much as receiving 4 MiB; and what is on its
way and not used yet stays small."""


@dataclasses.dataclass(slots=True)
class Chunk:
    """Some messages of the stream.

    Attributes:
        length: bytes of all.
        inline: (position in the chunk, bytes) that came with the manifest.
        ranges: (position, range of a source) that are fetched.
        checks: (position, length, CRC32C) of the messages that have a checksum.
    """

    length: int = 0
    inline: list[tuple[int, bytes]] = dataclasses.field(default_factory=list)
    ranges: list[tuple[int, SourceRange]] = dataclasses.field(default_factory=list)
    checks: list[tuple[int, int, int]] = dataclasses.field(default_factory=list)

    def fetches(self) -> list[Fetch]:
        """The requests that bring the chunk's ranges."""
        by_source: dict[int, list[tuple[int, SourceRange]]] = {}
        for position, wanted in self.ranges:
            by_source.setdefault(wanted.source, []).append((position, wanted))
        made: list[Fetch] = []
        for source, items in by_source.items():
            for run in _ascending(items):
                parts = [(wanted.start, wanted.end) for _, wanted in run]
                joined = join_ranges(parts, longest_bytes=LONGEST_BYTES)
                offsets = [position - wanted.start for position, wanted in run]
                made += [Fetch(source, each, tuple(offsets)) for each in joined]
        return made

    def add_inline(self, data: bytes) -> None:
        """Appends bytes that are here."""
        self.inline.append((self.length, data))
        self.length += len(data)

    def add_range(self, wanted: SourceRange) -> None:
        """Appends bytes to be fetched; what follows on the range before becomes one with it."""
        if self.ranges:
            position, last = self.ranges[-1]
            follows = last.source == wanted.source and last.end == wanted.start
            if follows and position + last.length == self.length:
                self.ranges[-1] = (position, SourceRange(last.source, last.start, wanted.end))
                self.length += wanted.length
                return
        self.ranges.append((self.length, wanted))
        self.length += wanted.length


@dataclasses.dataclass(frozen=True, slots=True)
class Fetch:
    """One request, and where its parts go.

    Attributes:
        source: the source's number.
        joined: what is asked for, and which parts of it are wanted.
        places: for each wanted range by its index: what to add to an offset in the source to get
            the position in the chunk.
    """

    source: int
    joined: JoinedRange
    offsets: tuple[int, ...]


def _ascending(
    items: list[tuple[int, SourceRange]],
) -> Iterator[list[tuple[int, SourceRange]]]:
    """Runs of ranges that stand in a source in the order in which they are wanted."""
    run: list[tuple[int, SourceRange]] = []
    for item in items:
        if run and item[1].start < run[-1][1].end:
            yield run
            run = []
        run.append(item)
    if run:
        yield run


def chunks(
    manifest: Manifest, limits: Limits, *, chunk_bytes: int = CHUNK_BYTES
) -> Iterator[Chunk | Rows]:
    """The stream behind its schema message, in chunks; and the rows that the service is asked for.

    Args:
        manifest: checked.
        limits: what a message may claim.
        chunk_bytes: how long a chunk is, but for the rest of its last message, and for the first.

    Raises:
        LimitExceededError: a message is longer than the limits.
    """
    longest = limits.max_metadata_bytes + limits.max_body_bytes
    chunk = Chunk()
    long_enough = min(chunk_bytes, FIRST_BYTES)
    for piece in manifest.pieces[1:]:
        if isinstance(piece, Rows):
            if chunk.length:
                yield chunk
                chunk = Chunk()
            yield piece
        elif isinstance(piece, Inline):
            chunk.add_inline(piece.data)
        elif isinstance(piece, Assembled):
            _check_length(piece.length, longest)
            if chunk.length >= long_enough:
                yield chunk
                chunk, long_enough = Chunk(), chunk_bytes
            for part in piece.parts:
                if isinstance(part, SourceRange):
                    if part.length:
                        chunk.add_range(part)
                else:
                    chunk.add_inline(part)
        else:
            for start, end, checksum in _messages(piece, longest):
                if chunk.length >= long_enough:
                    yield chunk
                    chunk, long_enough = Chunk(), chunk_bytes
                chunk.checks.append((chunk.length, end - start, checksum))
                chunk.add_range(SourceRange(piece.source, start, end))
    if chunk.length:
        yield chunk


def _messages(piece: Stored, longest: int) -> Iterator[tuple[int, int, int]]:
    for start, end, checksum in piece.messages():
        _check_length(end - start, longest)
        yield start, end, checksum


def _check_length(length: int, longest: int) -> None:
    if length > longest:
        raise LimitExceededError(
            f"a message of the manifest has {length} bytes, above the limit of {longest}",
            limit=longest,
            actual=length,
        )
