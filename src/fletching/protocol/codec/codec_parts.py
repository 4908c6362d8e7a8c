"""The HTTP parts of a request as values, and their checked reading.

Bodies of JSON actions are objects of at most `MAX_JSON_BYTES`; unknown fields are ignored; a null
field counts as absent. What cannot be understood is `InvalidParameterError`, what is understood but
out of range `InvalidArgumentError`; neither echoes more than a short piece of the input.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from fletching.errors import (
    InvalidArgumentError,
    InvalidParameterError,
    PayloadTooLargeError,
    ProtocolError,
    UsageError,
)
from fletching.protocol.http.headers import lower_case
from fletching.protocol.http.numbers import parse_integer
from fletching.types import PartitionSpec

__all__ = [
    "MAX_IDENTIFIER",
    "MAX_JSON_BYTES",
    "MAX_PARTITION_TEXT",
    "HttpRequest",
    "RequestParts",
    "encode_json",
    "load_json_object",
    "parse_partition",
]

MAX_JSON_BYTES = 16 * 1024 * 1024
"""Largest JSON body: 20,000 commit messages or 100,000 blob references fit, little else comes near."""

MAX_IDENTIFIER = 255
"""Longest session id, stream id or token-like name, in characters."""

MAX_PARTITION_TEXT = 8192
"""Longest partition specification, in characters."""

_INT64 = range(-(2**63), 2**63)


@dataclasses.dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as HTTP carries it.

    ``body`` is the JSON body; it is empty for actions whose body is a stream, which the caller
    sends instead (``content_type`` names its kind).
    """

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes = b""


def encode_json(value: object) -> bytes:
    """Compact UTF-8 JSON."""
    return msgspec.json.encode(value)


def load_json_object(body: bytes | memoryview) -> dict[str, Any]:
    """Decodes a JSON object; an empty body is an empty object.

    Raises:
        PayloadTooLargeError: the body is above `MAX_JSON_BYTES`.
        InvalidParameterError: it is not a JSON object, or nests too deeply.
    """
    if len(body) > MAX_JSON_BYTES:
        raise PayloadTooLargeError(
            f"JSON body of {len(body)} bytes is above the limit of {MAX_JSON_BYTES}",
            limit=MAX_JSON_BYTES,
            actual=len(body),
        )
    if not len(body):
        return {}
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidParameterError(f"the body is not JSON: {str(exc)[:200]}") from exc
    if not isinstance(value, dict):
        raise InvalidParameterError("the body is JSON, but not an object")
    return value


def load_reply(body: bytes | memoryview) -> dict[str, Any]:
    """Decodes the JSON object of a reply.

    Raises:
        ProtocolError: it is not one.
    """
    try:
        return load_json_object(body)
    except (InvalidParameterError, PayloadTooLargeError) as exc:
        raise ProtocolError(f"the reply cannot be read: {exc.message}", side="remote") from exc


def parse_partition(text: str, where: str) -> PartitionSpec:
    """Reads a partition specification out of a request.

    Raises:
        InvalidArgumentError: it has no readable form, or is longer than `MAX_PARTITION_TEXT`.
    """
    if len(text) > MAX_PARTITION_TEXT:
        raise InvalidArgumentError(
            f"{where} has {len(text)} characters, above the limit of {MAX_PARTITION_TEXT}"
        )
    try:
        return PartitionSpec.parse(text)
    except UsageError as exc:
        raise InvalidArgumentError(f"{where}: {exc.message[:300]}") from exc


class RequestParts:
    """Reads query, headers and JSON body of one request."""

    def __init__(
        self,
        query: Iterable[tuple[str, str]],
        headers: Mapping[str, str] | Iterable[tuple[str, str]],
        body: bytes | memoryview = b"",
    ) -> None:
        """Decodes the body; of repeated query parameters and headers the last counts.

        Raises:
            PayloadTooLargeError: the body is above `MAX_JSON_BYTES`.
            InvalidParameterError: it is not a JSON object.
        """
        self.query = dict(query)
        self.headers = lower_case(headers)
        self.json = load_json_object(body)

    # --- query -------------------------------------------------------------------------------

    def query_text(self, name: str) -> str | None:
        """A query parameter, None if absent or empty."""
        return self.query.get(name) or None

    def query_int(self, name: str, *, least: int = 0) -> int | None:
        """A whole query parameter of at least ``least``, None if absent or empty."""
        text = self.query_text(name)
        if text is None:
            return None
        value = parse_integer(text)
        if value is None:
            raise InvalidParameterError(f"query parameter {name} is not an integer: {text[:40]!r}")
        return _at_least(value, name, least)

    def query_bool(self, name: str) -> bool:
        """A query parameter that is ``true`` or ``false``; absent is false."""
        text = self.query_text(name)
        if text is None or text.lower() == "false":
            return False
        if text.lower() == "true":
            return True
        raise InvalidParameterError(f"query parameter {name} is not true or false: {text[:40]!r}")

    def identifier(self, name: str) -> str:
        """A required id: in the query, or else in the body."""
        text = self.query_text(name) or self.json_text(name)
        if not text:
            raise InvalidParameterError(f"{name} is missing")
        if len(text) > MAX_IDENTIFIER:
            raise InvalidParameterError(
                f"{name} has {len(text)} characters, above the limit of {MAX_IDENTIFIER}"
            )
        return text

    # --- JSON body ---------------------------------------------------------------------------

    def json_text(self, name: str, default: str = "") -> str:
        """A string field."""
        value = self.json.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise InvalidParameterError(f"{name} is not a string")
        return value

    def json_int(self, name: str, default: int | None = None, *, least: int = 0) -> int | None:
        """A whole number of at least ``least``."""
        return integer_field(self.json, name, default, least=least)

    def json_bool(self, name: str, *, default: bool = False) -> bool:
        """A true or false field."""
        return boolean_field(self.json, name, default=default)

    def json_object(self, name: str) -> dict[str, Any]:
        """An object field; absent is empty."""
        value = self.json.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise InvalidParameterError(f"{name} is not an object")
        return value

    def json_texts(self, name: str) -> tuple[str, ...]:
        """A list of strings; absent is empty."""
        return tuple(self._list(name, str))

    def json_ints(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers; absent is empty."""
        return tuple(self._list(name, int))

    def _list(self, name: str, kind: type) -> list[Any]:
        value = self.json.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or any(
            not isinstance(item, kind) or isinstance(item, bool) for item in value
        ):
            raise InvalidParameterError(f"{name} is not a list of {kind.__name__}")
        if kind is int and any(item not in _INT64 for item in value):
            raise InvalidParameterError(f"{name} has a number beyond 64 bits")
        return value


def integer_field(
    value: Mapping[str, Any], name: str, default: int | None = None, *, least: int = 0
) -> int | None:
    """A whole number of at least ``least`` in a JSON object."""
    item = value.get(name)
    if item is None:
        return default
    if not isinstance(item, int) or isinstance(item, bool) or item not in _INT64:
        raise InvalidParameterError(f"{name} is not a 64-bit integer")
    return _at_least(item, name, least)


def boolean_field(value: Mapping[str, Any], name: str, *, default: bool = False) -> bool:
    """A true or false field in a JSON object."""
    item = value.get(name)
    if item is None:
        return default
    if not isinstance(item, bool):
        raise InvalidParameterError(f"{name} is not true or false")
    return item


def _at_least(number: int, name: str, least: int) -> int:
    if number < least:
        raise InvalidArgumentError(f"{name} is {number}; it must be at least {least}")
    return number
