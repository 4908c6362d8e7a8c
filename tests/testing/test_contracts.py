"""The contract of object stores finds a store that breaks it. That good ones keep it is shown with each store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fletching.errors import ObjectExistsError, ObjectNotFoundError
from fletching.objects.local import LocalStore
from fletching.objects.store import ObjectInfo
from fletching.testing.contracts import ObjectStoreContract, put


class Losing(LocalStore):
    """Says nothing of a key that is taken."""

    def create(self, key: str) -> Any:
        sink: Any = super().create(key)
        commit = sink.commit

        def forgiving() -> None:
            try:
                commit()
            except ObjectExistsError:
                sink.abort()

        sink.commit = forgiving
        return sink


class Early(LocalStore):
    """Shows an object before it is committed."""

    def open(self, key: str, *, length: int | None = None, crc32c: int | None = None) -> Any:
        try:
            return super().open(key, length=length, crc32c=crc32c)
        except ObjectNotFoundError:
            put(self, key, b"")
            return super().open(key)


class Prefixed(LocalStore):
    """Takes a prefix for the beginning of a name."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return (info for info in super().list() if info.key.startswith(prefix))


class Careless(LocalStore):
    """Takes any key."""

    def create(self, key: str) -> Any:
        return super().create("".join(filter(str.isalnum, key)) or "k")

    def delete(self, key: str) -> None:
        super().delete("".join(filter(str.isalnum, key)) or "k")


@pytest.mark.parametrize(
    ("kind", "test", "arguments"),
    [
        (Losing, "test_keys_are_taken_once", ()),
        (Losing, "test_of_several_who_make_one_key_one_succeeds", (1,)),
        (Early, "test_nothing_is_visible_before_commit", ()),
        (Early, "test_delete_is_idempotent", ()),
        (Prefixed, "test_list_by_whole_names", ()),
        (Careless, "test_malformed_keys", ("a//b",)),
    ],
)
def test_a_store_that_breaks_it_fails(
    tmp_path: Path, kind: type[LocalStore], test: str, arguments: tuple[Any, ...]
) -> None:
    for store_kind in (LocalStore, kind):
        store = store_kind(tmp_path / store_kind.__name__)
        try:
            if store_kind is LocalStore:
                getattr(ObjectStoreContract(), test)(store, *arguments)
            else:
                with pytest.raises((AssertionError, pytest.fail.Exception)):
                    getattr(ObjectStoreContract(), test)(store, *arguments)
        finally:
            store.close()
