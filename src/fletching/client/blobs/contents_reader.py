"""Reads the contents of BLOB columns again and again, without a request for packs that are open already.

For whoever reads many batches of one snapshot, as a training does. A reference tells where in which pack its
blob is. So once the service has passed a pack, for which it looked at what its caller may read, every
other blob of the pack is a read of that file, and its checksum; in later epochs nobody is asked for anything,
and what has been in memory since its checksum was compared is not compared again (docs/durability.md).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence

import pyarrow as pa
from crc32c import crc32c

from fletching.client.blobs.blob_access import contents_ahead
from fletching.client.blobs.blob_transfers import BlobEvents
from fletching.client.blobs.open_pack import OpenPack
from fletching.client.transports.channel import Channel
from fletching.errors import CorruptObjectError
from fletching.protocol.types.blob_locations import BlobLocations, pack_of

__all__ = ["ContentsReader"]

KEPT_PACKS = 256
"""Each is a file descriptor, of which a process may have some thousand."""

MAPPED_BYTES = 1 << 30
"""Bytes of packs that are kept mapped at most, about."""

CHECKED_BLOBS = 1 << 18
"""Blobs that are remembered as compared with their checksums, about: each takes 120 bytes."""


class ContentsReader:
    """Reads blobs of one snapshot, and keeps their packs open. Thread-safe.

    It is for one snapshot, that its user keeps: in a pack that is open, blobs are read whatever has become of
    their rows in later versions.
    """

    def __init__(self, channel: Channel, project: str) -> None:
        """Reads by `channel` what it has not open."""
        self._channel = channel
        self._project = project
        self._packs: OrderedDict[bytes, OpenPack] = OrderedDict()
        self._mapped = 0
        self._lock = threading.Lock()

    def ahead(self, column: pa.ChunkedArray) -> Iterator[bytes | None]:
        """As `fletching.client.blobs.blob_access.contents_ahead`."""
        if not column.null_count:
            return self._contents(column)
        there = column.is_valid().to_pylist()
        indices = pa.array([n for n, each in enumerate(there) if each], pa.int64())
        contents = self._contents(column.take(indices))
        return (next(contents) if each else None for each in there)

    def _contents(self, column: pa.ChunkedArray) -> Iterator[bytes | None]:
        locations = BlobLocations.of(column)
        if locations is None:
            return self._asked(column)
        packs = self._opened(locations.packs)
        missing = [number for number, pack in enumerate(packs) if pack is None]
        if missing and len(missing) == len(packs):
            return self._asked(column)
        asked = self._asked(column.take(pa.array(missing, pa.int64()))) if missing else iter(())
        self._account(sum(locations.lengths))
        return self._read(column, locations, packs, _copiers(packs, locations), asked)

    def _read(
        self,
        column: pa.ChunkedArray,
        locations: BlobLocations,
        packs: Sequence[OpenPack | None],
        copiers: Mapping[OpenPack, Callable[[int, int], bytes]],
        asked: Iterator[bytes | None],
    ) -> Iterator[bytes | None]:
        for number, (pack, start, length, checksum, token) in enumerate(
            zip(
                packs,
                locations.starts,
                locations.lengths,
                locations.checksums,
                locations.tokens,
                strict=True,
            )
        ):
            if pack is None:
                yield next(asked)
                continue
            try:
                data = copiers[pack](start, length)
                if len(data) == length and (token in pack.checked or crc32c(data) == checksum):
                    pack.checked.add(token)
                    yield data
                    continue
            except CorruptObjectError:
                pass
            self._forget(locations.packs[number])
            # The service has another copy of it, or says what is damaged.
            yield next(self._asked(column.slice(number, 1)))

    def _asked(self, column: pa.ChunkedArray) -> Iterator[bytes | None]:
        return contents_ahead(self._channel, self._project, column, replied=self._learn)

    def _opened(self, names: Sequence[bytes]) -> list[OpenPack | None]:
        with self._lock:
            for name in set(names) & self._packs.keys():
                self._packs.move_to_end(name)
            return [self._packs.get(name) for name in names]

    def _account(self, count: int) -> None:
        """Bounds what of the packs is in the process's page tables, where it counts as its memory, or remembered."""
        with self._lock:
            packs = self._packs.values()
            self._mapped += count
            if self._mapped > MAPPED_BYTES:
                self._mapped = count
                for pack in packs:
                    pack.unmap()
            if sum(len(pack.checked) for pack in packs) > CHECKED_BLOBS:
                for pack in packs:
                    pack.checked.clear()

    def _learn(self, references: Sequence[str], events: BlobEvents) -> None:
        for number, pack, start in events.packs():
            name = pack_of(references[number], start)
            if name is not None:
                self._keep(name, pack)

    def _keep(self, name: bytes, pack: OpenPack) -> None:
        with self._lock:
            # One that was deleted keeps its disk space until it is closed.
            for key in [key for key, each in self._packs.items() if each.is_deleted]:
                del self._packs[key]
            self._packs[name] = pack
            if len(self._packs) > KEPT_PACKS:
                self._packs.popitem(last=False)

    def _forget(self, name: bytes) -> None:
        with self._lock:
            self._packs.pop(name, None)


def _copiers(
    packs: Sequence[OpenPack | None], locations: BlobLocations
) -> dict[OpenPack, Callable[[int, int], bytes]]:
    """What copies blobs out of each pack that is open."""
    by_pack: dict[OpenPack, list[tuple[int, int]]] = {}
    for pack, start, length in zip(packs, locations.starts, locations.lengths, strict=True):
        if pack is not None:
            by_pack.setdefault(pack, []).append((start, start + length))
    return {pack: pack.copier(ranges) for pack, ranges in by_pack.items()}
