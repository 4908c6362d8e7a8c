"""What stores must keep whose objects are not mapped."""

from __future__ import annotations

from typing import Any

from fletching.testing.contracts import ObjectStoreContract, put


class BucketContract(ObjectStoreContract):
    """The contract of stores, but what was not read before a delete is gone with it."""

    def test_delete_is_idempotent(self, store: Any) -> None:
        put(store, "a/b", b"abc")
        view = store.open("a/b").view(0, 3)
        store.delete("a/b")
        store.delete("a/b")
        assert bytes(view) == b"abc"
