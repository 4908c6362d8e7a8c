from __future__ import annotations

import msgspec
import pytest
from tests.folding import folded

from fletching.engine.access.permissions import (
    AccessKey,
    AccessSnapshot,
    Grant,
    Permission,
    needed_permission,
)
from fletching.errors import NoPermissionError
from fletching.protocol.messages import admin, changes, requests
from fletching.protocol.messages.requests import Request
from fletching.types import TableName

T = TableName("demo", "events")


def everything(root: type[Request] = Request) -> set[type[Request]]:
    classes = {root}
    for child in root.__subclasses__():
        classes |= everything(child)
    return classes


ABSTRACT = {Request, requests.TableRequest, requests.InstanceRequest}


@folded("kind", sorted(everything() - ABSTRACT, key=str))
def test_every_request_has_a_permission(kind: type[Request]) -> None:
    permission = needed_permission(kind)
    name = kind.__name__
    if name.startswith(("Read", "Preview", "Describe", "List")):
        assert permission is Permission.READ
    elif name in {"CreateTable", "DropTable", "AddColumns", "CreateSchema", "DropSchema"}:
        assert permission is Permission.ADMIN
    elif "Write" in name or "Partition" in name:
        assert permission is Permission.WRITE


READ = requests.CreateReadSession(table=T)
WRITE = requests.CreateWriteSession(table=T)
ADMIN = admin.DropTable(table=T)


@pytest.mark.parametrize(
    ("grants", "allowed"),
    [
        ([], ""),
        (["read:demo.events"], "r"),
        (["write:demo.events"], "rw"),
        (["admin:demo.events"], "rwa"),
        (["admin:*.*"], "rwa"),
        (["read:demo.ev*", "write:other.*"], "r"),
        (["write:DEMO.EVENTS"], "rw"),
        (["read:demo.default.events"], "r"),
        (["read:demo.s1.events"], ""),
        (["read:demo.event"], ""),
        (["read:dem.events"], ""),
    ],
)
def test_grants_allow_what_their_patterns_match(grants: list[str], allowed: str) -> None:
    key = AccessKey("id", "ann", "secret")
    parsed = []
    for text in grants:
        word, _, where = text.partition(":")
        project, _, table = where.partition(".")
        parsed.append(Grant("id", project, table, Permission(word)))
    for snapshot in (
        AccessSnapshot({"id": key}, {"id": parsed}),
        AccessSnapshot({"id": key}, {"ann": parsed}),
    ):
        for letter, request in (("r", READ), ("w", WRITE), ("a", ADMIN)):
            if letter in allowed:
                snapshot.check(key, request)
            else:
                with pytest.raises(NoPermissionError) as caught:
                    snapshot.check(key, request)
                assert caught.value.http_status == 403
        assert snapshot.may_read(key, T) is bool(allowed)


def test_a_table_is_not_renamed_out_of_what_was_granted() -> None:
    key = AccessKey("id", "id", "secret")
    snapshot = AccessSnapshot({}, {"id": [Grant("id", "demo", "ev*", Permission.ADMIN)]})
    snapshot.check(key, changes.RenameTable(table=T, new_name="evenings"))
    with pytest.raises(NoPermissionError, match=r"may not admin table demo.default.payroll"):
        snapshot.check(key, changes.RenameTable(table=T, new_name="payroll"))
    with pytest.raises(NoPermissionError, match=r"may not admin table demo.default.other"):
        snapshot.check(
            key, changes.RenameTable(table=TableName("demo", "other"), new_name="events")
        )
    # Whoever adds a request that names a second table says so where permissions are checked.
    second = {
        kind.__name__
        for kind in everything(requests.TableRequest)
        for field in msgspec.structs.fields(kind)
        if (field.type is TableName and field.name != "table") or field.name == "new_name"
    }
    assert second == {"RenameColumn", "RenameTable"}


def test_requests_about_a_project() -> None:
    key = AccessKey("id", "id", "secret")
    one_table = AccessSnapshot({}, {"id": [Grant("id", "demo", "events", Permission.READ)]})
    one_table.check(key, admin.ListTables(project="demo"))
    with pytest.raises(NoPermissionError):
        one_table.check(key, admin.ListTables(project="other"))
    with pytest.raises(NoPermissionError):
        one_table.check(key, admin.CreateSchema(project="demo", schema="s"))
    # references are checked against their own tables, once they are read
    one_table.check(key, requests.ReadBlobs(project="", references=("x",)))
    chosen = AccessSnapshot({}, {"id": [Grant("id", "demo", "ev*", Permission.ADMIN)]})
    with pytest.raises(NoPermissionError):
        chosen.check(key, admin.CreateSchema(project="demo", schema="s"))
    whole = AccessSnapshot({}, {"id": [Grant("id", "demo", "*", Permission.ADMIN)]})
    whole.check(key, admin.CreateSchema(project="demo", schema="s"))


def test_a_table_that_is_not_listed_yet_is_granted_as_the_one_that_it_becomes() -> None:
    key = AccessKey("id", "id", "secret")
    snapshot = AccessSnapshot({}, {"id": [Grant("id", "demo", "events", Permission.ADMIN)]})
    made = TableName("demo", "events").unlisted("t0123")
    snapshot.check(key, changes.RenameTable(table=made, new_name="events"))
    assert snapshot.may_read(key, made)
    with pytest.raises(NoPermissionError, match="may not admin"):
        snapshot.check(key, changes.RenameTable(table=made, new_name="payroll"))
    assert not snapshot.may_read(key, TableName("demo", "payroll").unlisted("t0123"))
