"""A small object in memory keeps the promises of a stored one."""

from __future__ import annotations

from fletching.objects.remote_object import HeldObject
from fletching.objects.store import StoredObject


def test_it_is_a_stored_object_without_a_disk() -> None:
    data = memoryview(b"0123456789")
    stored: StoredObject = HeldObject("a/b", data)
    assert (stored.key, stored.length) == ("a/b", 10)
    for part in (stored.view(2, 5), stored.read(2, 5)):
        assert bytes(part) == b"234"
        assert part.obj is data.obj  # borrowed, not copied
    assert bytes(stored.view(10, 10)) == b""
    assert stored.resident(0, 10)
    stored.load(0, 10)
    stored.close()
    assert bytes(stored.view(0, 10)) == bytes(data)


def test_items_count_in_bytes() -> None:
    assert HeldObject("k", memoryview(bytes(8)).cast("I")).length == 8
