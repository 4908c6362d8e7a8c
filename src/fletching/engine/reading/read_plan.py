"""Read plans: what a reply consists of, before any of its payload is touched.

A plan is executed by the server (views to ``send``), by the embedded transport (views to pyarrow)
and by tests (bytes); it knows nothing of any of them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeAlias

import pyarrow as pa
from typing_extensions import Buffer

from fletching.errors import CorruptObjectError
from fletching.objects.store import StoredObject
from fletching.protocol.messages.manifest import Manifest, Source, SourceKind

__all__ = [
    "Computed",
    "DirectRead",
    "Extent",
    "Literal",
    "MakeManifest",
    "Piece",
    "ReadPlan",
    "Repeatable",
    "SourceNames",
]


@dataclasses.dataclass(frozen=True, slots=True)
class Literal:
    """Bytes made for this reply: schema messages, rewritten metadata, padding, constants, EOS."""

    data: Buffer

    @property
    def length(self) -> int:
        """Bytes that the reply gets from this piece."""
        return memoryview(self.data).nbytes


@dataclasses.dataclass(frozen=True, slots=True)
class Extent:
    """Bytes ``start`` to ``end`` of an object, as stored."""

    object: StoredObject
    start: int
    end: int

    @property
    def length(self) -> int:
        """Bytes that the reply gets from this piece."""
        return self.end - self.start


@dataclasses.dataclass(frozen=True, slots=True)
class Computed:
    """Batches whose values or projection must be made; ``run`` blocks and belongs in a worker thread.

    ``run`` may be called again and then computes again. ``length`` is the exact sum of its
    buffers' lengths, or None when only running can tell.
    """

    run: Callable[[], Sequence[Buffer]]
    length: int | None


Piece: TypeAlias = Literal | Extent | Computed

SourceNames = Callable[[Sequence[StoredObject]], "list[Source] | None"]
"""Says how a client reaches segments, in their order; None if it cannot."""


@dataclasses.dataclass(frozen=True, slots=True)
class DirectRead:
    """A manifest, and the opened segments in the order of its sources."""

    manifest: Manifest
    objects: tuple[StoredObject, ...]


class MakeManifest(Protocol):
    """Makes a plan's manifest; see `manifests.make_manifest`."""

    def __call__(
        self, *, kind: SourceKind, names: SourceNames, least_bytes: int, valid_seconds: float
    ) -> DirectRead | None:
        """The manifest; None where the plain reply is better."""
        ...


class Repeatable:
    """Pieces that are made anew as often as they are asked for."""

    def __init__(self, make: Callable[[], Iterator[Piece]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[Piece]:
        return self._make()


class ReadPlan:
    """A whole Arrow IPC stream as a sequence of pieces: schema message, messages, end of stream.

    Attributes:
        schema: what the reader will see.
        rows: how many rows the stream holds; None when a filter decides it.
        pieces: the stream in order. May be iterated again; each iteration opens objects and reads
            metadata as it goes, so it blocks: iterate in a worker thread. Nothing is held beyond
            the piece in hand.
        batches: the same rows as record batches, for readers in the same process; blocks likewise.
            Values that need no computation are shared with the segments' mappings.
        manifest: makes the plan's manifest, for a client that fetches by itself; None where there
            can be none.
    """

    def __init__(
        self,
        *,
        schema: pa.Schema,
        rows: int | None,
        length: int | Callable[[], int | None] | None,
        pieces: Iterable[Piece],
        batches: Callable[[], Iterator[pa.RecordBatch]],
        manifest: MakeManifest | None = None,
    ) -> None:
        """Holds the parts; a ``length`` that takes work is a function, called when it is asked for."""
        self.schema = schema
        self.rows = rows
        self.pieces = pieces
        self.batches = batches
        self.manifest = manifest
        self._length = length

    @functools.cached_property
    def length(self) -> int | None:
        """Bytes of the whole stream; None when only making it can tell. Blocks the first time.

        Raises:
            InvalidArgumentError: a batch cannot be made as asked for. Ask before sending anything.
            CorruptObjectError: a segment is missing or damaged.
        """
        return self._length() if callable(self._length) else self._length

    def buffers(self) -> Iterator[Buffer]:
        """Executes the plan here and now: views of stored bytes, and what was made.

        Views borrow from the store's mappings and stay valid as long as they are referenced.
        Blocks on I/O and computation.

        Raises:
            CorruptObjectError: a computed piece is not as long as was announced.
        """
        for piece in self.pieces:
            if isinstance(piece, Literal):
                yield piece.data
            elif isinstance(piece, Extent):
                yield piece.object.view(piece.start, piece.end)
            else:
                yield from run_checked(piece)


def run_checked(piece: Computed) -> Sequence[Buffer]:
    """Runs a computed piece and compares what came out with the announced length.

    Raises:
        CorruptObjectError: they differ; sending the bytes would break the reply's framing.
    """
    buffers = piece.run()
    if piece.length is not None:
        actual = sum(memoryview(buffer).nbytes for buffer in buffers)
        if actual != piece.length:
            raise CorruptObjectError(
                f"computed batches have {actual} bytes where {piece.length} were announced"
            )
    return buffers
