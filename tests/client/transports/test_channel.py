"""A channel: which requests may be repeated, and replies of another kind than was asked for."""

from __future__ import annotations

from typing import Any

import msgspec
import pyarrow as pa
import pytest
from tests.client.conftest import FakeSource, FakeTransport

from fletching.client.transports.channel import Channel, is_repeatable
from fletching.errors import ConnectionBrokenError, ProtocolError
from fletching.protocol.messages import admin, changes
from fletching.protocol.messages.requests import (
    CommitWriteSession,
    CreateReadSession,
    Request,
    WriteTable,
)
from fletching.protocol.messages.responses import Done
from fletching.types import PartitionSpec, TableName

T = TableName("p", "t")
SPEC = PartitionSpec.parse("a=1")


@pytest.mark.parametrize(
    ("request_", "may"),
    [
        (admin.CreateTable(table=T, arrow_schema=b""), False),
        (admin.DropTable(table=T, if_exists=True), False),
        (admin.DropTable(table=T, idempotency_key="k"), True),
        (admin.DropPartition(table=T, partition=SPEC, idempotency_key="k"), True),
        (admin.CreateSchema(project="p", schema="s"), False),
        (admin.DropSchema(project="p", schema="s", idempotency_key="k"), True),
        (changes.CreateTag(table=T, name="a"), False),
        (changes.DeleteRows(table=T, where="x"), False),
        (changes.DeleteRows(table=T, where="x", idempotency_key="k"), True),
        (changes.RenameTable(table=T, new_name="u"), False),
        (changes.DropTag(table=T, name="a"), False), (changes.TouchTable(table=T), True),
        (admin.RunStatement(project="p", text="x"), False),
        (admin.RunStatement(project="p", text="x", instance_id="i"), True),
        (WriteTable(table=T, session_id="s", stream_id="a"), False),
        (CommitWriteSession(table=T, session_id="s"), True), (admin.DescribeTable(table=T), True),
    ],
)  # fmt: skip
def test_what_may_be_sent_again(request_: Request, may: bool) -> None:
    assert is_repeatable(request_) is may


@pytest.mark.parametrize(
    "request_",
    [
        admin.AddColumns(table=T, arrow_schema=b""), admin.CreatePartition(table=T, partition=SPEC),
        admin.CreateProject(project="p"), admin.CreateSchema(project="p", schema="s"),
        admin.CreateTable(table=T, arrow_schema=b""), admin.DropPartition(table=T, partition=SPEC),
        admin.DropSchema(project="p", schema="s"), admin.DropTable(table=T),
        changes.AlterTable(table=T), changes.CreateTag(table=T, name="a"), changes.DeleteRows(table=T, where="x"),
        changes.DropTag(table=T, name="a"), changes.RenameTable(table=T, new_name="u"),
    ],
)  # fmt: skip
def test_what_has_no_key_gets_one_and_is_sent_again_with_it(
    channel: Channel, transport: FakeTransport, request_: Any
) -> None:
    def broken(*_: Any) -> Any:
        raise ConnectionBrokenError("the connection ended")

    transport.on_call = broken
    for _ in range(2):
        with pytest.raises(ConnectionBrokenError):
            channel.call(request_)
    keys = [each.idempotency_key for each in transport.requests]
    assert len(set(keys)) == 2
    assert len(keys) > 4
    assert keys == sorted(keys, key=keys.index)
    with pytest.raises(ConnectionBrokenError):
        channel.call(msgspec.structs.replace(request_, idempotency_key="mine"))
    assert transport.requests[-1].idempotency_key == "mine"


def test_what_may_not_is_sent_once(channel: Channel, transport: FakeTransport) -> None:
    def broken(*_: Any) -> Any:
        raise ConnectionBrokenError("the connection ended")

    transport.on_call = broken
    with pytest.raises(ConnectionBrokenError):
        channel.call(admin.RunStatement(project="p", text="x"))
    assert len(transport.requests) == 1


def test_a_reply_of_another_kind_is_the_service_s_mistake(
    channel: Channel, transport: FakeTransport
) -> None:
    transport.on_call = lambda *_: Done()
    assert channel.call(admin.DropTable(table=T)) == Done()
    with pytest.raises(ProtocolError, match="DescribeTable with Done, not TableInfo"):
        channel.call(admin.DescribeTable(table=T))


def test_rows_that_came_with_a_wrong_reply_are_closed(
    channel: Channel, transport: FakeTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = FakeSource(pa.schema([]), [])
    monkeypatch.setattr(transport, "open_session", lambda *_: (Done(), rows))
    with pytest.raises(ProtocolError, match="CreateReadSession with Done"):
        channel.open_session(CreateReadSession(table=T))
    assert rows.closed


def test_options_are_replaced_in_a_copy(channel: Channel) -> None:
    other = channel.changed(compression="zstd")
    assert other.options.compression == "zstd"
    assert channel.options.compression != "zstd"
    assert other.transport is channel.transport
    assert other.reopen_with("token") is None
