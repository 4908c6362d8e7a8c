"""What every part of an engine works with."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from fletching.errors import (
    NoPermissionError,
    ServiceUnavailableError,
    StorageError,
    StorageFullError,
)


def test_each_table_has_a_secret_seed_of_its_own(house: Any) -> None:
    context = house.engine.context
    seeds = {context.key_seed(table) for table in ("a", "b", "")}
    assert len(seeds) == 3
    assert {len(seed) for seed in seeds} == {16}
    assert context.key_seed("a") == context.key_seed("a")
    other = dataclasses.replace(context, server_key=bytes(32))
    assert other.key_seed("a") != context.key_seed("a")


def test_nothing_changes_in_what_is_open_for_reading(house: Any) -> None:
    context = house.engine.context
    context.check_may_change()
    with pytest.raises(NoPermissionError, match="reading only"):
        dataclasses.replace(context, read_only=True).check_may_change()


def test_an_object_that_cannot_be_deleted_is_left_for_later(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = house.engine.context
    tried: list[str] = []

    def delete(_: Any, key: str) -> None:
        tried.append(key)
        if key == "b":
            raise StorageError("the disk")

    monkeypatch.setattr(type(context.store), "delete", delete)
    context.delete_objects(iter(["a", "b", "c"]))
    assert tried == ["a", "b", "c"]


@pytest.mark.parametrize(
    "error", [ServiceUnavailableError, StorageFullError, StorageError, KeyboardInterrupt]
)
def test_objects_go_with_a_block_that_raises_and_stay_with_a_commit_that_does(
    house: Any, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """Whatever a commit raises, a broken connection or Ctrl-C: it may have been done, and rows need them."""
    context = house.engine.context

    def stored(key: str) -> str:
        with context.create_object(key) as sink:
            sink.write(b"rows")
            sink.commit()
        return key

    first, second = (stored(f"tables/t/{context.store.writer}-{n}.arrow") for n in "12")
    with pytest.raises(error), context.recording([first]):
        raise error("inside")
    assert house.object_keys() == {second}
    database = context.database
    write = database.write

    @contextlib.contextmanager
    def lost(**options: Any) -> Iterator[Any]:
        with write(**options) as connection:
            yield connection
        raise error("the answer is lost")

    monkeypatch.setattr(database, "write", lost)
    with pytest.raises(error, match="lost"), context.recording([second]):
        pass
    assert house.object_keys() == {second}
