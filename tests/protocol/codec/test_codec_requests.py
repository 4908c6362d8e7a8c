from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.folding import folded

from fletching.errors import (
    InvalidArgumentError,
    InvalidParameterError,
    MethodNotAllowedError,
    PayloadTooLargeError,
    ServiceError,
)
from fletching.protocol.codec import decode_request, encode_request, parse_action
from fletching.protocol.codec.codec_parts import MAX_JSON_BYTES
from fletching.protocol.messages.manifest import SourceKind
from fletching.protocol.messages.requests import (
    ArrowOptions,
    CommitWriteSession,
    CreateReadSession,
    ReadTable,
    WriteBlob,
    WriteTable,
)
from fletching.protocol.messages.vocabulary import Action, ApiVersion, TimeUnit
from fletching.types import TableName

sys.path.insert(0, str(Path(__file__).parent.parent))

from storage_api_cases import CASES, V2, V3, Case  # type: ignore[import-not-found]  # beside this file

EXACT = [case for case in CASES if case.exact]


@folded("case", CASES)
def test_what_clients_send_is_understood(case: Case) -> None:
    assert decode_request(case.method, case.query, case.headers, case.body_bytes) == case.request


@folded("case", EXACT)
def test_our_client_sends_what_pyodps_sends(case: Case) -> None:
    token = case.headers.get("x-odps-max-storage-route-token", "")
    encoded = encode_request(case.request, case.version, route_token=token)
    assert encoded.method == case.method
    assert encoded.path == case.url.split("?")[0]
    # An empty value and an absent one mean the same.
    assert {k: v for k, v in encoded.query if v} == {k: v for k, v in case.query if v}
    assert encoded.headers == case.headers
    if case.body is None:
        assert encoded.body == b""
    else:
        assert json.loads(encoded.body) == case.body


@folded("case", CASES)
@folded("version", list(ApiVersion))
def test_what_our_client_sends_is_understood(case: Case, version: ApiVersion) -> None:
    encoded = encode_request(case.request, version)
    decoded = decode_request(encoded.method, encoded.query, encoded.headers, encoded.body)
    if version is V2 and getattr(case.request, "write_mode", None) == "Streaming":
        # version 2 cannot say Streaming of a session with a name of its own
        assert getattr(decoded, "session_id", "") in {"default", "ws-1b627a14"}
    else:
        assert decoded == case.request


def test_our_extension_fields_survive() -> None:
    table = TableName("p", "t")
    requests: list[Any] = [
        CreateReadSession(
            table=table,
            verbatim_types=True,
            first_split=True,
            sources=(SourceKind.SIGNED,),
            arrow_options=ArrowOptions(timestamp_unit=None, datetime_unit=TimeUnit.SECOND),
            filter_predicate="a > 1",
            filter_predicate_fallback=True,
            required_bucket_ids=(1, 2),
            with_token=True,
            with_splits=True,
            with_partitions=True,
        ),
        ReadTable(
            table=table,
            session_id="s",
            index=0,
            sources=(SourceKind.DESCRIPTORS, SourceKind.SIGNED),
        ),
        WriteBlob(
            table=table,
            session_id="s",
            stream_id="x",
            content_type="image/png",
            file_name="ä/ö.png",
            crc32c_only=True,
        ),
        WriteTable(
            table=table,
            session_id="s",
            stream_id="x",
            content_encoding="zstd",
            retry_trace_id="trace" * 40,  # an identity: whole, whatever its length
        ),
    ]
    for request in requests:
        encoded = encode_request(request, V3)
        assert decode_request("POST", encoded.query, encoded.headers, encoded.body) == request


def test_an_empty_stream_list_commits_all() -> None:
    request = CommitWriteSession(table=TableName("p", "t"), session_id="s", streams=())
    encoded = encode_request(request, V2)
    decoded = decode_request("POST", encoded.query, encoded.headers, encoded.body)
    assert isinstance(decoded, CommitWriteSession)
    assert decoded.streams is None


def decode(query: str, body: Any = None, method: str = "POST") -> Any:
    pairs = [(k, v) for k, _, v in (item.partition("=") for item in query.split("&"))]
    raw = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
    return decode_request(method, pairs, {}, raw)


READ = "Action=TableRead&Target=projects.p.tables.t&SessionId=s"
OPEN = "Action=TableCreateReadSession&Target=projects.p.tables.t"
WRITE = "Action=TableWrite&Target=projects.p.tables.t&SessionId=s&StreamId=x"
CREATE = "Action=TableCreateWriteSession&Target=projects.p.tables.t"

REFUSED: list[tuple[str, Any, type[ServiceError], str]] = [
    ("Target=projects.p.tables.t", None, InvalidParameterError, "Action is missing"),
    ("Action=VolumeRead&Target=x", None, InvalidParameterError, "'VolumeRead' is not supported"),
    ("Action=TableRead", None, InvalidParameterError, "Target is missing"),
    (READ.replace("tables.t", "t"), None, InvalidParameterError, "Target"),
    (READ.replace("tables.t", "tables.a.b"), None, InvalidParameterError, "Target"),
    ("Action=TableRead&Target=projects.p.tables.t", None, InvalidParameterError, "SessionId"),
    (READ + "x" * 300, None, InvalidParameterError, "above the limit"),
    (READ + "&Index=a", None, InvalidParameterError, "Index is not an integer"),
    (READ + "&Index=99999999999999999999", None, InvalidParameterError, "Index"),
    (READ + "&Index=9999999999999999999", None, InvalidParameterError, "Index"),
    (READ + "&Offset=-1", None, InvalidArgumentError, "Offset is -1"),
    (READ, {"MaxBatchRows": 20001}, InvalidArgumentError, "MaxBatchRows"),
    (READ, {"MaxBatchRows": -1}, InvalidArgumentError, "MaxBatchRows"),
    (READ, {"MaxBatchRows": True}, InvalidParameterError, "MaxBatchRows"),
    (READ, {"MaxBatchRows": "1"}, InvalidParameterError, "MaxBatchRows"),
    (READ, {"MaxBatchRows": 2**70}, InvalidParameterError, "MaxBatchRows"),
    (READ, {"MaxBatchRawSize": 1024}, InvalidArgumentError, "MaxBatchRawSize"),
    (READ, {"MaxBatchRawSize": 2**29}, InvalidArgumentError, "MaxBatchRawSize"),
    (READ, {"DataFormat": {"Type": "Csv"}}, InvalidArgumentError, "Csv"),
    (READ, {"DataFormat": {"Type": "Arrow", "Version": "V6"}}, InvalidArgumentError, "V6"),
    (READ, {"DataFormat": {"Version": 5}}, InvalidParameterError, "a Type and a Version"),
    (READ, {"DataFormat": "Arrow"}, InvalidParameterError, "a Type and a Version"),
    (READ, {"DataColumns": ["a", 1]}, InvalidParameterError, "DataColumns"),
    (READ, {"DataColumns": "a"}, InvalidParameterError, "DataColumns"),
    (READ, b"{", InvalidParameterError, "not JSON"),
    (READ, b"[]", InvalidParameterError, "not an object"),
    (READ, b"\xff", InvalidParameterError, "not JSON"),
    (READ, b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", InvalidParameterError, "nests 5001 deep"),
    (READ, b'{"a":' + b"[" * 64 + b"]" * 64 + b"}", InvalidParameterError, "nests 65 deep"),
    (READ, b'{"a":' + b"[" * 64, InvalidParameterError, "nests 65 deep"),
    (READ, b'{"MaxBatchRows": NaN}', InvalidParameterError, "not JSON"),
    (OPEN, {"SplitOptions": {"SplitMode": "Moon"}}, InvalidArgumentError, "Moon"),
    (OPEN, {"SplitOptions": {"SplitMode": 1}}, InvalidParameterError, "SplitMode"),
    (OPEN, {"SplitOptions": {"SplitNumber": -5}}, InvalidArgumentError, "SplitNumber"),
    (OPEN, {"SplitOptions": []}, InvalidParameterError, "SplitOptions"),
    (OPEN, {"ArrowOptions": {"TimestampUnit": "hour"}}, InvalidArgumentError, "hour"),
    (OPEN, {"ArrowOptions": {"TimestampUnit": 1}}, InvalidParameterError, "TimestampUnit"),
    (OPEN, {"RequiredPartitions": ["nonsense"]}, InvalidArgumentError, "RequiredPartitions"),
    (OPEN, {"RequiredPartitions": ["a=" + " " * 9000]}, InvalidArgumentError, "above the limit"),
    (OPEN, {"RequiredBucketIds": [True]}, InvalidParameterError, "RequiredBucketIds"),
    (OPEN, {"RequiredBucketIds": [2**80]}, InvalidParameterError, "64-bit integer"),
    (OPEN, {"FilterPredicate": 1}, InvalidParameterError, "FilterPredicate"),
    (OPEN, {"IncrementalRead": "yes"}, InvalidParameterError, "IncrementalRead"),
    (WRITE + "&WriteMode=Loud", None, InvalidArgumentError, "Loud"),
    (WRITE + "&RowOffset=-1", None, InvalidArgumentError, "RowOffset"),
    (WRITE + "&StreamVersion=-1", None, InvalidArgumentError, "StreamVersion"),
    (WRITE + "&WriteMode=BatchCompatible", None, InvalidParameterError, "BlockNumber"),
    (CREATE, {"Flags": {"a": []}}, InvalidParameterError, "Flags.a"),
    (CREATE, {"PartialPartitionSpec": "pt"}, InvalidArgumentError, "PartialPartitionSpec"),
    (
        CREATE + "&WriteMode=BatchCompatible",
        {"MaxFieldSize": 1},
        InvalidArgumentError,
        "MaxFieldSize",
    ),
    (
        "Action=TableCommitWriteSession&Target=projects.p.tables.t&SessionId=s",
        {"StreamIds": ["a"]},
        InvalidParameterError,
        "StreamIds has 1",
    ),
    (
        "Action=TableGetReadSession&Target=projects.p.tables.t&SessionId=s&session_refresh=maybe",
        None,
        InvalidParameterError,
        "session_refresh",
    ),
    (
        "Action=TableWriteBlob&Target=projects.p.tables.t&SessionId=s&StreamId=x&Mode=Single",
        None,
        InvalidArgumentError,
        "Mode",
    ),
    ("Action=BlobRead&Target=projects.p.tables.t", None, InvalidParameterError, "generic.blob"),
    ("Action=BlobRead&Target=generic.blob", None, InvalidArgumentError, "BlobReferences"),
    (
        "Action=InstanceRead&Target=projects.p.tables.t&SessionId=s",
        None,
        InvalidParameterError,
        "instances",
    ),
]


@folded("query, body, error, complaint", REFUSED)
def test_what_cannot_be_meant_is_refused(
    query: str, body: Any, error: type[ServiceError], complaint: str
) -> None:
    with pytest.raises(error, match=complaint) as caught:
        decode(query, body)
    assert caught.value.http_status == 400
    assert len(caught.value.message) < 500


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
def test_methods_that_do_not_fit_are_refused(method: str) -> None:
    with pytest.raises(MethodNotAllowedError) as caught:
        decode(READ, method=method)
    assert caught.value.http_status == 405


def test_json_bodies_are_bounded_before_they_are_parsed() -> None:
    with pytest.raises(PayloadTooLargeError, match=str(MAX_JSON_BYTES)):
        decode(READ, b"{" + b" " * MAX_JSON_BYTES)


def test_a_streamed_body_is_not_looked_at() -> None:
    assert isinstance(decode(WRITE, b"\xff\xff\xff\xff"), WriteTable)


def test_repeated_parameters_count_once() -> None:
    request = decode(READ + "&Index=1&Index=2")
    assert isinstance(request, ReadTable)
    assert request.index == 2
    assert parse_action([("Action", "TableRead"), ("Action", "BlobRead")]) is Action.BLOB_READ


NAMES = st.sampled_from(
    [
        *(name for case in CASES for name, _ in case.query),
        *(name for case in CASES if isinstance(case.body, dict) for name in case.body),
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


@given(
    st.sampled_from(list(Action)),
    st.dictionaries(NAMES, st.text(max_size=12), max_size=6),
    st.dictionaries(NAMES, VALUES, max_size=6),
    st.sampled_from(["projects.p.tables.t", "projects.p.instances.i", "generic.blob"]),
)
def test_any_request_is_understood_or_refused_with_a_service_error(
    action: Action, query: dict[str, str], body: dict[str, Any], target: str
) -> None:
    pairs = {**query, "Action": action.value, "Target": target}
    try:
        request = decode_request("POST", pairs.items(), {}, json.dumps(body).encode())
    except ServiceError as exc:
        if not 400 <= exc.http_status < 500:
            raise
        return
    encoded = encode_request(request, V3)
    again = decode_request(encoded.method, encoded.query, encoded.headers, encoded.body)
    assert again == request or action is Action.BLOB_READ


@pytest.mark.parametrize(
    ("query", "body", "wanted"),
    [
        ("", {}, False),
        ("true", {}, True),
        ("false", {"ExactlyOnceMode": True}, True),
        ("", {"ExactlyOnceMode": True}, True),
        ("TRUE", {"ExactlyOnceMode": False}, True),
    ],
)
def test_a_flag_is_true_if_query_or_body_says_so(query: str, body: Any, wanted: bool) -> None:
    base = "Action=TableGetWriteStream&Target=projects.p.tables.t&SessionId=s&StreamId=x"
    assert decode(f"{base}&ExactlyOnceMode={query}", body).exactly_once is wanted


def test_values_are_taken_from_the_query_or_else_from_the_body() -> None:
    base = "Action=TableGetWriteStream&Target=projects.p.tables.t"
    body = {"SessionId": "b", "StreamId": "b", "StreamVersion": 2}
    both = decode(f"{base}&SessionId=q&StreamId=q&StreamVersion=3", body)
    assert (both.session_id, both.stream_id, both.stream_version) == ("q", "q", 3)
    alone = decode(base, body)
    assert (alone.session_id, alone.stream_id, alone.stream_version) == ("b", "b", 2)
