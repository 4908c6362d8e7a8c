"""Every setting of the service, with its unit and default.

A setting comes from a keyword of ``serve``, an option of ``fletching serve``, the environment variable
``FLETCHING_<NAME>`` or the table ``server`` of a settings file (``fletching.settings``);
``docs/operations.md`` lists them all and a test holds it to that.
"""

from __future__ import annotations

import dataclasses
import enum
import ipaddress
import os
from collections.abc import Mapping
from typing import Literal, Self, TypedDict

from fletching.errors import UsageError
from fletching.server.logs import LogFormat
from fletching.settings import (
    KIB,
    MIB,
    SettingsFile,
    StorageOptions,
    check_environment,
    read_settings,
    setting,
    variables_of,
)
from fletching.types import DEFAULT_PROJECT

__all__ = ["ReplyCompression", "ServeOptions", "ServerChanges", "ServerSettings", "is_loopback"]


class ReplyCompression(enum.StrEnum):
    """How a requested compression of a table read is answered."""

    AUTO = "auto"
    ARROW = "arrow"
    BODY = "body"
    OFF = "off"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How the service listens, what it bounds and when it gives up. Immutable."""

    # --- listening
    host: str = setting("127.0.0.1", "address", "Address to listen on.")
    port: int = setting(8787, "port", "Port to listen on; 0 takes a free one.")
    backlog: int = setting(
        2048, "connections", "Connections the kernel queues before they are accepted."
    )
    tls_certificate: str | None = setting(
        None, "path", "PEM file with the certificate chain; with it the service speaks TLS."
    )
    tls_key: str | None = setting(
        None, "path", "PEM file with the private key, unless the certificate file holds it too."
    )
    public_host: str | None = setting(
        None,
        "host:port",
        "Address that endpoint discovery answers; by default the Host header of the request.",
    )

    workers: int = setting(
        1,
        "processes",
        "Processes that serve the port together (Linux), for more than one core of Python; they share the limits of load and memory below.",
    )

    # --- identity
    project: str = setting(DEFAULT_PROJECT, "name", "The project that exists from the first start.")
    clock_skew_seconds: float = setting(
        900.0, "seconds", "How far the Date of a signed request may be from the server's clock."
    )

    server_access_key_file: str | None = setting(
        None,
        "path",
        "File of keys that may sign requests and do everything, one ID:SECRET a line; without one the data folder's own key is used, generated at the first start.",
    )
    auth_failures: int = setting(
        20,
        "requests",
        "Failed verifications of one client address and access id in one span before further failures get 429; verified requests never do.",
    )
    auth_failure_seconds: float = setting(60.0, "seconds", "The span of auth_failures.")
    key_refresh_seconds: float = setting(
        2.0,
        "seconds",
        "How often access keys and grants are refreshed: a revoked key may work for as long.",
    )
    allow_anonymous: bool = setting(
        False,
        "true or false",
        "Allow unsigned requests to do everything; only on a loopback address.",
    )
    public_metrics: bool = setting(False, "true or false", "Serve /metrics without a key.")
    schemas_enabled: bool = setting(
        False,
        "true or false",
        "Tell ODPS clients that tables belong to schemas, so that a.b means table b of schema a.",
    )

    # --- connections
    keep_alive_seconds: float = setting(
        620.0,
        "seconds",
        "How long an idle connection stays open; longer than the pools of clients and proxies, so that they close first.",
    )
    max_connections: int = setting(
        4096, "connections", "Open connections above which a new one is answered 429 and closed."
    )
    max_head_bytes: int = setting(
        64 * KIB, "bytes", "Request line and headers, also the trailers of a chunked body."
    )
    head_timeout_seconds: float = setting(
        30.0, "seconds", "From the first byte of a request to the end of its headers."
    )
    body_idle_seconds: float = setting(
        60.0,
        "seconds",
        "Span in which a request body must bring body_progress_bytes (or its end); otherwise 408.",
    )
    body_progress_bytes: int = setting(
        4 * KIB, "bytes", "Bytes of a request body that count as progress."
    )
    reader_stall_seconds: float = setting(
        900.0,
        "seconds",
        "A connection whose reader takes no byte of its reply for this long is cut.",
    )
    linger_seconds: float = setting(
        10.0,
        "seconds",
        "How long a closing connection is still read, so that a reset does not destroy the last reply.",
    )
    max_discard_bytes: int = setting(
        64 * MIB,
        "bytes",
        "After an early error reply, how much of the unread request body is discarded to keep the connection.",
    )

    same_host_reads: bool = setting(
        True,
        "true or false",
        "Pass clients on this host the descriptors of stored files, if their keys may read the table; false sends them the rows.",
    )

    # --- load
    max_json_bytes: int = setting(16 * MIB, "bytes", "A JSON request body; above it 413.")
    max_bodies: int = setting(
        256,
        "requests",
        "Concurrent uploads (TableWrite, TableWriteBlob); above it 429 with Retry-After.",
    )
    max_reads: int = setting(
        1024, "requests", "Concurrent streamed replies; above it 429 with Retry-After."
    )
    max_calls: int = setting(
        1024, "requests", "Concurrent JSON requests; above it 429 with Retry-After."
    )
    retry_after_seconds: float = setting(1.0, "seconds", "Value of Retry-After at these limits.")
    sql_workers: int = setting(4, "statements", "SQL statements that run at once; others wait.")
    sql_memory_bytes: int = setting(
        1024 * MIB,
        "bytes",
        "Memory of one query's sorts, joins and aggregates; above it the query spills.",
    )
    sql_threads: int = setting(2, "threads", "Threads that one query computes with.")
    sql_spill_bytes: int = setting(
        16 * 1024 * MIB, "bytes", "Most bytes that one query spills; above it the query fails."
    )
    sql_spill_folder: str | None = setting(
        None, "path", "Where queries spill; by default the system's folder for temporary files."
    )
    sql_seconds: float = setting(3600.0, "seconds", "How long one query may run before it fails.")
    ingest_memory_bytes: int = setting(
        256 * MIB,
        "bytes",
        "Memory of the record batch messages of all uploads, and of decoding them; above it uploads wait their turn. A message larger than this passes alone.",
    )
    read_memory_bytes: int = setting(
        32 * MIB,
        "bytes",
        "Memory of one streamed reply for data that is ready ahead of the socket.",
    )
    mapped_bytes: int = setting(
        1024 * MIB,
        "bytes",
        "Pages of stored files that stay mapped after they were sent. More costs only address space; less costs time when the same bytes are read again.",
    )
    call_threads: int = setting(
        8,
        "threads",
        "Workers for calls that read the catalog, and as many for those that change it.",
    )
    bulk_threads: int = setting(
        8, "threads", "Workers that validate, checksum, store, decode and load pages."
    )

    # --- upkeep
    maintenance: bool = setting(
        True,
        "true or false",
        "Compact and collect in the background; false where fletching maintain runs beside the servers.",
    )

    # --- replies
    reply_compression: ReplyCompression = dataclasses.field(
        default=ReplyCompression.AUTO,
        metadata={
            "unit": "auto, arrow, body or off",
            "meaning": "How a reader's Accept-Encoding is answered: auto decides by the client, arrow compresses the batches' buffers, body the whole reply, off declines.",
        },
    )
    direct_reads: bool = setting(
        True,
        "true or false",
        "Answer clients that support it with signed URLs of the object store, from which they fetch stored bytes directly; only for keys that may read the table.",
    )
    direct_least_bytes: int = setting(
        4 * MIB, "bytes", "Reads of fewer stored bytes are sent by the service."
    )
    compression_level: int = setting(3, "level", "Level of whole-body zstd compression, 1 to 19.")

    # --- stopping
    drain_seconds: float = setting(
        300.0, "seconds", "After SIGTERM, how long running requests may take to finish."
    )
    drain_idle_seconds: float = setting(
        1.0,
        "seconds",
        "After SIGTERM, how long an idle connection still gets an answer (with Connection: close) before it is closed.",
    )

    # --- logs
    access_log: bool = setting(
        True, "true or false", "One line per request on the log fletching.access."
    )
    log_format: LogFormat = dataclasses.field(
        default=LogFormat.TEXT,
        metadata={
            "unit": "text or json",
            "meaning": "Format of the log of fletching serve: plain lines, or a JSON object per line.",
        },
    )
    tracing: bool = setting(
        False,
        "true or false",
        "Make OpenTelemetry spans of requests (extra otel); the variables OTEL_* configure their export.",
    )

    def __post_init__(self) -> None:
        """Refuses values that cannot work, naming the setting."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            # Written so that it also refuses what compares with nothing (nan).
            if isinstance(value, int | float) and not value >= 0:
                raise UsageError(f"setting {field.name} is {value}: it cannot be negative")
        for name in (
            "workers",
            "max_bodies",
            "max_reads",
            "max_calls",
            "call_threads",
            "bulk_threads",
            "sql_workers",
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
        try:
            object.__setattr__(self, "log_format", LogFormat(self.log_format))
        except ValueError as exc:
            words = " or ".join(LogFormat)
            raise UsageError(f"setting log_format is {self.log_format!r}: it is {words}") from exc
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
        return variables_of(cls)

    @classmethod
    def from_environment(
        cls,
        environment: Mapping[str, str],
        file: SettingsFile | None = None,
        defaults: Mapping[str, object] | None = None,
        **given: object,
    ) -> Self:
        """Reads ``FLETCHING_<NAME>`` for every setting; what is ``given`` and not None wins.

        Args:
            environment: all variables.
            file: what the table ``server`` of a settings file says; it comes last.
            defaults: other values than the usual ones for settings of which nothing is said.
            given: settings by keyword or option.

        Raises:
            UsageError: a value that is not of its setting's type, naming the variable; or a
                variable of our name that is not known.
        """
        check_environment(environment, cls.variables())
        return read_settings(cls, given, environment, file, defaults)


class ServerChanges(TypedDict, total=False):
    """What ``serve`` takes by name beside where it listens: the other fields of `ServerSettings`."""

    backlog: int
    tls_certificate: str | os.PathLike[str] | None
    tls_key: str | os.PathLike[str] | None
    public_host: str | None
    workers: int
    clock_skew_seconds: float
    server_access_key_file: str | os.PathLike[str] | None
    auth_failures: int
    auth_failure_seconds: float
    key_refresh_seconds: float
    allow_anonymous: bool
    public_metrics: bool
    schemas_enabled: bool
    keep_alive_seconds: float
    max_connections: int
    max_head_bytes: int
    head_timeout_seconds: float
    body_idle_seconds: float
    body_progress_bytes: int
    reader_stall_seconds: float
    linger_seconds: float
    max_discard_bytes: int
    same_host_reads: bool
    max_json_bytes: int
    max_bodies: int
    max_reads: int
    max_calls: int
    retry_after_seconds: float
    sql_workers: int
    sql_memory_bytes: int
    sql_threads: int
    sql_spill_bytes: int
    sql_spill_folder: str | os.PathLike[str] | None
    sql_seconds: float
    ingest_memory_bytes: int
    read_memory_bytes: int
    mapped_bytes: int
    call_threads: int
    bulk_threads: int
    maintenance: bool
    reply_compression: ReplyCompression | Literal["auto", "arrow", "body", "off"]
    direct_reads: bool
    direct_least_bytes: int
    compression_level: int
    drain_seconds: float
    drain_idle_seconds: float
    access_log: bool
    log_format: LogFormat | Literal["text", "json"]
    tracing: bool


class ServeOptions(ServerChanges, StorageOptions, total=False):
    """What ``serve`` takes by name: how the service behaves, and where its data set is."""


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
