from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.folding import folded

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
from fletching.protocol.messages import admin, changes
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
    RunStatement,
    TableInfo,
    TablePage,
)
from fletching.protocol.messages.changes import DeleteRows, ListVersions, VersionInfo, VersionPage
from fletching.protocol.messages.requests import GetWriteSchema, Request
from fletching.protocol.messages.responses import Changed, Column, Done, Response, TableSchema
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


TABLE = TableName("p/1", "t ä%", "s?")
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
OF_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(0, 2**63 - 1),
    float: st.floats(0, 3600),
    bool: st.booleans(),
    str: NAMES,
    bytes: st.binary(max_size=40),
    TableName: st.just(TABLE),
    PartitionSpec: st.sampled_from([PartitionSpec(), PartitionSpec((("pt", "x,'y"), ("n", "1")))]),
}


# Of MaxCompute's own calls, which the metadata endpoints read.
ELSEWHERE = {admin.CreateSchema, admin.DropSchema, admin.ListSchemas}


def own_requests() -> Iterator[type[Request]]:
    """The request types of our own API that are sent, not those that others are made from."""
    for module in (admin, changes):
        for kind in vars(module).values():
            if (
                isinstance(kind, type)
                and issubclass(kind, Request)
                and kind.__module__ == module.__name__
                and not kind.__subclasses__()
                and kind not in ELSEWHERE
            ):
                yield kind


def values(hint: Any) -> st.SearchStrategy[Any]:
    if hint in OF_TYPE:
        return OF_TYPE[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        kinds = [st.none() if each is type(None) else values(each) for each in arguments]
        return st.one_of(kinds)
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values, arguments))
    assert origin is dict, hint
    return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=3)


def requests_of(kind: type[Request]) -> st.SearchStrategy[Request]:
    hints = typing.get_type_hints(kind)
    fields = {field.name: values(hints[field.name]) for field in msgspec.structs.fields(kind)}
    if kind in (admin.CreatePartition, admin.DropPartition):
        fields["partition"] = st.just(PartitionSpec((("pt", "x,'y"),)))
    if kind in (admin.ListPartitions, admin.ListTables):
        fields["max_items"] = st.integers(1, 1000)
    return st.fixed_dictionaries(fields).map(lambda given: kind(**given))


@folded("kind", list(own_requests()))
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_what_is_sent_is_what_is_read(kind: type[Request], data: st.DataObject) -> None:
    request = data.draw(requests_of(kind))
    sent = encode_admin_request(request)
    assert decode_admin_request(sent.method, sent.path, sent.query, sent.body) == request


def test_there_are_requests() -> None:
    assert {DeleteRows, RunStatement, ListVersions} < set(own_requests())


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (DeleteRows(table=TABLE, where="a"), Changed(version=3, rows_deleted=2)),
        (
            ListVersions(table=TABLE),
            VersionPage(
                versions=(
                    VersionInfo(
                        version=2, committed_us=1, operation="append", data_change=True,
                        schema_version=1, rows=5, rows_inserted=5, rows_updated=0, rows_deleted=0,
                        access_id="me", read_version=1, readable=True,
                    ),
                ),
                before=2,
                oldest_version=1,
            ),
        ),
    ],
)  # fmt: skip
def test_replies_of_actions_come_back(request_: Request, reply: Any) -> None:
    _, body = encode_admin_response(reply)
    assert decode_admin_response(request_, body) == reply


def test_what_is_no_action_or_does_not_fit_is_refused() -> None:
    sent = encode_admin_request(DeleteRows(table=TABLE, where="a"))
    with pytest.raises(NotFoundError):
        decode_admin_request(sent.method, sent.path.replace("/delete", "/erase"), [], sent.body)
    for body in (b"{}", b'{"where": 1}', b'{"where": "a", "if_version": "x"}', b"[]", b"{"):
        with pytest.raises(InvalidParameterError):
            decode_admin_request(sent.method, sent.path, [], body)


def asked(method: str, path: str, body: bytes = b"", **query: str) -> Any:
    return decode_admin_request(method, path, list(query.items()), body)


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("7", 7), ("-7", -7), ("9223372036854775807", 2**63 - 1)]
)
def test_numbers(text: str, value: int) -> None:
    assert asked("GET", f"{ROOT}/t", version=text).version == value
    assert asked("GET", f"{ROOT}/t", version="").version is None
    assert asked("GET", f"{ROOT}/t").version is None


@pytest.mark.parametrize("text", ["x", "1.0", "+1", " 1", "1_0", "٣", "9" * 40, str(-(2**62) - 1)])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises((InvalidParameterError, InvalidArgumentError), match="version"):
        asked("GET", f"{ROOT}/t", version=text)


def test_a_number_has_its_least() -> None:
    assert asked("GET", ROOT, max_items="1").max_items == 1
    with pytest.raises(InvalidArgumentError):
        asked("GET", ROOT, max_items="0")


def test_true_and_false() -> None:
    assert asked("DELETE", f"{ROOT}/t", if_exists="true").if_exists
    assert not asked("DELETE", f"{ROOT}/t", if_exists="false").if_exists
    assert not asked("DELETE", f"{ROOT}/t").if_exists
    path, spec = f"{ROOT}/t/partitions", b'{"partition": "pt=1", "if_not_exists": %s}'
    assert asked("POST", path, spec % b"true").if_not_exists
    assert not asked("POST", path, spec % b"null").if_not_exists
    with pytest.raises(InvalidParameterError):
        asked("DELETE", f"{ROOT}/t", if_exists="yes")
    with pytest.raises(InvalidParameterError):
        asked("POST", path, spec % b"1")


@pytest.mark.parametrize(
    ("path", "attribute"), [("/fletching/v1/projects", "project"), (ROOT, "table")]
)
def test_a_new_name_comes_in_the_query_or_in_the_body(path: str, attribute: str) -> None:
    body = b'{"name": %s, "arrow_schema": ""}'
    for request in (
        asked("POST", path, body % b'"b"', name="q"),
        asked("POST", path, body % b'"q"'),
    ):
        name = getattr(request, attribute)
        assert (name.name if isinstance(name, TableName) else name) == "q"
    for missing in (b"null", b'""'):
        with pytest.raises(InvalidParameterError, match="name is missing"):
            asked("POST", path, body % missing)
    with pytest.raises(InvalidParameterError):
        asked("POST", path, body % b"5")


def test_a_partition_may_be_as_long_as_in_any_request() -> None:
    long = PartitionSpec((("pt", "x" * 5000),))
    for request in (
        CreatePartition(table=T, partition=long),
        DropPartition(table=T, partition=long),
    ):
        sent = encode_admin_request(request)
        assert decode_admin_request(sent.method, sent.path, sent.query, sent.body) == request
    with pytest.raises(InvalidArgumentError):
        asked("DELETE", f"{ROOT}/t/partitions", partition=f"pt={'x' * 9000}")


def test_a_tag_may_have_any_name() -> None:
    sent = encode_admin_request(DescribeTable(table=T, tag="None"))
    assert sent.query == [("tag", "None")]


@pytest.mark.parametrize(
    "path",
    [
        "//schemas/s/tables",
        "/p/schemas//tables",
        "/p/schemas/s/tables//",
        "/p/schemas/s/statements/x/y",
    ],
)
def test_names_in_a_path_are_not_empty(path: str) -> None:
    with pytest.raises(NotFoundError):
        asked("GET", f"/fletching/v1/projects{path}")


def test_a_statement_is_asked_for_without_waiting() -> None:
    path = "/fletching/v1/projects/p/schemas/s/statements"
    assert asked("GET", f"{path}/i").wait_seconds == 0.0
    assert asked("DELETE", f"{path}/i", wait_seconds="1.5").wait_seconds == 1.5
    assert asked("POST", path, b'{"text": "SELECT 1"}').wait_seconds == 10.0
    with pytest.raises(InvalidParameterError):
        asked("GET", f"{path}/i", wait_seconds="-1")
