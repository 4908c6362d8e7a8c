"""Reads the contents of BLOB columns again and again, without a request for packs that are open already.

For whoever reads many batches of one snapshot, as a training does. A reference tells where in which pack its
blob is. So once the service has passed a pack, for which it looked at what its caller may read, every
other blob of the pack is a read of that file, and its checksum; in later epochs nobody is asked for anything,
and what has been in memory since its checksum was compared is not compared again (docs/durability.md).
"""

from __future__ import annotations

import mmap
import operator
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence

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
        numbers: dict[bytes, list[int]] = {}
        for number, name in enumerate(locations.packs):
            numbers.setdefault(name, []).append(number)
        packs = self._opened(numbers)
        if not packs and numbers:
            return self._asked(column)
        missing = [number for name in numbers if name not in packs for number in numbers[name]]
        asked: Iterator[bytes | None] = iter(())
        if missing:
            asked = self._asked(column.take(pa.array(sorted(missing), pa.int64())))
        self._account(sum(locations.lengths))
        ends = list(map(operator.add, locations.starts, locations.lengths))
        ranges = list(zip(locations.starts, ends, strict=True))
        mappings = {}
        for name, pack in packs.items():
            mapping = pack.mapped([ranges[number] for number in numbers[name]])
            if mapping is not None:
                mappings[name] = mapping
        if len(mappings) == len(numbers) and all(
            max(ends[number] for number in numbers[name]) <= pack.length
            and pack.checked.issuperset([locations.tokens[number] for number in numbers[name]])
            for name, pack in packs.items()
        ):
            named = zip(locations.packs, ranges, strict=True)
            return (mappings[name][start:end] for name, (start, end) in named)
        return self._read(column, locations, packs, mappings, asked)

    def _read(
        self,
        column: pa.ChunkedArray,
        locations: BlobLocations,
        packs: Mapping[bytes, OpenPack],
        mappings: Mapping[bytes, mmap.mmap],
        asked: Iterator[bytes | None],
    ) -> Iterator[bytes | None]:
        for number, (name, start, length, checksum, token) in enumerate(
            zip(
                locations.packs,
                locations.starts,
                locations.lengths,
                locations.checksums,
                locations.tokens,
                strict=True,
            )
        ):
            pack = packs.get(name)
            if pack is None:
                yield next(asked)
                continue
            mapping = mappings.get(name)
            try:
                data = (
                    pack.read(start, length) if mapping is None else mapping[start : start + length]
                )
                if len(data) == length and (token in pack.checked or crc32c(data) == checksum):
                    pack.checked.add(token)
                    yield data
                    continue
            except CorruptObjectError:
                pass
            self._forget(name)
            # The service has another copy of it, or says what is damaged.
            yield next(self._asked(column.slice(number, 1)))

    def _asked(self, column: pa.ChunkedArray) -> Iterator[bytes | None]:
        return contents_ahead(self._channel, self._project, column, replied=self._learn)

    def _opened(self, names: Collection[bytes]) -> dict[bytes, OpenPack]:
        with self._lock:
            there = {name: self._packs[name] for name in names if name in self._packs}
            for name in there:
                self._packs.move_to_end(name)
            return there

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
