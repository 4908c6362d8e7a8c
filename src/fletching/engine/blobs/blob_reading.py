"""Reading blobs by reference: what to send, in which order, from which ranges of which packs.

References are taken in windows. Inside one, the ranges of a pack are sorted and neighbours merged,
so that ten thousand small blobs of one upload are a few large reads; what is sent keeps the order
and the duplicates of the request. Every blob is verified against the checksum in its reference:
before it is sent if it fits a window, at its end if it is larger, and then the reply is cut. Only what
is sent as it is stored is verified by who asked for it so.
"""

from __future__ import annotations

import dataclasses
import operator
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

from crc32c import crc32c
from typing_extensions import Buffer

from fletching.engine.blobs.blob_references import BlobReference, pack_key
from fletching.engine.blobs.packs import CHECKSUM_BYTES, read_header
from fletching.errors import CorruptObjectError, NotFoundError, ObjectNotFoundError
from fletching.objects.store import ObjectStore, StoredObject
from fletching.protocol.http.layers import blob_read_encoder, blob_read_is_framed
from fletching.types import TableName
from fletching.wire import blob_frames, crc32c_blocks
from fletching.wire.content_coding import ContentCoding
from fletching.wire.stored_blobs import stored_list, stored_list_bytes

__all__ = ["BlobReadPlan", "BlobRecord", "Packs", "plan_reply"]

WINDOW_BYTES = 8 << 20
"""Data looked at together; a larger blob is passed through by slices."""
WINDOW_BLOBS = 4096
GAP_BYTES = 64 << 10
"""Unwanted bytes between two ranges that cost less to read than a second read."""
SLICE_BYTES = 1 << 20
"""A large blob is encoded and sent by slices of this size."""
OPEN_PACKS = 64
RESIDENT_SAMPLES = 4
"""Blobs of a window and a pack of which it is asked whether their pages are there."""
_OFFSET = operator.attrgetter("offset")
_END = operator.attrgetter("end")
JOINED_BYTES = 256 << 10
"""Frames of small blobs are put together up to this size before they are encoded."""
SENT_BYTES = 8 << 10
"""A stored blob of this size or more is handed to the socket as it lies in its pack; to say where it is
takes as long as to copy a smaller one."""


@dataclasses.dataclass(frozen=True, slots=True)
class BlobRecord:
    """One blob's bytes, or the first piece of a large one.

    ``header`` is the JSON of its metadata; ``pieces`` yields the data as views of the pack, verified
    as the module says.
    """

    reference: BlobReference
    header: bytes
    pieces: Iterator[memoryview]


class Packs:
    """Opens packs and keeps the ones used last open. For one thread at a time."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._open: OrderedDict[str, StoredObject] = OrderedDict()

    def get(self, reference: BlobReference) -> StoredObject:
        """The pack of a reference, open.

        Raises:
            NotFoundError: the pack is gone: its blobs were collected.
            CorruptObjectError: the pack is shorter than the reference says.
        """
        key = pack_key(reference.table_id, reference.pack)
        pack = self._open.get(key)
        if pack is None:
            try:
                pack = self._store.open(key)
            except ObjectNotFoundError as error:
                raise NotFoundError("the blob is not there any more: it was collected") from error
            self._open[key] = pack
            if len(self._open) > OPEN_PACKS:
                self._open.popitem(last=False)[1].close()
        else:
            self._open.move_to_end(key)
        if reference.end > pack.length:
            raise CorruptObjectError(
                f"{key} has {pack.length} bytes where a blob ends at {reference.end}", key=key
            )
        return pack

    def load(self, pack: StoredObject, start: int, end: int) -> memoryview:
        """A range: mapped if its pages are there, else read, so that using it does not wait."""
        return pack.view(start, end) if pack.resident(start, end) else pack.read(start, end)

    def close(self) -> None:
        """Closes them; views stay valid."""
        for pack in self._open.values():
            pack.close()
        self._open.clear()


def _windows(references: Sequence[BlobReference]) -> Iterator[Sequence[BlobReference]]:
    """Runs of references whose records together are no larger than a window; a larger one alone."""
    start = size = 0
    for position, reference in enumerate(references):
        _, _, _, metadata, data, _ = reference
        length = metadata + data
        full = size + length > WINDOW_BYTES or position - start >= WINDOW_BLOBS
        if full and position > start:
            yield references[start:position]
            start, size = position, 0
        size += length
    if start < len(references):
        yield references[start:]


def read_records(packs: Packs, references: Sequence[BlobReference]) -> Iterator[BlobRecord]:
    """The blobs of the references in order; blocks.

    Raises:
        NotFoundError, CorruptObjectError: as for `Packs.get`, or a checksum disagrees.
    """
    for window in _windows(references):
        if len(window) == 1 and window[0].length > WINDOW_BYTES:
            yield _large(packs, window[0])
        else:
            yield from _small(packs, window)


def _large(packs: Packs, reference: BlobReference) -> BlobRecord:
    pack = packs.get(reference)
    header = read_header(packs.load(pack, reference.offset, reference.data_start), pack.key)

    def pieces() -> Iterator[memoryview]:
        checksum = 0
        for start in range(reference.data_start, reference.end, SLICE_BYTES):
            # Read, not mapped: the encoder copies anyway, and a mapping of it all would only count
            # as memory of ours.
            piece = pack.read(start, min(start + SLICE_BYTES, reference.end))
            checksum = crc32c(piece, checksum)
            yield piece
        _compare(reference, checksum, pack)

    return BlobRecord(reference, header, pieces())


def read_contents(packs: Packs, references: Sequence[BlobReference]) -> Iterator[bytes]:
    """The data of the blobs in order, each whole and by itself; blocks.

    For readers that want nothing else, of many blobs: a few microseconds for each and its copy.

    Raises:
        NotFoundError, CorruptObjectError: as `read_records`.
    """
    for window in _windows(references):
        if len(window) == 1 and window[0].length > WINDOW_BYTES:
            yield b"".join(_large(packs, window[0]).pieces)
            continue
        for reference, (record, key) in zip(window, _views(packs, window), strict=True):
            _, _, _, metadata, _, checksum = reference
            data = record[metadata:]
            if crc32c(data) != checksum:
                raise _corrupt(reference, key)
            # A copy: a blob that is kept must not keep the pack's mapping, or all that was read with it.
            yield bytes(data)


def read_stored(packs: Packs, references: Sequence[BlobReference]) -> Iterator[memoryview]:
    """The records of the blobs in order, as they are stored: metadata, then data; blocks.

    Nothing is looked at: who gets them verifies them. A record comes in pieces if it is large.

    Raises:
        NotFoundError, CorruptObjectError: as for `Packs.get`.
    """
    for window in _windows(references):
        if len(window) == 1 and window[0].length > WINDOW_BYTES:
            pack = packs.get(window[0])
            for start in range(window[0].offset, window[0].end, SLICE_BYTES):
                yield packs.load(pack, start, min(start + SLICE_BYTES, window[0].end))
            continue
        for record, _ in _views(packs, window):
            yield record


def _is_resident(pack: StoredObject, wanted: Sequence[BlobReference]) -> bool:
    """Whether the pages of blobs are there, to judge by some of them.

    To ask of each takes longer than to copy a small one, and what was put together is in memory
    together, or not. A wrong guess waits for a page, as any use of memory may.
    """
    step = max(1, len(wanted) // RESIDENT_SAMPLES)
    return all(pack.resident(each.offset, each.end) for each in wanted[::step])


def _small(packs: Packs, window: Sequence[BlobReference]) -> Iterator[BlobRecord]:
    for reference, (view, key) in zip(window, _views(packs, window), strict=True):
        header = read_header(view[: reference.metadata_length], key)
        data = view[reference.metadata_length :]
        checksum = crc32c(data)
        if checksum != reference.crc32c:
            raise _corrupt(reference, key)
        yield BlobRecord(reference, header, iter([data]))


def _views(packs: Packs, window: Sequence[BlobReference]) -> list[tuple[memoryview, str]]:
    """The records of a window in its order, and the keys of their packs."""
    by_pack: dict[str, list[int]] = {}
    for index, (_, pack_id, *_) in enumerate(window):
        by_pack.setdefault(pack_id, []).append(index)
    result: list[tuple[memoryview, str]] = [(memoryview(b""), "")] * len(window)
    for indices in by_pack.values():
        wanted = [window[index] for index in indices]
        pack = packs.get(max(wanted, key=_END))
        if _is_resident(pack, wanted):
            # One view for all: to make one takes as long as to copy a small blob.
            first = min(wanted, key=_OFFSET).offset
            view = pack.view(first, max(wanted, key=_END).end)
            for index, (_, _, offset, metadata, length, _) in zip(indices, wanted, strict=True):
                start = offset - first
                result[index] = view[start : start + metadata + length], pack.key
            continue
        read = {
            reference: part[reference.offset - start : reference.end - start]
            for run, start, end in _merged(sorted(set(wanted), key=_OFFSET))
            for part in [packs.load(pack, start, end)]
            for reference in run
        }
        for index, reference in zip(indices, wanted, strict=True):
            result[index] = read[reference], pack.key
    return result


def _merged(
    ordered: Sequence[BlobReference],
) -> Iterator[tuple[Sequence[BlobReference], int, int]]:
    """Runs of references, sorted by offset, with the one range that covers each run."""
    first = 0
    start, end = ordered[0].offset, ordered[0].end
    for position, reference in enumerate(ordered):
        if reference.offset - end > GAP_BYTES:
            yield ordered[first:position], start, end
            first, start = position, reference.offset
            end = reference.end
        end = max(end, reference.end)
    yield ordered[first:], start, end


def _compare(reference: BlobReference, checksum: int, pack: StoredObject) -> None:
    if checksum != reference.crc32c:
        raise _corrupt(reference, pack.key)


def _corrupt(reference: BlobReference, key: str) -> CorruptObjectError:
    return CorruptObjectError(
        f"the blob at {reference.offset} of {key} disagrees with its checksum", key=key
    )


@dataclasses.dataclass(frozen=True, slots=True)
class BlobReadPlan:
    """A whole BlobRead reply.

    Attributes:
        coding: of the payload.
        framed: whether the payload is frames.
        stored: whether the reply is stored blobs instead (`fletching.wire.stored_blobs`), without any layer.
        references: of the blobs, in order.
        buffers: makes the reply's buffers, in order; blocks while iterated. Buffers are memory of
            their own, with the checksums between the data; or, of stored blobs, views of their packs.
        records: makes the same blobs without any layer, for readers in the same process.
        contents: likewise, of nothing but their data.
        packs: opens the packs, one after the other: of each a blob in it and its number. A pack is open until
            the next is asked for.
        tables: whose blobs these are, for whoever decides on access.
    """

    coding: ContentCoding
    framed: bool
    stored: bool
    references: Sequence[BlobReference]
    buffers: Callable[[], Iterator[Buffer]]
    records: Callable[[], Iterator[BlobRecord]]
    contents: Callable[[], Iterator[bytes]]
    packs: Callable[[], Iterator[tuple[int, BlobReference, StoredObject]]]
    tables: tuple[TableName, ...] = ()

    @property
    def framing(self) -> str:
        """The word for how the blobs follow each other in the reply."""
        return "stored" if self.stored else "frames" if self.framed else "raw"

    @property
    def length(self) -> int | None:
        """Bytes of the reply; None under a coding."""
        if self.coding is not ContentCoding.IDENTITY:
            return None
        if self.stored:
            return stored_list_bytes(len(self.references)) + sum(
                each.metadata_length + each.length for each in self.references
            )
        if not self.framed:
            return crc32c_blocks.framed_length(self.references[0].length)
        return crc32c_blocks.framed_length(
            sum(
                blob_frames.frame_length(each.metadata_length - CHECKSUM_BYTES, each.length)
                for each in self.references
            )
        )


def plan_reply(
    store: ObjectStore,
    references: Sequence[BlobReference],
    coding: ContentCoding,
    *,
    framed: bool = False,
    stored: bool = False,
) -> BlobReadPlan:
    """Plans a reply; finds out that every blob is there before anything is sent.

    ``framed`` frames a single blob, too; ``stored`` sends stored blobs, unless a coding is wanted.

    Raises:
        NotFoundError: a blob was collected.
        CorruptObjectError: a pack is shorter than it was.
    """
    _check_present(store, references)
    framed = framed or blob_read_is_framed(len(references))
    stored = stored and coding is ContentCoding.IDENTITY

    def records() -> Iterator[BlobRecord]:
        packs = Packs(store)
        try:
            yield from read_records(packs, references)
        finally:
            packs.close()

    def contents() -> Iterator[bytes]:
        packs = Packs(store)
        try:
            yield from read_contents(packs, references)
        finally:
            packs.close()

    def opened() -> Iterator[tuple[int, BlobReference, StoredObject]]:
        named: set[str] = set()
        packs = Packs(store)
        try:
            for number, reference in enumerate(references):
                if reference.pack not in named:
                    named.add(reference.pack)
                    yield number, reference, packs.get(reference)
        finally:
            packs.close()

    def as_stored() -> Iterator[Buffer]:
        yield stored_list((each.metadata_length, each.crc32c, each.length) for each in references)
        packs = Packs(store)
        try:
            yield from _joined(read_stored(packs, references), small_bytes=SENT_BYTES)
        finally:
            packs.close()

    def buffers() -> Iterator[Buffer]:
        if stored:
            yield from as_stored()
            return
        encoder = blob_read_encoder(coding)
        for payload in _joined(_payload(records(), framed=framed)):
            yield from encoder.encode(payload)
        yield from encoder.finish()

    return BlobReadPlan(coding, framed, stored, references, buffers, records, contents, opened)


def _payload(records: Iterator[BlobRecord], *, framed: bool) -> Iterator[Buffer]:
    if not framed:
        for record in records:
            yield from record.pieces
        return
    frames = blob_frames.Encoder()
    for record in records:
        yield from frames.start(record.header, record.reference.length)
        for piece in record.pieces:
            yield from frames.data(piece)
        yield from frames.end()


def _joined(payload: Iterator[Buffer], small_bytes: int = JOINED_BYTES) -> Iterator[Buffer]:
    """Small pieces joined: a copy, at the speed of memory, instead of three calls per small blob."""
    gathered = bytearray()
    for piece in payload:
        if memoryview(piece).nbytes >= small_bytes:
            if gathered:
                yield gathered
                gathered = bytearray()
            yield piece
            continue
        gathered += piece
        if len(gathered) >= JOINED_BYTES:
            yield gathered
            gathered = bytearray()
    if gathered:
        yield gathered


def _check_present(store: ObjectStore, references: Sequence[BlobReference]) -> None:
    last: dict[str, BlobReference] = {}
    ends: dict[str, int] = {}
    for reference in references:
        _, pack, offset, metadata, length, _ = reference
        end = offset + metadata + length
        if end > ends.get(pack, -1):
            ends[pack] = end
            last[pack] = reference
    packs = Packs(store)
    try:
        for reference in last.values():
            packs.get(reference)
    finally:
        packs.close()
