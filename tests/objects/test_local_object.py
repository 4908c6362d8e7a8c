"""One file opened for reading: what is borrowed, what is read, and what a shrunken file costs."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fletching.errors import CorruptObjectError, StorageError, UsageError
from fletching.objects.local_object import LocalObject
from fletching.objects.mappings import Mappings

MIB = 1 << 20
DATA = np.random.default_rng(3).integers(0, 256, 3 * MIB + 5, np.uint8).tobytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def opened(path: Path, tmp_path: Path) -> Iterator[Callable[..., LocalObject]]:
    made: list[LocalObject] = []
    mappings = Mappings(tmp_path)

    def opened(*, mapped: bool = True, length: int = len(DATA)) -> LocalObject:
        descriptor = os.open(path, os.O_RDONLY)
        made.append(LocalObject("k", descriptor, length, mappings=mappings if mapped else None))
        return made[-1]

    yield opened
    for each in made:
        each.close()
    mappings.clear()


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize(("start", "end"), [(0, len(DATA)), (5, 5), (0, 1), (4095, 4097)])
def test_bytes(opened: Callable[..., LocalObject], mapped: bool, start: int, end: int) -> None:
    stored = opened(mapped=mapped)
    for part in (stored.view(start, end), stored.read(start, end)):
        assert part == DATA[start:end]
        assert part.readonly


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize(("start", "end"), [(-1, 5), (6, 5), (0, len(DATA) + 1)])
def test_ranges_outside_are_refused(
    opened: Callable[..., LocalObject], mapped: bool, start: int, end: int
) -> None:
    stored = opened(mapped=mapped)
    for call in (stored.view, stored.read, stored.load):
        with pytest.raises(UsageError, match="outside"):
            call(start, end)


@pytest.mark.parametrize("mapped", [True, False])
def test_a_file_that_shrank_is_damage_and_says_so(
    opened: Callable[..., LocalObject], path: Path, mapped: bool
) -> None:
    stored = opened(mapped=mapped)
    os.truncate(path, MIB)
    assert stored.view(0, MIB) == DATA[:MIB]
    for call in (stored.view, stored.read, stored.load):
        with pytest.raises(CorruptObjectError, match=f"ends at byte {MIB}") as caught:
            call(MIB - 1, MIB + 1)
        assert caught.value.key == "k"


class Calls:
    """Stands in for preadv: gives a little at a time, notes what was asked."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.asked: list[tuple[int, int]] = []
        self._preadv = os.preadv

    def __call__(self, descriptor: int, buffers: Sequence[Any], offset: int, flags: int = 0) -> int:
        (buffer,) = buffers
        self.asked.append((offset, len(buffer)))
        return self._preadv(descriptor, [memoryview(buffer)[: self.most]], offset, flags)


def test_loading_reads_all_of_the_range_and_nothing_else(
    opened: Callable[..., LocalObject], monkeypatch: pytest.MonkeyPatch
) -> None:
    stored, calls = opened(), Calls(700_000)
    monkeypatch.setattr(os, "preadv", calls)
    advised: list[tuple[int, int]] = []
    monkeypatch.setattr(
        os, "posix_fadvise", lambda _, start, size, __: advised.append((start, size)), raising=False
    )
    end = 2 * MIB + 99
    stored.load(7, end)
    position = 7
    for offset, asked in calls.asked:
        assert offset == position
        assert asked == min(MIB, end - offset)
        position += min(asked, calls.most)
    assert position == end
    assert advised == [(end, end - 7)]  # what most likely comes next, as much again
    calls.asked.clear()
    stored.load(9, 9)
    assert calls.asked == []
    assert len(advised) == 1  # a length of 0 would mean the rest of the file


def test_advice_that_is_not_taken_loses_nothing(
    opened: Callable[..., LocalObject], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: int) -> None:
        raise OSError(errno.EINVAL, "no advice")

    monkeypatch.setattr(os, "posix_fadvise", refuses, raising=False)
    opened().load(0, 10)


@pytest.mark.parametrize("call", ["read", "load"])
def test_reads_that_come_short_go_on_and_failures_are_ours(
    opened: Callable[..., LocalObject], monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    stored = opened(mapped=False)
    monkeypatch.setattr(os, "preadv", Calls(1000))
    if call == "read":
        assert stored.read(5, 4321) == DATA[5:4321]
    monkeypatch.setattr(os, "preadv", lambda *_: 0)
    with pytest.raises(CorruptObjectError, match="ends at byte 5"):
        getattr(stored, call)(5, 6)

    def fails(*_: Any) -> int:
        raise OSError(errno.EIO, "a bad sector")

    monkeypatch.setattr(os, "preadv", fails)
    with pytest.raises(StorageError, match="reading k failed: a bad sector"):
        getattr(stored, call)(5, 6)


def test_what_is_resident_is_sampled_without_waiting(
    opened: Callable[..., LocalObject], monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = opened()
    asked: list[int] = []
    outcome: list[int | OSError] = []

    def preadv(_: int, buffers: Sequence[Any], offset: int, flags: int) -> int:
        assert flags == os.RWF_NOWAIT
        asked.append(offset)
        answer = outcome[0]
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(os, "preadv", preadv)
    outcome[:] = [1]
    assert stored.resident(10, 300_000)
    assert asked == [10, 10 + 128 * 1024, 10 + 256 * 1024, 299_999]
    asked.clear()
    assert stored.resident(10, 10)
    assert asked == []
    for answer, resident in (
        (0, False),
        (BlockingIOError(errno.EAGAIN, "would wait"), False),
        (OSError(errno.EOPNOTSUPP, "cannot tell"), True),
        (OSError(errno.EIO, "a bad sector"), False),
    ):
        outcome[:] = [answer]
        assert stored.resident(0, 1) is resident
    assert not opened(mapped=False).resident(0, 1)


def test_views_outlive_the_object_and_the_descriptor_does_not(
    opened: Callable[..., LocalObject],
) -> None:
    stored = opened()
    descriptor = stored.descriptor
    assert descriptor is not None
    assert os.pread(descriptor, 3, 0) == DATA[:3]
    with stored as same:
        assert same is stored
        view = stored.view(0, len(DATA))
    stored.close()
    assert view == DATA
    assert stored.descriptor is None
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(descriptor)
    for call in (stored.view, stored.read, stored.load):
        with pytest.raises(UsageError, match="closed"):
            call(0, 1)
    assert opened(mapped=False).descriptor is None


def test_an_empty_file_has_an_empty_view(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    mappings = Mappings(tmp_path)
    with LocalObject("e", os.open(path, os.O_RDONLY), 0, mappings=mappings) as stored:
        assert bytes(stored.view(0, 0)) == b""
        assert stored.resident(0, 0)
    mappings.clear()
