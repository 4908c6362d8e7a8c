"""Copies of a bucket's objects: fetched once, proven, bounded, shared; never believed by halves."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crc32c import crc32c
from tests.objects.bucket_contract import BucketContract

from fletching.errors import CorruptObjectError, StorageError
from fletching.objects.cached_store import MOST_FILLS, CachedStore
from fletching.objects.local_object import LocalObject
from fletching.objects.remote_store import RemoteStore
from fletching.objects.store import IDENTITY_KEY
from fletching.testing.contracts import put

obstore = pytest.importorskip("obstore")

MIB = 1 << 20
DATA = bytes(np.random.default_rng(7).integers(0, 256, 20 * MIB, np.uint8))
CHECKSUM = crc32c(DATA)


class Bucket(RemoteStore):
    """Counts bytes that are fetched, and may wait or lie."""

    def __init__(self) -> None:
        super().__init__(obstore.store.MemoryStore())
        self.fetched = 0
        self.release: threading.Event | None = None
        self.spoil: Callable[[bytes], bytes] | None = None
        put(self, IDENTITY_KEY, b"one store")

    def get_range(self, key: str, start: int, end: int) -> memoryview:
        if self.release is not None:
            assert self.release.wait(600)
        data = super().get_range(key, start, end)
        if key != IDENTITY_KEY:
            self.fetched += end - start
            if self.spoil is not None:
                data = memoryview(self.spoil(bytes(data)))
        return data


class TestContract(BucketContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Any]:
        store = CachedStore(RemoteStore(obstore.store.MemoryStore()), tmp_path, MIB)
        yield store
        store.close()


@pytest.fixture
def bucket() -> Bucket:
    bucket = Bucket()
    put(bucket, "tables/t/w-1", DATA)
    return bucket


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., CachedStore]]:
    made: list[CachedStore] = []

    def make(bucket: Bucket, capacity: int = 100 * MIB) -> CachedStore:
        made.append(CachedStore(bucket, tmp_path, capacity))
        return made[-1]

    yield make
    for store in made:
        store.close()


def opened(store: CachedStore, key: str = "tables/t/w-1", checksum: int = CHECKSUM) -> Any:
    return store.open(key, length=len(DATA), crc32c=checksum)


def stream(store: CachedStore, *where: Any, start: int = 0, end: int = len(DATA)) -> bytes:
    return b"".join(opened(store, *where).stream(start, end))


def wait_until_idle(store: CachedStore) -> None:
    """Waits until nothing is on its way."""
    for thread in threading.enumerate():
        if thread.name == "fletching-cache":
            thread.join(600)
    assert not store._fills


def copies(tmp_path: Path) -> list[Path]:
    root = tmp_path / "fletching-cache"
    return [path for path in root.rglob("*") if path.is_file() and path.name != "lock"]


def test_what_is_read_whole_is_fetched_once_and_mapped_then(
    bucket: Bucket, make: Callable[..., CachedStore]
) -> None:
    store = make(bucket)
    assert stream(store) == DATA
    wait_until_idle(store)
    assert bucket.fetched == len(DATA)
    again = opened(store)
    assert isinstance(again, LocalObject)
    assert again.key == "tables/t/w-1"
    assert bytes(again.view(0, len(DATA))) == DATA
    assert isinstance(opened(make(bucket)), LocalObject), "another process finds it"
    assert bucket.fetched == len(DATA)
    assert (store.hits, store.misses) == (1, 1)


def test_readers_at_once_share_what_comes(bucket: Bucket, make: Callable[..., CachedStore]) -> None:
    store = make(bucket)
    store.open("tables/t/w-1", length=len(DATA), crc32c=CHECKSUM)  # finds out which store it is
    bucket.release = threading.Event()
    got: list[bytes] = []
    threads = [threading.Thread(target=lambda: got.append(stream(store))) for _ in range(4)]
    for thread in threads:
        thread.start()
    bucket.release.set()
    for thread in threads:
        thread.join(600)
    assert got == [DATA] * 4
    wait_until_idle(store)
    assert bucket.fetched < 2 * len(DATA)


def test_a_part_comes_alone_the_first_time_and_all_of_it_the_second(
    bucket: Bucket, make: Callable[..., CachedStore]
) -> None:
    store = make(bucket)
    assert [bytes(view) for view in opened(store).fetch([(5, 10)])] == [DATA[5:10]]
    wait_until_idle(store)
    assert bucket.fetched == 5
    assert [bytes(view) for view in opened(store).fetch([(5, 10)])] == [DATA[5:10]]
    wait_until_idle(store)
    assert isinstance(opened(store), LocalObject)


def test_a_copy_that_is_not_what_was_written_is_none(
    bucket: Bucket, make: Callable[..., CachedStore], tmp_path: Path
) -> None:
    store = make(bucket)
    bucket.spoil = lambda data: data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(CorruptObjectError, match="not what was written"):
        stream(store)
    wait_until_idle(store)
    assert copies(tmp_path) == []
    bucket.spoil = None
    assert stream(store) == DATA


def test_a_copy_that_was_cut_is_fetched_anew(
    bucket: Bucket, make: Callable[..., CachedStore], tmp_path: Path
) -> None:
    store = make(bucket)
    stream(store)
    wait_until_idle(store)
    (copy,) = copies(tmp_path)
    os.truncate(copy, 1000)
    assert stream(make(bucket)) == DATA


def test_a_copy_that_is_cut_while_it_is_read_ends_the_read(
    bucket: Bucket, make: Callable[..., CachedStore], tmp_path: Path
) -> None:
    store = make(bucket)
    pieces = opened(store).stream(0, len(DATA))
    next(pieces)
    wait_until_idle(store)
    (copy,) = copies(tmp_path)
    os.truncate(copy, 1000)
    with pytest.raises(StorageError, match="was cut"):
        list(pieces)


def test_a_copy_that_is_disowned_is_fetched_anew(
    bucket: Bucket, make: Callable[..., CachedStore], tmp_path: Path
) -> None:
    store = make(bucket)
    stream(store)
    wait_until_idle(store)
    kept = opened(store)
    kept.disown()
    assert copies(tmp_path) == []
    assert bytes(kept.view(0, 9)) == DATA[:9]


def test_what_was_used_longest_ago_goes_first(
    bucket: Bucket, make: Callable[..., CachedStore], tmp_path: Path
) -> None:
    for number in (2, 3):
        put(bucket, f"tables/t/w-{number}", DATA)
    store = make(bucket, capacity=45 * MIB)
    for number in (1, 2):
        stream(store, f"tables/t/w-{number}")
        wait_until_idle(store)
    os.utime(next(path for path in copies(tmp_path) if path.name == "w-2"), (1, 1))
    stream(store, "tables/t/w-3")
    wait_until_idle(store)
    assert sorted(path.name for path in copies(tmp_path)) == ["w-1", "w-3"]
    assert sum(path.stat().st_size for path in copies(tmp_path)) <= 45 * MIB


def test_a_copy_that_went_leaves_its_room(
    bucket: Bucket, make: Callable[..., CachedStore], tmp_path: Path
) -> None:
    """By this store or by another process: what is kept mapped for the next reader is on the disk still."""
    for number in (2, 3):
        put(bucket, f"tables/t/w-{number}", DATA)
    store = make(bucket, capacity=len(DATA) + MIB)

    def kept() -> int:
        assert store._files is not None
        assert store._files._mappings is not None
        return len(store._files._mappings)

    for number in (1, 2):
        stream(store, f"tables/t/w-{number}")
        wait_until_idle(store)
        copy = opened(store, f"tables/t/w-{number}")
        assert bytes(copy.view(0, 10)) == DATA[:10]
        copy.close()
        assert kept() == 1
    (path,) = copies(tmp_path)
    path.unlink()
    stream(store, "tables/t/w-3")
    wait_until_idle(store)
    assert kept() == 0


def test_using_a_copy_leaves_it_the_file_that_was_proven(
    bucket: Bucket, make: Callable[..., CachedStore], tmp_path: Path
) -> None:
    """What is known of a file holds while its times do: a use that sets them has everything proven again."""
    store = make(bucket)
    stream(store)
    wait_until_idle(store)
    identities = set()
    for _ in range(3):
        opened = store.open("tables/t/w-1", length=len(DATA), crc32c=crc32c(DATA))
        assert isinstance(opened, LocalObject)
        identities.add(opened.identity)
        opened.close()
    assert len(identities) == 1
    (path,) = copies(tmp_path)
    os.utime(path, (1, 1))
    store.open("tables/t/w-1", length=len(DATA), crc32c=crc32c(DATA)).close()
    assert path.stat().st_mtime > 1, "other processes see what has been used, if an hour late"


def test_a_use_that_the_disk_does_not_tell_of_counts(
    bucket: Bucket, make: Callable[..., CachedStore], tmp_path: Path
) -> None:
    for number in (2, 3):
        put(bucket, f"tables/t/w-{number}", DATA)
    store = make(bucket, capacity=45 * MIB)
    for number in (1, 2):
        stream(store, f"tables/t/w-{number}")
        wait_until_idle(store)
    opened(store, "tables/t/w-1").close()
    stream(store, "tables/t/w-3")
    wait_until_idle(store)
    assert sorted(path.name for path in copies(tmp_path)) == ["w-1", "w-3"]


def test_what_does_not_fit_is_read_past_it(
    bucket: Bucket, make: Callable[..., CachedStore], tmp_path: Path
) -> None:
    store = make(bucket, capacity=MIB)
    assert stream(store) == DATA
    wait_until_idle(store)
    assert copies(tmp_path) == []


def test_what_a_dead_process_left_is_no_copy_and_goes(
    bucket: Bucket, make: Callable[..., CachedStore], tmp_path: Path
) -> None:
    store = make(bucket)
    filling = tmp_path / "fletching-cache" / ".filling"
    dead, living = filling / "dead", filling / "living"
    dead.write_bytes(DATA[:MIB])
    with living.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert stream(store) == DATA
        wait_until_idle(store)
        assert not dead.exists()
        assert living.exists()


def test_stores_that_share_a_folder_do_not_share_copies(
    bucket: Bucket, make: Callable[..., CachedStore]
) -> None:
    stream(make(bucket))
    other = Bucket()
    obstore.put(other._store, IDENTITY_KEY, b"another store")
    changed = bytes(len(DATA))
    put(other, "tables/t/w-1", changed)
    store = make(other)
    assert stream(store, "tables/t/w-1", crc32c(changed)) == changed


def test_a_folder_that_fails_costs_nothing_but_the_copies(
    bucket: Bucket, make: Callable[..., CachedStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(bucket)
    opened(store)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        assert stream(store) == DATA
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        assert stream(store) == DATA
        wait_until_idle(store)
    assert stream(store) == DATA


def test_a_folder_that_is_removed_under_an_open_store_comes_back(
    bucket: Bucket, make: Callable[..., CachedStore], tmp_path: Path
) -> None:
    store = make(bucket)
    stream(store)
    wait_until_idle(store)
    kept = store.open("tables/t/w-1", length=len(DATA), crc32c=crc32c(DATA))
    shutil.rmtree(tmp_path / "fletching-cache")
    assert bytes(kept.view(0, len(DATA))) == DATA, "a mapping outlives its name"
    assert stream(store) == DATA
    wait_until_idle(store)
    assert [path.name for path in copies(tmp_path)] == ["w-1"]
    kept.close()


def test_a_folder_that_is_removed_while_a_copy_comes(
    bucket: Bucket, make: Callable[..., CachedStore], tmp_path: Path
) -> None:
    store = make(bucket)
    pieces = opened(store).stream(0, len(DATA))
    first = bytes(next(pieces))
    while (tmp_path / "fletching-cache").exists():
        # Again where what comes has made a folder of it just now.
        shutil.rmtree(tmp_path / "fletching-cache", ignore_errors=True)
    assert first + b"".join(pieces) == DATA
    wait_until_idle(store)
    assert stream(store) == DATA


def test_a_disk_that_is_gone_is_not_made_up_for(
    bucket: Bucket, make: Callable[..., CachedStore], tmp_path: Path
) -> None:
    """A folder in its place would fill the disk above it."""
    store = make(bucket)
    opened(store)
    shutil.rmtree(tmp_path)
    assert stream(store) == DATA
    wait_until_idle(store)
    assert not tmp_path.exists()
    tmp_path.mkdir()


def test_a_folder_that_cannot_be(bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cache folder"):
        CachedStore(bucket, tmp_path / "file", MIB)


def test_so_many_come_at_once_and_none_once_it_is_closed(
    bucket: Bucket, make: Callable[..., CachedStore]
) -> None:
    store = make(bucket)
    opened(store)
    bucket.release = threading.Event()
    for number in range(MOST_FILLS + 1):
        put(bucket, f"tables/t/w-{number + 2}", DATA[:MIB])
    objects = [bucket.open(f"tables/t/w-{n + 2}", length=MIB) for n in range(MOST_FILLS + 1)]
    fills = [store.fill(each, crc32c(DATA[:MIB])) for each in objects]
    assert [fill is not None for fill in fills] == [True] * MOST_FILLS + [False]
    assert store.fill(objects[0], crc32c(DATA[:MIB])) is fills[0]
    bucket.release.set()
    wait_until_idle(store)
    store.close()
    assert store.fill(objects[-1], crc32c(DATA[:MIB])) is None


def test_closing_gives_up_what_is_coming(
    bucket: Bucket, make: Callable[..., CachedStore], tmp_path: Path
) -> None:
    store = make(bucket)
    opened(store)
    bucket.release = threading.Event()
    fill = store.fill(bucket.open("tables/t/w-1", length=len(DATA)), CHECKSUM)
    assert fill is not None
    store.close()
    bucket.release.set()
    for thread in threading.enumerate():
        if thread.name == "fletching-cache":
            thread.join(600)
    assert copies(tmp_path) == []


def test_a_disk_without_room_for_a_copy_leaves_nothing_of_it(
    bucket: Bucket,
    make: Callable[..., CachedStore],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(os, "posix_fallocate", full)
    opened_before = len(list(Path("/proc/self/fd").iterdir()))
    store = make(bucket)
    assert stream(store) == DATA
    wait_until_idle(store)
    assert copies(tmp_path) == []
    assert (
        len(list(Path("/proc/self/fd").iterdir())) <= opened_before + 2
    )  # the lock of the folder's writer
    assert stream(store) == DATA
    assert caplog.text.count("no room") == 1, "not once for each read"
    monkeypatch.undo()
    assert stream(store) == DATA
    wait_until_idle(store)
    assert len(copies(tmp_path)) == 1


def test_a_system_that_cannot_set_room_aside_still_gives_the_file_its_length(
    bucket: Bucket,
    make: Callable[..., CachedStore],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    store = make(bucket)
    assert stream(store) == DATA
    wait_until_idle(store)
    (copy,) = copies(tmp_path)
    assert copy.stat().st_size == len(DATA)


def test_what_is_coming_counts_as_used(bucket: Bucket, make: Callable[..., CachedStore]) -> None:
    """Of two objects that fit one at a time, the second is not copied while the first is fetched."""
    put(bucket, "tables/t/w-2", DATA)
    store = make(bucket, capacity=len(DATA) + MIB)
    stored_first = opened(store)
    bucket.release = threading.Event()
    first = stored_first.stream(0, len(DATA))
    thread = threading.Thread(target=lambda: b"".join(first))
    thread.start()
    while not store._fills:
        time.sleep(0.001)
    stored = bucket.open("tables/t/w-2", length=len(DATA))
    assert store.fill(stored, CHECKSUM) is None
    bucket.release.set()
    thread.join(600)
    wait_until_idle(store)
    assert store.fill(stored, CHECKSUM) is not None  # the older copy goes
    wait_until_idle(store)


def test_a_process_that_freezes_while_it_makes_room_keeps_nobody(
    bucket: Bucket,
    make: Callable[..., CachedStore],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("fletching.objects.cached_store.ROOM_SECONDS", 0.02)
    put(bucket, "tables/t/w-2", DATA)
    store = make(bucket)
    assert stream(store) == DATA
    wait_until_idle(store)
    with (tmp_path / "fletching-cache" / "lock").open("rb") as frozen:
        fcntl.flock(frozen, fcntl.LOCK_EX)
        assert isinstance(opened(store), LocalObject), "what is there is read"
        for _ in range(2):
            assert stream(store, "tables/t/w-2") == DATA, "what is not comes past the folder"
        assert len(copies(tmp_path)) == 1
        assert caplog.text.count("holds the cache folder") == 1, "it is not waited for each time"
    store._busy_until = 0.0
    assert stream(store, "tables/t/w-2") == DATA
    wait_until_idle(store)
    assert len(copies(tmp_path)) == 2
