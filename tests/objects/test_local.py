"""The local store: the contract, durability's order, dead writers, failing disks."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.failing_calls import FOLDER, Calls, failing_folder

from fletching.errors import (
    CorruptObjectError,
    FletchingError,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageError,
    StorageFullError,
    UsageError,
)
from fletching.objects.local import LocalSink, LocalStore
from fletching.testing.contracts import ObjectStoreContract, put


class TestMapped(ObjectStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[LocalStore]:
        store = LocalStore(tmp_path / "objects")
        yield store
        store.close()


class TestRead(ObjectStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[LocalStore]:
        store = LocalStore(tmp_path / "objects", mapped=False)
        yield store
        store.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    store = LocalStore(tmp_path / "objects")
    yield store
    store.close()


def staged(store: LocalStore) -> list[Path]:
    return [p for p in (store.root / ".staging").glob("*/*") if p.name != "lock"]


def test_an_absent_folder_is_an_error_unless_it_may_be_made(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no object folder"):
        LocalStore(tmp_path / "none", create=False)
    LocalStore(tmp_path / "a" / "b").close()
    LocalStore(tmp_path / "a" / "b", create=False).close()


def test_the_order_of_durability(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """File first, then the name, then the folders that hold it."""
    events: list[tuple[str, str]] = []
    real_fsync, real_link = os.fsync, os.link

    def fsync(descriptor: int) -> None:
        events.append(("fsync", str(Path(f"/proc/self/fd/{descriptor}").readlink())))
        real_fsync(descriptor)

    def link(source: Any, target: Any) -> None:
        events.append(("link", str(target)))
        real_link(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    put(store, "tables/t/a", b"x")
    kinds = [kind for kind, _ in events]
    linked = kinds.index("link")
    assert ".staging" in events[0][1]
    assert kinds[0] == "fsync"
    root = str(store.root)
    # the new folders' names in their parents, and the object's name in its folder
    assert {path for _, path in events[1:linked]} == {root, f"{root}/tables"}
    assert events[linked + 1 :] == [("fsync", f"{root}/tables/t")]
    events.clear()
    put(store, "tables/t/b", b"x")
    assert [kind for kind, _ in events] == ["fsync", "link", "fsync"]
    assert staged(store) == []


def test_a_new_folder_of_objects_is_durable_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut must not take the whole folder: its name, and those above, are in their parents."""
    synced: list[str] = []
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    root = tmp_path / "a" / "b" / "objects"
    LocalStore(root).close()
    assert set(synced) == {str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")}
    synced.clear()
    LocalStore(root).close()  # its maker may have died before it could
    assert synced == [str(tmp_path / "a" / "b")]


def write_and_commit(sink: LocalSink) -> None:
    sink.write(b"abc")
    sink.commit()


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StorageFullError),
        (errno.EDQUOT, StorageFullError),
        (errno.EIO, StorageError),
        (errno.EROFS, StorageError),
    ],
)
@pytest.mark.parametrize("call", ["writev", "fsync", "link"])
def test_a_failing_disk(
    store: LocalStore,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    number: int,
    kind: type[Exception],
) -> None:
    put(store, "a/before", b"x")

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    sink = store.create("a/b")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(kind) as caught:
            write_and_commit(sink)
        assert "a/b" in str(caught.value)
    sink.abort()
    assert staged(store) == []
    assert [info.key for info in store.list()] == ["a/before"]
    put(store, "a/b", b"after")  # the fault is gone, and so are its traces


def test_a_file_system_without_hard_links(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    put(store, "k", b"1")
    sink = store.create("k")
    with pytest.raises(ObjectExistsError):
        sink.commit()
    assert bytes(store.open("k").read(0, 1)) == b"1"
    assert staged(store) == []


def test_a_write_that_takes_less_than_it_was_given(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda fd, views: real(fd, [views[0][:3]]))
    sink = store.create("a")
    sink.write_many([b"abcdefgh", b"ij", b"klmnop"])
    assert sink.length == 16
    sink.commit()
    assert bytes(store.open("a").read(0, 16)) == b"abcdefghijklmnop"


def test_buffers_of_other_items_count_in_bytes(store: LocalStore) -> None:
    import array

    sink = store.create("a")
    sink.write(array.array("q", [1, 2, 3]))
    assert sink.length == 24
    sink.commit()


def test_views_are_of_the_mapping(store: LocalStore) -> None:
    put(store, "a", b"0123456789")
    stored = store.open("a")
    import numpy as np

    first = np.frombuffer(stored.view(0, 10), np.uint8).ctypes.data
    second = np.frombuffer(stored.view(4, 10), np.uint8).ctypes.data
    assert second - first == 4
    assert stored.view(0, 10).readonly


@pytest.mark.parametrize("mapped", [True, False])
def test_a_file_that_shrank_is_found_before_it_is_touched(tmp_path: Path, mapped: bool) -> None:
    store = LocalStore(tmp_path, mapped=mapped)
    put(store, "a", b"x" * 10_000)
    stored = store.open("a")
    stored.view(0, 10_000)
    os.truncate(tmp_path / "a", 5000)
    for use in (stored.view, stored.read, stored.load):
        with pytest.raises(CorruptObjectError, match="ends at byte 5000"):
            use(0, 10_000)
    assert bytes(stored.view(0, 5000)) == b"x" * 5000
    store.close()


def test_a_failing_read_is_an_error(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, "a", b"abc")
    stored = store.open("a")

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "bad sector")

    monkeypatch.setattr(os, "preadv", fail)
    for use in (stored.read, stored.load):
        with pytest.raises(StorageError, match=r"bad sector|Input/output"):
            use(0, 3)
    assert not stored.resident(0, 3)


def test_an_address_space_that_is_full_reads_instead(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mmap

    put(store, "a", b"abc")
    stored = store.open("a")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, "no room to map")

    monkeypatch.setattr(mmap, "mmap", refuse)
    assert bytes(stored.view(0, 3)) == b"abc"


def test_folders_and_links_are_not_objects(store: LocalStore) -> None:
    put(store, "a/b", b"x")
    (store.root / "a" / "link").symlink_to(store.root / "a" / "b")
    assert [info.key for info in store.list()] == ["a/b"]
    with pytest.raises(ObjectNotFoundError):
        store.open("a")
    with pytest.raises(ObjectNotFoundError):
        store.open("a/b/c")


def test_a_folder_that_went_away_is_made_again(store: LocalStore) -> None:
    put(store, "t/a", b"x")
    store.delete("t/a")
    (store.root / "t").rmdir()
    put(store, "t/b", b"x")


def test_a_folder_is_removed_once_nothing_is_in_it(store: LocalStore) -> None:
    put(store, "tables/t/a", b"x")
    put(store, "tables/u/a", b"x")
    assert sorted(store.folders("tables")) == ["t", "u"]
    store.remove_folder("tables/t")
    assert store.open("tables/t/a").length == 1
    store.delete("tables/t/a")
    assert sorted(store.folders("tables")) == ["t", "u"]
    for _ in range(2):
        store.remove_folder("tables/t")
    assert store.folders("tables") == ["u"]
    assert str(store.root / "tables/t") not in store._folders
    put(store, "tables/t/b", b"x")
    assert store.folders("nothing") == []
    with pytest.raises(UsageError):
        store.remove_folder("../data")


def test_many_threads(store: LocalStore) -> None:
    def work(number: int) -> None:
        for step in range(20):
            put(store, f"t{number % 2}/{number}-{step}", bytes([number]) * 100)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    infos = list(store.list())
    assert len(infos) == 160
    assert {info.length for info in infos} == {100}


# --- who lives ---

DIE = """
import os, sys
from fletching.objects.local import LocalStore
store = LocalStore(sys.argv[1])
done = store.create("tables/t/" + store.writer + "-0"); done.write(b"published"); done.commit()
open_ = store.create("tables/t/" + store.writer + "-1"); open_.write(b"unfinished")
print(store.writer, flush=True)
if sys.argv[2] == "die":
    os.kill(os.getpid(), 9)
sys.stdin.read()
"""


def start(root: Path, what: str) -> tuple[subprocess.Popen[str], str]:
    child = subprocess.Popen(
        [sys.executable, "-c", DIE, str(root), what], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    return child, child.stdout.readline().strip()


def stop(child: subprocess.Popen[str]) -> None:
    child.communicate(timeout=600)


def test_the_dead_are_told_from_the_living(store: LocalStore) -> None:
    put(store, "mine", b"x")  # registers this writer
    open_sink = store.create("open")
    living, living_id = start(store.root, "live")
    dead, dead_id = start(store.root, "die")
    stop(dead)
    try:
        assert store.dead_writers() == {dead_id}
        assert store.dead_writers() == {dead_id}  # until it is forgotten
        names = {path.parent.name for path in staged(store)}
        assert names == {store.writer, living_id}
        # what it published is for whoever knows the catalog to judge
        assert f"tables/t/{dead_id}-0" in {info.key for info in store.list()}
        store.forget_writer(dead_id)
        assert store.dead_writers() == frozenset()
        for wrong in (store.writer, "../x", "a/b"):
            with pytest.raises(UsageError):
                store.forget_writer(wrong)
    finally:
        stop(living)
    open_sink.abort()
    assert store.dead_writers() == {living_id}  # it ended without close


def test_a_writer_that_closes_leaves_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    put(store, "a", b"x")
    store.close()
    assert [path.name for path in (tmp_path / ".staging").iterdir()] == ["lock"]
    with pytest.raises(UsageError):
        store.create("b")


def test_a_store_that_only_reads_touches_nothing(tmp_path: Path) -> None:
    with_data = LocalStore(tmp_path)
    put(with_data, "a", b"x")
    with_data.close()
    before = sorted(tmp_path.rglob("*"))
    reader = LocalStore(tmp_path)
    reader.open("a").close()
    list(reader.list())
    reader.close()
    assert sorted(tmp_path.rglob("*")) == before


def test_who_died_before_its_lock_was_there_is_dead(store: LocalStore) -> None:
    put(store, "a", b"abc")
    (store.root / ".staging" / "abcdef").mkdir()
    (store.root / ".staging" / "file").touch()  # no writer's
    assert store.dead_writers() == {"abcdef"}
    assert store.living_writers() == {store.writer}
    store.forget_writer("abcdef")
    assert store.dead_writers() == frozenset()


def work_through(store: LocalStore) -> None:
    """Every call of a store."""
    with store.create("a/b") as sink:
        sink.write_many([b"abc", b"", b"d" * 100])
        sink.commit()
    with store.open("a/b") as stored:
        assert bytes(stored.view(0, 4)) == b"abcd"
        assert bytes(stored.read(1, 103)) == b"bc" + b"d" * 100
        stored.load(0, 103)
        assert stored.resident(0, 103) in {True, False}
    assert [info.key for info in store.list()] == ["a/b"]
    assert store.dead_writers() == frozenset({"dead"})
    assert store.living_writers() == frozenset({store.writer})
    store.forget_writer("dead")
    store.delete("a/b")


@pytest.mark.parametrize("fault", FOLDER)
def test_any_single_call_of_the_system_may_fail(tmp_path: Path, fault: str) -> None:
    """The error is ours, nothing is left open, and the same store goes on when the fault is gone."""
    calls = Calls()

    def attempt(number: int | None) -> tuple[list[str], BaseException | None]:
        root = tmp_path / str(number)
        store = LocalStore(root)
        (root / ".staging" / "dead").mkdir(parents=True)
        (root / ".staging" / "dead" / "1").touch()
        error: BaseException | None = None
        with failing_folder(calls, root):
            calls.begin(number, fault)
            try:
                work_through(store)
            except (FletchingError, KeyboardInterrupt) as caught:
                error = caught.with_traceback(None)
            finally:
                calls.end()
        if error is not None:
            (root / ".staging" / "dead").mkdir(exist_ok=True)
            store.delete("a/b")
            work_through(store)
        store.close()
        opened = [entry.resolve() for entry in Path("/proc/self/fd").iterdir()]
        assert not [each for each in opened if each.is_relative_to(root)]
        return calls.names, error

    names, error = attempt(None)
    assert error is None
    assert {"open", "mkdir", "writev", "fsync", "link", "unlink", "fstat", "mmap"} <= set(names)
    for number in range(len(names)):
        _, error = attempt(number)
        if fault == "ENOSPC" and error is not None:
            assert isinstance(error, StorageFullError)
