"""The HTTP parts of a request as values, and their checked reading.

Bodies of JSON actions are objects of at most `MAX_JSON_BYTES`; unknown fields are ignored; a null
field counts as absent.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import msgspec

from fletching.errors import InvalidParameterError, PayloadTooLargeError
from fletching.protocol.http.headers import lower_case
from fletching.protocol.types.json_depth import json_depth

__all__ = [
    "MAX_JSON_BYTES",
    "HttpRequest",
    "RequestParts",
    "encode_json",
    "load_json_object",
]

MAX_JSON_BYTES = 16 * 1024 * 1024
"""Largest JSON body: 20,000 commit messages or 100,000 blob references fit, little else comes near."""


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


MAX_JSON_DEPTH = 64
"""How deep the JSON of a request may nest: no message of the protocol comes to a tenth of it, and how deep
a parser goes by itself depends on the interpreter."""


def check_json_depth(body: bytes | memoryview) -> None:
    """Refuses JSON that nests deeper than `MAX_JSON_DEPTH`; whether it is JSON at all shows later.

    Raises:
        InvalidParameterError: it does.
    """
    deepest = json_depth(bytes(body), MAX_JSON_DEPTH)
    if deepest > MAX_JSON_DEPTH:
        raise InvalidParameterError(
            f"the body's JSON nests {deepest} deep, the limit is {MAX_JSON_DEPTH}"
        )


def load_json_object(body: bytes | memoryview) -> dict[str, object]:
    """Decodes a JSON object; an empty body is an empty object.

    Raises:
        PayloadTooLargeError: the body is above `MAX_JSON_BYTES`.
        InvalidParameterError: it is not a JSON object, or nests deeper than `MAX_JSON_DEPTH`.
    """
    if len(body) > MAX_JSON_BYTES:
        raise PayloadTooLargeError(
            f"JSON body of {len(body)} bytes is above the limit of {MAX_JSON_BYTES}",
            limit=MAX_JSON_BYTES,
            actual=len(body),
        )
    if not len(body):
        return {}
    check_json_depth(body)
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidParameterError(f"the body is not JSON: {str(exc)[:200]}") from exc
    if not isinstance(value, dict):
        raise InvalidParameterError("the body is JSON, but not an object")
    return value


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

    def query_text(self, name: str) -> str | None:
        """A query parameter, None if absent or empty."""
        return self.query.get(name) or None
