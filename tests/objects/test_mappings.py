from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fletching.objects import mappings as module
from fletching.objects.local import LocalStore
from fletching.objects.mappings import Mappings


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    opened = LocalStore(tmp_path / "objects")
    yield opened
    opened.close()


def put(store: LocalStore, key: str, data: bytes) -> None:
    with store.create(key) as sink:
        sink.write(data)
        sink.commit()


def kept(store: LocalStore) -> Mappings:
    assert store._mappings is not None
    return store._mappings


def read(store: LocalStore, key: str) -> memoryview:
    opened = store.open(key)
    try:
        return opened.view(0, opened.length)
    finally:
        opened.close()


def test_the_next_reader_gets_the_same_mapping(store: LocalStore) -> None:
    put(store, "a/b", b"x" * 5000)
    first, second = read(store, "a/b"), read(store, "a/b")
    assert first.obj is second.obj
    assert len(kept(store)) == 1


def test_a_deleted_object_is_let_go_of_and_views_stay(store: LocalStore) -> None:
    put(store, "a", b"x" * 5000)
    view = read(store, "a")
    store.delete("a")
    assert len(kept(store)) == 0
    assert bytes(view) == b"x" * 5000


def test_another_file_under_the_same_key_is_mapped_anew(store: LocalStore) -> None:
    put(store, "a", b"x" * 5000)
    old = read(store, "a")
    (store.root / "a").unlink()  # as another process would, unknown to this store
    put(store, "a", b"y" * 5000)
    assert bytes(read(store, "a")) == b"y" * 5000
    assert bytes(old) == b"x" * 5000


def test_files_that_another_process_deleted_are_noticed(tmp_path: Path) -> None:
    now = [0.0]
    mappings = Mappings(tmp_path, clock=lambda: now[0])
    for name in ("gone", "here"):
        (tmp_path / name).write_bytes(b"x" * 100)
        descriptor = os.open(tmp_path / name, os.O_RDONLY)
        mappings.get(name, descriptor, 100)
        os.close(descriptor)
    (tmp_path / "gone").unlink()
    descriptor = os.open(tmp_path / "here", os.O_RDONLY)
    for seconds, count in ((module.LOOK_SECONDS - 1, 2), (module.LOOK_SECONDS + 1, 1)):
        now[0] = seconds
        mappings.get("here", descriptor, 100)
        assert len(mappings) == count
    os.close(descriptor)


def test_only_so_many_are_kept(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_MAPPINGS", 3)
    for number in range(5):
        put(store, f"k{number}", bytes([number]) * 100)
    views = [read(store, f"k{number}") for number in range(5)]
    assert len(kept(store)) == 3
    assert [view[0] for view in views] == [0, 1, 2, 3, 4]
    assert read(store, "k4").obj is views[4].obj
    assert read(store, "k0").obj is not views[0].obj


def test_closing_the_store_keeps_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    put(store, "a", b"x" * 5000)
    read(store, "a")
    store.close()
    assert len(kept(store)) == 0
