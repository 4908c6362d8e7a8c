from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fletching.engine.access.bearer_tokens import BearerClaim
from fletching.engine.access.permissions import Grant, Permission
from fletching.engine.engine import Engine
from fletching.errors import NoPermissionError, StorageError, UsageError
from fletching.protocol.messages.admin import DescribeTable, DropTable
from fletching.server.auth.key_ring import (
    KEY_FILE,
    KeyRing,
    first_key,
    keys_in,
    parse_key,
    started_keys,
)
from fletching.types import TableName


def test_the_first_start_makes_a_key_that_later_starts_find(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"
    access_id, secret, is_new = first_key(folder)
    assert is_new
    assert len(secret) >= 40
    assert first_key(folder) == (access_id, secret, False)
    assert stat.S_IMODE((folder / KEY_FILE).stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == [KEY_FILE]


def test_two_first_starts_at_once_get_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: first_key(tmp_path), range(16)))
    assert len({key[:2] for key in keys}) == 1
    assert sum(key[2] for key in keys) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="cannot be read or written"):
        first_key(tmp_path)


def test_a_file_in_the_folders_place_is_said(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(StorageError, match="cannot be read or written"):
        first_key(tmp_path / "data")


@pytest.mark.parametrize("text", ["", "id", "id:", ":secret"])
def test_what_is_no_key_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(UsageError, match="id:secret"):
        parse_key(text)


def test_a_secret_may_hold_colons() -> None:
    assert parse_key("id:a:b\n") == ("id", "a:b")


@pytest.mark.parametrize("keys", [{}, {"": "s"}, {"a": ""}, {"a:b": "s"}, {"a/b": "s"}])
def test_keys_that_could_not_sign_are_refused(keys: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        started_keys(keys)


def test_folder_keys_follow_the_folder(tmp_path: Path) -> None:
    now = [0.0]
    with Engine.open(tmp_path / "data", clock=lambda: 100.0) as engine:
        access = engine.access_keys
        ring = KeyRing(
            started_keys({"root": "secret"}),
            access,
            refresh_seconds=2.0,
            clock=lambda: now[0],
            wall_clock=lambda: 100.0,
        )
        assert ring.stale()
        ring.refresh()
        assert not ring.stale()
        root = ring.find("root")
        assert root is not None
        made = access.create(access_id="ann")
        assert ring.find("ann") is None
        now[0] = 2.0
        assert ring.stale()
        ring.refresh()
        ann = ring.find("ann")
        assert ann == made

        table = TableName("demo", "t")
        reading = DescribeTable(table=table)
        ring.check(root, DropTable(table=table))
        assert ring.may_read(root, table)
        with pytest.raises(NoPermissionError):
            ring.check(made, reading)
        access.grant(Grant("ann", "demo", "t", Permission.READ))
        now[0] = 4.0
        ring.refresh()
        ring.check(made, reading)
        assert ring.may_read(made, table)
        access.create(access_id="old", expires_at=100.0)
        given = {key.access_id: list(grants) for key, grants in ring.granted()}
        assert given == {
            "ann": [Grant("ann", "demo", "t", Permission.READ)],
            "root": [Grant("root", "*", "*", Permission.ADMIN)],
        }
        with pytest.raises(NoPermissionError):
            ring.check(made, DropTable(table=table))

        token = access.tokens.sign("ann", made.secret, 101.0)
        assert ring.bearer(token) == (made, BearerClaim("ann", 101))
        assert ring.bearer(access.tokens.sign("ann", made.secret, 100.0)) == (
            made,
            BearerClaim("ann", 100),
        )
        assert ring.bearer(access.tokens.sign("nobody", "x", 101.0)) is None
        assert ring.bearer("junk") is None
        # A key that gets another secret leaves no token behind.
        made = access.rotate("ann")
        now[0] = 6.0
        ring.refresh()
        assert ring.bearer(token) is None
        assert ring.bearer(access.tokens.sign("ann", made.secret, 101.0)) == (
            made,
            BearerClaim("ann", 101),
        )
        assert ring.may_operate(root)
        assert not ring.may_operate(made)
        access.grant(Grant("ann", "*", "*", Permission.ADMIN))
        now[0] = 8.0
        ring.refresh()
        assert ring.may_operate(made)
        access.revoke("ann")
        now[0] = 10.0
        ring.refresh()
        assert ring.find("ann") is None
        assert ring.bearer(token) is None


def test_keys_that_a_service_is_started_with_have_no_limits(tmp_path: Path) -> None:
    with Engine.open(tmp_path / "data") as engine:
        ring = KeyRing(started_keys({"root": "secret"}), engine.access_keys, refresh_seconds=2.0)
        key = ring.find("root")
        assert key is not None
        assert ring.find("nobody") is None
        assert ring.bearer("anything") is None
        ring.check(key, DropTable(table=TableName("demo", "t")))
        assert ring.may_read(key, TableName("demo", "t"))
        assert ring.may_read_all(key, "demo")
        assert ring.may_operate(key)
        assert ring.may_enter(key, "demo")
        # A key of the folder whose owner is called like one of them may do nothing by that.
        ann = engine.access_keys.create(access_id="ann", owner="root")
        ring.refresh()
        assert ring.find("ann") == ann
        assert not ring.may_read(ann, TableName("demo", "t"))
        assert not ring.may_operate(ann)


def test_keys_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# whose\n\nann:one\n  root:two:and-more \n")
    assert keys_in(path) == {"ann": "one", "root": "two:and-more"}
    for nothing in ("", "\n \n", "# ann:one\n"):
        path.write_text(nothing)
        with pytest.raises(UsageError, match="holds no access key"):
            keys_in(path)
    path.write_bytes(b"ann:\xff")
    for unreadable in (path, tmp_path / "none", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            keys_in(unreadable)
