"""The tables are whole: every attribute of every request travels, under limits that hold anywhere."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

import fletching
from fletching.errors import InvalidArgumentError, InvalidParameterError, ServiceError
from fletching.protocol.codec import check_request, decode_request, encode_request
from fletching.protocol.codec.request_tables import REQUEST_TABLES, Place, RequestTable
from fletching.protocol.messages.requests import (
    CreateWriteStream,
    GetReadSession,
    PreviewTable,
    ReadBlobs,
    ReadTable,
    WriteTable,
)
from fletching.protocol.messages.vocabulary import ApiVersion
from fletching.types import PartitionSpec, TableName

TABLE = TableName("p", "t")
# Made by the shells, of the target, or of statements that the engine runs.
ELSEWHERE = {"table", "project", "instance_id", "buffer_codec", "statement"}
# Put together of other values by a table's hooks.
DERIVED = {"streams", "overwrite", "stream_id", "stream_version", "enhance_write_check"}


def label(table: RequestTable) -> str:
    return f"{table.kind.__name__}{'-block' if table.block else ''}"


@pytest.mark.parametrize("table", REQUEST_TABLES, ids=label)
def test_every_attribute_has_a_place(table: RequestTable) -> None:
    attributes = {field.name for field in msgspec.structs.fields(table.kind)} - ELSEWHERE
    travelling = {
        field.attribute
        for other in REQUEST_TABLES
        if other.kind is table.kind
        for field in other.fields
    }
    assert attributes - travelling <= DERIVED
    for field in table.fields:
        assert field.places or field.also, field.name
        if Place.HEADER in field.places:
            assert field.name == field.name.lower()


LONG = "x" * 256
REFUSED: list[tuple[Any, type[ServiceError], str]] = [
    (GetReadSession(table=TABLE, session_id=LONG), InvalidParameterError, "SessionId has 256"),
    (GetReadSession(table=TABLE, session_id=""), InvalidParameterError, "SessionId is missing"),
    (
        CreateWriteStream(table=TABLE, session_id="s", stream_id=LONG),
        InvalidParameterError,
        "StreamId has 256",
    ),
    (
        CreateWriteStream(table=TABLE, session_id="s", stream_id="x", retry_trace_id="x" * 201),
        InvalidParameterError,
        "retry-trace-id has 201",
    ),
    (
        CreateWriteStream(table=TABLE, session_id="s", stream_id="x", stream_version=-1),
        InvalidArgumentError,
        "StreamVersion is -1",
    ),
    (ReadTable(table=TABLE, session_id="s", index=-1), InvalidArgumentError, "Index is -1"),
    (ReadTable(table=TABLE, session_id="s", skip_rows=-1), InvalidArgumentError, "SkipRowNum"),
    (
        ReadTable(table=TABLE, session_id="s", max_batch_rows=20_001),
        InvalidArgumentError,
        "MaxBatchRows is 20001, above the limit of 20000",
    ),
    (
        ReadTable(table=TABLE, session_id="s", max_batch_bytes=1000),
        InvalidArgumentError,
        "MaxBatchRawSize is 1000; it must be 0 or at least 1048576",
    ),
    (
        ReadTable(table=TABLE, session_id="s", max_batch_bytes=1 << 40),
        InvalidArgumentError,
        "MaxBatchRawSize",
    ),
    (PreviewTable(table=TABLE, limit=-1), InvalidArgumentError, "Limit is -1"),
    (
        PreviewTable(table=TABLE, partition=PartitionSpec((("pt", "x" * 9000),))),
        InvalidArgumentError,
        "Partition has 9003 characters",
    ),
    (ReadBlobs(project="p", references=()), InvalidArgumentError, "BlobReferences is missing"),
    (
        WriteTable(table=TABLE, session_id="s", stream_id="x", row_offset=-1),
        InvalidArgumentError,
        "RowOffset is -1",
    ),
    (
        WriteTable(table=TABLE, session_id="s", stream_id="x", access_token="x" * 5000),
        InvalidParameterError,
        "x-odps-max-storage-access-token|has 5000",
    ),
]


@pytest.mark.parametrize(("request_", "error", "message"), REFUSED, ids=str)
def test_limits_hold_in_both_directions(
    request_: Any, error: type[ServiceError], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(error, match=message):
        check_request(request_)
    with pytest.raises(error, match=message):
        encode_request(request_, ApiVersion.V3)
    # and what a client without these limits sends is refused by whoever reads it
    from fletching.protocol.codec import codec_requests

    with monkeypatch.context() as patch:
        patch.setattr(codec_requests, "_check", lambda *_: None)
        sent = encode_request(request_, ApiVersion.V3)
    with pytest.raises(error, match=message):
        decode_request(sent.method, sent.query, sent.headers, sent.body)


@pytest.mark.parametrize("length", [65, 200])
def test_trace_ids_are_never_cut(length: int) -> None:
    """Two bodies whose ids share a beginning are two."""
    given = WriteTable(table=TABLE, session_id="s", stream_id="x", retry_trace_id="x" * length)
    sent = encode_request(given, ApiVersion.V3)
    assert decode_request(sent.method, sent.query, sent.headers) == given


def test_the_embedded_transport_holds_the_same_limits(tmp_path: Any) -> None:
    with fletching.connect(tmp_path / "folder", project="p", create=True) as client:
        client.create_table("t", "id BIGINT")
        for request, error, message in REFUSED:
            if isinstance(request, WriteTable | ReadBlobs):
                continue  # they travel beside a body
            transport = client.channel.transport

            def send(attempt: Any, left: Any = request, transport: Any = transport) -> Any:
                if isinstance(left, ReadTable | PreviewTable):
                    return transport.read(left, attempt)
                return transport.call(left, attempt)

            with pytest.raises(error, match=message):
                client.channel.retrying(send, repeatable=False)
