"""One object of a bucket, read by ranges.

What it is read from is `RangeStore`: of a store it takes two methods, so that whoever keeps objects
elsewhere (`cached_store`) reads those of a bucket through the same class.

A small one may be fetched whole, and is then held in memory.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import Protocol, Self

from fletching.errors import CorruptObjectError, ObjectNotFoundError, UsageError
from fletching.objects.range_fetching import Get, slices
from fletching.range_joining import BYTES_PER_REQUEST

__all__ = ["SLICE_BYTES", "HeldObject", "RangeStore", "RemoteObject"]

SLICE_BYTES = 4 << 20
"""How much of a long range is handed out at once."""


class RangeStore(Protocol):
    """A store that gives ranges of its objects; see `remote_store.RemoteStore`."""

    def get_range(self, key: str, start: int, end: int) -> memoryview:
        """Fetches a range that is not empty, in one request."""

    def fetch(
        self, get: Get, ranges: Iterable[tuple[int, int]], *, ahead: bool, bytes_per_request: int
    ) -> Generator[memoryview, None, None]:
        """Fetches ranges in few requests, several at a time, in the order given."""


class RemoteObject:
    """An object in a bucket; every range is a request. See ``StoredObject``."""

    def __init__(self, store: RangeStore, key: str, length: int, *, trusted: bool = False) -> None:
        """Takes what is known.

        Args:
            store: where it is.
            key: its name there.
            length: bytes.
            trusted: whether somebody's word is all that is known of it: then it is damage, and not
                a question that was answered, if it is not there.
        """
        self.key = key
        self.length = length
        self._store = store
        self._trusted = trusted
        self._closed = False

    def view(self, start: int, end: int) -> memoryview:
        """Fetches the range; nothing is mapped here."""
        return self.read(start, end)

    def read(self, start: int, end: int) -> memoryview:
        """Fetches the range into memory of its own; see ``StoredObject``."""
        self._check(start, end)
        return self._get(start, end) if start < end else memoryview(b"")

    def fetch(
        self,
        ranges: Iterable[tuple[int, int]],
        *,
        ahead: bool = True,
        bytes_per_request: int = BYTES_PER_REQUEST,
    ) -> Generator[memoryview, None, None]:
        """Fetches ranges in few requests, several at a time, in the order given; blocks.

        Args:
            ranges: asked for as they are needed.
            ahead: whether those that follow are fetched before they are wanted.
            bytes_per_request: how many bytes between two ranges are worth a request (``join_ranges``).

        Raises:
            CorruptObjectError: the object is not there, or shorter than it was.
            StorageError: the store failed.
        """
        return self._store.fetch(
            self._get, self._checked(ranges), ahead=ahead, bytes_per_request=bytes_per_request
        )

    def stream(self, start: int, end: int) -> Generator[memoryview, None, None]:
        """Fetches a range piece by piece, ahead of whoever takes them; as ``fetch``."""
        return self.fetch(slices(start, end, SLICE_BYTES))

    def _checked(self, ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        for start, end in ranges:
            self._check(start, end)
            yield start, end

    def _check(self, start: int, end: int) -> None:
        if self._closed:
            raise UsageError(f"object {self.key} is closed")
        if not 0 <= start <= end <= self.length:
            raise UsageError(f"bytes {start}..{end} are outside object {self.key} of {self.length}")

    def _get(self, start: int, end: int) -> memoryview:
        try:
            return self._store.get_range(self.key, start, end)
        except ObjectNotFoundError as error:
            if not self._trusted:
                raise
            raise CorruptObjectError(
                f"segment {self.key}, which the catalog lists, is missing", key=self.key
            ) from error

    def resident(self, start: int, end: int) -> bool:
        """Never: a network is in between."""
        del start, end
        return False

    def load(self, start: int, end: int) -> None:
        """Does nothing: there is no cache that the range could be brought into."""

    def close(self) -> None:
        """Ends the use of this object; see ``StoredObject``."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class HeldObject:
    """An object's bytes in memory. See ``StoredObject``."""

    def __init__(self, key: str, data: memoryview) -> None:
        self.key = key
        self.length = data.nbytes
        self._data = data

    def view(self, start: int, end: int) -> memoryview:
        """A part of the bytes."""
        return self._data[start:end]

    def read(self, start: int, end: int) -> memoryview:
        """The same: nothing can change them."""
        return self._data[start:end]

    def resident(self, start: int, end: int) -> bool:
        """Always."""
        del start, end
        return True

    def load(self, start: int, end: int) -> None:
        """Does nothing: they are here."""

    def close(self) -> None:
        """Holds nothing but memory."""
