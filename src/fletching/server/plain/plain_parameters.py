"""The parameters of plain HTTP: which there are, and the format that a request names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from fletching.errors import InvalidArgumentError, UsageError
from fletching.protocol.types.row_formats import FileFormat
from fletching.server.http.exchange import Exchange
from fletching.types import PartitionSpec

__all__ = ["MEDIA_TYPES", "format_of_request", "parameters", "partition_of", "whole_number"]

MEDIA_TYPES: dict[FileFormat, str] = {
    FileFormat.STREAM: "application/vnd.apache.arrow.stream",
    FileFormat.PARQUET: "application/vnd.apache.parquet",
    FileFormat.CSV: "text/csv; charset=utf-8; header=present",
    FileFormat.JSONL: "application/x-ndjson",
}
_FORMATS = {
    "arrow": FileFormat.STREAM,
    "parquet": FileFormat.PARQUET,
    "csv": FileFormat.CSV,
    "jsonl": FileFormat.JSONL,
}
"""Values of the parameter ``format``."""

_ACCEPTED = {
    "application/vnd.apache.arrow.stream": FileFormat.STREAM,
    "application/vnd.apache.parquet": FileFormat.PARQUET,
    "application/parquet": FileFormat.PARQUET,
    "text/csv": FileFormat.CSV,
    "application/x-ndjson": FileFormat.JSONL,
    "application/jsonl": FileFormat.JSONL,
    "application/jsonlines": FileFormat.JSONL,
}
"""Media types that are understood in Accept and Content-Type."""

_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)


def parameters(exchange: Exchange, known: Mapping[str, bool]) -> dict[str, list[str]]:
    """The query's parameters by name.

    Args:
        exchange: the request.
        known: the names, and whether each may be given more than once.

    Raises:
        InvalidArgumentError: a name that is not known, or one that is given twice.
    """
    result: dict[str, list[str]] = {}
    for name, value in exchange.query:
        if name not in known:
            raise InvalidArgumentError(
                f"there is no parameter {name[:60]!r}; there are {', '.join(known)}"
            )
        result.setdefault(name, []).append(value)
        if len(result[name]) > 1 and not known[name]:
            raise InvalidArgumentError(f"parameter {name} is given twice")
    return result


def whole_number(name: str, text: str | None) -> int | None:
    """A parameter that counts something; None if it is not given.

    Raises:
        InvalidArgumentError: it is not a whole number of ASCII digits.
    """
    if text is None:
        return None
    if not _NUMBER.fullmatch(text):
        raise InvalidArgumentError(f"{name} is a whole number from 0 on, not {text[:40]!r}")
    return int(text)


def partition_of(text: str) -> PartitionSpec:
    """A parameter ``partition``.

    Raises:
        InvalidArgumentError: it is not of the form ``key=value``.
    """
    try:
        return PartitionSpec.parse(text)
    except UsageError as exc:
        raise InvalidArgumentError(exc.message) from exc


def format_of_request(given: str | None, header: str, what: str) -> FileFormat | None:
    """The format that a request names; None if it names none.

    Args:
        given: the parameter ``format``.
        header: Accept or Content-Type.
        what: the header's name, for the message.

    Raises:
        InvalidArgumentError: a format or media type that is not spoken here.
    """
    if given is not None:
        if given not in _FORMATS:
            raise InvalidArgumentError(f"format {given[:40]!r} is none of {', '.join(_FORMATS)}")
        return _FORMATS[given]
    types = [part.partition(";")[0].strip().lower() for part in header.split(",") if part.strip()]
    for media_type in types:
        if media_type in _ACCEPTED:
            return _ACCEPTED[media_type]
    if not types or "*/*" in types or "application/*" in types:
        return None
    raise InvalidArgumentError(
        f"{what} {header[:100]!r} is none of {', '.join(_ACCEPTED)}; or give format="
    )
