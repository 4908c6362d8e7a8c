"""What any object store and any connector must do, as tests: subclass, and pytest runs them.

::

    class TestMyStore(ObjectStoreContract):
        @pytest.fixture
        def store(self) -> Iterator[ObjectStore]: ...


    class TestMyEngine(ConnectorContract):
        def read(self, source: Table | Scan) -> pa.Table: ...
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fletching.errors import ObjectExistsError, ObjectNotFoundError, UsageError
from fletching.objects.store import ObjectStore
from fletching.testing.connector_contract import ConnectorContract
from fletching.testing.engine_rows import ENGINE_ROWS, TYPE_VALUES, sorted_rows

__all__ = [
    "ENGINE_ROWS",
    "TYPE_VALUES",
    "ConnectorContract",
    "ObjectStoreContract",
    "put",
    "sorted_rows",
]


def put(store: ObjectStore, key: str, data: bytes) -> None:
    """Stores an object in one piece."""
    sink = store.create(key)
    sink.write(data)
    sink.commit()


class ObjectStoreContract:
    """Tests over a fixture ``store``, empty at the start of each."""

    def test_bytes_come_back(self, store: ObjectStore) -> None:
        """Whatever the chunks, the object is their concatenation."""
        sink = store.create("tables/t/a.arrow")
        sink.write(b"abc")
        sink.write_many([b"", memoryview(b"defg")[1:], bytearray(b"h")])
        sink.write_many([bytes([n % 256]) for n in range(3000)])
        expected = b"abcefgh" + bytes(n % 256 for n in range(3000))
        assert sink.length == len(expected)
        sink.commit()
        stored = store.open("tables/t/a.arrow")
        assert stored.length == len(expected)
        assert bytes(stored.view(0, stored.length)) == expected
        assert bytes(stored.read(2, 9)) == expected[2:9]
        assert bytes(stored.view(5, 5)) == b""
        stored.load(0, stored.length)
        assert isinstance(stored.resident(0, stored.length), bool)
        stored.close()
        stored.close()

    def test_an_empty_object(self, store: ObjectStore) -> None:
        """Nothing is something."""
        put(store, "e", b"")
        stored = store.open("e")
        assert stored.length == 0
        assert bytes(stored.view(0, 0)) == b""
        stored.close()

    def test_nothing_is_visible_before_commit(self, store: ObjectStore) -> None:
        """An object that is being written is not there."""
        sink = store.create("a/b")
        sink.write(b"x")
        with pytest.raises(ObjectNotFoundError):
            store.open("a/b")
        assert list(store.list()) == []
        sink.commit()
        assert [info.key for info in store.list()] == ["a/b"]

    def test_abort_leaves_nothing(self, store: ObjectStore) -> None:
        """Also twice, and not after a commit."""
        sink = store.create("a")
        sink.write(b"x")
        sink.abort()
        sink.abort()
        assert list(store.list()) == []
        with pytest.raises(UsageError):
            sink.write(b"y")
        with pytest.raises(UsageError):
            sink.commit()
        put(store, "a", b"z")
        committed = store.create("b")
        committed.commit()
        committed.abort()
        assert {info.key for info in store.list()} == {"a", "b"}

    def test_keys_are_taken_once(self, store: ObjectStore) -> None:
        """The second commit under a key fails and changes nothing."""
        first, second = store.create("k"), store.create("k")
        first.write(b"1")
        second.write(b"2")
        first.commit()
        with pytest.raises(ObjectExistsError) as caught:
            second.commit()
        assert caught.value.key == "k"
        assert bytes(store.open("k").read(0, 1)) == b"1"

    @pytest.mark.parametrize("length", [1, 9 << 20])
    def test_of_several_who_make_one_key_one_succeeds(
        self, store: ObjectStore, length: int
    ) -> None:
        """Whatever the size, and what is there is all of the one's own."""
        sinks = [store.create("k") for _ in range(4)]
        for number, sink in enumerate(sinks):
            sink.write(bytes([number]) * length)
        ready = threading.Barrier(len(sinks))

        def commit(number: int) -> int | None:
            ready.wait()
            try:
                sinks[number].commit()
            except ObjectExistsError:
                return None
            return number

        with ThreadPoolExecutor(len(sinks)) as threads:
            made = [
                number for number in threads.map(commit, range(len(sinks))) if number is not None
            ]
        assert len(made) == 1
        stored = store.open("k")
        assert stored.length == length
        assert bytes(stored.read(0, length)) == bytes([made[0]]) * length
        assert [info.key for info in store.list()] == ["k"]
        stored.close()

    def test_delete_is_idempotent(self, store: ObjectStore) -> None:
        """And views outlive it."""
        put(store, "a/b", b"abc")
        stored = store.open("a/b")
        view = stored.view(0, 3)
        store.delete("a/b")
        store.delete("a/b")
        store.delete("never/was")
        assert bytes(view) == b"abc"
        stored.close()
        assert bytes(view) == b"abc"
        with pytest.raises(ObjectNotFoundError) as caught:
            store.open("a/b")
        assert caught.value.key == "a/b"
        put(store, "a/b", b"new")

    def test_list_by_whole_names(self, store: ObjectStore) -> None:
        """A prefix is a folder, not the beginning of a name."""
        for key in ("tables/t1/a", "tables/t1/b/c", "tables/t10/a", "packs/p"):
            put(store, key, key.encode())
        assert {info.key for info in store.list()} == {
            "tables/t1/a", "tables/t1/b/c", "tables/t10/a", "packs/p",
        }  # fmt: skip
        assert {info.key for info in store.list("tables/t1")} == {"tables/t1/a", "tables/t1/b/c"}
        assert {info.key for info in store.list("tables/t1/")} == {"tables/t1/a", "tables/t1/b/c"}
        assert list(store.list("none")) == []
        info = next(iter(store.list("packs")))
        assert info.length == 7
        assert info.modified > 1_600_000_000

    @pytest.mark.parametrize(
        "key",
        [
            "",
            "/a",
            "a/",
            "a//b",
            "..",
            "a/../b",
            ".hidden",
            "a/.b",
            "a b",
            "a\0b",
            "é",
            "x" * 901,
            "a\n",
        ],
    )
    def test_malformed_keys(self, store: ObjectStore, key: str) -> None:
        """Nothing outside the store can be named."""
        for call in (store.create, store.open, store.delete):
            with pytest.raises(UsageError):
                call(key)

    def test_ranges_outside(self, store: ObjectStore) -> None:
        """A range must lie in the object."""
        put(store, "a", b"abc")
        stored = store.open("a")
        for start, end in ((-1, 2), (2, 1), (0, 4), (4, 4)):
            for read in (stored.view, stored.read):
                with pytest.raises(UsageError):
                    read(start, end)
        stored.close()
        with pytest.raises(UsageError):
            stored.read(0, 1)

    def test_close_is_idempotent(self, store: ObjectStore) -> None:
        """And says nothing about objects that are open."""
        put(store, "a", b"abc")
        stored = store.open("a")
        store.close()
        store.close()
        assert bytes(stored.view(0, 3)) == b"abc"
        stored.close()
