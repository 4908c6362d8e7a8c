"""Exceptions as error replies, and error replies as exceptions.

A ``ServiceError`` carries its own status and ``Code``. Every other exception of ours is placed by
`_SERVICE_ERRORS`, read from the top; whatever is not ours is a 500 whose message says nothing of it.

The JSON body is ``{"Code", "Message", "RequestId", "HostId"}`` plus ``Error``, our own: the class
and those of its facts that are plain numbers or words, so that our client raises what the engine
raised. Clients that do not know it ignore it.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import errno
import html
import re
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from fletching import errors
from fletching.errors import (
    FletchingError,
    IllegalTransitionError,
    InternalServerError,
    LimitExceededError,
    MissingExtraError,
    ObjectExistsError,
    OperationCancelledError,
    ProtocolError,
    RowOffsetError,
    SchemaModifiedError,
    ServiceError,
    StorageError,
    TransportError,
    UsageError,
    WireError,
)
from fletching.protocol.http import headers as header_names

__all__ = ["ErrorReply", "decode_error", "encode_error", "to_service_error"]

MAX_MESSAGE = 2000
"""Longest message sent or read, in characters."""

_CHALLENGES = "ODPS, Bearer"
"""What a 401 says that it takes (RFC 9110, 11.6.1); browsers ask their user for neither."""

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

# The first entry that an exception is an instance of decides; children stand before parents.
_SERVICE_ERRORS: tuple[tuple[type[FletchingError], type[ServiceError]], ...] = (
    (LimitExceededError, errors.PayloadTooLargeError),
    (WireError, errors.InvalidArgumentError),
    (IllegalTransitionError, errors.ConflictError),
    (ProtocolError, errors.InvalidParameterError),
    (MissingExtraError, errors.InternalServerError),
    (UsageError, errors.InvalidArgumentError),
    (OperationCancelledError, errors.ServiceUnavailableError),
    (errors.CorruptObjectError, errors.DamagedDataError),
    (errors.ObjectNotFoundError, errors.InternalServerError),
    (ObjectExistsError, errors.InternalServerError),
    (StorageError, errors.ServiceUnavailableError),
    (TransportError, errors.ServiceUnavailableError),
)


@dataclasses.dataclass(frozen=True, slots=True)
class ErrorReply:
    """An error reply."""

    status: int
    headers: dict[str, str]
    body: bytes


def to_service_error(error: BaseException, request_id: str) -> ServiceError:
    """The error as the service reports it, with its request id.

    A storage fault whose cause is a full disk becomes `StorageFullError`.
    """
    if isinstance(error, ServiceError):
        return error.with_request_id(request_id)
    if isinstance(error, StorageError) and _disk_is_full(error):
        return errors.StorageFullError(
            "the server has no room for this; nothing of it is visible", request_id=request_id
        )
    if isinstance(error, FletchingError):
        for kind, service_error in _SERVICE_ERRORS:
            if isinstance(error, kind):
                return service_error(str(error)[:MAX_MESSAGE], request_id=request_id)
    return InternalServerError(
        "the server failed; its log has the request id", request_id=request_id
    )


def _disk_is_full(error: BaseException) -> bool:
    seen: BaseException | None = error
    for _ in range(8):
        if seen is None:
            return False
        if isinstance(seen, OSError) and seen.errno in _DISK_FULL:
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _headers(error: ServiceError, content_type: str) -> dict[str, str]:
    headers = {
        header_names.CONTENT_TYPE: content_type,
        header_names.REQUEST_ID: error.request_id or "",
    }
    if error.retry_after_seconds is not None:
        # whole seconds, rounded up: the header knows no fractions
        headers[header_names.RETRY_AFTER] = str(int(-(-error.retry_after_seconds // 1)))
    if isinstance(error, errors.MethodNotAllowedError) and error.allowed:
        headers["allow"] = ", ".join(error.allowed)
    if isinstance(error, errors.RangeNotSatisfiableError) and error.content_range is not None:
        headers["content-range"] = error.content_range
    if error.http_status == 401:
        headers["www-authenticate"] = _CHALLENGES
    if isinstance(error, SchemaModifiedError) and error.latest_schema_version is not None:
        headers[header_names.LATEST_SCHEMA_VERSION] = str(error.latest_schema_version)
    return headers


def _clean(text: str) -> str:
    """Cut to `MAX_MESSAGE`; bytes of a request that were not UTF-8 become question marks."""
    return text[:MAX_MESSAGE].encode("utf-8", "replace").decode()


def encode_error(error: BaseException, request_id: str) -> ErrorReply:
    """The JSON reply for an exception: for storage actions and administration."""
    answer = to_service_error(error, request_id)
    facts = {
        name: _clean(value) if isinstance(value, str) else value
        for name, value in answer.facts.items()
        if isinstance(value, str | int | float)
        and name not in {"http_status", "code", "request_id", "retry_after_seconds"}
    }
    body = {
        "Code": answer.code,
        "Message": _clean(answer.message),
        "RequestId": answer.request_id,
        "HostId": "",
        "Error": {"Type": type(answer).__name__, "Facts": facts},
    }
    return ErrorReply(
        answer.http_status, _headers(answer, "application/json"), msgspec.json.encode(body)
    )


# --- the other direction ---------------------------------------------------------------------


def _tree(root: type[ServiceError]) -> Iterator[type[ServiceError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


_BY_NAME = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, ServiceError)
}

# (status, code) to class; the first in the tree's order wins where two share both.
_BY_STATUS_AND_CODE: dict[tuple[int, str], type[ServiceError]] = {}
_BY_CODE: dict[str, type[ServiceError]] = {}
_BY_STATUS: dict[int, type[ServiceError]] = {}
for _kind in _tree(ServiceError):
    if _kind is not ServiceError:
        _BY_STATUS_AND_CODE.setdefault((_kind.default_status, _kind.default_code), _kind)
        _BY_CODE.setdefault(_kind.default_code, _kind)
        _BY_STATUS.setdefault(_kind.default_status, _kind)

# Codes of the real service that have another name here.
_BY_CODE |= {
    "AccessDenied": errors.NoPermissionError,
    "AuthenticationRequestExpired": errors.UnauthorizedError,
    "AuthorizationRequired": errors.UnauthorizedError,
    "FlowExceeded": errors.ThrottledError,
    "NoSuchVolume": errors.NotFoundError,
    "ParseError": errors.SqlSyntaxError,
    "QPSExceeded": errors.ThrottledError,
    "RequestQuotaExceeded": errors.ThrottledError,
    "RequestTimeTooSkewd": errors.RequestTimeTooSkewedError,
    "SlotExceeded": errors.ThrottledError,
    "TableModified": errors.SchemaModifiedError,
}


def decode_error(
    status: int,
    headers: Mapping[str, str] | Iterable[tuple[str, str]],
    body: bytes | memoryview,
) -> ServiceError:
    """The exception that an error reply stands for; never fails, whatever the reply holds.

    Our own service's replies give back the very class that was raised there; another's are placed
    by ``Code`` and status, and a reply without either by its status.
    """
    fields = header_names.lower_case(headers)
    parsed = _parse(bytes(body))
    code = parsed.get("Code") or None
    message = parsed.get("Message") or f"the service answered {status}"
    request_id = fields.get(header_names.REQUEST_ID) or parsed.get("RequestId") or None
    kind = _BY_NAME.get(parsed.get("Type", "")) or _kind_of(status, code)
    if kind is errors.RequestTimeTooSkewedError:
        message = _with_difference(message)
    error = kind(
        message[:MAX_MESSAGE],
        http_status=status,
        code=code,
        request_id=request_id,
        retry_after_seconds=_seconds(fields.get(header_names.RETRY_AFTER)),
        **_facts_of(kind, fields, parsed),
    )
    if kind is ServiceError and status >= 500:
        error = InternalServerError(
            message[:MAX_MESSAGE], http_status=status, code=code, request_id=request_id
        )
    return error


_TWO_CLOCKS = re.compile(r"max_interval_date:[0-9]+,expire_date:([^,]+),now_date:([^,]+)")


def _with_difference(message: str) -> str:
    """Says to people what the two moments of a refused date, which programs take apart, mean."""
    match = _TWO_CLOCKS.fullmatch(message)
    if match is None:
        return message
    try:
        here, there = map(dt.datetime.fromisoformat, match.groups())
        difference = here - there
    except (ValueError, TypeError):  # of another layout, or without a zone
        return message
    side = "behind" if difference < dt.timedelta() else "ahead of"
    return (
        f"this machine's clock is {abs(difference)} {side} the service's: set both by the same time"
        f" service ({message})"
    )


def _kind_of(status: int, code: str | None) -> type[ServiceError]:
    if code is not None:
        known = _BY_STATUS_AND_CODE.get((status, code))
        if known is None and code != "InvalidArgument":
            known = _BY_CODE.get(code)
        if known is not None:
            return known
    return _BY_STATUS.get(status, ServiceError)


def _facts_of(
    kind: type[ServiceError], fields: Mapping[str, str], parsed: Mapping[str, str]
) -> dict[str, int]:
    if issubclass(kind, SchemaModifiedError):
        version = fields.get(header_names.LATEST_SCHEMA_VERSION) or parsed.get(
            "latest_schema_version", ""
        )
        return {"latest_schema_version": int(version)} if _is_number(version) else {}
    if issubclass(kind, RowOffsetError):
        offset = parsed.get("expected_offset", "")
        return {"expected_offset": int(offset)} if _is_number(offset) else {}
    return {}


def _is_number(text: str) -> bool:
    return bool(re.fullmatch("-?[0-9]{1,19}", text))


def _seconds(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch("[0-9]{1,9}", text) else None


_ELEMENT = re.compile(
    r"<(Code|Message|RequestId|HostId)>\s*(?:<!\[CDATA\[)?(.*?)(?:\]\]>)?\s*</\1>", re.DOTALL
)


def _parse(body: bytes) -> dict[str, str]:
    """Code, Message, RequestId, our Type and facts, as text; whatever is missing is left out."""
    text = body[: 64 * 1024].decode("utf-8", "replace")
    if text.lstrip().startswith("<"):
        return {name: html.unescape(value) for name, value in _ELEMENT.findall(text)}
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return {}
    if not isinstance(value, dict):
        return {}
    result = {
        name: value[name]
        for name in ("Code", "Message", "RequestId")
        if isinstance(value.get(name), str)
    }
    ours = value.get("Error")
    if isinstance(ours, dict):
        if isinstance(ours.get("Type"), str):
            result["Type"] = ours["Type"]
        facts = ours.get("Facts")
        if isinstance(facts, dict):
            result |= {
                str(name): str(fact)
                for name, fact in facts.items()
                if isinstance(fact, str | int) and name not in result
            }
    return result
