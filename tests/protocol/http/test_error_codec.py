from __future__ import annotations

import errno
import json
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching import errors
from fletching.errors import (
    FletchingError,
    InternalServerError,
    RowOffsetError,
    SchemaModifiedError,
    ServiceError,
    StorageError,
    StorageFullError,
    ThrottledError,
)
from fletching.protocol.http.error_codec import decode_error, encode_error, to_service_error


def tree(root: type[FletchingError]) -> Iterator[type[FletchingError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


SERVICE = sorted(set(tree(ServiceError)) - {ServiceError}, key=str)
OTHERS = sorted(set(tree(FletchingError)) - set(tree(ServiceError)) - {FletchingError}, key=str)


@pytest.mark.parametrize("kind", SERVICE, ids=lambda kind: kind.__name__)
def test_a_service_error_comes_back_as_itself(kind: type[ServiceError]) -> None:
    error = kind("what failed", retry_after_seconds=1.2)
    fault = encode_error(error, "r-1")
    assert fault.status == kind.default_status
    body = json.loads(fault.body)
    assert body["Code"] == kind.default_code
    assert body["Message"] == "what failed"
    assert body["RequestId"] == "r-1"
    assert fault.headers["x-odps-request-id"] == "r-1"
    assert fault.headers["retry-after"] == "2"
    again = decode_error(fault.status, fault.headers, fault.body)
    assert type(again) is kind
    assert again.message == "what failed"
    assert again.request_id == "r-1"
    assert again.retry_after_seconds == 2
    assert again.http_status == kind.default_status


@pytest.mark.parametrize("kind", SERVICE, ids=lambda kind: kind.__name__)
def test_without_our_extension_the_class_comes_from_code_and_status(
    kind: type[ServiceError],
) -> None:
    body = json.dumps({"Code": kind.default_code, "Message": "m"}).encode()
    again = decode_error(kind.default_status, {"X-Odps-Request-Id": "r"}, body)
    assert (again.default_status, again.default_code) == (kind.default_status, kind.default_code)
    assert again.request_id == "r"


@pytest.mark.parametrize("kind", OTHERS, ids=lambda kind: kind.__name__)
def test_every_other_error_of_ours_has_a_place(kind: type[FletchingError]) -> None:
    fault = encode_error(kind("what failed"), "r")
    assert 400 <= fault.status < 600
    body = json.loads(fault.body)
    assert body["Code"]
    assert body["Message"] == "what failed"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.MalformedFrameError("m"), 400, "InvalidArgument"),
        (errors.ChecksumMismatchError("m"), 400, "InvalidArgument"),
        (errors.LimitExceededError("m", limit=5), 413, "InvalidArgument"),
        (errors.IllegalTransitionError("m"), 409, "InvalidStateSetting"),
        (errors.UsageError("m"), 400, "InvalidArgument"),
        (errors.MissingExtraError("m"), 500, "InternalServerError"),
        (errors.CorruptObjectError("m"), 500, "DataCorrupted"),
        (errors.StorageError("m"), 503, "ServiceUnavailable"),
        (errors.ConflictError("m", code="OverwriteModeNotAllowed"), 409, "OverwriteModeNotAllowed"),
        (ValueError("a secret"), 500, "InternalServerError"),
        (KeyboardInterrupt(), 500, "InternalServerError"),
    ],
)
def test_where_errors_are_placed(error: BaseException, status: int, code: str) -> None:
    fault = encode_error(error, "r")
    assert (fault.status, json.loads(fault.body)["Code"]) == (status, code)
    assert b"secret" not in fault.body


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_from_other_storage_faults(number: int) -> None:
    error = StorageError("cannot write")
    error.__cause__ = OSError(number, "full")
    assert isinstance(to_service_error(error, "r"), StorageFullError)
    assert encode_error(error, "r").status == 507
    other = StorageError("cannot write")
    other.__cause__ = OSError(errno.EIO, "io")
    assert encode_error(other, "r").status == 503


def test_a_chain_of_causes_without_end_is_not_followed_for_ever() -> None:
    error = StorageError("a")
    error.__cause__ = error
    assert encode_error(error, "r").status == 503


def test_facts_travel() -> None:
    fault = encode_error(RowOffsetError("gap", expected_offset=7), "r")
    again = decode_error(fault.status, fault.headers, fault.body)
    assert isinstance(again, RowOffsetError)
    assert again.expected_offset == 7
    fault = encode_error(SchemaModifiedError("moved", latest_schema_version=3), "r")
    assert fault.headers["odps-tunnel-latest-schema-version"] == "3"
    again = decode_error(412, fault.headers, b"")
    assert isinstance(again, SchemaModifiedError)
    assert again.latest_schema_version == 3


def test_xml_of_another_service_is_read() -> None:
    body = (
        b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>NoSuchTable</Code>'
        b"<Message>&lt;t&gt; &amp;</Message><RequestId>r-9</RequestId><HostId>h</HostId></Error>"
    )
    again = decode_error(404, {}, body)
    assert isinstance(again, errors.NoSuchTableError)
    assert again.message == "<t> &"
    assert again.request_id == "r-9"


def test_an_empty_request_id_is_none() -> None:
    assert decode_error(404, {}, b'{"Code":"NoSuchTable","RequestId":""}').request_id is None


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (404, b"", errors.NotFoundError, "the service answered 404"),
        (401, b"oops", errors.UnauthorizedError, "the service answered 401"),
        (429, b"{}", ThrottledError, "the service answered 429"),
        (502, b"<html>", InternalServerError, "the service answered 502"),
        (418, b"[]", ServiceError, "the service answered 418"),
        (400, b'{"Code":"Odd","Message":"m"}', errors.InvalidParameterError, "m"),
        (403, b'{"Code":"FlowExceeded","Message":"m"}', ThrottledError, "m"),
        (
            400,
            b'{"Code":"AuthenticationRequestExpired","Message":"m"}',
            errors.UnauthorizedError,
            "m",
        ),
        (409, b'{"Code":"InvalidArgument","Message":"m"}', RowOffsetError, "m"),
        (
            400,
            b'{"Code":1,"Message":2,"Error":{"Type":"OSError"}}',
            errors.InvalidParameterError,
            "",
        ),
        (
            400,
            b'{"Code":"InvalidParameter","Message":"m","Error":{"Type":"WireError"}}',
            errors.InvalidParameterError,
            "m",
        ),
        (404, b'{"Code":"","Message":"m"}', errors.NotFoundError, "m"),
        (
            500,
            b"<Error><Code>InternalServerError</Code><Message><![CDATA[a<b]]></Message></Error>",
            InternalServerError,
            "a<b",
        ),
    ],
)
def test_other_services_replies(
    status: int, body: bytes, kind: type[ServiceError], message: str
) -> None:
    error = decode_error(status, {}, body)
    assert type(error) is kind
    assert error.http_status == status
    assert message in error.message


@given(st.integers(400, 599), st.binary(max_size=200))
def test_any_reply_is_some_service_error(status: int, body: bytes) -> None:
    error = decode_error(status, {"retry-after": "soon"}, body)
    assert error.http_status == status
    assert error.retry_after_seconds is None


def test_bytes_that_were_no_text_do_not_break_the_reply() -> None:
    fault = encode_error(errors.InvalidArgumentError("a\udcffb", actual="\udcff"), "r")
    assert json.loads(fault.body)["Message"] == "a?b"


def test_messages_are_bounded() -> None:
    fault = encode_error(errors.InvalidArgumentError("x" * 10_000), "r")
    assert len(fault.body) < 3000


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (
            "max_interval_date:900000,expire_date:2026-01-01T02:00:00.000Z,now_date:2026-01-01T00:00:00.000Z",
            "this machine's clock is 2:00:00 ahead of the service's",
        ),
        (
            "max_interval_date:900000,expire_date:2025-12-30T00:00:00.000Z,now_date:2026-01-01T00:00:00.000Z",
            "this machine's clock is 2 days, 0:00:00 behind the service's",
        ),
        ("max_interval_date:1,expire_date:soon,now_date:later", "max_interval_date:1,"),
        ("max_interval_date:1,expire_date:2026-01-01,now_date:2026-01-01T00:00:00Z", "max_"),
        ("another service's words", "another service's words"),
    ],
)
def test_people_are_told_how_far_clocks_differ(message: str, says: str) -> None:
    body = msgspec.json.encode({"Code": "RequestTimeTooSkewed", "Message": message})
    error = decode_error(400, {}, body)
    assert error.message.startswith(says)
    assert message in error.message
