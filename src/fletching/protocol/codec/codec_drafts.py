"""What the encoders and decoders of several requests share (PROTOCOL sections 1 and 2)."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, TypeVar

from fletching.errors import InvalidArgumentError, InvalidParameterError
from fletching.protocol.codec.codec_parts import RequestParts
from fletching.protocol.http import headers as names
from fletching.protocol.http.targets import format_instance, format_table
from fletching.protocol.messages.requests import (
    DEFAULT_SESSION_ID,
    ArrowOptions,
    InstanceRequest,
    TableRequest,
)
from fletching.protocol.messages.vocabulary import Action, ApiVersion, TimeUnit, WriteMode

__all__ = [
    "DATA_FORMAT",
    "Draft",
    "accept_encoding",
    "arrow_options",
    "check_data_format",
    "content_encoding",
    "instance_draft",
    "mode_pairs",
    "stream_version",
    "table_draft",
    "word",
    "write_mode",
]

DATA_FORMAT = {"Type": "Arrow", "Version": "V5"}
"""The only format of table data."""

_Pairs = list[tuple[str, str]]
_Word = TypeVar("_Word", bound=enum.StrEnum)


def write_mode(parts: RequestParts, session_id: str | None) -> WriteMode:
    """Absent means Batch, but the implicit session is always a streaming one (PROTOCOL 1.3)."""
    text = parts.query_text("WriteMode")
    if text is None:
        return WriteMode.STREAMING if session_id == DEFAULT_SESSION_ID else WriteMode.BATCH
    return word(WriteMode, text, "WriteMode")


def word(kinds: type[_Word], text: str, name: str) -> _Word:
    """Reads one of a fixed set of words, in any case; anything else is `InvalidArgumentError`."""
    for kind in kinds:
        if kind.value.lower() == text.lower():
            return kind
    known = ", ".join(kind.value for kind in kinds)
    raise InvalidArgumentError(f"{name} is {text[:40]!r}, not one of {known}")


def mode_pairs(mode: WriteMode, api_version: ApiVersion) -> _Pairs:
    """Version 2 knows no WriteMode, except for block mode (PROTOCOL 1.3)."""
    if api_version >= ApiVersion.V3 or mode is WriteMode.BATCH_COMPATIBLE:
        return [("WriteMode", mode.value)]
    return []


def stream_version(parts: RequestParts) -> int:
    """The stream version in query or body; 1 if neither has it."""
    version = parts.query_int("StreamVersion")
    if version is None:
        version = parts.json_int("StreamVersion")
    return 1 if version is None else version


def check_data_format(parts: RequestParts) -> None:
    """Refuses data formats other than Arrow."""
    data_format = parts.json_object("DataFormat")
    kind = data_format.get("Type") or "Arrow"
    if not isinstance(kind, str) or kind.lower() != "arrow":
        raise InvalidArgumentError(f"DataFormat.Type is {str(kind)[:40]!r}, not 'Arrow'")


def accept_encoding(parts: RequestParts) -> tuple[str, ...]:
    """The codings the client takes, most wanted first."""
    return names.accepted_codings(parts.headers.get(names.ACCEPT_ENCODING, ""))


def content_encoding(parts: RequestParts) -> str | None:
    """The body's content coding, None if it has none."""
    coding = parts.headers.get(names.CONTENT_ENCODING, "").strip().lower()
    return None if coding in {"", "identity"} else coding


class Draft:
    """A request being encoded."""

    def __init__(self, action: Action, target: str) -> None:
        self.query: _Pairs = [("Action", action.value), ("Target", target)]
        self.headers: dict[str, str] = {names.CONTENT_TYPE: names.JSON}
        self.json: dict[str, Any] | None = {}

    def add(self, name: str, value: object) -> None:
        """Adds a query parameter unless it is None."""
        if value is None:
            return
        text = str(value).lower() if isinstance(value, bool) else str(value)
        self.query.append((name, text))

    def header(self, name: str, value: str | None) -> None:
        """Adds a header unless it is empty."""
        if value:
            self.headers[name] = value

    def stream(self, content_type: str) -> None:
        """The body is a stream of this type."""
        self.json = None
        self.headers[names.CONTENT_TYPE] = content_type


def table_draft(action: Action, request: TableRequest) -> Draft:
    """A draft about a table."""
    return Draft(action, format_table(request.table))


def instance_draft(action: Action, request: InstanceRequest) -> Draft:
    """A draft about an instance."""
    return Draft(action, format_instance(request.project, request.instance_id))


def _unit_of(options: Mapping[str, Any], name: str, default: TimeUnit) -> TimeUnit | None:
    if name not in options:
        return default
    value = options[name]
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidParameterError(f"ArrowOptions.{name} is not a string")
    return word(TimeUnit, value, f"ArrowOptions.{name}") if value else default


def arrow_options(parts: RequestParts) -> ArrowOptions:
    """The units wanted in replies; a null unit means as stored, which only our own client sends."""
    options = parts.json_object("ArrowOptions")
    return ArrowOptions(
        timestamp_unit=_unit_of(options, "TimestampUnit", TimeUnit.NANO),
        datetime_unit=_unit_of(options, "DatetimeUnit", TimeUnit.MILLI),
    )
