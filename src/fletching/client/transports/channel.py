"""A transport with the options, clock and retry rule of one client: how everything above it calls."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import threading
from collections.abc import Callable
from typing import Protocol, TypeVar, Unpack

import msgspec

from fletching.client.call_options import CallOptions, OptionChanges
from fletching.client.cancellation import LEAVE_SECONDS, Cancellation, join_within
from fletching.client.retry import RetrySequence, Timing
from fletching.client.transports.transport import BatchSource, Transport
from fletching.errors import FletchingError, OperationCancelledError, ProtocolError
from fletching.protocol.messages.admin import RunStatement
from fletching.protocol.messages.field_types import check_field_types
from fletching.protocol.messages.requests import (
    AppendRows,
    CommitWriteSession,
    CreateReadSession,
    Reply_co,
    Request,
    WriteBlob,
    WriteBlobs,
    WriteTable,
    reply_kind,
)
from fletching.protocol.messages.responses import ReadSession

__all__ = ["Channel", "is_left", "is_repeatable", "patience"]

_LAST_WORDS: OptionChanges = {
    "timeouts": {"connect": 5.0, "first_byte": 30.0, "idle": 30.0},
    "retry": {"budget_seconds": 0.0},
}
"""Options of what ends something that is left: nobody waits for it, and what it does expires by itself."""

_PATIENT_SECONDS = 2.0
"""How long an error waits for that, so that it has usually happened when the error arrives."""


def is_left(error: type[BaseException]) -> bool:
    """Whether an exception of this type says that somebody stopped waiting: by Ctrl-C, or by cancelling."""
    return not issubclass(error, Exception) or issubclass(error, OperationCancelledError)


def patience(error: type[BaseException] | None) -> float:
    """How long whoever leaves by an exception of this type waits for what ends there."""
    return LEAVE_SECONDS if error is not None and is_left(error) else _PATIENT_SECONDS


def is_repeatable(request: Request) -> bool:
    """Whether a request may be sent again although the first may have been carried out.

    Looking up, opening sessions and streams, closing, committing and aborting may: the service
    answers a repetition like the first, and a session that nobody uses expires. What has a key of its own may,
    as the service tells a repetition by it. Table writes are decided by their writers.
    """
    if isinstance(request, RunStatement):
        # Statements with an id of their own are run once; where their outcome was lost with a server, they are
        # run again and change nothing twice.
        return bool(request.instance_id)
    if isinstance(request, WriteTable | WriteBlob | WriteBlobs):
        return False
    return not _takes_key(request) or getattr(request, "idempotency_key", None) is not None


def _takes_key(request: Request) -> bool:
    """Whether repetitions of a request are known by a key; a session or a trace id tells those of the others."""
    fields = type(request).__struct_fields__
    return "idempotency_key" in fields and not isinstance(request, CommitWriteSession | AppendRows)


def _with_key(request: Request[Reply_co]) -> Request[Reply_co]:
    """The request with a key that is new, if it takes one and has none."""
    if not _takes_key(request) or is_repeatable(request):
        return request
    return msgspec.structs.replace(request, idempotency_key=f"request-{secrets.token_hex(12)}")


def _expected(request: Request[Reply_co], response: object) -> Reply_co:
    expected: type[Reply_co] = reply_kind(type(request))
    if not isinstance(response, expected):
        raise ProtocolError(
            f"the service answered {type(request).__name__} with {type(response).__name__}, "
            f"not {expected.__name__}",
            side="remote",
        )
    return response


class Reopening(Protocol):
    """Makes the same channel in another process; pickles."""

    @property
    def is_scoped(self) -> bool:
        """Whether it reads one session and no more."""

    def __call__(self) -> Channel:
        """The channel."""

    def scoped(self, token: str | None) -> Reopening:
        """One that reads a session and no more."""

    def locations(self) -> tuple[str, ...]:
        """Where it is best read from."""


_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True, slots=True)
class Channel:
    """One way to the service for one project; thread-safe, shared by all that a client hands out.

    Attributes:
        transport: owned by the client, which closes it.
        options: defaults of every call made through this channel.
        timing: clock, sleep and random of retries.
        reopen: makes the same client in another process; picklable.
        scope: breaks off what is called through this channel and leaves the rest of the client.
    """

    transport: Transport
    options: CallOptions
    timing: Timing
    reopen: Reopening | None
    scope: Cancellation | None = None

    @property
    def cancellation(self) -> Cancellation:
        """What every call through this channel is made under: its own scope, or the client's."""
        return self.scope or self.transport.cancellation

    def reopen_with(self, session_token: str | None) -> Reopening | None:
        """What reopens the client in another process, to read one session if it has a token."""
        if self.reopen is None or session_token is None:
            return self.reopen
        return self.reopen.scoped(session_token)

    def call(self, request: Request[Reply_co]) -> Reply_co:
        """Sends a request, again while that can help, and returns its reply.

        Raises:
            ServiceError: the service refused.
            TransportError: no reply within the retry budget.
            ProtocolError: a reply of another kind.
            UsageError: a value of another type than the request's field.
        """
        check_field_types(request)
        sent = _with_key(request)
        response = self.retrying(
            lambda attempt: self.transport.call(sent, attempt), repeatable=is_repeatable(sent)
        )
        return _expected(request, response)

    def open_session(
        self, request: CreateReadSession, cancellation: Cancellation | None = None
    ) -> tuple[ReadSession, BatchSource | None]:
        """Opens a read session; with the rows of its first split where that saves a round trip.

        Raises:
            ServiceError: the service refused.
            TransportError: no reply within the retry budget.
            ProtocolError: a reply of another kind.
            UsageError: a value of another type than the request's field.
        """
        check_field_types(request)
        response, rows = self.retrying(
            lambda attempt: self.transport.open_session(request, attempt),
            repeatable=is_repeatable(request),
            cancellation=cancellation,
        )
        try:
            return _expected(request, response), rows
        except ProtocolError:
            if rows is not None:
                rows.close()
            raise

    def retrying(
        self,
        operation: Callable[[RetrySequence], _T],
        *,
        repeatable: bool,
        cancellation: Cancellation | None = None,
    ) -> _T:
        """Runs an operation under this channel's retry policy (see `RetrySequence.run`)."""
        return self.sequence(cancellation).run(operation, repeatable=repeatable)

    def on_leaving(self, work: Callable[[Channel], object], seconds: float = LEAVE_SECONDS) -> None:
        """Ends something that is left, at the service; waits so long for that, and for no error of it.

        Whoever leaves, by Ctrl-C for one, does not wait for a peer that is silent or gone: the requests go
        on in a thread of their own for a while. Without a service they are done when this returns.

        Args:
            work: is given a channel to ask through: outside of the scope that was cancelled, where that is
                why something is left, and without a repetition.
            seconds: see `patience`.
        """
        last = dataclasses.replace(self.changed(**_LAST_WORDS), scope=None)

        def run() -> None:
            with contextlib.suppress(FletchingError):
                work(last)

        if not self.transport.supports_parallel_reads:
            run()
            return
        thread = threading.Thread(target=run, name="fletching-leave", daemon=True)
        with contextlib.suppress(RuntimeError):  # the interpreter ends, and starts none any more
            thread.start()
            join_within([thread], seconds)

    def sequence(
        self, cancellation: Cancellation | None = None, trace_id: str | None = None
    ) -> RetrySequence:
        """A retry sequence of this channel's options; ``cancellation`` is the client's if None."""
        return RetrySequence(
            self.options,
            self.timing,
            trace_id=trace_id,
            cancellation=cancellation or self.cancellation,
        )

    def changed(self, **changes: Unpack[OptionChanges]) -> Channel:
        """The same channel with some options replaced."""
        return dataclasses.replace(self, options=self.options.changed(**changes))
