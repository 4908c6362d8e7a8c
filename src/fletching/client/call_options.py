"""What a caller may set per client, per table or per call: timeouts, retries, sizes."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any, Literal, TypedDict, TypeVar, Unpack

from fletching.errors import UsageError
from fletching.settings import StorageChanges

__all__ = [
    "CallOptions",
    "OptionChanges",
    "RetryChanges",
    "RetryPolicy",
    "TimeoutChanges",
    "Timeouts",
]

MEBIBYTE = 1024 * 1024


def _check_number(name: str, value: object) -> None:
    """Returns if a value is a number, and not one of the sort that compares with nothing.

    Raises:
        UsageError: it is not; ``name`` says which option it was for.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124  # NaN
        raise UsageError(f"{name} is a number, not {value!r}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds to wait for the peer; None waits for ever. All are on by default.

    Attributes:
        connect: for a connection.
        first_byte: from the end of the request to the first byte of the reply.
        idle: between any two bytes, and for the peer to take the next part of a body.
        total: for one attempt. Only time spent waiting for the peer counts, so that a caller who
            thinks long between two batches is not cut off.
    """

    connect: float | None = 10.0
    first_byte: float | None = 120.0
    idle: float | None = 60.0
    total: float | None = 3600.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None:
                _check_number(f"timeout {field.name}", value)
            if value is not None and not value > 0:
                raise UsageError(
                    f"timeout {field.name} is {value}; give seconds above 0, or None to wait for ever"
                )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How long and how often to try again; a value, shared freely.

    Attributes:
        budget_seconds: from the first failure on, how long to keep trying. 0 never retries.
        first_delay_seconds: the wait before the first repetition; each further one doubles.
        longest_delay_seconds: no wait is longer, except one that the service asks for.
        jitter: each wait is shortened by up to this fraction at random, so that clients that
            failed together do not return together.

    Raises:
        UsageError: a negative time, or a jitter outside 0..1.
    """

    budget_seconds: float = 120.0
    first_delay_seconds: float = 0.2
    longest_delay_seconds: float = 16.0
    jitter: float = 0.5

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_number(f"retry {field.name}", getattr(self, field.name))
        if min(self.budget_seconds, self.first_delay_seconds, self.longest_delay_seconds) < 0:
            raise UsageError("a retry policy's times must not be negative")
        if not 0 <= self.jitter <= 1:
            raise UsageError(f"a retry policy's jitter is a fraction 0..1, not {self.jitter}")

    def delay_seconds(self, attempt: int, random: float) -> float:
        """The wait after the failure of attempt 0, 1, 2...; ``random`` is a random number in 0..1."""
        # The exponent is capped: 2.0**1100 is an OverflowError, and the wait is long capped by then.
        delay = self.first_delay_seconds * 2.0 ** min(attempt, 60)
        return min(delay, self.longest_delay_seconds) * (1.0 - self.jitter * random)


NO_RETRIES = RetryPolicy(budget_seconds=0.0)
"""Fails at the first failure."""


class TimeoutChanges(TypedDict, total=False):
    """Fields of `Timeouts` that differ."""

    connect: float | None
    first_byte: float | None
    idle: float | None
    total: float | None


class RetryChanges(TypedDict, total=False):
    """Fields of `RetryPolicy` that differ."""

    budget_seconds: float
    first_delay_seconds: float
    longest_delay_seconds: float
    jitter: float


class OptionChanges(TypedDict, total=False):
    """Fields of `CallOptions` that differ: what ``connect`` and ``with_options`` take by name."""

    timeouts: Timeouts | TimeoutChanges
    retry: RetryPolicy | RetryChanges
    connections: int | Literal["auto"]
    read_ahead_bytes: int
    write_body_bytes: int
    split_bytes: int
    compression: Literal["lz4", "zstd"] | None
    lz4_stream: bool
    direct: Literal["auto", "never"]


class ConnectOptions(OptionChanges, StorageChanges, total=False):
    """What ``connect`` takes by name: options of calls, and where a data set is."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """Options that every call takes from its client, table or scan.

    Attributes:
        timeouts: see `Timeouts`.
        retry: see `RetryPolicy`.
        connections: how many connections one scan may use at once. ``"auto"`` is as many as the way
            to the service holds: one where its answers come within some milliseconds, as on this
            host, where a second one would only cost; up to sixteen the farther it is.
        read_ahead_bytes: how many bytes of batches a parallel scan may hold that its caller has
            not taken yet, beside one batch per connection.
        write_body_bytes: the size at which buffered batches are sent; one request's body is about
            this long, or one row if that is longer.
        split_bytes: the wanted size of a scan's splits; of the parts that several connections read
            at once the most, which are as small as ``read_ahead_bytes`` holds one of each.
        compression: the Arrow buffer codec asked for and sent: ``"lz4"``, ``"zstd"`` or None for
            as it is.
        lz4_stream: whether table bodies travel as ``x-lz4-stream``, LZ4 blocks that refer to the
            ones before: for streams of small record batches over a network. What is stored stays
            as it was written. Only our own service speaks it; any other is neither asked twice nor
            sent it. Not together with ``compression``: compressing twice gains nothing.
        direct: whether stored bytes may be read past the service where it offers that: ``"auto"``
            reads them from where they lie, and through the service whatever cannot be; ``"never"``
            goes through the service alone.
    """

    timeouts: Timeouts = Timeouts()
    retry: RetryPolicy = RetryPolicy()  # a frozen value, as Timeouts is
    connections: int | Literal["auto"] = "auto"
    read_ahead_bytes: int = 128 * MEBIBYTE
    write_body_bytes: int = 128 * MEBIBYTE
    split_bytes: int = 128 * MEBIBYTE
    compression: str | None = None
    lz4_stream: bool = False
    direct: Literal["auto", "never"] = "auto"

    def __post_init__(self) -> None:
        if not isinstance(self.timeouts, Timeouts):
            raise UsageError(f"option timeouts is a Timeouts or a dict, not {self.timeouts!r}")
        if not isinstance(self.retry, RetryPolicy):
            raise UsageError(f"option retry is a RetryPolicy or a dict, not {self.retry!r}")
        least = {"connections": 1, "write_body_bytes": 1, "split_bytes": 1, "read_ahead_bytes": 0}
        for name, lowest in least.items():
            value = getattr(self, name)
            if name == "connections" and value == "auto":
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
                raise UsageError(
                    f"option {name} must be a whole number from {lowest} on, not {value!r}"
                )
        if not isinstance(self.lz4_stream, bool):
            raise UsageError(f"option lz4_stream is True or False, not {self.lz4_stream!r}")
        if self.compression is not None and self.compression not in ("lz4", "zstd"):
            raise UsageError(f"compression {self.compression!r} is not 'lz4', 'zstd' or None")
        if self.direct not in ("auto", "never"):
            raise UsageError(f"option direct is 'auto' or 'never', not {self.direct!r}")
        if self.lz4_stream and self.compression is not None:
            raise UsageError("lz4_stream and compression exclude each other: give one of them")

    @property
    def most_connections(self) -> int:
        """The connections asked for, or those that ``"auto"`` may come to use."""
        return 16 if self.connections == "auto" else self.connections

    def changed(self, **changes: Unpack[OptionChanges]) -> CallOptions:
        """These options with some replaced; ``timeouts`` and ``retry`` may be given as dicts of changes.

        Raises:
            UsageError: no such option, or a value it cannot have.
        """
        values: dict[str, object] = dict(changes)
        for name in ("timeouts", "retry"):
            given = values.get(name)
            if isinstance(given, Mapping):
                values[name] = _replaced(getattr(self, name), given)
        return _replaced(self, values)


_Record = TypeVar("_Record", Timeouts, RetryPolicy, CallOptions)


def _replaced(record: _Record, values: Mapping[str, Any]) -> _Record:
    """The record with some fields replaced.

    Raises:
        UsageError: it has no field of a name.
    """
    known = [field.name for field in dataclasses.fields(record)]
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UsageError(
                f"no such option: {name}; {hint}{type(record).__name__} has {', '.join(known)}"
            )
    return dataclasses.replace(record, **values)
