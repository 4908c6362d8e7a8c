"""When to send a request again, and how long to wait before it.

The rules are in one table::

    what happened                             the request    repeated when
    ----------------------------------------  -------------  -------------------------------------
    no connection (ConnectError)              was not sent   always
    TLS that does not verify                  was not sent   never
    429                                       was not done   always, after Retry-After if given
    500                                       may be done    likewise, three times in a row at most
    408, 5xx but 501, 505 and 507             may be done    the request may be repeated
    connection broken, silent peer, cut body  may be done    the request may be repeated
    any other status, or damage (see below)   was refused    never

"May be repeated" is a property of the request, not of the failure: looking something up, opening a
session, committing and aborting may be, and what has a key by which the service knows a repetition. The
budget is time, not attempts: a server that restarts within it is never noticed. A 500 is a fault of the server
that seldom passes, so that it is not repeated for the whole budget; and an error whose class says that
repeating cannot help (``retryable`` is false), such as that stored data are damaged, is final whatever
its status. Each repetition is logged before its wait, by ``fletching.client`` at WARNING.
"""

from __future__ import annotations

import copy
import dataclasses
import enum
import logging
import random
import time
import uuid
from collections.abc import Callable
from typing import Self, TypeVar, Unpack

from fletching.client.call_options import CallOptions, OptionChanges
from fletching.client.cancellation import Cancellation
from fletching.errors import (
    ConnectError,
    ServiceError,
    TransportError,
    TruncatedStreamError,
    UntrustedPeerError,
)

__all__ = [
    "Effect",
    "RetrySequence",
    "Timing",
    "effect_of",
]

_T = TypeVar("_T")

_logger = logging.getLogger("fletching.client")

_MAX_SERVER_ERRORS = 3
"""How many 500 in a row are answered by another attempt."""

# Statuses that say the peer will never do this: repeating cannot help.
_FINAL_STATUSES = frozenset({501, 505, 507})


class Effect(enum.Enum):
    """What a failure says about the request that met it."""

    NONE = "none"
    """The request was not sent, or was turned away before anything was done."""
    UNKNOWN = "unknown"
    """The request may have been done: only one that is safe to repeat may be sent again."""
    REFUSED = "refused"
    """The service understood and refused; the same request gets the same answer."""


def effect_of(error: BaseException) -> Effect:
    """Reads from an error whether its request may be, or was, carried out."""
    if isinstance(error, UntrustedPeerError):
        return Effect.REFUSED
    if isinstance(error, ConnectError):
        return Effect.NONE
    if isinstance(error, ServiceError):
        if error.http_status == 429:
            return Effect.NONE
        if error.http_status == 408:
            return Effect.UNKNOWN
        # The root class stands for codes that are not known here; of the others each says it.
        passes = error.retryable or type(error) is ServiceError
        if error.http_status >= 500 and error.http_status not in _FINAL_STATUSES and passes:
            return Effect.UNKNOWN
        return Effect.REFUSED
    # A reply that ends inside a unit is a broken connection that HTTP could not see.
    if isinstance(error, TransportError | TruncatedStreamError):
        return Effect.UNKNOWN
    return Effect.REFUSED


def _new_id() -> str:
    return str(uuid.uuid4())


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Clock, sleep, random and ids, passed in so that tests run without waiting.

    Attributes:
        clock: seconds on a clock that only moves forward.
        sleep: blocks for so many seconds; None waits so that cancelling ends it.
        random: a random number in 0..1.
        new_id: a fresh id for a retry sequence.
    """

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] | None = None
    random: Callable[[], float] = random.random
    new_id: Callable[[], str] = _new_id


class RetrySequence:
    """One request and its repetitions: a trace id that stays, an index that counts.

    Not thread-safe: a sequence belongs to the call that made it.

    Attributes:
        options: of the call: its retry policy, and what a transport heeds.
        trace_id: sent with every attempt (header ``odps-tunnel-retry-trace-id``), so that the
            service recognises a repeated body.
        index: 0 for the first attempt (header ``odps-tunnel-retry-index``).
        cancellation: under which every attempt, and every wait between two, takes place.
    """

    __slots__ = (
        "_deadline",
        "_errors",
        "_server_errors",
        "_timing",
        "cancellation",
        "index",
        "options",
        "trace_id",
    )

    def __init__(
        self,
        options: CallOptions,
        timing: Timing,
        *,
        trace_id: str | None = None,
        cancellation: Cancellation | None = None,
    ) -> None:
        self.options = options
        self.trace_id = trace_id or timing.new_id()
        self.index = 0
        self.cancellation = cancellation or Cancellation()
        self._server_errors = 0
        self._timing = timing
        self._deadline: float | None = None
        self._errors = 0

    def wait(self, error: Exception, *, repeatable: bool) -> None:
        """Blocks until it is time for the next attempt.

        Args:
            error: what the last attempt met.
            repeatable: whether the request may be sent again although it may have been done.

        Raises:
            Exception: ``error`` itself, if it must not be retried or the budget is spent.
            OperationCancelledError: it was cancelled, which may have been what broke the attempt.
        """
        self.cancellation.check()
        effect = effect_of(error)
        if effect is Effect.REFUSED or (effect is Effect.UNKNOWN and not repeatable):
            raise error
        if isinstance(error, ServiceError) and error.http_status == 500:
            self._server_errors += 1
            if self._server_errors > _MAX_SERVER_ERRORS:
                raise error
        policy, now = self.options.retry, self._timing.clock()
        if self._deadline is None:
            self._deadline = now + policy.budget_seconds
        delay = policy.delay_seconds(self._errors, self._timing.random())
        if isinstance(error, ServiceError) and error.retry_after_seconds is not None:
            delay = max(delay, error.retry_after_seconds)
        if now + delay > self._deadline or policy.budget_seconds == 0:
            raise error
        _logger.warning(
            "%s; attempt %d follows in %.1f s", error, self.index + 2, delay, extra={"delay": delay}
        )
        self.pause(delay)
        self._errors += 1
        self.index += 1

    def progressed(self) -> None:
        """Something arrived: the next failure starts with a whole budget and a short wait."""
        self._deadline = None
        self._errors = self._server_errors = 0

    def pause(self, seconds: float) -> None:
        """Sleeps.

        Raises:
            OperationCancelledError: it was cancelled before or meanwhile.
        """
        if self._timing.sleep is None:
            self.cancellation.wait(seconds)
        else:
            self._timing.sleep(seconds)
            self.cancellation.check()

    def run(self, operation: Callable[[Self], _T], *, repeatable: bool) -> _T:
        """Calls ``operation`` until it returns, its failure must not be retried, or the budget is spent.

        Raises:
            FletchingError: the last failure, as ``operation`` raised it.
            OperationCancelledError: it was cancelled.
        """
        while True:
            try:
                return operation(self)
            except (ServiceError, TransportError, TruncatedStreamError) as error:
                self.wait(error, repeatable=repeatable)

    def with_options(self, **changes: Unpack[OptionChanges]) -> Self:
        """The same request as far as it has come, for an attempt with some options replaced."""
        result = copy.copy(self)
        result.options = self.options.changed(**changes)
        return result
