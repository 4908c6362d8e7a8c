"""What has a name has its bytes on the disk: no file is named before it was synced, by any store."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from crc32c import crc32c

from fletching.objects.cached_store import CachedStore
from fletching.objects.local import LocalStore
from fletching.objects.remote_store import RemoteStore
from fletching.objects.store import IDENTITY_KEY
from fletching.testing.contracts import put


class Names:
    """Watches the calls that give names: who was synced since its last byte?"""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.named: list[str] = []
        self.unsynced: list[str] = []
        self._synced: dict[int, int] = {}  # inode: how long it was when it was synced
        fsync, link, rename, replace = os.fsync, os.link, os.rename, os.replace

        def synced(descriptor: int) -> None:
            status = os.fstat(descriptor)
            fsync(descriptor)
            self._synced[status.st_ino] = status.st_size

        def naming(call: Any) -> Any:
            def named(source: Any, target: Any, **options: Any) -> None:
                status = Path(source).stat()
                self.named.append(Path(target).name)
                if status.st_size and self._synced.get(status.st_ino) != status.st_size:
                    self.unsynced.append(Path(target).name)
                call(source, target, **options)

            return named

        patch.setattr(os, "fsync", synced)
        patch.setattr(os, "link", naming(link))
        patch.setattr(os, "rename", naming(rename))
        patch.setattr(os, "replace", naming(replace))


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    return Names(monkeypatch)


@pytest.mark.parametrize("size", [1, 4096, 3 << 20])
def test_the_local_store(names: Names, tmp_path: Path, size: int) -> None:
    store = LocalStore(tmp_path)
    put(store, "tables/t/w-1", b"x" * size)
    assert names.named == ["w-1"]
    assert names.unsynced == []


def test_the_cache_of_a_bucket(names: Names, tmp_path: Path) -> None:
    obstore = pytest.importorskip("obstore")
    bucket = RemoteStore(obstore.store.MemoryStore())
    put(bucket, IDENTITY_KEY, b"one store")
    data = b"x" * 10_000
    put(bucket, "tables/t/w-1", data)
    store = CachedStore(bucket, tmp_path, 1 << 20)
    try:
        opened: Any = store.open("tables/t/w-1", length=len(data), crc32c=crc32c(data))
        assert b"".join(opened.stream(0, len(data))) == data
        while store._fills:
            threading.Event().wait(0.001)
    finally:
        store.close()
    assert names.named
    assert names.unsynced == []
