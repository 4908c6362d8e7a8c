"""Every request of our own API goes over HTTP and comes back as it was, whatever its fields hold."""

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

from fletching.errors import InvalidParameterError, NotFoundError
from fletching.protocol.codec import (
    decode_admin_request,
    decode_admin_response,
    encode_admin_request,
    encode_admin_response,
)
from fletching.protocol.messages import admin, changes
from fletching.protocol.messages.admin import RunStatement
from fletching.protocol.messages.changes import DeleteRows, ListVersions, VersionInfo, VersionPage
from fletching.protocol.messages.requests import Request
from fletching.protocol.messages.responses import Changed
from fletching.types import PartitionSpec, TableName

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
def test_replies_come_back(request_: Request, reply: Any) -> None:
    _, body = encode_admin_response(reply)
    assert decode_admin_response(request_, body) == reply


def test_what_is_no_action_or_does_not_fit_is_refused() -> None:
    sent = encode_admin_request(DeleteRows(table=TABLE, where="a"))
    with pytest.raises(NotFoundError):
        decode_admin_request(sent.method, sent.path.replace("/delete", "/erase"), [], sent.body)
    for body in (b"{}", b'{"where": 1}', b'{"where": "a", "if_version": "x"}', b"[]", b"{"):
        with pytest.raises(InvalidParameterError):
            decode_admin_request(sent.method, sent.path, [], body)
