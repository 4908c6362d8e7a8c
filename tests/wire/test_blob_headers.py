"""The JSON around a blob: what is written is read again, and what is not a header is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fletching.errors import MalformedFrameError
from fletching.wire.blob_headers import BlobHeader, ChecksumType, checksum_type, json_object

FULL = BlobHeader(
    content_type="image/png",
    file_name="ü.png",
    partition_values=("pt=1", "hh=00"),
    column_id=-3,
    distribution_key="aGk=",
    checksum=ChecksumType.MD5,
    extra={"x-more": {"iso": 100}},
)


@pytest.mark.parametrize(
    "header", [BlobHeader(), FULL, BlobHeader(partition_values=()), BlobHeader(column_id=0)]
)
def test_a_header_is_read_as_it_was_written(header: BlobHeader) -> None:
    assert BlobHeader.from_json(header.to_json()) == header


def test_the_names_are_those_of_the_protocol() -> None:
    assert json.loads(FULL.to_json()) == {
        "ContentType": "image/png",
        "CustomFileName": "ü.png",
        "PartitionValues": ["pt=1", "hh=00"],
        "ColumnIndex": -3,
        "DistributionKey": "aGk=",
        "ChecksumType": 2,
        "x-more": {"iso": 100},
    }


def test_nothing_and_empty_texts_are_none() -> None:
    empty = BlobHeader()
    assert BlobHeader.from_json(b"") == empty
    assert BlobHeader.from_json(b"{}") == empty
    answered = b'{"ContentType":"","CustomFileName":null,"DistributionKey":"","ColumnIndex":null}'
    assert BlobHeader.from_json(answered) == empty
    assert json_object(memoryview(b""), "footer", 0) == {}


@pytest.mark.parametrize(
    ("fields", "actual"),
    [
        ({"ContentType": 5}, "int"),
        ({"CustomFileName": ["a"]}, "list"),
        ({"DistributionKey": True}, "bool"),
        ({"ColumnIndex": "1"}, "str"),
        ({"ColumnIndex": True}, "bool"),
        ({"ColumnIndex": 1.0}, "float"),
        ({"ChecksumType": "1"}, "str"),
        ({"ChecksumType": False}, "bool"),
        ({"PartitionValues": "pt=1"}, "str"),
        ({"PartitionValues": ["pt=1", 2]}, "list"),
        ({"PartitionValues": {"pt": "1"}}, "dict"),
    ],
)
def test_a_known_key_of_the_wrong_type_is_named_with_its_place(
    fields: dict[str, Any], actual: str
) -> None:
    with pytest.raises(MalformedFrameError) as caught:
        BlobHeader.from_json(json.dumps(fields).encode(), offset=77)
    (name,) = fields
    assert name in str(caught.value)
    assert (caught.value.offset, caught.value.actual) == (77, actual)


@pytest.mark.parametrize("data", [b"[]", b"null", b"{", b"\xff", b'{"a":"\xff"}', b"[" * 5000])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedFrameError, match="the footer of a blob frame") as caught:
        json_object(data, "footer", 9)
    assert caught.value.offset == 9


def test_checksum_types_are_those_that_there_are() -> None:
    assert [checksum_type(number, 0) for number in range(3)] == list(ChecksumType)
    for bad in (3, -1, True, "1", 1.0, None):
        with pytest.raises(MalformedFrameError, match="does not exist") as caught:
            checksum_type(bad, 4)
        assert caught.value.offset == 4
        assert caught.value.expected == [0, 1, 2]
