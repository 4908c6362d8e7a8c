"""What is a key, and who made it up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.errors import UsageError
from fletching.objects.local import LocalStore
from fletching.objects.remote_store import RemoteStore
from fletching.objects.store import (
    IDENTITY_KEY,
    MAX_KEY_LENGTH,
    OPERATIONS,
    ObservedStore,
    checked_key,
    writer_of,
)

obstore = pytest.importorskip("obstore")


@pytest.mark.parametrize(
    "key",
    [
        *("a", "0", "_", "-", "a.b", "tables/t1/w-1.arrow", "A/b/C/d", "a..b", IDENTITY_KEY),
        "x" * 200,
        "/".join(["x" * 149] * 6),
    ],
)
def test_keys(key: str) -> None:
    assert checked_key(key) == key


@pytest.mark.parametrize(
    "key",
    [
        *("", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", ".staging/x", "a/.b"),
        *("a b", "a\nb", "a\n", "a\\b", "a:b", "ä", "a\x00", "~", "a/\u2044", "%2e%2e"),
        "x" * 201,
        "/".join(["x" * 149] * 6) + "xx",  # one character above what stores allow
    ],
)
def test_what_is_none_is_refused(key: str) -> None:
    with pytest.raises(UsageError, match="is not an object key"):
        checked_key(key)


@given(st.text(alphabet="a.-/\\\n ~", max_size=12))
def test_no_key_leads_out_of_its_folder(key: str) -> None:
    try:
        names = checked_key(key).split("/")
    except UsageError:
        return
    assert all(re.fullmatch("[A-Za-z0-9_-][A-Za-z0-9._-]*", name, re.ASCII) for name in names)


def test_an_error_shows_the_beginning_of_a_long_key_alone() -> None:
    with pytest.raises(UsageError) as caught:
        checked_key("x" * (MAX_KEY_LENGTH + 1))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("key", "writer"),
    [
        ("tables/t/0123ab-7", "0123ab"),
        ("0123ab-7-8", "0123ab"),
        ("tables/a-b/w", "w"),
        ("w", "w"),
    ],
)
def test_the_last_name_begins_with_its_writer(key: str, writer: str) -> None:
    assert writer_of(key) == writer


def test_stores_tell_how_long_they_took_by_known_words(tmp_path: Path) -> None:
    local = LocalStore(tmp_path)
    assert isinstance(RemoteStore(obstore.store.MemoryStore()), ObservedStore)
    assert isinstance(local, ObservedStore)
    assert not isinstance(object(), ObservedStore)
    local.close()
    assert set(OPERATIONS.values()) == {"open", "read", "write", "commit", "delete", "list"}
