"""Every exception Fletching raises.

::

    FletchingError
    ├── WireError                   bytes that break a framing, an Arrow message or a codec
    │   ├── TruncatedStreamError    the input ended inside a unit (also an EOFError)
    │   ├── ChecksumMismatchError   bytes and checksum disagree
    │   ├── MalformedFrameError     a structure that its specification does not allow
    │   ├── LimitExceededError      a size, count, depth or ratio above its documented limit
    │   │   └── SizeOverflowError   a size that the codec's own API cannot take (also an overflow)
    │   ├── DecompressionError      a compressed block that does not decode
    │   ├── LZ4StreamError          what lz4.stream reports under this name
    │   ├── InvalidDataError        well-framed Arrow data whose values break the format's rules
    │   └── ZeroCopyError           ``require_zero_copy`` was asked for and a copy was needed
    ├── ProtocolError               a message that breaks the Storage API's rules
    │   └── IllegalTransitionError  an operation that the object's state does not allow
    ├── ServiceError                the service refused a request: has http_status, code, request_id
    │   ├── InvalidParameterError   400  query, JSON or action that cannot be understood
    │   ├── InvalidArgumentError    400  understood, but a value is wrong
    │   │   └── SqlSyntaxError           a statement or filter that cannot be parsed
    │   ├── UnauthorizedError       401  no valid credentials
    │   ├── SignatureMismatchError  403  credentials that do not verify
    │   ├── RequestTimeTooSkewedError 400 the request's clock is too far from the server's
    │   ├── NoPermissionError       403  verified, but not allowed (also a fenced write stream)
    │   ├── NotFoundError           404  and NoSuchProjectError, NoSuchSchemaError,
    │   │                                NoSuchTableError, NoSuchPartitionError,
    │   │                                VersionNotFoundError, ExpiredSessionError
    │   ├── MethodNotAllowedError   405
    │   ├── ConflictError           409  wrong state, and AlreadyExistsError, RowOffsetError,
    │   │                                RowsChangedError, KeyReusedError
    │   ├── SchemaModifiedError     412  the table's schema moved on and the data no longer fits
    │   ├── PreconditionFailedError 412  what ``If-Match`` names is not what is there
    │   ├── PayloadTooLargeError    413  a body above a limit
    │   ├── RangeNotSatisfiableError 416 a range outside of what is there
    │   ├── ThrottledError          429  retry after ``retry_after_seconds``
    │   ├── InternalServerError     500
    │   ├── DamagedDataError        500  stored bytes are not what was written; repeating cannot help
    │   ├── ServiceUnavailableError 503  a fault that may pass: draining, catalog locked
    │   │   └── OutcomeUnknownError      and the catalog did not say whether it has done it
    │   └── StorageFullError        507  no room for what was sent
    ├── TransportError              the exchange itself failed
    │   ├── ConnectError            no connection could be made
    │   │   └── UntrustedPeerError  TLS with the peer does not verify, or it speaks none
    │   ├── ReadTimeoutError        the peer went silent (also a TimeoutError)
    │   └── ConnectionBrokenError   the connection ended in mid-exchange
    ├── StorageError                the object store or catalog failed underneath
    │   ├── ObjectNotFoundError     no object under the key
    │   ├── ObjectExistsError       an immutable object's key is taken
    │   ├── IdentityError           catalog, objects and server key do not belong together
    │   ├── SettingsError           what settings name cannot be used (also a UsageError)
    │   └── CorruptObjectError      stored bytes disagree with their checksum or length
    ├── OperationCancelledError     the caller broke it off, or closed its client meanwhile
    └── UsageError                  a call that cannot mean anything (also a ValueError)
        └── MissingExtraError       an optional dependency is absent; names the extra (also an ImportError)

Facts travel as keyword-only attributes beside the message: where (``layer``, ``offset`` in bytes
from the start of the stream), ``expected``, ``actual``, ``limit``. All errors pickle.

The module is long because the tree is one, and is read as one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Self


def _rebuild(cls: type[FletchingError], message: str, facts: dict[str, object]) -> FletchingError:
    return cls(message, **facts)


class FletchingError(Exception):
    """Root of every error raised by Fletching; ``message`` says what failed, where, and what was expected."""

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self._facts = {name: value for name, value in facts.items() if value is not None}

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles by message and facts, so keyword-only attributes survive process boundaries."""
        return _rebuild, (type(self), self.message, self._facts)

    @property
    def facts(self) -> dict[str, object]:
        """The keyword facts given at the raise, for logs and machine-readable output."""
        return dict(self._facts)


# --- bytes -----------------------------------------------------------------------------------


class WireError(FletchingError):
    """Bytes break a framing, an Arrow message or a codec; nothing of them was used."""

    def __init__(
        self,
        message: str,
        *,
        layer: str | None = None,
        offset: int | None = None,
        expected: object = None,
        actual: object = None,
        limit: int | None = None,
    ) -> None:
        super().__init__(
            message, layer=layer, offset=offset, expected=expected, actual=actual, limit=limit
        )
        self.layer = layer
        self.offset = offset
        self.expected = expected
        self.actual = actual
        self.limit = limit

    def __str__(self) -> str:
        where = [f"layer {self.layer}"] if self.layer else []
        if self.offset is not None:
            where.append(f"offset {self.offset}")
        return f"{self.message} ({', '.join(where)})" if where else self.message


class TruncatedStreamError(WireError, EOFError):
    """The input ended inside a unit: read on if more can come, else the source is damaged."""


class ChecksumMismatchError(WireError):
    """Bytes and their checksum disagree: fetch them again; if it repeats, the copy is damaged."""


class MalformedFrameError(WireError):
    """A structure its specification does not allow: the writer is broken or the bytes are not of this format."""


class LimitExceededError(WireError):
    """A size, count, depth or ratio is above its documented limit: raise the limit if you trust the source."""


class SizeOverflowError(LimitExceededError, OverflowError):
    """A size is above what the codec's API or the object's buffers can take: split the input."""


class DecompressionError(WireError):
    """A compressed block or frame does not decode."""


class LZ4StreamError(WireError):
    """An LZ4 stream object was asked for what its block cannot give: corrupt, incomplete or out of band."""


class InvalidDataError(WireError):
    """Well-framed Arrow data whose contents break the columnar format's rules."""


class ZeroCopyError(WireError):
    """A zero-copy read was required, but a buffer is compressed or misaligned."""


# --- the Storage API -------------------------------------------------------------------------


class ProtocolError(FletchingError):
    """A message breaks the Storage API's rules; ``side`` is ``"local"`` or ``"remote"``: whose fault it is."""

    def __init__(self, message: str, *, side: str | None = None) -> None:
        super().__init__(message, side=side)
        self.side = side


class IllegalTransitionError(ProtocolError):
    """The object's state does not allow this operation."""


class ServiceError(FletchingError):
    """The service refused a request.

    Attributes:
        http_status: the reply's status.
        code: the reply's ``Code``, a name that PyODPS maps to an exception class.
        request_id: the service's id for the request; quote it when asking its operator.
        retryable: whether sending the same request again can succeed by itself.
        retry_after_seconds: how long to wait before that, if the service said so.
    """

    default_status: ClassVar[int] = 500
    default_code: ClassVar[str] = "InternalServerError"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        http_status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retry_after_seconds: float | None = None,
        **facts: object,
    ) -> None:
        super().__init__(
            message,
            http_status=http_status,
            code=code,
            request_id=request_id,
            retry_after_seconds=retry_after_seconds,
            **facts,
        )
        self.http_status = self.default_status if http_status is None else http_status
        self.code = code or self.default_code
        self.request_id = request_id
        self.retry_after_seconds = retry_after_seconds

    def with_request_id(self, request_id: str) -> Self:
        """Gives the error its request id, unless it has one; returns itself."""
        if self.request_id is None:
            self.request_id = request_id
            self._facts["request_id"] = request_id
        return self

    def __str__(self) -> str:
        request = f", request {self.request_id}" if self.request_id else ""
        return f"{self.message} [{self.http_status} {self.code}{request}]"


class InvalidParameterError(ServiceError):
    """The query, JSON body or action cannot be understood."""

    default_status = 400
    default_code = "InvalidParameter"


class InvalidArgumentError(ServiceError):
    """The request is understood, but a column, partition, offset, limit or body is wrong."""

    default_status = 400
    default_code = "InvalidArgument"


class SqlSyntaxError(InvalidArgumentError):
    """A SQL statement or filter predicate cannot be parsed; the message says where."""

    default_code = "ParseError"


class UnauthorizedError(ServiceError):
    """No valid credentials came with the request."""

    default_status = 401
    default_code = "Unauthorized"


class SignatureMismatchError(ServiceError):
    """The credentials do not verify: check the access id, the secret and the endpoint."""

    default_status = 403
    default_code = "SignatureNotMatch"


class RequestTimeTooSkewedError(ServiceError):
    """The request's Date is too far from the server's clock: synchronise the client's clock."""

    default_status = 400
    default_code = "RequestTimeTooSkewed"


class NoPermissionError(ServiceError):
    """The caller is known but not allowed to do this; also a write stream whose access token was superseded."""

    default_status = 403
    default_code = "NoPermission"


class NotFoundError(ServiceError):
    """No such session, split, stream or object."""

    default_status = 404
    default_code = "NoSuchObject"


class NoSuchProjectError(NotFoundError):
    """No such project."""

    default_code = "NoSuchProject"


class NoSuchSchemaError(NotFoundError):
    """No such schema in the project."""

    default_code = "NoSuchSchema"


class NoSuchTableError(NotFoundError):
    """No such table."""

    default_code = "NoSuchTable"


class NoSuchPartitionError(NotFoundError):
    """No such partition in the table."""

    default_code = "NoSuchPartition"


class VersionNotFoundError(NotFoundError):
    """A version of a table that is still to come, or that retention has taken; or no such tag."""

    default_code = "NoSuchVersion"


class ExpiredSessionError(NotFoundError):
    """The session has expired or was aborted: open a new one."""


class MethodNotAllowedError(ServiceError):
    """The HTTP method does not fit the action.

    Attributes:
        allowed: the methods that do, which the reply names (RFC 9110, 15.5.6); none if that is not
            about methods: the job or the kind of resource is not to be had here.
    """

    default_status = 405
    default_code = "MethodNotAllowed"

    def __init__(self, message: str, *, allowed: Iterable[str] = (), **facts: Any) -> None:
        names = tuple(allowed)
        if "GET" in names and "HEAD" not in names:
            names = (*names, "HEAD")  # which is wherever GET is (RFC 9110, 9.3.2)
        super().__init__(message, allowed=names or None, **facts)
        self.allowed = names

    @classmethod
    def of(cls, what: str, method: str, allowed: Iterable[str]) -> Self:
        """The error that says which methods something takes."""
        names = tuple(allowed)
        return cls(f"{what[:200]} takes {' or '.join(names)}, not {method[:20]}", allowed=names)


class ConflictError(ServiceError):
    """The state of the session, stream or table does not allow this."""

    default_status = 409
    default_code = "InvalidStateSetting"


class AlreadyExistsError(ConflictError):
    """The name is taken."""

    default_code = "ObjectAlreadyExists"


class RowsChangedError(ConflictError):
    """Rows that a change was worked out from are not there any more; the change is tried again."""

    default_code = "TransactionConflict"


class KeyReusedError(ConflictError):
    """The idempotency key or trace id is of another change, which is made; this one is not. Choose another key."""

    default_code = "IdempotencyKeyReused"


class RowOffsetError(ConflictError):
    """An exactly-once write at an offset that is neither the expected one nor a full duplicate.

    Ask the service for the stream's offset and continue from ``expected_offset``; never guess.
    """

    default_code = "InvalidArgument"

    def __init__(self, message: str, *, expected_offset: int | None = None, **facts: Any) -> None:
        super().__init__(message, expected_offset=expected_offset, **facts)
        self.expected_offset = expected_offset


class SchemaModifiedError(ServiceError):
    """The table's schema moved on and the data no longer fits; reload it and write again."""

    default_status = 412
    default_code = "SchemaModified"

    def __init__(
        self, message: str, *, latest_schema_version: int | None = None, **facts: Any
    ) -> None:
        super().__init__(message, latest_schema_version=latest_schema_version, **facts)
        self.latest_schema_version = latest_schema_version


class PreconditionFailedError(ServiceError):
    """What the request was made to depend on (``If-Match``) is not so; nothing was done."""

    default_status = 412
    default_code = "PreconditionFailed"


class PayloadTooLargeError(ServiceError):
    """A body, message or claimed size is above the server's limit; the message has the numbers."""

    default_status = 413
    default_code = "InvalidArgument"


class RangeNotSatisfiableError(ServiceError):
    """A range that lies outside of what is there.

    Attributes:
        content_range: how much is there, as the reply's header says it: ``bytes */1000``.
    """

    default_status = 416
    default_code = "InvalidArgument"

    def __init__(self, message: str, *, content_range: str | None = None, **facts: Any) -> None:
        super().__init__(message, content_range=content_range, **facts)
        self.content_range = content_range


class ThrottledError(ServiceError):
    """The server is at a limit that will pass: wait ``retry_after_seconds`` and retry."""

    default_status = 429
    default_code = "FlowExceeded"
    retryable = True


class InternalServerError(ServiceError):
    """A fault of the server; its log has the request id."""

    default_status = 500
    default_code = "InternalServerError"
    retryable = True


class DamagedDataError(ServiceError):
    """Stored bytes are not what was written: final, until somebody restores them."""

    default_status = 500
    default_code = "DataCorrupted"


class ServiceUnavailableError(ServiceError):
    """The server is draining, or something underneath it is unavailable for now."""

    default_status = 503
    default_code = "ServiceUnavailable"
    retryable = True


class OutcomeUnknownError(ServiceUnavailableError):
    """The catalog failed while it committed: it was done or not. The same request with the same key finds out."""

    default_code = "OutcomeUnknown"


class StorageFullError(ServiceError):
    """The server has no room for what was sent; nothing of it is visible."""

    default_status = 507
    default_code = "ServiceUnavailable"


# --- the exchange ----------------------------------------------------------------------------


class TransportError(FletchingError):
    """The exchange with the service failed; whether the request took effect may be unknown."""

    def __init__(self, message: str, *, url: str | None = None) -> None:
        super().__init__(message, url=url)
        self.url = url


class ConnectError(TransportError):
    """No connection could be made: the request was not sent."""


class UntrustedPeerError(ConnectError):
    """TLS with the peer failed: its certificate does not verify, or it does not speak TLS; trying again cannot help."""


class ReadTimeoutError(TransportError, TimeoutError):
    """The peer sent nothing for longer than the timeout."""


class ConnectionBrokenError(TransportError):
    """The connection ended in mid-exchange."""


# --- storage ---------------------------------------------------------------------------------


class StorageError(FletchingError):
    """The object store or the catalog failed underneath."""

    def __init__(self, message: str, *, key: str | None = None) -> None:
        super().__init__(message, key=key)
        self.key = key


class ObjectNotFoundError(StorageError):
    """There is no object under this key."""


class ObjectExistsError(StorageError):
    """The key is taken; objects are immutable."""


class IdentityError(StorageError):
    """Catalog, objects and server key do not belong together, or one of them is missing.

    Nothing was changed. The message says what to do.
    """


class CorruptObjectError(StorageError):
    """Stored bytes disagree with their recorded checksum or length; `fletching verify` lists them all."""


# --- the caller ------------------------------------------------------------------------------


class OperationCancelledError(FletchingError):
    """The caller cancelled the operation, or closed the client that it went through."""


class UsageError(FletchingError, ValueError):
    """A call that cannot mean anything: unknown column, bad argument, wrong order of calls."""


class SettingsError(StorageError, UsageError):
    """A data set cannot be opened where the settings say that it is, or not with these rights.

    An address where nothing answers, a bucket that is not there, credentials that may not write, a
    catalog of another release, a clock that is wrong. Nothing was changed.
    """


class MissingExtraError(UsageError, ImportError):
    """An optional dependency is absent; the message names the extra to install."""
