from __future__ import annotations

from collections.abc import Generator, Iterable

import pytest

from fletching.errors import CorruptObjectError, ObjectNotFoundError, UsageError
from fletching.objects.range_fetching import Get
from fletching.objects.remote_object import SLICE_BYTES, RemoteObject

DATA = bytes(range(256)) * 40


class Shelf:
    """A store of one object, which counts what it is asked for."""

    def __init__(self, data: bytes | None = DATA) -> None:
        self.data = data
        self.asked: list[tuple[int, int]] = []

    def get_range(self, key: str, start: int, end: int) -> memoryview:
        if self.data is None:
            raise ObjectNotFoundError(f"there is no object {key}", key=key)
        self.asked.append((start, end))
        return memoryview(self.data)[start:end]

    def fetch(
        self, get: Get, ranges: Iterable[tuple[int, int]], *, ahead: bool, bytes_per_request: int
    ) -> Generator[memoryview, None, None]:
        del ahead, bytes_per_request
        for start, end in ranges:
            yield get(start, end)


def test_ranges_are_what_was_asked_for() -> None:
    shelf = Shelf()
    with RemoteObject(shelf, "k", len(DATA)) as remote:
        assert remote.read(3, 9) == DATA[3:9]
        assert len(remote.view(0, 0)) == 0
        assert list(remote.fetch([(1, 2), (4, 8)])) == [DATA[1:2], DATA[4:8]]
        assert not remote.resident(0, 9)
    assert shelf.asked == [(3, 9), (1, 2), (4, 8)]


def test_long_ranges_come_in_slices() -> None:
    data = bytes(2 * SLICE_BYTES + 5)
    remote = RemoteObject(Shelf(data), "k", len(data))
    assert [len(piece) for piece in remote.stream(0, len(data))] == [SLICE_BYTES, SLICE_BYTES, 5]


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (5, 4), (0, len(DATA) + 1)])
def test_nothing_outside_is_asked_for(start: int, end: int) -> None:
    shelf = Shelf()
    remote = RemoteObject(shelf, "k", len(DATA))
    with pytest.raises(UsageError, match="outside"):
        remote.read(start, end)
    with pytest.raises(UsageError, match="outside"):
        list(remote.fetch([(start, end)]))
    assert not shelf.asked


def test_a_closed_object_is_not_read() -> None:
    remote = RemoteObject(Shelf(), "k", len(DATA))
    remote.close()
    with pytest.raises(UsageError, match="closed"):
        remote.read(0, 1)


def test_what_the_catalog_lists_and_is_missing_is_damage() -> None:
    with pytest.raises(CorruptObjectError, match="segment k, which the catalog lists, is missing"):
        RemoteObject(Shelf(None), "k", 10, trusted=True).read(0, 1)
    with pytest.raises(ObjectNotFoundError):
        RemoteObject(Shelf(None), "k", 10).read(0, 1)
