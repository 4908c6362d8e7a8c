"""Objects in S3, Google Cloud Storage or Azure, through the ``obstore`` package (extra ``[s3]``).

An object below ``BUFFERED_BYTES`` is one conditional put, and exclusive. A larger one is a multipart
upload, up to twelve parts at a time, which the store makes visible as a whole when it is completed. Few
stores complete under a condition, so that whoever is about to complete first puts a claim beside the key,
``KEY.claim``, which only one of several can, then sees whether the key is free, completes, and removes the
claim: of those who complete uploads of one key exactly one succeeds. A claim whose owner died, or did not
hear whether it had completed, stays in the way of its key, and is an orphan to retention. An upload that
is never completed leaves parts, which retention removes (``s3_uploads``) or the bucket's own lifecycle rule.

Nothing tells here which processes are dead: the catalog keeps a row of each that writes.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import secrets
import time
import urllib.parse
from collections.abc import Generator, Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any, Self

import numpy as np
from typing_extensions import Buffer

from fletching import faultpoints
from fletching.errors import (
    CorruptObjectError,
    FletchingError,
    MissingExtraError,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageError,
    StorageFullError,
    UsageError,
)
from fletching.objects.aws_profile import AwsOptions, aws_keys, aws_options
from fletching.objects.object_errors import said_by_store, store_is_full
from fletching.objects.range_fetching import Get, RangePool
from fletching.objects.remote_object import RemoteObject
from fletching.objects.s3_uploads import Credentials, S3Uploads, UnfinishedUpload
from fletching.objects.store import IDENTITY_KEY, OPERATIONS, ObjectInfo, Observe, checked_key

__all__ = ["RemoteSink", "RemoteStore"]

BUFFERED_BYTES = 8 << 20
"""What is kept in memory before an object becomes a multipart upload, and the size of its parts."""

CONNECT_SECONDS = 10
REQUEST_SECONDS = 120
"""The most that one request, at most `BUFFERED_BYTES` or a few MiB more, may take before it is repeated."""

PUT_ATTRIBUTE = "fletchingput"  # of letters alone, as Azure wants it
"""Under this name an object's metadata has a token of the put that made it."""

_ALIGNMENT = 8
"""Bytes: to which the values of messages are aligned in stored objects, and must be in memory."""

RETRY_SECONDS = 180
RETRIES = 15, 4.0
"""How often a request is repeated, and by how much waits may grow. Each wait is random between a tenth of a second and so
many times the one before: by a factor below 2.7 they do not grow at all. Some minute in all where nothing answers."""
FIRST = 12, 2.0
"""The same until the store has answered for the first time: some three seconds."""
"""How long a request is repeated, after random waits that grow, before its failure is reported."""


def _package() -> ModuleType:
    try:
        import obstore
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "object stores need obstore: pip install 'fletching[s3]'"
        ) from error
    return obstore


class RemoteStore:
    """A bucket, or a prefix in one. Thread-safe; any number of processes and hosts may share it."""

    knows_writers = False
    observe: Observe | None = None

    def __init__(self, location: Any) -> None:
        """Opens the store; nothing is asked of it yet.

        Args:
            location: a URL (``s3://bucket/prefix``, ``gs://``, ``az://``), whose credentials come
                from the environment as obstore documents, for S3 also from the files of the ``aws``
                command (``aws_profile``); or a store object of obstore's.

        Raises:
            MissingExtraError: obstore is not installed.
            StorageError: the URL or its configuration cannot be used.
        """
        self.writer = secrets.token_hex(6)
        self._obstore = _package()
        # Used once the other has answered: where nothing answers at first, somebody waits to hear why.
        self._patient: Any = None
        patient = None
        if isinstance(location, str):
            with self._translated("opening the object store", None):
                url, options = location, _options(location)
                location = self._obstore.store.from_url(url, **options | _retries(options, FIRST))
                if options:
                    patient = self._obstore.store.from_url(
                        url, **options | _retries(options, RETRIES)
                    )
        self._store, self._patient = location, patient
        self._pool = RangePool()
        self._closed = False

    @contextlib.contextmanager
    def _translated(self, doing: str, key: str | None) -> Iterator[None]:
        """Raises obstore's errors as ours; the one place where they are known."""
        started = time.perf_counter()
        try:
            yield
        except FletchingError:
            raise
        except FileNotFoundError as error:
            self._answers(doing)
            raise ObjectNotFoundError(f"there is no object {key}", key=key) from error
        except self._obstore.exceptions.AlreadyExistsError as error:
            raise ObjectExistsError(f"object {key} exists", key=key) from error
        except (self._obstore.exceptions.BaseError, OSError, ValueError) as error:
            what = f"{doing} {key}" if key else doing
            kind = StorageFullError if store_is_full(error) else StorageError
            raise kind(f"{what} failed: {said_by_store(error)}", key=key) from error
        else:
            self._answers(doing)
        finally:
            if self.observe is not None:
                self.observe(OPERATIONS.get(doing, "other"), time.perf_counter() - started)

    def _answers(self, doing: str) -> None:
        """The store was reached: from now on requests are repeated for as long as it may be away."""
        if self._patient is not None and doing != "signing":
            self._store, self._patient = self._patient, None

    def create(self, key: str) -> RemoteSink:
        """Begins an object; see ``ObjectStore``."""
        if self._closed:
            raise UsageError("the object store is closed")
        return RemoteSink(self, checked_key(key))

    def open(
        self, key: str, *, length: int | None = None, crc32c: int | None = None
    ) -> RemoteObject:
        """Opens an object; see ``ObjectStore``. Asks the store only where the length is not known."""
        del crc32c  # nothing is kept here
        checked_key(key)
        known = length is not None
        if length is None:
            with self._translated("opening", key):
                length = self._obstore.head(self._store, key)["size"]
        return RemoteObject(self, key, length, trusted=known)

    def delete(self, key: str) -> None:
        """Removes an object; see ``ObjectStore``."""
        checked_key(key)
        with (
            contextlib.suppress(ObjectNotFoundError),
            self._translated("deleting", key),
        ):
            self._obstore.delete(self._store, key)
        faultpoints.reach("object.deleted")

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Lists page by page; see ``ObjectStore``."""
        start = checked_key(prefix.rstrip("/")) if prefix.strip("/") else None
        with self._translated("listing", start):
            for page in self._obstore.list(self._store, prefix=start):
                for item in page:
                    if item["path"] == IDENTITY_KEY:
                        continue
                    yield ObjectInfo(item["path"], item["size"], item["last_modified"].timestamp())

    def dead_writers(self) -> frozenset[str]:
        """None: nothing tells; see ``ObjectStore``."""
        return frozenset()

    def living_writers(self) -> frozenset[str]:
        """This one: nothing tells of the others; see ``ObjectStore``."""
        return frozenset({self.writer})

    def forget_writer(self, writer: str) -> None:
        """Does nothing: no writer was ever told of."""

    def close(self) -> None:
        """Ends this opening; see ``ObjectStore``."""
        self._closed = True
        self._pool.close()

    def sign(self, keys: Sequence[str], seconds: float) -> Sequence[str]:
        """URLs by which whoever has them may read these objects whole, for so long.

        Signed with this process's credentials, without asking the store; most providers refuse more
        than a week.

        Raises:
            StorageError: this kind of store, or these credentials, cannot sign.
        """
        for key in keys:
            checked_key(key)
        kinds = self._obstore.store
        if not isinstance(self._store, kinds.S3Store | kinds.GCSStore | kinds.AzureStore):
            raise StorageError(f"{type(self._store).__name__} signs no URLs")
        with self._translated("signing", None):
            lifetime = dt.timedelta(seconds=int(seconds))
            urls: Sequence[str] = self._obstore.sign(self._store, "GET", [*keys], lifetime)
            return urls

    # --- what nobody completed ---

    def unfinished_uploads(self) -> Sequence[UnfinishedUpload]:
        """Uploads in parts that were begun in this store and not completed; those of living writers, too.

        None where they cannot be asked for: a store that is not S3, or keys that only obstore has.

        Raises:
            StorageError: the store refuses or fails.
        """
        uploads = self._uploads()
        if uploads is None:
            return []
        start = f"{self._prefix}/" if self._prefix else ""
        return [
            each._replace(key=each.key.removeprefix(start)) for each in uploads.unfinished(start)
        ]

    def end_upload(self, upload: UnfinishedUpload) -> None:
        """Gives an unfinished upload up, and its parts.

        Raises:
            StorageError: the store refuses or fails.
        """
        uploads = self._uploads()
        if uploads is not None:
            start = f"{self._prefix}/" if self._prefix else ""
            uploads.end(upload._replace(key=f"{start}{upload.key}"))

    @property
    def _prefix(self) -> str:
        return str(getattr(self._store, "prefix", None) or "").strip("/")

    def _uploads(self) -> S3Uploads | None:
        """How unfinished uploads are asked for; where the bucket is follows from a URL of obstore's."""
        if not isinstance(self._store, self._obstore.store.S3Store):
            return None
        keys = aws_keys(os.environ)
        if keys is None:
            return None
        parts = urllib.parse.urlsplit(self.sign(["x"], 60)[0])
        scope = dict(urllib.parse.parse_qsl(parts.query)).get("X-Amz-Credential", "").split("/")
        if len(scope) != 5 or scope[0] != keys["access_key_id"]:
            return None
        name = urllib.parse.quote(f"/{self._prefix}/x" if self._prefix else "/x")
        bucket = f"{parts.scheme}://{parts.netloc}{parts.path.removesuffix(name)}"

        def credentials() -> Credentials:
            result = aws_keys(os.environ) or keys
            return Credentials(
                result["access_key_id"], result["secret_access_key"], result.get("token")
            )

        return S3Uploads(bucket, scope[2], credentials)

    # --- what sinks and objects ask for ---

    def put(self, key: str, data: bytes) -> None:
        """Stores a small object at once, if its key is free.

        A put whose reply was lost is repeated, and finds what it has put itself: a token beside the bytes tells.

        Raises:
            ObjectExistsError: somebody else's object is there.
        """
        token = secrets.token_hex(16)
        marks = self._obstore.store
        kept = isinstance(self._store, marks.S3Store | marks.GCSStore | marks.AzureStore)
        try:
            with self._translated("committing", key):
                self._obstore.put(
                    self._store,
                    key,
                    data,
                    mode="create",
                    attributes={PUT_ATTRIBUTE: token} if kept else None,
                )
        except ObjectExistsError:
            if not kept or self._attribute(key, PUT_ATTRIBUTE) != token:
                raise

    def _attribute(self, key: str, name: str) -> str | None:
        """What stands beside an object's bytes under a name; None also where there is no object."""
        with contextlib.suppress(ObjectNotFoundError), self._translated("committing", key):
            result: str | None = self._obstore.get(self._store, key).attributes.get(name)
            return result
        return None

    def open_upload(self, key: str) -> Any:
        """Begins a multipart upload."""
        with self._translated("writing", key):
            return self._obstore.open_writer(self._store, key, buffer_size=BUFFERED_BYTES)

    def write(self, upload: Any, key: str, data: bytes) -> None:
        """Sends the next part of an upload."""
        with self._translated("writing", key):
            upload.write(data)

    def complete(self, upload: Any, key: str) -> None:
        """Makes an upload an object, if its key is free; of several who try exactly one succeeds."""
        claim = f"{key}.claim"
        self._claim(claim, key)
        try:
            with contextlib.suppress(ObjectNotFoundError), self._translated("committing", key):
                self._obstore.head(self._store, key)
                raise ObjectExistsError(f"object {key} exists", key=key)
        except FletchingError:
            self._release(claim)
            raise
        faultpoints.reach("object.claimed")
        # Where this fails it may succeed all the same, later: then the claim stays.
        with self._translated("committing", key):
            upload.close()
        self._release(claim)

    def _claim(self, claim: str, key: str) -> None:
        """Puts a claim beside a key.

        Raises:
            ObjectExistsError: somebody else's is there.
        """
        try:
            self.put(claim, secrets.token_bytes(16))
        except ObjectExistsError:
            raise ObjectExistsError(f"object {key} exists, or is being made", key=key) from None

    def _release(self, claim: str) -> None:
        # What stays is found by retention.
        with contextlib.suppress(StorageError):
            self.delete(claim)

    def get_range(self, key: str, start: int, end: int) -> memoryview:
        """Fetches a range that is not empty, in one request."""
        with self._translated("reading", key):
            data = memoryview(self._obstore.get_range(self._store, key, start=start, end=end))
        data = data.cast("B").toreadonly()
        if data.nbytes != end - start:
            raise CorruptObjectError(
                f"object {key} gave {data.nbytes} bytes of a range of {end - start}", key=key
            )
        return _aligned(data, start)

    def fetch(
        self, get: Get, ranges: Iterable[tuple[int, int]], *, ahead: bool, bytes_per_request: int
    ) -> Generator[memoryview, None, None]:
        """Fetches ranges of one object in this store's threads; see ``RangePool.fetch``."""
        return self._pool.fetch(get, ranges, ahead=ahead, bytes_per_request=bytes_per_request)


def _aligned(data: memoryview, start: int) -> memoryview:
    """A range of an object where its values are aligned in memory as they are in the object.

    What comes off a connection begins anywhere, and Arrow's kernels may read values that are not aligned
    slowly or not at all; then, and only then, the bytes are copied.
    """
    if (np.frombuffer(data, np.uint8).ctypes.data - start) % _ALIGNMENT == 0:
        return data
    memory = np.empty(data.nbytes + _ALIGNMENT, np.uint8)
    first = (start - memory.ctypes.data) % _ALIGNMENT
    target = memory[first : first + data.nbytes]
    target[:] = np.frombuffer(data, np.uint8)
    return target.data.toreadonly()


class RemoteSink:
    """Bytes on their way into a bucket; see ``ObjectSink``."""

    def __init__(self, store: RemoteStore, key: str) -> None:
        self.key = key
        self.length = 0
        self._store = store
        self._pending = bytearray()
        self._upload: Any = None
        self._open = True

    def write(self, data: Buffer) -> None:
        """Appends bytes; see ``ObjectSink``."""
        self.write_many((data,))

    def write_many(self, buffers: Sequence[Buffer]) -> None:
        """Appends buffers; see ``ObjectSink``. Copies: the upload's parts are not the caller's pieces."""
        self._check_open()
        for buffer in buffers:
            view = memoryview(buffer).cast("B")
            self.length += view.nbytes
            for start in range(0, view.nbytes, BUFFERED_BYTES):
                self._pending += view[start : start + BUFFERED_BYTES]
                if len(self._pending) >= BUFFERED_BYTES:
                    self._send()

    def _send(self) -> None:
        if self._upload is None:
            self._upload = self._store.open_upload(self.key)
        data, self._pending = bytes(self._pending), bytearray()
        self._store.write(self._upload, self.key, data)

    def commit(self) -> None:
        """Makes the object durable and visible; see ``ObjectSink``."""
        self._check_open()
        faultpoints.reach("object.written")
        try:
            if self._upload is None:
                self._store.put(self.key, bytes(self._pending))
            else:
                if self._pending:
                    self._send()
                self._store.complete(self._upload, self.key)
        finally:
            self.abort()
        faultpoints.reach("object.durable")

    def abort(self) -> None:
        """Drops what was not committed; see ``ObjectSink``."""
        self._open = False
        self._upload = None
        self._pending = bytearray()

    def _check_open(self) -> None:
        if not self._open:
            raise UsageError(f"the sink of object {self.key} is already committed or aborted")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()


_PREFIXES = {"s3": "AWS_", "gs": "GOOGLE_"}
_CLIENT_OPTIONS = (
    "allow_http", "allow_invalid_certificates", "connect_timeout", "http1_only", "http2_only",
    "pool_idle_timeout", "pool_max_idle_per_host", "proxy_ca_certificate", "proxy_excludes",
    "proxy_url", "timeout", "user_agent",
)  # fmt: skip


def _options(url: str) -> dict[str, Any]:
    """Timeouts and retries of a store that is reached over a network.

    Options of the client that the environment has (``AWS_ALLOW_HTTP`` and the like) would be dropped
    where any are given, so that they are given again.
    """
    scheme = url.partition(":")[0]
    if scheme in {"memory", "file"}:
        return {}
    prefix = _PREFIXES.get(scheme, "AZURE_")
    more: AwsOptions = aws_options(os.environ) if scheme == "s3" else {}
    given = {name: os.environ.get(prefix + name.upper()) for name in _CLIENT_OPTIONS}
    return more | {
        "client_options": {
            "connect_timeout": dt.timedelta(seconds=CONNECT_SECONDS),
            "timeout": dt.timedelta(seconds=REQUEST_SECONDS),
        }
        | {name: value for name, value in given.items() if value},
    }


def _retries(options: dict[str, Any], patience: tuple[int, float]) -> dict[str, Any]:
    """How often a request is repeated, and how fast the waits between grow; of a store that has `_options`."""
    if not options:
        return {}
    retries, base = patience
    return {
        "retry_config": {
            "max_retries": retries,
            "retry_timeout": dt.timedelta(seconds=RETRY_SECONDS),
            "backoff": {
                "init_backoff": dt.timedelta(milliseconds=100),
                "max_backoff": dt.timedelta(seconds=10),
                "base": base,
            },
        }
    }
