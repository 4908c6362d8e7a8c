"""The history of a table as its requests see it: pages, waits, tags, and an end to old versions."""

from __future__ import annotations

import threading
import time
from typing import Any

import pyarrow as pa
import pytest

from fletching.engine.changes.table_versions import MAX_TAG_LENGTH, History
from fletching.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    VersionNotFoundError,
)
from fletching.protocol.messages.changes import (
    CreateTag,
    DropTag,
    ExpireVersions,
    ListTags,
    ListVersions,
    WaitForVersion,
)
from fletching.types import TableName

T = TableName("demo", "t")
BATCH = pa.record_batch({"n": [1, 2]})


@pytest.fixture
def house(house: Any) -> Any:
    """Three commits, ten seconds apart."""
    house.create(BATCH.schema)
    for _ in range(3):
        house.clock.advance(10)
        house.append(BATCH)
    return house


@pytest.fixture
def history(house: Any) -> History:
    return History(house.engine.context)


def test_pages_of_versions_newest_first(history: History) -> None:
    whole = history.versions(ListVersions(table=T))
    assert [info.version for info in whole.versions] == [3, 2, 1, 0]
    assert (whole.before, whole.oldest_version) == (None, 0)
    assert [info.rows for info in whole.versions] == [6, 4, 2, 0]
    assert all(info.readable for info in whole.versions)
    first = history.versions(ListVersions(table=T, max_items=2))
    assert ([info.version for info in first.versions], first.before) == ([3, 2], 2)
    rest = history.versions(ListVersions(table=T, max_items=2, before=first.before))
    assert ([info.version for info in rest.versions], rest.before) == ([1, 0], None)
    for size in (0, -1):
        with pytest.raises(InvalidArgumentError):
            history.versions(ListVersions(table=T, max_items=size))


def test_a_wait_for_what_is_there_ends_at_once(history: History, house: Any) -> None:
    page = history.wait(WaitForVersion(table=T, since=1, timeout_ms=60_000))
    assert [info.version for info in page.versions] == [2, 3]
    assert history.wait(WaitForVersion(table=T, since=3)).versions == ()
    for since in (-1, 4):
        with pytest.raises(VersionNotFoundError):
            history.wait(WaitForVersion(table=T, since=since, timeout_ms=60_000))
    house.engine.compact(T, min_segments=2)
    assert history.wait(WaitForVersion(table=T, since=3)).versions == ()  # the same rows


def test_a_wait_ends_with_the_next_version(history: History, house: Any) -> None:
    versions: list[Any] = []
    thread = threading.Thread(
        target=lambda: versions.append(
            history.wait(WaitForVersion(table=T, since=3, timeout_ms=50_000))
        )
    )
    thread.start()
    time.sleep(0.06)
    house.append(BATCH)
    thread.join(600)
    assert [info.version for info in versions[0].versions] == [4]


def test_more_waits_than_there_are_threads_return_at_once(history: History) -> None:
    for _ in range(8):
        history._waits.acquire()
    began = time.monotonic()
    assert history.wait(WaitForVersion(table=T, since=3, timeout_ms=60_000)).versions == ()
    assert time.monotonic() - began < 30
    for _ in range(8):
        history._waits.release()
    assert history.wait(WaitForVersion(table=T, since=3, timeout_ms=1)).versions == ()
    assert history._waits._value == 8


@pytest.mark.parametrize("name", ["a", "_x", "v1.2-b", "Z" * MAX_TAG_LENGTH])
def test_tags_name_versions(history: History, name: str) -> None:
    assert history.create_tag(CreateTag(table=T, name=name)).tags == {name: 3}
    with pytest.raises(AlreadyExistsError):
        history.create_tag(CreateTag(table=T, name=name, version=1))
    moved = history.create_tag(CreateTag(table=T, name=name, version=1, replace=True))
    assert moved.tags == history.tags(ListTags(table=T)).tags == {name: 1}
    assert history.drop_tag(DropTag(table=T, name=name)).tags == {}
    with pytest.raises(NotFoundError):
        history.drop_tag(DropTag(table=T, name=name))


@pytest.mark.parametrize(
    "name", ["", "1", "1a", "-a", ".a", "a b", "a/b", "ä", "a\n", "Z" * (MAX_TAG_LENGTH + 1)]
)
def test_what_could_be_a_number_or_a_date_is_no_tag(history: History, name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="is not a tag's name"):
        history.create_tag(CreateTag(table=T, name=name))
    with pytest.raises(VersionNotFoundError):
        history.create_tag(CreateTag(table=T, name="later", version=4))


def test_old_versions_end_and_what_only_they_show_goes(history: History, house: Any) -> None:
    house.clock.advance(10)
    house.append(pa.record_batch({"n": [9]}), overwrite=True)
    history.create_tag(CreateTag(table=T, name="kept", version=2))
    before = house.object_keys()
    moment = int(house.clock.now * 1e6)
    tried = history.expire(ExpireVersions(table=T, older_than_us=moment, dry_run=True))
    assert house.object_keys() == before
    assert history.versions(ListVersions(table=T)).oldest_version == 0
    done = history.expire(ExpireVersions(table=T, older_than_us=moment))
    assert done == tried
    assert done.oldest_version == 4
    assert done.objects == 1  # that of version 3; the others are tagged
    assert done.bytes > 0
    assert len(house.object_keys()) == len(before) - 1
    readable = {
        info.version: info.readable for info in history.versions(ListVersions(table=T)).versions
    }
    assert readable[4]
    assert readable[2]
    assert not readable.get(1, False)
    assert not readable.get(3, False)
    again = history.expire(ExpireVersions(table=T, older_than_us=moment))
    assert (again.oldest_version, again.versions, again.objects) == (4, 0, 0)
    with pytest.raises(VersionNotFoundError):
        history.wait(WaitForVersion(table=T, since=2))
