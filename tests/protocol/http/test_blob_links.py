from __future__ import annotations

from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.errors import InvalidParameterError, SignatureMismatchError
from fletching.protocol.http.blob_links import (
    ByteRangeRequest,
    blob_path,
    content_disposition,
    content_range,
    parse_link,
    parse_range,
    reference_in_path,
    signed_link,
    verify_link,
)
from fletching.types import ByteRange

REFERENCE = "ab+/" * 20


def test_references_stand_in_paths_without_escapes() -> None:
    path = blob_path(REFERENCE)
    assert path == "/fletching/v1/blobs/" + "ab-_" * 20
    assert reference_in_path(path) == REFERENCE
    assert reference_in_path("/fletching/v1/projects") is None
    assert blob_path(f" {REFERENCE}== ") == path


def test_links() -> None:
    parts = urlsplit(signed_link(REFERENCE, "id &+", "secret", 1000))
    assert reference_in_path(parts.path) == REFERENCE
    claim = parse_link(dict(parse_qsl(parts.query)))
    assert claim is not None
    assert (claim.access_id, claim.expires) == ("id &+", 1000)
    verify_link(claim, "secret", parts.path, 1000)
    for secret, path, now in [
        ("Secret", parts.path, 999),
        ("secret", parts.path[:-1] + "x", 999),
        ("secret", parts.path, 1001),
    ]:
        with pytest.raises(SignatureMismatchError):
            verify_link(claim, secret, path, now)
    for changed in (claim._replace(expires=2000), claim._replace(access_id="other")):
        with pytest.raises(SignatureMismatchError):
            verify_link(changed, "secret", parts.path, 999)
    with pytest.raises(SignatureMismatchError):
        verify_link(claim._replace(signature="é"), "secret", parts.path, 999)


def test_what_is_no_link() -> None:
    assert parse_link({"x": "y"}) is None
    for query in (
        {"Signature": "s"},
        {"Signature": "s", "AccessId": "a", "Expires": "soon"},
        {"Signature": "s", "AccessId": "", "Expires": "1"},
    ):
        with pytest.raises(InvalidParameterError):
            parse_link(query)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-", ByteRangeRequest(0, None)),
        ("bytes=3-5", ByteRangeRequest(3, 6)),
        (" Bytes = 3 - 5 ", ByteRangeRequest(3, 6)),
        ("bytes=-5", ByteRangeRequest(None, 5)),
        ("bytes=5-3", None),
        ("bytes=0-1,3-4", None),
        ("bytes=-", None),
        ("bytes=", None),
        ("bytes", None),
        ("", None),
        ("rows=1-2", None),
        ("bytes=a-b", None),
        ("bytes=--1", None),
        ("bytes=٣-", None),
        ("bytes=" + "9" * 19 + "-", None),
    ],
)
def test_ranges(header: str, expected: ByteRangeRequest | None) -> None:
    assert parse_range(header) == expected


@given(st.text())
def test_any_range_header_is_read_or_ignored(header: str) -> None:
    result = parse_range(header)
    assert result is None or result.start is not None or result.end is not None


def test_content_range() -> None:
    assert content_range(ByteRange(3, 6), 10) == "bytes 3-5/10"


@given(st.text(min_size=1))
def test_any_file_name_makes_a_header_that_names_it(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        return
    header = content_disposition(name)
    assert header.isascii()
    assert header.isprintable()
    assert unquote(header.rpartition("UTF-8''")[2]) == name
    assert header.count('"') == 2


def test_no_file_name() -> None:
    assert content_disposition(None) == content_disposition("") == "inline"
