"""Parameters are read strictly: what is not known, given twice or no number is refused by name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fletching.errors import InvalidArgumentError
from fletching.protocol.types.row_formats import FileFormat
from fletching.server.plain.plain_parameters import (
    MEDIA_TYPES,
    format_of_request,
    parameters,
    partition_of,
    whole_number,
)
from fletching.types import PartitionSpec


def asked(*query: tuple[str, str]) -> Any:
    return SimpleNamespace(query=query)


def test_parameters_are_known_and_given_as_often_as_they_may_be() -> None:
    known = {"limit": False, "partition": True}
    result = parameters(asked(("partition", "a=1"), ("limit", "3"), ("partition", "a=2")), known)
    assert result == {"partition": ["a=1", "a=2"], "limit": ["3"]}
    with pytest.raises(InvalidArgumentError, match="there is no parameter 'limits'"):
        parameters(asked(("limits", "3")), known)
    with pytest.raises(InvalidArgumentError, match="limit is given twice"):
        parameters(asked(("limit", "3"), ("limit", "3")), known)


def test_numbers_are_ascii_digits() -> None:
    assert whole_number("limit", None) is None
    assert whole_number("limit", "007") == 7
    for text in ("", "-1", "1.0", "1e3", " 1", "\u0663", "9" * 19):
        with pytest.raises(InvalidArgumentError, match="limit is a whole number"):
            whole_number("limit", text)


def test_partitions_are_keys_and_values() -> None:
    assert partition_of("a=1,b=2") == PartitionSpec.parse({"a": "1", "b": "2"})
    with pytest.raises(InvalidArgumentError):
        partition_of("a")


def test_a_format_is_named_before_it_is_negotiated() -> None:
    assert format_of_request("csv", "application/parquet", "accept") is FileFormat.CSV
    assert format_of_request(None, "text/html, TEXT/CSV;q=0.1", "accept") is FileFormat.CSV
    for header in ("", "*/*", "text/html, application/*"):
        assert format_of_request(None, header, "accept") is None
    for given, header in (("xml", ""), (None, "text/html")):
        with pytest.raises(InvalidArgumentError, match="is none of"):
            format_of_request(given, header, "accept")
    for chosen, media_type in MEDIA_TYPES.items():
        assert format_of_request(None, media_type, "content-type") is chosen
