"""What a caller may set per client, per table or per call: timeouts, retries, sizes."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from fletching.client.retry import RetryPolicy
from fletching.errors import UsageError

__all__ = ["CallOptions", "Timeouts"]

MEBIBYTE = 1024 * 1024


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
        """Refuses times that are not positive."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and not value > 0:
                raise UsageError(
                    f"timeout {field.name} is {value}; give seconds above 0, or None to wait for ever"
                )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """Options that every call takes from its client, table or scan.

    Attributes:
        timeouts: see `Timeouts`.
        retry: see `RetryPolicy`.
        connections: how many connections one scan may use at once. ``"auto"`` is one to a service
            on this host, where sender and receiver share the cores and a second connection only
            costs, and four over a network.
        read_ahead_bytes: how many bytes of batches a parallel scan may hold that its caller has
            not taken yet, beside one batch per connection.
        write_body_bytes: the size at which buffered batches are sent; one request's body is about
            this long, or one row if that is longer.
        split_bytes: the wanted size of a scan's splits.
        compression: the Arrow buffer codec asked for and sent: ``"lz4"``, ``"zstd"`` or None for
            as it is.
        lz4_stream: whether table bodies travel as ``x-lz4-stream``, LZ4 blocks that refer to the
            ones before: for streams of small record batches over a network. What is stored stays
            as it was written. Only our own service speaks it; any other is neither asked twice nor
            sent it. Not together with ``compression``: compressing twice gains nothing.
    """

    timeouts: Timeouts = Timeouts()
    retry: RetryPolicy = RetryPolicy()  # noqa: RUF009  # a frozen value, as Timeouts is
    connections: int | Literal["auto"] = "auto"
    read_ahead_bytes: int = 128 * MEBIBYTE
    write_body_bytes: int = 128 * MEBIBYTE
    split_bytes: int = 128 * MEBIBYTE
    compression: str | None = None
    lz4_stream: bool = False

    def __post_init__(self) -> None:
        """Refuses sizes below 1 and unknown codecs."""
        for name in ("connections", "write_body_bytes", "split_bytes"):
            value = getattr(self, name)
            if name == "connections" and value == "auto":
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise UsageError(f"option {name} must be a number from 1 on, not {value!r}")
        if self.read_ahead_bytes < 0:
            raise UsageError("option read_ahead_bytes must not be negative")
        if self.compression not in {None, "lz4", "zstd"}:
            raise UsageError(f"compression {self.compression!r} is not 'lz4', 'zstd' or None")
        if self.lz4_stream and self.compression is not None:
            raise UsageError("lz4_stream and compression exclude each other: give one of them")

    @property
    def most_connections(self) -> int:
        """The connections asked for, or those that ``"auto"`` may come to use."""
        return 4 if self.connections == "auto" else self.connections

    def changed(self, **changes: Any) -> CallOptions:
        """These options with some replaced; ``timeouts`` and ``retry`` may be given as dicts of changes.

        Raises:
            UsageError: no such option, or a value it cannot have.
        """
        known = {field.name for field in dataclasses.fields(self)}
        unknown = sorted(set(changes) - known)
        if unknown:
            raise UsageError(f"no such option: {', '.join(unknown)}; there are {sorted(known)}")
        for name in ("timeouts", "retry"):
            value = changes.get(name)
            if isinstance(value, dict):
                changes[name] = dataclasses.replace(getattr(self, name), **value)
        return dataclasses.replace(self, **changes)
