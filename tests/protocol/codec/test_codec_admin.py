from __future__ import annotations

from typing import Any

import pytest

from fletching.errors import (
    InvalidArgumentError,
    InvalidParameterError,
    MethodNotAllowedError,
    NotFoundError,
    ProtocolError,
    ServiceError,
    UsageError,
)
from fletching.protocol.codec import (
    decode_admin_request,
    decode_admin_response,
    encode_admin_request,
    encode_admin_response,
    is_admin_path,
    is_admin_request,
)
from fletching.protocol.messages.admin import (
    AddColumns,
    CreatePartition,
    CreateProject,
    CreateTable,
    DescribeTable,
    DropPartition,
    DropTable,
    ListPartitions,
    ListTables,
    PartitionInfo,
    PartitionPage,
    TableInfo,
    TablePage,
)
from fletching.protocol.messages.requests import GetWriteSchema, Request
from fletching.protocol.messages.responses import Column, Done, Response, TableSchema
from fletching.types import PartitionSpec, TableName

T = TableName("p", "t")
ODD = TableName("p/1", "t ä%", "s?")
PT = PartitionSpec((("pt", "x,'y"), ("n", "1")))
ROOT = "/fletching/v1/projects/p/schemas/default/tables"

CASES: list[tuple[Request, str, str]] = [
    (CreateProject(project="p"), "POST", "/fletching/v1/projects"),
    (CreateProject(project="p ä", if_not_exists=True), "POST", "/fletching/v1/projects"),
    (ListTables(project="p"), "GET", ROOT),
    (
        ListTables(project="p", prefix="a", marker="b c", max_items=3),
        "GET",
        ROOT,
    ),
    (
        CreateTable(
            table=T,
            arrow_schema=b"\x00\xff\x10",
            partition_columns=(("pt", "STRING"),),
            comment="c",
            properties={"a": "b"},
            primary_key=("id",),
            lifecycle_days=3,
            if_not_exists=True,
        ),
        "POST",
        ROOT,
    ),
    (
        DescribeTable(table=ODD),
        "GET",
        "/fletching/v1/projects/p%2F1/schemas/s%3F/tables/t%20%C3%A4%25",
    ),
    (DropTable(table=T), "DELETE", f"{ROOT}/t"),
    (DropTable(table=T, if_exists=True), "DELETE", f"{ROOT}/t"),
    (AddColumns(table=T, arrow_schema=b"abc"), "POST", f"{ROOT}/t/columns"),
    (ListPartitions(table=T, prefix=PT, reverse=True), "GET", f"{ROOT}/t/partitions"),
    (ListPartitions(table=T, version=3), "GET", f"{ROOT}/t/partitions"),
    (CreatePartition(table=T, partition=PT, if_not_exists=True), "POST", f"{ROOT}/t/partitions"),
    (DropPartition(table=T, partition=PT, if_exists=True), "DELETE", f"{ROOT}/t/partitions"),
]


@pytest.mark.parametrize(("request_", "method", "path"), CASES)
def test_requests_and_their_http_parts_are_two_sides(
    request_: Request, method: str, path: str
) -> None:
    encoded = encode_admin_request(request_)
    assert (encoded.method, encoded.path) == (method, path)
    assert is_admin_path(encoded.path)
    assert is_admin_request(request_)
    decoded = decode_admin_request(encoded.method, encoded.path, encoded.query, encoded.body)
    assert decoded == request_


INFO = TableInfo(
    table=T,
    table_id="tid",
    schema=TableSchema(data_columns=(Column(name="a", type="bigint", column_ids=(1,)),)),
    arrow_schema=b"\x00\x01",
    created_at=1.5,
    properties={"k": "v"},
)
PARTITION = PartitionInfo(partition=PT, rows=3)


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (ListTables(project="p"), TablePage(tables=(INFO,), marker="t")),
        (CreateTable(table=T, arrow_schema=b""), INFO),
        (DescribeTable(table=T), INFO),
        (AddColumns(table=T, arrow_schema=b""), INFO),
        (DropTable(table=T), Done()),
        (ListPartitions(table=T), PartitionPage(partitions=(PARTITION,))),
        (CreatePartition(table=T, partition=PT), PARTITION),
        (DropPartition(table=T, partition=PT), Done()),
    ],
)
def test_replies_come_back(request_: Request, reply: Response) -> None:
    headers, body = encode_admin_response(reply)
    assert headers == {"content-type": "application/json"}
    assert decode_admin_response(request_, body) == reply


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"table": 1}', b"\xff"])
def test_a_broken_reply_is_a_protocol_error(body: bytes) -> None:
    with pytest.raises(ProtocolError, match="cannot be read"):
        decode_admin_response(DescribeTable(table=T), body)


@pytest.mark.parametrize(
    ("method", "path", "query", "body", "error"),
    [
        ("GET", "/fletching/v1/nothing", [], b"", NotFoundError),
        ("GET", f"{ROOT}/t/rows", [], b"", NotFoundError),
        ("PUT", ROOT, [], b"", MethodNotAllowedError),
        ("POST", f"{ROOT}/t", [], b"", MethodNotAllowedError),
        ("GET", f"{ROOT}/t/columns", [], b"", MethodNotAllowedError),
        ("PUT", f"{ROOT}/t/partitions", [], b"", MethodNotAllowedError),
        ("POST", ROOT, [], b"{}", InvalidParameterError),
        ("POST", ROOT, [], b'{"name": "t"}', InvalidParameterError),
        ("POST", ROOT, [], b'{"name": "t", "arrow_schema": "?"}', InvalidParameterError),
        ("POST", ROOT, [], b"nonsense", InvalidParameterError),
        ("POST", f"{ROOT}/t/columns", [], b"{}", InvalidParameterError),
        ("GET", ROOT, [("max_items", "0")], b"", InvalidArgumentError),
        ("GET", ROOT, [("max_items", "many")], b"", InvalidParameterError),
        ("GET", f"{ROOT}/t/partitions", [("prefix", "x")], b"", InvalidArgumentError),
        ("DELETE", f"{ROOT}/t/partitions", [], b"", InvalidParameterError),
        ("DELETE", f"{ROOT}/t", [("if_exists", "perhaps")], b"", InvalidParameterError),
    ],
)
def test_what_fits_no_path_method_or_body_is_refused(
    method: str, path: str, query: Any, body: bytes, error: type[ServiceError]
) -> None:
    with pytest.raises(error) as caught:
        decode_admin_request(method, path, query, body)
    assert 400 <= caught.value.http_status < 500


def test_pages_are_bounded() -> None:
    request = decode_admin_request("GET", ROOT, [("max_items", "99999999")])
    assert isinstance(request, ListTables)
    assert request.max_items == 10_000


def test_a_storage_request_is_no_administration_request() -> None:
    request = GetWriteSchema(table=T, session_id="s")
    assert not is_admin_request(request)
    with pytest.raises(UsageError, match="GetWriteSchema"):
        encode_admin_request(request)


def test_projects_are_only_created_here() -> None:
    with pytest.raises(MethodNotAllowedError):
        decode_admin_request("GET", "/fletching/v1/projects", [])
    for body in (b"{}", b'{"name": 3}', b'{"name": "p", "if_not_exists": 1}', b"["):
        with pytest.raises(ServiceError):
            decode_admin_request("POST", "/fletching/v1/projects/", [], body)
