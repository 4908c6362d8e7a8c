"""The catalog's identity: made once, its key's fingerprint learnt once."""

from __future__ import annotations

from sqlalchemy import Connection
from tests.catalog.conftest import MakeSegment, MakeTable

from fletching.catalog.identity_rows import (
    IdentityRow,
    any_object_key,
    ensure_identity,
    find_identity,
    replace_identity,
)
from fletching.catalog.publishing import publish
from fletching.catalog.table_rows import lock_table


def test_the_first_identity_stays(rows: Connection) -> None:
    assert find_identity(rows) is None
    first = IdentityRow("store", None, 1.0)
    assert ensure_identity(rows, first) == first
    # A key may become known later; neither it nor the store changes after that.
    assert ensure_identity(rows, IdentityRow("other", "f1", 2.0)) == IdentityRow("store", "f1", 1.0)
    assert ensure_identity(rows, IdentityRow("other", "f2", 3.0)) == IdentityRow("store", "f1", 1.0)
    assert find_identity(rows) == IdentityRow("store", "f1", 1.0)


def test_a_person_may_give_another(rows: Connection) -> None:
    ensure_identity(rows, IdentityRow("store", "f1", 1.0))
    replace_identity(rows, IdentityRow("other", None, 2.0))
    assert find_identity(rows) == IdentityRow("other", None, 2.0)


def test_some_object_is_named_if_there_is_one(
    rows: Connection, new_table: MakeTable, new_segment: MakeSegment
) -> None:
    assert any_object_key(rows) is None
    table = new_table()
    segment = new_segment()
    publish(rows, lock_table(rows, table.id), [segment], now=2.0)
    assert any_object_key(rows) == segment.key
