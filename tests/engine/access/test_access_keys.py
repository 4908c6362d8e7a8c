from __future__ import annotations

from typing import Any

import pytest

from fletching.engine.access.access_keys import AccessKeys
from fletching.engine.access.permissions import Grant, Permission
from fletching.errors import AlreadyExistsError, NotFoundError, UsageError
from fletching.types import TableName

T = TableName("demo", "events")


@pytest.fixture
def keys(house: Any) -> AccessKeys:
    access: AccessKeys = house.engine.access_keys
    return access


def test_secrets_are_encrypted_at_rest(house: Any, keys: AccessKeys) -> None:
    key = keys.create(access_id="one", sts=True, comment="why")
    assert key.security_token is not None
    house.engine.close()
    raw = b"".join(
        path.read_bytes()
        for path in house.engine.context.store.root.parent.iterdir()
        if path.is_file() and path.name.startswith("catalog")
    )
    assert b"one" in raw
    assert key.secret.encode() not in raw
    assert key.security_token.encode() not in raw
    assert key.secret not in repr(key)


def test_keys_come_back_and_can_be_rotated_and_revoked(keys: AccessKeys, house: Any) -> None:
    made = keys.create(access_id="one", owner="ann", expires_at=house.clock() + 10, sts=True)
    (key,) = keys.all_keys()
    assert key == made
    assert not key.expired(house.clock())
    assert key.expired(house.clock() + 10)
    rotated = keys.rotate("one")
    assert rotated.secret != made.secret
    assert rotated.security_token not in {None, made.security_token}
    assert keys.snapshot().keys["one"].secret == rotated.secret
    keys.revoke("one")
    keys.revoke("one")
    assert keys.snapshot().keys == {}
    assert keys.all_keys()[0].revoked_at == house.clock()
    with pytest.raises(NotFoundError):
        keys.rotate("one")
    with pytest.raises(AlreadyExistsError):
        keys.create(access_id="one")
    for missing in (keys.revoke, keys.rotate):
        with pytest.raises(NotFoundError):
            missing("nobody")


@pytest.mark.parametrize("access_id", ["a:b", "a/b", "a b", "ä", "x" * 129])
def test_ids_that_no_header_could_carry_are_refused(keys: AccessKeys, access_id: str) -> None:
    with pytest.raises(UsageError):
        keys.create(access_id=access_id)


def test_generated_ids_and_secrets_differ(keys: AccessKeys) -> None:
    made = [keys.create() for _ in range(5)]
    assert len({key.access_id for key in made}) == len({key.secret for key in made}) == 5
    assert all(len(key.secret) >= 40 for key in made)


def test_another_folders_server_key_does_not_decrypt(keys: AccessKeys, house: Any) -> None:
    keys.create(access_id="one")
    other = AccessKeys(house.engine.context.database, b"x" * 32, house.clock)
    (key,) = other.all_keys()
    assert key.secret == ""
    assert "does not decrypt with this server.key" in key.comment
    assert other.snapshot().keys == {}


def test_a_secret_cannot_be_moved_to_another_id(keys: AccessKeys, house: Any) -> None:
    from sqlalchemy import select, update

    from fletching.catalog.schema import access_keys

    keys.create(access_id="weak")
    keys.create(access_id="strong")
    with house.engine.context.database.write() as connection:
        secret = connection.execute(
            select(access_keys.c.secret).where(access_keys.c.id == "weak")
        ).scalar()
        connection.execute(
            update(access_keys).where(access_keys.c.id == "strong").values(secret=secret)
        )
    assert set(keys.snapshot().keys) == {"weak"}


def test_grants_are_kept_once_and_taken_back(keys: AccessKeys) -> None:
    grant = Grant("id", "demo", "*", Permission.WRITE)
    assert keys.grant(grant)
    assert not keys.grant(grant)
    assert keys.grants() == [grant]
    assert keys.revoke_grant(grant)
    assert not keys.revoke_grant(grant)
    assert keys.grants() == []
    with pytest.raises(UsageError):
        keys.grant(Grant("", "demo", "*", Permission.READ))
