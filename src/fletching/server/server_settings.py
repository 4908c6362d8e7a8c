"""Every setting of the service, with its unit and default.

A setting comes from a keyword of ``serve``, an option of ``fletching serve`` or the environment
variable ``FLETCHING_<NAME>``; ``docs/operations.md`` lists them all and a test holds it to that.
"""

from __future__ import annotations

import dataclasses
import enum
import ipaddress
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, Self

from fletching.environment import check_environment
from fletching.errors import UsageError
from fletching.protocol.http.numbers import parse_seconds

__all__ = ["ReplyCompression", "ServerSettings", "is_loopback"]

KIB = 1024
MIB = 1024 * KIB


class ReplyCompression(enum.StrEnum):
    """How a requested compression of a table read is answered (PROTOCOL 5.1)."""

    AUTO = "auto"
    ARROW = "arrow"
    BODY = "body"
    OFF = "off"


_UNITS = {"": 1, "k": KIB, "kib": KIB, "m": MIB, "mib": MIB, "g": 1024 * MIB, "gib": 1024 * MIB}
_SIZE = re.compile(r"\s*([0-9]{1,18})\s*([a-z]*)\s*", re.IGNORECASE | re.ASCII)
_WORDS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


def _setting(default: Any, unit: str, meaning: str) -> Any:
    return dataclasses.field(default=default, metadata={"unit": unit, "meaning": meaning})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How the service listens, what it bounds and when it gives up. Immutable."""

    # --- listening
    host: str = _setting("127.0.0.1", "address", "Address to listen on.")
    port: int = _setting(8787, "port", "Port to listen on; 0 takes a free one.")
    backlog: int = _setting(
        2048, "connections", "Connections the kernel queues before they are accepted."
    )
    tls_certificate: str | None = _setting(
        None, "path", "PEM file with the certificate chain; with it the service speaks TLS."
    )
    tls_key: str | None = _setting(
        None, "path", "PEM file with the private key, unless the certificate file holds it too."
    )
    public_host: str | None = _setting(
        None,
        "host:port",
        "What endpoint discovery answers; by default the Host header of the asking request.",
    )

    # --- identity
    project: str = _setting("demo", "name", "The project that exists from the first start.")
    clock_skew_seconds: float = _setting(
        900.0, "seconds", "How far the Date of a signed request may be from the server's clock."
    )

    auth_failures: int = _setting(
        20,
        "requests",
        "Requests of one client address and access id that could not be verified, in one span, before further such requests get 429; verified ones never do.",
    )
    auth_failure_seconds: float = _setting(60.0, "seconds", "The span of auth_failures.")
    key_refresh_seconds: float = _setting(
        2.0,
        "seconds",
        "How old the service's knowledge of access keys and grants may be: so long a revoked key may still work.",
    )
    allow_anonymous: bool = _setting(
        False,
        "true or false",
        "Let unsigned requests do everything; only on a loopback address.",
    )
    public_metrics: bool = _setting(
        False, "true or false", "Let everybody read /metrics, without a key."
    )
    schemas_enabled: bool = _setting(
        False,
        "true or false",
        "Tell ODPS clients that tables belong to schemas, so that a.b means table b of schema a.",
    )

    # --- connections
    keep_alive_seconds: float = _setting(
        620.0,
        "seconds",
        "How long an idle connection stays open; longer than the pools of clients and proxies, so that they close first.",
    )
    max_connections: int = _setting(
        4096, "connections", "Open connections above which a new one is answered 429 and closed."
    )
    max_head_bytes: int = _setting(
        64 * KIB, "bytes", "Request line and headers, also the trailers of a chunked body."
    )
    head_timeout_seconds: float = _setting(
        30.0, "seconds", "From the first byte of a request to the end of its headers."
    )
    body_idle_seconds: float = _setting(
        60.0,
        "seconds",
        "A request body must bring body_progress_bytes (or its end) in each such span, else 408.",
    )
    body_progress_bytes: int = _setting(
        4 * KIB, "bytes", "The least that counts as progress of a request body."
    )
    reader_stall_seconds: float = _setting(
        900.0,
        "seconds",
        "A reader that takes no byte of its reply for this long is cut; nothing gentler is possible then.",
    )
    linger_seconds: float = _setting(
        10.0,
        "seconds",
        "How long a connection that is being closed is still read, so that the last reply is not lost to a reset.",
    )
    max_discard_bytes: int = _setting(
        64 * MIB,
        "bytes",
        "After an early error reply, how much of the unread request body is swallowed to keep the connection.",
    )

    # --- load
    max_json_bytes: int = _setting(16 * MIB, "bytes", "A JSON request body; above it 413.")
    max_bodies: int = _setting(
        256,
        "requests",
        "Concurrent uploads (TableWrite, TableWriteBlob); above it 429 with Retry-After.",
    )
    max_reads: int = _setting(
        1024, "requests", "Concurrent streamed replies; above it 429 with Retry-After."
    )
    max_calls: int = _setting(
        1024, "requests", "Concurrent JSON requests; above it 429 with Retry-After."
    )
    retry_after_seconds: float = _setting(
        1.0, "seconds", "What Retry-After says when the server is at one of these limits."
    )
    sql_workers: int = _setting(4, "statements", "SQL statements that run at once; others wait.")
    sql_memory_bytes: int = _setting(
        1024 * MIB,
        "bytes",
        "Memory of one query's sorts, joins and aggregates; what is more is spilled.",
    )
    sql_threads: int = _setting(2, "threads", "Threads that one query computes with.")
    sql_spill_bytes: int = _setting(
        16 * 1024 * MIB, "bytes", "Most bytes that one query spills; above it the query fails."
    )
    sql_spill_folder: str | None = _setting(
        None, "path", "Where queries spill; by default the system's folder for temporary files."
    )
    sql_seconds: float = _setting(
        3600.0, "seconds", "How long one query may run; then it fails with a sentence that says so."
    )
    ingest_memory_bytes: int = _setting(
        256 * MIB,
        "bytes",
        "Record batch messages in memory over all uploads, and what decoding them needs; above it uploads wait their turn. One message larger than this is let in alone.",
    )
    read_memory_bytes: int = _setting(
        32 * MIB,
        "bytes",
        "What one streamed reply holds computed or brought in ahead of the socket.",
    )
    mapped_bytes: int = _setting(
        1024 * MIB,
        "bytes",
        "Pages of stored files that stay mapped after they were sent; more only costs address space, less costs time when the same bytes are read again.",
    )
    call_threads: int = _setting(
        8,
        "threads",
        "Workers for calls that read the catalog, and as many for those that change it.",
    )
    bulk_threads: int = _setting(
        8, "threads", "Workers that validate, checksum, store, decode and bring pages in."
    )

    query_threads: int = _setting(
        4,
        "threads",
        "Workers for SQL statements, which take as long as their data is large, so that no other call waits behind them.",
    )

    # --- replies
    reply_compression: ReplyCompression = dataclasses.field(
        default=ReplyCompression.AUTO,
        metadata={
            "unit": "auto, arrow, body or off",
            "meaning": "What a reader's Accept-Encoding gets: auto decides by the client (PROTOCOL 5.1), arrow compresses the batches' buffers, body the whole reply, off declines.",
        },
    )
    compression_level: int = _setting(3, "level", "Level of whole-body zstd compression, 1 to 19.")

    # --- stopping
    drain_seconds: float = _setting(
        300.0, "seconds", "After SIGTERM, how long requests in flight may take to finish."
    )
    drain_idle_seconds: float = _setting(
        1.0,
        "seconds",
        "After SIGTERM, how long an idle connection still gets an answer (with Connection: close) before it is closed.",
    )

    # --- logs
    access_log: bool = _setting(
        True, "true or false", "One line per request on the log fletching.access."
    )

    def __post_init__(self) -> None:
        """Refuses values that cannot work, naming the setting."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            # Written so that it also refuses what compares with nothing (nan).
            if isinstance(value, int | float) and not value >= 0:
                raise UsageError(f"setting {field.name} is {value}: it cannot be negative")
        for name in (
            "max_bodies",
            "max_reads",
            "max_calls",
            "call_threads",
            "bulk_threads",
            "query_threads",
        ):
            if getattr(self, name) < 1:
                raise UsageError(f"setting {name} is {getattr(self, name)}: it must be at least 1")
        try:
            compression = ReplyCompression(self.reply_compression)
        except ValueError as exc:
            words = ", ".join(ReplyCompression)
            raise UsageError(
                f"setting reply_compression is {self.reply_compression!r}: it is one of {words}"
            ) from exc
        # Its name is as good as the value itself.
        object.__setattr__(self, "reply_compression", compression)
        if self.tls_key and not self.tls_certificate:
            raise UsageError("setting tls_key is given without tls_certificate")
        if self.allow_anonymous and not is_loopback(self.host):
            raise UsageError(
                f"setting allow_anonymous needs a loopback address to listen on, not {self.host!r}"
            )
        if not 0 <= self.port <= 65535:
            raise UsageError(f"setting port is {self.port}: it is 0 to 65535")

    @classmethod
    def variables(cls) -> frozenset[str]:
        """The environment variable of each setting."""
        return frozenset(f"FLETCHING_{field.name.upper()}" for field in dataclasses.fields(cls))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], **given: Any) -> Self:
        """Reads ``FLETCHING_<NAME>`` for every setting; what is ``given`` and not None wins.

        Raises:
            UsageError: a value that is not of its setting's type, naming the variable; or a
                variable of our name that is not known.
        """
        check_environment(environment, cls.variables())
        values: dict[str, Any] = {}
        hints = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            variable = f"FLETCHING_{field.name.upper()}"
            if given.get(field.name) is not None:
                values[field.name] = given[field.name]
            elif variable in environment:
                values[field.name] = _parse(variable, environment[variable], hints[field.name])
        unknown = given.keys() - {field.name for field in dataclasses.fields(cls)}
        if unknown:
            raise UsageError(f"no such setting: {', '.join(sorted(unknown))}")
        return cls(**values)


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _parse(variable: str, text: str, kind: Any) -> Any:
    """Reads a setting's text; sizes may carry KiB, MiB or GiB."""
    options = typing.get_args(kind) if typing.get_origin(kind) is types.UnionType else (kind,)
    if type(None) in options and not text:
        return None
    if bool in options:
        if text.lower() not in _WORDS:
            raise UsageError(f"{variable}={text!r} is neither true nor false")
        return _WORDS[text.lower()]
    if int in options:
        match = _SIZE.fullmatch(text)
        if match is None or match[2].lower() not in _UNITS:
            raise UsageError(
                f"{variable}={text!r} is not a whole number (KiB, MiB, GiB may follow)"
            )
        return int(match[1]) * _UNITS[match[2].lower()]
    if float in options:
        seconds = parse_seconds(text.strip())
        if seconds is None:
            raise UsageError(f"{variable}={text!r} is not a number")
        return seconds
    return text
