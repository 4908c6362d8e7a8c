"""Keys and grants as rows: ids are taken for good, grants are kept once."""

from __future__ import annotations

import dataclasses

import pytest
from sqlalchemy import Connection

from fletching.catalog.access_rows import (
    GrantRow,
    KeyRow,
    delete_grant,
    find_key,
    insert_grant,
    insert_key,
    list_grants,
    list_keys,
    replace_secret,
    revoke_key,
)
from fletching.errors import AlreadyExistsError, NotFoundError

KEY = KeyRow("k", "ann", b"sealed", None, "why", 1.0, None, None)


def test_an_id_is_taken_for_good(rows: Connection) -> None:
    insert_key(rows, KEY)
    insert_key(rows, dataclasses.replace(KEY, id="j", created_at=0.5))
    assert find_key(rows, "k") == KEY
    assert [row.id for row in list_keys(rows)] == ["j", "k"]
    revoke_key(rows, "k", 5.0)
    revoke_key(rows, "k", 9.0)  # the first time counts
    assert find_key(rows, "k") == dataclasses.replace(KEY, revoked_at=5.0)
    with pytest.raises(AlreadyExistsError):
        insert_key(rows, KEY)


def test_secrets_of_keys_in_use_are_replaced(rows: Connection) -> None:
    insert_key(rows, KEY)
    replace_secret(rows, "k", b"new", b"token")
    assert find_key(rows, "k") == dataclasses.replace(KEY, secret=b"new", security_token=b"token")
    revoke_key(rows, "k", 5.0)
    for access_id in ("k", "none"):
        with pytest.raises(NotFoundError):
            replace_secret(rows, access_id, b"x", None)
    with pytest.raises(NotFoundError):
        revoke_key(rows, "none", 5.0)


def test_grants_are_kept_once_and_taken_back(rows: Connection) -> None:
    grant = GrantRow("ann", "p", "*", "read", 1.0)
    assert insert_grant(rows, grant)
    assert not insert_grant(rows, dataclasses.replace(grant, created_at=2.0))
    assert insert_grant(rows, dataclasses.replace(grant, permission="write"))
    assert len(list_grants(rows)) == 2
    assert delete_grant(rows, dataclasses.replace(grant, created_at=9.0))
    assert not delete_grant(rows, grant)
    assert [row.permission for row in list_grants(rows)] == ["write"]
